"""What the loader and the libraries' users print, parsed into symptoms."""

from __future__ import annotations

import re

from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.facts import (
    BadLibraryFile,
    BuiltinsNotOpened,
    LibraryNotFound,
    LibraryNotLoadable,
    NoEngine,
    NvrtcArchUnknown,
    SubLibraryMismatch,
    UndefinedSymbol,
    VersionNotFound,
    WrongMkl,
)

SO = r"lib[\w.+-]*?\.so(?:\.[\d.]*\d)?"


@check.message(
    rf"(?:(?P<by>[^\s:'\"]+): )?(?:error while loading shared libraries: )?['\"]?(?P<library>{SO})['\"]?: cannot open shared object file",
    needles="cannot open shared object file",
    sample="ImportError: libcudart.so.12: cannot open shared object file: No such file or directory",
)
def library_not_found(found: re.Match[str]) -> LibraryNotFound:
    """The loader looked everywhere and did not find a library by its bare name."""
    by = found["by"]
    return LibraryNotFound(library=found["library"], wanted_by=by if by and "/" in by else None)


@check.message(
    rf"^\s*(?P<library>{SO}) => not found",
    needles="=> not found",
    sample="	libcudnn.so.8 => not found",
)
def ldd_not_found(found: re.Match[str]) -> LibraryNotFound:
    """A line of ldd."""
    return LibraryNotFound(library=found["library"])


@check.message(
    rf"(?P<library>{SO}) not found in the system path",
    needles="not found in the system path",
    sample="ValueError: libcublas.so.*[0-9] not found in the system path ['/app', '/usr/lib/python3.11']",
)
def torch_library_not_found(found: re.Match[str]) -> LibraryNotFound:
    """torch's own search of sys.path for a library that the loader had missed."""
    return LibraryNotFound(library=found["library"])


@check.message(
    r"(?P<library>lib[\w-]+)\.so\.\*\[0-9\] not found in the system path",
    needles="not found in the system path",
    sample="ValueError: libcudart.so.*[0-9] not found in the system path ['/srv/app']",
)
def torch_glob_not_found(found: re.Match[str]) -> LibraryNotFound:
    """The same with the pattern that torch searched for: the version is not told."""
    return LibraryNotFound(library=found["library"] + ".so")


@check.message(
    r"(?:(?P<by>/[^\s:]+|[\w.+-]+\.so[\w.]*): )?undefined symbol: (?P<symbol>[\w@.$]+)(?:, version (?P<version>[\w.+-]+))?",
    needles="undefined symbol:",
    sample="OSError: /opt/app/libcublas.so.12: undefined symbol: cublasLtGetVersion, version libcublasLt.so.12",
)
def undefined_symbol(found: re.Match[str]) -> UndefinedSymbol:
    """A library was found, and is not the one that was meant."""
    return UndefinedSymbol(symbol=found["symbol"], wanted_by=found["by"], version=found["version"])


@check.message(
    r"symbol (?P<symbol>[\w@.$]+)(?:,)? version (?P<version>[\w.+-]+) not defined in file (?P<library>\S+) with link time reference",
    needles="not defined in file",
    sample="ImportError: /x/libtorch_cuda.so: symbol cudaGetDriverEntryPointByVersion version libcudart.so.12 not defined in file libcudart.so.12 with link time reference",
)
def symbol_not_defined(found: re.Match[str]) -> UndefinedSymbol:
    """The other wording, for a version that the file does not define."""
    return UndefinedSymbol(symbol=found["symbol"], version=found["version"])


@check.message(
    r"(?P<library>[^\s:'\"]+): version [`'](?P<version>[\w.]+)' not found(?: \(required by (?P<by>[^)]+)\))?",
    needles="' not found",
    sample="ImportError: /lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by /opt/x.so)",
)
def version_not_found(found: re.Match[str]) -> VersionNotFound:
    """A library was found and is too old."""
    return VersionNotFound(library=found["library"], version=found["version"], wanted_by=found["by"])


@check.message(
    r"(?P<path>[^\s:'\"]*\.so[\w.]*): (?P<problem>file too short|invalid ELF header|wrong ELF class: \w+|ELF file OS ABI invalid|cannot read file data[^\n]*|ELF load command [^\n]*|only ET_DYN and ET_EXEC can be loaded)",
    needles=("file too short", "elf", "cannot read file data", "et_dyn"),
    sample="OSError: /srv/venv/lib/libcudnn.so.9: file too short",
)
def bad_library_file(found: re.Match[str]) -> BadLibraryFile:
    """A file that the loader found and refused."""
    return BadLibraryFile(path=found["path"], problem=found["problem"].strip())


