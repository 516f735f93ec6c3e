"""The operating system under everything: which Linux, which C library, which processor, WSL or not."""

from __future__ import annotations

import os
import re
import shlex
import sys
from typing import TYPE_CHECKING, ClassVar

from envdoctor.facts import Fact, Source

if TYPE_CHECKING:
    from envdoctor.host import Host

GLIBC_BANNER = re.compile(rb"GNU C Library .{0,60}?version (\d+\.\d+)", re.DOTALL)
"""What every glibc says of itself when it is run as a program, and so holds as text."""


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
    """A kernel of the Windows Subsystem for Linux, version 2 (the first writes itself ``-Microsoft``)."""

    @property
    def is_linux(self) -> bool:
        """Whether the checks of the live machine have anything to look at."""
        return self.system == "linux"


def look_at_platform(host: Host) -> Platform:
    """Read the platform from files; on the live machine, our own process knows its C library."""
    release = _os_release(host)
    kernel = (host.text("/proc/sys/kernel/osrelease") or "").strip() or _own_kernel(host)
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
        wsl=kernel is not None and "microsoft" in kernel and host.system == "linux",
        source=Source("file", "/etc/os-release"),
    )


def _own_kernel(host: Host) -> str | None:
    return os.uname().release if host.live and sys.platform != "win32" else None


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
    if host.live and "CS_GNU_LIBC_VERSION" in os.confstr_names:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        if version:
            return name, version
    for directory in (f"/lib/{host.machine}-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"):
        try:
            banner = GLIBC_BANNER.search(host.read(f"{directory}/libc.so.6", 8 << 20))
        except (FileNotFoundError, NotADirectoryError):
            continue
        return "glibc", banner[1].decode() if banner else None
    musl = any(name.startswith("ld-musl-") for name in host.names("/lib") or ())
    return ("musl", None) if musl else (None, None)
