"""Judging: facts in, findings out.

`bind` decides which signs of which rules can run; `judge` runs them, and looks at nothing but its arguments.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from envdoctor.check import Rule, gives_of, needs_of
from envdoctor.facts import Fact, Symptom, Unavailable
from envdoctor.findings import Finding, merged
from envdoctor.outcomes import Link, causes_of, depth, explains_seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from envdoctor.check import Check, Need
    from envdoctor.facts import Facts


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
    """A rule with all the calls that the facts allow; without any, why it is skipped or broke."""

    rule: Rule[Any]
    calls: tuple[Call, ...] = ()
    skipped: Skipped | None = None
    crashed: str = ""


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


Found = tuple[str, Finding]
"""A rule's id and what it found."""


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
    try:
        bound = [_bind_sign(sign, facts, tables) for sign in rule.signs]
    except Exception as error:  # a plugin's annotation or table
        return BoundRule(rule, crashed=f"{type(error).__name__}: {error}")
    calls = [call for sign in bound if not isinstance(sign, Skipped) for call in sign]
    if calls:
        return BoundRule(rule, tuple(calls))
    skipped = [sign for sign in bound if isinstance(sign, Skipped)]
    return BoundRule(rule, skipped=next((each for each in skipped if each.unavailable), skipped[0]))


def _bind_sign(sign: Callable[..., Any], facts: Facts, tables: Tables) -> list[Call] | Skipped:
    """Every call of one sign: one per combination of the symptoms it asks for, or why there is none.

    A sign that can do without everything that it names still has nothing to judge where none of it is there.
    """
    absent = _absent(sign, facts, tables)
    if absent is not None:
        return absent
    needs = needs_of(sign)
    choices: list[Sequence[Any]] = []
    for need in needs:
        choice = (None,) if need.kind in tables else _choices(need, facts)
        if isinstance(choice, Skipped):
            return choice
        choices.append(choice)
    if all(choice in ((None,), ((),)) for choice in choices):
        names = ", ".join(_name(need.kind) for need in needs if need.kind not in tables)
        return Skipped(f"not recorded: {names or 'anything that it could judge'}")
    for index, need in enumerate(needs):
        if need.kind in tables:
            choices[index] = (tables[need.kind],)
    return [Call(sign, arguments) for arguments in itertools.product(*choices)]


def _absent(sign: Callable[..., Any], facts: Facts, tables: Tables) -> Skipped | None:
    """Why a sign has nothing to judge, by those annotations that are one name: reading the others costs ten times that.

    A text has few facts, and most signs name at least one that it does not have. What could not be looked at
    is left to the full reading, which says so.
    """
    names = getattr(sign, "__globals__", {})
    for parameter, hint in getattr(sign, "__annotations__", {}).items():
        kind = names.get(hint) if isinstance(hint, str) and parameter != "return" else None
        if not isinstance(kind, type) or kind in tables:
            continue
        if issubclass(kind, Symptom) and not facts.symptoms(kind):
            return Skipped(f"no message of kind {_name(kind)}")
        if issubclass(kind, Fact):
            found = facts.get(kind)
            if found is None:
                return Skipped(f"not recorded: {_name(kind)}")
            if isinstance(found, Unavailable):
                return None
    return None


def _choices(need: Need, facts: Facts) -> Sequence[Any] | Skipped:
    if issubclass(need.kind, Symptom):
        said = facts.symptoms(need.kind)
        if need.many:
            return (said,)
        return said or ((None,) if need.optional else Skipped(f"no message of kind {_name(need.kind)}"))
    found = facts.get(need.kind) if issubclass(need.kind, Fact) else None
    if isinstance(found, Unavailable) and not need.accepts_unavailable:
        if not need.optional:
            return Skipped(f"could not look: {found.reason}", found.fact, found.would_allow)
        found = None
    if found is None and not need.optional:
        return Skipped(f"not recorded: {_name(need.kind)}")
    return (found,)


def _name(kind: type) -> str:
    name = kind.symptom_name if issubclass(kind, Symptom) else getattr(kind, "fact_name", "")
    return name or kind.__name__


def judge(bound: Iterable[BoundRule], also: Iterable[Found] = ()) -> Judgement:
    """Run every bound rule. `also`: findings of the core itself."""
    found = list(also)
    judged: list[str] = []
    skipped: dict[str, Skipped] = {}
    crashed: dict[str, str] = {}
    for each in bound:
        if each.skipped is not None:
            skipped[each.rule.id] = each.skipped
            continue
        findings, crash = _said_by(each)
        found.extend((each.rule.id, finding) for finding in findings)
        if crash:
            crashed[each.rule.id] = crash
        else:
            judged.append(each.rule.id)
    return Judgement(ranked(found), tuple(judged), skipped, crashed)


def _said_by(bound: BoundRule) -> tuple[list[Finding], str]:
    """What a rule found, and how it broke, if it did: a sign that breaks does not silence the others."""
    said: list[Finding] = []
    crash = bound.crashed
    for call in bound.calls:
        try:
            said.extend(_verified(finding) for finding in call.sign(*call.arguments))
        except Exception as error:
            crash = f"{type(error).__name__}: {error}"
    return merged(said), crash


def _verified(finding: object) -> Finding:
    if not isinstance(finding, Finding):
        raise TypeError(f"a rule gave {type(finding).__name__}, not a Finding")
    hash(finding)  # a list where a tuple belongs would break what compares findings, far from the rule
    return finding


def ranked(found: Sequence[Found]) -> tuple[Judged, ...]:
    """Sort by role and weight, and say which are consequences of which.

    Roots before consequences; then: explains a failure that was seen > severity > confidence > upstream > id.
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
    return tuple(Judged(*found[old], tuple(sorted(place[cause] for cause in causes[old]))) for old in order)


def _link(finding: Finding) -> Link:
    return Link(finding.breaks, finding.shows, finding.confidence.value != "possible")


def _weight(finding: Finding, link: Link, seen: set[Any]) -> tuple[Any, ...]:
    return (
        not explains_seen(link, seen),
        finding.severity.order,
        finding.confidence.order,
        depth(link.breaks or link.shows),
    )
