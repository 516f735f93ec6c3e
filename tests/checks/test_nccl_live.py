"""Interfaces of real network namespaces: what the probe sees, what NCCL would take, and what the whole program says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from envdoctor_checks.nccl.probe_network import MAX_INTERFACES
from tests.support.environments import DEADLINE, envdoctor, environ, report_of, verdicts

if TYPE_CHECKING:
    from pathlib import Path

SHOW = """
import json, subprocess, sys
import msgspec
from envdoctor.facts import Source
from envdoctor.host import Host
from envdoctor_checks.nccl.probe_network import network_interfaces
from envdoctor_checks.nccl.selecting import chosen
seen = network_interfaces(Host.here())
taken = {word: [each.name for each in chosen(seen.interfaces, word or None)] for word in sys.argv[1:]}
told = subprocess.run(["ip", "-j", "addr"], stdout=subprocess.PIPE, check=True).stdout
print(json.dumps({"facts": msgspec.to_builtins(seen), "taken": taken, "ip": json.loads(told)}))
"""
OWN_SYS = "mount --make-rprivate / && mount -t sysfs sysfs /sys"
PAIR = "ip link add a0 type veth peer name a1"


def _namespaces() -> str | None:
    """Why there can be no network namespace with interfaces of our own; None where there can."""
    if sys.platform != "linux" or os.getuid() != 0:
        return "only root may make network namespaces with interfaces"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "no ip or unshare command"
    tried = subprocess.run(
        ["unshare", "-n", "-m", "sh", "-ec", f"{OWN_SYS}; {PAIR}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"no network namespaces here: {tried.stderr.strip()}"


WHY_NOT = _namespaces()
needs_namespaces = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


class Seen:
    """What the probe saw in a namespace, what NCCL would take there, and what `ip` says."""

    def __init__(self, setup: str, *settings: str) -> None:
        done = subprocess.run(
            [
                "unshare",
                "-n",
                "-m",
                "sh",
                "-ec",
                f'{setup}; exec "$@"',
                "sh",
                sys.executable,
                "-c",
                SHOW,
                *settings,
            ],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        self.taken: dict[str, list[str]] = told["taken"]
        self.omitted: int = told["facts"].get("omitted", 0)
        self.interfaces = {each["name"]: each for each in told["facts"]["interfaces"]}
        self.ip = {
            each["ifname"]: (
                "UP" in each["flags"] and each["operstate"] in ("UP", "UNKNOWN"),
                sorted(address["local"] for address in each["addr_info"]),
            )
            for each in told["ip"]
        }

    def agrees(self) -> bool:
        """Whether the probe tells of every interface what `ip` tells."""
        ours = {
            name: (each.get("up"), sorted(each.get("addresses", ())))
            for name, each in self.interfaces.items()
        }
        assert ours == self.ip
        return True


@needs_namespaces
def test_a_new_namespace_has_a_loopback_interface_that_is_down() -> None:
    seen = Seen(OWN_SYS, "", "lo", "^docker0")
    assert seen.agrees()
    assert seen.interfaces == {"lo": {"name": "lo", "up": False, "addresses": []}}
    assert seen.taken == {"": [], "lo": [], "^docker0": []}


@needs_namespaces
def test_sys_of_another_namespace_is_not_believed() -> None:
    """`unshare -n` alone leaves the /sys of the machine, with its eth0, which this process cannot use."""
    seen = Seen("ip link add onlyhere0 type veth peer name onlyhere1", "")
    assert set(seen.interfaces) == {"lo", "onlyhere0", "onlyhere1"}
    assert {each.get("up") for each in seen.interfaces.values()} == {None}
    seen = Seen(
        f"ip link set lo up; {PAIR}; ip addr add 10.9.0.1/24 dev a0; ip link set a0 up; ip link set a1 up", ""
    )
    assert seen.interfaces["a0"]["addresses"][0] == "10.9.0.1"
    assert seen.taken == {"": ["a0", "a1"]}  # a1 has a link-local IPv6 address of its own


@needs_namespaces
def test_loopback_alone_is_taken() -> None:
    seen = Seen(f"{OWN_SYS}; ip link set lo up", "", "eth", "^lo", "=lo")
    assert seen.agrees()
    assert seen.taken == {"": ["lo"], "eth": [], "^lo": [], "=lo": ["lo"]}


NET = f"""{OWN_SYS}; sysctl -qw net.ipv6.conf.default.disable_ipv6=1; ip link set lo up
{PAIR}; ip link add ib0 type veth peer name ib1; ip link add docker0 type bridge; ip link add wlan0 type veth peer name far0
ip addr add 10.9.0.1/24 dev a0; ip addr add 10.8.0.1/24 dev ib0; ip addr add 172.17.0.1/16 dev docker0
ip addr add 10.7.0.1/24 dev wlan0; ip link set a1 master docker0
for each in a0 a1 ib0 ib1 docker0; do ip link set $each up; done; ip link set wlan0 up
for each in $(seq 100); do ip link show docker0 | grep -q 'state UP' && break; sleep 0.05; done"""


@needs_namespaces
def test_what_nccl_takes_by_its_setting() -> None:
    """a0 and ib0 have a link; docker0 is a bridge with a member; wlan0 is up and its other end down; ib1 has no address.

    A setting of one character counts as none.
    """
    wanted = {
        "": ["ib0"],
        "a": ["ib0"],
        "a0": ["a0"],
        "=a0x": [],
        "=a0,docker0": ["a0", "docker0"],
        "^=a0": ["ib0", "docker0", "lo"],
        "^docker,lo": ["a0", "ib0"],
        "^docker0": ["a0", "ib0", "lo"],
        "ib": ["ib0"],
        "wlan": [],
        "x,ib0:1": ["ib0"],
    }
    seen = Seen(NET, *wanted)
    assert seen.agrees()
    assert {word: set(names) for word, names in seen.taken.items()} == {
        word: set(names) for word, names in wanted.items()
    }
    assert seen.interfaces["wlan0"] == {"name": "wlan0", "up": False, "addresses": ["10.7.0.1"]}
    assert seen.interfaces["ib1"]["up"] is True
    assert seen.interfaces["ib1"]["addresses"] == []


@needs_namespaces
def test_500_interfaces_are_read_as_far_as_the_bound() -> None:
    many = "".join(f"link add v{number} type veth peer name w{number}\n" for number in range(250))
    seen = Seen(f"{OWN_SYS}; ip link set lo up; printf '{many}' | ip -batch -", "")
    assert len(seen.interfaces) == MAX_INTERFACES
    assert seen.omitted == 501 - MAX_INTERFACES
    assert seen.taken == {"": ["lo"]}


# The whole program in such a namespace: live, recorded, and as its user would paste it.

JOB = {"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8", "RANK": "9", "MASTER_PORT": "29431"}


class Thrice:
    """What `check` says in a namespace, and what it says of the recording that was made there."""

    def __init__(self, folder: Path, setup: str, env: dict[str, str]) -> None:
        look = f"{sys.executable} -m envdoctor"
        script = (
            f"{setup}\n{look} check --format json --python {sys.executable} > live.json &\n"
            f"{look} record --python {sys.executable} -o facts.json\nwait"
        )
        done = subprocess.run(
            ["unshare", "-n", "-m", "-u", "sh", "-ec", script],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.live = self._ours(json.loads((folder / "live.json").read_text()))
        later = envdoctor("check", "--format", "json", "--facts", "facts.json", env=env, cwd=folder)
        self.recorded = self._ours(report_of(later))

    @staticmethod
    def _ours(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
        """By id: severity and subject."""
        return {each[0]: (each[1], each[3]) for each in verdicts(document) if each[0].startswith("nccl/")}


def pasted(folder: Path, env: dict[str, str], text: str) -> dict[str, tuple[str, str]]:
    done = envdoctor("explain", "--format", "json", env=env, cwd=folder, stdin=text)
    return Thrice._ours(report_of(done))


HOSTS = 'hostname node-k7; printf "127.0.0.1 localhost\\n127.0.1.1 node-k7\\n" > hosts; mount --bind hosts /etc/hosts'


@needs_namespaces
def test_names_that_fit_no_interface(tmp_path: Path) -> None:
    wrong = {"NCCL_SOCKET_IFNAME": "bond", "GLOO_SOCKET_IFNAME": "bond0", "MASTER_ADDR": "node-k7"}
    env = {**environ(tmp_path), **JOB, **wrong}
    seen = Thrice(tmp_path, f"{NET}; {HOSTS}", env)
    assert seen.live == seen.recorded
    ids = {"nccl/socket-ifname-no-match", "nccl/gloo-ifname-invalid", "nccl/master-addr-wrong"}
    assert ids <= set(seen.live)
    assert seen.live["nccl/socket-ifname-no-match"] == ("error", "variable:NCCL_SOCKET_IFNAME")
    assert seen.live["nccl/master-addr-wrong"] == ("error", "variable:MASTER_ADDR")
    text = (
        "node-k7:71:71 [1] NCCL INFO NCCL_SOCKET_IFNAME set by environment to bond\n"
        "node-k7:71:71 [1] bootstrap.cc:48 NCCL WARN Bootstrap : no socket interface found\n"
        "[enforce fail at /pytorch/third_party/gloo/gloo/transport/tcp/device.cc:84] ifa != nullptr. "
        "Unable to find address for: bond0\n"
        "torch.distributed.DistNetworkError: The client socket has timed out after 60000ms while trying to connect to "
        "(node-k7, 29431).\n"
    )
    said = pasted(tmp_path, env, text)
    assert {name: said.get(name) for name in ids} == {name: seen.live[name] for name in ids}


@needs_namespaces
def test_a_host_name_on_127_0_1_1(tmp_path: Path) -> None:
    env = {**environ(tmp_path), **JOB, "MASTER_ADDR": "10.9.0.1"}
    seen = Thrice(tmp_path, f"{NET}; {HOSTS}", env)
    assert seen.live == seen.recorded
    assert seen.live["nccl/hostname-loopback"] == ("warning", "variable:GLOO_SOCKET_IFNAME")
    assert "nccl/master-addr-wrong" not in seen.live  # rank 9 need not hold that address
    text = (
        "[W1124 09:00:00.1 ProcessGroupGloo.cpp:514] Warning: Unable to resolve hostname to a (local) address. "
        "Using the loopback address as fallback. Manually set the network interface\n"
        "RuntimeError: Gloo connectFullMesh failed with [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:152] "
        "timed out connecting: SO_ERROR: Connection refused, remote=[127.0.1.1]:20001\n"
    )
    assert pasted(tmp_path, env, text)["nccl/hostname-loopback"][1] == "variable:GLOO_SOCKET_IFNAME"


@needs_namespaces
def test_no_interface_at_all(tmp_path: Path) -> None:
    env = {**environ(tmp_path), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    seen = Thrice(tmp_path, OWN_SYS, env)
    assert seen.live == seen.recorded
    assert seen.live["nccl/no-ip-interface"] == ("error", "")
    text = "# ip -br addr\nlo               DOWN\nk:9:9 [0] NCCL WARN Bootstrap : no socket interface found\n"
    assert pasted(tmp_path, env, text)["nccl/no-ip-interface"] == ("error", "")
