"""Where the driver's user-space libraries are, and of which release: file names and links only."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from envdoctor.api import CouldNotLook, Host, Platform, Source, Tier
from envdoctor.probing.ldcache import Cache, parse
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import UserLibraries, UserLibrary

SONAMES = ("libcuda.so.1", "libnvidia-ml.so.1", "libcuda.so")
RELEASE = re.compile(r"\.so\.(\d{3}\.\d+(?:\.\d+)?)$")


def directories(machine: str) -> tuple[str, ...]:
    """Where distributions, NVIDIA's installer, containers, WSL and toolkits put libcuda."""
    triple = f"{machine}-linux-gnu"
    return (
        f"/usr/lib/{triple}",
        f"/lib/{triple}",
        "/usr/lib64",
        "/lib64",
        "/usr/lib",
        f"/usr/lib/{triple}/nvidia/current",
        f"/usr/lib/{triple}/tegra",
        "/usr/lib64/nvidia",
        "/usr/local/nvidia/lib64",
        "/usr/local/nvidia/lib",
        "/usr/lib/wsl/lib",
        "/usr/local/lib",
        "/usr/local/cuda/compat",
        "/usr/local/cuda/lib64/stubs",
        "/opt/nvidia/lib64",
        "/run/opengl-driver/lib",
        "/home/kubernetes/bin/nvidia/lib64",
    )


@check.probe(tier=Tier.QUICK)
def user_libraries(host: Host, platform: Platform) -> UserLibraries:
    """Every libcuda and libnvidia-ml, by the loader's own sources first."""
    found: dict[str, UserLibrary] = {}
    for path, via in _candidates(host, platform.machine):
        library = _library(host, path, via)
        if library is not None:
            found.setdefault(path, library)
    return UserLibraries(libraries=tuple(found.values()), source=Source("file", "/etc/ld.so.cache"))


def _candidates(host: Host, machine: str) -> Iterator[tuple[str, str]]:
    for folder in filter(None, re.split("[:;]", host.environ.get("LD_LIBRARY_PATH", ""))):
        for soname in SONAMES:
            yield os.path.join(folder, soname), "ld-library-path"
    cached = _cached(host)
    for soname, path in cached:
        yield path, "cache"
    defaults = directories(machine)[:5]
    for folder in directories(machine):
        via = "cache" if folder in defaults else "directory"  # the default directories are searched like the cache
        for soname in SONAMES:
            yield os.path.join(folder, soname), via


def _cached(host: Host) -> list[tuple[str, str]]:
    try:
        cache = parse(host.read("/etc/ld.so.cache", 16 << 20))
    except FileNotFoundError:
        return []  # musl and images without ldconfig have none: the default directories are all there is
    except OSError as error:
        raise CouldNotLook(f"/etc/ld.so.cache: {error.strerror}") from error
    if not isinstance(cache, Cache):
        return []
    return [(entry.soname, entry.path) for entry in cache.entries if entry.soname in SONAMES]


def _library(host: Host, path: str, via: str) -> UserLibrary | None:
    try:
        host.stat(path, follow=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise CouldNotLook(f"{path}: {error.strerror}") from error
    file = _behind(host, path)
    release = RELEASE.search(file or path)
    return UserLibrary(
        soname=os.path.basename(path),
        path=path,
        file=file,
        release=release.group(1) if release else None,
        kind=_kind(path, file),  # type: ignore[arg-type] # one of the literals
        found_via=via,  # type: ignore[arg-type] # one of the literals
    )


def _behind(host: Host, path: str) -> str | None:
    """The file behind the links, None when they dangle."""
    if host.live:
        real = os.path.realpath(path)
    else:
        real = host.resolve(path)
    return real if host.exists(real) else None


def _kind(path: str, file: str | None) -> str:
    where = f"{path}\0{file or ''}"
    if "/stubs/" in where:
        return "stub"
    if "/compat/" in where:
        return "compat"
    if "/usr/lib/wsl/" in where:
        return "wsl"
    return "driver"
