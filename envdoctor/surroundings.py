"""The surroundings of a fix: for which package managers and container engine the commands are worded."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, ClassVar

from envdoctor.facts import Fact, Source, Unavailable
from envdoctor.target import Target, TargetPaths

if TYPE_CHECKING:
    from envdoctor.host import Host
    from envdoctor.platform import Platform

SYSTEM_MANAGERS = {
    "apt": ("debian", "ubuntu"),
    "dnf": ("fedora", "rhel", "centos", "rocky", "almalinux", "amzn"),
    "zypper": ("suse", "opensuse", "sles"),
    "pacman": ("arch",),
    "apk": ("alpine",),
}


CONTAINER_GROUPS = re.compile(r"/(docker|containerd|cri-containerd|crio)[-/]|docker-[0-9a-f]{12}")
"""Paths of control groups (version 1) that a container's own processes see."""


class Surroundings(Fact, frozen=True):
    """What commands must be worded for. None is *not known*, and then every manager gets its line."""

    fact_name: ClassVar[str] = "envdoctor.surroundings"
    python_manager: str | None = None
    """``pip``, ``uv``, ``conda`` or ``poetry``."""
    python: str | None = None
    """The interpreter that ``-m pip`` must belong to."""
    system_manager: str | None = None
    """``apt``, ``dnf``, ``zypper``, ``pacman`` or ``apk``."""
    engine: str | None = None
    """Inside a container: ``docker``, ``podman``, ``kubernetes``, ``apptainer``; ``none`` on a host."""
    root: bool | None = None
    python_version: str | None = None
    """``3.11``."""
    externally_managed: bool | None = None
    """Whether pip refuses to install into this Python, because it is the distribution's (PEP 668)."""
    distribution: str | None = None
    """``ID`` of os-release: Debian and Ubuntu share a manager and not the names of packages."""
    wsl: bool | None = None
    """Whether the driver is Windows' own."""


UNKNOWN = Surroundings(source=Source("text"))


def look_at_surroundings(
    host: Host, target: Target, platform: Platform | None, paths: TargetPaths | Unavailable | None
) -> Surroundings:
    """Read off files, the environment and the target's own answer."""
    known = paths if isinstance(paths, TargetPaths) else None
    system = system_manager_of(platform.distribution, platform.distribution_like) if platform else None
    return Surroundings(
        python_manager=_python_manager(host, known),
        python=target.python,
        system_manager=system,
        engine=_engine(host),
        root=host.uid == 0 if host.uid >= 0 else None,
        python_version=".".join(known.version.split(".")[:2]) if known else None,
        externally_managed=known.externally_managed and not known.is_venv if known else None,
        distribution=platform.distribution if platform else None,
        wsl=platform.wsl if platform else None,
        source=Source("file", known.prefix if known else target.python),
    )


def system_manager_of(distribution: str | None, like: tuple[str, ...]) -> str | None:
    """The package manager of a distribution, by its ID or the families it belongs to."""
    for name in (distribution, *like):
        for manager, families in SYSTEM_MANAGERS.items():
            if name is not None and name in families:
                return manager
    return None


def _python_manager(host: Host, paths: TargetPaths | None) -> str | None:
    if paths is None:
        return None
    if paths.conda:
        return "conda"
    config = host.text(os.path.join(paths.prefix, "pyvenv.cfg")) or ""
    if any(line.partition("=")[0].strip() == "uv" for line in config.splitlines()):
        return "uv"
    project = os.path.dirname(paths.prefix)
    if "pypoetry" in paths.prefix or host.exists(os.path.join(project, "poetry.lock")):
        return "poetry"
    return "pip"


def _engine(host: Host) -> str | None:
    if host.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if host.environ.get("APPTAINER_CONTAINER") or host.environ.get("SINGULARITY_CONTAINER"):
        return "apptainer"
    if host.exists("/run/.containerenv"):
        return "podman"
    if host.exists("/.dockerenv"):
        return "docker"
    groups = host.text("/proc/self/cgroup") or ""
    if "kubepods" in groups:
        return "kubernetes"
    return "docker" if CONTAINER_GROUPS.search(groups) else "none"
