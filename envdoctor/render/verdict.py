"""The closing line: what was concluded, the counts, and what the exit code means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.render.order import judged_anything
from envdoctor.render.words import counted

if TYPE_CHECKING:
    from envdoctor.report import Report


def verdict(report: Report, fail_on: str) -> tuple[str, str]:
    """A role of the palette, and one sentence that ends with the exit code and its reason."""
    role, said = _conclusion(report)
    reason = _reason(report, fail_on)
    return role, f"{said}; exit code {report.summary.exit_code}{f' ({reason})' if reason else ''}"


def counts(report: Report) -> str:
    """``1 error, 2 warnings, 1 note``; the kinds that do not occur are left out."""
    summary = report.summary
    kinds = [(summary.errors, "error"), (summary.warnings, "warning"), (summary.notes, "note")]
    return ", ".join(counted(number, noun) for number, noun in kinds if number)


def _conclusion(report: Report) -> tuple[str, str]:
    summary = report.summary
    if summary.errors:
        return "error", f"Not well: {counts(report)}"
    if summary.warnings:
        return "warning", f"No error, {counts(report)}"
    if report.verdict == "could-not-judge":
        return "unknown", "Could not judge: what was asked for could not be looked at"
    if report.verdict == "environment":
        return "warning", "What is shown follows from findings that --select or --ignore leaves out"
    if report.verdict == "not-the-environment":
        return "ok", "The text shows a failure, and it is not the environment's"
    return _nothing(report)


def _nothing(report: Report) -> tuple[str, str]:
    """Nothing above a note: whether that is good news depends on what was looked at."""
    notes = f" ({counts(report)})" if report.summary.notes else ""
    if report.target.source == "text":
        return "unknown", f"Nothing that breaks PyTorch or CUDA was recognised in this text{notes}"
    if not judged_anything(report):
        return "unknown", "Nothing was judged: there were no facts for the installed checks"
    if report.summary.could_not_check:
        return "ok", f"Nothing wrong was found in what could be looked at{notes}"
    return "ok", f"Nothing wrong was found{notes}"


def _reason(report: Report, fail_on: str) -> str:
    summary = report.summary
    if summary.exit_code == 1:
        return f"--fail-on={fail_on}"
    if summary.exit_code == 3 and report.verdict != "could-not-judge":
        return "not everything that was asked for could be judged"
    if summary.exit_code == 0 and summary.errors:
        return "--fail-on=never"
    if summary.exit_code == 0 and summary.warnings:
        return "warnings pass" if fail_on == "error" else "--fail-on=never"
    return ""
