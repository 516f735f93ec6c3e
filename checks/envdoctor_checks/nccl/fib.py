"""Which IPv4 addresses are on which interface, from the kernel's own tables, without a socket."""

from __future__ import annotations

import re

WORD = r"[0-9A-Fa-f]{8}"
LOCAL = re.compile(r"^ +\|-- (\d+\.\d+\.\d+\.\d+)\n +/32 host LOCAL", re.MULTILINE)
"""A leaf of ``/proc/net/fib_trie``: an address of this machine."""


def local_addresses(trie: str) -> tuple[str, ...]:
    """Every IPv4 address of this machine, once."""
    return tuple(dict.fromkeys(LOCAL.findall(trie)))


class Routes:
    """``/proc/net/route``: the main table, whose routes without a gateway tell what is on which wire."""

    def __init__(self, text: str) -> None:
        self._routes: list[tuple[int, int, str]] = []
        self.default: str | None = None
        for line in text.splitlines()[1:]:
            fields = line.split()
            if len(fields) < 8 or not all(re.fullmatch(WORD, fields[place]) for place in (1, 2, 7)):
                continue  # not the kernel's, or cut off
            name, destination, gateway, mask = fields[0], fields[1], fields[2], fields[7]
            if int(mask, 16) == 0:
                self.default = self.default or name
            elif int(gateway, 16) == 0:
                self._routes.append((_swapped(destination), _swapped(mask), name))
        self._routes.sort(key=lambda route: route[1], reverse=True)

    def interface(self, address: str) -> str | None:
        """The interface that most probably has an address: the most specific wire, else the default route's."""
        if address.startswith("127."):
            return "lo"
        number = int.from_bytes(bytes(int(part) for part in address.split(".")), "big")
        for network, mask, name in self._routes:
            if number & mask == network:
                return name
        return self.default


def _swapped(word: str) -> int:
    """The kernel prints these words in its own, little-endian order."""
    return int.from_bytes(bytes.fromhex(word)[::-1], "big")


def inet6(text: str) -> list[tuple[str, str]]:
    """(interface, address) pairs of ``/proc/net/if_inet6``."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 6 and re.fullmatch(r"[0-9A-Fa-f]{32}", fields[0]):
            found.append((fields[5], _short(fields[0])))
    return found


def _short(digits: str) -> str:
    """32 hexadecimal digits as an IPv6 address, its first run of zeros left out. (ipaddress is slow to import.)"""
    groups = ":".join(f"{int(digits[at : at + 4], 16):x}" for at in range(0, 32, 4))
    return re.sub(r"(?:^|:)0(?::0)+(?::|$)", "::", groups, count=1)
