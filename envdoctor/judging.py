"""Judging: facts in, findings out. `bind` decides which signs of which rules can run; `judge` runs them, purely."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from envdoctor.check import Check, Need, Rule, gives_of, needs_of
from envdoctor.facts import Fact, Facts, Symptom, Unavailable
from envdoctor.findings import Finding, merged
from envdoctor.outcomes import Link, causes_of, depth, explains_seen


class Skipped(msgspec.Struct, frozen=True):
    """Why a rule did not judge."""

    reason: str
    unavailable: str = ""
    """The fact type that could not be looked at; empty when it was merely not recorded."""
    would_allow: str = ""


class Call(msgspec.Struct, frozen=True):
    """One sign of one rule with the arguments it will get."""

    sign: Callable[..., Any]
    arguments: tuple[Any, ...]


class BoundRule(msgspec.Struct, frozen=True):
    """A rule with all the calls that the facts allow, or the reason why there is none."""

    rule: Rule[Any]
    calls: tuple[Call, ...]
    skipped: Skipped | None


class Judged(msgspec.Struct, frozen=True):
    """A finding with the rule that made it and its place among the others."""

    rule: str
    finding: Finding
    consequence_of: tuple[int, ...] = ()
    """Indices, in the same list, of its causes; empty for a root."""

    @property
    def check(self) -> str:
        """The area of the rule."""
        return self.rule.partition("/")[0]

    @property
    def is_root(self) -> bool:
        """Whether nothing else explains it."""
        return not self.consequence_of


class Judgement(msgspec.Struct, frozen=True):
    """All that the rules had to say."""

    findings: tuple[Judged, ...]
    """Ranked: the root cause to treat first is the first."""
    judged: tuple[str, ...]
    skipped: dict[str, Skipped]
    crashed: dict[str, str]
    """Rule -> exception. A crashed rule hides nothing but itself."""


Findings = list[tuple[str, Finding]]


def bind(checks: Sequence[Check], facts: Facts) -> tuple[BoundRule, ...]:
    """Give every sign its facts. Tables are loaded here, and only for a sign whose other needs are met."""
    tables = Tables(checks)
    return tuple(_bind_rule(rule, facts, tables) for check in checks for rule in check.rules)


class Tables:
    """Knowledge by type, loaded once, when a rule that is about to run asks for it."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._loaders = {kind: load for check in checks for load in check.tables for kind in gives_of(load)}
        self._loaded: dict[type, Any] = {}

    def __contains__(self, kind: type) -> bool:
        return kind in self._loaders

    def __getitem__(self, kind: type) -> Any:
        if kind not in self._loaded:
            self._loaded[kind] = self._loaders[kind]()
        return self._loaded[kind]


def _bind_rule(rule: Rule[Any], facts: Facts, tables: Tables) -> BoundRule:
    calls: list[Call] = []
    reasons: list[Skipped] = []
    for sign in rule.signs:
        found = _bind_sign(sign, facts, tables)
        if isinstance(found, Skipped):
            reasons.append(found)
        else:
            calls.extend(found)
    if calls:
        return BoundRule(rule, tuple(calls), None)
    by_weight = sorted(reasons, key=lambda skipped: not skipped.unavailable)
    return BoundRule(rule, (), by_weight[0] if by_weight else Skipped("it has no signs"))


def _bind_sign(sign: Callable[..., Any], facts: Facts, tables: Tables) -> list[Call] | Skipped:
    """Every call of one sign: one per combination of the symptoms it asks for, or why there is none."""
    needs = needs_of(sign)
    choices: list[Sequence[Any]] = []
    for need in needs:
        choice = _choices(need, facts, tables)
        if isinstance(choice, Skipped):
            return choice
        choices.append(choice)
    for index, need in enumerate(needs):
        if need.kind in tables:
            choices[index] = (tables[need.kind],)
    return [Call(sign, arguments) for arguments in itertools.product(*choices)]


def _choices(need: Need, facts: Facts, tables: Tables) -> Sequence[Any] | Skipped:
    if issubclass(need.kind, Symptom):
        said = facts.symptoms(need.kind)
        if need.many:
            return (said,)
        return said or ((None,) if need.optional else Skipped(f"no message of kind {need.kind.symptom_name}"))
    if need.kind in tables:
        return (None,)  # filled in once every other need is met
    found: Fact | Unavailable | None = facts.get(need.kind)
    if isinstance(found, Unavailable):
        if need.accepts_unavailable:
            return (found,)
        if need.optional:
            return (None,)
        return Skipped(f"could not look: {found.reason}", found.fact, found.would_allow)
    if found is None and not need.optional:
        return Skipped(f"not recorded: {need.kind.fact_name or need.kind.__name__}")
    return (found,)


def judge(bound: Iterable[BoundRule], also: Findings = ()) -> Judgement:  # type: ignore[assignment] # an empty tuple is an empty list here
    """Run every bound rule. `also`: findings of the core itself, as (rule id, finding)."""
    found: Findings = list(also)
    judged: list[str] = []
    skipped: dict[str, Skipped] = {}
    crashed: dict[str, str] = {}
    for each in bound:
        if each.skipped is not None:
            skipped[each.rule.id] = each.skipped
            continue
        try:
            findings = [finding for call in each.calls for finding in call.sign(*call.arguments)]
        except Exception as error:
            crashed[each.rule.id] = f"{type(error).__name__}: {error}"
            continue
        judged.append(each.rule.id)
        found.extend((each.rule.id, finding) for finding in merged(findings))
    return Judgement(ranked(found), tuple(judged), skipped, crashed)


def ranked(found: Findings) -> tuple[Judged, ...]:
    """Sort by role and weight, and say which are consequences of which.

    Roots come before consequences; then: explains a failure that was seen > severity > confidence > upstream first > id.
    """
    links = [_link(finding) for _, finding in found]
    causes = causes_of(links)
    seen = {outcome for link in links for outcome in link.shows}
    order = sorted(
        range(len(found)),
        key=lambda index: (
            bool(causes[index]),
            *_weight(found[index][1], links[index], seen),
            found[index][0],
            found[index][1].subject,
        ),
    )
    place = {old: new for new, old in enumerate(order)}
    return tuple(
        Judged(found[old][0], found[old][1], tuple(sorted(place[cause] for cause in causes[old]))) for old in order
    )


def _link(finding: Finding) -> Link:
    return Link(finding.breaks, finding.shows, finding.confidence.value != "possible")


def _weight(finding: Finding, link: Link, seen: set[Any]) -> tuple[Any, ...]:
    return (
        not explains_seen(link, seen),
        finding.severity.order,
        finding.confidence.order,
        depth(link.breaks or link.shows),
    )
