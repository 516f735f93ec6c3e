"""The operating system under everything: which Linux, which C library, which processor, WSL or not."""

from __future__ import annotations

import os
import shlex
from typing import ClassVar

from envdoctor.facts import Fact, Source
from envdoctor.host import Host


class Platform(Fact, frozen=True):
    """What the machine runs. Read from uname(2), ``/etc/os-release`` and ``/proc``."""

    fact_name: ClassVar[str] = "envdoctor.platform"
    system: str
    """``linux``, ``darwin`` or ``windows``."""
    machine: str
    """The processor: ``x86_64``, ``aarch64``, ``arm64`` ..."""
    kernel: str | None = None
    """The kernel's release, ``6.8.0-45-generic``."""
    distribution: str | None = None
    """``ID`` of os-release: ``ubuntu``, ``debian``, ``rhel`` ..."""
    distribution_like: tuple[str, ...] = ()
    """``ID_LIKE``: the families it belongs to."""
    distribution_version: str | None = None
    pretty_name: str | None = None
    libc: str | None = None
    """``glibc`` or ``musl``."""
    libc_version: str | None = None
    wsl: bool = False
    """A kernel of the Windows Subsystem for Linux, version 2."""

    @property
    def is_linux(self) -> bool:
        """Whether the checks of the live machine have anything to look at."""
        return self.system == "linux"


def look_at_platform(host: Host) -> Platform:
    """Read the platform from files; only the C library's version is asked of our own process, which runs on it."""
    release = _os_release(host)
    kernel = (host.text("/proc/sys/kernel/osrelease") or "").strip() or (os.uname().release if host.live else None)
    libc, version = _libc(host)
    return Platform(
        system=host.system,
        machine=host.machine,
        kernel=kernel,
        distribution=release.get("ID"),
        distribution_like=tuple(release.get("ID_LIKE", "").split()),
        distribution_version=release.get("VERSION_ID"),
        pretty_name=release.get("PRETTY_NAME"),
        libc=libc,
        libc_version=version,
        wsl=kernel is not None and "microsoft" in kernel.lower(),
        source=Source("file", "/etc/os-release"),
    )


def _os_release(host: Host) -> dict[str, str]:
    """os-release(5): shell assignments; lines that are none are skipped as the manual page allows."""
    text = host.text("/etc/os-release") or host.text("/usr/lib/os-release") or ""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.isidentifier():
            try:
                found[key] = "".join(shlex.split(value))
            except ValueError:
                found[key] = value.strip("\"'")
    return found


def _libc(host: Host) -> tuple[str | None, str | None]:
    if host.system != "linux":
        return None, None
    if host.live:
        try:
            told = os.confstr("CS_GNU_LIBC_VERSION")
        except (ValueError, OSError):
            told = None
        if told:
            name, _, version = told.partition(" ")
            return name, version
    if any(name.startswith("ld-musl-") for name in host.names("/lib") or ()):
        return "musl", None
    for directory in ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"):
        for name in host.names(directory) or ():
            if name.startswith("libc-2.") and name.endswith(".so"):
                return "glibc", name[len("libc-") : -len(".so")]
            if name == "libc.so.6":
                return "glibc", None
    return None, None
