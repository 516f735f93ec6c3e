"""The folders into which compilers write: where they are, whose, and whether this user may write and load there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress

from envdoctor.api import CouldNotLook, Host, Source, Stat, Tier
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import CacheDirectories, CacheDirectory, CacheKind

USER_VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")
"""What ``getpass.getuser()`` asks, in this order, before the user database."""
TEMPORARY_VARIABLES = ("TMPDIR", "TEMP", "TMP")


@check.probe(tier=Tier.QUICK, deadline=3.0)
def cache_directories(host: Host) -> CacheDirectories | None:
    """Each as its owner finds it; none is written to."""
    if host.system == "windows":
        return None
    return CacheDirectories(
        uid=host.uid,
        directories=tuple(_looked_at(host, kind, path, via) for kind, path, via in places(host)),
        source=Source("call", "statvfs"),
    )


def places(host: Host) -> Iterator[tuple[CacheKind, str, str]]:
    """Kind, path and what names it."""
    environ = host.environ
    name, home = _account(host)
    inductor = f"{temporary_folder(host)}/torchinductor_{name}"
    yield _place("inductor", environ, "TORCHINDUCTOR_CACHE_DIR", inductor)
    triton_home = environ.get("TRITON_HOME") or home
    if triton_home or environ.get("TRITON_CACHE_DIR"):
        yield _place("triton", environ, "TRITON_CACHE_DIR", f"{triton_home}/.triton/cache")
    cache = environ.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else None)
    if cache or environ.get("TORCH_EXTENSIONS_DIR"):
        yield _place("extensions", environ, "TORCH_EXTENSIONS_DIR", f"{cache}/torch_extensions")
    if environ.get("CUDA_CACHE_DISABLE") != "1" and (home or environ.get("CUDA_CACHE_PATH")):
        yield _place("cuda", environ, "CUDA_CACHE_PATH", f"{home}/.nv/ComputeCache")


def _place(
    kind: CacheKind, environ: dict[str, str], variable: str, default: str
) -> tuple[CacheKind, str, str]:
    value = environ.get(variable)
    return (kind, value, variable) if value else (kind, default, "default")


def temporary_folder(host: Host) -> str:
    """As the tempfile module picks it: the first of these that can be written."""
    named = (host.environ.get(name) for name in TEMPORARY_VARIABLES)
    for folder in (*named, "/tmp", "/var/tmp", "/usr/tmp"):  # noqa: S108 - nothing is written there
        if folder and host.may(folder, os.W_OK | os.X_OK):
            return folder.rstrip("/")
    return "/tmp"  # noqa: S108 - as above


def _account(host: Host) -> tuple[str, str | None]:
    """The name that torch puts into its folder's name, and the home; from files only, no name service is asked."""
    line = re.search(
        rf"(?m)^([^:\n]*):[^:\n]*:{host.uid}:[^:\n]*:[^:\n]*:([^:\n]*)", host.text("/etc/passwd") or ""
    )
    told = next((value for name in USER_VARIABLES if (value := host.environ.get(name))), None)
    name = told or (line[1] if line else f"uid_{host.uid}")
    home = host.environ.get("HOME") or (line[2] if line else None)
    return re.sub(r'[\\/:*?"<>|]', "_", name), home.rstrip("/") if home else None


def _looked_at(host: Host, kind: CacheKind, path: str, via: str) -> CacheDirectory:
    nearest, status, barred = _nearest(host, path)
    space = None
    if not barred:
        with suppress(OSError):  # it went away, or its file system does not tell: what stat said must do
            space = host.space(nearest)
    return CacheDirectory(
        kind=kind,
        path=path,
        found_via=via,
        exists=nearest == path and status is not None,
        nearest="" if nearest == path else nearest,
        writable=not barred and _is_folder(status) and host.may(nearest, os.W_OK | os.X_OK),
        owner=status.uid if status else None,
        mode=f"{status.mode:04o}" if status else "",
        noexec=space is not None and space.noexec,
        read_only=space is not None and space.read_only,
        free=space.free if space is not None else None,
    )


def _is_folder(status: Stat | None) -> bool:
    return status is not None and status.kind == "directory"


def _nearest(host: Host, path: str) -> tuple[str, Stat | None, bool]:
    """The path itself or the nearest folder upwards that is there, and whether a folder on the way was barred."""
    barred = False
    while True:
        try:
            status = host.status(path)
        except CouldNotLook:
            status, barred = None, True
        if status is not None or os.path.dirname(path) == path:
            return path, status, barred
        path = os.path.dirname(path)
