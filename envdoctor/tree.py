"""Host trees: a folder of files with a ``host.toml`` for what files alone cannot hold.

```toml
[process]                      # who looks
uid = 1000
gid = 1000
groups = [44]
machine = "x86_64"

[environ]
PATH = "/usr/bin"

[paths."/dev/nvidia0"]         # a device that no file of the tree could be
kind = "char"
device = [195, 0]
mode = "0666"
uid = 0
gid = 0

[paths."/proc/driver/secret"]
errno = "EACCES"               # opening or asking about it fails so

[paths."/usr/lib/libcuda.so.1"]
link = "libcuda.so.580.65.06"

[space."/dev/shm"]             # the file system mounted there
total = 67108864
free = 67108864
```
"""

from __future__ import annotations

import errno
import os
from typing import Any

import msgspec

from envdoctor.errors import DocumentError
from envdoctor.host import Host, Kind, Space, Stat


class PathEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``[paths."..."]`` says of one path."""

    kind: Kind = "file"
    mode: str = ""
    uid: int = 0
    gid: int = 0
    size: int | None = None
    device: tuple[int, int] | None = None
    link: str | None = None
    errno: str = ""


class SpaceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``[space."..."]`` says of one mount point."""

    total: int
    free: int
    inodes: int = 1_000_000
    inodes_free: int = 900_000
    read_only: bool = False
    noexec: bool = False


class Process(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who looks at the tree, and on what processor."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    system: str = "linux"
    machine: str = "x86_64"
    cwd: str = "/"
    time: float = 1_780_000_000.0


class HostFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole ``host.toml``."""

    process: Process = Process()
    environ: dict[str, str] = {}
    paths: dict[str, PathEntry] = {}
    space: dict[str, SpaceEntry] = {}


class TreeOverlay:
    """Answers from a `HostFile`, completing the files under `root`."""

    def __init__(self, root: str, entries: HostFile) -> None:
        self._root = root
        self._paths = entries.paths
        self._space = entries.space

    def stat(self, path: str) -> Stat | None:
        """The entry for this path; where it names no mode, the file's own is kept."""
        entry = self._paths.get(path)
        if entry is None:
            return self._implied_directory(path)
        if entry.errno:
            code = getattr(errno, entry.errno)
            raise OSError(code, os.strerror(code), path)
        if entry.link is not None:
            return None
        default = 0o755 if entry.kind == "directory" else 0o644
        return Stat(
            kind=entry.kind,
            mode=int(entry.mode, 8) if entry.mode else default,
            uid=entry.uid,
            gid=entry.gid,
            size=entry.size if entry.size is not None else self._size(path),
            device=entry.device,
            inode=(1, abs(hash(path)) % (1 << 31)),
        )

    def _implied_directory(self, path: str) -> Stat | None:
        """A directory that exists only because the overlay puts something into it."""
        if os.path.lexists(os.path.join(self._root, path.lstrip("/"))) or not self.names(path):
            return None
        return Stat("directory", 0o755, 0, 0)

    def _size(self, path: str) -> int:
        try:
            return os.lstat(os.path.join(self._root, path.lstrip("/"))).st_size
        except OSError:
            return 0  # a path that only the overlay knows has no bytes

    def link(self, path: str) -> str | None:
        """The target written in the overlay."""
        entry = self._paths.get(path)
        return entry.link if entry else None

    def names(self, path: str) -> tuple[str, ...]:
        """The direct children that only the overlay knows."""
        prefix = path.rstrip("/") + "/"
        return tuple({each[len(prefix) :].partition("/")[0] for each in self._paths if each.startswith(prefix)})

    def space(self, path: str) -> Space | None:
        """The entry of the nearest mount point upwards."""
        candidates = [mount for mount in self._space if path == mount or path.startswith(mount.rstrip("/") + "/")]
        if not candidates:
            return None
        told = self._space[max(candidates, key=len)]
        return Space(
            total=told.total,
            free=told.free,
            inodes=told.inodes,
            inodes_free=told.inodes_free,
            read_only=told.read_only,
            noexec=told.noexec,
        )


def host_tree(root: str | os.PathLike[str], **changes: Any) -> Host:
    """A `Host` over the tree at `root`. `changes` replace fields of `Process`, or ``environ``.

    Raises `DocumentError` when ``host.toml`` is there and does not fit.
    """
    root = os.fspath(root)
    entries = _read(os.path.join(root, "host.toml"))
    environ = changes.pop("environ", entries.environ)
    who = msgspec.structs.replace(entries.process, **changes)
    return Host(
        root=root,
        environ=environ,
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        system=who.system,
        machine=who.machine,
        clock=lambda: who.time,
        overlay=TreeOverlay(root, entries),
        cwd=who.cwd,
    )


def _read(path: str) -> HostFile:
    try:
        with open(path, "rb") as file:
            return msgspec.toml.decode(file.read(), type=HostFile)
    except FileNotFoundError:
        return HostFile()
    except (msgspec.MsgspecError, ValueError) as error:
        raise DocumentError(f"{path}: {error}") from error
