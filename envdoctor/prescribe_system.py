"""Operating-system packages: their names by distribution, and the commands that install them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envdoctor.surroundings import Surroundings

SYSTEM_PACKAGES: dict[str, dict[str, str]] = {
    "c-compiler": {
        "apt": "gcc libc6-dev",
        "dnf": "gcc glibc-devel",
        "zypper": "gcc glibc-devel",
        "pacman": "gcc",
        "apk": "gcc musl-dev",
    },
    "cxx-compiler": {
        "apt": "g++",
        "dnf": "gcc-c++",
        "zypper": "gcc-c++",
        "pacman": "gcc",
        "apk": "g++",
    },
    "python-headers": {
        "apt": "python{python}-dev",
        "dnf": "python{python}-devel",
        "zypper": "python{digits}-devel",
        "pacman": "python",
        "apk": "python3-dev",
    },
    "openmp": {
        "apt": "libgomp1",
        "dnf": "libgomp",
        "zypper": "libgomp1",
        "pacman": "gcc-libs",
        "apk": "libgomp",
    },
    "binutils": {
        "apt": "binutils",
        "dnf": "binutils",
        "zypper": "binutils",
        "pacman": "binutils",
        "apk": "binutils",
    },
    "ninja": {
        "apt": "ninja-build",
        "dnf": "ninja-build",
        "zypper": "ninja",
        "pacman": "ninja",
        "apk": "ninja",
    },
    "libgl": {
        "apt": "libgl1",
        "dnf": "mesa-libGL",
        "zypper": "Mesa-libGL1",
        "pacman": "libglvnd",
        "apk": "mesa-gl",
    },
    "libstdcxx": {
        "apt": "libstdc++6",
        "dnf": "libstdc++",
        "zypper": "libstdc++6",
        "pacman": "gcc-libs",
        "apk": "libstdc++",
    },
    "nvidia-driver": {
        "apt": "nvidia-driver-{branch}",
        "debian": "nvidia-driver",
        "dnf": "cuda-drivers",
        "zypper": "cuda-drivers",
        "pacman": "nvidia",
    },
    "nvidia-driver-open": {
        "apt": "nvidia-driver-{branch}-open",
        "debian": "nvidia-open",
        "dnf": "nvidia-open",
        "zypper": "nvidia-open",
        "pacman": "nvidia-open",
    },
    "nvidia-compute": {
        "apt": "libnvidia-compute-{branch}",
        "debian": "libcuda1 libnvidia-ml1",
        "dnf": "nvidia-driver-cuda",
        "zypper": "nvidia-compute-utils-G06",
        "pacman": "nvidia-utils",
    },
    "nvidia-container-toolkit": {
        "apt": "nvidia-container-toolkit",
        "dnf": "nvidia-container-toolkit",
        "zypper": "nvidia-container-toolkit",
        "pacman": "nvidia-container-toolkit",
    },
    "nvidia-fabricmanager": {
        "apt": "nvidia-fabricmanager-{branch}",
        "dnf": "nvidia-fabricmanager",
    },
    "kernel-headers": {
        "apt": "linux-headers-$(uname -r)",
        "dnf": "kernel-devel-$(uname -r)",
        "zypper": "kernel-default-devel",
        "pacman": "linux-headers",
    },
    "rdma-core": {
        "apt": "ibverbs-providers libibverbs1 rdma-core",
        "dnf": "rdma-core",
        "zypper": "rdma-core",
        "pacman": "rdma-core",
    },
}
"""Packages by what they are for and by manager (or, where a family differs, by distribution).

``{python}`` is 3.11, ``{digits}`` 311, ``{branch}`` the driver's. A key that is not here is taken for a
package's name.
"""

INSTALL_COMMANDS = {
    "apt": "apt-get update && {sudo}apt-get install -y",
    "dnf": "dnf install -y",
    "zypper": "zypper --non-interactive install",
    "pacman": "pacman -Syu --needed",
    "apk": "apk add --update-cache",
}
"""A fresh container has no package lists: apt and apk must fetch them, and pacman may not upgrade in part."""

DEFAULT_BRANCH = "580"
"""The driver branch to offer when any newer one will do: a long-lived one, and the floor of CUDA 13."""

FROM_NVIDIA = frozenset(("cuda-drivers", "nvidia-open", "nvidia-container-toolkit"))
"""Packages that come from NVIDIA's own repositories."""

_UNKNOWN_MANAGERS = ("apt", "dnf", "zypper")
"""Whose lines are shown where the system is not known."""


def install_lines(
    package: str, around: Surroundings, *, branch: str = DEFAULT_BRANCH, sudo: str = ""
) -> tuple[str, ...]:
    """One command for the system's manager, one each where it is not known, none where it has no such
    package.
    """
    names = SYSTEM_PACKAGES.get(package, dict.fromkeys(INSTALL_COMMANDS, package))
    managers = (around.system_manager,) if around.system_manager in INSTALL_COMMANDS else _UNKNOWN_MANAGERS
    version = around.python_version or "3"
    lines = []
    for manager in managers:
        name = names.get(around.distribution or "") or names.get(manager or "")
        if manager is not None and name is not None:
            name = name.format(python=version, digits=version.replace(".", ""), branch=branch)
            lines.append(f"{sudo}{INSTALL_COMMANDS[manager].format(sudo=sudo)} {name}")
    return tuple(lines)


def repository_caveat(lines: tuple[str, ...]) -> str:
    """What to know where a package is not the distribution's own."""
    if not any(each in FROM_NVIDIA for line in lines for each in line.split()):
        return ""
    return "The package comes from NVIDIA's repository, which must have been added to the system."
