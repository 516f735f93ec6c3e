"""Rules about the CUDA toolkit that extensions are built with."""

from __future__ import annotations

from envdoctor.api import (
    Change,
    Confidence,
    Finding,
    Findings,
    Install,
    Platform,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
    Variables,
)
from envdoctor.tables import major_minor
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import CudaHeaders, CudaToolkit, Nvcc
from envdoctor_checks.kernel.reasoning import (
    BUILD,
    nvcc_evidence,
    on_windows,
    release_line,
    seen_failing,
    use_of,
)
from envdoctor_checks.kernel.symptoms import (
    CompileFailed,
    CompilerAtWork,
    CudaMismatch,
    HeaderNotFound,
    HeadersDiffer,
    LinkLibraryNotFound,
    NvccNotFound,
    ToolkitPartNotFound,
)
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild
from envdoctor_checks.torch.tables import PackageIndexes

CUDA_HEADERS = (
    "cuda.h", "cuda_runtime.h", "cuda_runtime_api.h", "cuda_fp16.h", "cuda_bf16.h", "cuda_fp8.h", "cuda_fp4.h",
    "cuda_profiler_api.h", "cudaProfiler.h", "cuda_gl_interop.h", "cuda_device_runtime_api.h", "device_launch_parameters.h",
    "device_functions.h", "driver_types.h", "vector_types.h", "cusparse.h", "cublas_v2.h", "cublas_api.h", "cublasLt.h",
    "cublas.h", "cusolverDn.h", "cusolver_common.h", "cusolverSp.h", "curand.h", "curand_kernel.h", "cufft.h", "cufftXt.h",
    "nvrtc.h", "nvToolsExt.h", "nvml.h", "cupti.h", "cooperative_groups.h", "mma.h", "npp.h", "nvJitLink.h", "cudnn.h",
    "cudnn_version.h", "nccl.h", "cusparseLt.h", "texture_types.h", "math_constants.h",
)  # fmt: skip
CUDA_FOLDERS = ("nv/", "cuda/", "thrust/", "cub/", "crt/", "nvtx3/", "cooperative_groups/", "cccl/")
WHEELS = {
    "cudnn.h": "nvidia-cudnn",
    "cudnn_version.h": "nvidia-cudnn",
    "nccl.h": "nvidia-nccl",
    "cusparseLt.h": "nvidia-cusparselt",
}
"""Headers that are not the toolkit's own, and the wheels that bring them."""
LINKED = (
    "cudart", "cudart_static", "cudadevrt", "cublas", "cublasLt", "cusparse", "cusolver", "curand", "cufft", "nvrtc",
    "nvToolsExt", "nvJitLink", "nppc",
)  # fmt: skip
"""Libraries of the toolkit that extensions are linked with."""


def toolkit_remedies(cuda: str | None, platform: Platform | None = None) -> tuple[Remedy, ...]:
    """A whole toolkit of torch's CUDA release: a folder that is there already, conda, the system."""
    release = release_line(cuda)
    home = SetVariable(
        name="CUDA_HOME",
        value=f"/usr/local/cuda-{release}" if release else "/usr/local/cuda",
        why="where that toolkit is installed (ls -d /usr/local/cuda*)",
        verify='"$CUDA_HOME/bin/nvcc" --version',
    )
    if on_windows(platform):
        installer = Change(
            title=f"install the CUDA toolkit {release or 'of torch.version.cuda'} from developer.nvidia.com/cuda-toolkit-archive, and start a new terminal",
            reach=Reach.HOST,
            example=(
                rf'setx CUDA_PATH "C:\Program Files\NVIDIA GPU Computing Toolkit\CUDA\v{release or "12.8"}"',
            ),
        )
        return (installer,)
    wanted = (
        f"cuda-toolkit={release}"
        if release
        else "cuda-toolkit=$(python -c 'import torch; print(torch.version.cuda)')"
    )
    conda = Run(
        title="install the whole toolkit into the conda environment, and point CUDA_HOME there",
        commands=(f"conda install -y -c nvidia {wanted}", 'export CUDA_HOME="$CONDA_PREFIX"'),
        reach=Reach.ENVIRONMENT,
        verify='"$CUDA_HOME/bin/nvcc" --version',
    )
    dashed = release.replace(".", "-") if release else "<release>"
    system = Run(
        title="or install it on the system, from NVIDIA's repository; in a container take the image's -devel variant",
        commands=(f"apt-get install -y cuda-toolkit-{dashed}", f"dnf install -y cuda-toolkit-{dashed}"),
        reach=Reach.HOST,
        needs_root=True,
    )
    return (home, conda, system)


