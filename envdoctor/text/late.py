"""Regular expressions that are compiled when they are first used: a text meets few of the hundreds that there are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Late:
    """An expression with the methods of `re.Pattern` that are used here."""

    __slots__ = ("_compiled", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._compiled: re.Pattern[str] | None = None

    def compiled(self) -> re.Pattern[str]:
        """The expression itself. Raises `re.error` for a malformed one."""
        if self._compiled is None:
            self._compiled = re.compile(self.pattern)
        return self._compiled

    def match(self, text: str, start: int = 0) -> re.Match[str] | None:
        """As `re.Pattern.match`."""
        return self.compiled().match(text, start)

    def fullmatch(self, text: str) -> re.Match[str] | None:
        """As `re.Pattern.fullmatch`."""
        return self.compiled().fullmatch(text)

    def search(self, text: str, start: int = 0) -> re.Match[str] | None:
        """As `re.Pattern.search`."""
        return self.compiled().search(text, start)

    def findall(self, text: str) -> list[Any]:
        """As `re.Pattern.findall`."""
        return self.compiled().findall(text)

    def finditer(self, text: str) -> Iterator[re.Match[str]]:
        """As `re.Pattern.finditer`."""
        return self.compiled().finditer(text)

    def sub(self, by: str, text: str) -> str:
        """As `re.Pattern.sub`."""
        return self.compiled().sub(by, text)


def opening_of(pattern: str) -> str:
    """The plain letters that every text begins with which ``re.match(pattern, ...)`` takes; empty where not told.

    Only for expressions that begin with ``^`` and have no alternatives: ``^Collecting environment`` -> the words.
    """
    if not pattern.startswith("^") or "|" in pattern:
        return ""
    plain = ""
    for letter in pattern[1:]:
        if not (letter.isalnum() or letter in " -_/:=,'\"<>@%&~"):
            return plain[:-1] if letter in "*?{" else plain
        plain += letter
    return plain
