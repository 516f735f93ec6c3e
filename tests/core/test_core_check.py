"""The core's own check on this machine, and its rules."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from envdoctor import core_check
from envdoctor.check import Tier
from envdoctor.core_check import Broken, Crashes, NotJudged, PluginsState, check, state_of
from envdoctor.facts import Facts, Source
from envdoctor.findings import Severity
from envdoctor.host import Host
from envdoctor.injecting import call_with
from envdoctor.platform import Platform
from envdoctor.remedies import Run
from envdoctor.surroundings import Surroundings
from envdoctor.target import Target, TargetPaths, choose
from envdoctor.testing import assert_silent, fires
from tests.core.kit import looked

if TYPE_CHECKING:
    from envdoctor.check import Rule

OURS = Source("call", "envdoctor")
FINE = PluginsState(loaded=("driver",), source=OURS)
NO_CRASH = Crashes(rules={}, readers={}, headlines={}, source=OURS)
CRASHED = [core_check.rule_crashed, core_check.reader_crashed, core_check.headline_crashed]


@pytest.mark.parametrize("rule", [core_check.plugin_broken, core_check.probe_crashed, core_check.probe_late])
def test_silent_where_the_plugins_are_well(rule: Rule[Any]) -> None:
    assert_silent(check, rule, FINE)


@pytest.mark.parametrize("rule", CRASHED)
def test_silent_where_nothing_crashed(rule: Rule[Any]) -> None:
    assert_silent(check, rule, NO_CRASH)


def test_a_broken_plugin_is_mended_where_envdoctor_lives() -> None:
    broken = (Broken("fancy", "envdoctor-fancy", "SyntaxError: oh"),)
    judged = fires(check, core_check.plugin_broken, state_of((), broken, {}, {}))
    assert judged.finding.subject == "plugin:fancy"
    assert judged.finding.severity is Severity.WARNING
    (remedy,) = judged.finding.remedies
    assert isinstance(remedy, Run)
    assert remedy.commands == (
        f"{sys.executable} -m pip install --upgrade envdoctor-fancy",
        f"{sys.executable} -m pip uninstall envdoctor-fancy",
    )


def test_probes_that_broke_or_were_late_are_notes() -> None:
    state = state_of((), (), {"car.engine": "ValueError: oh"}, {"car.wheels": 5.0})
    crashed, late = fires(check, core_check.probe_crashed, state), fires(check, core_check.probe_late, state)
    assert (crashed.finding.subject, crashed.finding.evidence[0].value) == (
        "probe:car.engine",
        "ValueError: oh",
    )
    assert (late.finding.subject, late.finding.title) == (
        "probe:car.wheels",
        "the probe car.wheels did not come back within 5 s",
    )
    assert crashed.finding.severity is late.finding.severity is Severity.NOTE


def test_crashes_while_judging_and_reading_are_notes() -> None:
    crashes = Crashes(
        rules={"car/stands": "oh"}, readers={"car.log": "no"}, headlines={"car": "ah"}, source=OURS
    )
    findings = [fires(check, rule, crashes).finding for rule in CRASHED]
    assert [each.subject for each in findings] == ["rule:car/stands", "reader:car.log", "check:car"]
    assert [each.evidence[0].value for each in findings] == ["oh", "no", "ah"]
    assert {each.severity for each in findings} == {Severity.NOTE}


def test_facts_that_nobody_judges_are_named() -> None:
    strange = NotJudged(names=("new.fact", "other.fact"), source=Source("file"))
    finding = fires(check, core_check.fact_not_judged, strange).finding
    assert [each.value for each in finding.evidence] == ["new.fact", "other.fact"]


def test_the_core_looks_at_this_machine_in_quick_mode() -> None:
    host = Host.here()
    target = choose(host, sys.executable)
    result = looked(check, tier=Tier.QUICK, seed=Facts.of(target))
    assert result.crashed == {}
    assert result.late == {}
    paths = result.facts.get(TargetPaths)
    assert isinstance(paths, TargetPaths)
    assert paths.prefix == sys.prefix
    assert isinstance(result.facts.get(Platform), Platform)
    assert isinstance(result.facts.get(Surroundings), Surroundings)
    assert result.facts.get(Target) == target
    labels = [row.label for headline in check.headlines for row in call_with(headline, result.facts)]
    assert labels == ["system", "python"]
