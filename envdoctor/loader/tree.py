"""What the loader would find at a path: `Tree`, and the one that reads a machine."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from envdoctor.facts import CouldNotLook
from envdoctor.loader.headers import (
    HEADER,
    HEADER_WORDS,
    problem_of,
    segments_at,
    unloadable,
    verify,
    verify_segments,
)
from envdoctor.probing.elf import BadElf, Elf, read_elf
from envdoctor.probing.ldcache import Cache, CacheEntry, parse as parse_cache

if TYPE_CHECKING:
    from envdoctor.host import Host

CACHE, PRELOAD = "/etc/ld.so.cache", "/etc/ld.so.preload"
LARGEST_FILE = 64 << 20
MACHINES = {"x86_64": (62, 64), "aarch64": (183, 64)}
"""Processors whose loader is modelled: e_machine and the class of its files."""


STARTING_WORDS = ("ENOMEM", "EINVAL", "ENOENT", "EPERM", "EACCES")
"""Errors that the loader can word before there is a C library (``__strerror_r`` in elf/dl-minimal.c)."""


class NotRecorded(Exception):
    """A lookup outside of a recorded tree: what is there is not known. The argument is the path."""


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """What open(2) and the first read of a path come to, links followed."""

    kind: Literal["file", "directory", "absent"]
    errno: str = ""
    """For what cannot be opened: ``ENOENT``, ``EACCES``, ``ENOTDIR``, ``ELOOP`` ..."""
    file_id: tuple[int, int] = (0, 0)
    """st_dev and st_ino."""
    set_uid: bool = False
    problem: str = ""
    """Why the loader does not take it: ``other-class``, ``other-machine`` (passed over), else its own words (fatal)."""
    elf: Elf | None = None
    """What it says to the loader; None where it cannot be read, or is not for this machine."""

    @property
    def skipped(self) -> bool:
        """Whether the loader passes over it and goes on searching."""
        return self.kind == "absent" or self.problem in ("other-class", "other-machine")

    @property
    def stops_search(self) -> bool:
        """Whether the loader ends the search with it, its first bytes being no library's."""
        return self.kind == "file" and self.problem in HEADER_WORDS


ABSENT = Node("absent", "ENOENT")


class Tree(Protocol):
    """A file system as the loader sees it."""

    def look(self, path: str) -> Node:
        """What is at an absolute path. Raises `NotRecorded`."""
        ...

    def cached(self, name: str) -> tuple[CacheEntry, ...] | None:
        """The lines of /etc/ld.so.cache for a SONAME, in file order; None without a usable cache. Raises `NotRecorded`."""
        ...

    def preload(self) -> str:
        """The text of /etc/ld.so.preload; empty when it is not there."""
        ...


class LiveTree:
    """The files of a host, each read once."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._known: dict[str, Node] = {}
        self._lines: dict[str, list[CacheEntry]] | None = None
        self._cache_read = False
        self._asked: dict[str, tuple[CacheEntry, ...]] = {}
        self._machine, self._bits = MACHINES.get(host.machine, (0, 0))

    def look(self, path: str) -> Node:
        """What is there now."""
        known = self._known.get(path)
        if known is None:
            known = self._known[path] = self._look(path)
        return known

    def cached(self, name: str) -> tuple[CacheEntry, ...] | None:
        """The cache is read once, and its lines are kept by SONAME."""
        if self._lines is None and not self._cache_read:
            self._cache_read = True
            self._lines = self._cache_lines()
        if self._lines is None:
            return None
        self._asked[name] = found = tuple(self._lines.get(name, ()))
        return found

    def _cache_lines(self) -> dict[str, list[CacheEntry]] | None:
        content = self._content(CACHE)
        parsed = parse_cache(content) if content is not None else None
        if not isinstance(parsed, Cache):
            return None
        lines: dict[str, list[CacheEntry]] = {}
        for entry in parsed.entries:
            lines.setdefault(entry.soname, []).append(entry)
        return lines

    def preload(self) -> str:
        """The file's text."""
        return (self._content(PRELOAD) or b"").decode("utf-8", "backslashreplace")

    def _content(self, path: str) -> bytes | None:
        try:
            return self._host.read(path, LARGEST_FILE)
        except (OSError, CouldNotLook):
            return None  # as the loader goes on without it

    def seen(self) -> dict[str, Node]:
        """Every path that was looked at."""
        return dict(self._known)

    def asked(self) -> dict[str, tuple[CacheEntry, ...]] | None:
        """Every SONAME that the cache was asked for, with its lines; None without a usable cache."""
        return None if self._lines is None and self._cache_read else dict(self._asked)

    def _look(self, path: str) -> Node:
        try:
            status = self._host.stat(path)
            if status.kind == "directory":
                unreadable = "" if self._host.may(path, os.R_OK) else "EACCES"
                return Node("directory", unreadable, file_id=status.inode)
            if status.kind != "file":
                return Node("absent", "ENXIO")  # a device or pipe: nobody waits for what it may say
            with self._host.opened(path) as (read_at, size):
                head = read_at(0, HEADER)
                problem = verify(head, self._machine, self._bits)
                problem = problem or verify_segments(head, read_at(*segments_at(head)))
                elf = read_elf(read_at, size, versions=True) if not problem else None
        except OSError as error:
            return Node("absent", errno.errorcode.get(error.errno or 0, "EIO"))
        except CouldNotLook:
            return Node("absent", "EACCES")
        if isinstance(elf, BadElf):
            problem, elf = problem_of(elf), None
        return Node(
            "file",
            file_id=status.inode,
            set_uid=bool(status.mode & 0o4000),
            problem=problem or unloadable(elf),
            elf=elf,
        )


def words_for(code: str, *, starting: bool = False) -> str:
    """strerror(3) in C for an errno's name; a process that is `starting` has only the loader's own few words."""
    if starting and code not in ("", *STARTING_WORDS):
        return f"Error {getattr(errno, code, 0)}"
    return os.strerror(getattr(errno, code, 0)) if code else ""
