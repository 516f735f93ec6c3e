"""Colour, width and characters: who decides, in which order."""

from __future__ import annotations

import io
import os

import pytest

from envdoctor.render.style import decide, wants_colour, wants_unicode
from envdoctor.render.words import cells, visible, wrapped


@pytest.mark.parametrize(
    ("choice", "environ", "terminal", "colour"),
    [
        ("auto", {}, False, False),
        ("auto", {}, True, True),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"TERM": "dumb", "FORCE_COLOR": "1"}, False, True),
        ("auto", {"CLICOLOR_FORCE": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "0"}, False, False),
        ("auto", {"FORCE_COLOR": ""}, False, False),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("always", {"NO_COLOR": "1", "TERM": "dumb"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_colour(choice: str, environ: dict[str, str], terminal: bool, colour: bool) -> None:
    assert wants_colour(choice, environ, terminal) is colour  # type: ignore[arg-type] # the table is of plain strings


@pytest.mark.skipif(os.name == "nt", reason="the locale's variables are POSIX's")
@pytest.mark.parametrize(
    ("environ", "unicode"),
    [
        ({"LANG": "en_US.UTF-8"}, True),
        ({"LANG": "de_DE.utf8@euro"}, True),
        ({"LC_CTYPE": "UTF-8"}, True),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "C.UTF-8", "TERM": "dumb"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
        ({"LANG": "C", "PYTHONIOENCODING": "utf-8"}, True),
        ({}, False),
    ],
)
def test_characters(environ: dict[str, str], unicode: bool) -> None:
    assert wants_unicode(environ, "utf-8") is unicode


@pytest.mark.parametrize(("columns", "width"), [("", 80), ("120", 120), ("20", 40), ("0", 80), ("many", 80)])
def test_width_without_a_terminal(columns: str, width: int) -> None:
    assert decide(io.StringIO(), "auto", {"COLUMNS": columns}).width == width


def test_a_closed_stream_is_no_terminal() -> None:
    closed = io.StringIO()
    closed.close()
    assert not decide(closed, "auto", {}).colour
    assert not decide(None, "auto", {}).colour


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [text]", "plain [text]"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\rb\nc\x07", "a\\rb\\nc\\x07"),
        ("a\tb\u00a0c", "a b c"),
        ("evil\u202etxt\u200b", "evil\\u202etxt\\u200b"),
        ("byte \udcff", "byte \\udcff"),
        ("漢字 ok ✓", "漢字 ok ✓"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_wrapping_counts_cells_and_breaks_no_word() -> None:
    assert list(wrapped("漢字 漢字 漢字", 9)) == ["漢字 漢字", "漢字"]
    assert cells("漢字e\u0301") == 5
    assert list(wrapped("a /very/long/path/that/does/not/fit b", 10)) == [
        "a",
        "/very/long/path/that/does/not/fit",
        "b",
    ]
    assert list(wrapped("  ", 10)) == []
