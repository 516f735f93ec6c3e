"""One finding on the page: the claim, how it is known, what it means, what to type, what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.render.style import symbol
from envdoctor.render.words import cells

if TYPE_CHECKING:
    from envdoctor.facts import Evidence, Source
    from envdoctor.prescribe import Fix
    from envdoctor.render.lines import Page
    from envdoctor.render.order import Cause
    from envdoctor.report import FindingEntry

SEVERITY_WORDS = {"error": "ERROR", "warning": "WARNING", "note": "note"}
REACH_WORDS = {
    "shell": "changes this shell only",
    "environment": "changes the Python environment",
    "container": "changes the container",
    "host": "changes the host",
}
RESTART_WORDS = {
    "process": "start the program again afterwards",
    "session": "log in again afterwards",
    "container": "a new container is needed",
    "machine": "a reboot is needed",
}
LABEL_WIDTH = 24
MOST_ALIKE = 8
"""Lines for further subjects of one rule, before the rest is only counted."""


def show_cause(page: Page, cause: Cause, verbosity: int) -> None:
    """A root finding in full, and what belongs under it in a line each."""
    entry = cause.entry
    page.marked(entry.severity, entry.title, word=SEVERITY_WORDS[entry.severity], strong="strong")
    page.paragraph(f" {symbol(page.style, 'item')} ".join(_identity(entry)), 2, role="dim")
    if entry.evidence:
        page.gap()
        _evidence(page, entry.evidence, 2)
    if entry.detail:
        page.gap()
        for paragraph in entry.detail.split("\n\n"):
            page.paragraph(paragraph, 2)
    _alike(page, cause, verbosity)
    _fixes(page, entry)
    if cause.consequences:
        page.gap()
        page.paragraph("This also explains:", 2)
        for each in cause.consequences:
            one_line(page, each, 4, marks=False)


def one_line(
    page: Page, entry: FindingEntry, indent: int, *, marks: bool = True, cause: bool = False
) -> None:
    """A finding as its title and id."""
    because = f", from {', '.join(entry.consequence_of)}" if cause else ""
    page.marked(entry.severity if marks else "item", f"{entry.title} ({entry.id}{because})", indent)


def _identity(entry: FindingEntry) -> list[str]:
    """The rule, what it is about, and how sure it is where it is not certain."""
    confidence = "" if entry.confidence == "certain" else entry.confidence
    return [each for each in (entry.id, entry.subject, confidence) if each]


def _evidence(page: Page, evidence: tuple[Evidence, ...], indent: int) -> None:
    """Rows of label, value and source; a value of several lines keeps them."""
    width = min(max((cells(each.fact) for each in evidence), default=0), LABEL_WIDTH, page.prose * 2 // 5)
    for each in evidence:
        lines = each.value.split("\n")
        for number, line in enumerate(lines):
            last = number == len(lines) - 1
            label = "" if number else each.fact
            page.row(label, line, width, indent, aside=where_from(each.source) if last else "")


def where_from(source: Source | None) -> str:
    """Where something was read, in brackets: ``[/proc/modules:3]``, ``[env LD_LIBRARY_PATH]``, ``[paste:12]``."""
    if source is None or not source.where:
        return ""
    line = f":{source.line}" if source.line is not None else ""
    if source.kind == "text":
        return f"[{'paste' if source.where == '-' else source.where}{line}]"
    prefix = {"env": "env ", "child": "answer of ", "table": "table "}.get(source.kind, "")
    if source.where.startswith("--"):
        prefix = ""  # an option of the command line
    return f"[{prefix}{source.where}{line}]"


def _alike(page: Page, cause: Cause, verbosity: int) -> None:
    if not cause.alike:
        return
    page.gap()
    page.paragraph("The same, with the same remedy:", 2)
    shown = cause.alike if verbosity > 0 else cause.alike[:MOST_ALIKE]
    for each in shown:
        about = f" ({each.subject})" if each.subject else ""
        page.marked("item", f"{each.title}{about}", 4)
        if verbosity > 0:
            _evidence(page, each.evidence, 6)
    if len(shown) < len(cause.alike):
        page.marked("item", f"and {len(cause.alike) - len(shown)} more, -v lists them", 4)


def _fixes(page: Page, entry: FindingEntry) -> None:
    if entry.no_fix:
        page.gap()
        page.paragraph(f"No fix to type: {entry.no_fix}", 2)
    if not entry.fixes:
        return
    page.gap()
    several = len(entry.fixes) > 1
    page.paragraph("To put it right, the smallest change first:" if several else "To put it right:", 2)
    for number, fix in enumerate(entry.fixes, 1):
        _fix(page, fix, f"{number}. " if several else "- ")


def _fix(page: Page, fix: Fix, mark: str) -> None:
    """A fix and what it asks for; its commands on lines of their own."""
    indent = 2 + len(mark)
    page.paragraph(f"{fix.title} ({_terms(fix)})", 2, first=mark)
    for command in fix.commands:
        page.command(command, indent + 4)
    if fix.caveat:
        page.paragraph(f"Mind: {fix.caveat}", indent)
    if fix.verify:
        page.paragraph("To verify:", indent)
        page.command(fix.verify, indent + 4)


def _terms(fix: Fix) -> str:
    """What a fix asks for: ``changes the host; needs root; a reboot is needed``."""
    terms = [REACH_WORDS.get(fix.reach, fix.reach)]
    if fix.needs_root:
        terms.append("needs root")
    if fix.needs_restart:
        terms.append(RESTART_WORDS.get(fix.needs_restart, f"restart: {fix.needs_restart}"))
    return "; ".join(terms)
