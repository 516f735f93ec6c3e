"""The kernel's side in a pasted text: modules, PCI devices, DKMS, Secure Boot."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    MODULES,
    BootTimes,
    Dkms,
    DkmsBuild,
    KernelModule,
    LoadedModules,
    ModuleFiles,
    ModuleOnDisk,
    PciDevice,
    PciDevices,
    RunningKernel,
    SecureBoot,
)
from envdoctor_checks.driver.probe_kernel import PCI_KINDS, RELEASE, flavour_in, release_in
from envdoctor_checks.driver.read_filters import shown_by

TEXT = Source("text")


@check.reader(starts=r"NVRM version: NVIDIA UNIX", max_lines=1)
def proc_version(found: FoundBlock) -> Iterator[KernelModule]:
    """The first line of ``/proc/driver/nvidia/version``."""
    text = found.block.lines[0].text
    release = release_in(text)
    if release:
        yield KernelModule(release=release, flavour=flavour_in(text), source=TEXT)


@check.reader(command=r"(?:cat|head|more|less)\b.*\s/sys/module/nvidia/version")
def sys_version(found: FoundBlock) -> Iterator[KernelModule]:
    """The release alone on a line, or that there is no such file."""
    for line in found.block.lines:
        if RELEASE.fullmatch(line.text.strip()):
            yield KernelModule(release=line.text.strip(), source=TEXT)
        elif "/sys/module/nvidia/version" in line.text and "No such file" in line.text:
            yield KernelModule(release=None, source=TEXT)


@check.reader(command=r"(?:\S*/)?modinfo\b.*\bnvidia(?:-current)?\b")
def modinfo(found: FoundBlock) -> Iterator[ModuleOnDisk | ModuleFiles]:
    """All of modinfo, or one field of it (``-F version``, ``-n``)."""
    for line in found.block.lines:
        key, _, value = line.text.partition(":")
        text = value.strip() if key in ("version", "filename") else line.text.strip()
        if RELEASE.fullmatch(text):
            yield ModuleOnDisk(release=text, source=TEXT)
        file = re.match(r"/(?:usr/)?lib/modules/([^/]+)/\S*nvidia[\w-]*\.ko", text)
        if file:
            yield ModuleFiles(
                running_kernel=file[1], kernels_with_module=(file[1],), modules_directory=True, source=TEXT
            )


@check.reader(command=r"(?:\S*/)?uname\b")
def uname(found: FoundBlock) -> Iterator[RunningKernel]:
    """``uname -r``, or ``-a`` with the release as its third word."""
    for line in found.block.lines:
        told = re.match(r"(?:Linux \S+ )?(\d+\.\d+\.\d+\S*)(?:$| #)", line.text.strip())
        if told:
            yield RunningKernel(release=told[1], source=TEXT)
            return


@check.reader(
    command=r"(?:\S*/)?lsmod\b|(?:cat|grep|egrep|awk|head)\b.*/proc/modules",
    starts=r"^Module\s+Size\s+Used by",
)
def lsmod(found: FoundBlock) -> Iterator[LoadedModules]:
    """What is shown is loaded; what the filter behind lsmod would have shown and did not is not."""
    words = [line.text.split() for line in found.block.lines]
    loaded = {each[0].replace("-", "_") for each in words if len(each) > 1 and each[1].isdigit()}
    shown = shown_by(found.block.command or "", r"lsmod\b|/proc/modules")
    absent = tuple(
        name for name in MODULES if name not in loaded and shown is not None and shown(f"{name} 1 0")
    )
    known = tuple(name for name in MODULES if name in loaded)
    if known or absent:
        yield LoadedModules(loaded=known, absent=absent, source=TEXT)


PCI_LINE = (
    r"^(?P<address>(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) (?P<class>[\w /-]+?)(?: \[(?P<code>[0-9a-f]{4})\])?:"
    r" NVIDIA Corporation (?P<name>.*?)(?: \[10de:(?P<device>[0-9a-f]{4})\])?(?: \(rev [0-9a-f]+\))?$"
)
IN_USE = r"^\s+Kernel driver in use: (\S+)"


PCI_START = r"^(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] .*NVIDIA Corporation.*\n?(?:^[ \t]+.*\n?)*"


@check.reader(starts=rf"(?:{PCI_START})+", max_lines=200)
def lspci_lines(found: FoundBlock) -> Iterator[PciDevices]:
    """Devices without the command."""
    lines = [line.text for line in found.block.lines]
    listed = _pci_devices(lines)
    if listed:
        yield PciDevices(devices=tuple(listed), drivers_known=_shows_drivers(lines, None), source=TEXT)


@check.reader(command=r"(?:\S*/)?lspci\b")
def lspci(found: FoundBlock) -> Iterator[PciDevices]:
    """lspci with or without ``-k`` and ``-nn``; nothing at all where it was filtered for NVIDIA and shows none."""
    lines = [line.text for line in found.block.lines]
    listed = _pci_devices(lines)
    filtered = re.search(r"(?i)nvidia|10de", found.block.command or "")
    if listed or (filtered and not lines):
        yield PciDevices(
            devices=tuple(listed), drivers_known=_shows_drivers(lines, found.command), source=TEXT
        )


def _shows_drivers(lines: list[str], command: str | None) -> bool:
    asked = re.search(r"\s-\w*k", command or "")
    return bool(asked) or any("Kernel driver in use" in line or "Kernel modules:" in line for line in lines)


def _pci_devices(lines: list[str]) -> list[PciDevice]:
    listed: list[PciDevice] = []
    for line in lines:
        device, used = re.match(PCI_LINE, line), re.match(IN_USE, line)
        if device:
            listed.append(_pci_device(device))
        elif used and listed:
            last = listed.pop()
            listed.append(PciDevice(last.address, last.device_id, last.kind, used[1], last.name))
    return listed


def _pci_device(line: re.Match[str]) -> PciDevice:
    address = line["address"] if line["address"].count(":") == 2 else f"0000:{line['address']}"
    kind = PCI_KINDS.get(f"0x{line['code']}") if line["code"] else None
    if kind is None and line["class"] in ("VGA compatible controller", "3D controller"):
        kind = "gpu"
    if kind is None and "NVSwitch" in line["name"]:
        kind = "nvswitch"
    return PciDevice(address, line["device"] or "", kind or "other", None, line["name"])


DKMS_LINE = r"^(?P<module>nvidia[\w-]*)[/,] ?(?P<release>\d[\w.-]*)(?:, (?P<kernel>[^,:\s]+)(?:, (?P<machine>\w+))?)?: (?P<state>\w+)"


@check.reader(
    command=r"(?:\S*/)?dkms status\b",
    starts=r"(?:^nvidia[\w-]*[/,] ?\d{3}\.\d[\w.-]*(?:, [^,:\n]+)*: \w+.*\n?)+",
)
def dkms_status(found: FoundBlock) -> Iterator[Dkms]:
    """``nvidia/535.183.01, 6.8.0-45-generic, x86_64: installed``; older releases put a comma after the name."""
    matches = [re.match(DKMS_LINE, line.text) for line in found.block.lines]
    builds = tuple(
        DkmsBuild(each["module"], each["release"], each["kernel"], each["state"]) for each in matches if each
    )
    if builds or not found.block.lines:
        yield Dkms(builds=builds, source=TEXT)


@check.reader(starts=r"^[ \t]*(?:SecureBoot|Secure Boot:) (?:enabled|disabled)", max_lines=1)
def secure_boot_state(found: FoundBlock) -> Iterator[SecureBoot]:
    """``mokutil --sb-state`` and bootctl."""
    yield SecureBoot(enabled="enabled" in found.block.lines[0].text, source=TEXT)


@check.reader(starts=r"^[ \t]*system boot\s+\d{4}-\d\d-\d\d \d\d:\d\d", max_lines=1)
def who_b(found: FoundBlock) -> Iterator[BootTimes]:
    """``who -b``, in the machine's own time zone."""
    yield BootTimes(machine=seconds_of(found.block.lines[0].text), fabric_manager=None, source=TEXT)


MOMENT = r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d)"


def seconds_of(text: str) -> float | None:
    """The first date and time of a text, as if it were UTC: times of one text are only compared with each other."""
    told = re.search(MOMENT, text)
    if told is None:
        return None
    import calendar

    year, month, day, hour, minute = (int(part) for part in told.groups())
    return float(calendar.timegm((year, month, day, hour, minute, 0)))