@check.message(
    r"CUDNN_STATUS_SUBLIBRARY_(?:VERSION_MISMATCH|LOADING_FAILED)|CUDNN_STATUS_VERSION_MISMATCH",
    needles="cudnn_status_",
    sample="RuntimeError: cuDNN error: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH",
)
def sublibrary_mismatch(found: re.Match[str]) -> SubLibraryMismatch:
    """cuDNN's parts do not belong together."""
    return SubLibraryMismatch()


@check.message(
    r"cuDNN version incompatibility: PyTorch was compiled\s+against \((?P<compiled>[\d, ]+)\) but found runtime version \((?P<found>[\d, ]+)\)",
    needles="cudnn version incompatibility",
    sample="RuntimeError: cuDNN version incompatibility: PyTorch was compiled  against (9, 8, 0) but found runtime version (9, 1, 0).",
)
def cudnn_incompatible(found: re.Match[str]) -> SubLibraryMismatch:
    """torch compares the cuDNN it was built with to the one it got."""
    return SubLibraryMismatch(compiled=_dotted(found["compiled"]), found=_dotted(found["found"]))


@check.message(
    r"Loaded runtime CuDNN library: (?P<found>[\d.]+) but source was compiled with: (?P<compiled>[\d.]+)",
    needles="loaded runtime cudnn library",
    sample="Loaded runtime CuDNN library: 8.1.0 but source was compiled with: 8.6.0.",
)
def cudnn_older_than_compiled(found: re.Match[str]) -> SubLibraryMismatch:
    """TensorFlow and XLA compare the same."""
    return SubLibraryMismatch(compiled=found["compiled"].rstrip("."), found=found["found"])


def _dotted(numbers: str) -> str:
    return ".".join(part.strip() for part in numbers.split(","))


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
    r"nvrtc: error: invalid value for --gpu-architecture|NVRTC_ERROR_INVALID_OPTION",
    needles=("invalid value for --gpu-architecture", "nvrtc_error_invalid_option"),
    sample="RuntimeError: nvrtc: error: invalid value for --gpu-architecture (-arch)",
)
def nvrtc_arch_unknown(found: re.Match[str]) -> NvrtcArchUnknown:
    """NVRTC was asked for an architecture that it does not know."""
    return NvrtcArchUnknown()


@check.message(
    rf"Could not load library (?P<library>{SO})|Could not load dynamic library '(?P<tf>{SO})'|Unable to load (?:any of \{{)?(?P<other>{SO}|cu(?:SPARSE|BLAS|DNN|FFT|SOLVER|PTI))",
    needles=("could not load library", "could not load dynamic library", "unable to load"),
    sample="Could not load library libcudnn_ops_infer.so.8. Error: libcudnn_ops_infer.so.8: cannot open",
)
def not_loadable(found: re.Match[str]) -> LibraryNotLoadable:
    """A program's own words."""
    return LibraryNotLoadable(library=found["library"] or found["tf"] or found["other"])


@check.message(
    r"Failed to load library \S*?(?P<by>libonnxruntime_providers_\w+\.so) with error: (?P<library>lib[\w.+-]+\.so[\w.]*)",
    needles="failed to load library",
    sample="[ONNXRuntimeError] : 1 : FAIL : Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.12: cannot open shared object file",
)
def onnxruntime_not_loaded(found: re.Match[str]) -> LibraryNotFound:
    """onnxruntime falls back to the CPU when a provider cannot be loaded."""
    return LibraryNotFound(library=found["library"], wanted_by=found["by"])


@check.message(
    r"undefined symbol: (?P<problem>iJIT_\w+|__kmpc_\w+|omp_\w+|mkl_\w+)|(?P<mkl>INTEL MKL ERROR[^\n]*|Intel MKL FATAL ERROR[^\n]*)|(?P<omp>OMP: Error #15[^\n]*)",
    needles=("undefined symbol:", "mkl error", "mkl fatal error", "omp: error #15"),
    sample="ImportError: /x/torch/lib/libtorch_cpu.so: undefined symbol: iJIT_NotifyEvent",
)
def wrong_mkl(found: re.Match[str]) -> WrongMkl:
    """MKL or OpenMP of another release, or two of them."""
    return WrongMkl(problem=found["problem"] or found["mkl"] or found["omp"])
