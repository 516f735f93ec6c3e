"""The environment variables that decide how CUDA, PyTorch, NCCL and their containers behave, by allow-list."""

from __future__ import annotations

from typing import ClassVar

from envdoctor.facts import Evidence, Fact, Source
from envdoctor.host import Host

PREFIXES = (
    "APPTAINER_", "CUBLAS", "CUDA", "CUDNN", "DOCKER_", "FI_", "GLOO_", "GOMP_", "HIP_", "HSA_", "IBV_", "INDUCTOR_",
    "KMP_", "MASTER_", "MKL_", "MPS_", "NCCL_", "NV_", "NVIDIA_", "NVSHMEM_", "OMP_", "OMPI_", "PMI", "PYTORCH_",
    "RDMAV_", "ROCM_", "ROCR_", "SINGULARITY_", "SLURM_", "TORCH", "TP_SOCKET_", "TRITON_", "UCX_", "XLA_",
)  # fmt: skip
NAMES = frozenset({
    "CC", "CI", "CONDA_DEFAULT_ENV", "CONDA_PREFIX", "CXX", "CPATH", "CPLUS_INCLUDE_PATH", "C_INCLUDE_PATH",
    "DISABLE_ADDMM_CUDA_LT", "GITHUB_ACTIONS", "GPU_DEVICE_ORDINAL", "HF_HOME", "HOME", "HOSTNAME",
    "KUBERNETES_SERVICE_HOST", "LANG", "LC_ALL", "LD_DEBUG", "LD_LIBRARY_PATH", "LD_PRELOAD", "LIBRARY_PATH",
    "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LOGNAME", "MAX_JOBS", "MALLOC_ARENA_MAX", "NODE_RANK", "NPROC_PER_NODE",
    "NUM_NODES", "PATH", "PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONUSERBASE", "RANK",
    "TEMP", "TMP", "TMPDIR", "USER", "VIRTUAL_ENV", "WORLD_SIZE", "WSL_DISTRO_NAME", "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
})  # fmt: skip
SECRET = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "ACCESS_KEY", "CREDENTIAL")


class Variables(Fact, frozen=True):
    """Environment variables by name. From a text, only those that it mentions: then `complete` is False."""

    fact_name: ClassVar[str] = "envdoctor.variables"
    values: dict[str, str]
    complete: bool = True
    """Whether a name that is missing here is not set; False when we only know what a text showed."""

    def joined(self, later: Variables) -> Variables:
        """What two places of a text show, together."""
        complete = self.complete or later.complete
        return Variables(values={**self.values, **later.values}, complete=complete, source=self.source)

    def get(self, name: str) -> str | None:
        """The value, or None when it is not set (or, where not `complete`, not known)."""
        return self.values.get(name)

    def evidence(self, name: str) -> Evidence:
        """One variable as evidence."""
        where = self.source if self.source.kind == "text" else Source("env", name)
        return Evidence(name, self.values.get(name, "not set"), where)

    def starting(self, *prefixes: str) -> dict[str, str]:
        """Those whose names start so."""
        return {name: value for name, value in self.values.items() if name.startswith(prefixes)}


def is_allowed(name: str) -> bool:
    """Whether a variable may be looked at: it bears on GPUs or Python, and its name does not say that it is a secret."""
    if any(word in name.upper() for word in SECRET):
        return False
    return name in NAMES or name.startswith(PREFIXES)


def look_at_variables(host: Host) -> Variables:
    """The allowed variables of the environment that the check was started in."""
    values = {name: value for name, value in sorted(host.environ.items()) if is_allowed(name)}
    return Variables(values=values, source=Source("env"))
