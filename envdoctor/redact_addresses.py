"""Network addresses: replaced by others of the same class, the same by the same, neighbours by neighbours.

Loopback, multicast and unspecified addresses stay. Private IPv4 addresses keep the host's own octet and,
between one another, every common prefix down to /24, so that what was one subnet is one subnet. Public ones
move into the ranges that RFC 5737 and RFC 3849 set aside for documentation, one /24 (IPv6: one /64) for
each that was there.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

PRIVATE = tuple(
    ipaddress.IPv4Network(each)
    for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")
)
KEPT = tuple(
    ipaddress.IPv4Network(each)
    for each in ("172.17.0.0/16", "192.168.122.0/24", "169.254.169.0/24")  # Docker, libvirt, cloud metadata
)
"""Private networks that software sets up by default: the same everywhere, and rules may know them."""

DOCUMENTATION = tuple(
    ipaddress.IPv4Network(each) for each in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
)
BENCHMARKING = ipaddress.IPv4Network("198.18.0.0/15")
"""RFC 2544: where public /24s go when the three documentation ranges are taken."""

LINK_LOCAL6 = ipaddress.IPv6Network("fe80::/10")
NEW_HOMES6 = (
    (ipaddress.IPv6Network("fc00::/7"), int(ipaddress.IPv6Address("fd00::"))),
    (ipaddress.IPv6Network("fec0::/10"), int(ipaddress.IPv6Address("fec0::"))),
    (ipaddress.IPv6Network("2000::/3"), int(ipaddress.IPv6Address("2001:db8::"))),
)
"""IPv6 classes (unique local, site-local, global) and where their addresses go."""


class Numbers:
    """Gives every new thing of a kind the next number, and a known one the number it has."""

    def __init__(self) -> None:
        self._given: dict[Hashable, dict[Hashable, int]] = {}
        self._taken: dict[Hashable, set[int]] = {}

    def of(self, kind: Hashable, original: Hashable) -> int:
        """1, 2, 3, ... by order of appearance."""
        given = self._given.setdefault(kind, {})
        if original not in given:
            taken = self._taken.setdefault(kind, set())
            number = 1
            while number in taken:
                number += 1
            taken.add(number)
            given[original] = number
        return given[original]

    def same(self, kind: Hashable, original: Hashable, other: Hashable) -> None:
        """Give `original` the number of `other`."""
        self._given.setdefault(kind, {})[original] = self.of(kind, other)

    def known(self, kind: Hashable) -> dict[Hashable, int]:
        """What has a number already."""
        return self._given.get(kind, {})

    def reserve(self, kind: Hashable, number: int) -> None:
        """A number that the text already uses, so that nothing else gets it."""
        self._taken.setdefault(kind, set()).add(number)


class Addresses:
    """The replacements of one document."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._flips: dict[tuple[int, int], int] = {}
        for network in KEPT:
            first = int(network.network_address)
            start = next(each.prefixlen for each in PRIVATE if network.subnet_of(each))
            for depth in range(start, network.prefixlen):
                self._flips[depth, first >> (32 - depth)] = 0

    def v4(self, address: ipaddress.IPv4Address, length: int | None = None) -> ipaddress.IPv4Address:
        """The replacement; with a prefix `length`, a network's own address stays a network's own address."""
        value = int(address)
        if any(address in each for each in KEPT):
            return address
        home = next((each for each in PRIVATE if address in each), None)
        if length is not None and home is not None and length <= home.prefixlen:
            return address
        new = self._private(value, home.prefixlen) if home is not None else self._public(address)
        if length is not None and value & _host_bits(length) == 0:
            new &= ~_host_bits(length)
        return ipaddress.IPv4Address(new)

    def _private(self, value: int, start: int) -> int:
        """Flip bits from `start` down to /24, each by those before it alone: common prefixes stay common."""
        new, changed = value >> (32 - start), False
        for depth in range(start, 24):
            prefix, bit = value >> (32 - depth), (value >> (31 - depth)) & 1
            flip = self._flips.get((depth, prefix))
            if flip is None:
                flip = self._new_flip(depth, prefix, bit, start, changed)
                self._flips[depth, prefix] = flip
            changed = changed or flip == 1
            new = new << 1 | (bit ^ flip)
        return new << 8 | (value & 0xFF)

    @staticmethod
    def _new_flip(depth: int, prefix: int, bit: int, start: int, changed: bool) -> int:
        """Change at least one bit; keep ``x.y.0.0`` at ``.0.0``; for the rest make the address plain."""
        if not changed:
            return 1
        third_octet_is_zero_so_far = depth >= 16 > start and prefix & ((1 << (depth - 16)) - 1) == 0
        return 0 if third_octet_is_zero_so_far else bit

    def _public(self, address: ipaddress.IPv4Address) -> int:
        value = int(address)
        special = address.is_loopback or address.is_multicast or address.is_unspecified or value >> 28 == 15
        if special or value >> 24 == 0:
            return value
        number = self._numbers.of("public /24", value >> 8)
        if number <= len(DOCUMENTATION):
            base = int(DOCUMENTATION[number - 1].network_address)
        else:
            base = int(BENCHMARKING.network_address) + ((number - len(DOCUMENTATION) - 1) % 512 << 8)
        return base | (value & 0xFF)

    def v6(self, address: ipaddress.IPv6Address) -> ipaddress.IPv6Address | None:
        """The replacement, or None for what is no address that a machine would have (``c10::``)."""
        if address.ipv4_mapped is not None:
            return ipaddress.IPv6Address(0xFFFF << 32 | int(self.v4(address.ipv4_mapped)))
        value = int(address)
        if address in LINK_LOCAL6:
            return ipaddress.IPv6Address(value >> 64 << 64 | self._interface(value))
        base = next((base for network, base in NEW_HOMES6 if address in network), None)
        if base is None:
            return None
        site, subnet = value >> 80, value >> 64 & 0xFFFF
        new_site = self._numbers.of(("site", base), site) - 1
        new_subnet = self._numbers.of(("subnet", base, site), subnet) if subnet else 0
        return ipaddress.IPv6Address(base | new_site << 80 | new_subnet << 64 | self._interface(value))

    def _interface(self, value: int) -> int:
        """The lower half names the hardware: numbered; nothing and ``::1`` (a gateway) stay."""
        interface = value & ((1 << 64) - 1)
        if interface < 0x100:
            return interface
        return 0x100 + self._numbers.of("interface identifier", interface)

    def mac(self, text: str) -> str:
        """A locally administered address in the same notation; multicast and empty ones stay."""
        separator = "-" if "-" in text else ":"
        octets = [int(each, 16) for each in text.split(separator)]
        if (
            octets[0] & 1
            or not any(octets)
            or octets[:4] == [2, 0, 0, 0]
            or octets[:-2] == [0] * (len(octets) - 2)
        ):
            return text
        number = self._numbers.of("MAC", tuple(octets))
        head = [2, 0, 0, 0] if len(octets) == 6 else [0] * (len(octets) - 2)
        return separator.join(f"{each:02x}" for each in (*head, number >> 8 & 0xFF, number & 0xFF))


def _host_bits(length: int) -> int:
    return (1 << (32 - length)) - 1


def replaced4(text: str, addresses: Addresses) -> str | None:
    """The replacement for ``a.b.c.d`` or ``a.b.c.d/n``; None where it is neither."""
    plain, slash, length = text.partition("/")
    try:
        address = ipaddress.IPv4Address(plain)
    except ValueError:
        return None
    if slash and int(length) > 32:
        return None
    return f"{addresses.v4(address, int(length) if slash else None)}{slash}{length}"


def replaced6(text: str, addresses: Addresses) -> str | None:
    """The replacement for an IPv6 address in the notation it was written in; None where it is no address."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    new = addresses.v6(address)
    if new is None:
        return None
    if "." in text and new.ipv4_mapped is not None:
        return f"::ffff:{new.ipv4_mapped}"
    write: Callable[[ipaddress.IPv6Address], str] = str
    return new.exploded if len(text) == 39 else write(new)
