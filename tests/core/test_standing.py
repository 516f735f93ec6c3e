"""How a check fared: ``ok`` is said last, and never where something could not be looked at."""

from __future__ import annotations

from typing import Any

import pytest

from envdoctor.check import Check, Tier
from envdoctor.facts import CouldNotLook, Fact, Facts, Symptom, Unavailable
from envdoctor.findings import Finding, Findings, Severity
from envdoctor.judging import bind, judge
from envdoctor.report import CheckEntry, RuleCounts
from envdoctor.standing import check_entries
from tests.core.kit import Bang, Engine, Fuel, Wheels, car, looked


def stands(engine: Engine) -> Findings:
    """The engine stands."""
    if engine.running is False:
        yield Finding(title="it stands")


def rattles(engine: Engine) -> Findings:
    """The engine rattles."""
    yield Finding(title="it rattles", severity=Severity.NOTE)


def breaks(engine: Engine) -> Findings:
    """A rule with a defect."""
    if engine:
        raise ValueError("no such gear")
    yield Finding(title="never")


def loud(bang: Bang) -> Findings:
    """Something banged."""
    yield from ()


def engine() -> Engine:
    return Engine()


def wheels() -> Wheels:
    return Wheels()


def checked(*rules: Any) -> Check:
    """A check that owes two facts."""
    check = car()
    check.probe(tier=Tier.QUICK)(engine)
    check.probe(tier=Tier.DEEP)(wheels)
    for rule in rules:
        check.rule(rule)
    return check


def entry(check: Check, *things: Fact | Symptom, unavailable: tuple[type[Fact], ...] = ()) -> CheckEntry:
    facts = Facts.of(*things, unavailable=unavailable)
    (only,) = check_entries((check,), facts, judge(bind((check,), facts)), None)
    return only


def test_ok() -> None:
    told = entry(checked(stands), Engine(), Wheels())
    assert (told.name, told.title, told.outcome, told.reason) == ("car", "a car", "ok", "")
    assert told.rules == RuleCounts(1, 0)
    assert told.missed == ()


def test_a_note_is_no_problem() -> None:
    assert entry(checked(stands, rattles), Engine()).outcome == "ok"


def test_problem() -> None:
    assert entry(checked(stands), Engine(running=False)).outcome == "problem"
    assert entry(checked(stands), Engine(running=False), unavailable=(Wheels,)).outcome == "problem"


def test_not_asked() -> None:
    told = entry(checked(stands))
    assert (told.outcome, told.reason) == ("not-asked", "none of its facts was recorded")
    assert told.rules == RuleCounts(0, 1)


def test_a_text_that_says_next_to_nothing_does_not_make_a_check_ok() -> None:
    assert entry(checked(stands, loud), Bang()).outcome == "not-asked"


def test_could_not_check() -> None:
    facts = Facts(unavailable={Engine: Unavailable("car.engine", "the bonnet is locked", "the key")})
    check = checked(stands)
    (told,) = check_entries((check,), facts, judge(bind((check,), facts)), None)
    assert (told.outcome, told.reason, told.would_allow) == (
        "could-not-check",
        "the bonnet is locked",
        "the key",
    )
    assert [each.fact for each in told.missed] == ["car.engine"]


def test_partly() -> None:
    told = entry(checked(stands), Engine(), unavailable=(Wheels,))
    assert (told.outcome, told.reason) == ("partly", "not readable")


def test_a_rule_that_broke_leaves_a_check_partly_looked_at() -> None:
    told = entry(checked(stands, breaks), Engine())
    assert told.outcome == "partly"
    assert told.reason == "the rule car/breaks crashed: ValueError: no such gear"


def borrowed(wheels: Wheels, fuel: Fuel) -> Findings:
    """A rule that needs another check's facts."""
    yield from ()


def test_what_another_check_could_not_look_at_leaves_this_one_partly_judged() -> None:
    class_of_another = Check("trip", "a trip", package="tests.core")
    class_of_another.rule(borrowed)
    facts = Facts({Wheels: Wheels()}, {Fuel: Unavailable("car.fuel", "no gauge", "a gauge")})
    judgement = judge(bind((class_of_another,), facts))
    (told,) = check_entries((class_of_another,), facts, judgement, None)
    assert told.outcome == "could-not-check"
    assert told.reason == "trip/borrowed could not look: no gauge"
    assert told.would_allow == "a gauge"
    class_of_another.rule(only_wheels)
    judgement = judge(bind((class_of_another,), facts))
    (told,) = check_entries((class_of_another,), facts, judgement, None)
    assert told.outcome == "partly"


def only_wheels(wheels: Wheels) -> Findings:
    """A rule that needs less."""
    yield from ()


def test_a_check_without_facts_of_its_own_is_ok_by_its_rules() -> None:
    check = Check("policy", "a policy", package="tests.core")
    check.rule(only_wheels)
    assert entry(check, Wheels()).outcome == "ok"
    assert entry(check).outcome == "not-asked"


def no_car(engine: Engine) -> str | None:
    return "there is no car here" if engine.running is None else None


def broken_excuse(engine: Engine) -> str | None:
    raise ValueError("no idea")


def test_not_applicable() -> None:
    check = checked(stands)
    check.applicable(no_car)
    told = entry(check, Engine(running=None), unavailable=(Wheels,))
    assert (told.outcome, told.reason) == ("not-applicable", "there is no car here")
    assert entry(check, Engine()).outcome == "ok"
    assert entry(check, Engine(running=False)).outcome == "problem"
    assert entry(check).outcome == "not-asked"


def test_an_excuse_that_breaks_excuses_nothing() -> None:
    check = checked(stands)
    check.applicable(broken_excuse)
    assert entry(check, Engine()).outcome == "ok"
    assert entry(check, Engine(), unavailable=(Wheels,)).outcome == "partly"


@pytest.mark.parametrize("tier", [Tier.QUICK, Tier.DEEP])
def test_what_was_not_tried_is_listed_with_its_flag(tier: Tier) -> None:
    check = checked(stands)
    result = looked(check, tier=tier)
    (told,) = check_entries((check,), result.facts, judge(bind((check,), result.facts)), result)
    assert told.outcome == "ok"
    assert told.stages == (() if tier is Tier.DEEP else ("car.wheels: --deep tries it",))
    assert told.seconds >= 0


def test_a_check_of_which_nothing_was_tried_says_so() -> None:
    check = car()
    check.probe(tier=Tier.DEEP)(wheels)
    result = looked(check, tier=Tier.QUICK)
    (told,) = check_entries((check,), result.facts, judge(bind((check,), result.facts)), result)
    assert (told.outcome, told.reason) == ("not-asked", "none of its probes was tried: --deep tries it")


def kept() -> Wheels:
    raise CouldNotLook("no light", "a lamp")


def crashes() -> Wheels:
    raise ValueError("no such gear")


@pytest.mark.parametrize("probe", [kept, crashes])
def test_never_ok_where_a_probe_failed(probe: Any) -> None:
    check = car()
    check.probe(tier=Tier.QUICK)(engine)
    check.probe(tier=Tier.QUICK)(probe)
    check.rule(stands)
    result = looked(check)
    (told,) = check_entries((check,), result.facts, judge(bind((check,), result.facts)), result)
    assert told.outcome == "partly"
