"""What is known of the machine as a place to compile kernels."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from envdoctor.api import Fact

Language = Literal["c", "c++"]
CacheKind = Literal["inductor", "triton", "extensions", "cuda", "flashinfer"]


class Compilers(Fact, frozen=True):
    """The compilers that Triton and Inductor would start, by name alone: nothing was run."""

    fact_name: ClassVar[str] = "kernel.compilers"
    c: str | None
    """What CC names, else gcc, else clang on PATH, as Triton looks for it; None where there is none."""
    c_via: str
    """``CC`` or ``PATH``."""
    cxx: str | None
    """What CXX names, else g++ on PATH, as Inductor looks for it."""
    cxx_via: str
    """``CXX`` or ``PATH``."""


class Ninja(Fact, frozen=True):
    """The build tool of ``torch.utils.cpp_extension`` and FlashInfer, which start it by its name."""

    fact_name: ClassVar[str] = "kernel.ninja"
    path: str | None
    """On PATH; None where it is not."""
    beside_python: str | None = None
    """Where the target's own environment has one, whether or not PATH leads there."""


class PythonHeaders(Fact, frozen=True):
    """Python.h of the target interpreter, without which nothing can be built for it."""

    fact_name: ClassVar[str] = "kernel.python-headers"
    folder: str
    """Where this interpreter says that its headers are."""
    found: bool


class CudaToolkit(Fact, frozen=True):
    """The CUDA toolkit that extensions are built with, found as torch finds it. Nothing was run."""

    fact_name: ClassVar[str] = "kernel.cuda-toolkit"
    root: str | None
    """None where nothing points to one: no variable, no nvcc on PATH, no /usr/local/cuda."""
    found_via: Literal["CUDA_HOME", "CUDA_PATH", "PATH", "default", "none"]
    exists: bool = False
    """Whether `root` is a folder."""
    nvcc: str | None = None
    """``<root>/bin/nvcc`` where it is there."""
    stated_cuda: str | None = None
    """The toolkit's release by its version.json or version.txt, ``12.4``."""
    missing: tuple[str, ...] = ()
    """Parts of `PARTS` that are not there, as paths below the root."""


class CudaHeaders(Fact, frozen=True):
    """The release of a toolkit's headers, by CUDART_VERSION in cuda_runtime_api.h."""

    fact_name: ClassVar[str] = "kernel.cuda-headers"
    headers_cuda: str
    """``12.4``."""
    path: str | None = None
    """None where a text does not tell."""


class CacheDirectory(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one compiler keeps what it compiled. Judged by stat, access and statvfs, never written."""

    kind: CacheKind
    path: str
    found_via: str
    """The variable that names it, or ``default``."""
    exists: bool
    writable: bool
    """Of the directory, or of the nearest one upwards that is there."""
    nearest: str = ""
    """That nearest one; empty where the directory itself is there."""
    owner: int | None = None
    """UID of the directory or the nearest one; None where even stat was refused."""
    mode: str = ""
    """Octal, ``0755``."""
    noexec: bool = False
    read_only: bool = False
    free: int | None = None
    """Bytes that this user may still write there; None where it was not told."""


class CacheDirectories(Fact, frozen=True):
    """The caches of Inductor, Triton, torch's extensions, FlashInfer and CUDA itself."""

    fact_name: ClassVar[str] = "kernel.cache-directories"
    uid: int
    """Who asks."""
    directories: tuple[CacheDirectory, ...]


class Stage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of the small compile-and-load probe."""

    name: Literal["c", "cxx", "python-h", "openmp", "load"]
    ok: bool
    command: str = ""
    """What was run, the temporary folder left out."""
    output: str = ""
    """What the compiler or the loader said when it failed."""


class CompileStages(Fact, frozen=True):
    """Three lines of C++ with Python.h and OpenMP, compiled into a private folder and loaded by the target."""

    fact_name: ClassVar[str] = "kernel.compile-stages"
    stages: tuple[Stage, ...]
    timed_out: str | None = None
    """The stage at which the time was up."""
    user: str | None = None
    """What ``getpass.getuser()`` gives; None where it raises, because the UID has no name."""

    def stage(self, name: str) -> Stage | None:
        """One of them; None where it was not reached."""
        return next((each for each in self.stages if each.name == name), None)

    def failed(self, name: str) -> Stage | None:
        """One of them, where it was tried and failed."""
        stage = self.stage(name)
        return stage if stage is not None and not stage.ok else None


class HostCompiler(Fact, frozen=True):
    """The C++ compiler that nvcc hands the host's part to, by what it says of itself."""

    fact_name: ClassVar[str] = "kernel.host-compiler"
    family: Literal["gcc", "clang"]
    release: str
    """``13.2.1``."""

    @property
    def major(self) -> int:
        """``13``."""
        return int(self.release.partition(".")[0])


class Nvcc(Fact, frozen=True):
    """What nvcc says of itself."""

    fact_name: ClassVar[str] = "kernel.nvcc"
    nvcc_cuda: str
    """``12.4.131``; ``12.4`` where only the release was printed."""
    path: str | None = None
    """None where a text does not tell."""


class PtxAssembler(msgspec.Struct, frozen=True):
    """One ptxas and the CUDA release that it comes from."""

    path: str
    ptxas_cuda: str
    used_by: str
    """``triton``, ``toolkit``, or the variable that names it."""


class PtxAssemblers(Fact, frozen=True):
    """Every ptxas that something here would use."""

    fact_name: ClassVar[str] = "kernel.ptx-assemblers"
    assemblers: tuple[PtxAssembler, ...]

    def of(self, used_by: str) -> tuple[PtxAssembler, ...]:
        """Those with one use."""
        return tuple(each for each in self.assemblers if each.used_by == used_by)


PARTS = (
    "bin/nvcc",
    "bin/ptxas",
    "nvvm/bin/cicc",
    "nvvm/libdevice/libdevice.10.bc",
    "include/cuda.h",
    "include/cuda_runtime.h",
    "include/crt/host_config.h",
    "include/nv/target",
    "include/cusparse.h",
    "include/cublas_v2.h",
    "include/cusolverDn.h",
    "include/thrust/complex.h",
)
"""What building a CUDA extension against torch's own headers takes."""
