"""What is printed where a compile cache cannot be used."""

from __future__ import annotations

import re

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.paths import is_cached
from envdoctor_checks.kernel.symptoms import (
    CacheAtWork,
    CacheCleared,
    CacheEntryBroken,
    CacheFileGone,
    CublasNotInitialized,
    NvFolderListed,
    SegmentNotMapped,
)


@check.message(
    r"(?P<path>/[^\s:'\"]*\.so[\w.]*): failed to map segment from shared object",
    needles="failed to map segment",
    sample="ImportError: /x/cache/some.so: failed to map segment from shared object",
)
def not_mapped(match: re.Match[str]) -> SegmentNotMapped:
    """The loader, of a file on a file system that is mounted noexec."""
    return SegmentNotMapped(path=match["path"])


@check.message(
    r"(?:FileNotFoundError|OSError|Errno)[^\n]*?(?:No such file or directory|Stale file handle)[^\n]*?'(?P<path>/[^']+)'|"
    r"(?P<handle>/[^\s:'\"]+): cannot read file data: Stale file handle",
    needles=("no such file or directory", "stale file handle"),
    sample="FileNotFoundError: [Errno 2] No such file or directory: '/tmp/torchinductor_someone/triton/0/ABC/kernel.json'",
)
def cached_file_gone(match: re.Match[str]) -> CacheFileGone | None:
    """A file of a compile cache, by its path."""
    path = match["path"] or match["handle"]
    return CacheFileGone(path=path) if is_cached(path) else None


@check.message(
    r"@jit functions should be defined in a Python file",
    needles="@jit functions should be defined",
    sample="ValueError: @jit functions should be defined in a Python file",
)
def source_gone(match: re.Match[str]) -> CacheFileGone:
    """Triton reads the source of what Inductor generated from the cache."""
    return CacheFileGone()


@check.message(
    r"DLL load failed while importing (?P<dll>cuda_utils|__triton_launcher)\b|(?P<key>UnpicklingError: pickle data was truncated|"
    r"EOFError: Ran out of input|JSONDecodeError: Expecting value)",
    needles=("dll load failed", "unpicklingerror", "eoferror", "jsondecodeerror"),
    sample="ImportError: DLL load failed while importing cuda_utils: The specified module could not be found.",
)
def entry_broken(match: re.Match[str]) -> CacheEntryBroken:
    """A launcher that was built for another Python, and entries that were cut short."""
    return CacheEntryBroken(what=match["dll"] or match["key"].partition(":")[0])


@check.message(
    r"File \"[^\"]*[/\\](?:(?P<triton>triton[/\\]runtime[/\\]cache\.py)|(?P<inductor>torch[/\\]_inductor[/\\](?:codecache|runtime[/\\]cache_dir_utils|remote_cache)\.py)|"
    r"(?P<extensions>torch[/\\]utils[/\\]cpp_extension\.py\", line \d+, in _get_build_directory)|(?P<flashinfer>flashinfer[/\\]jit[/\\]))",
    needles=("cache.py", "cache_dir_utils.py", "cpp_extension.py", "flashinfer"),
    sample='  File "/x/site-packages/triton/runtime/cache.py", line 1, in put',
)
def cache_at_work(match: re.Match[str]) -> CacheAtWork:
    """Frames of the code that makes the folders and writes the files."""
    kind = next(name for name, value in match.groupdict().items() if value)
    return CacheAtWork(cache=kind)  # type: ignore[arg-type] # the groups are named for the kinds


@check.message(
    r"CUBLAS_STATUS_NOT_INITIALIZED",
    needles="cublas_status_not_initialized",
    sample="RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
)
def cublas_not_initialized(match: re.Match[str]) -> CublasNotInitialized:
    """cuBLAS could not start; memory is the usual reason, the compute cache another."""
    return CublasNotInitialized()


@check.message(
    r"\brm +-\w*r\w* +(?P<paths>[^;&|\n]+)|rmtree\(['\"](?P<python>[^'\"]+)",
    needles=("rm -", "rmtree("),
    sample="+ rm -rf /tmp/torchinductor_someone /some/folder",
)
def cleared(match: re.Match[str]) -> CacheCleared | None:
    """A command that removes folders, one of which is a compile cache by its name."""
    path = next((each for each in (match["paths"] or match["python"]).split() if is_cached(each)), None)
    return CacheCleared(path=path.strip("'\"")) if path else None


@check.reader(
    starts=r"^d[rwxsStT-]{9}[.+@]?\s+\d+\s+\S+\s+\S+\s.*\s(?:\S*/)?\.nv(?:/ComputeCache)?/?$", max_lines=1
)
def nv_folder(found: FoundBlock) -> NvFolderListed:
    """``ls -la ~``, also through a filter."""
    words = found.block.lines[0].text.split()
    return NvFolderListed(
        owner=words[2], mode=words[0], quote=found.block.lines[0].text, source=Source("text")
    )
