"""Markdown for an issue: short, folded, and closed to what foreign text would like to do."""

from __future__ import annotations

import json
import re

import jsonschema
import msgspec
import pytest
from markdown_it import MarkdownIt

from envdoctor.facts import Evidence, Source
from envdoctor.prescribe import Fix
from envdoctor.render import FORMATS, RenderOptions, render
from envdoctor.render.markdown import LIMIT
from envdoctor.schemas import committed
from tests.render.reports import HEALTHY, REPORTS, SICK, finding

NASTY = [
    "</details><script>alert(1)</script>",
    "``` ```` ~~~\n```\n# heading",
    "a | b \\| c",
    "![x](https://example.org/x.png) [y](https://example.org)",
    "*bold* _it_ ~~s~~ <b>html</b> &amp; $x$",
    "- item\n1. one\n> quote\n===",
]


def html(page: str) -> str:
    made: str = MarkdownIt("commonmark").enable("table").enable("strikethrough").render(page)
    return made


@pytest.mark.parametrize("name", REPORTS)
def test_the_verdict_comes_first_and_the_rest_is_folded(name: str) -> None:
    page = render(REPORTS[name], "markdown")
    assert page.startswith("**envdoctor 0.1.0**: ")
    assert len(page) < LIMIT
    assert page.count("<details>") == page.count("</details>") >= 1


def test_findings_are_a_table_and_versions_a_line() -> None:
    page = render(SICK, "markdown").splitlines()
    assert (
        "| error | the driver 550.54.15 is too old for torch 2.9.0+cu130 | `driver/too-old-for-torch` |"
        in page
    )
    assert any("torch 2.9.0+cu130 · driver 550.54.15" in line for line in page[:4])
    assert "</table>" not in html(render(HEALTHY, "markdown"))


@pytest.mark.parametrize("nasty", NASTY)
def test_foreign_text_stays_text(nasty: str) -> None:
    entry = finding(
        "a/b", nasty, subject=nasty, detail=nasty, no_fix=nasty,
        evidence=(Evidence(nasty, nasty, Source("text", nasty, 1)),),
        fixes=(Fix(nasty, "shell", (nasty,), caveat=nasty, verify=nasty),),
    )  # fmt: skip
    tame = html(render(msgspec.structs.replace(SICK, findings=(finding("a/b", "t"),)), "markdown"))
    page = html(render(msgspec.structs.replace(SICK, findings=(entry,)), "markdown"))
    for tag in (
        "details",
        "table",
        "tr",
        "td",
        "script",
        "img",
        "a",
        "h1",
        "h2",
        "em",
        "del",
        "b",
        "blockquote",
        "ol",
    ):
        opened = len(re.findall(f"<{tag}[ >]", page))
        assert opened == len(re.findall(f"<{tag}[ >]", tame)), (tag, page)


def test_nobody_is_called_and_no_issue_is_named() -> None:
    page = render(msgspec.structs.replace(SICK, findings=(finding("a/b", "@ada see #12"),)), "markdown")
    outside = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    assert not re.search(r"[@#]\w", outside)


def test_a_page_too_long_for_an_issue_says_what_is_left_out() -> None:
    long = tuple(
        finding(f"a/b{index}", "t" * 300, detail="x " * 4000, subject=str(index)) for index in range(60)
    )
    page = render(msgspec.structs.replace(SICK, findings=long), "markdown")
    assert len(page) < LIMIT
    assert "more are left out here for their length" in page
    assert page.count("<details>") == page.count("</details>")


def test_it_is_always_redacted() -> None:
    assert FORMATS["markdown"].redacted


@pytest.mark.parametrize("name", REPORTS)
def test_json_is_the_document(name: str) -> None:
    document = json.loads(render(REPORTS[name], "json", RenderOptions(verbosity=-1)))
    jsonschema.validate(document, json.loads(committed("report")))
    assert msgspec.convert(document, type(SICK)) == REPORTS[name]
