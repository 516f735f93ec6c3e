"""Where the driver's user-space libraries are, and of which release: file names and links only."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import Literal

from envdoctor.api import CouldNotLook, Host, Platform, Source, Tier, Unavailable
from envdoctor.probing.ldcache import Cache, parse
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import KernelModule, UserLibraries, UserLibrary

SONAMES = ("libcuda.so.1", "libnvidia-ml.so.1", "libcuda.so")
RELEASE = re.compile(r"\.so\.(\d{3}\.\d+(?:\.\d+)?)$")
COMPAT = re.compile(r"/(?:cuda-)?compat(?:-[\d.-]+)?/")
Via = Literal["cache", "directory", "ld-library-path"]


def default_directories(machine: str, debian: bool) -> tuple[str, ...]:
    """Where the loader looks without being told: Debian's multiarch folders, or the 64-bit ones of the others."""
    own = f"{machine}-linux-gnu"
    return (
        (f"/usr/lib/{own}", f"/lib/{own}", "/usr/lib", "/lib")
        if debian
        else ("/usr/lib64", "/lib64", "/usr/lib")
    )


def other_directories(machine: str) -> tuple[str, ...]:
    """Where installers, containers, WSL and toolkits put libcuda though the loader may not look there."""
    own = f"{machine}-linux-gnu"
    return (
        f"/usr/lib/{own}",
        "/usr/lib64",
        f"/usr/lib/{own}/nvidia/current",
        f"/usr/lib/{own}/tegra",
        f"/usr/lib/{own}/nvidia",
        "/usr/lib64/nvidia",
        "/usr/local/nvidia/lib64",
        "/usr/local/nvidia/lib",
        "/usr/lib/wsl/lib",
        "/usr/local/lib",
        "/opt/nvidia/lib64",
        "/run/opengl-driver/lib",
        "/home/kubernetes/bin/nvidia/lib64",
        f"/run/nvidia/driver/usr/lib/{own}",
        "/.singularity.d/libs",
    )


@check.probe(tier=Tier.QUICK)
def user_libraries(
    host: Host, platform: Platform, module: KernelModule | Unavailable | None
) -> UserLibraries:
    """Every libcuda and libnvidia-ml, by the loader's own sources first."""
    found: dict[str, UserLibrary] = {}
    for path, via in _candidates(host, platform):
        if path not in found and (there := _library(host, path, via)) is not None:
            found[path] = there
    if isinstance(module, KernelModule) and module.release is not None:
        found.update(_of_the_module(host, tuple(found.values()), module.release))
    seen = {library.soname for library in found.values() if library.kind not in ("stub", "compat")}
    return UserLibraries(
        libraries=tuple(found.values()),
        absent=tuple(name for name in SONAMES if name not in seen),
        source=Source("file", "/etc/ld.so.cache"),
    )


def _candidates(host: Host, platform: Platform) -> Iterator[tuple[str, Via]]:
    for folder in re.split("[:;]", host.environ.get("LD_LIBRARY_PATH", "")):
        if folder.startswith("/"):
            yield from _in_folder(folder.rstrip("/"), "ld-library-path")
    for path in _cached(host):
        yield path, "cache"
    debian = "debian" in (platform.distribution, *platform.distribution_like)
    for folder in default_directories(platform.machine, debian):
        yield from _in_folder(folder, "cache")  # searched like the cache
    for folder in (*other_directories(platform.machine), *_toolkit_directories(host)):
        yield from _in_folder(folder, "directory")


def _of_the_module(
    host: Host, libraries: tuple[UserLibrary, ...], release: str
) -> Iterator[tuple[str, UserLibrary]]:
    """Beside each link that leads to another release: the file that fits the loaded module, where it is there."""
    for link in libraries:
        if link.soname.endswith(".1") and link.kind == "driver" and link.release != release:
            path = f"{link.path.removesuffix('.1')}.{release}"
            if (there := _library(host, path, link.found_via)) is not None:
                yield path, there


def _in_folder(folder: str, via: Via) -> Iterator[tuple[str, Via]]:
    return ((f"{folder}/{soname}", via) for soname in SONAMES)


def _toolkit_directories(host: Host) -> Iterator[str]:
    for name in host.names("/usr/local") or ():
        if name.startswith("cuda"):
            for part in ("compat", "compat/lib", "compat/lib.real", "lib64/stubs"):
                yield f"/usr/local/{name}/{part}"


def _cached(host: Host) -> tuple[str, ...]:
    try:
        cache = parse(host.read("/etc/ld.so.cache", 16 << 20))
    except FileNotFoundError:
        return ()  # musl and images without ldconfig have none: the default directories are all there is
    except OSError as error:
        raise CouldNotLook(f"/etc/ld.so.cache: {error.strerror}") from error
    if not isinstance(cache, Cache):
        return ()  # the loader goes on without it, too
    return tuple(entry.path for entry in cache.entries if entry.soname in SONAMES and fits(entry.abi))


def fits(abi: str) -> bool:
    """Whether a cache entry is for 64-bit programs: 32-bit libcudas sit beside them on desktops."""
    return "," in abi and not abi.endswith("hard-float")


def _library(host: Host, path: str, via: Via) -> UserLibrary | None:
    try:
        host.stat(path, follow=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return None  # a folder that this user may not enter is one the loader cannot use either
        raise CouldNotLook(f"{path}: {error.strerror}") from error
    file = _behind(host, path)
    return library(path, file, via)


def library(path: str, file: str | None, via: Via) -> UserLibrary:
    """What a path and the file behind it tell."""
    release = RELEASE.search(file or path)
    return UserLibrary(
        soname=os.path.basename(path),
        path=path,
        file=file,
        release=release.group(1) if release else None,
        kind=kind_of(path, file),
        found_via=via,
    )


def _behind(host: Host, path: str) -> str | None:
    """The file behind the links, None when they dangle."""
    real = os.path.realpath(path) if host.live else host.resolve(path)
    return real if host.exists(real) else None


def kind_of(path: str, file: str | None) -> Literal["driver", "stub", "compat", "wsl"]:
    """What a libcuda is, by where it lies. A driver's own is in no such folder."""
    where = f"{path}\0{file or ''}"
    if "/stubs/" in where:
        return "stub"
    if COMPAT.search(where):
        return "compat"
    return "wsl" if "/usr/lib/wsl/" in where else "driver"
