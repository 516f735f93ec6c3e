"""`Host`: the only way for a probe to look at a machine, live or a tree of files that was copied from one.

Links resolve inside `root`. A tree answers what files alone cannot hold (owners, modes, devices, errors, free space)
from an `Overlay`, see `envdoctor.tree`.
"""

from __future__ import annotations

import errno
import os
import stat as modes
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, Protocol

import msgspec

from envdoctor.facts import CouldNotLook
from envdoctor.probing.child import ChildRequest, ChildResult, run_child

Kind = Literal["file", "directory", "link", "char", "block", "fifo", "socket", "other"]
ABSENT = (errno.ENOENT, errno.ENOTDIR)
MAX_LINKS = 40
TEXT_LIMIT = 1 << 20


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
        """An answer that replaces or completes the file's own, or None for the file's own. May raise OSError."""

    def link(self, path: str) -> str | None:
        """The target of a link that is not a file of the tree."""

    def names(self, path: str) -> tuple[str, ...]:
        """Names in a directory that are not files of the tree."""

    def space(self, path: str) -> Space | None:
        """The file system under a path, or None when it was not recorded."""


class Host:
    """A machine to look at. All paths are absolute paths of that machine.

    Methods raise OSError as the operating system does; `text` and `names` sort that into *not there* (None) and
    *could not look* (`CouldNotLook`), which is what most probes want.
    """

    def __init__(
        self,
        *,
        root: str = "/",
        environ: Mapping[str, str],
        uid: int,
        gid: int,
        groups: tuple[int, ...],
        system: str = "linux",
        machine: str = "",
        run: Callable[[ChildRequest], ChildResult] | None = None,
        clock: Callable[[], float] = time.time,
        overlay: Overlay | None = None,
        cwd: str = "/",
    ) -> None:
        self.root = root
        self.environ = dict(environ)
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.system = system
        """``linux``, ``darwin`` or ``windows``."""
        self.machine = machine
        """The processor as uname(2) names it: ``x86_64``, ``aarch64``."""
        self.cwd = cwd
        self.clock = clock
        self._run = run
        self._overlay = overlay
        self.live = root == "/" and overlay is None

    @classmethod
    def here(cls) -> Host:
        """The machine that this process runs on."""
        import platform

        windows = os.name == "nt"
        return cls(
            environ=os.environ,
            uid=-1 if windows else os.getuid(),
            gid=-1 if windows else os.getgid(),
            groups=() if windows else tuple(os.getgroups()),
            system=platform.system().lower(),
            machine=platform.machine(),
            run=run_child,
            cwd=_cwd(),
        )

    def run_child(self, request: ChildRequest) -> ChildResult:
        """Run a program of this machine. Raises `CouldNotLook` where nothing can be run: a tree of files."""
        if self._run is None:
            raise CouldNotLook("this is a tree of files, in which nothing can be run")
        if request.env is None:
            request = msgspec.structs.replace(request, env=self.environ)
        return self._run(request)

    def text(self, path: str, limit: int = TEXT_LIMIT) -> str | None:
        """A small text file, None when it is not there, `CouldNotLook` when it cannot be read.

        At most `limit` bytes are read; undecodable bytes become U+FFFD.
        """
        try:
            return self.read(path, limit).decode("utf-8", "replace")
        except OSError as error:
            return _absent_or_raise(path, error)

    def names(self, path: str, limit: int = 100_000) -> tuple[str, ...] | None:
        """The sorted names in a directory, None when it is not there, `CouldNotLook` when it cannot be read."""
        try:
            return self.listdir(path, limit)
        except OSError as error:
            return _absent_or_raise(path, error)

    def status(self, path: str, *, follow: bool = True) -> Stat | None:
        """`stat`, None when the path is not there, `CouldNotLook` for any other error."""
        try:
            return self.stat(path, follow=follow)
        except OSError as error:
            return _absent_or_raise(path, error)

    def read(self, path: str, limit: int = TEXT_LIMIT) -> bytes:
        """Up to `limit` bytes from the start of a file. Never blocks on a pipe or device that has nothing to say."""
        with self.opened(path) as (read_at, _):
            return self._read_stream(read_at, limit)

    @staticmethod
    def _read_stream(read_at: Callable[[int, int], bytes], limit: int) -> bytes:
        pieces: list[bytes] = []
        offset = 0
        while offset < limit:
            piece = read_at(offset, min(limit - offset, 1 << 20))
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    @contextmanager
    def opened(self, path: str) -> Iterator[tuple[Callable[[int, int], bytes], int]]:
        """A positional reader ``(offset, length) -> bytes`` of a file, and the file's size as stat tells it."""
        self._refuse_by_overlay(path)
        handle = os.open(self._inside(path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            yield lambda offset, length: os.pread(handle, length, offset), os.fstat(handle).st_size
        finally:
            os.close(handle)

    def listdir(self, path: str, limit: int = 100_000) -> tuple[str, ...]:
        """Sorted names in a directory, at most `limit`."""
        self._refuse_by_overlay(path)
        extra = self._overlay.names(self.resolve(path)) if self._overlay else ()
        names = set(extra)
        try:
            with os.scandir(self._inside(path)) as entries:
                for entry in entries:
                    names.add(entry.name)
                    if len(names) >= limit:
                        break
        except FileNotFoundError:
            if not extra:
                raise
        return tuple(sorted(names))

    def stat(self, path: str, *, follow: bool = True) -> Stat:
        """stat(2), or lstat(2) with ``follow=False``."""
        inside = self.resolve(path, last=follow)
        if self._overlay:
            if not follow and self._overlay.link(inside) is not None:
                return Stat("link", 0o777, 0, 0)
            told = self._overlay.stat(inside)
            if told is not None:
                return told
        return _stat(os.lstat(self._outside(inside)) if not follow or self.root != "/" else os.stat(inside))

    def exists(self, path: str) -> bool:
        """Whether the path leads to something. An error other than *not there* raises `CouldNotLook`."""
        return self.status(path) is not None

    def readlink(self, path: str) -> str:
        """The target of a symbolic link, as written."""
        inside = self.resolve(path, last=False)
        told = self._overlay.link(inside) if self._overlay else None
        return told if told is not None else os.readlink(self._outside(inside))

    def may(self, path: str, want: int) -> bool:
        """Whether this user may read, write or execute (os.R_OK, W_OK, X_OK) the path; False when it is not there."""
        if self.live:
            return os.access(path, want)
        try:
            status = self.stat(path)
        except OSError:
            return False
        if want & os.W_OK and (space := self.space(path)) is not None and space.read_only:
            return False
        return _may(status, want, self.uid, {self.gid, *self.groups})

    def space(self, path: str) -> Space | None:
        """The file system under a path; None when a tree does not tell. Raises OSError when the path is not there."""
        if self._overlay is not None:
            return self._overlay.space(self.resolve(path))
        told = os.statvfs(path)
        return Space(
            total=told.f_frsize * told.f_blocks,
            free=told.f_frsize * told.f_bavail,
            inodes=told.f_files,
            inodes_free=told.f_favail,
            read_only=bool(told.f_flag & os.ST_RDONLY),
            noexec=bool(told.f_flag & getattr(os, "ST_NOEXEC", 8)),
        )

    def resolve(self, path: str, *, last: bool = True) -> str:
        """The path with every link resolved inside the root; with ``last=False`` the last component is kept.

        On the live machine the path is returned as it is: the kernel resolves it.
        """
        if self.live:
            return path
        done: list[str] = []
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                del done[-1:]
                continue
            here = "/" + "/".join([*done, part])
            target = self._link_target(here) if todo or last else None
            if target is None:
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                done.clear()
            todo.extend(each for each in reversed(target.split("/")) if each not in ("", "."))
        return "/" + "/".join(done)

    def _link_target(self, inside: str) -> str | None:
        told = self._overlay.link(inside) if self._overlay else None
        if told is not None:
            return told
        try:
            return os.readlink(self._outside(inside))
        except OSError:
            return None  # no link, or nothing there: whoever opens the path gets the error itself

    def _outside(self, inside: str) -> str:
        return inside if self.root == "/" else os.path.join(self.root, inside.lstrip("/"))

    def _inside(self, path: str) -> str:
        return self._outside(self.resolve(path))

    def _refuse_by_overlay(self, path: str) -> None:
        """A tree may say that opening a path fails, or that its mode keeps this user out."""
        if self._overlay is None:
            return
        told = self._overlay.stat(self.resolve(path))
        if told is not None and not _may(told, os.R_OK, self.uid, {self.gid, *self.groups}):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _absent_or_raise(path: str, error: OSError) -> None:
    if error.errno in ABSENT:
        return
    allow = "run as root, or as a user who may read it" if error.errno in (errno.EACCES, errno.EPERM) else ""
    raise CouldNotLook(f"{path}: {error.strerror or error}", allow) from error


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"  # the directory was removed under us; nothing that a check asks depends on it


def _stat(raw: os.stat_result) -> Stat:
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


def _may(status: Stat, want: int, uid: int, groups: set[int]) -> bool:
    """The classic permission check: root may all but execute what nobody may."""
    if uid == 0:
        return not want & os.X_OK or status.kind == "directory" or bool(status.mode & 0o111)
    shift = 6 if uid == status.uid else 3 if status.gid in groups else 0
    return (status.mode >> shift) & want == want
