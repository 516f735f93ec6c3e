"""What a file system says of a path, and what a tree of copied files needs to be told beside its files."""

from __future__ import annotations

import os
import stat as modes
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["file", "directory", "link", "char", "block", "fifo", "socket", "other"]


class Stat(msgspec.Struct, frozen=True):
    """What stat(2) says of a path, without what no check judges."""

    kind: Kind
    mode: int
    """Permission bits, 0o7777 at most."""
    uid: int
    gid: int
    size: int = 0
    device: tuple[int, int] | None = None
    """Major and minor number of a character or block device."""
    inode: tuple[int, int] = (0, 0)
    """st_dev and st_ino: two paths with one pair are one file."""
    mtime: float = 0.0


class Space(msgspec.Struct, frozen=True):
    """What statvfs(3) says of the file system under a path: bytes, inodes and mount flags."""

    total: int
    free: int
    """Bytes that this user may still write."""
    inodes: int
    inodes_free: int
    read_only: bool
    noexec: bool


class Overlay(Protocol):
    """What a tree of files cannot hold by itself. Paths are absolute inside the tree, links resolved."""

    def stat(self, path: str) -> Stat | None:
        """An answer that replaces the file's own, or None where the file's own holds. May raise OSError."""

    def link(self, path: str) -> str | None:
        """The target of a link that is not a file of the tree."""

    def content(self, path: str) -> bytes | None:
        """The bytes of a file that is not a file of the tree."""

    def names(self, path: str, found: set[str]) -> set[str]:
        """The names in a directory, of which `found` are files of the tree."""

    def space(self, path: str) -> Space | None:
        """The file system under a path, or None when it was not recorded."""


def stat_of(raw: os.stat_result) -> Stat:
    """stat(2)'s answer in our terms."""
    device = None
    if modes.S_ISCHR(raw.st_mode) or modes.S_ISBLK(raw.st_mode):
        device = (os.major(raw.st_rdev), os.minor(raw.st_rdev))
    return Stat(
        kind=_kind(raw.st_mode),
        mode=modes.S_IMODE(raw.st_mode),
        uid=raw.st_uid,
        gid=raw.st_gid,
        size=raw.st_size,
        device=device,
        inode=(raw.st_dev, raw.st_ino),
        mtime=raw.st_mtime,
    )


def _kind(mode: int) -> Kind:
    tests: tuple[tuple[Callable[[int], bool], Kind], ...] = (
        (modes.S_ISREG, "file"),
        (modes.S_ISDIR, "directory"),
        (modes.S_ISLNK, "link"),
        (modes.S_ISCHR, "char"),
        (modes.S_ISBLK, "block"),
        (modes.S_ISFIFO, "fifo"),
        (modes.S_ISSOCK, "socket"),
    )
    return next((kind for test, kind in tests if test(mode)), "other")
