"""What a typed pipeline would have shown: so that a name which is missing in its output is known to be absent."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

CUTTING = r"\|\s*(?:head|tail|wc|sed|uniq -d)\b|grep\s+-\w*[clLqm]"
"""What follows a listing and hides parts of it that no pattern tells of."""
GREP = r"^(?:\S*/)?(?P<kind>[ef]?grep|rg|ag)\b\s*(?P<rest>.*)$"
AWK = r"^(?:\S*/)?g?awk\b[^/]*?/(?P<pattern>(?:[^/\\]|\\.)*)/"


def shown_by(command: str, listing: str) -> Callable[[str], bool] | None:
    """Whether the pipeline around a `listing` command lets a line that begins with a name through.

    None where that cannot be said: the listing is not in the command, or parts of its output were cut off.
    """
    for statement in re.split(r";|&&|\|\||\n", command):
        if re.search(listing, statement):
            if re.search(CUTTING, statement):
                return None
            return _all_of(_filters(statement))
    return None


def _all_of(filters: list[Callable[[str], bool]] | None) -> Callable[[str], bool] | None:
    return None if filters is None else lambda line: all(keep(line) for keep in filters)


def _filters(statement: str) -> list[Callable[[str], bool]] | None:
    filters = []
    for part in (each.strip() for each in _pipeline(statement)):
        told, awk = re.match(GREP, part), re.match(AWK, part)
        pattern = (
            _grep_pattern(told["kind"], told["rest"]) if told else _compiled(awk["pattern"]) if awk else None
        )
        if (told or awk) and pattern is None:
            return None
        if pattern is not None:
            filters.append(pattern)
    return filters


def _pipeline(statement: str) -> list[str]:
    """The parts between pipes, but for pipes inside quotes."""
    parts, quote = [""], ""
    for character in statement:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "|":
            parts.append("")
            continue
        parts[-1] += character
    return parts


def _grep_pattern(kind: str, rest: str) -> Callable[[str], bool] | None:
    """The test of a grep, by its options and pattern; None for one that is not understood."""
    try:
        words = shlex.split(rest)
    except ValueError:
        return None
    options = [word for word in words if word.startswith("-") and word != "-e"]
    patterns = [word for word in words if not word.startswith("-") and not word.startswith(("2>", ">", "/"))]
    if not patterns:
        return None
    letters = "".join(options)
    pattern = patterns[0]
    if kind == "fgrep" or "F" in letters:
        pattern = re.escape(pattern)
    elif kind == "grep" and "E" not in letters and "P" not in letters:
        pattern = re.sub(r"\\([|+?(){}])", r"\1", pattern)
    keep = _compiled(pattern, ignore_case="i" in letters)
    if keep is None or "v" in letters:
        return None
    return keep


def _compiled(pattern: str, *, ignore_case: bool = False) -> Callable[[str], bool] | None:
    try:
        compiled = re.compile(
            pattern.replace(r"\<", r"\b").replace(r"\>", r"\b"), re.IGNORECASE if ignore_case else 0
        )
    except re.error:
        return None
    return lambda name: compiled.search(name) is not None
