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
errno = "EACCES"               # asking about it, or about anything below it, fails so; ENOENT hides it

[paths."/usr/lib/libcuda.so.1"]
link = "libcuda.so.580.65.06"

[files]                        # small files, above all those whose names a checkout cannot hold everywhere
"/sys/bus/pci/devices/0000:01:00.0/vendor" = "0x10de\\n"

[space."/dev/shm"]             # the file system mounted there
total = 67108864
free = 67108864
```

Where there is a ``host.toml``, the files that it does not name belong to root, mode 0644 (0755 where
executable), as in most of an installed system: a checkout keeps no owners. Without one, each file's own state
counts.
"""

from __future__ import annotations

import errno
import os
import zlib
from typing import Any

import msgspec

from envdoctor.errors import DocumentError
from envdoctor.filesystem import Kind, Space, Stat, stat_of
from envdoctor.host import Host

DEFAULT_MODES: dict[Kind, int] = {"directory": 0o755, "link": 0o777}


class PathEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``[paths."..."]`` says of one path."""

    kind: Kind | None = None
    """None: what the tree has there, else a file."""
    mode: str = ""
    uid: int = 0
    gid: int = 0
    size: int | None = None
    device: tuple[int, int] | None = None
    link: str | None = None
    errno: str = ""

    def __post_init__(self) -> None:
        if self.errno and not isinstance(getattr(errno, self.errno, None), int):
            raise ValueError(f"{self.errno!r} is no errno")
        if self.mode:
            int(self.mode, 8)


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
    files: dict[str, str] = {}
    space: dict[str, SpaceEntry] = {}


class TreeOverlay:
    """Answers from a `HostFile`, completing the files under `root`."""

    def __init__(self, root: str, entries: HostFile) -> None:
        self._root = root
        self._paths = entries.paths
        self._files = {path: text.encode() for path, text in entries.files.items()}
        self._space = entries.space
        self._own_state = entries == HostFile()

    def stat(self, path: str) -> Stat | None:
        """What is told of this path, completed by the file that the tree has there."""
        entry = self._paths.get(path)
        if entry is not None and entry.errno:
            code = getattr(errno, entry.errno)
            raise OSError(code, os.strerror(code), path)
        found = self._found(path)
        if self._own_state or (entry is None and found is None):
            return None
        entry = entry or PathEntry()
        kind = entry.kind or (found.kind if found else "file")
        executable = found is not None and kind == "file" and found.mode & 0o111
        return Stat(
            kind=kind,
            mode=int(entry.mode, 8)
            if entry.mode
            else 0o755
            if executable
            else DEFAULT_MODES.get(kind, 0o644),
            uid=entry.uid,
            gid=entry.gid,
            size=entry.size if entry.size is not None else found.size if found else 0,
            device=entry.device,
            inode=found.inode if found else (1, zlib.crc32(path.encode())),
            mtime=found.mtime if found else 0.0,
        )

    def _found(self, path: str) -> Stat | None:
        """What the tree or ``[files]`` has there, or the directory that only the overlay fills."""
        text = self._files.get(path)
        if text is not None:
            return Stat("file", 0o644, 0, 0, len(text), inode=(2, zlib.crc32(path.encode())))
        try:
            return stat_of(os.lstat(os.path.join(self._root, path.lstrip("/"))))
        except OSError:
            implied = self.names(path, set())
            return Stat("directory", 0o755, 0, 0, inode=(3, zlib.crc32(path.encode()))) if implied else None

    def link(self, path: str) -> str | None:
        """The target written in the overlay."""
        entry = self._paths.get(path)
        return entry.link if entry else None

    def content(self, path: str) -> bytes | None:
        """The text written in the overlay."""
        return self._files.get(path)

    def names(self, path: str, found: set[str]) -> set[str]:
        """The names of the tree and of the overlay, without those that the overlay hides."""
        prefix = path.rstrip("/") + "/"
        told = {each[len(prefix) :] for each in (*self._paths, *self._files) if each.startswith(prefix)}
        hidden = {each for each in told if self._hides(prefix + each)}
        names = (found | {each.partition("/")[0] for each in told - hidden}) - hidden
        return names - {"host.toml"} if prefix == "/" else names

    def _hides(self, path: str) -> bool:
        entry = self._paths.get(path)
        return entry is not None and entry.errno == "ENOENT"

    def space(self, path: str) -> Space | None:
        """The entry of the nearest mount point upwards."""
        mounts = [mount for mount in self._space if f"{path}/".startswith(mount.rstrip("/") + "/")]
        if not mounts:
            return None
        told = self._space[max(mounts, key=len)]
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
