"""Interfaces, RDMA devices, conf files, PCIe access control and the IOMMU in a pasted text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.nccl.addresses import is_address
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    Gid,
    HostsEntry,
    Interface,
    IommuState,
    NcclSettings,
    NetworkInterfaces,
    PcieAcs,
    PcieBridge,
    PeerMemory,
    RdmaDevices,
    RdmaPort,
)
from envdoctor_checks.nccl.gids import short_gid
from envdoctor_checks.nccl.probe_network import addresses_of
from envdoctor_checks.nccl.probe_pci import REDIRECT, iommu_options
from envdoctor_checks.nccl.probe_settings import parse_conf

TEXT = Source("text")
SEVERAL = r"[;|&]"
"""A command with a filter, or one of several whose outputs follow each other."""
BRIEF = r"^(?P<name>[\w.-]+)(?:@[\w.-]+)?\s+(?P<state>UP|DOWN|UNKNOWN|LOWERLAYERDOWN|DORMANT|TESTING|NOTPRESENT)\b(?P<rest>.*)$"
LONG = r"^\d+: (?P<name>[\w.-]+)(?:@[\w.-]+)?: <(?P<flags>[A-Z0-9_,-]*)>.*?\bstate (?P<state>[A-Z]+)"


def _alone(found: FoundBlock) -> bool:
    """Whether everything that the command prints is here, and nothing else."""
    return not re.search(SEVERAL, found.block.command or "")


@check.reader(command=r"(?:\S*/)?ip\b(?: -\S+)* (?:a|addr|address|l|link)(?: (?:show|list|ls))?\s*$")
def ip_addresses(found: FoundBlock) -> Iterator[NetworkInterfaces]:
    """All interfaces, brief or long; a listing of one device or behind a filter tells too little."""
    if re.search(r"\bip\b[^;&]*\|", found.block.command or ""):
        return
    one_family = re.search(r" -(?P<which>4|6|f\w*) ", found.command or "")
    # NCCL takes IPv4 addresses where there are any, so a listing of these alone tells enough of an interface.
    told_enough = one_family is None or one_family["which"] == "4"
    with_addresses = bool(re.search(r" a(?:ddr|ddress)?\b", found.command or "")) and told_enough
    interfaces: list[Interface] = []
    for line in found.block.lines:
        brief, long = re.match(BRIEF, line.text), re.match(LONG, line.text)
        inet = re.match(r"\s+inet6? (?P<address>\S+)", line.text)
        head = long or brief
        if head:
            up = head["state"] in ("UP", "UNKNOWN") and (long is None or "UP" in long["flags"].split(","))
            told = _addresses(brief["rest"]) if brief and with_addresses else ()
            interfaces.append(Interface(head["name"], up, told if with_addresses else None))
        elif inet and interfaces and with_addresses:
            last = interfaces.pop()
            more = (*(last.addresses or ()), inet["address"].partition("/")[0])
            interfaces.append(Interface(last.name, last.up, more))
    if interfaces:
        # ``-4`` leaves out interfaces without such an address: there may be more.
        yield NetworkInterfaces(interfaces=tuple(interfaces), omitted=int(bool(one_family)), source=TEXT)


def _addresses(text: str) -> tuple[str, ...]:
    found = (word.partition("/")[0] for word in text.split() if "/" in word)
    return tuple(each for each in found if is_address(each))


STATE = r"^\s*[Ss]tate:\s+(?:PORT_)?(?P<state>\w+)"
LINK = r"^\s*[Ll]ink[ _]layer:\s+(?P<link>InfiniBand|Ethernet)"
GID = r"^\s*GID\[\s*(?P<index>\d+)\]:\s+(?P<gid>[0-9a-fA-F:.]+)(?:,\s*(?P<kind>RoCE v[12]|IB))?"


@check.reader(starts=r"^(?:CA '|hca_id:\s)", max_lines=400)
def rdma_ports(found: FoundBlock) -> Iterator[RdmaDevices]:
    """One device in ``ibstat`` or ``ibv_devinfo``, if its ports are shown."""
    named = re.match(r"(?:CA '|hca_id:\s*)(?P<device>[\w.-]+)", found.block.lines[0].text)
    ports: list[RdmaPort] = []
    for line in found.block.lines[1:]:
        port = re.match(r"^\s+[Pp]ort(?: |:\s+)(?P<port>\d+):?$", line.text)
        state, link, gid = (re.match(each, line.text) for each in (STATE, LINK, GID))
        if port and named:
            ports.append(RdmaPort(named["device"], int(port["port"])))
        elif ports and (state or link or gid):
            last = ports.pop()
            ports.append(
                RdmaPort(
                    device=last.device,
                    port=last.port,
                    active=state["state"].upper() == "ACTIVE" if state else last.active,
                    link=_link(link["link"]) if link else last.link,
                    gids=(*(last.gids or ()), _gid(gid)) if gid else last.gids,
                )
            )
    if ports:
        yield RdmaDevices(ports=tuple(ports), source=TEXT)


def _link(text: str) -> Literal["InfiniBand", "Ethernet"]:
    return "Ethernet" if text == "Ethernet" else "InfiniBand"


def _gid(match: re.Match[str]) -> Gid:
    return Gid(int(match["index"]), short_gid(match["gid"]), match["kind"])


@check.reader(starts=r"^DEV\s+PORT\s+INDEX\s+GID\b")
def gid_table(found: FoundBlock) -> Iterator[RdmaDevices]:
    """``show_gids``: the entries that are not empty."""
    gids: dict[tuple[str, int], list[Gid]] = {}
    for line in found.block.lines[1:]:
        row = re.match(
            r"^(?P<device>\w+)\s+(?P<port>\d+)\s+(?P<index>\d+)\s+(?P<gid>[0-9a-f:]{15,})\s", line.text
        )
        if row:
            version = re.search(r"\sv(?P<version>[12])\b", line.text)
            kind = f"RoCE v{version['version']}" if version else None
            gid = Gid(int(row["index"]), short_gid(row["gid"]), kind)
            gids.setdefault((row["device"], int(row["port"])), []).append(gid)
    if gids:
        ports = tuple(RdmaPort(device, port, gids=tuple(each)) for (device, port), each in gids.items())
        yield RdmaDevices(ports=ports, source=TEXT)


@check.reader(command=r"(?:\S*/)?ls\b(?: -\S+)* /sys/class/infiniband/?\s*$")
def rdma_listing(found: FoundBlock) -> Iterator[RdmaDevices]:
    """No output, or no folder: no device. Names alone do not tell the ports."""
    if not _alone(found):
        return
    text = "\n".join(line.text for line in found.block.lines).strip()
    if text in ("", "total 0") or re.search(r"/sys/class/infiniband/?'?: No such file", text):
        yield RdmaDevices(ports=(), source=TEXT)


@check.reader(command=r"(?:\S*/)?cat /etc/hosts\s*$")
def hosts_file(found: FoundBlock) -> Iterator[HostsEntry]:
    """The name of the machine is in the prompt, if it is anywhere."""
    name = found.block.prompt.host if found.block.prompt else None
    if name and _alone(found):
        addresses = addresses_of(name, [line.text for line in found.block.lines])
        yield HostsEntry(name=name, addresses=addresses, source=TEXT)


@check.reader(command=r"(?:\S*/)?cat (?:/etc/nccl\.conf|\S*/\.nccl\.conf)\s*$")
def conf_file(found: FoundBlock) -> Iterator[NcclSettings]:
    """One conf file, whole."""
    path = (found.command or "").split()[-1]
    lines = [line.text for line in found.block.lines]
    if not _alone(found) or any("No such file or directory" in line for line in lines):
        return
    yield NcclSettings(settings=tuple(parse_conf("\n".join(lines), path)), files=(path,), source=TEXT)


@check.reader(
    command=r"(?:\S*/)?cat /proc/cmdline\s*$",
    starts=r"^(?:BOOT_IMAGE=|.*\bKernel command line: )",
    max_lines=1,
)
def command_line(found: FoundBlock) -> Iterator[IommuState]:
    """The kernel's options; passthrough that was asked for is passthrough."""
    for line in found.block.lines:
        words = line.text.partition("Kernel command line: ")[2] or line.text
        if not re.search(r"\broot=|\bro\b|BOOT_IMAGE=|initrd=", words):
            continue
        options = iommu_options(words)
        through = any(each in ("iommu=pt", "iommu.passthrough=1") for each in options)
        yield IommuState(groups=None, translated=False if through else None, options=options, source=TEXT)
        return


