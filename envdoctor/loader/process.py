"""`Process`: the objects of one process as the loader would map them, in its order, and how it found each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from envdoctor.loader.headers import CRASHES
from envdoctor.loader.lookups import Attempt, How, Lookup
from envdoctor.loader.paths import expand, has_token, origin_of
from envdoctor.loader.search import GivenUp, Search
from envdoctor.loader.tree import words_for

if TYPE_CHECKING:
    from envdoctor.loader.settings import LoaderSettings
    from envdoctor.loader.tree import Node, Tree
    from envdoctor.probing.elf import Elf


class Loaded:
    """One object of the process. Compared by identity: two may have one SONAME."""

    def __init__(self, path: str, name: str, elf: Elf | None, *, origin: str, loader: Loaded | None) -> None:
        self.path = path
        """By which it was opened (``l_name``); empty for the program."""
        self.name = name
        """What was asked for."""
        self.elf = elf
        self.origin = origin
        """What ``$ORIGIN`` stands for in it."""
        self.loader = loader
        """The object that needed it; None for the program and for what dlopen was asked for."""
        self.names = {path, name}
        self.file_id = (0, 0)
        self.needs: list[Loaded] = []
        self.is_program = not path
        self.file = path
        """The path to show."""

    @property
    def soname(self) -> str | None:
        """DT_SONAME."""
        return self.elf.soname if self.elf else None

    @property
    def rpath(self) -> str | None:
        """DT_RPATH, which counts only where there is no DT_RUNPATH."""
        return self.elf.rpath if self.elf and self.elf.runpath is None else None

    @property
    def runpath(self) -> str | None:
        """DT_RUNPATH."""
        return self.elf.runpath if self.elf else None

    @property
    def nodeflib(self) -> bool:
        """DF_1_NODEFLIB."""
        return bool(self.elf and self.elf.nodeflib)

    def __repr__(self) -> str:
        return f"Loaded({self.file!r})"


class Failure(msgspec.Struct, frozen=True):
    """Why the start or a dlopen failed."""

    message: str
    """The loader's own words, as dlerror(3) has them; empty where the process dies without any."""
    crash: bool = False
    """It reads beyond the end of a file and is killed."""


