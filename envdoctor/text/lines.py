"""From text to clean lines: no escapes, one state of every progress bar, prefixes taken off and kept."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

from .model import Line
from .prefixes import Peeled, peel_evident, peel_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Line", "clean", "clean_lines", "tidy"]

_WINDOW = 4096  # lines that are looked at together for regular prefixes, and held at once
_ROUNDS = 3  # layers of regular prefixes: quoted compose output of srun
_DEPTH = 6  # evident prefixes stacked on one line


def clean(text: str) -> tuple[Line, ...]:
    """Clean a whole text, as `clean_lines` does."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()  # what follows the last line feed is no line
    return tuple(clean_lines(lines))


def clean_lines(lines: Iterable[str]) -> Iterator[Line]:
    """Clean lines as they come, in bounded memory; neighbours are compared within windows of 4096 lines."""
    source = iter(lines)
    number = 1
    while window := list(islice(source, _WINDOW)):
        yield from _clean_window(window, number)
        number += len(window)


class _Draft:
    """A line in the making."""

    __slots__ = ("prefix", "raw", "said", "stamped", "text")

    def __init__(self, raw: str, text: str) -> None:
        self.raw = raw
        self.text = text
        self.prefix = ""
        self.stamped = False
        self.said: dict[str, str] = {}

    def take(self, peeled: Peeled) -> None:
        """Move one prefix from the text; the outermost speaker is kept, as the inner ones live inside it."""
        self.prefix += self.text[: peeled.length]
        self.text = self.text[peeled.length :]
        for key, value in peeled.said.items():
            if value is not None:
                self.said.setdefault(key, value)

    def finish(self, number: int) -> Line:
        said = self.said
        return Line(
            number,
            self.text,
            self.prefix,
            int(said["rank"]) if "rank" in said else None,
            said.get("host"),
            said.get("service"),
            int(said["pid"][:18]) if "pid" in said else None,
            self.raw,
        )


def _clean_window(window: list[str], first: int) -> Iterator[Line]:
    drafts = [_Draft(raw, tidy(raw)) for raw in window]
    _dedent(drafts)
    for draft in drafts:
        if draft.text[:3] in {"```", "~~~"} and _FENCE.match(draft.text):
            draft.prefix, draft.text = draft.prefix + draft.text, ""
    _peel(drafts)
    for _ in range(_ROUNDS):
        regular = peel_regular([draft.text for draft in drafts])
        if not regular:
            break
        for i, peeled in regular.items():
            drafts[i].take(peeled)
        _peel(drafts)
    for number, draft in enumerate(drafts, first):
        yield draft.finish(number)


def _peel(drafts: list[_Draft]) -> None:
    """Take the evident prefixes off every line, in any order that they are stacked in."""
    spaced = True
    launched = []
    after_stamp = False
    for draft in drafts:
        for _ in range(_DEPTH):
            peeled = peel_evident(draft.text)
            if peeled is None or (peeled.stamp and not after_stamp and peeled.length >= len(draft.text)):
                break  # a time alone is what a program printed, unless the line above has one as its prefix
            draft.take(peeled)
            draft.stamped = draft.stamped or peeled.stamp
            if draft.prefix.endswith(">:"):
                launched.append(draft)
                spaced = spaced and draft.text[:1] in {"", " "}
        after_stamp = draft.stamped
    if spaced:  # newer launchers write "[1,0]<stdout>: text", older ones no space: then it is the program's
        for draft in launched:
            if draft.prefix.endswith(">:") and draft.text[:1] == " ":
                draft.prefix, draft.text = draft.prefix + " ", draft.text[1:]


_FENCE = re.compile(r"(?:`{3,5}|~~~)[\w+-]*$")


def _dedent(drafts: list[_Draft]) -> None:
    """Take off the indentation that makes a whole text a code block."""
    margin = None
    for draft in drafts:
        if draft.text:
            own = len(draft.text) - len(draft.text.lstrip(" \t"))
            margin = own if margin is None else min(margin, own)
            if margin == 0:
                return
    if margin is not None and (margin >= 4 or all(draft.text[:1] in {"", "\t"} for draft in drafts)):
        for draft in drafts:
            draft.prefix, draft.text = draft.text[:margin], draft.text[margin:]


_ESCAPE = re.compile(
    # CSI (colours, cursor), OSC and other strings, character sets, two-character sequences or a lone escape
    r"(?:\x1b\[|\x9b)(?P<arguments>[0-?]*)[ -/]*(?P<final>[@-~]|$)"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]+[0-~]|\x1b[0-Z\\^-~]?"
)
# Escapes that a program or a logger has spelled out: ^[[31m, #033[31m, \x1b[31m, \u001b[31m
_SPELLED = re.compile(r"(?:\^\[|#033|\u241b|\\(?:x1[bB]|u001[bB]|033|e))\[[0-9;?]{0,20}[A-Za-z]")
# Colours copied from a page that swallowed the escape character
_BARE = re.compile(r"\[\d{1,3}(?:;\d{1,3}){0,5}m")
_SPACES = "\n\x0b\x0c\x85\xa0\u1680\u2028\u2029\u202f\u205f" + "".join(map(chr, range(0x2000, 0x200B)))
_INVISIBLE = "\xad\u061c\u200b\u200c\u200d\u200e\u200f\u2060\ufeff" + "".join(
    map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))  # what turns the direction of a line
)
_CHARACTERS: dict[int, str | None] = {
    **{code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if code != 0x09},
    **{ord(character): None for character in _INVISIBLE},
    **{ord(character): " " for character in _SPACES},
}
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MAX_COLUMNS = 500


def tidy(raw: str) -> str:
    """Return the line as a person saw it: without escapes, control and invisible characters, trailing spaces.

    Of a progress bar, which returns to the start of its line, the last state is kept.
    """
    text = raw
    if not text.isprintable():  # also true of tabs, which stay
        if "\r" in text:
            text = _last_state(text)
        text = _ESCAPE.sub(_written, text)
        if "\b" in text:
            text = _overstruck(text)
        text = _SURROGATE.sub("\ufffd", text).translate(_CHARACTERS)
    if "[" in text:
        text = _SPELLED.sub("", text)
        if "[0m" in text:
            text = _BARE.sub("", text)
    return text.rstrip()


def _written(escape: re.Match[str]) -> str:
    """Cursor movements to the right stand for the spaces that a console did not send."""
    if escape["final"] == "C" and escape["arguments"].isdigit():
        return " " * min(int(escape["arguments"][:4]), _MAX_COLUMNS)
    return ""


def _last_state(text: str) -> str:
    for state in reversed(text.split("\r")):
        if _ESCAPE.sub("", state).strip():
            return state
    return ""


def _overstruck(text: str) -> str:
    """Apply backspaces: spinners, and the bold print of old manuals."""
    kept: list[str] = []
    for character in text:
        if character != "\b":
            kept.append(character)
        elif kept:
            kept.pop()
    return "".join(kept)
