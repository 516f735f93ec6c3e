"""Every copy of the watched libraries, LD_LIBRARY_PATH and stale cache lines: names, links and the first bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Literal

from envdoctor.api import CouldNotLook, Host, Platform, Source, TargetPaths, Tier
from envdoctor.probing.ldcache import Cache, parse
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.facts import (
    LibraryCopies,
    LibraryCopy,
    SearchEntry,
    SearchPath,
    StaleCacheLines,
    StaleLine,
)
from envdoctor_checks.libraries.names import is_watched, stem_of

Place = Literal["wheel", "conda", "toolkit", "system", "ld-library-path"]
MACHINES = {"x86_64": 62, "amd64": 62, "aarch64": 183, "arm64": 183}
"""e_machine of an ELF header, by the processor's name."""


@check.probe(tier=Tier.QUICK)
def search_path(host: Host) -> SearchPath:
    """LD_LIBRARY_PATH as the loader splits it: at colons and semicolons, an empty element being the current directory."""
    value = host.environ.get("LD_LIBRARY_PATH", "")
    entries = [_entry(host, each) for each in re.split("[:;]", value)] if value else []
    return SearchPath(entries=tuple(entries), source=Source("env", "LD_LIBRARY_PATH"))


def _entry(host: Host, entry: str) -> SearchEntry:
    if not entry:
        return SearchEntry("", "empty")
    try:
        status = host.status(os.path.join(host.cwd, entry))
    except CouldNotLook:
        return SearchEntry(entry, "unreadable")
    if status is None:
        return SearchEntry(entry, "missing")
    return SearchEntry(entry, "directory" if status.kind == "directory" else "file")


@check.probe(tier=Tier.QUICK)
def stale_cache_lines(host: Host) -> StaleCacheLines:
    """Lines of the cache for watched libraries whose file is gone."""
    path = "/etc/ld.so.cache"
    try:
        cache = parse(host.read(path, 16 << 20))
    except FileNotFoundError:
        return StaleCacheLines(lines=(), source=Source("file", path))  # musl, and images without ldconfig
    except OSError as error:
        raise CouldNotLook(f"{path}: {error.strerror}") from error
    if not isinstance(cache, Cache):
        raise CouldNotLook(f"{path}: {cache.reason}: {cache.detail}", "ldconfig writes it anew")
    gone = [
        StaleLine(entry.soname, entry.path)
        for entry in cache.entries
        if is_watched(entry.soname) and not host.exists(entry.path)
    ]
    return StaleCacheLines(lines=tuple(gone), source=Source("file", path))


@check.probe(tier=Tier.QUICK)
def library_copies(host: Host, platform: Platform, paths: TargetPaths | None) -> LibraryCopies:
    """Look where each kind of installation keeps its libraries."""
    found: dict[str, LibraryCopy] = {}
    for folder, place in _folders(host, platform, paths):
        for name in _names(host, folder):
            if is_watched(name):
                path = f"{folder}/{name}"
                found.setdefault(path, _copy(host, path, place, platform.machine))
    return LibraryCopies(copies=tuple(found.values()), source=Source("file", "/"))


def _folders(host: Host, platform: Platform, paths: TargetPaths | None) -> Iterator[tuple[str, Place]]:
    for entry in filter(None, re.split("[:;]", host.environ.get("LD_LIBRARY_PATH", ""))):
        yield os.path.join(host.cwd, entry).rstrip("/"), "ld-library-path"
    if paths is not None:
        yield from ((folder, "wheel") for folder in _wheel_folders(host, paths.site_packages))
        if paths.conda:
            yield f"{paths.prefix}/lib", "conda"
    for root in ("/usr/local", "/opt"):
        for name in _names(host, root):
            if name.startswith("cuda"):
                yield f"{root}/{name}/lib64", "toolkit"
    triple = f"{platform.machine}-linux-gnu"
    for folder in (f"/usr/lib/{triple}", "/usr/lib64", f"/lib/{triple}", "/usr/local/lib"):
        yield folder, "system"


def _wheel_folders(host: Host, site_packages: Iterable[str]) -> Iterator[str]:
    """``nvidia/<library>/lib``, ``nvidia/cu13/lib``, torch's own and the folders that auditwheel makes."""
    for site in site_packages:
        for name in _names(host, f"{site}/nvidia"):
            yield f"{site}/nvidia/{name}/lib"
        yield f"{site}/torch/lib"
        for name in _names(host, site):
            if name.endswith(".libs"):
                yield f"{site}/{name}"


def _names(host: Host, folder: str) -> tuple[str, ...]:
    try:
        return host.names(folder) or ()
    except CouldNotLook:
        return ()  # one unreadable folder must not hide the copies in all others; the loader skips it as well


def _copy(host: Host, path: str, place: Place, machine: str) -> LibraryCopy:
    file, problem = _behind(host, path), None
    if file is not None:
        problem = _problem(host, file, machine)
    return LibraryCopy(
        library=stem_of(path) or path,
        name=os.path.basename(path),
        path=path,
        file=file,
        place=place,
        problem=problem,
    )


def _behind(host: Host, path: str) -> str | None:
    real = os.path.realpath(path) if host.live else host.resolve(path)
    return real if host.exists(real) else None


def _problem(host: Host, file: str, machine: str) -> str | None:
    """What keeps the loader from using a file, by its first bytes: the whole header is read elsewhere."""
    try:
        head = host.read(file, 64)
    except OSError:
        return None  # not ours to read; the loader will say what it thinks of it
    if not head:
        return "empty"
    if head[:4] != b"\x7fELF":
        return None if head[:2] == b"/*" or head.startswith((b"GROUP", b"INPUT")) else "not-elf"
    if len(head) < 20:
        return "too-short"
    wanted = MACHINES.get(machine)
    order: Literal["little", "big"] = "big" if head[5] == 2 else "little"
    if wanted is not None and int.from_bytes(head[18:20], order) != wanted:
        return "wrong-machine"
    return None
