"""Blocks of pasted text: df, free, ulimit, prlimit, /proc/PID/limits."""

# ruff: noqa: S108 - /dev/shm and /tmp are what is looked at, not where we write

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.host.check import check
from envdoctor_checks.host.facts import (
    DiskSpace,
    FilesLimit,
    Inodes,
    MemlockLimit,
    MemoryInfo,
    Place,
    ProcessesLimit,
    SharedMemory,
    Swap,
)

TEXT = Source("text")
SHM = "/dev/shm"
UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
SIZE = r"(\d+(?:[.,]\d+)?)([KMGTP]?)i?B?"
ROW = rf"^\S+\s+(?:(?:tmpfs|ext[234]|xfs|overlay|nfs4?|btrfs|zfs|lustre|fuse\S*)\s+)?{SIZE}\s+{SIZE}\s+{SIZE}\s+(?:\d+%|-)\s+(/\S*)\s*$"
INODE_FLAG = r"\s-\w*i"


def in_bytes(number: str, unit: str, *, bare: int = 1) -> int:
    """``8.0``, ``G`` -> bytes; a number without a unit counts blocks of `bare` bytes."""
    return int(float(number.replace(",", ".")) * (UNITS[unit] if unit else bare))


@check.reader(command=r"df\b", starts=r"^Filesystem\s+\S+", max_lines=200)
def df(found: FoundBlock) -> Iterator[DiskSpace | SharedMemory | Inodes]:
    """df(1), with or without its header."""
    lines = [line.text for line in found.block.lines]
    header = lines[0] if lines and lines[0].startswith("Filesystem") else ""
    if "Inodes" in header or (not header and re.search(INODE_FLAG, found.command or "")):
        places = tuple(_place(row, 1) for row in (re.match(ROW, each) for each in lines) if row)
        if places:
            yield Inodes(places=places, source=TEXT)
        return
    bare = 1 << 20 if "1M-blocks" in header else 1 if re.search(r"1-blocks|1B-blocks", header) else 1 << 10
    places = tuple(_place(row, bare) for row in (re.match(ROW, each) for each in lines) if row)
    shm = [place for place in places if place.path == SHM]
    if shm:
        yield SharedMemory(total=shm[-1].total, free=shm[-1].free, source=TEXT)
    others = tuple(place for place in places if place.path != SHM)
    if others:
        yield DiskSpace(places=others, source=TEXT)


def _place(row: re.Match[str], bare: int) -> Place:
    return Place(row[7], "", in_bytes(row[1], row[2], bare=bare), in_bytes(row[5], row[6], bare=bare))


@check.reader(command=r"free\b", starts=r"^\s+total\s+used\s+free\s+shared", max_lines=6)
def free(found: FoundBlock) -> Iterator[MemoryInfo | Swap]:
    """free(1) in any of its units."""
    flag = re.search(r"\s--?(b\w*|k\w*|m\w*|g\w*)\b", found.command or "")
    bare = UNITS[flag[1][0].upper()] if flag else 1 << 10
    for line in found.block.lines:
        name, _, rest = line.text.partition(":")
        sizes = [in_bytes(*size, bare=bare) for size in re.findall(rf"(?<!\S){SIZE}(?!\S)", rest)]
        if name.strip() == "Mem" and len(sizes) == 6:
            yield MemoryInfo(total=sizes[0], available=sizes[5], source=TEXT)
        elif name.strip() == "Swap" and len(sizes) == 3:
            yield Swap(total=sizes[0], free=sizes[2], source=TEXT)


ASKED = r"\bulimit\s+(-\w+)"
VALUE = r"^\s*(\d+|unlimited)\s*$"
LISTED = r"^(?:max locked memory|open files|max user processes)\s.*\(.*-([lnu])\)\s+(\d+|unlimited)\s*$"


@check.reader(command=r"[\s\S]*\bulimit\s+-", max_lines=60)
def ulimit(found: FoundBlock) -> Iterator[MemlockLimit | FilesLimit | ProcessesLimit]:
    """The shell's ulimit: one line per question, or the table of ``-a``."""
    lines = [line.text for line in found.block.lines]
    table = [match.groups() for match in (re.match(LISTED, each) for each in lines) if match]
    asked = re.findall(ASKED, found.block.command or "")
    values = [match[1] for match in (re.match(VALUE, each) for each in lines) if match]
    answers = zip(asked, values, strict=False) if len(values) <= len(asked) else ()
    told = [(flags[-1], value) for flags, value in answers if "H" not in flags]
    yield from _limits((*table, *told))


def _limits(told: Sequence[tuple[str, ...]]) -> Iterator[MemlockLimit | FilesLimit | ProcessesLimit]:
    for letter, written in told:
        soft = None if written == "unlimited" else int(written)
        if letter == "l":
            yield MemlockLimit(soft=None if soft is None else soft * 1024, source=TEXT)
        elif letter == "n":
            yield FilesLimit(soft=soft, source=TEXT)
        elif letter == "u":
            yield ProcessesLimit(soft=soft, source=TEXT)


KERNELS = r"^(?:Max )?(locked memory|open files|processes|MEMLOCK|NOFILE|NPROC)\b.*?\s(\d+|unlimited)\s+(?:\d+|unlimited)\s*(?:bytes|files|processes)?\s*$"
LETTERS = {
    "locked memory": "l",
    "MEMLOCK": "l",
    "open files": "n",
    "NOFILE": "n",
    "processes": "u",
    "NPROC": "u",
}


@check.reader(
    starts=r"^Max (?:locked memory|open files|processes)\s+\w+\s+\w+|^(?:MEMLOCK|NOFILE|NPROC)\s", max_lines=1
)
def kernel_limits(found: FoundBlock) -> Iterator[MemlockLimit | FilesLimit | ProcessesLimit]:
    """A line of /proc/PID/limits or prlimit(1): soft and hard limit, in bytes where it is memory."""
    row = re.match(KERNELS, found.block.lines[0].text)
    if row is None:
        return
    letter, written = LETTERS[row[1]], row[2]
    if letter == "l":
        yield MemlockLimit(soft=None if written == "unlimited" else int(written), source=TEXT)
    else:
        yield from _limits(((letter, written),))
