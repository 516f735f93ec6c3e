"""From the report document to a page: one module per format, found by name, that reads nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Literal

import msgspec

from envdoctor.render.style import PLAIN, Style

if TYPE_CHECKING:
    from envdoctor.report import Report

FailOn = Literal["error", "warning", "never"]


class RenderOptions(msgspec.Struct, frozen=True):
    """How a page is to look; never what it says."""

    style: Style = PLAIN
    verbosity: int = 0
    """-1: only findings that fail; 0; 1: evidence of notes, how each check fared, timings."""
    area: str = ""
    """Only this check's trees and findings, instead of the whole machine."""
    fail_on: FailOn = "error"
    """What the exit code counts, so that the page can say what the code means."""


class Format(msgspec.Struct, frozen=True):
    """One output format: a module with ``render(report: Report, options: RenderOptions) -> str``."""

    module: str
    help: str
    redacted: bool = False
    """Whether it is made to be published: names of people and machines must not be in the document."""
    whole_document: bool = False
    """Whether a program reads it: then it is also written when envdoctor itself broke."""


FORMATS: dict[str, Format] = {
    "text": Format("envdoctor.render.text", "for people"),
    "json": Format("envdoctor.render.json", "the report document, for programs", whole_document=True),
    "markdown": Format("envdoctor.render.markdown", "to paste into an issue; redacted", redacted=True),
}
"""Every format by the name that ``--format`` takes."""


def render(report: Report, name: str, options: RenderOptions | None = None) -> str:
    """The page, with a final newline; empty when there is nothing to say. `KeyError` for an unknown format."""
    page: str = import_module(FORMATS[name].module).render(report, options or RenderOptions())
    return page
