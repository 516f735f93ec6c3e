"""A tree that was looked at, written down: what a recorded machine's loader would find, and where nobody looked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from envdoctor.loader.tree import ABSENT, CACHE, Node, NotRecorded
from envdoctor.probing.ldcache import CacheEntry

if TYPE_CHECKING:
    from envdoctor.loader.tree import LiveTree


class Folder(msgspec.Struct, frozen=True):
    """A directory, and the names that were looked for in it in vain."""

    path: str
    absent: tuple[str, ...] = ()


class File(msgspec.Struct, frozen=True):
    """A path that leads to something else than nothing."""

    path: str
    node: Node


class CachedName(msgspec.Struct, frozen=True):
    """The lines of ld.so.cache for one SONAME; none where it has none."""

    name: str
    lines: tuple[CacheEntry, ...]


class TreeRecord(msgspec.Struct, frozen=True):
    """A tree as it is written down: what was looked at, and nothing else."""

    files: tuple[File, ...]
    """What was found, and what could not be opened for another reason than not being there."""
    folders: tuple[Folder, ...]
    gone: tuple[str, ...]
    """Directories that are not there, nor anything below them."""
    cache: tuple[CachedName, ...] | None
    """None: there is no usable cache."""
    preload: str = ""


def record_of(tree: LiveTree) -> TreeRecord:
    """Everything that was looked at. Files are numbered, not named by inodes: two looks give one record."""
    known, cache = tree.seen(), tree.asked()
    numbers: dict[tuple[int, int], int] = {}
    folders: dict[str, list[str]] = {}
    files: list[File] = []
    gone: list[str] = []
    for path, node in sorted(known.items()):
        if node.kind == "directory" and not node.errno:
            folders.setdefault(path, [])
            continue
        if node.kind == "file" or node.errno != "ENOENT":
            number = numbers.setdefault(node.file_id, len(numbers) + 1) if node.kind == "file" else 0
            files.append(File(path, msgspec.structs.replace(node, file_id=(0, number))))
            continue
        folder, _, name = path.rpartition("/")
        if any(each == folder or folder.startswith(f"{each}/") for each in gone):
            continue
        if folder in known and known[folder].kind == "absent":
            gone.append(folder)
        else:
            folders.setdefault(folder, []).append(name)
    return TreeRecord(
        files=tuple(files),
        folders=tuple(Folder(path, tuple(names)) for path, names in sorted(folders.items())),
        gone=tuple(gone),
        cache=None
        if cache is None
        else tuple(CachedName(name, lines) for name, lines in sorted(cache.items())),
        preload=tree.preload(),
    )


class RecordedTree:
    """A tree that was written down. What it does not hold is not known, which is not the same as absent."""

    def __init__(self, record: TreeRecord) -> None:
        self._files = {each.path: each.node for each in record.files}
        self._folders = {each.path: frozenset(each.absent) for each in record.folders}
        self._gone = record.gone
        self._cache = None if record.cache is None else {each.name: each.lines for each in record.cache}
        self._preload = record.preload

    def look(self, path: str) -> Node:
        """What was there. Raises `NotRecorded` where nobody looked."""
        if path in self._files:
            return self._files[path]
        folder, _, name = path.rpartition("/")
        if name in self._folders.get(folder, ()):
            return ABSENT
        if any(path == each or path.startswith(f"{each}/") for each in self._gone):
            return ABSENT
        if path in self._folders:
            return Node("directory")
        raise NotRecorded(path)

    def cached(self, name: str) -> tuple[CacheEntry, ...] | None:
        """The lines that were there. Raises `NotRecorded` for a name that nobody looked for."""
        if self._cache is None:
            return None
        if name not in self._cache:
            raise NotRecorded(f"{CACHE}: {name}")
        return self._cache[name]

    def preload(self) -> str:
        """The text of the preload file."""
        return self._preload
