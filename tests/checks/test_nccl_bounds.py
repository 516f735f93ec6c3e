"""Thousands of interfaces and settings, conf files as they should not be, and libraries: a real libnccl, and none."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from typing import TYPE_CHECKING

import pytest

from envdoctor.engine import flatten, gathered
from envdoctor.facts import Source
from envdoctor.host import Host
from envdoctor.tree import host_tree
from envdoctor_checks.nccl.facts import Interface, NcclSettings, NetworkInterfaces
from envdoctor_checks.nccl.probe_network import MAX_INTERFACES, network_interfaces
from envdoctor_checks.nccl.probe_settings import MAX_SETTINGS, nccl_settings
from envdoctor_checks.nccl.probe_version import nccl_library, version_in
from envdoctor_checks.nccl.selecting import chosen
from envdoctor_checks.python.probe import distributions
from tests.support.environments import envdoctor, environ, report_of
from tests.support.torch_env import Environment

if TYPE_CHECKING:
    from pathlib import Path


def interfaces_of(folder: Path, count: int) -> Host:
    names = [f"eth{number}" for number in range(count)]
    lines = "".join(f'"/sys/class/net/{name}/flags" = "0x1043"\n' for name in names)
    lines += "".join(f'"/sys/class/net/{name}/ifindex" = "{2000 - at}"\n' for at, name in enumerate(names))
    (folder / "host.toml").write_text(f'[files]\n{lines}"/sys/class/net/bonding_masters" = "bond0"\n')
    return host_tree(folder)


def test_interfaces_come_in_the_kernels_order_and_within_the_bound(tmp_path: Path) -> None:
    seen = network_interfaces(interfaces_of(tmp_path, 300))
    assert [each.name for each in seen.interfaces[:2]] == ["eth299", "eth298"]
    assert (len(seen.interfaces), seen.omitted) == (MAX_INTERFACES, 300 - MAX_INTERFACES)


def settings(host: Host) -> NcclSettings:
    fact = gathered(flatten(nccl_settings(host))).get(NcclSettings)
    assert isinstance(fact, NcclSettings)
    return fact


def test_10_000_variables_do_not_push_out_those_that_are_judged() -> None:
    more = {f"NCCL_A{number:05d}": "1" for number in range(10_000)}
    found = settings(Host.here(environ={**more, "NCCL_SOCKET_IFNAME": "eth0", "HOME": "/nowhere"}))
    assert (len(found.settings), found.omitted) == (MAX_SETTINGS, 10_001 - MAX_SETTINGS)
    told = found.effective("NCCL_SOCKET_IFNAME")
    assert told is not None
    assert told.value == "eth0"


def test_the_report_stands_with_10_000_variables(tmp_path: Path) -> None:
    more = {f"NCCL_SOCKET_IFNAM{number}": "eth0" for number in range(5_000)}
    more |= {f"NCCL_X{number}": "\x1b[31m" for number in range(5_000)}
    done = envdoctor(
        "check",
        "--quick",
        "--format",
        "json",
        "--python",
        sys.executable,
        env=environ(tmp_path, **more, WORLD_SIZE="2"),
    )
    assert done.returncode in (0, 1), done.stderr
    document = report_of(done)
    said = [each for each in document["findings"] if each["id"] == "nccl/env-unknown"]
    assert 0 < len(said) <= 20
    assert "\\u001b" not in done.stdout
    assert "\x1b" not in done.stdout
    assert next(each for each in document["checks"] if each["name"] == "nccl")["outcome"] != "could-not-check"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"", set()),
        (b"NCCL_IB_HCA=mlx5\n# NCCL_NET=x\nPATH=/x\nno assignment\n", {"NCCL_IB_HCA"}),
        (bytes(range(256)) * 400 + b"\nNCCL_NET=Socket\n", {"NCCL_NET"}),
        (b"\x7fELF" + bytes(4096) + b"=\n", set()),
        (b"NCCL_DEBUG=INFO\n" + b"#" * (8 << 20) + b"\nNCCL_NET=Socket\n", {"NCCL_DEBUG"}),
    ],
    ids=["empty", "comments", "binary", "a library", "huge"],
)
def test_a_conf_file_whatever_is_in_it(content: bytes, names: set[str], tmp_path: Path) -> None:
    conf = tmp_path / "nccl.conf"
    conf.write_bytes(content)
    found = settings(Host.here(environ={"NCCL_CONF_FILE": str(conf)}))
    assert {each.name for each in found.settings if each.file == str(conf)} == names
    assert str(conf) in found.files


def test_a_conf_file_that_cannot_be_read_is_passed_over_as_nccl_does(tmp_path: Path) -> None:
    (tmp_path / "host.toml").write_text(
        '[process]\nuid = 1000\n[files]\n"/etc/nccl.conf" = "NCCL_NET=Socket\\n"\n[paths."/etc/nccl.conf"]\nmode = "0600"\n'
        "uid = 0\n"
    )
    assert settings(host_tree(tmp_path)) == NcclSettings(
        settings=(), source=settings(host_tree(tmp_path)).source
    )
    directory = settings(Host.here(environ={"NCCL_CONF_FILE": str(tmp_path)}))
    assert str(tmp_path) not in directory.files
    os.mkfifo(tmp_path / "pipe")
    pipe = settings(Host.here(environ={"NCCL_CONF_FILE": str(tmp_path / "pipe")}))
    assert pipe.effective("NCCL_CONF_FILE") is not None


def test_a_conf_file_that_is_named_and_not_there() -> None:
    assert (
        settings(Host.here(environ={"NCCL_CONF_FILE": "/nowhere/n.conf"})).missing_file == "/nowhere/n.conf"
    )


# The release.


@pytest.mark.slow
def test_the_release_is_read_from_the_library_of_the_real_wheel(tmp_path: Path) -> None:
    """Downloads 200 MB; without the network it is skipped."""
    venv.create(tmp_path / "pip", with_pip=True, symlinks=True)
    made = Environment(tmp_path / "env")
    wanted = "2.27.3"
    got = subprocess.run(
        [
            str(tmp_path / "pip/bin/python"),
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(made.site),
            f"nvidia-nccl-cu12=={wanted}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if got.returncode:
        pytest.skip(f"the wheel cannot be had here: {got.stderr.strip()[-200:]}")
    path = str(made.site / "nvidia/nccl/lib/libnccl.so.2")
    assert version_in(Host.here(), path) == wanted
    host, _target, paths = made.target()
    found = nccl_library(host, paths, None, None, distributions(host, paths)[0])
    assert (found.version, found.path, found.found_via) == (wanted, path, "library")


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 200, b"NCCL version 2.18.1+cuda12"]
)
def test_a_library_that_is_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "libnccl.so.2"
    path.write_bytes(content)
    assert version_in(Host.here(), str(path)) == ("2.18.1" if content.startswith(b"NCCL") else None)


def test_a_setting_of_more_interfaces_than_nccl_takes() -> None:
    many = NetworkInterfaces(
        interfaces=tuple(Interface(f"eth{at}", True, ("10.0.0.1",)) for at in range(40)),
        source=Source("text"),
    )
    assert len(chosen(many.interfaces, "eth")) == 16
