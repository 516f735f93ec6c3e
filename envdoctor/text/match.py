"""Finding messages: many patterns in one linear pass, also over logs that do not fit into memory.

A first pass looks for the patterns' needles in whole batches of lines (in one automaton, where google-re2 is
installed); an expression runs only on the lines around a needle of its own.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from .model import Line
from .shapes import MAX_SPAN, Pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DEFAULT_CAP = 50
"""Matches of one pattern that are kept; more are only counted."""

MAX_LINE = 8 * 1024
"""Characters of a line that the expressions see: of a longer one its head and its tail."""

_HEAD = 6 * 1024
_BATCH = 512  # lines that the first pass looks at together
_REACH = (
    2 * MAX_SPAN
)  # lines ahead in which the rest of a message is looked for, among those of other processes


class Match(msgspec.Struct, frozen=True):
    """A pattern that was found: `text` is what it was found in, up to `pattern.span` lines from `line` on."""

    pattern: Pattern
    match: re.Match[str]
    line: Line
    text: str


class Scan(msgspec.Struct, frozen=True):
    """All matches of one pass, at most a cap per pattern, and how often each pattern (by name) was met."""

    matches: tuple[Match, ...]
    counts: dict[str, int]


class _Needles(Protocol):
    """The first pass: which needles (by index) a lower-case text contains."""

    def __call__(self, text: str) -> list[int]: ...


class Matcher:
    """Patterns made ready. An expression is compiled when one of its needles is first met: few texts meet many."""

    def __init__(self, patterns: Sequence[Pattern], *, cap: int = DEFAULT_CAP, use_re2: bool = True) -> None:
        self._patterns = tuple(patterns)
        self._regexes: dict[int, re.Pattern[str]] = {}
        self._cap = cap
        self._needles = tuple(dict.fromkeys(n for pattern in self._patterns for n in pattern.needles))
        self._first_pass = _first_pass(self._needles, use_re2=use_re2)
        users: dict[str, list[int]] = {}
        for index, pattern in enumerate(self._patterns):
            for needle in pattern.needles:
                users.setdefault(needle, []).append(index)
        self._users = tuple(tuple(users[needle]) for needle in self._needles)

    def scan(self, lines: Iterable[Line]) -> Scan:
        """Find everything in one pass."""
        counts: dict[str, int] = {}
        return Scan(tuple(self.matches(lines, counts)), counts)

    def matches(self, lines: Iterable[Line], counts: dict[str, int] | None = None) -> Iterator[Match]:
        """Yield matches as they come, one per pattern and line, at most the cap of each pattern.

        `counts`, where given, is filled with how often each pattern was met, repeats beyond the cap included.
        """
        met = counts if counts is not None else {}
        for match in self._everything(lines):
            name = match.pattern.name
            met[name] = met.get(name, 0) + 1
            if met[name] <= self._cap:
                yield match

    def _everything(self, lines: Iterable[Line]) -> Iterator[Match]:
        """Go through the lines in batches that see a little of the next one."""
        source = iter(lines)
        held: list[Line] = []
        while True:
            held += islice(source, _BATCH + _REACH - len(held))
            own = min(len(held), _BATCH)
            yield from self._batch(held, own)
            if len(held) < _BATCH + _REACH:
                yield from self._batch(held[own:], len(held) - own)
                return
            held = held[own:]

    def _batch(self, lines: list[Line], own: int) -> Iterator[Match]:
        """Yield the matches that begin in the first `own` lines."""
        for start, index in sorted(self._candidates(lines, own)):
            pattern = self._patterns[index]
            parts = [_shortened(line.text) for line in _window(lines, start, pattern.span)]
            text = "\n".join(parts)
            found = self._regex(index).search(text)
            if found and found.start() <= len(parts[0]):
                yield Match(pattern, found, lines[start], text)

    def _regex(self, index: int) -> re.Pattern[str]:
        """The compiled expression of one pattern. Raises `re.error` for a malformed one."""
        compiled = self._regexes.get(index)
        if compiled is None:
            compiled = self._regexes[index] = re.compile(self._patterns[index].regex)
        return compiled

    def _candidates(self, lines: list[Line], own: int) -> set[tuple[int, int]]:
        """Return where which pattern is worth trying: (index of the first line, index of the pattern)."""
        lowered = [_shortened(line.text).lower() for line in lines]
        there = self._first_pass("\n".join(lowered))
        found: set[tuple[int, int]] = set()
        for needle in there:
            literal = self._needles[needle]
            hits = [i for i, text in enumerate(lowered) if literal in text]
            for index in self._users[needle]:
                span = self._patterns[index].span
                for hit in hits:
                    found.update((start, index) for start in _starts(lines, hit, span) if start < own)
        return found


def _shortened(text: str) -> str:
    """Keep head and tail of an overlong line, so that no expression runs for long."""
    if len(text) <= MAX_LINE:
        return text
    return f"{text[:_HEAD]} ... {text[len(text) - (MAX_LINE - _HEAD - 5) :]}"


def _window(lines: list[Line], start: int, span: int) -> list[Line]:
    """Return up to `span` lines of one process from `start` on."""
    if span == 1:
        return [lines[start]]
    stream = lines[start].stream
    near = lines[start : start + _REACH]
    return [line for line in near if line.stream == stream][:span]


def _starts(lines: list[Line], hit: int, span: int) -> Iterator[int]:
    """Yield where a message of `span` lines may begin whose needle is on line `hit`."""
    yield hit
    left = span - 1
    index = hit - 1
    while left and index > hit - _REACH and index >= 0:
        if lines[index].stream == lines[hit].stream:
            yield index
            left -= 1
        index -= 1


def _first_pass(needles: Sequence[str], *, use_re2: bool) -> _Needles:
    if use_re2 and needles:
        try:
            import re2
        except ImportError:
            return _in_turn(needles)
        return _automaton(needles, re2)
    return _in_turn(needles)


def _in_turn(needles: Sequence[str]) -> _Needles:
    return lambda text: [index for index, needle in enumerate(needles) if needle in text]


def _automaton(needles: Sequence[str], re2: Any) -> _Needles:
    """All needles in one set of google-re2, whose search is linear in the text."""
    options = re2.Options()
    options.literal = True
    options.max_mem = 128 << 20  # a set that runs out of memory would miss needles, not fail
    found = re2.Set.SearchSet(options)
    for needle in needles:
        found.Add(needle)
    found.Compile()
    return lambda text: found.Match(text.encode("utf-8", "replace")) or []
