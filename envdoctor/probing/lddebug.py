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

Established on glibc 2.36 and in the sources of 2.2 to 2.41 (``elf/dl-load.c``, ``dl-object.c``, ``dl-open.c``,
``dl-cache.c``, ``dl-exception``): the wording has not changed; ``(--library-path)`` instead of
``(LD_LIBRARY_PATH)`` appears from 2.33 on, legacy hardware subdirectories end with 2.36. musl prints nothing.
"""

import re
from collections.abc import Iterable
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
_TAG = re.compile(r" {0,10}\b(\d{1,10}):\t")
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
    """As printed, in order; an empty name is the current directory. Always empty for the cache."""


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
    """The file of "mapped" and "already-mapped"."""
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


class _Open:
    """A lookup under way."""

    __slots__ = ("dlopened", "error", "found", "name", "namespace", "outcome", "pid", "steps", "tried", "wanted_by")

    def __init__(self, pid: int, name: str, namespace: str, wanted_by: str | None, dlopened: bool) -> None:
        self.pid, self.name, self.namespace = pid, name, int(namespace)
        self.wanted_by, self.dlopened = wanted_by, dlopened
        self.steps: list[tuple[Rule, str | None, tuple[str, ...]]] = []
        self.tried: list[str] = []
        self.outcome: Outcome | None = None
        self.found: str | None = None
        self.error: str | None = None

    def settle(self, outcome: Outcome, found: str) -> None:
        self.outcome, self.found = outcome, found

    def exhausted(self) -> bool:
        """Whether the search went through every directory: its last try was in the last one."""
        if not self.steps:
            return "/" not in self.name
        rule, _, directories = self.steps[-1]
        if rule == "cache" or not directories or not self.tried:
            return rule != "cache" or self.tried_in_step == 0
        return self.tried[-1] == (f"{directories[-1]}/{self.name}" if directories[-1] else self.name)