def torch_for(cuda: str, build: TorchBuild | None, indexes: PackageIndexes) -> Install | None:
    """This torch, built for a CUDA release of the same major."""
    rows = indexes.having(build.release) if build is not None and build.release else indexes.indexes
    fitting = [row for row in rows if row.cuda and major_minor(row.cuda)[0] == major_minor(cuda)[0]]
    exact = [row for row in fitting if row.cuda and major_minor(row.cuda) == major_minor(cuda)]
    if not fitting:
        return None
    index = (exact or fitting)[-1].index
    name = f"torch=={build.release}+{index}" if build is not None and build.release else "torch"
    return Install((name,), build=index, why=f"built for CUDA {major_minor(cuda)[0]} as nvcc is")


@check.rule
def cuda_headers_missing(
    said: HeaderNotFound,
    failed: tuple[CompileFailed, ...],
    build: TorchBuild | None,
    nvcc: Nvcc | None,
    platform: Platform | None,
) -> Findings:
    """CUDA's development headers are not where the compiler looks: a runtime image, or wheels only."""
    if said.header not in CUDA_HEADERS and not said.header.startswith(CUDA_FOLDERS):
        return
    cuda = nvcc.nvcc_cuda if nvcc is not None else build.torch_cuda if build is not None else None
    wheel = WHEELS.get(said.header)
    own: tuple[Remedy, ...] = ()
    if wheel:
        suffix = f"-cu{major_minor(cuda)[0]}" if cuda else ""
        own = (
            Install((wheel + suffix,), why="it brings the header; CPATH must then name its include folder"),
        )
    yield Finding(
        title=f"CUDA's header {said.header} is not on the include path",
        detail="torch's wheels and CUDA's runtime images bring libraries, not headers: what is compiled against CUDA needs the toolkit, or the -devel image.",
        evidence=(said.evidence(), *nvcc_evidence(nvcc)),
        remedies=(*own, *toolkit_remedies(cuda, platform)),
        breaks=(BUILD,),
        shows=seen_failing(failed, BUILD),
    )


@check.rule
def cuda_toolkit_incomplete(
    toolkit: CudaToolkit,
    work: tuple[CompilerAtWork, ...],
    headers: tuple[HeaderNotFound, ...],
    build: TorchBuild | None,
    nvcc: Nvcc | None,
    platform: Platform | None,
) -> Findings:
    """CUDA_HOME is a toolkit with parts missing."""
    used = bool(headers) or any(each.what in ("extension", "nvcc") for each in work)
    wants_cuda = build is not None and build.torch_cuda is not None
    if toolkit.nvcc is None or not toolkit.missing or not (used or wants_cuda):
        return
    cuda = nvcc.nvcc_cuda if nvcc is not None else toolkit.stated_cuda
    yield Finding(
        title=f"the CUDA toolkit at {toolkit.root} has nvcc, and lacks {len(toolkit.missing)} of the parts that extensions are built with",
        severity=Severity.WARNING if used else Severity.NOTE,
        evidence=(
            toolkit.shows("toolkit", toolkit.root),
            toolkit.shows("missing", ", ".join(toolkit.missing)),
        ),
        remedies=toolkit_remedies(cuda, platform)[1:] or toolkit_remedies(cuda, platform),
        breaks=(BUILD,),
    )


@cuda_toolkit_incomplete.sign
def _part_not_found(
    said: ToolkitPartNotFound, nvcc: Nvcc | None, build: TorchBuild | None, platform: Platform | None
) -> Findings:
    cuda = nvcc.nvcc_cuda if nvcc is not None else build.torch_cuda if build is not None else None
    yield Finding(
        title=f"the CUDA toolkit in use has no {said.part}",
        evidence=(said.evidence(), *nvcc_evidence(nvcc)),
        remedies=toolkit_remedies(cuda, platform),
        breaks=(BUILD,),
        shows=(BUILD,),
    )


