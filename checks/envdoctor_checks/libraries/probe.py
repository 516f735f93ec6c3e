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
    CurrentDirectory,
    LibraryCopies,
    LibraryCopy,
    SearchEntry,
    SearchPath,
    StaleCacheLines,
    StaleLine,
    WheelFiles,
)
from envdoctor_checks.libraries.names import is_watched, stem_of

Place = Literal["wheel", "conda", "toolkit", "system", "ld-library-path"]
Problem = Literal["empty", "too-short", "not-elf", "wrong-machine"]
MACHINES = {"x86_64": 62, "amd64": 62, "aarch64": 183, "arm64": 183}
"""e_machine of an ELF header, by the processor's name."""
CACHE = "/etc/ld.so.cache"


@check.probe(tier=Tier.QUICK)
def search_path(host: Host) -> SearchPath:
    """LD_LIBRARY_PATH as the loader splits it: at colons and semicolons, an empty element being the current directory."""
    entries = [_entry(host, each) for each in _elements(host)]
    return SearchPath(entries=tuple(entries), source=Source("env", "LD_LIBRARY_PATH"))


def _elements(host: Host) -> list[str]:
    value = host.environ.get("LD_LIBRARY_PATH", "")
    return re.split("[:;]", value) if value else []


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
def current_directory(host: Host) -> CurrentDirectory:
    """What an empty element of a path would make loadable."""
    names = tuple(name for name in _names(host, host.cwd) if ".so" in name and is_watched(name))
    return CurrentDirectory(path=host.cwd, names=names, source=Source("file", host.cwd))


@check.probe(tier=Tier.QUICK)
def stale_cache_lines(host: Host) -> StaleCacheLines:
    """Lines of the cache for watched libraries whose file is gone."""
    try:
        cache = parse(host.read(CACHE, 16 << 20))
    except FileNotFoundError:
        return StaleCacheLines(lines=(), source=Source("file", CACHE))  # musl, and images without ldconfig
    except OSError as error:
        raise CouldNotLook(f"{CACHE}: {error.strerror}") from error
    if not isinstance(cache, Cache):
        raise CouldNotLook(f"{CACHE}: {cache.reason}: {cache.detail}", "ldconfig writes it anew")
    gone = [
        StaleLine(entry.soname, entry.path)
        for entry in cache.entries
        if is_watched(entry.soname) and not host.exists(entry.path)
    ]
    return StaleCacheLines(lines=tuple(gone), source=Source("file", CACHE))


@check.probe(tier=Tier.QUICK)
def library_copies(
    host: Host, platform: Platform, paths: TargetPaths | None, wheels: WheelFiles | None
) -> LibraryCopies:
    """Look where each kind of installation keeps its libraries, and in what LD_LIBRARY_PATH adds."""
    found: dict[str, LibraryCopy] = {}
    for folder, place in _folders(host, platform, paths):
        for name in _names(host, folder):
            path = f"{folder}/{name}"
            if is_watched(name) and path not in found:
                found[path] = _copy(host, path, place, platform.machine, wheels)
    return LibraryCopies(copies=tuple(found.values()), source=Source("file", "/"))


def _folders(host: Host, platform: Platform, paths: TargetPaths | None) -> Iterator[tuple[str, Place]]:
    if paths is not None:
        yield from ((folder, "wheel") for folder in _wheel_folders(host, paths.site_packages))
        if paths.conda:
            yield f"{paths.prefix}/lib", "conda"
    for root in ("/usr/local", "/opt"):
        for name in _names(host, root):
            if name.startswith("cuda"):
                yield f"{root}/{name}/lib64", "toolkit"
    triple = f"{platform.machine}-linux-gnu"
    for folder in (f"/usr/lib/{triple}", "/usr/lib64", "/usr/lib", "/usr/local/lib"):
        yield folder, "system"
    for entry in filter(None, _elements(host)):
        yield os.path.normpath(os.path.join(host.cwd, entry)), "ld-library-path"


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


def _copy(host: Host, path: str, place: Place, machine: str, wheels: WheelFiles | None) -> LibraryCopy:
    file = _behind(host, path)
    owner = wheels.owner(path) if wheels is not None and place == "wheel" else None
    return LibraryCopy(
        library=stem_of(path) or path,
        name=os.path.basename(path),
        path=path,
        file=file,
        place=place,
        owner=owner.distribution if owner else None,
        problem=problem_of(host, file, machine) if file is not None else None,
    )


def _behind(host: Host, path: str) -> str | None:
    """The file at the end of all links; None for a link that leads nowhere."""
    try:
        real = host.resolve(path)
        return real if host.exists(real) else None
    except (OSError, CouldNotLook):
        return None


def problem_of(host: Host, file: str, machine: str) -> Problem | None:
    """What keeps the loader from using a file, by its first bytes."""
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
