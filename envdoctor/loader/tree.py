"""What the loader would find at a path: `Tree`, and the one that reads a machine."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from envdoctor.facts import CouldNotLook
from envdoctor.probing.elf import BadElf, Elf, read_elf

if TYPE_CHECKING:
    from envdoctor.host import Host

HEADER = 64
ET_NAMES = ("exec", "dyn")
PHENTSIZE = {64: 56, 32: 32}
MACHINES = {"x86_64": (62, 64), "aarch64": (183, 64)}
"""Processors whose loader is modelled: e_machine and the class of its files."""


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


class Tree(Protocol):
    """A file system as the loader sees it."""

    def look(self, path: str) -> Node:
        """What is at an absolute path. Raises `NotRecorded`."""
        ...

    def content(self, path: str) -> bytes | None:
        """The bytes of a configuration file of the loader's (/etc/ld.so.cache); None when it is not there."""
        ...


class LiveTree:
    """The files of a host, each read once."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._known: dict[str, Node] = {}
        self._machine, self._bits = MACHINES.get(host.machine, (0, 0))

    def look(self, path: str) -> Node:
        """What is there now."""
        known = self._known.get(path)
        if known is None:
            known = self._known[path] = self._look(path)
        return known

    def content(self, path: str) -> bytes | None:
        """The file's bytes, at most 64 MB."""
        try:
            return self._host.read(path, 64 << 20)
        except (OSError, CouldNotLook):
            return None  # as the loader goes on without it

    def seen(self) -> dict[str, Node]:
        """Every path that was looked at."""
        return dict(self._known)

    def _look(self, path: str) -> Node:
        try:
            status = self._host.stat(path)
            if status.kind == "directory":
                return Node("directory", file_id=status.inode)
            if status.kind != "file":
                return Node("absent", "ENXIO")  # a device or pipe: nobody waits for what it may say
            with self._host.opened(path) as (read_at, size):
                head = read_at(0, HEADER)
                problem = verify(head, self._machine, self._bits)
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


def verify(head: bytes, machine: int, bits: int) -> str:
    """What the loader says to a file's first bytes; empty when it takes them.

    Source: ``open_verify`` in elf/dl-load.c, in its order.
    """
    if len(head) < HEADER:
        return "file too short"
    if head[:4] != b"\x7fELF":
        return "invalid ELF header"
    if head[4] != bits // 32:
        return "other-class"
    if head[5] != 1:
        return "ELF file data encoding not little-endian"
    if head[6] != 1:
        return "ELF file version ident does not match current one"
    if head[7] not in (0, 3):
        return "ELF file OS ABI invalid"
    if head[8] > 3:
        return "ELF file ABI version invalid"
    if any(head[9:16]):
        return "nonzero padding in e_ident"
    if int.from_bytes(head[20:24], "little") != 1:
        return "ELF file version does not match current one"
    if int.from_bytes(head[18:20], "little") != machine:
        return "other-machine"
    if int.from_bytes(head[16:18], "little") not in (2, 3):
        return "only ET_DYN and ET_EXEC can be loaded"
    if int.from_bytes(head[54:56], "little") != PHENTSIZE[bits]:
        return "ELF file's phentsize not the expected size"
    return ""


HEADER_WORDS = (
    "file too short",
    "invalid ELF header",
    "ELF file data encoding not little-endian",
    "ELF file version ident does not match current one",
    "ELF file OS ABI invalid",
    "ELF file ABI version invalid",
    "nonzero padding in e_ident",
    "ELF file version does not match current one",
    "only ET_DYN and ET_EXEC can be loaded",
    "ELF file's phentsize not the expected size",
)
"""What `verify` says of a file with which the search ends."""
CRASHES = "crash"
"""The loader has no words for it: it reads what is not there, and the process dies (SIGBUS, SIGSEGV)."""


def problem_of(bad: BadElf) -> str:
    """What becomes of a file with a good header whose tables cannot be read."""
    return "object file has no dynamic section" if bad.reason == "no-dynamic-section" else CRASHES


def unloadable(elf: Elf | None) -> str:
    """Why a whole file is no library."""
    if elf is not None and elf.type == "exec":
        return "cannot dynamically load executable"
    if elf is not None and elf.pie:
        return "cannot dynamically load position-independent executable"
    return ""


def words_for(code: str) -> str:
    """strerror(3) in C for an errno's name."""
    return os.strerror(getattr(errno, code, 0)) if code else ""
