"""The platform and the surroundings, on trees of machines and on this one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from envdoctor.facts import CouldNotLook, Source, Unavailable
from envdoctor.host import Host
from envdoctor.platform import Platform, look_at_platform
from envdoctor.surroundings import look_at_surroundings, system_manager_of
from envdoctor.target import Target, TargetPaths, choose
from envdoctor.tree import host_tree

HOSTS = Path(__file__).resolve().parents[2] / "fixtures" / "hosts"


def platform_of(name: str, **changes: Any) -> Platform:
    return look_at_platform(host_tree(HOSTS / name, **changes))


def described(platform: Platform) -> tuple[object, ...]:
    return (
        platform.distribution,
        platform.distribution_version,
        platform.distribution_like,
        platform.libc,
        platform.libc_version,
        platform.machine,
        platform.wsl,
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ubuntu-24.04", ("ubuntu", "24.04", ("debian",), "glibc", "2.39", "x86_64", False)),
        ("rhel-9", ("rhel", "9.4", ("fedora",), "glibc", "2.34", "aarch64", False)),
        ("alpine-3.20", ("alpine", "3.20.3", (), "musl", None, "x86_64", False)),
        ("wsl2-ubuntu-22.04", ("ubuntu", "22.04", ("debian",), "glibc", "2.35", "x86_64", True)),
        ("python-slim-container", ("debian", "12", (), "glibc", "2.36", "x86_64", False)),
    ],
)
def test_platforms(name: str, expected: tuple[object, ...]) -> None:
    platform = platform_of(name)
    assert described(platform) == expected
    assert platform.is_linux


def test_details() -> None:
    platform = platform_of("rhel-9")
    assert platform.kernel == "5.14.0-427.13.1.el9_4.aarch64+64k"
    assert platform.pretty_name == "Red Hat Enterprise Linux 9.4 (Plow)"


def test_the_first_wsl_has_no_kernel_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text("4.4.0-19041-Microsoft\n")
    assert not look_at_platform(host_tree(tmp_path)).wsl


def test_nothing_known_is_nothing_claimed(tmp_path: Path) -> None:
    assert look_at_platform(host_tree(tmp_path, machine="riscv64")) == Platform(
        system="linux", machine="riscv64", source=Source("file", "/etc/os-release")
    )


@pytest.mark.parametrize("system", ["darwin", "windows"])
def test_other_systems_have_no_c_library_of_linux(tmp_path: Path, system: str) -> None:
    platform = look_at_platform(host_tree(tmp_path, system=system))
    assert (platform.libc, platform.is_linux) == (None, False)


def test_os_release_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "host.toml").write_text('[paths."/etc/os-release"]\nerrno = "EACCES"\n')
    with pytest.raises(CouldNotLook, match="/etc/os-release: Permission denied"):
        look_at_platform(host_tree(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_this_machine_agrees_with_python() -> None:
    import platform as python

    here = look_at_platform(Host.here())
    name, version = python.libc_ver()
    assert (here.libc, here.libc_version) == (name, version) or name == ""
    assert (here.system, here.machine, here.kernel) == ("linux", os.uname().machine, os.uname().release)
    if hasattr(python, "freedesktop_os_release"):
        assert here.distribution == python.freedesktop_os_release()["ID"]


# Surroundings.


def target(python: str = "/usr/bin/python3") -> Target:
    return Target(python=python, why="", named=False, source=Source("env", "PATH"))


def paths(prefix: str, *, conda: bool = False, version: str = "3.12.3") -> TargetPaths:
    return TargetPaths(
        version=version,
        implementation="CPython",
        prefix=prefix,
        base_prefix="/usr",
        executable=f"{prefix}/bin/python",
        sys_path=(),
        site_packages=(),
        user_site=None,
        include="",
        soabi="",
        machine="x86_64",
        conda=conda,
        externally_managed=False,
        source=Source("child"),
    )


@pytest.mark.parametrize(
    ("name", "system", "engine", "root"),
    [
        ("ubuntu-24.04", "apt", "none", False),
        ("rhel-9", "dnf", "none", True),
        ("alpine-3.20", "apk", "docker", True),
        ("wsl2-ubuntu-22.04", "apt", "none", False),
        ("python-slim-container", "apt", "docker", True),
    ],
)
def test_surroundings(name: str, system: str, engine: str, root: bool) -> None:
    host = host_tree(HOSTS / name)
    around = look_at_surroundings(host, target(), look_at_platform(host), None)
    assert (around.system_manager, around.engine, around.root) == (system, engine, root)
    assert (around.python_manager, around.python_version) == (None, None)


def test_an_environment_made_by_uv() -> None:
    host = host_tree(HOSTS / "ubuntu-24.04")
    chosen = choose(host, None)
    assert chosen.python == "/home/user/project/.venv/bin/python"
    around = look_at_surroundings(host, chosen, None, paths("/home/user/project/.venv"))
    assert (around.python_manager, around.python, around.python_version) == ("uv", chosen.python, "3.12")
    assert around.system_manager is None


def test_managers_of_environments(tmp_path: Path) -> None:
    (tmp_path / "app/.venv").mkdir(parents=True)
    (tmp_path / "app/poetry.lock").touch()
    host = host_tree(tmp_path)

    def manager(known: TargetPaths | Unavailable | None) -> str | None:
        return look_at_surroundings(host, target(), None, known).python_manager

    assert manager(paths("/opt/venv")) == "pip"
    assert manager(paths("/opt/conda", conda=True)) == "conda"
    assert manager(paths("/app/.venv")) == "poetry"
    assert manager(paths("/home/u/.cache/pypoetry/virtualenvs/app-x")) == "poetry"
    assert manager(Unavailable("envdoctor.target-paths", "hung")) is None
    assert manager(None) is None


@pytest.mark.parametrize(
    ("environ", "text", "engine"),
    [
        ({}, "", "none"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "", "kubernetes"),
        ({"APPTAINER_CONTAINER": "/x.sif"}, "", "apptainer"),
        ({"SINGULARITY_CONTAINER": "/x.sif"}, "", "apptainer"),
        ({}, '"/run/.containerenv" = ""', "podman"),
        ({}, '"/.dockerenv" = ""', "docker"),
        ({}, '"/proc/self/cgroup" = "11:cpu:/kubepods/besteffort/pod1/abc"', "kubernetes"),
        ({}, '"/proc/self/cgroup" = "0::/system.slice/docker-0123456789abcdef.scope"', "docker"),
        ({}, '"/proc/self/cgroup" = "0::/user.slice/app-docker-desktop.scope"', "none"),
        ({}, '"/proc/self/cgroup" = "0::/system.slice/containerd.service"', "none"),
    ],
)
def test_container_engines(tmp_path: Path, environ: dict[str, str], text: str, engine: str) -> None:
    (tmp_path / "host.toml").write_text(f"[files]\n{text}\n")
    host = host_tree(tmp_path, environ=environ)
    assert look_at_surroundings(host, target(), None, None).engine == engine


def test_a_manager_by_the_family_of_a_distribution() -> None:
    assert system_manager_of("linuxmint", ("ubuntu", "debian")) == "apt"
    assert system_manager_of("opensuse-leap", ("suse", "opensuse")) == "zypper"
    assert system_manager_of("arch", ()) == "pacman"
    assert system_manager_of("nixos", ()) is None
    assert system_manager_of(None, ()) is None
