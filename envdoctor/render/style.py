"""What the output can take: colour, width and characters. Decided once and passed on explicitly."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, TextIO

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

ColourChoice = Literal["auto", "always", "never"]
DEFAULT_WIDTH = 80
NARROWEST = 40
WIDEST_PROSE = 100
"""Longer lines of prose are hard to read, however wide the terminal is."""


class Style(msgspec.Struct, frozen=True):
    """The decision. `width` is in terminal cells."""

    width: int = DEFAULT_WIDTH
    colour: bool = False
    unicode: bool = True


PLAIN = Style()
"""80 columns, no colour: what a file or a pipe gets."""

CODES = {
    "error": "1;31",
    "warning": "1;33",
    "note": "36",
    "ok": "32",
    "unknown": "1;35",
    "strong": "1",
    "dim": "2",
    "item": "2",
    "command": "1;36",
}
"""The palette, as ANSI SGR parameters by role. Every role also has a word or a symbol beside its colour."""

SYMBOLS = {"error": "✗", "warning": "!", "note": "·", "ok": "✓", "unknown": "?", "item": "·"}
ASCII_SYMBOLS = {"error": "x", "warning": "!", "note": "-", "ok": "=", "unknown": "?", "item": "-"}


def decide(stream: TextIO | None, choice: ColourChoice, environ: Mapping[str, str]) -> Style:
    """The style for a stream; None stands for a stream that was closed before we started."""
    terminal = is_terminal(stream)
    return Style(
        width=_width(stream if terminal else None, environ),
        colour=wants_colour(choice, environ, terminal),
        unicode=wants_unicode(environ, getattr(stream, "encoding", None)),
    )


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sits at the other end."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False  # closed


def wants_colour(choice: ColourChoice, environ: Mapping[str, str], terminal: bool) -> bool:
    """``--color`` beats NO_COLOR beats FORCE_COLOR and CLICOLOR_FORCE beat ``TERM=dumb`` beats isatty.

    NO_COLOR counts unless empty (no-color.org); the others unless empty or 0 (bixense.com/clicolors).
    """
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    if any(environ.get(name, "") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return terminal and environ.get("TERM") != "dumb"


def wants_unicode(environ: Mapping[str, str], encoding: str | None) -> bool:
    """Whether the reader's terminal shows more than ASCII.

    The locale's variables decide, not the stream: in the C locale Python writes UTF-8 all the same (PEP 540).
    """
    if environ.get("TERM") == "dumb":
        return False
    if os.name != "nt" and not environ.get("PYTHONIOENCODING"):
        named = next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "C")
        return (
            named.partition(".")[2].partition("@")[0].lower().replace("-", "") == "utf8" or named == "UTF-8"
        )
    return (encoding or "").lower().replace("-", "").replace("_", "") in ("utf8", "cp65001")


def _width(stream: TextIO | None, environ: Mapping[str, str]) -> int:
    """COLUMNS where it is set, the terminal's own width, or 80; never less than 40."""
    asked = environ.get("COLUMNS", "")
    if asked.isdigit() and int(asked) > 0:
        return max(int(asked), NARROWEST)
    try:
        wide = os.get_terminal_size(stream.fileno()).columns if stream is not None else 0
    except (OSError, ValueError):
        wide = 0  # a terminal that does not tell: what a pipe gets will do
    return max(wide or DEFAULT_WIDTH, NARROWEST)


def paint(style: Style, role: str, text: str) -> str:
    """The text in the colour of its role; unchanged without colour."""
    return f"\x1b[{CODES[role]}m{text}\x1b[0m" if style.colour and text else text


def symbol(style: Style, role: str) -> str:
    """The sign of a role, one cell wide."""
    return (SYMBOLS if style.unicode else ASCII_SYMBOLS)[role]
