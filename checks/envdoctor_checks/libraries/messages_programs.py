"""What cuDNN, NVRTC, MKL and the programs that use CUDA's libraries print, parsed into symptoms."""

from __future__ import annotations

import re

from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.facts import (
    BuiltinsNotOpened,
    LibraryNotFound,
    LibraryNotLoadable,
    NoEngine,
    NvrtcArchUnknown,
    SubLibraryMismatch,
    WrongMkl,
)
from envdoctor_checks.libraries.messages import SO

NAMES = r"cu(?:SPARSE|BLAS|DNN|FFT|SOLVER|PTI)|CuDNN"


@check.message(
    r"CUDNN_STATUS_(?:SUBLIBRARY_)?VERSION_MISMATCH|CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED",
    needles="cudnn_status_",
    sample="RuntimeError: cuDNN error: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH",
)
def sublibrary_mismatch(found: re.Match[str]) -> SubLibraryMismatch:
    """cuDNN's parts do not belong together."""
    return SubLibraryMismatch()


@check.message(
    r"cuDNN version incompatibility: PyTorch was compiled\s+against \((?P<compiled>[\d, ]+)\) but found runtime version \((?P<found>[\d, ]+)\)(?P<rest>.*)",
    needles="cudnn version incompatibility",
    sample="RuntimeError: cuDNN version incompatibility: PyTorch was compiled  against (9, 8, 0) but found runtime version (9, 1, 0).",
)
def cudnn_incompatible(found: re.Match[str]) -> SubLibraryMismatch:
    """torch compares the cuDNN it was built with to the one it got, and looks through LD_LIBRARY_PATH for it."""
    return SubLibraryMismatch(
        compiled=_dotted(found["compiled"]),
        found=_dotted(found["found"]),
        blames_search_path="LD_LIBRARY_PATH contains" in found["rest"],
    )


@check.message(
    r"Loaded runtime CuDNN library: (?P<found>[\d.]+) but source was compiled with: (?P<compiled>[\d.]+)",
    needles="loaded runtime cudnn library",
    sample="Loaded runtime CuDNN library: 8.1.0 but source was compiled with: 8.6.0.",
)
def cudnn_older_than_compiled(found: re.Match[str]) -> SubLibraryMismatch:
    """TensorFlow and XLA compare the same."""
    return SubLibraryMismatch(compiled=found["compiled"].rstrip("."), found=found["found"])


@check.message(
    rf"Found (?P<name>{NAMES}) version (?P<found>\d+), but JAX was built against version (?P<compiled>\d+), which is newer",
    needles="but jax was built against version",
    sample="RuntimeError: Found cuDNN version 90100, but JAX was built against version 90800, which is newer.",
)
def jax_found_older(found: re.Match[str]) -> SubLibraryMismatch:
    """JAX compares every library of CUDA's that it uses."""
    stem = _stem(found["name"])
    spell = _cudnn_release if stem == "libcudnn" else str
    return SubLibraryMismatch(library=stem, compiled=spell(found["compiled"]), found=spell(found["found"]))


def _dotted(numbers: str) -> str:
    return ".".join(part.strip() for part in numbers.split(","))


def _cudnn_release(number: str) -> str:
    """cudnnGetVersion's number: 8907 is 8.9.7, 90100 is 9.1.0."""
    width = 2 if len(number) >= 5 else 1
    major, minor, patch = number[: -2 - width], number[-2 - width : -2], number[-2:]
    return f"{int(major or 0)}.{int(minor)}.{int(patch)}"


def _stem(name: str) -> str:
    return "lib" + name.lower()


@check.message(
    r"FIND was unable to find an engine|[Uu]nable to find a valid cuDNN algorithm|GET was unable to find an engine|No valid execution plans built",
    needles=("unable to find an engine", "valid cudnn algorithm", "no valid execution plans"),
    sample="RuntimeError: GET was unable to find an engine to execute this computation",
)
def no_engine(found: re.Match[str]) -> NoEngine:
    """cuDNN has no engine for it."""
    return NoEngine()


@check.message(
    r"failed to open (?P<library>libnvrtc-builtins[\w.-]*?\.so[\d.]*\d)",
    needles="failed to open libnvrtc-builtins",
    sample="nvrtc: error: failed to open libnvrtc-builtins.so.12.4.",
)
def builtins_not_opened(found: re.Match[str]) -> BuiltinsNotOpened:
    """NVRTC looks for its companion by name when it compiles."""
    return BuiltinsNotOpened(library=found["library"])


@check.message(
    r"failed to open (?P<dll>nvrtc-builtins64_\d+\.dll)",
    needles="failed to open nvrtc-builtins64",
    sample="nvrtc: error: failed to open nvrtc-builtins64_121.dll.",
)
def builtins_dll_not_opened(found: re.Match[str]) -> BuiltinsNotOpened:
    """The same on Windows."""
    return BuiltinsNotOpened(library=found["dll"])


@check.message(
    r"nvrtc: error: invalid value for --gpu-architecture|invalid value for --gpu-architecture \(-arch\)",
    needles="invalid value for --gpu-architecture",
    sample="RuntimeError: nvrtc: error: invalid value for --gpu-architecture (-arch)",
)
def nvrtc_arch_unknown(found: re.Match[str]) -> NvrtcArchUnknown:
    """NVRTC was asked for an architecture that it does not know."""
    return NvrtcArchUnknown()


