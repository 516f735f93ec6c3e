"""The release of NCCL: written in the library that torch loads, or would load; else in the wheel's metadata."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from envdoctor.api import CouldNotLook, Host, Source, TargetPaths, Tier, Unavailable
from envdoctor_checks.libraries.facts import LoadedLibraries
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import NcclLibrary
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchCuda

VERSION = re.compile(rb"NCCL version (\d+\.\d+\.\d+)")
SOUGHT = 16 << 20
"""Bytes from the file's start that are searched where it has no section table: constants come before GPU code."""
MAX_NAMES = 1 << 20
"""Bytes of the names of its sections."""
WHEEL = re.compile(r"nvidia-nccl(?:-cu\d+)?")


@check.probe(tier=Tier.QUICK)
def nccl_library(
    host: Host,
    paths: TargetPaths,
    loaded: LoadedLibraries | Unavailable | None,
    cuda: TorchCuda | Unavailable | None,
    packages: Distributions | Unavailable | None,
) -> NcclLibrary:
    """The mapped file first; then the wheel's; then what torch says of itself (NCCL may be linked into it)."""
    known = packages if isinstance(packages, Distributions) else None
    mapped = loaded.of("libnccl") if isinstance(loaded, LoadedLibraries) else ()
    for path in (*(each.path for each in mapped), *_in_wheels(host, paths, known)):
        version = version_in(host, path)
        if version:
            return NcclLibrary(version=version, path=path, source=Source("file", path))
    if isinstance(cuda, TorchCuda) and cuda.nccl:
        return NcclLibrary(
            version=cuda.nccl, found_via="torch", source=Source("call", "torch.cuda.nccl.version")
        )
    for each in known.distributions if known else ():
        if WHEEL.fullmatch(each.name):
            return NcclLibrary(version=each.version, found_via="wheel", source=Source("file", each.location))
    if known is None:
        raise CouldNotLook("the target's packages are not known")
    return NcclLibrary(version=None, source=Source("file", paths.prefix))


def _in_wheels(host: Host, paths: TargetPaths, packages: Distributions | None) -> list[str]:
    """The library that NVIDIA's wheel puts beside torch; both majors use one folder."""
    if packages is None or not any(WHEEL.fullmatch(each.name) for each in packages.distributions):
        return []
    candidates = [f"{folder}/nvidia/nccl/lib/libnccl.so.2" for folder in paths.site_packages]
    return [path for path in candidates if host.exists(path)]


def version_in(host: Host, path: str) -> str | None:
    """The release that a libnccl has written in it; None where it has none or cannot be read.

    The file has a quarter of a gigabyte of GPU code; only its constants (``.rodata``) are read.
    """
    try:
        with host.opened(path) as (read_at, size):
            offset, length = _constants(read_at(0, 64), read_at, size)
            found = VERSION.search(read_at(offset, length))
    except (OSError, struct.error):
        return None
    return found[1].decode() if found else None


def _constants(header: bytes, read_at: Callable[[int, int], bytes], size: int) -> tuple[int, int]:
    """Offset and length of ``.rodata``; the file's beginning where there is no section table."""
    if header[:6] != b"\x7fELF\x02\x01":
        return 0, min(size, SOUGHT)
    (table,) = struct.unpack_from("<Q", header, 40)
    entry, count, names_at = struct.unpack_from("<HHH", header, 58)
    damaged = not 0 < table <= size - entry * count or entry < 64 or names_at >= count
    sections = b"" if damaged else read_at(table, entry * count)
    if len(sections) < entry * count or damaged:
        return 0, min(size, SOUGHT)
    heads = [struct.unpack_from("<IIQQQQ", sections, entry * index) for index in range(count)]
    _, _, _, _, names_from, names_long = heads[names_at]
    names = read_at(names_from, min(names_long, MAX_NAMES)) if names_from < size else b""
    for name, _, _, _, offset, length in heads:
        if names[name : name + 8] == b".rodata\0" and offset < size:
            return offset, min(length, SOUGHT)
    return 0, min(size, SOUGHT)
