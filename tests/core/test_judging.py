"""Judging: which signs run, what they get, what becomes of what they say."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from envdoctor.check import Check
from envdoctor.facts import Evidence, Fact, Facts, Source, Symptom, Unavailable
from envdoctor.findings import Confidence, Finding, Findings, Severity, merged
from envdoctor.judging import Judgement, Skipped, bind, judge
from envdoctor.outcomes import Outcome, library
from envdoctor.remedies import NoFix
from tests.core.kit import HERE, Bang, Engine, Fuel, Squeak, Wheels, car


def judged(check: Check, *things: Fact | Symptom, unavailable: tuple[type[Fact], ...] = ()) -> Judgement:
    return judge(bind((check,), Facts.of(*things, unavailable=unavailable)))


def said(judgement: Judgement) -> list[str]:
    return [each.finding.title for each in judgement.findings]


# The three absences.


def needs_it(engine: Engine) -> Findings:
    yield Finding(title=f"engine {engine.running}")


def does_without(engine: Engine | None, wheels: Wheels) -> Findings:
    yield Finding(title="no engine" if engine is None else "engine")


def tells_apart(engine: Engine | Unavailable) -> Findings:
    yield Finding(title=engine.reason if isinstance(engine, Unavailable) else "engine")


def takes_all(engine: Engine | Unavailable | None, wheels: Wheels) -> Findings:
    yield Finding(title=type(engine).__name__)


NOT_THERE = Engine(running=None)


@pytest.mark.parametrize(
    ("rule", "not_there", "could_not_look", "not_recorded"),
    [
        (needs_it, ["engine None"], [], []),
        (does_without, ["engine"], ["no engine"], ["no engine"]),
        (tells_apart, ["engine"], ["not readable"], []),
        (takes_all, ["Engine"], ["Unavailable"], ["NoneType"]),
    ],
)
def test_three_absences(
    rule: Any, not_there: list[str], could_not_look: list[str], not_recorded: list[str]
) -> None:
    check = car()
    check.rule(rule)
    assert said(judged(check, NOT_THERE, Wheels())) == not_there
    assert said(judged(check, Wheels(), unavailable=(Engine,))) == could_not_look
    assert said(judged(check, Wheels())) == not_recorded


def test_a_skipped_rule_says_why() -> None:
    check = car()
    check.rule(needs_it)
    assert judged(check).skipped == {"car/needs-it": Skipped("not recorded: car.engine")}
    facts = Facts(unavailable={Engine: Unavailable("car.engine", "locked", "the key")})
    skipped = judge(bind((check,), facts)).skipped
    assert skipped == {"car/needs-it": Skipped("could not look: locked", "car.engine", "the key")}


def test_of_several_signs_the_one_that_could_not_look_gives_the_reason() -> None:
    check = car()
    rule = check.rule(by_bang)
    rule.sign(needs_it)
    skipped = judged(check, unavailable=(Engine,)).skipped["car/by-bang"]
    assert skipped.unavailable == "car.engine"


def silent(engine: Engine) -> Findings:
    yield from ()


def test_a_silent_rule_has_judged() -> None:
    check = car()
    check.rule(silent)
    assert judged(check, Engine()) == Judgement((), ("car/silent",), {}, {})


def optional_only(engine: Engine | None, bangs: tuple[Bang, ...]) -> Findings:
    yield Finding(title="anything")


def test_a_rule_that_can_do_without_everything_judges_nothing_of_nothing() -> None:
    check = car()
    check.rule(optional_only)
    skipped = judged(check, Wheels()).skipped["car/optional-only"]
    assert skipped == Skipped("not recorded: car.engine, car.bang")
    assert said(judged(check, Bang())) == ["anything"]
    assert said(judged(check, Engine())) == ["anything"]


# Symptoms.


def by_bang(bang: Bang) -> Findings:
    yield Finding(title=f"bang {bang.loud}", subject=f"bang:{bang.loud}")


def by_pair(bang: Bang, squeak: Squeak, engine: Engine) -> Findings:
    yield Finding(title=f"{bang.loud}{squeak.where}", subject=f"{bang.loud}{squeak.where}")


def by_all(bangs: tuple[Bang, ...], engine: Engine) -> Findings:
    yield Finding(title=f"{len(bangs)} bangs")


def test_one_call_per_symptom() -> None:
    check = car()
    check.rule(by_bang)
    assert said(judged(check)) == []
    assert judged(check).skipped["car/by-bang"].reason == "no message of kind car.bang"
    assert said(judged(check, Bang(loud=1), Bang(loud=2), Bang(loud=1))) == ["bang 1", "bang 2"]


def test_one_call_per_combination_of_symptoms() -> None:
    check = car()
    check.rule(by_pair)
    things = (Bang(loud=1), Bang(loud=2), Squeak(where="a"), Squeak(where="b"))
    assert said(judged(check, *things)) == []
    assert said(judged(check, *things, Engine())) == ["1a", "1b", "2a", "2b"]


def test_all_symptoms_at_once_possibly_none() -> None:
    check = car()
    check.rule(by_all)
    assert said(judged(check, Engine())) == ["0 bangs"]
    assert said(judged(check, Engine(), Bang(loud=1), Bang(loud=2))) == ["2 bangs"]


def by_anything(everything: tuple[Symptom, ...]) -> Findings:
    yield Finding(title=", ".join(type(each).__name__ for each in everything))


def test_symptoms_of_every_kind_at_once() -> None:
    check = car()
    check.rule(by_anything)
    assert said(judged(check, Bang(), Squeak())) == ["Bang, Squeak"]


# Tables.


class Prices(Fact, frozen=True, kw_only=True):
    fact_name: ClassVar[str] = "car.prices"
    new: int
    source: Source = HERE


def too_dear(wheels: Wheels, prices: Prices) -> Findings:
    yield Finding(title=f"{wheels.count * prices.new}")


def also_dear(prices: Prices, fuel: Fuel) -> Findings:
    yield Finding(title=f"{fuel.litres * prices.new}")


def test_a_table_is_loaded_once_and_only_for_a_rule_that_runs() -> None:
    loaded: list[int] = []
    check = car()
    check.rule(too_dear)
    check.rule(also_dear)

    def prices() -> Prices:
        loaded.append(1)
        return Prices(new=10)

    check.table(prices)
    assert judged(check, Engine()).skipped["car/also-dear"] == Skipped("not recorded: car.fuel")
    assert loaded == []
    assert said(judged(check, Wheels(), Fuel())) == ["400", "40"]
    assert loaded == [1]


def test_a_table_alone_is_nothing_to_judge() -> None:
    check = car()
    check.table(lambda_prices)

    def musing(prices: Prices) -> Findings:
        yield Finding(title="prices")

    check.rule(musing)
    assert "car/musing" in judged(check).skipped


def lambda_prices() -> Prices:
    return Prices(new=1)


def broken_prices() -> Prices:
    raise OSError("the table is gone")


def test_a_table_that_cannot_be_loaded_breaks_its_rules_alone() -> None:
    check = car()
    check.rule(too_dear)
    check.rule(needs_it)
    check.table(broken_prices)
    judgement = judged(check, Wheels(), Engine())
    assert said(judgement) == ["engine True"]
    assert judgement.crashed == {"car/too-dear": "OSError: the table is gone"}


# Signs that see the same.


def seen_live(engine: Engine) -> Findings:
    if engine.running is False:
        yield Finding(
            title="it stands",
            subject="engine:1",
            confidence=Confidence.CERTAIN,
            severity=Severity.WARNING,
            evidence=(engine.shows("running", False),),
            breaks=(library("liba.so"),),
        )


def seen_in_text(bang: Bang) -> Findings:
    yield Finding(
        title="it may stand",
        subject="engine:1",
        confidence=Confidence.LIKELY,
        detail="Such a bang stops it.",
        evidence=(bang.evidence(),),
        remedies=(NoFix(reason="it is broken"),),
        shows=(Outcome("job"),),
    )


def test_signs_that_agree_on_a_subject_merge() -> None:
    check = car()
    check.rule(seen_live).sign(seen_in_text)
    (only,) = judged(check, Engine(running=False), Bang(quote="bang!")).findings
    finding = only.finding
    assert (finding.title, finding.confidence, finding.severity) == (
        "it stands",
        Confidence.CERTAIN,
        Severity.ERROR,
    )
    assert finding.detail == "Such a bang stops it."
    assert [each.value for each in finding.evidence] == ["False", "bang!"]
    assert (finding.breaks, finding.shows) == ((library("liba.so"),), (Outcome("job"),))
    assert finding.remedies == (NoFix(reason="it is broken"),)


def test_one_sign_is_enough() -> None:
    check = car()
    check.rule(seen_live).sign(seen_in_text)
    assert said(judged(check, Bang())) == ["it may stand"]
    assert said(judged(check, Engine(running=False))) == ["it stands"]
    assert said(judged(check, Engine())) == []


def test_subjects_are_kept_apart() -> None:
    findings = [Finding(title="a", subject="gpu:0"), Finding(title="b", subject="gpu:1"), Finding(title="c")]
    assert merged(findings) == findings


def test_a_vague_finding_joins_the_only_subject_that_there_is() -> None:
    vague = Finding(title="some gpu", confidence=Confidence.CERTAIN, evidence=(Evidence("a", "1"),))
    exact = Finding(
        title="gpu 0", subject="gpu:0", confidence=Confidence.LIKELY, evidence=(Evidence("b", "2"),)
    )
    (only,) = merged([vague, exact])
    assert (only.title, only.subject) == ("some gpu", "gpu:0")
    assert {each.fact for each in only.evidence} == {"a", "b"}


def test_equal_evidence_is_shown_once() -> None:
    one = Finding(title="a", evidence=(Evidence("a", "1"), Evidence("b", "2")))
    two = Finding(title="a", evidence=(Evidence("b", "2"), Evidence("c", "3")))
    assert [each.fact for each in merged([one, two])[0].evidence] == ["a", "b", "c"]


# Rules that break.


def crashes(engine: Engine) -> Findings:
    yield Finding(title="before the crash")
    raise ValueError("no such gear")


def gives_text(engine: Engine) -> Findings:
    yield "it stands"  # type: ignore[misc] # what a careless plugin does


def gives_lists(engine: Engine) -> Findings:
    yield Finding(title="lists", evidence=[Evidence("a", "1")])  # type: ignore[arg-type] # what a careless plugin does


def returns_none(engine: Engine) -> Findings:
    return None  # type: ignore[return-value] # what a careless plugin does


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (crashes, "ValueError: no such gear"),
        (gives_text, "TypeError: a rule gave str, not a Finding"),
        (gives_lists, "TypeError: unhashable type: 'list'"),
        (returns_none, "TypeError: 'NoneType' object is not iterable"),
    ],
)
def test_a_rule_that_breaks_hides_nothing_but_itself(rule: Any, error: str) -> None:
    check = car()
    broken = check.rule(rule)
    broken.sign(by_bang)
    check.rule(needs_it)
    judgement = judged(check, Engine(), Bang())
    assert judgement.crashed == {broken.id: error}
    assert judgement.judged == ("car/needs-it",)
    assert {"engine True", "bang 1"} <= set(said(judgement))


def test_a_rule_whose_annotations_cannot_be_read_breaks_alone() -> None:
    check = car()

    def lost(engine: Motor) -> Findings:  # type: ignore[name-defined]  # noqa: F821 - the point of it
        yield Finding(title="lost")

    check.rule(lost)
    check.rule(needs_it)
    judgement = judged(check, Engine())
    assert said(judgement) == ["engine True"]
    assert "Motor" in judgement.crashed["car/lost"]


def test_findings_of_the_core_are_ranked_with_the_rest() -> None:
    check = car()
    check.rule(by_bang)
    own = [("envdoctor/own", Finding(title="own", severity=Severity.NOTE))]
    assert said(judge(bind((check,), Facts.of(Bang())), own)) == ["bang 1", "own"]
