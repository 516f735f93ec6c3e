"""In which order a page tells of findings: root causes first, each with what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from envdoctor.report import CheckEntry, FindingEntry, Report


class Cause(msgspec.Struct, frozen=True):
    """A root finding with what belongs under it."""

    entry: FindingEntry
    alike: tuple[FindingEntry, ...]
    """The same rule with the same fixes about other subjects: the other seven GPUs."""
    consequences: tuple[FindingEntry, ...]


class Gap(msgspec.Struct, frozen=True):
    """Things that could not be looked at for one and the same reason."""

    names: tuple[str, ...]
    reason: str
    would_allow: str

    def brief(self) -> str:
        """The names; where there are many of one check, the check and how many."""
        areas: dict[str, list[str]] = {}
        for name in self.names:
            areas.setdefault(name.partition(".")[0], []).append(name)
        return ", ".join(
            ", ".join(names) if len(names) <= MOST_NAMES else f"{area} ({len(names)} facts)"
            for area, names in areas.items()
        )


MOST_NAMES = 3
"""Names of one check's facts that are given one by one."""


def causes(findings: Sequence[FindingEntry]) -> tuple[Cause, ...]:
    """The roots in their rank; a consequence of several is told under the first of them."""
    leaders = _leaders(findings)
    under = _consequences(findings)
    told: set[str] = set()
    found = []
    for entry, alike in leaders:
        mine = () if entry.id in told else tuple(under.get(entry.id, ()))
        told.add(entry.id)
        found.append(Cause(entry, alike, mine))
    return tuple(found)


def unexplained(findings: Sequence[FindingEntry]) -> tuple[FindingEntry, ...]:
    """Consequences whose causes are not among the findings: ``--select`` or ``--ignore`` leaves those out."""
    roots = {entry.id for entry in findings if entry.role == "root"}
    return tuple(
        entry for entry in findings if entry.role == "consequence" and roots.isdisjoint(entry.consequence_of)
    )


def _leaders(findings: Sequence[FindingEntry]) -> list[tuple[FindingEntry, tuple[FindingEntry, ...]]]:
    groups: dict[object, list[FindingEntry]] = {}
    for entry in findings:
        if entry.role == "root":
            groups.setdefault(
                (entry.id, entry.severity, entry.confidence, entry.fixes, entry.no_fix), []
            ).append(entry)
    return [(first, tuple(rest)) for first, *rest in groups.values()]


def _consequences(findings: Sequence[FindingEntry]) -> dict[str, list[FindingEntry]]:
    rank = {entry.id: place for place, entry in reversed(list(enumerate(findings))) if entry.role == "root"}
    under: dict[str, list[FindingEntry]] = {}
    for entry in findings:
        shown = [cause for cause in entry.consequence_of if cause in rank]
        if entry.role == "consequence" and shown:
            under.setdefault(min(shown, key=lambda cause: rank[cause]), []).append(entry)
    return under


def gaps(checks: Iterable[CheckEntry]) -> tuple[Gap, ...]:
    """What could not be looked at, folded by reason: one dead child keeps a dozen facts from us."""
    checks = tuple(checks)
    names: dict[tuple[str, str], list[str]] = {}
    told = tuple(missed.reason for check in checks for missed in check.missed)
    for check in checks:
        for missed in check.missed:
            names.setdefault((missed.reason, missed.would_allow), []).append(missed.fact)
        blind = not check.missed and check.outcome in ("could-not-check", "partly")
        if blind and not check.reason.endswith(told):  # a fact of another check's, told with that one
            names.setdefault((check.reason, check.would_allow), []).append(check.name)
    return tuple(Gap(tuple(who), reason, allow) for (reason, allow), who in names.items())


def judged_anything(report: Report) -> bool:
    """Whether any rule had something to judge; without that, silence says nothing about the machine."""
    return any(check.rules.judged for check in report.checks if check.name != "envdoctor")


def fails(entry: FindingEntry, fail_on: str) -> bool:
    """Whether a finding is at or above the level that fails; with ``never``, errors still stand out."""
    return entry.severity == "error" or (entry.severity == "warning" and fail_on == "warning")
