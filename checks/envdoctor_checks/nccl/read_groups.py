"""What NCCL writes to its log about a group: release, interface, transports, rings, warnings."""

from __future__ import annotations

from collections import Counter

from envdoctor.api import Source
from envdoctor.text.late import Late
from envdoctor_checks.nccl.facts_groups import GroupTransports, Link

VERSION = Late(r"NCCL version (\d\S*)")
INTERFACE = Late(r"NCCL INFO Bootstrap ?: Using (?:\[\d+\])?([^\s:]+:[0-9A-Fa-f.:]+)")
NETWORK = Late(r"NCCL INFO Using network (\S.*)")
CHANNEL = Late(
    r"NCCL INFO Channel (?P<channel>\d+)(?:/\d+)? : (?P<sender>\d+)\[\w+\] -> (?P<receiver>\d+)\[\w+\]"
    r"(?: \[(?P<side>send|receive)\])? via (?P<via>[^\s(]+)"
)
RINGS = Late(r"(?m)NCCL INFO Channel \d+/(\d+) ?: +\d+(?: +\d+)*\s*$")
WARNING = Late(r"NCCL WARN (\S.*)")
MAX_WARNINGS = 8
MAX_LINKS = 64


def read_log(text: str) -> GroupTransports:
    """From the logs of all ranks. A connection between nodes is told at both ends and counted at the sender's."""
    channels: dict[tuple[int, int, str], set[int]] = {}
    for found in CHANNEL.finditer(text):
        if found["side"] != "receive":
            key = (int(found["sender"]), int(found["receiver"]), found["via"])
            channels.setdefault(key, set()).add(int(found["channel"]))
    links = [Link(*key, channels=len(numbers)) for key, numbers in sorted(channels.items())]
    warnings = dict.fromkeys(line.strip()[:300] for line in WARNING.findall(text))
    return GroupTransports(
        version=_first(VERSION, text),
        interface=_first(INTERFACE, text),
        network=(_first(NETWORK, text) or "").strip() or None,
        rings=int(_first(RINGS, text) or 0) or None,
        links=tuple(links[:MAX_LINKS]),
        warnings=tuple(warnings)[:MAX_WARNINGS],
        source=Source("child", "NCCL_DEBUG=INFO"),
    )


def _first(pattern: Late, text: str) -> str | None:
    found = pattern.search(text)
    return found[1] if found else None


def summed(transports: GroupTransports) -> str:
    """The transports in one phrase: ``P2P/CUMEM (2), SHM/direct/direct (1)``, with the number of links of each."""
    counted = Counter(each.via for each in transports.links)
    return ", ".join(f"{via} ({number})" for via, number in counted.items())
