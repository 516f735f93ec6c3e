"""Where the loader looks for a name, in its order, and what it makes of every file that it tries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from envdoctor.loader.lookups import Attempt, Rule
from envdoctor.loader.paths import directories
from envdoctor.loader.tree import Node, words_for

if TYPE_CHECKING:
    from envdoctor.loader.process import Loaded
    from envdoctor.loader.settings import LoaderSettings
    from envdoctor.loader.tree import Tree
    from envdoctor.probing.ldcache import CacheEntry

CACHE_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}
"""The kind of library that this processor's loader takes from the cache (``_DL_CACHE_DEFAULT_ID``)."""
ANY_ELF = 1
TLS_BIT = 1 << 63
PLATFORM_BITS = {"i586": 1 << 48, "i686": 1 << 49, "haswell": 1 << 50, "xeon_phi": 1 << 51}
ALL_PLATFORMS = 0xF << 48


class GivenUp(Exception):
    """The loader does not go on searching. The arguments are the object that it names and its words."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(f"{name}: {words}")
        self.crash = False


class Place(msgspec.Struct, frozen=True):
    """A list of directories that one rule gives."""

    rule: Rule
    folders: tuple[str, ...]
    source: str = ""


class Search:
    """The search for names in one process; it remembers which directories are not there, as the loader does."""

    def __init__(self, tree: Tree, settings: LoaderSettings) -> None:
        self._tree = tree
        self._settings = settings
        self._exists: dict[str, bool] = {}
        self._system = tuple(f"{each.rstrip('/')}/" for each in settings.system_dirs)
        self._cache_missed = False
        self.starting = True
        """Whether the program has not started yet."""
        self.errno = ""
        """The last system call's error, which the loader's message ends with."""

    def places(self, loader: Loaded | None, main: Loaded) -> Iterator[Place]:
        """The lists of directories before the cache. Source: ``_dl_map_object`` in elf/dl-load.c."""
        if loader is None or loader.runpath is None:
            above = loader
            did_main = False
            while above is not None:
                if above.rpath:
                    yield self._run_path("rpath", above.rpath, above)
                    did_main |= above is main
                above = above.loader
            if not did_main and main.rpath:
                yield self._run_path("rpath", main.rpath, main)
        if self._settings.library_path and not self._settings.secure:
            folders = directories(self._settings.library_path, ":;", main.origin, self._settings)
            yield Place("ld-library-path", folders)
        if loader is not None and loader.runpath:
            yield self._run_path("runpath", loader.runpath, loader)

    def _run_path(self, rule: Rule, path: str, owner: Loaded) -> Place:
        trusted_only = owner.is_program
        folders = directories(path, ":", owner.origin, self._settings, trusted_only=trusted_only)
        return Place(rule, folders, owner.file)

    def find(
        self,
        name: str,
        loader: Loaded | None,
        main: Loaded,
        attempts: list[Attempt],
        *,
        preload: bool = False,
    ) -> tuple[str, Node, Attempt] | None:
        """The file for a name without a slash. Raises `GivenUp`; `attempts` gets every file that was tried."""
        guarded = preload and self._settings.secure
        for place in self.places(loader, main):
            found = self._in(place, name, attempts, guarded=guarded)
            if found is not None:
                return found
        by = loader or main
        if not guarded:
            found = self._in_cache(name, by, attempts)
            if found is not None:
                return found
        if by.nodeflib:
            return None
        return self._in(Place("default", self._system), name, attempts, guarded=guarded)

    def open(
        self, path: str, rule: Rule, attempts: list[Attempt], *, source: str = "", named: str = ""
    ) -> tuple[str, Node, Attempt] | None:
        """One file, where the loader can use it. Raises `GivenUp` where it goes no further."""
        node = self._tree.look(self.absolute(path)) if path else Node("absent", "ENOENT")
        verdict = self._verdict(node)
        attempts.append(Attempt(path, rule, verdict, source))
        if verdict == "taken":
            self.errno = ""  # which the loader clears once a file is open
            return path, node, attempts[-1]
        if node.kind == "directory" and not node.errno:
            raise GivenUp(
                named or path, f"cannot read file data: {words_for('EISDIR', starting=self.starting)}"
            )
        if node.kind == "file" and not node.skipped:
            raise GivenUp(named or path, node.problem)
        self.errno = node.errno or "ENOENT"
        return None

    def absolute(self, path: str) -> str:
        """A path as the kernel takes it from the current directory."""
        return path if path.startswith("/") else f"{self._settings.cwd.rstrip('/')}/{path}"

    @staticmethod
    def _verdict(node: Node) -> str:
        if node.kind == "directory" and not node.errno:
            return "directory"
        if node.kind != "file":
            return {"ENOENT": "absent", "EACCES": "permission"}.get(node.errno, node.errno)
        return node.problem if node.skipped or node.stops_search else "taken"

    def _in(
        self, place: Place, name: str, attempts: list[Attempt], *, guarded: bool
    ) -> tuple[str, Node, Attempt] | None:
        """Try every directory of a list, each with its subdirectories first. Source: ``open_path``."""
        for folder in place.folders:
            any_here = False
            for sub in self._settings.subdirectories:
                path = f"{folder}{sub}/{name}" if sub else f"{folder}{name}"
                if self._exists.get(path[: -len(name)]) is False:
                    if not sub:  # known from an earlier search: not tried again, and still an answer to "why not there"
                        attempts.append(Attempt(path, place.rule, "no-directory", place.source))
                    continue
                found = self.open(path, place.rule, attempts, source=place.source)
                any_here |= self._learn(folder, path[: -len(name)], attempts, found is not None)
                if found is not None and guarded and not found[1].set_uid:
                    attempts[-1] = msgspec.structs.replace(attempts[-1], verdict="not-set-uid")
                    found, self.errno = None, "ENOENT"
                if found is not None:
                    return found
            if any_here and self.errno not in ("ENOENT", "EACCES"):
                return None
        return None

    def _learn(self, folder: str, tried: str, attempts: list[Attempt], found: bool) -> bool:
        """Whether the directory is there; it is asked once, unless it depends on the current directory."""
        if not folder.startswith("/"):
            return True
        if tried not in self._exists:
            if found:
                self._exists[tried] = True
            else:
                target = tried[:-1]  # for "/" that is nothing, which is not there
                node = self._tree.look(target) if target else Node("absent", "ENOENT")
                self._exists[tried] = node.kind == "directory"
                if node.kind == "absent":
                    self.errno = node.errno
        if not self._exists[tried]:
            attempts[-1] = msgspec.structs.replace(attempts[-1], verdict="no-directory")
        return self._exists[tried]

    def _in_cache(self, name: str, by: Loaded, attempts: list[Attempt]) -> tuple[str, Node, Attempt] | None:
        path = self.cached(name)
        if path is None or (by.nodeflib and path.startswith(self._system)):
            return None
        found = self.open(path, "cache", attempts)
        if found is None and attempts[-1].verdict == "absent":
            attempts[-1] = msgspec.structs.replace(attempts[-1], verdict="stale")
        return found

    def cached(self, name: str) -> str | None:
        """The file that ld.so.cache gives for a name. Source: ``search_cache`` in elf/dl-cache.c."""
        lines = self._tree.cached(name)
        if lines is None:
            if not self._cache_missed:
                self._cache_missed, self.errno = True, "ENOENT"
            return None
        wanted = CACHE_FLAGS.get(self._settings.machine)
        best: tuple[int, str] | None = None
        plain: str | None = None
        for entry in lines:
            if entry.flags not in (wanted, ANY_ELF):
                continue
            rank = self._rank(entry)
            if rank is not None and (best is None or rank < best[0]):
                best = (rank, entry.path)
            if rank is None and plain is None and self._suits(entry):
                plain = entry.path
        return best[1] if best is not None else plain

    def _rank(self, entry: CacheEntry) -> int | None:
        """The place of a line's glibc-hwcaps subdirectory among those that the processor can use."""
        usable = self._settings.hwcaps
        return usable.index(entry.hwcap) if entry.hwcap in usable else None

    def _suits(self, entry: CacheEntry) -> bool:
        """Whether a line without such a subdirectory, perhaps with old hardware bits, is for this processor."""
        if entry.hwcap is None:
            return True
        if not entry.hwcap.startswith("0x"):
            return False
        bits = int(entry.hwcap, 16)
        platform = bits & ALL_PLATFORMS
        if platform and platform != PLATFORM_BITS.get(self._settings.platform or ""):
            return False
        return not bits & ~(self._settings.legacy_bits | ALL_PLATFORMS | TLS_BIT)


__all__ = ["Attempt", "GivenUp", "Place", "Rule", "Search"]
