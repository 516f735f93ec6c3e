"""Findings: what a rule has to say about a machine."""

from __future__ import annotations

import enum
from collections.abc import Iterator  # at runtime: the annotations of rules are evaluated
from typing import TypeAlias

import msgspec

from envdoctor.facts import Evidence
from envdoctor.outcomes import Outcome
from envdoctor.remedies import Remedy


class Severity(enum.Enum):
    """`ERROR`: it will not work. `WARNING`: it will hurt. `NOTE`: good to know.

    Above `NOTE` only where a use is shown.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def order(self) -> int:
        """0 for the most severe."""
        return list(Severity).index(self)


class Confidence(enum.Enum):
    """How sure the rule is: `CERTAIN` follows from the facts, `LIKELY` has rivals, `POSSIBLE` is a hint."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"

    @property
    def order(self) -> int:
        """0 for the most confident."""
        return list(Confidence).index(self)


class Ask(msgspec.Struct, frozen=True):
    """A command whose answer would decide between explanations, and what it decides."""

    command: str
    decides: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, about one subject.

    `subject` is what it is about: ``gpu:3``, ``library:libcudart.so.12``, ``variable:LD_LIBRARY_PATH``; empty
    for the machine as a whole. `title` is one line; `detail` explains, in whole sentences, how the evidence
    leads there.
    """

    title: str
    subject: str = ""
    severity: Severity = Severity.ERROR
    confidence: Confidence = Confidence.CERTAIN
    detail: str = ""
    evidence: tuple[Evidence, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    breaks: tuple[Outcome, ...] = ()
    shows: tuple[Outcome, ...] = ()
    asks: tuple[Ask, ...] = ()

    @property
    def may_explain(self) -> bool:
        """Whether it is sure enough to account for other failures: at least `likely`."""
        return self.confidence is not Confidence.POSSIBLE


Findings: TypeAlias = Iterator[Finding]
"""What a rule and each of its signs return: they are generators."""


def merged(findings: list[Finding]) -> list[Finding]:
    """Fold one rule's findings that agree on a subject; an empty subject agrees with the only other one."""
    by_subject: dict[str, list[Finding]] = {}
    for finding in findings:
        by_subject.setdefault(finding.subject, []).append(finding)
    if len(by_subject) == 2 and "" in by_subject:
        vague = by_subject.pop("")
        next(iter(by_subject.values())).extend(vague)
    return [_fold(group) for group in by_subject.values()]


def _fold(group: list[Finding]) -> Finding:
    """Join evidence, remedies and outcomes; the most confident speaks, the most severe sets the severity."""
    if len(group) == 1:
        return group[0]
    ordered = sorted(group, key=lambda finding: (finding.confidence.order, finding.severity.order))
    speaker = ordered[0]
    return msgspec.structs.replace(
        speaker,
        subject=speaker.subject or next((each.subject for each in ordered if each.subject), ""),
        severity=min((each.severity for each in group), key=lambda severity: severity.order),
        detail=speaker.detail or next((each.detail for each in ordered if each.detail), ""),
        evidence=_joined(each.evidence for each in ordered),
        remedies=_joined(each.remedies for each in ordered),
        breaks=_joined(each.breaks for each in ordered),
        shows=_joined(each.shows for each in ordered),
        asks=speaker.asks,
    )


def _joined(tuples: Iterator[tuple[object, ...]]) -> tuple:  # type: ignore[type-arg] # for any element
    """The elements of all tuples, once each, in order."""
    return tuple(dict.fromkeys(each for group in tuples for each in group))
