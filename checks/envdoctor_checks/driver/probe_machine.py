"""What files tell beside the kernel: device nodes, packages, the fabric manager. Nothing here starts a program."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from envdoctor.api import CouldNotLook, Host, Source, Stat, Tier, Unavailable
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    BootTimes,
    DeviceNode,
    DeviceNodes,
    DriverPackages,
    FabricManager,
    Package,
    PciDevices,
)
from envdoctor_checks.driver.probe_kernel import release_in, without_gpu

ESSENTIAL = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm")
"""Without these, CUDA does not start; ``nvidia0`` stands for the first GPU, which has another number at times."""
PACKAGE = re.compile(r"nvidia|libcuda|cuda-drivers|cuda-compat")
CLOCK_TICKS = 100
"""Per second, in /proc/PID/stat: USER_HZ, which is 100 on every architecture that NVIDIA supports."""


@check.probe(tier=Tier.QUICK)
def device_nodes(host: Host) -> DeviceNodes:
    """Owner, mode and openability of every device file of the driver."""
    paths = [
        f"/dev/{name}" for name in host.names("/dev") or () if name.startswith("nvidia") or name == "dxg"
    ]
    for folder in ("/dev/nvidia-caps", "/dev/nvidia-caps-imex-channels"):
        paths += [f"{folder}/{name}" for name in host.names(folder) or ()]
    status = {path: host.status(path) for path in paths}
    kept = {path: each for path, each in status.items() if each is not None and each.kind != "directory"}
    users = _names_by_id(host, "/etc/passwd") if kept else {}
    groups = _names_by_id(host, "/etc/group") if kept else {}
    nodes = tuple(_node(host, path, each, users, groups) for path, each in kept.items())
    some_gpu = any(node.path.removeprefix("/dev/nvidia").isdigit() for node in nodes)
    absent = tuple(
        path for path in ESSENTIAL if path not in kept and not (some_gpu and path == "/dev/nvidia0")
    )
    return DeviceNodes(nodes=nodes, absent=absent, source=Source("file", "/dev"))


def _node(host: Host, path: str, status: Stat, users: dict[int, str], groups: dict[int, str]) -> DeviceNode:
    return DeviceNode(
        path=path,
        mode=f"{status.mode:04o}",
        owner=users.get(status.uid, str(status.uid)),
        group=groups.get(status.gid, str(status.gid)),
        openable=host.may(path, os.R_OK | os.W_OK),
        device=status.device,
    )


def _names_by_id(host: Host, path: str) -> dict[int, str]:
    """``/etc/passwd`` or ``/etc/group``: ``name:x:id:...``; name services are not asked."""
    entries = (line.split(":") for line in (host.text(path) or "").splitlines())
    return {int(each[2]): each[0] for each in entries if len(each) > 2 and each[2].isdigit()}


@check.probe(tier=Tier.QUICK)
def driver_packages(host: Host, pci: PciDevices | Unavailable | None) -> DriverPackages | None:
    """dpkg's status file or pacman's folder, read as the text they are; rpm's database is not opened."""
    if without_gpu(pci):
        return None
    path = "/var/lib/dpkg/status"
    text = host.text(path, limit=64 << 20)
    if text is not None:
        return DriverPackages(packages=tuple(_dpkg_packages(text)), source=Source("file", path))
    path = "/var/lib/pacman/local"
    names = host.names(path)
    if names is None:
        return None
    return DriverPackages(packages=tuple(_pacman_packages(names)), source=Source("file", path))


def _dpkg_packages(text: str) -> list[Package]:
    found = []
    for match in re.finditer(r"(?m)^Package: (\S+)$", text):
        if not PACKAGE.search(match.group(1)):
            continue
        end = text.find("\n\n", match.start())
        stanza = text[match.start() : end if end >= 0 else None]
        fields = dict(re.findall(r"(?m)^([A-Z][\w-]+): (.*)$", stanza))
        words = fields.get("Status", "").split()
        if len(words) == 3 and "Version" in fields:
            found.append(Package(match.group(1), fields["Version"], _dpkg_letters(words)))
    return found


def _dpkg_letters(words: list[str]) -> str:
    """``install ok unpacked`` -> ``iU``, as ``dpkg -l`` prints it."""
    want = {"install": "i", "hold": "h", "deinstall": "r", "purge": "p", "unknown": "u"}
    have = {
        "installed": "i", "unpacked": "U", "half-configured": "F", "half-installed": "H", "config-files": "c",
        "triggers-awaited": "W", "triggers-pending": "t", "not-installed": "n",
    }  # fmt: skip
    return want.get(words[0], "?") + have.get(words[2], "?") + ("" if words[1] == "ok" else "R")


def _pacman_packages(names: tuple[str, ...]) -> list[Package]:
    """Folders are named ``<name>-<version>-<release of the package>``."""
    parts = (name.rsplit("-", 2) for name in names if PACKAGE.search(name))
    return [Package(each[0], f"{each[1]}-{each[2]}", "installed") for each in parts if len(each) == 3]


@check.probe(tier=Tier.QUICK)
def fabric_manager(
    host: Host, packages: DriverPackages | None, pci: PciDevices | Unavailable | None
) -> Iterator[FabricManager | BootTimes]:
    """The daemon's package and whether it runs, on a machine with NVSwitches or with the daemon."""
    switches = isinstance(pci, PciDevices) and any(each.kind == "nvswitch" for each in pci.devices)
    if not switches and not host.exists("/usr/bin/nv-fabricmanager"):
        return
    release = next(
        (
            release_in(package.version)
            for package in (packages.packages if packages else ())
            if package.name.startswith("nvidia-fabricmanager")
            and package.state.startswith(("ii", "hi", "inst"))
        ),
        None,
    )
    pid, running = _process(host, "nv-fabricmanager")
    yield FabricManager(release=release, running=running, source=Source("file", "/proc"))
    started = _started(host, pid) if pid else None
    yield BootTimes(machine=_booted(host), fabric_manager=started, source=Source("file", "/proc/stat"))


def _process(host: Host, name: str) -> tuple[str | None, bool | None]:
    """The process of that name and whether there is one; None where PID 1 is no init system: a container's table."""
    first = (host.text("/proc/1/comm") or "").strip()
    wanted = name[:15]  # the kernel keeps fifteen characters of a process's name
    for pid in host.names("/proc") or ():
        if pid.isdigit() and _comm(host, pid) == wanted:
            return pid, True
    return None, False if first in ("systemd", "init") else None


def _comm(host: Host, pid: str) -> str:
    try:
        return (host.text(f"/proc/{pid}/comm") or "").strip()
    except CouldNotLook:
        return ""  # it ended while we looked, or hidepid hides it


def _booted(host: Host) -> float | None:
    told = re.search(r"(?m)^btime (\d+)$", host.text("/proc/stat") or "")
    return float(told.group(1)) if told else None


def _started(host: Host, pid: str) -> float | None:
    """The 22nd field of stat: ticks after the boot; the second one, in parentheses, may hold spaces."""
    fields = (host.text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
    booted = _booted(host)
    if booted is None or len(fields) < 20 or not fields[19].isdigit():
        return None
    return booted + int(fields[19]) / CLOCK_TICKS