@check.reader(starts=r"\biommu: Default domain type: (?:Translated|Passthrough)", max_lines=1)
def default_domain(found: FoundBlock) -> Iterator[IommuState]:
    """The kernel's word at boot, since 5.4."""
    translated = "type: Translated" in found.block.lines[0].text
    yield IommuState(groups=None, translated=translated, source=TEXT)


@check.reader(command=r"(?:\S*/)?(?:ls|find) /sys/kernel/iommu_groups\b")
def iommu_groups(found: FoundBlock) -> Iterator[IommuState]:
    """Counted with ``wc -l``: a number on the line where its output must be."""
    statements = [each.strip() for each in re.split(r";|&&", found.block.command or "")]
    lines = [line.text.strip() for line in found.block.lines]
    place = next((index for index, each in enumerate(statements) if "iommu_groups" in each), 0)
    counted = re.search(r"ls /sys/kernel/iommu_groups/?\s*(?:2>\S+\s*)?\|\s*wc -l$", statements[place])
    plain = all(each == "cat /proc/cmdline" for each in statements[:place])  # prints one line
    if counted and plain and place < len(lines) and lines[place].isdigit():
        groups = int(lines[place])
        yield IommuState(groups=groups, translated=None if groups else False, source=TEXT)


FUNCTION = r"^(?P<address>(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) (?P<what>\S.*)$"


