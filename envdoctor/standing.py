"""How each check fared: the `CheckEntry` rows of the report, derived from facts and judgement."""

from __future__ import annotations

from collections.abc import Sequence

from envdoctor.check import Check
from envdoctor.engine import Looked
from envdoctor.facts import Facts
from envdoctor.findings import Severity
from envdoctor.injecting import Missing, call_with
from envdoctor.judging import Judgement
from envdoctor.report import CheckEntry, CheckOutcome, Missed, RuleCounts


def check_entries(
    checks: Sequence[Check], facts: Facts, judgement: Judgement, looked: Looked | None
) -> tuple[CheckEntry, ...]:
    """One row per check; `looked` is None for recorded machines and pasted text."""
    return tuple(_entry(check, facts, judgement, looked) for check in checks)


def _entry(check: Check, facts: Facts, judgement: Judgement, looked: Looked | None) -> CheckEntry:
    missed = _missed(check, facts)
    outcome, reason, allow = _outcome(check, facts, judgement, missed)
    ids = [rule.id for rule in check.rules]
    stages = tuple(each.probe for each in looked.not_tried if _owner(each.probe) == check.name) if looked else ()
    seconds = sum(spent for probe, spent in looked.seconds.items() if _owner(probe) == check.name) if looked else 0.0
    return CheckEntry(
        name=check.name,
        title=check.title,
        outcome=outcome,
        reason=reason,
        would_allow=allow,
        rules=RuleCounts(
            judged=sum(rule in judgement.judged for rule in ids),
            skipped=sum(rule in judgement.skipped for rule in ids),
        ),
        missed=missed,
        stages=stages,
        seconds=round(seconds, 3),
    )


def _owner(name: str) -> str:
    return name.partition(".")[0]


def _missed(check: Check, facts: Facts) -> tuple[Missed, ...]:
    """What of this check's own facts could not be looked at."""
    return tuple(
        Missed(why.fact, why.reason, why.would_allow)
        for kind, why in facts.unavailable().items()
        if _owner(kind.fact_name) == check.name
    )


def _outcome(
    check: Check, facts: Facts, judgement: Judgement, missed: tuple[Missed, ...]
) -> tuple[CheckOutcome, str, str]:
    not_here = _not_applicable(check, facts)
    speaks = any(
        judged.check == check.name and judged.finding.severity is not Severity.NOTE for judged in judgement.findings
    )
    if speaks:
        return "problem", "", ""
    if not_here is not None:
        return "not-applicable", not_here, ""
    known = [fact for fact in facts if _owner(type(fact).fact_name) == check.name]
    crashed = [rule.id for rule in check.rules if rule.id in judgement.crashed]
    if missed:
        first = missed[0]
        return ("partly" if known else "could-not-check"), first.reason, first.would_allow
    if crashed:
        return "partly", f"the rule {crashed[0]} crashed: {judgement.crashed[crashed[0]]}", ""
    judged = any(rule.id in judgement.judged for rule in check.rules)
    if not judged and not known:
        return "not-asked", "no facts of this check were recorded", ""
    return "ok", "", ""


def _not_applicable(check: Check, facts: Facts) -> str | None:
    """Ask the check's `applicable` function, if its facts are there."""
    if check.applies is None:
        return None
    try:
        reason: str | None = call_with(check.applies, facts)
    except Missing:
        return None
    return reason
