"""The report document, ``envdoctor.report/1``: its shape, and the one converter that builds it.

The committed JSON Schema (``envdoctor/schemas/report-1.json``, generated from these types and compared by a
test) is the contract; minor versions only add. Renderers read this document and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from envdoctor import __version__
from envdoctor.facts import Evidence, Facts
from envdoctor.findings import Ask, Severity
from envdoctor.judging import Judged, Judgement
from envdoctor.prescribe import Fix, prescribe
from envdoctor.surroundings import UNKNOWN, Surroundings

SCHEMA = "envdoctor.report/1"
SourceOfFacts = Literal["live", "facts", "text"]
VerdictName = Literal["environment", "not-the-environment", "nothing-found", "could-not-judge"]
CheckOutcome = Literal["ok", "problem", "partly", "could-not-check", "not-applicable", "not-asked"]


class PluginEntry(msgspec.Struct, frozen=True):
    """One loaded plugin."""

    name: str
    distribution: str
    version: str


class Tool(msgspec.Struct, frozen=True):
    """Who wrote the report."""

    name: str
    version: str
    plugins: tuple[PluginEntry, ...]


class PassedOver(msgspec.Struct, frozen=True):
    """An interpreter that was considered and not taken."""

    python: str
    why: str


class TargetEntry(msgspec.Struct, frozen=True):
    """What was examined."""

    source: SourceOfFacts
    python: str | None = None
    prefix: str | None = None
    why: str = ""
    passed_over: tuple[PassedOver, ...] = ()
    recorded_at: str | None = None


class MachineRow(msgspec.Struct, frozen=True):
    """One row of the machine's summary."""

    label: str
    value: str


class Summary(msgspec.Struct, frozen=True):
    """Counts of the findings that stand for themselves, and the exit code that they lead to."""

    errors: int
    warnings: int
    notes: int
    could_not_check: int
    """How many facts, or whole checks, could not be looked at."""
    exit_code: int


class FindingEntry(msgspec.Struct, frozen=True):
    """One finding, as it is shown."""

    id: str
    subject: str
    severity: Literal["error", "warning", "note"]
    confidence: Literal["certain", "likely", "possible"]
    role: Literal["root", "consequence"]
    consequence_of: tuple[str, ...]
    """The ids of its causes."""
    title: str
    detail: str
    evidence: tuple[Evidence, ...]
    fixes: tuple[Fix, ...]
    no_fix: str | None
    docs: str
    """The command that shows the rule's page."""


class RuleCounts(msgspec.Struct, frozen=True):
    """How many rules of a check judged, and how many were skipped."""

    judged: int
    skipped: int


class Missed(msgspec.Struct, frozen=True):
    """One fact that could not be looked at."""

    fact: str
    reason: str
    would_allow: str = ""


class ViewEntry(msgspec.Struct, frozen=True):
    """A table of what was seen, beyond the findings."""

    check: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    depths: tuple[int, ...] = ()
    """For a tree: how deep each row stands, from 0; empty for a plain table."""


class CheckEntry(msgspec.Struct, frozen=True):
    """How a check fared. `outcome` is never ``ok`` where something could not be looked at."""

    name: str
    title: str
    outcome: CheckOutcome
    reason: str
    would_allow: str
    rules: RuleCounts
    missed: tuple[Missed, ...]
    stages: tuple[str, ...]
    """What of it was not tried in this run, and the flag that would."""
    seconds: float


class Report(msgspec.Struct, frozen=True):
    """The whole document."""

    schema: str
    tool: Tool
    target: TargetEntry
    machine: tuple[MachineRow, ...]
    verdict: VerdictName
    summary: Summary
    findings: tuple[FindingEntry, ...]
    suppressed: tuple[FindingEntry, ...]
    asks: tuple[Ask, ...]
    checks: tuple[CheckEntry, ...]
    views: tuple[ViewEntry, ...] = ()
    crash: str | None = None
    """Set when envdoctor itself broke: the rest holds what was known by then."""


class Selection(msgspec.Struct, frozen=True):
    """What the user wants reported and counted. Looking and explaining are not affected."""

    select: tuple[str, ...] = ()
    """Rule ids or areas; empty for all."""
    ignore: tuple[str, ...] = ()
    fail_on: Literal["error", "warning", "never"] = "error"
    strict: bool = False
    """Whether one unreadable source is enough for exit code 3."""

    def wants(self, rule: str) -> bool:
        """Whether findings of this rule are reported."""
        return (not self.select or _names(self.select, rule)) and not _names(self.ignore, rule)


def _names(patterns: Sequence[str], rule: str) -> bool:
    return any(pattern in (rule, rule.partition("/")[0]) for pattern in patterns)


