"""Reads the kernel log of this boot: /dev/kmsg where it may be opened, else the files that a logger wrote.

Only the end of a long log is read. What it says is read by every check's messages; journald is not asked, because its
files are no text and its program may take seconds.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from envdoctor.api import CouldNotLook, Host, Printed, Source, Tier
from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.facts import (
    KernelLog,
)

KMSG = "/dev/kmsg"
FILES = ("/var/log/kern.log", "/var/log/dmesg")
RING = 16 << 20
"""Bytes of the kernel's ring buffer that are read: more than kernels are given (log_buf_len)."""
TAIL = 1 << 20
"""Bytes that are looked at."""
BOOT = "Linux version "
"""In the first line that a kernel logs."""
OVERTAKEN = 3
"""How often the reading is begun anew when the kernel writes faster than we read (EPIPE)."""


@check.probe(tier=Tier.DEFAULT, deadline=5.0)
def kernel_log(host: Host) -> Iterator[KernelLog | Printed]:
    """What the kernel has logged since it was booted."""
    refused: list[str] = []
    for path in (KMSG, *FILES):
        try:
            text, whole = _kmsg(host) if path == KMSG else _file(host, path)
        except FileNotFoundError:
            continue
        except OSError as error:
            refused.append(f"{path}: {error.strerror}")
            continue
        lines = _of_this_boot(text)
        yield KernelLog(lines=len(lines), whole=whole, source=Source("file", path))
        yield Printed("\n".join(lines), Source("file", path))
        return
    raise _could_not(refused, host)


def _kmsg(host: Host) -> tuple[str, bool]:
    """The ring buffer's messages: ``6,512,840012,-;text``, with lines ``" KEY=value"`` after some of them."""
    for attempt in range(OVERTAKEN):
        try:
            records = host.read(KMSG, RING)
            break
        except OSError as error:
            if error.errno != errno.EPIPE or attempt == OVERTAKEN - 1:
                raise
    text, whole = _end(records)
    messages = (line.partition(";") for line in text.splitlines() if not line.startswith(" "))
    return "\n".join(message if semicolon else head for head, semicolon, message in messages), whole


def _file(host: Host, path: str) -> tuple[str, bool]:
    with host.opened(path) as (read, size):
        start = max(0, size - TAIL)
        return _end(read(start, TAIL), start > 0)


def _end(raw: bytes, cut: bool = False) -> tuple[str, bool]:
    """The last `TAIL` bytes as text, without the line that the cut went through."""
    cut = cut or len(raw) > TAIL
    text = raw[-TAIL:].decode("utf-8", "replace")
    return (text.partition("\n")[2] if cut else text), not cut


def _of_this_boot(text: str) -> list[str]:
    """A logger's file goes on over boots: what is before the last first line is another boot's."""
    lines = text.splitlines()
    starts = [index for index, line in enumerate(lines) if BOOT in line]
    return lines[starts[-1] :] if starts else lines


def _could_not(refused: list[str], host: Host) -> CouldNotLook:
    if not refused:
        return CouldNotLook(
            f"none of {KMSG}, {', '.join(FILES)} is there",
            "run envdoctor on the host, outside of the container",
        )
    restricted = (host.text("/proc/sys/kernel/dmesg_restrict") or "").strip() == "1"
    allow = "run it as root (sudo)"
    if restricted:
        allow += ", or let users read the kernel log: sysctl kernel.dmesg_restrict=0"
    return CouldNotLook("; ".join(refused), allow)
