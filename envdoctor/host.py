"""`Host`: the only way for a probe to look at a machine, live or a tree of files that was copied from one.

Links resolve inside `root`. A tree answers what files alone cannot hold (owners, modes, devices, errors, free
space) from an `Overlay`, see `envdoctor.tree`.
"""

from __future__ import annotations

import errno
import math
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from envdoctor.facts import CouldNotLook
from envdoctor.filesystem import Space, Stat, stat_of
from envdoctor.probing.child import run_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from envdoctor.filesystem import Overlay
    from envdoctor.probing.child import ChildRequest, ChildResult

__all__ = ["Host", "Space", "Stat", "could_not_look"]

ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ESRCH)
"""Errors that mean *not there*; ESRCH is what the files of a process say that has just ended."""
MAX_LINKS = 40
TEXT_LIMIT = 1 << 20


class Host:
    """A machine to look at. All paths are absolute paths of that machine.

    Methods raise OSError as the operating system does; `text` and `names` sort that into *not there* (None)
    and
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
        self.ends = math.inf
        """When the run must be over, by `time.monotonic`: trials end their children before."""

    @classmethod
    def here(cls, *, environ: Mapping[str, str] | None = None) -> Host:
        """The machine that this process runs on; `environ` where it is not this process's own."""
        posix = sys.platform != "win32"
        return cls(
            environ=os.environ if environ is None else environ,
            uid=os.getuid() if posix else -1,
            gid=os.getgid() if posix else -1,
            groups=tuple(os.getgroups()) if posix else (),
            system={"win32": "windows"}.get(sys.platform, sys.platform),
            machine=os.uname().machine if posix else os.environ.get("PROCESSOR_ARCHITECTURE", "").lower(),
            run=run_child,
            cwd=_cwd(),
        )

    def remaining(self) -> float:
        """Seconds that this run still has: infinite where it has no budget."""
        return self.ends - time.monotonic()

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
            _sort(path, error)
            return None

    def names(self, path: str, limit: int = 100_000) -> tuple[str, ...] | None:
        """Sorted names in a directory, None when it is not there, `CouldNotLook` when it cannot be read."""
        try:
            return self.listdir(path, limit)
        except OSError as error:
            _sort(path, error)
            return None

    def status(self, path: str, *, follow: bool = True) -> Stat | None:
        """`stat`, None when the path is not there, `CouldNotLook` for any other error."""
        try:
            return self.stat(path, follow=follow)
        except OSError as error:
            _sort(path, error)
            return None

    def read(self, path: str, limit: int = TEXT_LIMIT) -> bytes:
        """Up to `limit` bytes from a file's start. Never waits for a pipe or device with nothing to say."""
        inside = self._readable(path)
        told = self._overlay.content(inside) if self._overlay else None
        if told is not None:
            return told[:limit]
        handle = self._open(inside)
        try:
            return _read_stream(handle, limit)
        finally:
            os.close(handle)

    @contextmanager
    def opened(self, path: str) -> Iterator[tuple[Callable[[int, int], bytes], int]]:
        """A positional reader ``(offset, length) -> bytes`` of a file, and its size as stat tells it."""
        inside = self._readable(path)
        told = self._overlay.content(inside) if self._overlay else None
        if told is not None:
            yield lambda offset, length: told[offset : offset + length], len(told)
            return
        handle = self._open(inside)
        try:
            yield lambda offset, length: os.pread(handle, length, offset), os.fstat(handle).st_size
        finally:
            os.close(handle)

    def _open(self, inside: str) -> int:
        """Without waiting for the other end of a pipe, and without becoming a terminal's process."""
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
        return os.open(self._outside(inside), flags | getattr(os, "O_BINARY", 0))

    def listdir(self, path: str, limit: int = 100_000) -> tuple[str, ...]:
        """Sorted names in a directory, at most `limit`."""
        if self._overlay is not None and self.stat(path).kind != "directory":
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        inside = self._readable(path)
        found: set[str] = set()
        try:
            with os.scandir(self._outside(inside)) as entries:
                for entry in entries:
                    found.add(entry.name)
                    if len(found) >= limit:
                        break
        except FileNotFoundError:
            if self._overlay is None:  # else only the overlay knows it
                raise
        return tuple(sorted(self._overlay.names(inside, found) if self._overlay else found))

    def stat(self, path: str, *, follow: bool = True) -> Stat:
        """stat(2), or lstat(2) with ``follow=False``."""
        inside = self._inside(path, last=follow)
        if self._overlay is not None:
            self._search(inside)
            if not follow and self._overlay.link(inside) is not None:
                return Stat("link", 0o777, 0, 0)
            told = self._overlay.stat(inside)
            if told is not None:
                return told
        outside = self._outside(inside)
        return stat_of(os.stat(outside) if self.live and follow else os.lstat(outside))

    def exists(self, path: str) -> bool:
        """Whether the path leads to something. An error other than *not there* raises `CouldNotLook`."""
        return self.status(path) is not None

    def readlink(self, path: str) -> str:
        """The target of a symbolic link, as written."""
        inside = self._inside(path, last=False)
        self._search(inside)
        told = self._overlay.link(inside) if self._overlay else None
        return told if told is not None else os.readlink(self._outside(inside))

    def may(self, path: str, want: int) -> bool:
        """Whether this user may read, write or execute it (os.R_OK, W_OK, X_OK); not when it is not there."""
        if self.live:
            return os.access(path, want)
        try:
            status = self.stat(path)
            space = self.space(path) if want & os.W_OK else None
        except OSError:
            return False
        return not (space and space.read_only) and self._allows(status, want)

    def space(self, path: str) -> Space | None:
        """The file system under a path; None where it is not told. Raises OSError when nothing is there."""
        inside = self._inside(path)
        if self._overlay is not None:
            return self._overlay.space(inside)
        if sys.platform == "win32":
            return None
        told = os.statvfs(self._outside(inside))
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

        What is not there is kept as it is written. Raises OSError for a loop of links.
        """
        done: list[str] = []
        todo = _parts(path)
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
            todo.extend(_parts(target))
        return "/" + "/".join(done)

    def _link_target(self, inside: str) -> str | None:
        told = self._overlay.link(inside) if self._overlay else None
        if told is not None:
            return told
        try:
            return os.readlink(self._outside(inside))
        except OSError:
            return None  # no link, or nothing there: whoever opens the path gets the error itself

    def _inside(self, path: str, *, last: bool = True) -> str:
        """The path as `_outside` takes it; on the live machine the kernel itself resolves links."""
        return path if self.live else self.resolve(path, last=last)

    def _outside(self, inside: str) -> str:
        return inside if self.root == "/" else os.path.join(self.root, inside.lstrip("/"))

    def _readable(self, path: str) -> str:
        """The path inside the root, once the overlay does not keep this user from reading it."""
        inside = self._inside(path)
        if self._overlay is not None:
            self._search(inside)
            told = self._overlay.stat(inside)
            if told is not None and not self._allows(told, os.R_OK):
                raise _denied(path)
        return inside

    def _search(self, inside: str) -> None:
        """Raise as the kernel would where the overlay bars a directory on the way."""
        if self._overlay is None:
            return
        for end in (place for place, letter in enumerate(inside) if letter == "/" and place):
            told = self._overlay.stat(inside[:end])
            if told is not None and told.kind == "directory" and not self._allows(told, os.X_OK):
                raise _denied(inside)

    def _allows(self, status: Stat, want: int) -> bool:
        """The classic permission check: root may all but execute what nobody may."""
        if self.uid == 0:
            return not want & os.X_OK or status.kind == "directory" or bool(status.mode & 0o111)
        shift = 6 if self.uid == status.uid else 3 if status.gid in (self.gid, *self.groups) else 0
        return (status.mode >> shift) & want == want


def could_not_look(error: BaseException) -> CouldNotLook | None:
    """What an exception says of a probe that was kept from looking; None for *not there* and for a defect."""
    if isinstance(error, CouldNotLook):
        return error
    if not isinstance(error, OSError) or error.errno is None or error.errno in ABSENT:
        return None
    allow = "run as root, or as a user who may read it" if error.errno in (errno.EACCES, errno.EPERM) else ""
    where = f"{error.filename}: " if error.filename else ""
    return CouldNotLook(f"{where}{error.strerror}", allow)


def _sort(path: str, error: OSError) -> None:
    """Return for *not there*; for the rest raise `CouldNotLook`, naming the path as it was asked for."""
    if error.errno in ABSENT:
        return
    kept = could_not_look(error)
    reason, allow = (error.strerror, kept.would_allow) if kept else (str(error), "")
    raise CouldNotLook(f"{path}: {reason}", allow) from error


def _denied(path: str) -> PermissionError:
    return PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _parts(path: str) -> list[str]:
    """The components of a path, the first one last, so that it is popped first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _read_stream(handle: int, limit: int) -> bytes:
    pieces: list[bytes] = []
    rest = limit
    while rest > 0:
        try:
            piece = os.read(handle, min(rest, 1 << 20))
        except BlockingIOError:
            break  # a pipe that is open at its other end, and empty
        if not piece:
            break
        pieces.append(piece)
        rest -= len(piece)
    return b"".join(pieces)


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"  # the directory was removed under us; nothing that a check asks depends on it
