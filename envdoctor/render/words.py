"""Text of unknown origin made safe to show, measured in cells, and wrapped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.render.style import Style

SPACES = frozenset(
    "\t\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
TYPOGRAPHIC = "\u2018\u2019\u201c\u201d\u2013\u2014\u00d7\u00b7\u2022"
ASCII_FOR = str.maketrans(
    dict(zip(TYPOGRAPHIC, "''\"\"--x-*", strict=True))
    | {"\u2026": "...", "\u2192": "->", "\u2190": "<-", "\u2265": ">=", "\u2264": "<=", "\u2260": "!="}
)
"""Quotes, dashes, arrows and relations that rules are worded with."""


def visible(text: str) -> str:
    r"""The text without what a terminal would obey or hide: an escape becomes the four letters ``\x1b``.

    Covers control and format characters (bidirectional overrides, zero-width ones) and lone surrogates.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(each) for each in text)


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if character in SPACES:
        return " "
    return character.encode("unicode_escape").decode("ascii")


def fitted(text: str, style: Style) -> str:
    """`visible`, in ASCII where the style wants it."""
    text = visible(text)
    if style.unicode or text.isascii():
        return text
    return text.translate(ASCII_FOR).encode("ascii", "backslashreplace").decode("ascii")


def cells(text: str) -> int:
    """How many terminal cells a printable text takes: two for wide East Asian characters, none for combining."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def wrapped(text: str, width: int) -> Iterator[str]:
    """Lines of at most `width` cells. A longer word, such as a path, is left whole and overflows."""
    line, used = "", 0
    for word in text.split():
        size = cells(word)
        if line and used + 1 + size > width:
            yield line
            line, used = word, size
        elif line:
            line, used = f"{line} {word}", used + 1 + size
        else:
            line, used = word, size
    if line:
        yield line


def padded(text: str, width: int) -> str:
    """The text with spaces up to `width` cells."""
    return text + " " * max(width - cells(text), 0)


def counted(number: int, noun: str) -> str:
    """``1 error``, ``2 errors``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
