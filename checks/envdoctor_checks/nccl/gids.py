"""GIDs: the addresses of an RDMA port, which are written like IPv6 addresses."""

from __future__ import annotations

from collections.abc import Iterable

from envdoctor_checks.nccl.facts import Gid, RdmaDevices, RdmaPort

EMPTY = "::"


def short_gid(text: str) -> str:
    """``0000:0000:0000:0000:0000:ffff:0a00:0004`` as ``::ffff:10.0.0.4``; as it is where it is no address."""
    import ipaddress  # milliseconds, which a machine without RDMA saves

    try:
        parsed = ipaddress.IPv6Address(text.strip().lower())
    except ValueError:
        return text.strip().lower()
    return f"::ffff:{parsed.ipv4_mapped}" if parsed.ipv4_mapped else str(parsed)


def is_empty(gid: str) -> bool:
    """An entry without an address; a container without the host's network sees them all so."""
    return gid == EMPTY


def is_routable(gid: str) -> bool:
    """Whether a router passes it on: made of an IP address that is not only valid on the wire."""
    return not is_empty(gid) and not gid.startswith("fe80:")


def best_index(gids: Iterable[Gid]) -> int | None:
    """The entry that NCCL's documentation advises: RoCE v2 with an IPv4 address, else any routable RoCE v2 one."""
    candidates = [each for each in gids if each.kind in ("RoCE v2", None) and is_routable(each.gid)]
    four = [each for each in candidates if each.gid.startswith("::ffff:")]
    kinds_known = all(each.kind for each in candidates)
    # Without kinds: entries come in pairs, RoCE v1 before RoCE v2.
    picked = four or candidates
    if not picked:
        return None
    return picked[0].index if kinds_known else picked[-1].index


def at(ports: Iterable[RdmaPort], index: int) -> Gid | None:
    """The entry of the first port that shows one with this index."""
    return next((gid for port in ports for gid in port.gids or () if gid.index == index), None)


def all_empty(devices: RdmaDevices) -> bool:
    """Whether GIDs were looked at and not one has an address: the sign of another network namespace."""
    shown = [gid for port in devices.ports for gid in port.gids or ()]
    return bool(shown) and all(is_empty(each.gid) for each in shown)
