"""The report to paste into an issue: what is wrong on top, one line of versions, everything else folded away.

The document that arrives here has been redacted (`Format.redacted`). What programs printed cannot break out
of its table cell or fence, call a user or name an issue.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.render.findings import REACH_WORDS, RESTART_WORDS, where_from
from envdoctor.render.order import Cause, causes, gaps, unexplained
from envdoctor.render.verdict import verdict
from envdoctor.render.words import visible

if TYPE_CHECKING:
    from envdoctor.render import RenderOptions
    from envdoctor.report import FindingEntry, Report

LIMIT = 60_000
"""Characters of the whole page: GitHub refuses comments of more than 65 536."""
LONGEST_VALUE = 600
LONGEST_TITLE = 300
SPECIAL = re.compile(r"([\\`*_\[\]|~$])")
AT_START = re.compile(r"^([-+=#]|\d+(?=[.)](?:\s|$)))")
"""What would begin a list or a heading, or underline one."""
CALLS = re.compile(r"(?<!&)([@#])(?=\w)")
"""``@user``, ``#12``: GitHub looks for them in the finished page; no escape helps, an empty comment does."""
HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def render(report: Report, options: RenderOptions) -> str:
    """The page, of less than `LIMIT` characters: what does not fit is counted."""
    top = [*_top(report, options.fail_on), *_versions(report), *_table(report)]
    bottom = _unknown(report)
    room = LIMIT - _size(top) - _size(bottom) - 200
    details: list[str] = []
    found = causes(report.findings)
    for place, cause in enumerate(found):
        block = _details(cause)
        room -= _size(block)
        if room < 0:
            details += ["", f"{len(found) - place} more are left out here for their length."]
            break
        details += block
    return "\n".join([*top, *details, *bottom, ""])


def _size(lines: list[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _top(report: Report, fail_on: str) -> list[str]:
    _, sentence = verdict(report, fail_on)
    return [f"**{report.tool.name} {escaped(report.tool.version)}**: {escaped(sentence)}", ""]


def _versions(report: Report) -> list[str]:
    rows = [f"{escaped(row.label)} {escaped(row.value)}" for row in report.machine]
    if report.target.recorded_at:
        rows.append(f"recorded {escaped(report.target.recorded_at)}")
    return [" · ".join(rows), ""] if rows else []


def _table(report: Report) -> list[str]:
    shown = [*(entry for cause in causes(report.findings) for entry in (cause.entry, *cause.alike))]
    shown += unexplained(report.findings)
    if not shown:
        return []
    rows = [
        f"| {entry.severity} | {escaped(_cut(entry.title, LONGEST_TITLE))} | {_code(entry.id)} |"
        for entry in shown[:50]
    ]
    more = [f"| | and {len(shown) - 50} more | |"] if len(shown) > 50 else []
    return ["| | finding | rule |", "|---|---|---|", *rows, *more, ""]


def _details(cause: Cause) -> list[str]:
    entry = cause.entry
    lines = [f"<details><summary>{_html(entry.title)} ({_html(entry.id)})</summary>", ""]
    if entry.evidence:
        lines += fenced(
            [
                f"{each.fact}: {_cut(each.value)}  {where_from(each.source)}".rstrip()
                for each in entry.evidence
            ]
        )
    if entry.detail:
        lines += [escaped(entry.detail), ""]
    lines += _fixes(entry)
    lines += _list("The same for:", [each.subject or each.title for each in cause.alike])
    lines += _list("This also explains:", [f"{each.title} ({each.id})" for each in cause.consequences])
    return [*lines, "</details>", ""]


def _fixes(entry: FindingEntry) -> list[str]:
    lines = [f"No fix to type: {escaped(entry.no_fix)}", ""] if entry.no_fix else []
    for fix in entry.fixes:
        terms = [REACH_WORDS.get(fix.reach, fix.reach), "needs root" if fix.needs_root else ""]
        terms.append(RESTART_WORDS.get(fix.needs_restart, fix.needs_restart))
        lines += [f"**Fix**: {escaped(fix.title)} ({escaped('; '.join(filter(None, terms)))})", ""]
        if fix.caveat:
            lines += [f"Mind: {escaped(fix.caveat)}", ""]
        if fix.commands:
            lines += fenced([*fix.commands], "sh")
        if fix.verify:
            lines += ["To verify:", "", *fenced([fix.verify], "sh")]
    return lines


def _unknown(report: Report) -> list[str]:
    missed = [f"{gap.brief()}: {gap.reason}" for gap in gaps(report.checks)]
    stages = [f"{check.name}: {', '.join(check.stages)}" for check in report.checks if check.stages]
    asks = [f"{ask.command}: decides {ask.decides}" for ask in report.asks]
    looked = ", ".join(f"{check.name} {check.outcome}" for check in report.checks)
    lines = ["<details><summary>What was looked at, and what was not</summary>", ""]
    lines += _list("Checks:", [looked] if looked else [])
    lines += _list("Could not look:", missed) + _list("Not tried:", stages) + _list("To be sure, run:", asks)
    return [*lines, "</details>"]


def _list(heading: str, items: list[str]) -> list[str]:
    shown = [f"- {escaped(_cut(item))}" for item in items[:40]]
    more = [f"- and {len(items) - 40} more"] if len(items) > 40 else []
    return [heading, "", *shown, *more, ""] if items else []


def escaped(text: str) -> str:
    """Foreign text as plain words of a Markdown line or table cell."""
    safe = SPECIAL.sub(r"\\\1", visible(" ".join(text.split()))).translate(HTML)
    return CALLS.sub(r"\1<!-- -->", AT_START.sub(_unstarted, safe))


def _unstarted(found: re.Match[str]) -> str:
    """``-`` as ``\\-``, and the ``1`` of ``1.`` as ``1\\``."""
    return f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}"


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"


def _html(text: str) -> str:
    """Foreign text inside an HTML element, where a backslash does not escape."""
    safe = visible(_cut(text, LONGEST_TITLE)).translate(HTML)
    return CALLS.sub(r"\1<!-- -->", re.sub(r"[`*_~|\[\]$\\]", _entity, safe))


def _code(text: str) -> str:
    """An id as a code span of a table cell."""
    return f"`{re.sub('[`|]', '', visible(text))}`"


def fenced(lines: list[str], language: str = "text") -> list[str]:
    """Lines in a fence that is longer than any run of backticks in them."""
    safe = [visible(part) for line in lines for part in line.split("\n")]
    longest = max((len(run) for line in safe for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *safe, fence, ""]


def _cut(text: str, most: int = LONGEST_VALUE) -> str:
    return text if len(text) <= most else f"{text[:most]} [{len(text) - most} more characters]"