class Process:
    """A process from its start. Raises `NotRecorded` where a recorded tree does not know a path."""

    def __init__(self, tree: Tree, settings: LoaderSettings) -> None:
        self._tree = tree
        self._settings = settings
        self._search = Search(tree, settings)
        self._objects: list[Loaded] = []
        self._lookups: list[Lookup] = []
        self._opened: list[Loaded] = []
        self.ignored: list[tuple[str, str]] = []
        """Preloads that could not be loaded, which the loader only complains of: name and words."""

    @property
    def objects(self) -> tuple[Loaded, ...]:
        """In the order of the link map; the kernel's own vDSO is left out."""
        return tuple(self._objects)

    @property
    def opened(self) -> tuple[Loaded, ...]:
        """Every object that was ever mapped, those of a dlopen that failed in the end included."""
        return tuple(self._opened)

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """Every request so far, in order."""
        return tuple(self._lookups)

    def start(self) -> Failure | None:
        """Map the program and all that it needs."""
        program = self._tree.look(self._settings.program)
        if program.elf is None:
            return Failure(f"{self._settings.program}: {program.problem or words_for(program.errno)}")
        main = Loaded("", "", program.elf, origin=origin_of(self._settings.program, "/"), loader=None)
        main.file = self._settings.program
        self._objects = [main]
        own = self._map_loader(program.elf)
        try:
            preloads = [*self._preloads(main)]
            listed = self._map_needs(main, preloads)
            self._place_loader(own, listed)
            self._check_versions(self._objects)
        except GivenUp as given_up:
            return Failure("" if given_up.crash else str(given_up), given_up.crash)
        self._search.starting = False
        return None

    def dlopen(self, name: str, caller: Loaded | None = None) -> Loaded | Failure:
        """What dlopen(3) does when code of `caller` (None: the program) asks for a name or path."""
        before = list(self._objects)
        if not name:
            return before[0]
        by = caller or before[0]
        try:
            opened = self._map(name, by, dlopen=True)
            self._map_needs(opened)
            self._check_versions([each for each in self._objects if each not in before])
        except GivenUp as given_up:
            self._objects = before
            return Failure("" if given_up.crash else str(given_up), given_up.crash)
        return opened

    def _map_loader(self, elf: Elf) -> Loaded | None:
        """The loader itself, which the kernel has mapped already."""
        if elf.interpreter is None:
            return None
        node = self._tree.look(elf.interpreter)
        own = Loaded(
            elf.interpreter, elf.interpreter, node.elf, origin=origin_of(elf.interpreter, "/"), loader=None
        )
        self._objects.append(own)
        return own

    def _place_loader(self, own: Loaded | None, listed: Sequence[Loaded]) -> None:
        """The loader takes its place in the order of the search, if anything needs it."""
        if own is None:
            return
        self._objects.remove(own)
        if own in listed:
            previous = listed[listed.index(own) - 1]
            self._objects.insert(self._objects.index(previous) + 1, own)

    def _preloads(self, main: Loaded) -> Iterator[Loaded]:
        for name in [*self._wanted_preloads(), *self._preload_file()]:
            before = len(self._objects)
            try:
                loaded = self._map(name, main, preload=True)
            except GivenUp as given_up:
                self.ignored.append((name, str(given_up)))
                continue
            if len(self._objects) > before:
                yield loaded
        if not self._tree.preload():
            self._search.errno = "ENOENT"  # from asking for the file

    def _wanted_preloads(self) -> Iterable[str]:
        names = re.split("[ :]+", self._settings.preload or "")
        return (name for name in names if name and not (self._settings.secure and "/" in name))

    def _preload_file(self) -> Iterable[str]:
        text = re.sub(r"#[^\n]*", "", self._tree.preload())
        return (name for name in re.split(r"[: \t\n]+", text) if name)

    def _map_needs(self, root: Loaded, preloads: Sequence[Loaded] = ()) -> list[Loaded]:
        """Breadth first: all that an object needs before any of their needs. Source: ``_dl_map_object_deps``."""
        listed = [root, *preloads]
        kept, self._search.errno = self._search.errno, ""
        try:
            for each in listed:  # which grows while it is walked
                self._map_needs_of(each, listed)
        finally:
            self._search.errno = self._search.errno or kept
        return listed

    def _map_needs_of(self, each: Loaded, listed: list[Loaded]) -> None:
        each.needs = []
        for need in each.elf.needed if each.elf else ():
            name = self._expanded(need, each)
            if not name:
                continue
            found = self._map(name, each)
            each.needs.append(found)
            if found not in listed:
                listed.append(found)

    def _expanded(self, need: str, by: Loaded) -> str:
        if not has_token(need):
            return need
        if self._settings.secure:
            raise GivenUp(need, "DST not allowed in SUID/SGID programs")
        return expand(need, by.origin, self._settings)

    def _map(self, name: str, by: Loaded, *, dlopen: bool = False, preload: bool = False) -> Loaded:
        """One name for one object. Raises `GivenUp`. Source: ``_dl_map_object``."""
        attempts: list[Attempt] = []
        known = next((each for each in self._objects if self._answers_to(each, name)), None)
        if known is not None:
            self._note(name, by, "already-loaded", known.file, dlopen=dlopen)
            return known
        try:
            found = self._found(name, by, attempts, preload=preload)
            if found is None:
                raise GivenUp(name, self._not_found(attempts))
            path, node, taken = found
            return self._mapped(name, path, node, by, taken, attempts, dlopen=dlopen)
        except GivenUp:
            self._note(name, by, "failed", "", attempts=tuple(attempts), dlopen=dlopen)
            raise

    def _found(
        self, name: str, by: Loaded, attempts: list[Attempt], *, preload: bool
    ) -> tuple[str, Node, Attempt] | None:
        if "/" not in name:
            return self._search.find(name, by, self._objects[0], attempts, preload=preload)
        path = expand(name, by.origin, self._settings, trusted_only=by.is_program)
        return self._search.open(path, "path", attempts)

    def _not_found(self, attempts: Sequence[Attempt]) -> str:
        if any(each.verdict == "other-class" for each in attempts):
            return (
                "wrong ELF class: ELFCLASS32"
                if self._settings.elf_class == 64
                else "wrong ELF class: ELFCLASS64"
            )
        words = words_for(self._search.errno, starting=self._search.starting)
        return f"cannot open shared object file: {words}" if words else "cannot open shared object file"

    def _mapped(
        self,
        name: str,
        path: str,
        node: Node,
        by: Loaded,
        taken: Attempt,
        attempts: list[Attempt],
        *,
        dlopen: bool,
    ) -> Loaded:
        """The object of a file that was opened. Source: ``_dl_map_object_from_fd``."""
        same = next((each for each in self._objects if each.file_id == node.file_id), None)
        if same is not None:
            same.names.add(name)
            self._note(name, by, "same-file", same.file, taken, tuple(attempts), dlopen=dlopen)
            return same
        if node.elf is None or node.problem:
            given_up = GivenUp(name, node.problem)
            given_up.crash = node.problem == CRASHES
            raise given_up
        origin = origin_of(path, self._settings.cwd)
        loaded = Loaded(path, name, node.elf, origin=origin, loader=None if dlopen else by)
        loaded.file_id = node.file_id
        self._objects.append(loaded)
        self._opened.append(loaded)
        self._note(name, by, "searched", path, taken, tuple(attempts), dlopen=dlopen)
        return loaded

    @staticmethod
    def _answers_to(loaded: Loaded, name: str) -> bool:
        return name in loaded.names or (loaded.soname is not None and loaded.soname == name)

    def _note(
        self,
        name: str,
        by: Loaded,
        how: How,
        found: str,
        taken: Attempt | None = None,
        attempts: tuple[Attempt, ...] = (),
        *,
        dlopen: bool = False,
    ) -> None:
        rule, source = (taken.rule, taken.source) if taken else (None, "")
        self._lookups.append(Lookup(name, by.file, how, found, rule, source, attempts, dlopen))

    def _check_versions(self, objects: Iterable[Loaded]) -> None:
        """Every version that an object wants of another must be defined there, where that one defines any.

        Source: ``_dl_check_map_versions`` in elf/dl-version.c.
        """
        for each in objects:
            for file, wanted in (each.elf.version_needs or ()) if each.elf else ():
                giver = next((one for one in self._objects if self._answers_to(one, file)), None)
                if giver is None or giver.elf is None or not giver.elf.version_defs:
                    continue
                for version in wanted:
                    if version not in giver.elf.version_defs:
                        raise GivenUp(giver.file, f"version `{version}' not found (required by {each.file})")


__all__ = ["Failure", "Loaded", "Lookup", "Process"]
