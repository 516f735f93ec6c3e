"""Files of ``/proc`` and of configurations as text: parsed without looking, for probes and readers alike."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from envdoctor_checks.container.facts import IdRange


def id_ranges(text: str) -> tuple[IdRange, ...]:
    """The lines of ``uid_map`` or ``gid_map``: inside, outside, count. Lines that are none are left out."""
    fields = (line.split() for line in text.splitlines())
    return tuple(
        IdRange(*(int(each) for each in line))
        for line in fields
        if len(line) == 3 and all(each.isdecimal() for each in line)
    )


class MountLine(msgspec.Struct, frozen=True):
    """One line of ``/proc/self/mountinfo``, escapes undone."""

    origin: str
    target: str
    options: frozenset[str]
    fstype: str
    device: str
    super_options: frozenset[str]


ESCAPE = r"\\([0-7]{3})"


@lru_cache(maxsize=4)
def mount_lines(text: str) -> tuple[MountLine, ...]:
    """Every line of mountinfo that is whole; proc(5) has the format. Several probes of one run ask for the same text."""
    return tuple(line for line in map(_mount_line, text.splitlines()) if line is not None)


def _mount_line(line: str) -> MountLine | None:
    before, dash, after = line.partition(" - ")
    left, right = before.split(" "), after.split(" ")
    if not dash or len(left) < 6 or len(right) < 2:
        return None
    return MountLine(
        origin=_plain(left[3]),
        target=_plain(left[4]),
        options=frozenset(left[5].split(",")),
        fstype=right[0],
        device=_plain(right[1]),
        super_options=frozenset(right[2].split(",")) if len(right) > 2 else frozenset(),
    )


def _plain(field: str) -> str:
    """``\\040`` is a space, and so on."""
    return re.sub(ESCAPE, lambda found: chr(int(found[1], 8)), field) if "\\" in field else field


def group_paths(text: str) -> dict[str, str]:
    """``/proc/self/cgroup``: path by controller; the empty name is version 2."""
    paths = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            path = parts[2].removesuffix(" (deleted)")
            paths.update(dict.fromkeys(parts[1].split(","), path))
    return paths


def flat_keys(text: str) -> dict[str, int]:
    """``nr_periods 12``-like lines, as in ``cpu.stat`` and ``memory.events``."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def cpu_list(text: str) -> int:
    """How many processors a list such as ``0-3,8`` names."""
    count = 0
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            count += int(last or first) - int(first) + 1
    return count


SETTING = r"""^\s*(?P<comment>#)?\s*(?P<name>[\w-]+)\s*=\s*(?P<value>"[^"]*"|'[^']*'|[^#]*)"""


def toml_settings(text: str) -> dict[str, str]:
    """``name = value`` lines of a simple TOML file, without their sections; comments are not set.

    The toolkit's file has no name that occurs in two sections, and a grep of it has no sections at all.
    """
    found = (re.match(SETTING, line) for line in text.splitlines())
    return {
        each["name"]: each["value"].strip().strip("\"'") for each in found if each and not each["comment"]
    }


DEFAULT_RUNTIME = r"""default_runtime_name\s*=\s*["'](?P<name>[^"']*)["']"""
RUNTIME = r"""containerd['"]?\.runtimes\.["']?(?P<name>[\w-]+)["']?\]"""


def containerd_runtimes(text: str) -> tuple[str | None, tuple[str, ...]]:
    """The default runtime, None where it is not set, and the names of all runtimes."""
    default = re.search(DEFAULT_RUNTIME, text)
    names = tuple(dict.fromkeys(found["name"] for found in re.finditer(RUNTIME, text)))
    return (default["name"] or None) if default else None, names


def account(passwd: str, uid: int) -> tuple[str, str] | None:
    """Name and home of a UID in the text of ``/etc/passwd``."""
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) >= 6 and fields[2] == str(uid):
            return fields[0], fields[5]
    return None
