"""What kind of address it is, and which interface names belong to containers and virtual machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ipaddress

BRIDGES = (
    "docker", "br-", "veth", "virbr", "cni", "flannel", "cali", "cilium", "lxc", "lxdbr", "kube", "podman", "vmnet",
    "vnet", "weave", "antrea", "nodelocaldns",
)  # fmt: skip
"""Beginnings of the names of interfaces that lead to containers and virtual machines of one host."""


def is_bridge(name: str) -> bool:
    """Whether an interface, by its name, leads nowhere but to containers or virtual machines of this host."""
    return name.startswith(BRIDGES)


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    import ipaddress  # milliseconds, which a quick check without any address saves

    try:
        parsed = ipaddress.ip_address(address.partition("%")[0].strip("[]"))
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def is_address(text: str) -> bool:
    """Whether it is an IPv4 or IPv6 address and not a name."""
    return _parsed(text) is not None


def plain(address: str) -> str:
    """The address without brackets and zone; an IPv4 address that is written as IPv6 one, as IPv4."""
    parsed = _parsed(address)
    return str(parsed) if parsed is not None else address


def is_loopback(address: str) -> bool:
    """``127.0.0.0/8``, ``::1``, and the name localhost."""
    parsed = _parsed(address)
    return address.startswith("localhost") if parsed is None else parsed.is_loopback


def is_link_local(address: str) -> bool:
    """``169.254.0.0/16``, ``fe80::/10``: valid on one wire only."""
    parsed = _parsed(address)
    return parsed is not None and parsed.is_link_local


def is_docker_default(address: str) -> bool:
    """The network of docker0, which every machine with docker has for itself: 172.17.0.0/16."""
    return plain(address).startswith("172.17.")


def is_nonsense(address: str) -> bool:
    """``0.0.0.5``: no machine has an address in 0.0.0.0/8; a bare number given as a host name becomes one."""
    return plain(address).startswith("0.") and is_address(address)
