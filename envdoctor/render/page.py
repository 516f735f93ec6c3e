"""A rule's page for the terminal: Markdown without its marks, wrapped; what is to be copied left as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envdoctor.render.lines import Page

FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
ITEM = re.compile(r"^(\s*)([-*+]|\d+[.)])\s+(.*)$")
LINK = re.compile(r"!?\[([^\]]*)\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)")
STRONG = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")


def add_markdown(page: Page, markdown: str) -> None:
    """Headings in bold, lists hanging, code indented and never wrapped, links with their address behind."""
    words: list[str] = []
    place = (0, "")  # indent and bullet of the paragraph that is being collected
    fence = ""
    for line in markdown.splitlines():
        mark = FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
                page.gap()
            else:
                page.command(line, 4)
            continue
        started = _starts(line)
        if mark or started is not None or not line.strip():
            _flush(page, words, place)
            place = (0, "") if started is None else started[:2]
        if mark:
            page.gap()
            fence = mark[1]
        elif not line.strip():
            page.gap()
        elif started is not None:
            words.append(started[2])
        elif heading := HEADING.match(line):
            _flush(page, words, place)
            page.gap()
            page.heading(plain(heading[2]))
        elif line.lstrip().startswith("|"):
            _flush(page, words, place)
            page.command(plain(line.strip()), 0)
        else:
            words.append(line.strip())
    _flush(page, words, place)


def _starts(line: str) -> tuple[int, str, str] | None:
    """Indent, bullet and text of a line that begins a list item."""
    item = ITEM.match(line)
    if item is None:
        return None
    bullet = item[2] if item[2][0].isdigit() else "-"
    return len(item[1]) + 2, f"{bullet} ", item[3]


def _flush(page: Page, words: list[str], place: tuple[int, str]) -> None:
    if words:
        page.paragraph(plain(" ".join(words)), place[0], first=place[1])
        words.clear()


def plain(text: str) -> str:
    """Inline Markdown as words; code keeps its backticks, which say that it is code, and everything inside them."""
    parts = re.split(r"(`+[^`]*`+)", text)
    return "".join(part if part.startswith("`") else _plain(part) for part in parts)


def _plain(text: str) -> str:
    text = LINK.sub(lambda found: found[2] if found[1] == found[2] else f"{found[1]} <{found[2]}>", text)
    text = STRONG.sub(r"\2", text)
    return re.sub(r"\\([\\`*_{}\[\]()#+.!|<>~-])", r"\1", text)
