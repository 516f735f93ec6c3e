"""Device nodes, packages and the fabric manager in a pasted text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    BootTimes,
    DeviceNode,
    DeviceNodes,
    DriverPackages,
    FabricManager,
    Package,
)
from envdoctor_checks.driver.messages_kernel import RELEASE
from envdoctor_checks.driver.probe_machine import ESSENTIAL, PACKAGE
from envdoctor_checks.driver.read_kernel import seconds_of

TEXT = Source("text")
LONG = (
    r"^c(?P<mode>[rwxsStT-]{9})[.+@]?\s+\d+\s+(?P<owner>\S+)\s+(?P<group>\S+)\s+(?P<major>\d+),\s*(?P<minor>\d+)\s+.*?"
    r"\s(?:/dev/)?(?P<name>nvidia[\w/-]*|dxg)$"
)
BARE = r"(?<![\w/:'\"])(?:/dev/)?(nvidia(?:ctl|-uvm(?:-tools)?|-modeset|-caps|-nvswitch\w*|\d+)|dxg)(?=\s|$)"


@check.reader(starts=r"(?:^c[rwx-]{9}[.+]?\s+\d+\s+\S+\s+\S+\s+\d+,\s*\d+\s.*\bnvidia.*\n?)+")
def device_lines(found: FoundBlock) -> Iterator[DeviceNodes]:
    """Lines of ``ls -l`` without the command."""
    matches = (re.match(LONG, line.text) for line in found.block.lines)
    nodes = tuple(_long(each) for each in matches if each)
    if nodes:
        yield DeviceNodes(nodes=nodes, source=TEXT)


@check.reader(command=r"(?:\S*/)?(?:ls|find|stat)\b.*/dev(?:/|\b)")
def device_listing(found: FoundBlock) -> Iterator[DeviceNodes]:
    """``ls`` of device files, long or short; what its arguments cover and it does not show is absent."""
    nodes: dict[str, DeviceNode] = {}
    for line in found.block.lines:
        if "cannot access" in line.text or "No such file" in line.text:
            continue
        long = re.match(LONG, line.text)
        if long:
            nodes[f"/dev/{long['name']}"] = _long(long)
        else:
            for name in re.findall(BARE, line.text):
                nodes.setdefault(f"/dev/{name}", DeviceNode(f"/dev/{name}"))
    covered = _covered(found.command or "", found.block.command or "")
    some_gpu = any(path.removeprefix("/dev/nvidia").isdigit() for path in nodes)
    absent = tuple(
        path
        for path in ESSENTIAL
        if path in covered and path not in nodes and not (some_gpu and path == "/dev/nvidia0")
    )
    if nodes or absent:
        yield DeviceNodes(nodes=tuple(nodes.values()), absent=absent, source=TEXT)


def _long(line: re.Match[str]) -> DeviceNode:
    mode = _octal(line["mode"])
    return DeviceNode(
        path=f"/dev/{line['name']}",
        mode=mode,
        owner=line["owner"],
        group=line["group"],
        openable=True if int(mode, 8) & 0o006 == 0o006 else None,
        device=(int(line["major"]), int(line["minor"])),
    )


def _octal(letters: str) -> str:
    """``rw-rw----`` -> ``0660``."""
    bits = sum(1 << (8 - position) for position, letter in enumerate(letters) if letter not in "-ST")
    return f"{bits:04o}"


def _covered(command: str, whole: str) -> frozenset[str]:
    """Which of the essential nodes this listing would have shown."""
    if re.search(r"\|\s*(?:head|tail|wc)\b|grep -c", whole):
        return frozenset()
    words = [word.strip("'\"") for word in command.split()[1:]]
    named = {path for path in ESSENTIAL if path in words}
    everything = any(word in ("/dev/nvidia*", "/dev/nvidia?*", "/dev/nv*") for word in words)
    filtered = any(word in ("/dev", "/dev/") for word in words) and re.search(
        r"grep\b[^|]*\bnvidia['\"]?\s*(?:$|\||;)", whole
    )
    return frozenset(ESSENTIAL) if everything or filtered else frozenset(named)


DPKG = r"^(?:(?P<state>[uihrp][ncHUFWti]R?)\s+)?(?P<name>[a-z0-9][a-z0-9+.-]+)(?::\w+)?[\s]+(?P<version>(?:\d+:)?\d[\w.+~:-]*)(?:\s|$)"
APT = r"^(?P<name>[a-z0-9][a-z0-9+.-]+)/\S+ (?P<version>\S+) \S+ \[installed"
RPM = (
    r"^(?P<name>[A-Za-z][\w+.-]*?)-(?P<version>(?:\d+:)?\d[\w.~^]*-[\w.~+]+)\.(?:x86_64|aarch64|noarch|i686)$"
)
AKMOD = r"^(?P<name>kmod-nvidia)-\S+\.(?:x86_64|aarch64)-(?P<version>\d+\.[\d.]+-[\w.]+)\.(?:x86_64|aarch64)$"
LISTS_PACKAGES = r"(?:\S*/)?(?:dpkg|dpkg-query|apt|apt-cache|rpm|dnf|yum|zypper|pacman)\b"


@check.reader(starts=r"(?:^[ih][iUFHW]\s+\S*(?:nvidia|libcuda)\S*\s+\d.*\n?)+")
def package_lines(found: FoundBlock) -> Iterator[DriverPackages]:
    """Lines of ``dpkg -l`` without the command."""
    yield from _packages([line.text for line in found.block.lines])


@check.reader(command=LISTS_PACKAGES)
def package_list(found: FoundBlock) -> Iterator[DriverPackages]:
    """dpkg, apt, rpm and pacman, also after awk took columns out."""
    yield from _packages([line.text for line in found.block.lines])


def _packages(lines: list[str]) -> Iterator[DriverPackages]:
    matches = (
        re.match(AKMOD, text) or re.match(RPM, text) or re.match(APT, text) or re.match(DPKG, text)
        for text in lines
    )
    packages = tuple(
        Package(each["name"], each["version"], each.groupdict().get("state") or "installed")
        for each in matches
        if each and PACKAGE.search(each["name"])
    )
    if packages:
        yield DriverPackages(packages=packages, source=TEXT)


ACTIVE = r"^\s*Active: (?P<state>\w+)(?: \((?P<sub>[^)]*)\))?(?P<rest>.*)$"


@check.reader(starts=r"nvidia-fabricmanager\.service - ", max_lines=8)
def fabric_manager_status(found: FoundBlock) -> Iterator[FabricManager | BootTimes]:
    """``systemctl status nvidia-fabricmanager``."""
    for line in found.block.lines[1:]:
        active = re.match(ACTIVE, line.text)
        if active:
            running = active["state"] == "active" and active["sub"] == "running"
            yield FabricManager(release=None, running=running, source=TEXT)
            since = seconds_of(active["rest"])
            if running and since is not None:
                yield BootTimes(machine=None, fabric_manager=since, source=TEXT)
            return


@check.reader(command=r"systemctl (?:is-active|show)\b.*nvidia-fabricmanager")
def fabric_manager_state(found: FoundBlock) -> Iterator[FabricManager | BootTimes]:
    """``systemctl is-active`` prints one word per unit, in their order; ``show`` prints properties."""
    lines = [line.text.strip() for line in found.block.lines]
    state = next((line.partition("=")[2] for line in lines if line.startswith("ActiveState=")), "")
    if not state:
        units = [word for word in (found.command or "").split()[2:] if not word.startswith("-")]
        states = [line for line in lines if line in ("active", "inactive", "failed", "activating", "unknown")]
        position = next(index for index, unit in enumerate(units) if unit.startswith("nvidia-fabricmanager"))
        state = states[position] if position < len(states) else ""
    if state:
        yield FabricManager(release=None, running=state == "active", source=TEXT)
    since = next((seconds_of(line) for line in lines if line.startswith("ActiveEnterTimestamp=")), None)
    if state == "active" and since is not None:
        yield BootTimes(machine=None, fabric_manager=since, source=TEXT)


@check.reader(starts=rf"^Fabric Manager version is : {RELEASE}", max_lines=1)
def fabric_manager_version(found: FoundBlock) -> Iterator[FabricManager]:
    """``nv-fabricmanager --version``."""
    release = found.block.lines[0].text.partition(" : ")[2].strip()
    yield FabricManager(release=release, running=None, source=TEXT)