@check.reader(command=r"(?:\S*/)?lspci\b")
def access_control(found: FoundBlock) -> Iterator[PcieAcs]:
    """``ACSCtl`` of bridges whose address is in a line before or in the command."""
    named = re.search(
        r"\s-s ?(?P<address>(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\b", found.command or ""
    )
    address = named["address"] if named else ""
    is_bridge = bool(named)
    redirecting = []
    seen = 0
    for line in found.block.lines:
        function = re.match(FUNCTION, line.text)
        control = re.match(r"^\s*ACSCtl:\s*(?P<switches>\S.*)$", line.text)
        if function:
            address, is_bridge = function["address"], "bridge" in function["what"].lower()
        elif control and address and is_bridge:
            seen += 1
            on = [each[:-1] for each in control["switches"].split() if each.endswith("+")]
            if any(each in REDIRECT for each in on):
                redirecting.append(PcieBridge(address, " ".join(on)))
    if seen:
        yield PcieAcs(redirecting=tuple(redirecting), looked_at=seen, source=TEXT)


PEERS = ("nvidia_peermem", "nv_peer_mem")


@check.reader(command=r"(?:\S*/)?lsmod\b")
def peer_modules(found: FoundBlock) -> Iterator[PeerMemory]:
    """What is shown is loaded; none is, where lsmod is whole or its filter would show both."""
    whole = found.block.command or ""
    loaded = tuple(
        each for each in PEERS if any(re.match(rf"{each}\s+\d+\s", line.text) for line in found.block.lines)
    )
    shows_both = _alone(found) and len(found.block.lines) > 1
    told = re.search(
        r"lsmod \| e?grep(?P<options>(?: -[iE]+)*) (?P<quote>['\"]?)(?P<pattern>[\w|\\-]+)(?P=quote)\s*$",
        whole,
    )
    if told:
        words = told["pattern"].replace("\\|", "|").split("|")
        shows_both = all(any(word and word in each for word in words) for each in PEERS)
    if loaded or shows_both:
        yield PeerMemory(modules=loaded, registered=None, source=TEXT)