@check.message(
    rf"Could not load (?P<dynamic>dynamic )?library '?(?P<library>{SO})'?(?P<reason>\. Error: )?",
    needles=("could not load library", "could not load dynamic library"),
    sample="Could not load library libcudnn_cnn_infer.so.8",
)
def not_loaded(found: re.Match[str]) -> LibraryNotLoadable | None:
    """cuDNN and TensorFlow. Where they go on with the loader's reason, that is read instead."""
    if found["reason"]:
        return None
    return LibraryNotLoadable(library=found["library"], program="tensorflow" if found["dynamic"] else None)


@check.message(
    rf"Unable to load any of \{{(?P<first>{SO})(?:, (?P<rest>[^}}]*))?\}}",
    needles="unable to load any of {",
    sample="Unable to load any of {libcudnn_cnn.so.9.2.0, libcudnn_cnn.so.9.2, libcudnn_cnn.so.9, libcudnn_cnn.so}",
)
def none_of_them_loaded(found: re.Match[str]) -> LibraryNotLoadable:
    """cuDNN 9's own loader, with every name that it tried."""
    major = re.search(r"\S+\.so\.\d+(?=[,}\s]|$)", found["rest"] or "")
    return LibraryNotLoadable(library=major.group() if major else found["first"], program="cudnn")


@check.message(
    r"(?:Could not locate (?P<name>\w+\.dll)|Library (?P<other>\w+\.dll) is not found or cannot be loaded|Could not load library (?P<third>\w+\.dll))",
    needles=("could not locate ", "is not found or cannot be loaded", "could not load library"),
    sample="Could not locate cudnn_cnn64_9.dll. Please make sure it is in your library path!",
)
def dll_not_loaded(found: re.Match[str]) -> LibraryNotLoadable:
    """cuDNN and CTranslate2 on Windows."""
    return LibraryNotLoadable(library=found["name"] or found["other"] or found["third"])


@check.message(
    rf"Library (?P<library>{SO}) is not found or cannot be loaded",
    needles="is not found or cannot be loaded",
    sample="RuntimeError: Library libcublas.so.11 is not found or cannot be loaded",
)
def not_found_by_ctranslate2(found: re.Match[str]) -> LibraryNotLoadable:
    """CTranslate2, and so faster-whisper."""
    return LibraryNotLoadable(library=found["library"], program="ctranslate2")


@check.message(
    rf"(?:Unable to load (?P<name>{NAMES})\. Is it installed|The (?P<other>{NAMES}) library was not found)",
    needles=("is it installed", "library was not found"),
    sample="RuntimeError: Unable to load cuDNN. Is it installed?",
)
def not_found_by_jax(found: re.Match[str]) -> LibraryNotLoadable:
    """JAX asks each library for its release, and fails where it, or what it needs, cannot be loaded."""
    return LibraryNotLoadable(library=_stem(found["name"] or found["other"]), program="jax")


@check.message(
    r"No libcudart\.so found!|main CUDA runtime library was not detected|CUDA runtime library was not detected",
    needles=("no libcudart.so found", "runtime library was not detected"),
    sample="CUDA SETUP: Problem: The main issue seems to be that the main CUDA runtime library was not detected.",
)
def not_found_by_bitsandbytes(found: re.Match[str]) -> LibraryNotLoadable:
    """bitsandbytes before 0.42 searched for libcudart itself."""
    return LibraryNotLoadable(library="libcudart.so", program="bitsandbytes")


@check.message(
    r"Failure finding \"(?P<library>lib[\w-]+\.so[\w.*]*)\"",
    needles="failure finding ",
    sample='cuda.pathfinder.DynamicLibNotFoundError: Failure finding "libcufft.so": No such file: libcufft.so*',
)
def not_found_by_pathfinder(found: re.Match[str]) -> LibraryNotLoadable:
    """cuda.pathfinder, and so cupy, numba and cuda.core."""
    return LibraryNotLoadable(library=found["library"].rstrip("*").rstrip("."), program="cuda-pathfinder")


@check.message(
    r"Failed to load library \S*?(?P<by>libonnxruntime_providers_\w+\.so) with error: (?P<library>lib[\w+-]+\.so[\w.]*)",
    needles="failed to load library",
    sample="[ONNXRuntimeError] : 1 : FAIL : Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.12: failed",
)
def onnxruntime_not_loaded(found: re.Match[str]) -> LibraryNotFound:
    """onnxruntime falls back to the CPU when a provider cannot be loaded."""
    return LibraryNotFound(library=found["library"], wanted_by=found["by"])


@check.message(
    r"undefined symbol: (?P<hook>iJIT_\w+)|undefined symbol: (?P<symbol>__kmpc_\w+|omp_\w+|mkl_\w+|GOMP_\w+)|Intel MKL FATAL ERROR: Cannot load (?P<kernel>[\w.]+)|(?P<layer>MKL_THREADING_LAYER=INTEL is incompatible)|OMP: Error #15: Initializing (?P<twice>[\w.+-]+?),",
    needles=("undefined symbol:", "mkl fatal error", "omp: error #15", "mkl_threading_layer=intel"),
    sample="ImportError: /x/torch/lib/libtorch_cpu.so: undefined symbol: iJIT_NotifyEvent",
)
def wrong_mkl(found: re.Match[str]) -> WrongMkl:
    """MKL or OpenMP of another release, or two of them."""
    if found["hook"]:
        return WrongMkl(problem="profiler-hook", name=found["hook"])
    if found["kernel"]:
        return WrongMkl(problem="kernels-missing", name=found["kernel"])
    if found["layer"]:
        return WrongMkl(problem="threading-layer")
    if found["twice"]:
        return WrongMkl(problem="openmp-twice", name=found["twice"])
    return WrongMkl(problem="symbol", name=found["symbol"])
