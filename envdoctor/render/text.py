"""The report for people: what was examined, root causes with evidence and fixes, what is not known, a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from envdoctor.render.findings import one_line, show_cause
from envdoctor.render.lines import Page
from envdoctor.render.order import Cause, causes, fails, gaps, unexplained
from envdoctor.render.verdict import verdict
from envdoctor.render.words import cells, counted

if TYPE_CHECKING:
    from envdoctor.render import RenderOptions
    from envdoctor.report import CheckEntry, Report, TargetEntry

CORE = "envdoctor"
"""The core's own check: the reader need not hear of it while it has nothing to say."""


def render(report: Report, options: RenderOptions) -> str:
    """The page. With `options.verbosity` below 0 only what fails, and nothing at all when nothing does."""
    page = Page(options.style)
    if options.verbosity < 0:
        _quiet(page, report, options)
        return page.text()
    if options.area:
        _area(page, report, options)
        return page.text()
    _header(page, report, options)
    _findings(page, report, options)
    _unknown(page, report)
    _not_tried(page, report)
    _asks(page, report)
    if options.verbosity > 0:
        _views(page, report)
        _checks(page, report)
    else:
        _coverage(page, report)
    _closing(page, report, options)
    return page.text()


def _area(page: Page, report: Report, options: RenderOptions) -> None:
    """One check's tables and findings."""
    page.heading(f"{report.tool.name} {report.tool.version}: {_examined(report.target)}")
    views = tuple(each for each in report.views if each.check == options.area and each.depths)
    _views(page, msgspec.structs.replace(report, views=views))
    if not views:
        page.gap()
        page.paragraph("There is nothing to show.")
    _findings(page, report, options)
    own = tuple(each for each in report.checks if each.name == options.area)
    _unknown(page, msgspec.structs.replace(report, checks=own))
    _closing(page, report, options)


def _quiet(page: Page, report: Report, options: RenderOptions) -> None:
    for cause in causes(report.findings):
        if fails(cause.entry, options.fail_on):
            page.gap()
            show_cause(page, cause, options.verbosity)
    if report.summary.exit_code != 0:
        _closing(page, report, options)


def _header(page: Page, report: Report, options: RenderOptions) -> None:
    page.heading(f"{report.tool.name} {report.tool.version}: {_examined(report.target)}")
    page.gap()
    rows = [(row.label, row.value) for row in report.machine]
    if report.target.python and not any(label == "python" for label, _ in rows):
        rows.append(("python", report.target.python))
    width = max((cells(label) for label, _ in rows), default=0)
    for label, value in rows:
        why = f"({report.target.why})" if label == "python" and report.target.why else ""
        page.row(label, value, width, 2, aside=why)
    if options.verbosity > 0 and report.target.passed_over:
        page.gap()
        page.paragraph("Interpreters that were passed over:", 2)
        for passed in report.target.passed_over:
            page.marked("item", f"{passed.python}: {passed.why}", 4)


def _examined(target: TargetEntry) -> str:
    if target.source == "live":
        return "this machine"
    if target.source == "facts":
        return f"a machine recorded at {target.recorded_at}" if target.recorded_at else "a recorded machine"
    return "a pasted text"


def _findings(page: Page, report: Report, options: RenderOptions) -> None:
    found = causes(report.findings)
    brief = [cause for cause in found if _is_brief(cause) and options.verbosity <= 0]
    for cause in found:
        if cause not in brief:
            page.gap()
            show_cause(page, cause, options.verbosity)
    orphans = unexplained(report.findings)
    if orphans:
        page.gap()
        page.heading("Follows from findings that --select or --ignore leaves out")
        for entry in orphans:
            one_line(page, entry, 2, cause=True)
    if brief:
        page.gap()
        page.heading("Notes")
        for cause in brief:
            for entry in (cause.entry, *cause.alike):
                one_line(page, entry, 2)


def _is_brief(cause: Cause) -> bool:
    """A note is one line, unless something that failed follows from it."""
    return cause.entry.severity == "note" and not cause.consequences


def _unknown(page: Page, report: Report) -> None:
    found = gaps(report.checks)
    if not found:
        return
    page.gap()
    page.heading("Could not look")
    for gap in found:
        page.marked("unknown", f"{gap.brief()}: {gap.reason or 'no reason was given'}", 2)
        if gap.would_allow:
            page.paragraph(f"To allow it: {gap.would_allow}", 4)


def _not_tried(page: Page, report: Report) -> None:
    """What this run left out, folded by the reason, which names the flag that would try it."""
    by_reason: dict[str, list[str]] = {}
    for check in report.checks:
        for stage in check.stages:
            name, _, reason = stage.partition(": ")
            by_reason.setdefault(reason, []).append(name)
    if by_reason:
        page.gap()
        page.heading("Not tried")
    for reason, names in by_reason.items():
        page.marked("item", ", ".join(names) + (f" ({reason})" if reason else ""), 2)


def _asks(page: Page, report: Report) -> None:
    if not report.asks:
        return
    page.gap()
    page.heading("To be sure, run")
    for ask in report.asks:
        page.command(ask.command, 4)
        if ask.decides:
            page.paragraph(f"It decides {ask.decides}", 2)


def _coverage(page: Page, report: Report) -> None:
    """What the silence about a check means: it was looked at, it does not apply, or nobody asked."""
    if report.target.source == "text":
        return  # a text is not a survey: what it does not mention is not news
    words = {
        "Looked at": ("ok", "problem", "partly"),
        "Does not apply": ("not-applicable",),
        "No facts": ("not-asked",),
    }
    rows = {
        word: [_covered(check) for check in report.checks if check.outcome in outcomes and check.name != CORE]
        for word, outcomes in words.items()
    }
    width = max((len(word) for word, names in rows.items() if names), default=0)
    page.gap()
    for word, names in rows.items():
        if names:
            page.row(word, ", ".join(names), width, 0)


def _covered(check: CheckEntry) -> str:
    reason = check.reason if check.outcome == "not-applicable" else ""
    return f"{check.name} ({reason})" if reason else check.name


def _views(page: Page, report: Report) -> None:
    for view in report.views:
        if view.rows:
            page.gap()
            page.heading(view.title)
            if view.depths:
                page.tree(view.rows, view.depths, 2)
            else:
                page.table(view.columns, view.rows, 2)


def _checks(page: Page, report: Report) -> None:
    page.gap()
    page.heading("Checks")
    width = max((cells(check.name) for check in report.checks), default=0)
    for check in report.checks:
        page.row(check.name, _fared(check), width, 2)


def _fared(check: CheckEntry) -> str:
    """One check in a line: how it ended, how many rules judged, and its time where it took any."""
    parts = [check.outcome.replace("-", " ")]
    if check.outcome in ("not-applicable", "not-asked"):
        return f"{parts[0]} ({check.reason})" if check.reason else parts[0]
    parts.append(f"{counted(check.rules.judged, 'rule')} judged")
    if check.rules.skipped:
        parts.append(f"{check.rules.skipped} skipped")
    if check.seconds:
        parts.append(f"{check.seconds:.2f} s")
    return ", ".join(parts)


def _closing(page: Page, report: Report, options: RenderOptions) -> None:
    page.gap()
    if report.target.source == "text" and not report.findings:
        page.paragraph(
            "That a text is silent does not say that its machine is well: `envdoctor check` looks there."
        )
    elif options.verbosity >= 0 and report.findings:
        page.paragraph("`envdoctor rule ID` tells more about a finding.")
    role, sentence = verdict(report, options.fail_on)
    page.marked(role, sentence, strong="strong")