@cuda_toolkit_incomplete.sign
def _not_linked(
    said: LinkLibraryNotFound, nvcc: Nvcc | None, build: TorchBuild | None, platform: Platform | None
) -> Findings:
    if said.library not in LINKED:
        return
    cuda = nvcc.nvcc_cuda if nvcc is not None else build.torch_cuda if build is not None else None
    path = Run(
        title="if the library is there, tell the linker where",
        commands=('export LIBRARY_PATH="$CUDA_HOME/lib64:$CUDA_HOME/lib:$LIBRARY_PATH"',),
        reach=Reach.SHELL,
    )
    yield Finding(
        title=f"lib{said.library}, a library of the CUDA toolkit's, is not there to link with",
        evidence=(said.evidence(), *nvcc_evidence(nvcc)),
        remedies=(path, *toolkit_remedies(cuda, platform)),
        confidence=Confidence.LIKELY,
        breaks=(BUILD,),
        shows=(BUILD,),
    )


@check.rule
def cuda_home_wrong(
    toolkit: CudaToolkit,
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
    platform: Platform | None,
) -> Findings:
    """CUDA_HOME leads nowhere, or there is no nvcc where it leads."""
    use = use_of(tuple(each for each in work if each.what in ("extension", "nvcc")), packages, gpus, build)
    by_variable = toolkit.found_via in ("CUDA_HOME", "CUDA_PATH")
    if (
        use is None
        or toolkit.nvcc is not None
        or not by_variable
        or build is None
        or build.torch_cuda is None
    ):
        return
    what = "a folder without nvcc" if toolkit.exists else "a folder that is not there"
    yield Finding(
        title=f"{toolkit.found_via} names {what}",
        subject=f"variable:{toolkit.found_via}",
        severity=use.severity,
        evidence=(toolkit.shows(toolkit.found_via, toolkit.root), *use.evidence),
        remedies=toolkit_remedies(build.torch_cuda, platform),
        breaks=(BUILD,),
    )


@cuda_home_wrong.sign
def _said(
    said: NvccNotFound,
    toolkit: CudaToolkit | None,
    build: TorchBuild | None,
    variables: Variables | None,
    platform: Platform | None,
) -> Findings:
    home = variables.evidence("CUDA_HOME") if variables is not None and variables.get("CUDA_HOME") else None
    known = (toolkit.shows("toolkit", toolkit.root or "none found"),) if toolkit is not None else ()
    where = f": {said.path} is not there" if said.path else ""
    colon = said.path is not None and said.path.startswith(":")
    yield Finding(
        title=f"nvcc was not found{where}"
        if where
        else "CUDA_HOME is not set, and no CUDA toolkit was found",
        subject="variable:CUDA_HOME",
        detail="CUDA_HOME is one folder, not a list: the colon that stands before it is part of the path."
        if colon
        else "torch's wheels bring no nvcc: what is built with CUDA needs a toolkit of the same major release as torch's CUDA.",
        evidence=(said.evidence(), *([home] if home else []), *known),
        remedies=toolkit_remedies(build.torch_cuda if build is not None else None, platform),
        breaks=(BUILD,),
        shows=(BUILD,),
    )


@check.rule
def nvcc_torch_mismatch(
    nvcc: Nvcc, build: TorchBuild, indexes: PackageIndexes, platform: Platform | None
) -> Findings:
    """nvcc's CUDA major is not the one torch was built with, so extensions cannot be built."""
    if build.torch_cuda is None or major_minor(nvcc.nvcc_cuda)[0] == major_minor(build.torch_cuda)[0]:
        return
    yield Finding(
        title=f"nvcc is of CUDA {release_line(nvcc.nvcc_cuda)}, torch of CUDA {build.torch_cuda}",
        severity=Severity.NOTE,
        detail="It matters to those who build extensions; running torch takes no nvcc.",
        evidence=(nvcc.shows("nvcc", nvcc.nvcc_cuda), build.shows("torch's CUDA", build.torch_cuda)),
        remedies=_one_cuda(nvcc.nvcc_cuda, build.torch_cuda, build, indexes, platform),
        breaks=(BUILD,),
    )


