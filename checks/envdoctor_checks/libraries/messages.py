"""What the loader and the libraries' users print, parsed into symptoms."""

from __future__ import annotations

import re

from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.facts import (
    BadLibraryFile,
    FileGone,
    LibraryNotFound,
    RunPathSeen,
    StaticTlsExhausted,
    UndefinedSymbol,
    VersionNotFound,
)
from envdoctor_checks.libraries.names import LIBRARY, is_watched

SO = r"lib[\w.+-]*?\.so(?:\.[\d.]*\d)?"
BY = r"(?:(?P<by>[^\s:'\"(]+): )?"


@check.message(
    rf"{BY}(?:error while loading shared libraries: )?['\"]?(?P<library>{SO})['\"]?: cannot open shared object file",
    needles="cannot open shared object file",
    sample="ImportError: libcudart.so.12: cannot open shared object file: No such file or directory",
)
def library_not_found(found: re.Match[str]) -> LibraryNotFound | None:
    """The loader looked everywhere and did not find a library by its bare name."""
    if "Could not load dynamic library" in found.string:
        return None  # TensorFlow's words for what it tries and can do without
    by = found["by"]
    return LibraryNotFound(
        library=found["library"], wanted_by=by if by and ("/" in by or ".so" in by) else None
    )


@check.message(
    rf"^\s*(?P<library>{SO}) => not found",
    needles="=> not found",
    sample="	libcudnn.so.8 => not found",
)
def ldd_not_found(found: re.Match[str]) -> LibraryNotFound:
    """A line of ldd."""
    return LibraryNotFound(library=found["library"])


@check.message(
    r"(?P<library>lib[\w-]+)\.so\.\*\[0-9\](?:\.\*)? not found in the system path",
    needles="not found in the system path",
    sample="ValueError: libcudart.so.*[0-9] not found in the system path ['/srv/app']",
)
def torch_glob_not_found(found: re.Match[str]) -> LibraryNotFound:
    """torch's own search of sys.path for a library that the loader had missed; it does not tell the version."""
    return LibraryNotFound(library=found["library"] + ".so", wanted_by="torch")


@check.message(
    r"(?:(?P<by>/[^\s:]+|[\w.+-]+\.so[\w.]*): )?undefined symbol: (?P<symbol>[\w@.$]+)(?:, version (?P<version>[\w.+-]*\w))?",
    needles="undefined symbol:",
    sample="OSError: /opt/app/libcublas.so.12: undefined symbol: cublasLtGetVersion, version libcublasLt.so.12",
)
def undefined_symbol(found: re.Match[str]) -> UndefinedSymbol:
    """A library was found, and is not the one that was meant."""
    return UndefinedSymbol(symbol=found["symbol"], wanted_by=found["by"], version=found["version"])


@check.message(
    rf"{BY}symbol (?P<symbol>[\w@.$]+)(?:,)? version (?P<version>[\w.+-]+) not defined in file (?P<library>\S+) with link time reference",
    needles="not defined in file",
    sample="ImportError: /x/libtorch_cuda.so: symbol cudaGetDriverEntryPointByVersion version libcudart.so.12 not defined in file libcudart.so.12 with link time reference",
)
def symbol_not_defined(found: re.Match[str]) -> UndefinedSymbol:
    """The other wording, for a version that the file does not define."""
    by = found["by"]
    return UndefinedSymbol(
        symbol=found["symbol"], wanted_by=by if by and "/" in by else None, version=found["version"]
    )


VERSION_NOT_FOUND = r"(?P<library>[^\s:'\"(]+): version [`'](?P<version>[\w.+-]+)' not found(?: \(required by (?P<by>[^)]+)\))?"


@check.message(
    VERSION_NOT_FOUND,
    needles="' not found",
    sample="ImportError: /lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by /opt/x.so)",
)
def version_not_found(found: re.Match[str]) -> VersionNotFound | None:
    """A library was found and is too old."""
    if is_watched(found["version"]):
        return None
    return VersionNotFound(library=found["library"], version=found["version"], wanted_by=found["by"])


@check.message(
    VERSION_NOT_FOUND,
    needles="' not found",
    sample="./train: /opt/cuda/lib64/libcublas.so.12: version `libcublas.so.12' not found (required by ./train)",
)
def cuda_version_not_found(found: re.Match[str]) -> UndefinedSymbol | None:
    """CUDA's libraries have their SONAME for a version: it is missing where another file bears their name."""
    if not is_watched(found["version"]):
        return None
    return UndefinedSymbol(symbol="", wanted_by=found["by"], version=found["version"])


@check.message(
    r"(?P<path>[^\s:'\"]*\.so[\w.]*): (?P<problem>file too short|invalid ELF header|wrong ELF class: \w+|ELF file OS ABI invalid|cannot read file data[^\n]*|ELF load command [^\n]*|only ET_DYN and ET_EXEC can be loaded|internal error|object file has no loadable segments|object file has no dynamic section)",
    needles=(
        "file too short",
        "elf",
        "cannot read file data",
        "et_dyn",
        "object file has no",
        "internal error",
    ),
    sample="OSError: /srv/venv/lib/libcudnn.so.9: file too short",
)
def bad_library_file(found: re.Match[str]) -> BadLibraryFile:
    """A file that the loader found and refused."""
    return BadLibraryFile(path=found["path"], problem=found["problem"].strip())


@check.message(
    r"(?P<path>[^\s:'\"(]+): cannot allocate memory in static TLS block",
    needles="in static tls block",
    sample="ImportError: /usr/lib/aarch64-linux-gnu/libgomp.so.1: cannot allocate memory in static TLS block",
)
def static_tls_exhausted(found: re.Match[str]) -> StaticTlsExhausted:
    """A library that had to be there from the start was loaded later."""
    return StaticTlsExhausted(path=found["path"])


@check.message(
    rf"File (?P<path>/\S+/{LIBRARY}) is (?P<problem>empty|too small), not checked",
    needles=", not checked",
    sample="/sbin/ldconfig.real: File /usr/lib/x86_64-linux-gnu/libcudnn.so.8 is empty, not checked.",
)
def passed_over_by_ldconfig(found: re.Match[str]) -> BadLibraryFile:
    """ldconfig warns of files that it cannot use."""
    return BadLibraryFile(path=found["path"], problem=found["problem"])


@check.message(
    rf"(?:cannot access|cannot stat|cannot statx|cannot open) ['\"`]?(?P<path>/[^\s'\"]*/{LIBRARY})['\"]?.*No such file",
    needles="no such file",
    sample="ls: cannot access '/usr/local/cuda-12.1/lib64/libcudart.so.12': No such file or directory",
)
def file_gone(found: re.Match[str]) -> FileGone:
    """ls, stat, file and readelf of a path that is not there."""
    return FileGone(path=found["path"])


@check.message(
    r"\((?P<tag>RPATH|RUNPATH)\)\s+Library r(?:un)?path: \[(?P<value>[^\]]*)\]",
    needles=("library rpath:", "library runpath:"),
    sample=" 0x000000000000001d (RUNPATH)            Library runpath: [$ORIGIN/../lib:]",
)
def run_path_seen(found: re.Match[str]) -> RunPathSeen:
    """readelf -d, objdump -p."""
    return RunPathSeen(tag="rpath" if found["tag"] == "RPATH" else "runpath", value=found["value"])
