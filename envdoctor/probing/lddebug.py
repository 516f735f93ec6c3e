"""What the glibc loader said that it did: the output of ``LD_DEBUG=libs,files``, as facts.

Each line has the number of the process that was *started* before it (a fork keeps its parent's number, and
lines of both then mix under one number). A lookup is a run of lines::

    file=libx.so.1 [0];  needed by ./main [0]        or: dynamically loaded by ...
    find library=libx.so.1 [0]; searching            only for names without a slash
     search path=/a:/b		(RUNPATH from file ./main)
      trying file=/a/libx.so.1
     search cache=/etc/ld.so.cache
    file=libx.so.1 [0];  generating link map

What these lines do not say, and the reader of these facts must know:

- A name that is already loaded leaves no lookup at all.
- A failed search prints nothing but its tries, and so does one that ends at a file that is mapped already
  under another name. ``Lookup.outcome`` is ``"unclear"`` where the lines cannot tell these apart.
- The loader keeps one record per directory and labels it with whoever named it *first*. So ``SearchStep``'s
  rule and owner may be another object's, whose RPATH, RUNPATH or LD_LIBRARY_PATH has the same directory.
- Directories that are known not to exist are left out, glibc-hwcaps subdirectories are listed in full.

Established on glibc 2.36, and by its sources (``elf/dl-load.c``, ``dl-object.c``, ``dl-open.c`` and
``dl-cache.c``) from 2.23 on, which use the same words; ``(--library-path)`` came with 2.33 and the legacy
hardware directories went with 2.37. musl prints nothing of the kind.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import Literal

import msgspec

Rule = Literal["rpath", "library-path", "ld-library-path", "runpath", "cache", "default", "other"]
Outcome = Literal["mapped", "already-mapped", "not-found", "unclear"]

MAX_LINES = 500_000
_MAX_LINE = 1 << 18  # the search path of a hundred directories with their subdirectories is 60 kB

_RULES: dict[str, Rule] = {
    "RPATH": "rpath",
    "--library-path": "library-path",
    "LD_LIBRARY_PATH": "ld-library-path",
    "RUNPATH": "runpath",
    "system search path": "default",
}
_TAG = re.compile(r"(?:^ *| {3,})(\d{1,10}):\t")  # ten wide, so inside a line blanks come before it
_REQUEST = re.compile(r"file=(.*) \[(\d+)\]; +(needed|dynamically loaded) by (.*) \[\d+\]$")
_FIND = re.compile(r"find library=(.*) \[(\d+)\]; searching$")
_SEARCH = re.compile(r" search path=(.*)\t\t\((.*?)(?: from file (.*))?\)$")
_MAPPING = re.compile(r"file=(.*) \[(\d+)\]; +generating link map$")
_OPENING = re.compile(r"opening file=(.*) \[\d+\]; direct_opencount=\d+$")
_ERROR = re.compile(r"(.*): error: ([^:]+): (.*) \((?:fatal|continued)\)$")
_FATAL = re.compile(r"(.*): error while loading shared libraries: ((.*?): .*)$")
_SETTLED = ("calling init: ", "initialize program: ", "transferring control: ")


class SearchStep(msgspec.Struct, frozen=True):
    """One part of a search: the directories that one rule contributed."""

    rule: Rule
    owner: str | None
    """The object whose tag it is (see the module's warning), or the cache file; ``None`` for the others."""
    directories: tuple[str, ...]
    """As printed, in order; an empty name is the current directory. None for the cache."""


class Lookup(msgspec.Struct, frozen=True):
    """One request for a library and what came of it."""

    pid: int
    name: str
    """As requested: a bare name, or a path with its tokens unexpanded."""
    namespace: int
    wanted_by: str | None
    """The requesting object, as its path is known to the loader; ``None`` where files were not traced."""
    dlopened: bool
    """Requested by a dlopen whose caller is ``wanted_by``; else by its DT_NEEDED, or by LD_PRELOAD."""
    steps: tuple[SearchStep, ...]
    tried: tuple[str, ...]
    outcome: Outcome
    found: str | None
    """The file of "mapped" and "already-mapped"; ``None`` too where the searches were not traced."""
    error: str | None
    """The loader's closing words, where they were printed among these lines."""

    @property
    def found_via(self) -> Rule | None:
        """The rule under which it was found; ``None`` for a path, and where it was not found."""
        return self.steps[-1].rule if self.steps and self.found is not None else None


class LoaderError(msgspec.Struct, frozen=True):
    """An error that the loader reported, which dlsym for a name that does not exist also causes."""

    pid: int
    file: str
    occasion: str
    """``symbol lookup error``, ``version lookup error``, ..."""
    message: str


class LoaderTrace(msgspec.Struct, frozen=True):
    """The facts of one or several traced processes, in the order in which they began."""

    lookups: tuple[Lookup, ...]
    errors: tuple[LoaderError, ...]
    lines: int
    truncated: bool
    """More than the permitted lines were there; the rest was not read."""


def parse(lines: Iterable[str], max_lines: int = MAX_LINES) -> LoaderTrace:
    """Read traced lines, of one process or several; lines that are none are passed over."""
    reader = _Reader()
    rest = iter(lines)
    count = 0
    for line in islice(rest, max_lines):
        count += 1
        reader.read(line[:_MAX_LINE].rstrip("\n"))
    truncated = next(rest, None) is not None
    lookups = tuple([lookup.closed() for lookup in reader.lookups])
    return LoaderTrace(lookups, tuple(reader.errors), count, truncated)


class _Step(msgspec.Struct):
    step: SearchStep
    tries_before: int


class _Open:
    """A lookup under way."""

    def __init__(self, pid: int, name: str, namespace: str, wanted_by: str | None, dlopened: bool) -> None:
        self.pid, self.name, self.namespace = pid, name, int(namespace)
        self.wanted_by, self.dlopened = wanted_by, dlopened
        self.steps: list[_Step] = []
        self.tried: list[str] = []
        self.outcome: Outcome | None = None
        self.found: str | None = None
        self.error: str | None = None

    def settle(self, outcome: Outcome, found: str | None) -> None:
        self.outcome, self.found = outcome, found

    def in_vain(self) -> bool:
        """Whether the search went through everything: a cache without the name, or the last directory."""
        if not self.steps:
            return "/" not in self.name
        step, tries = self.steps[-1].step, self.tried[self.steps[-1].tries_before :]
        if step.rule == "cache" or not tries:
            return step.rule in ("cache", "default") and not tries
        last = step.directories[-1] if step.directories else ""
        return step.rule == "default" and tries[-1] == (f"{last}/{self.name}" if last else self.name)

    def closed(self) -> Lookup:
        outcome = self.outcome or ("not-found" if self.in_vain() else "unclear")
        steps = tuple([self._spelled_out(entry) for entry in self.steps])
        return Lookup(
            *(self.pid, self.name, self.namespace, self.wanted_by, self.dlopened),
            *(steps, tuple(self.tried), outcome, self.found, self.error),
        )

    def _spelled_out(self, entry: _Step) -> SearchStep:
        """An empty list prints like the current directory alone; only the latter is tried."""
        step = entry.step
        if step.directories == ("",) and not any(
            "/" not in path for path in self.tried[entry.tries_before :]
        ):
            return SearchStep(step.rule, step.owner, ())
        return step


class _Reader:
    """Follows the lookups of every process; per process the lines of one lookup are together."""

    def __init__(self) -> None:
        self.lookups: list[_Open] = []
        self.errors: list[LoaderError] = []
        self._current: dict[int, _Open] = {}
        self._waiting: dict[int, list[_Open]] = {}
        """Needs of the load under way, by process: its success settles those that were not mapped anew."""

    def read(self, line: str) -> None:
        tags = list(_TAG.finditer(line))
        if not tags and (fatal := _FATAL.search(line)):
            self._note_fatal(fatal[3], fatal[2])
        for position, tag in enumerate(tags):  # more than one where two processes wrote at once
            end = tags[position + 1].start() if position + 1 < len(tags) else len(line)
            self._read_event(int(tag[1]), line[tag.end() : end])

    def _read_event(self, pid: int, text: str) -> None:
        current = self._current.get(pid)
        if text.startswith("  trying file="):
            if current:
                current.tried.append(text[14:])
        elif text.startswith(" search "):
            step = _step(text)
            if current and step:
                current.steps.append(_Step(step, len(current.tried)))
        elif text.startswith("find library="):
            self._begin_search(pid, text, current)
        elif text.startswith("file="):
            self._read_file(pid, text, current)
        elif text.startswith("opening file="):
            self._read_opening(pid, text, current)
        elif text.startswith(_SETTLED):
            self._settle(pid)
        elif error := _ERROR.match(text):
            self.errors.append(LoaderError(pid, error[1], error[2], error[3]))

    def _begin(self, lookup: _Open) -> None:
        self.lookups.append(lookup)
        self._current[lookup.pid] = lookup
        if lookup.dlopened:
            self._waiting[lookup.pid] = []
        else:
            self._waiting.setdefault(lookup.pid, []).append(lookup)

    def _begin_search(self, pid: int, text: str, current: _Open | None) -> None:
        match = _FIND.match(text)
        if match and not (current and current.name == match[1] and not current.steps and not current.outcome):
            self._begin(_Open(pid, match[1], match[2], None, dlopened=False))

    def _read_file(self, pid: int, text: str, current: _Open | None) -> None:
        if request := _REQUEST.match(text):
            self._begin(_Open(pid, request[1], request[2], request[4], request[3] != "needed"))
        elif mapping := _MAPPING.match(text):
            if current and current.name == mapping[1]:
                path = current.name if "/" in current.name else None
                current.settle("mapped", current.tried[-1] if current.tried else path)
        elif text.endswith(";  destroying link map"):
            self._waiting.pop(pid, None)  # that load has failed, so nothing will tell more about its needs
            self._current.pop(pid, None)

    def _read_opening(self, pid: int, text: str, current: _Open | None) -> None:
        """A dlopen has succeeded; perhaps the one whose search ended at a file that was mapped before."""
        match = _OPENING.match(text)
        ended_early = current and current.dlopened and not current.outcome and not current.in_vain()
        if match and current and ended_early and _stem(match[1]) == _stem(current.name):
            current.settle("already-mapped", match[1])
        self._settle(pid)

    def _settle(self, pid: int) -> None:
        for lookup in self._waiting.pop(pid, ()):
            if not lookup.outcome and lookup.tried and not lookup.in_vain():
                lookup.settle("already-mapped", lookup.tried[-1])

    def _note_fatal(self, name: str, message: str) -> None:
        for lookup in reversed(self.lookups):
            if lookup.name == name:
                lookup.error = message
                return


@lru_cache(maxsize=1024)
def _step(text: str) -> SearchStep | None:
    """The step that a line announces. The same few lines come again for every library."""
    if text.startswith(" search cache="):
        return SearchStep("cache", text[14:], ())
    match = _SEARCH.match(text)
    if not match:
        return None
    return SearchStep(_RULES.get(match[2], "other"), match[3], tuple(match[1].split(":")))


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".so")[0]
