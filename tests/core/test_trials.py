"""Trials: probes that try an outcome run last, and not where a finding already says why they would fail."""

from __future__ import annotations

import math

import pytest

from envdoctor.asked import Asked, asked
from envdoctor.check import Check, Tier
from envdoctor.errors import UsageError
from envdoctor.facts import LeftOut
from envdoctor.findings import Confidence, Finding, Findings
from envdoctor.host import Host
from envdoctor.outcomes import Outcome
from envdoctor.plugins import EntryPoint, Plugins, load
from envdoctor.report import Selection
from envdoctor.session import Doctor, Seen
from tests.core.kit import Engine, Fuel, Wheels, car

COMPILE = Outcome("compile")


def doctor(check: Check) -> Doctor:
    origin = EntryPoint(check.name, "tests.core", "envdoctor", "1")
    return Doctor(Plugins((check,), {check.name: origin}, ()))


def garage(*, litres: int = 40, confidence: Confidence = Confidence.CERTAIN) -> tuple[Check, list[str]]:
    """A check whose trial drives off, and the order of what was done."""
    check, done = car(), []

    @check.probe(tier=Tier.DEFAULT, tries=(COMPILE,))
    def drives(fuel: Fuel | None) -> Wheels:
        done.append(f"drives on {fuel.litres if fuel else 'nothing'}")
        return Wheels()

    @check.probe(tier=Tier.QUICK)
    def fuels() -> Fuel:
        done.append("fuels")
        return Fuel(litres=litres)

    @check.rule
    def tank_empty(fuel: Fuel) -> Findings:
        """There is no fuel."""
        if fuel.litres == 0:
            yield Finding(
                title="the tank is empty", confidence=confidence, breaks=(Outcome("compile-toolchain"),)
            )

    return check, done


def seen(check: Check, **options: object) -> Seen:
    wanted: dict[str, object] = {"tier": Tier.DEFAULT, **options}
    return doctor(check).look(Host.here(), **wanted)  # type: ignore[arg-type] # the options of look


def not_tried(of: Seen) -> dict[str, str]:
    assert of.looked is not None
    return {each.probe: each.reason for each in of.looked.not_tried}


def test_a_trial_runs_after_all_others_with_their_facts() -> None:
    check, done = garage()
    facts = seen(check).facts
    assert done == ["fuels", "drives on 40"]
    assert facts.get(Wheels) == Wheels()


def test_what_a_finding_explains_is_not_tried() -> None:
    check, done = garage(litres=0)
    told = seen(check)
    assert done == ["fuels"]
    assert not_tried(told) == {"car.drives": "car/tank-empty says why it would fail; --deep tries it"}
    assert told.facts.get(Wheels) is None  # not recorded, and not hidden either
    report = doctor(check).report(told, Selection())
    assert (
        "car.drives: car/tank-empty" in next(each for each in report.checks if each.name == "car").stages[0]
    )


def test_a_possible_cause_explains_nothing_away() -> None:
    check, done = garage(litres=0, confidence=Confidence.POSSIBLE)
    seen(check)
    assert done == ["fuels", "drives on 0"]


def test_deep_tries_what_is_known_to_fail() -> None:
    check, done = garage(litres=0)
    seen(check, tier=Tier.DEEP)
    assert done == ["fuels", "drives on 0"]


def test_quick_tries_nothing_and_says_so() -> None:
    check, done = garage()
    told = seen(check, tier=Tier.QUICK)
    assert done == ["fuels"]
    assert not_tried(told) == {"car.drives": "--quick leaves it out"}


def test_a_question_about_one_check_tries_nothing() -> None:
    check, done = garage()
    seen(check, area="car")
    assert done == ["fuels"]


def test_a_trial_may_leave_itself_out() -> None:
    check = car()

    @check.probe(tries=(COMPILE,))
    def drives(wish: Asked | None) -> Engine:
        if wish is None or wish.device != "cpu":
            raise LeftOut("--device cpu drives on the processor")
        return Engine()

    assert not_tried(seen(check)) == {"car.drives": "--device cpu drives on the processor"}
    wish = asked(deep=False, device="cpu", architectures=None, driver=None)
    assert seen(check, asked=wish).facts.get(Engine) == Engine()


def test_a_trial_knows_what_is_left_of_the_budget() -> None:
    check, left = car(), []

    @check.probe(tries=(COMPILE,))
    def drives(host: Host) -> Engine:
        left.append(host.remaining())
        return Engine()

    seen(check, budget=50.0)
    seen(check)
    assert 0 < left[0] < 50
    assert left[1] == math.inf


def test_modules_that_are_left_for_later_are_imported_when_probes_are_asked_for() -> None:
    check = Check("later", "a check of its own", package="tests.core")
    check.later(probes=["no_such_module"])
    assert check.gives_facts
    with pytest.raises(ModuleNotFoundError):
        _ = check.probes


# The options


def test_nothing_asked_is_no_fact() -> None:
    assert asked(deep=False, device="auto", architectures=None, driver=None) is None


def test_architectures_are_listed_once() -> None:
    wish = asked(deep=False, device="auto", architectures="sm_90, sm_120,sm_90", driver="535.104.05")
    assert wish is not None
    assert (wish.architectures, wish.driver) == (("sm_90", "sm_120"), "535.104.05")


@pytest.mark.parametrize(
    ("architectures", "driver"),
    [("", None), ("90", None), ("sm_90;sm_120", None), (None, "535"), ("sm_90", "new"), (None, "535.104.05")],
)
def test_what_cannot_be_asked_is_refused(architectures: str | None, driver: str | None) -> None:
    with pytest.raises(UsageError, match=r"--for|--driver"):
        asked(deep=False, device="auto", architectures=architectures, driver=driver)


def test_the_plugins_of_this_installation_have_their_probes() -> None:
    found: Plugins = load()
    assert all(check.probes for check in found.checks)
