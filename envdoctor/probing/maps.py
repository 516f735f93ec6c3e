"""The files that a process has mapped, from the text of ``/proc/PID/maps`` (see proc_pid_maps(5)).

The kernel writes a path as it is, except that a newline becomes ``\\012``; it appends `` (deleted)`` when the
file has no name any more. A file whose name really ends so reads the same, and counts as deleted here.
"""

import re

import msgspec

_LINE = re.compile(r"[0-9a-f]+-[0-9a-f]+ ([-rwxsp]{4}) [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) *(.*)")
_DELETED = " (deleted)"
_UNREACHABLE = "(unreachable)"  # before paths outside the reader's root, such as a detached mount


class MappedFile(msgspec.Struct, frozen=True):
    """One file that is mapped, at least in part."""

    path: str
    deleted: bool
    """Removed or replaced since it was mapped: what lies at ``path`` now is another file, or nothing."""
    device: str
    """``major:minor`` in hexadecimal."""
    inode: int
    executable: bool
    """At least one of its mappings may be executed, as a loaded library's has to be."""


def parse(text: str) -> tuple[MappedFile, ...]:
    """Every mapped file once, in the order of its first mapping; memory without a file, and lines that are no
    maps lines, are left out. Two files of one path (one deleted) are two."""
    found: dict[tuple[str, bool, str, int], bool] = {}
    for line in text.split("\n"):
        match = _LINE.fullmatch(line)
        if not match or not match[4].startswith(("/", _UNREACHABLE)):
            continue
        path, deleted = match[4].removeprefix(_UNREACHABLE), match[4].endswith(_DELETED)
        key = (path.removesuffix(_DELETED), deleted, match[2], int(match[3]))
        found[key] = found.get(key, False) or "x" in match[1]
    return tuple([MappedFile(*key, executable) for key, executable in found.items()])
