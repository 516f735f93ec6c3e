"""Which interfaces NCCL takes: its own rules, applied to what is known of the machine."""

from __future__ import annotations

from collections.abc import Iterable

from envdoctor_checks.nccl.addresses import is_bridge, is_link_local
from envdoctor_checks.nccl.facts import Interface, NetworkInterfaces

MAX_CHOSEN = 16
"""NCCL's MAX_IFS."""
PREFERRED = "ib"
LAST = ("docker", "lo", "virbr")
"""Taken in this order where there is nothing else."""


def chosen(
    interfaces: Iterable[Interface], setting: str | None, family: str | None = None
) -> tuple[Interface, ...]:
    """The interfaces that NCCL takes for `NCCL_SOCKET_IFNAME` = `setting`, the first of them for its bootstrap.

    A setting of one character or none counts as not set, as in NCCL. `family`: NCCL_SOCKET_FAMILY.
    """
    usable = in_order(interfaces, family)
    if setting is not None and len(setting) > 1:
        return _matching(usable, setting)
    for preference in (PREFERRED, "^" + ",".join(LAST), *LAST):
        found = _matching(usable, preference)
        if found:
            return found
    return ()


def in_order(interfaces: Iterable[Interface], family: str | None = None) -> tuple[Interface, ...]:
    """Those that are running and have an address: first all with IPv4, then those with IPv6 only, ``::1`` apart."""
    running = [each for each in interfaces if each.up is not False]
    four = [each for each in running if each.addresses is None or any("." in each for each in each.addresses)]
    six = [
        each
        for each in running
        if any(":" in address and address != "::1" for address in each.addresses or ())
    ]
    wanted = {"AF_INET": four, "AF_INET6": six}.get((family or "").strip(), [*four, *six])
    return tuple({each.name: each for each in wanted}.values())


def _matching(usable: Iterable[Interface], setting: str) -> tuple[Interface, ...]:
    return tuple(each for each in usable if matches(each.name, setting))[:MAX_CHOSEN]


def matches(name: str, setting: str) -> bool:
    """Whether a setting takes an interface: prefixes; ``=`` whole names; ``^`` all but those; ``^=`` both."""
    exclude = setting.startswith("^")
    rest = setting[exclude:]
    exact = rest.startswith("=")
    words = [word.partition(":")[0] for word in rest[exact:].replace(";", ",").split(",") if word]
    found = any(name == word if exact else name.startswith(word) for word in words)
    return found != exclude


def address_of(interface: Interface) -> str:
    """Its first address, for people."""
    return next(iter(interface.addresses or ()), "")


def suggestion(interfaces: NetworkInterfaces | None) -> str | None:
    """The interface that another node most probably reaches; None where the machine has none, or it is not known."""
    if interfaces is None:
        return None
    for each in in_order(interfaces.interfaces):
        routable = each.addresses is None or any(not is_link_local(address) for address in each.addresses)
        if each.name != "lo" and routable and not is_bridge(each.name) and not each.name.startswith("ib"):
            return each.name
    return next((each.name for each in in_order(interfaces.interfaces) if each.name.startswith("ib")), None)
