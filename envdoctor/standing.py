"""How each check fared: the `CheckEntry` rows of the report, derived from facts and judgement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.findings import Severity
from envdoctor.injecting import Missing, call_with
from envdoctor.report import CheckEntry, Missed, RuleCounts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envdoctor.check import Check
    from envdoctor.engine import Looked
    from envdoctor.facts import Facts
    from envdoctor.judging import Judgement
    from envdoctor.report import CheckOutcome


def check_entries(
    checks: Sequence[Check], facts: Facts, judgement: Judgement, looked: Looked | None
) -> tuple[CheckEntry, ...]:
    """One row per check; `looked` is None for recorded machines and pasted text."""
    not_here = {check.name: reason for check in checks if (reason := _not_applicable(check, facts))}
    return tuple(_entry(check, facts, judgement, looked, not_here) for check in checks)


def _entry(
    check: Check, facts: Facts, judgement: Judgement, looked: Looked | None, not_here: dict[str, str]
) -> CheckEntry:
    missed = _missed(check, facts)
    not_tried = [each for each in looked.not_tried if _area(each.probe) == check.name] if looked else []
    outcome, reason, allow = _outcome(check, facts, judgement, missed, not_here)
    if outcome == "not-asked" and not_tried:
        reason = f"none of its probes was tried: {not_tried[0].reason}"
    if outcome == "not-applicable":
        missed = ()  # what does not exist here was not missed
    ids = {rule.id for rule in check.rules}
    seconds = (
        sum(spent for probe, spent in looked.seconds.items() if _area(probe) == check.name) if looked else 0.0
    )
    return CheckEntry(
        name=check.name,
        title=check.title,
        outcome=outcome,
        reason=reason,
        would_allow=allow,
        rules=RuleCounts(
            judged=len(ids.intersection(judgement.judged)), skipped=len(ids & judgement.skipped.keys())
        ),
        missed=missed,
        stages=tuple(f"{each.probe}: {each.reason}" for each in not_tried),
        seconds=round(seconds, 3),
    )


def _area(name: str) -> str:
    return name.partition(".")[0]


def _missed(check: Check, facts: Facts) -> tuple[Missed, ...]:
    """What of this check's own facts could not be looked at."""
    return tuple(
        Missed(why.fact, why.reason, why.would_allow)
        for kind, why in facts.unavailable().items()
        if _area(kind.fact_name) == check.name
    )


def _outcome(
    check: Check,
    facts: Facts,
    judgement: Judgement,
    missed: tuple[Missed, ...],
    not_here: dict[str, str],
) -> tuple[CheckOutcome, str, str]:
    """The outcome, its reason, what would allow more. ``ok`` comes last, when nothing speaks against it."""
    if any(
        each.check == check.name and each.finding.severity is not Severity.NOTE for each in judgement.findings
    ):
        return "problem", "", ""
    if check.name in not_here:
        return "not-applicable", not_here[check.name], ""
    known = any(_area(type(fact).fact_name) == check.name for fact in facts)
    judged = any(rule.id in judgement.judged for rule in check.rules)
    gap = _gap(check, judgement, missed, not_here)
    has_facts_of_its_own = check.gives_facts
    if not known and (missed or (gap and not judged)):
        return "could-not-check", *(gap or ("", ""))
    if gap:
        return "partly", *gap
    if not known and (has_facts_of_its_own or not judged):
        return "not-asked", "none of its facts was recorded", ""
    return "ok", "", ""


def _gap(
    check: Check, judgement: Judgement, missed: tuple[Missed, ...], not_here: dict[str, str]
) -> tuple[str, str] | None:
    """The weightiest reason why something of this check is not judged, and what would allow it.

    A fact of another check that does not apply here is no gap: there is nothing of it to look at.
    """
    if missed:
        return missed[0].reason, missed[0].would_allow
    for rule in check.rules:
        if rule.id in judgement.crashed:
            return f"the rule {rule.id} crashed: {judgement.crashed[rule.id]}", ""
    for rule in check.rules:
        skipped = judgement.skipped.get(rule.id)
        if skipped is not None and skipped.unavailable and _area(skipped.unavailable) not in not_here:
            return f"{rule.id} {skipped.reason}", skipped.would_allow
    return None


def _not_applicable(check: Check, facts: Facts) -> str | None:
    """What the check's `applicable` function says, where its facts are there."""
    if check.applies is None:
        return None
    try:
        reason = call_with(check.applies, facts)
    except Missing:
        return None
    except Exception:  # a plugin's code, which then excuses nothing
        return None
    return reason if isinstance(reason, str) else None
