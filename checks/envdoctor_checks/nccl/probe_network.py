"""Interfaces, the machine's own name in /etc/hosts, and who listens on MASTER_PORT: from files only."""

from __future__ import annotations

import re
from collections.abc import Iterable

from envdoctor.api import CouldNotLook, Host, Source, Tier
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    HostsEntry,
    Interface,
    MasterPortListener,
    NetworkInterfaces,
)
from envdoctor_checks.nccl.fib import Routes, inet6, local_addresses

NET = "/sys/class/net"
MAX_INTERFACES = 256
"""A Kubernetes node has hundreds of veth pairs; the physical ones come first by index."""
TABLE_LIMIT = 4 << 20
IFF_UP = 0x1


@check.probe(tier=Tier.QUICK)
def network_interfaces(host: Host) -> NetworkInterfaces:
    """What getifaddrs would tell NCCL, from /sys/class/net and /proc/net.

    /proc/net is that of our own network namespace; /sys is that of whoever mounted it, which after ``unshare -n`` is
    another one. Where their names differ, only /proc/net counts, and whether an interface is up is not known.
    """
    shown = _without_files(host, host.names(NET))
    names = _names_in_proc(_quiet(host, "/proc/net/dev", TABLE_LIMIT))
    if shown is None and names is None:
        raise CouldNotLook(f"{NET} is not there: /sys is not mounted")
    ours = names is None or (shown is not None and set(names) == set(shown))
    if ours:
        by_index = sorted(shown or (), key=lambda name: (_number(host, f"{NET}/{name}/ifindex"), name))
    else:
        by_index = list(names or ())
    kept = by_index[:MAX_INTERFACES]
    addresses = _addresses(host)
    return NetworkInterfaces(
        interfaces=tuple(
            Interface(name, _is_running(host, name) if ours else None, addresses.get(name, ()))
            for name in kept
        ),
        omitted=len(by_index) - len(kept),
        source=Source("file", NET if ours else "/proc/net/dev"),
    )


def _names_in_proc(table: str | None) -> tuple[str, ...] | None:
    """The interfaces of /proc/net/dev, below its two lines of headings; None where it is not there."""
    if table is None:
        return None
    return tuple(line.partition(":")[0].strip() for line in table.splitlines()[2:] if ":" in line)


def _without_files(host: Host, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Interfaces are folders; the bonding driver puts its file ``bonding_masters`` beside them."""
    if names is None or "bonding_masters" not in names:
        return names
    return tuple(name for name in names if name != "bonding_masters" or host.exists(f"{NET}/{name}/ifindex"))


def _number(host: Host, path: str) -> int:
    text = (_quiet(host, path) or "").strip()
    return int(text) if text.isdigit() else 1 << 30


def _quiet(host: Host, path: str, limit: int = 4096) -> str | None:
    """A small file; an interface that goes away while we read it is as good as none."""
    try:
        return host.text(path, limit)
    except CouldNotLook:
        return None


def _is_running(host: Host, name: str) -> bool:
    """IFF_UP and IFF_RUNNING. The kernel computes the second from operstate, where loopback is ``unknown``."""
    flags = (_quiet(host, f"{NET}/{name}/flags") or "0").strip()
    state = (_quiet(host, f"{NET}/{name}/operstate") or "").strip()
    known = re.fullmatch(r"0x[0-9a-fA-F]+", flags)
    return bool(known and int(flags, 16) & IFF_UP) and state in ("up", "unknown")


def _addresses(host: Host) -> dict[str, tuple[str, ...]]:
    """By interface, IPv4 addresses first."""
    routes = Routes(_quiet(host, "/proc/net/route", TABLE_LIMIT) or "")
    found: dict[str, list[str]] = {}
    for address in local_addresses(_quiet(host, "/proc/net/fib_trie", TABLE_LIMIT) or ""):
        name = routes.interface(address)
        if name is not None:
            found.setdefault(name, []).append(address)
    for name, address in inet6(_quiet(host, "/proc/net/if_inet6", TABLE_LIMIT) or ""):
        found.setdefault(name, []).append(address)
    return {name: tuple(each) for name, each in found.items()}


@check.probe(tier=Tier.QUICK)
def hosts_entry(host: Host) -> HostsEntry:
    """The machine's own name in /etc/hosts; no name service is asked."""
    name = (_quiet(host, "/proc/sys/kernel/hostname") or _quiet(host, "/etc/hostname") or "").strip()
    if not name:
        raise CouldNotLook("the machine's own name is not known")
    found = addresses_of(name, (host.text("/etc/hosts") or "").splitlines())
    return HostsEntry(name=name, addresses=found, source=Source("file", "/etc/hosts"))


def addresses_of(name: str, lines: Iterable[str]) -> tuple[str, ...]:
    """What hosts(5) lines say of a name, in their order."""
    found = []
    for line in lines:
        words = line.partition("#")[0].split()
        if name.lower() in (word.lower() for word in words[1:]):
            found.append(words[0])
    return tuple(dict.fromkeys(found))


@check.probe(tier=Tier.QUICK)
def master_port(host: Host) -> MasterPortListener | None:
    """Whether MASTER_PORT is taken here, from the kernel's tables of sockets."""
    port = host.environ.get("MASTER_PORT", "").strip()
    if not port.isdigit() or not 0 < int(port) < 65536:
        return None
    tables = [_quiet(host, f"/proc/net/{each}", TABLE_LIMIT) for each in ("tcp", "tcp6")]
    if tables == [None, None]:
        raise CouldNotLook("/proc/net/tcp is not there")
    listening = any(_listens(table, int(port)) for table in tables if table)
    return MasterPortListener(port=int(port), listening=listening, source=Source("file", "/proc/net/tcp"))


def _listens(table: str, port: int) -> bool:
    """Whether a socket in state 0A, LISTEN, has this local port."""
    for line in table.splitlines()[1:]:
        fields = line.split(maxsplit=4)
        if len(fields) > 4 and fields[3] == "0A" and fields[1].endswith(f":{port:04X}"):
            return True
    return False
