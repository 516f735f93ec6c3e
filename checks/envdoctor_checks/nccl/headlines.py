"""NCCL in the machine's summary, and as a table of the interfaces that it would take."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.api import Headline, View
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import Interface, NcclLibrary, NcclSettings, NetworkInterfaces
from envdoctor_checks.nccl.reasoning import IFNAME, family_of
from envdoctor_checks.nccl.selecting import address_of, chosen, in_order

UNKNOWN = "-"


def _taken(interfaces: NetworkInterfaces, settings: NcclSettings | None) -> tuple[Interface, ...]:
    setting = settings.effective(IFNAME) if settings else None
    return chosen(interfaces.interfaces, setting.value if setting else None, family_of(settings))


@check.headline
def nccl_row(
    library: NcclLibrary, interfaces: NetworkInterfaces | None, settings: NcclSettings | None
) -> Iterator[Headline]:
    """Which NCCL, and through which interface its ranks would meet."""
    if library.version is None:
        return
    value = library.version
    if interfaces is not None and interfaces.source.kind != "text":
        taken = _taken(interfaces, settings)
        through = f"{taken[0].name} {address_of(taken[0])}".strip() if taken else "no interface"
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        value += f", would meet through {through}{more}"
    yield Headline("NCCL", value, order=61)


def _why_not(interface: Interface) -> str:
    if interface.up is False:
        return "down"
    return "other addresses than NCCL_SOCKET_FAMILY wants" if interface.addresses else "no address"


@check.view
def nccl_interfaces(interfaces: NetworkInterfaces, settings: NcclSettings | None) -> View:
    """Every interface, and what NCCL makes of it."""
    taken = [each.name for each in _taken(interfaces, settings)]
    usable = {each.name for each in in_order(interfaces.interfaces, family_of(settings))}
    setting = settings.effective(IFNAME) if settings else None
    rows = []
    for each in interfaces.interfaces:
        if each.name in taken:
            place = taken.index(each.name) + 1
            verdict = "first: the ranks meet here" if place == 1 else f"taken, number {place}"
        elif each.name not in usable:
            verdict = f"not usable: {_why_not(each)}"
        else:
            verdict = f"left out by {IFNAME}={setting.value}" if setting else "left out"
        state = UNKNOWN if each.up is None else "up" if each.up else "down"
        rows.append((each.name, state, ", ".join(each.addresses or ()) or UNKNOWN, verdict))
    return View("NCCL's interfaces", ("interface", "state", "addresses", "NCCL"), tuple(rows))