def _one_cuda(
    nvcc: str | None,
    torch: str | None,
    build: TorchBuild | None,
    indexes: PackageIndexes,
    platform: Platform | None,
) -> tuple[Remedy, ...]:
    other = torch_for(nvcc, build, indexes) if nvcc else None
    return (*toolkit_remedies(torch, platform), *([other] if other else []))


@nvcc_torch_mismatch.sign
def _refused(
    said: CudaMismatch,
    build: TorchBuild | None,
    nvcc: Nvcc | None,
    indexes: PackageIndexes,
    platform: Platform | None,
) -> Findings:
    found = said.nvcc_cuda or (nvcc.nvcc_cuda if nvcc is not None else None)
    torch = said.torch_cuda or (build.torch_cuda if build is not None else None)
    yield Finding(
        title=f"the CUDA toolkit in use ({release_line(found) or 'its nvcc'}) is not of the release that torch was built with ({torch or 'see torch.version.cuda'})",
        evidence=(said.evidence(), *nvcc_evidence(nvcc)),
        remedies=_one_cuda(found, torch, build, indexes, platform),
        breaks=(BUILD,),
        shows=(BUILD,),
    )


@check.rule
def mixed_cuda_toolchains(
    toolkit: CudaToolkit, headers: CudaHeaders, nvcc: Nvcc, build: TorchBuild | None
) -> Findings:
    """nvcc and the headers that it reads come from different CUDA releases."""
    if (
        major_minor(headers.headers_cuda) == major_minor(nvcc.nvcc_cuda)
        or build is None
        or build.torch_cuda is None
    ):
        return
    yield Finding(
        title=f"nvcc is of CUDA {release_line(nvcc.nvcc_cuda)}, the headers beside it of {headers.headers_cuda}",
        severity=Severity.WARNING if toolkit.found_via in ("CUDA_HOME", "CUDA_PATH") else Severity.NOTE,
        evidence=(
            nvcc.shows("nvcc", f"{nvcc.nvcc_cuda} {nvcc.path or ''}".strip()),
            headers.shows("CUDART_VERSION", headers.headers_cuda),
        ),
        remedies=toolkit_remedies(build.torch_cuda),
        breaks=(BUILD,),
    )


@mixed_cuda_toolchains.sign
def _they_say_so(
    said: HeadersDiffer,
    nvcc: Nvcc | None,
    headers: CudaHeaders | None,
    packages: Distributions | None,
    build: TorchBuild | None,
) -> Findings:
    wheels = _wheels(packages)
    cuda = (
        (headers.headers_cuda if headers is not None else None)
        or wheels.get("runtime")
        or (build.torch_cuda if build else None)
    )
    seen = [
        *nvcc_evidence(nvcc),
        *([headers.shows("CUDART_VERSION", headers.headers_cuda)] if headers is not None else []),
    ]
    if packages is not None:
        seen += [packages.shows(f"nvidia-cuda-{part}", version) for part, version in wheels.items()]
    yield Finding(
        title="nvcc and the CUDA headers that it reads are of different releases",
        evidence=(said.evidence(), *seen),
        remedies=(*_aligned(packages, cuda), *toolkit_remedies(cuda)),
        breaks=(BUILD,),
        shows=(BUILD,),
    )


def _wheels(packages: Distributions | None) -> dict[str, str]:
    """The parts of a toolkit that pip installed, with their releases."""
    found: dict[str, str] = {}
    for each in packages.distributions if packages is not None else ():
        part = each.name.removeprefix("nvidia-cuda-").partition("-cu1")[0]
        if each.name.startswith("nvidia-cuda-") and part in ("nvcc", "crt", "cccl", "runtime", "nvvm"):
            found.setdefault(part, each.version)
    return found


def _aligned(packages: Distributions | None, cuda: str | None) -> tuple[Install, ...]:
    """The wheels of the compiler, in the release of the runtime that torch pins."""
    if packages is None or cuda is None:
        return ()
    names = [
        each.name
        for each in packages.distributions
        if each.name.startswith(("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-cuda-cccl", "nvidia-nvvm"))
        and major_minor(each.version) != major_minor(cuda)
    ]
    if not names:
        return ()
    pinned = tuple(f"{name}=={release_line(cuda)}.*" for name in names)
    return (Install(pinned, why=f"one CUDA release, {release_line(cuda)}, for compiler and headers"),)
