"""The text report: golden pages, widths, characters, and what must survive or must not get through."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

from envdoctor.facts import Evidence, Source
from envdoctor.prescribe import Fix
from envdoctor.render import RenderOptions, render
from envdoctor.render.style import Style
from envdoctor.render.words import cells
from tests.render.reports import HEALTHY, HOT, NO_CUDA, NOTE, OLD_DRIVER, REPORTS, SICK, finding

GOLDEN = Path(__file__).parent / "golden"
PAGES = {
    **{name: (name, RenderOptions()) for name in REPORTS},
    "sick-quiet": ("sick", RenderOptions(verbosity=-1)),
    "sick-verbose": ("sick", RenderOptions(verbosity=1)),
    "healthy-verbose": ("healthy", RenderOptions(verbosity=1)),
    "sick-40-ascii": ("sick", RenderOptions(Style(width=40, unicode=False))),
    "sick-200": ("sick", RenderOptions(Style(width=200))),
    "sick-colour": ("sick", RenderOptions(Style(colour=True))),
}


def as_files(page: str) -> str:
    """Escapes made readable, so that a golden page can be reviewed."""
    return page.replace("\x1b", "␛")


@pytest.mark.parametrize("name", PAGES)
def test_golden_pages(name: str) -> None:
    report, options = PAGES[name]
    golden = GOLDEN / f"{name}.txt"
    page = as_files(render(REPORTS[report], "text", options))
    assert golden.exists(), f"no {golden.name}; after reading it, write what is rendered:\n{page}"
    assert page == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("report", REPORTS)
def test_no_line_of_words_is_wider_than_the_terminal(report: str, width: int) -> None:
    """Only a single word (a path), or a line to copy, may be."""
    page = render(REPORTS[report], "text", RenderOptions(Style(width=width), verbosity=1))
    commands = {
        line
        for entry in REPORTS[report].findings
        for fix in entry.fixes
        for line in (*fix.commands, fix.verify)
    }
    for line in page.splitlines():
        if cells(line) > width and line.strip() not in commands:
            assert len(line.split()) <= 2, line


def test_commands_are_whole_lines_at_any_width() -> None:
    for width in (40, 80, 200):
        lines = [
            line.strip() for line in render(SICK, "text", RenderOptions(Style(width=width))).splitlines()
        ]
        for fix in OLD_DRIVER.fixes:
            assert {*fix.commands, fix.verify} <= set(lines)


def test_colour_changes_nothing_but_colour() -> None:
    plain = render(SICK, "text", RenderOptions())
    coloured = render(SICK, "text", RenderOptions(Style(colour=True)))
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_ascii_means_ascii() -> None:
    foreign = msgspec.structs.replace(SICK, findings=(finding("a/b", "Größe ≥ 5 \u2013 “naïve” 漢"),))
    page = render(foreign, "text", RenderOptions(Style(unicode=False)))
    assert page.isascii()
    assert 'x ERROR  Gr\\xf6\\xdfe >= 5 - "na\\xefve" \\u6f22' in page


@given(st.text(), st.booleans())
def test_nothing_foreign_reaches_the_terminal_as_a_command(text: str, unicode: bool) -> None:
    everywhere = finding(
        "a/b", text, subject=text, detail=text,
        evidence=(Evidence(text, text, Source("file", text or "x", 1)),),
        fixes=(Fix(text, "shell", (text,), caveat=text, verify=text),), no_fix=text,
    )  # fmt: skip
    report = msgspec.structs.replace(SICK, findings=(everywhere,), machine=())
    page = render(report, "text", RenderOptions(Style(unicode=unicode), verbosity=1))
    assert all(character == "\n" or character.isprintable() for character in page)
    assert unicode or page.isascii()
    page.encode()


def test_markup_of_other_libraries_survives() -> None:
    fix = Fix("install [bold]x[/bold]", "environment", ("pip install 'vllm[flash]' \\[x] %s {y}",))
    page = render(msgspec.structs.replace(SICK, findings=(finding("a/b", "t", fixes=(fix,)),)), "text")
    assert "install [bold]x[/bold]" in page
    assert "pip install 'vllm[flash]' \\[x] %s {y}\n" in page


def test_a_consequence_is_told_once_under_its_first_cause() -> None:
    other = finding("libraries/other", "another cause")
    effect = msgspec.structs.replace(NO_CUDA, consequence_of=("libraries/other", "driver/too-old-for-torch"))
    page = render(msgspec.structs.replace(SICK, findings=(OLD_DRIVER, other, effect)), "text")
    assert page.count(effect.title) == 1
    assert page.index(effect.title) < page.index("another cause")


def test_a_consequence_of_an_ignored_cause_is_not_lost() -> None:
    report = msgspec.structs.replace(
        HEALTHY, findings=(NO_CUDA,), suppressed=(OLD_DRIVER,), verdict="environment"
    )
    page = render(report, "text")
    assert (
        "torch.cuda.is_available() is False (torch/cuda-unavailable, from\n    driver/too-old-for-torch)"
        in page
    )
    assert "--select or --ignore" in page


def test_many_alike_are_counted() -> None:
    many = tuple(msgspec.structs.replace(HOT[0], subject=f"gpu:{index}") for index in range(16))
    report = msgspec.structs.replace(SICK, findings=many)
    assert "and 7 more, -v lists them" in render(report, "text")
    assert "(gpu:15)" in render(report, "text", RenderOptions(verbosity=1))


def test_a_note_that_explains_a_failure_is_told_in_full() -> None:
    effect = msgspec.structs.replace(NO_CUDA, consequence_of=(NOTE.id,))
    page = render(msgspec.structs.replace(SICK, findings=(NOTE, effect)), "text")
    assert "This also explains:" in page
    assert "persistence mode  off" in page


def test_quiet_is_silent_where_nothing_fails() -> None:
    quiet = RenderOptions(verbosity=-1)
    assert render(HEALTHY, "text", quiet) == ""
    assert "Could not judge" in render(REPORTS["blind"], "text", quiet)


def test_nothing_judged_is_not_called_well() -> None:
    idle = msgspec.structs.replace(HEALTHY, checks=(HEALTHY.checks[0],))
    assert "Nothing was judged" in render(idle, "text")