def build_report(
    *,
    tool: Tool,
    target: TargetEntry,
    machine: Iterable[MachineRow],
    judgement: Judgement,
    facts: Facts,
    checks: tuple[CheckEntry, ...],
    selection: Selection,
    views: tuple[ViewEntry, ...] = (),
    not_the_environment: bool = False,
) -> Report:
    """The one converter from inner types to the document."""
    around = facts.get(Surroundings)
    surroundings = around if isinstance(around, Surroundings) else UNKNOWN
    wanted = [judged for judged in judgement.findings if selection.wants(judged.rule)]
    entries = tuple(_entry(judged, judgement.findings, surroundings) for judged in wanted)
    suppressed = tuple(
        _entry(judged, judgement.findings, surroundings)
        for judged in judgement.findings
        if not selection.wants(judged.rule)
    )
    summary = summarise(entries, checks, selection, judgement)
    asks = tuple(dict.fromkeys(ask for judged in wanted if judged.is_root for ask in judged.finding.asks))
    return Report(
        schema=SCHEMA,
        tool=tool,
        target=target,
        machine=tuple(machine),
        verdict=_verdict(summary, not_the_environment),
        summary=summary,
        findings=entries,
        suppressed=suppressed,
        asks=asks,
        checks=checks,
        views=views,
    )


def _entry(judged: Judged, everyone: Sequence[Judged], around: Surroundings) -> FindingEntry:
    finding = judged.finding
    fixes, no_fix = prescribe(finding.remedies, around)
    return FindingEntry(
        id=judged.rule,
        subject=finding.subject,
        severity=finding.severity.value,
        confidence=finding.confidence.value,
        role="root" if judged.is_root else "consequence",
        consequence_of=tuple(dict.fromkeys(everyone[cause].rule for cause in judged.consequence_of)),
        title=finding.title,
        detail=finding.detail,
        evidence=finding.evidence,
        fixes=fixes,
        no_fix=no_fix,
        docs=f"envdoctor rule {judged.rule}",
    )


def summarise(
    entries: Sequence[FindingEntry], checks: Sequence[CheckEntry], selection: Selection, judgement: Judgement
) -> Summary:
    """Count what stands for itself and derive the exit code: 1 beats 3 beats 0."""
    counted = [entry for entry in entries if _counts(entry, selection)]
    counts = {severity: sum(entry.severity == severity.value for entry in counted) for severity in Severity}
    return Summary(
        errors=counts[Severity.ERROR],
        warnings=counts[Severity.WARNING],
        notes=counts[Severity.NOTE],
        could_not_check=sum(len(check.missed) or 1 for check in checks if _is_partial(check)),
        exit_code=_exit_code(counts, checks, selection, judgement),
    )


def _counts(entry: FindingEntry, selection: Selection) -> bool:
    """A root counts, and so does a consequence whose causes ``--select`` left out: else a failure would pass.

    What the user said to ignore still explains its consequences away.
    """
    return all(
        not selection.wants(cause) and not _names(selection.ignore, cause) for cause in entry.consequence_of
    )


def _is_partial(check: CheckEntry) -> bool:
    """Whether something of a check that applies here could not be looked at, whatever else it found."""
    return check.outcome in ("could-not-check", "partly") or (
        check.outcome == "problem" and bool(check.missed)
    )


def _exit_code(
    counts: dict[Severity, int], checks: Sequence[CheckEntry], selection: Selection, judgement: Judgement
) -> int:
    failing = {"error": (Severity.ERROR,), "warning": (Severity.ERROR, Severity.WARNING), "never": ()}
    if any(counts[severity] for severity in failing[selection.fail_on]):
        return 1
    return 3 if _could_not_judge(checks, selection, judgement) else 0


def _could_not_judge(checks: Sequence[CheckEntry], selection: Selection, judgement: Judgement) -> bool:
    """A whole check that applies, or something named by ``--select``, could not be looked at."""
    for check in checks:
        selected = not selection.select or any(
            each.partition("/")[0] == check.name for each in selection.select
        )
        if selected and check.outcome == "could-not-check":
            return True
        if selection.strict and selected and _is_partial(check):
            return True
    named = (each for each in selection.select if "/" in each)
    return any(each in judgement.crashed or _was_blind(judgement, each) for each in named)


def _was_blind(judgement: Judgement, rule: str) -> bool:
    skipped = judgement.skipped.get(rule)
    return skipped is not None and bool(skipped.unavailable)


def _verdict(summary: Summary, not_the_environment: bool) -> VerdictName:
    if summary.errors or summary.warnings:
        return "environment"
    if summary.exit_code == 3:
        return "could-not-judge"
    return "not-the-environment" if not_the_environment else "nothing-found"


def our_tool(plugins: Iterable[PluginEntry]) -> Tool:
    """This build of envdoctor and its plugins."""
    return Tool("envdoctor", __version__, tuple(plugins))
