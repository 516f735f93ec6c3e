"""The report document: what is counted, which exit code follows, and what selecting and ignoring change."""

from __future__ import annotations

import re
from typing import ClassVar

import pytest

from envdoctor import plugins
from envdoctor.api import (
    Ask,
    Check,
    Confidence,
    Fact,
    Facts,
    Finding,
    Findings,
    Install,
    NoFix,
    Outcome,
    Severity,
    Source,
    Symptom,
    Unavailable,
    UnsetVariable,
)
from envdoctor.report import PassedOver, Report, Selection, TargetEntry, build_report, our_tool
from envdoctor.session import Doctor, Seen
from envdoctor.surroundings import Surroundings

HERE = Source("file", "/sky", 3)
sky = Check("sky", "the sky", package="tests")
ground = Check("ground", "the ground", package="tests")


class Sky(Fact, frozen=True):
    """What the sky does."""

    fact_name: ClassVar[str] = "sky.sky"
    storm: bool = False
    drizzle: bool = False
    dew: bool = False
    breaks_rules: bool = False


class Moon(Fact, frozen=True):
    """The moon, which clouds may hide."""

    fact_name: ClassVar[str] = "sky.moon"


class Ground(Fact, frozen=True):
    """What the ground suffers."""

    fact_name: ClassVar[str] = "ground.ground"
    dark: bool = False
    poles: int = 0


class SaidSo(Symptom, frozen=True):
    """Somebody complained about the weather."""

    symptom_name: ClassVar[str] = "sky.said-so"


@sky.probe()
def look_up() -> tuple[Sky, Moon]:
    """Never run here; it says which facts the check has."""
    raise NotImplementedError


@ground.probe()
def look_down() -> Ground:
    """Never run here; it says which facts the check has."""
    raise NotImplementedError


@sky.message("awful weather", needles="weather", sample="awful weather")
def said_so(match: re.Match[str]) -> SaidSo:
    """Somebody complained."""
    return SaidSo()


@sky.rule
def storm(sky: Sky) -> Findings:
    """A storm."""
    if sky.storm:
        yield Finding(
            title="a storm has cut the line",
            subject="line",
            breaks=(Outcome("driver-loaded"),),
            evidence=(sky.shows("wind", "120 km/h"),),
            remedies=(
                UnsetVariable("STORM"),
                Install(requirements=("lamp[led]",)),
                NoFix(reason="it is weather"),
            ),
            asks=(Ask("uptime", "since when"),),
        )


@sky.rule
def drizzle(sky: Sky) -> Findings:
    """A drizzle."""
    if sky.drizzle:
        yield Finding(
            title="it drizzles", severity=Severity.WARNING, remedies=(NoFix(reason="it is weather"),)
        )


@sky.rule
def dew(sky: Sky) -> Findings:
    """Dew."""
    if sky.dew:
        yield Finding(title="there is dew", severity=Severity.NOTE, confidence=Confidence.POSSIBLE)


@sky.rule
def moonless(moon: Moon) -> Findings:
    """No moon."""
    yield from ()


@sky.rule
def crooked(sky: Sky) -> Findings:
    """A rule with a defect."""
    if sky.breaks_rules:
        raise ZeroDivisionError("nobody's fault")
    yield from ()


@ground.rule
def power_cut(ground: Ground) -> Findings:
    """No light."""
    if ground.dark:
        yield Finding(
            title="there is no light",
            shows=(Outcome("cuda-available"),),
            evidence=(ground.shows("light", "none"),),
            asks=(Ask("ls", "whether it is dark"),),
        )


@ground.rule
def poles_down(ground: Ground) -> Findings:
    """Poles lie about."""
    for index in range(ground.poles):
        yield Finding(title=f"pole {index} is down", subject=f"pole:{index}")


def doctor() -> Doctor:
    points = {name: plugins.EntryPoint(name, f"x:{name}", "weather", "1") for name in ("sky", "ground")}
    return Doctor(plugins.Plugins((sky, ground), points, ()))


def reported(
    *things: Fact | Symptom, selection: Selection | None = None, hidden: tuple[type[Fact], ...] = ()
) -> Report:
    facts = Facts.of(*things, unavailable=hidden)
    target = TargetEntry(
        "live", "/usr/bin/python3", why="the only one", passed_over=(PassedOver("/x", "no"),)
    )
    return doctor().report(Seen(facts, target), selection or Selection())


def fair(**weather: bool) -> tuple[Fact, ...]:
    """Both checks' facts, complete."""
    return (Sky(source=HERE, **weather), Moon(source=HERE), Ground(source=HERE))


def codes(report: Report) -> tuple[int, int, int, int, str]:
    summary = report.summary
    return (summary.errors, summary.warnings, summary.notes, summary.exit_code, report.verdict)


# Silent first.


def test_fair_weather_finds_nothing_and_exits_0() -> None:
    report = reported(*fair())
    assert codes(report) == (0, 0, 0, 0, "nothing-found")
    assert report.findings == report.suppressed == ()
    assert {check.name: check.outcome for check in report.checks if check.name in ("sky", "ground")} == {
        "sky": "ok",
        "ground": "ok",
    }
    assert report.summary.could_not_check == 0
    assert report.crash is None


def test_what_was_not_recorded_is_never_3() -> None:
    report = reported(selection=Selection(strict=True))
    assert codes(report) == (0, 0, 0, 0, "nothing-found")


def test_notes_alone_exit_0_even_when_warnings_fail() -> None:
    report = reported(*fair(dew=True), selection=Selection(fail_on="warning"))
    assert codes(report) == (0, 0, 1, 0, "nothing-found")


# What is counted.


def test_an_error_exits_1_and_is_shown_whole() -> None:
    report = reported(*fair(storm=True))
    assert codes(report) == (1, 0, 0, 1, "environment")
    (finding,) = report.findings
    assert (finding.id, finding.subject, finding.role) == ("sky/storm", "line", "root")
    assert finding.evidence[0].source == HERE
    assert [fix.reach for fix in finding.fixes] == ["shell", "environment"]
    assert any("'lamp[led]'" in command for command in finding.fixes[1].commands)
    assert finding.no_fix is None
    assert finding.docs == "envdoctor rule sky/storm"
    assert report.asks == (Ask("uptime", "since when"),)


@pytest.mark.parametrize(
    ("fail_on", "weather", "code"),
    [
        ("error", {"drizzle": True}, 0),
        ("warning", {"drizzle": True}, 1),
        ("warning", {"storm": True}, 1),
        ("never", {"storm": True, "drizzle": True}, 0),
    ],
)
def test_fail_on_says_from_which_severity(fail_on: str, weather: dict[str, bool], code: int) -> None:
    report = reported(*fair(**weather), selection=Selection(fail_on=fail_on))  # type: ignore[arg-type] # a parameter
    assert report.summary.exit_code == code
    assert report.verdict == "environment"


def test_the_reason_why_nothing_can_be_typed_is_told() -> None:
    (finding,) = reported(*fair(drizzle=True)).findings
    assert (finding.fixes, finding.no_fix) == ((), "it is weather")


def test_consequences_are_shown_below_their_cause_and_not_counted() -> None:
    report = reported(Sky(source=HERE, storm=True), Moon(source=HERE), Ground(source=HERE, dark=True))
    assert codes(report) == (1, 0, 0, 1, "environment")
    assert [(each.id, each.role, each.consequence_of) for each in report.findings] == [
        ("sky/storm", "root", ()),
        ("ground/power-cut", "consequence", ("sky/storm",)),
    ]
    assert report.asks == (Ask("uptime", "since when"),)


def test_findings_of_one_rule_count_by_subject() -> None:
    report = reported(*fair()[:2], Ground(source=HERE, poles=3))
    assert codes(report) == (3, 0, 0, 1, "environment")


# What could not be looked at.


def test_a_whole_check_that_could_not_be_looked_at_exits_3() -> None:
    report = reported(*fair()[:2], hidden=(Ground,))
    assert codes(report) == (0, 0, 0, 3, "could-not-judge")
    assert report.summary.could_not_check == 1
    (entry,) = [check for check in report.checks if check.name == "ground"]
    assert entry.outcome == "could-not-check"
    assert entry.missed[0].fact == "ground.ground"


def test_a_failure_that_was_seen_beats_what_could_not_be_looked_at() -> None:
    report = reported(Sky(source=HERE, storm=True), Moon(source=HERE), hidden=(Ground,))
    assert codes(report) == (1, 0, 0, 1, "environment")


def test_a_warning_below_fail_on_does_not() -> None:
    report = reported(Sky(source=HERE, drizzle=True), Moon(source=HERE), hidden=(Ground,))
    assert codes(report) == (0, 1, 0, 3, "environment")


@pytest.mark.parametrize("weather", [{}, {"drizzle": True}])
def test_one_unreadable_source_is_listed_and_is_3_only_when_strict(weather: dict[str, bool]) -> None:
    things = (Sky(source=HERE, **weather), Ground(source=HERE))
    lax, strict = (
        reported(*things, hidden=(Moon,), selection=Selection(strict=each)) for each in (False, True)
    )
    assert (lax.summary.exit_code, strict.summary.exit_code) == (0, 3)
    assert lax.summary.could_not_check == strict.summary.could_not_check == 1
    (entry,) = [check for check in lax.checks if check.name == "sky"]
    assert entry.outcome == ("problem" if weather else "partly")
    assert entry.missed[0].fact == "sky.moon"


def test_never_failing_does_not_hide_that_nothing_could_be_judged() -> None:
    report = reported(*fair()[:2], hidden=(Ground,), selection=Selection(fail_on="never"))
    assert report.summary.exit_code == 3


def test_a_rule_that_breaks_is_reported_and_hides_nothing_else() -> None:
    report = reported(*fair(breaks_rules=True, storm=True))
    assert [each.id for each in report.findings] == ["sky/storm", "envdoctor/rule-crashed"]
    assert codes(report) == (1, 0, 1, 1, "environment")
    assert "ZeroDivisionError" in report.findings[1].detail + "".join(
        e.value for e in report.findings[1].evidence
    )


# Selecting and ignoring.


def both(selection: Selection) -> Report:
    return reported(
        Sky(source=HERE, storm=True, drizzle=True),
        Moon(source=HERE),
        Ground(source=HERE, dark=True),
        selection=selection,
    )


@pytest.mark.parametrize("ignore", ["sky/storm", "sky"])
def test_what_is_ignored_still_explains_and_counts_for_nothing(ignore: str) -> None:
    report = both(Selection(ignore=(ignore,)))
    (finding,) = [each for each in report.findings if each.id == "ground/power-cut"]
    assert (finding.role, finding.consequence_of) == ("consequence", ("sky/storm",))
    assert "sky/storm" in [each.id for each in report.suppressed]
    assert (report.summary.errors, report.summary.exit_code) == (0, 0)


def test_ignoring_everything_that_is_wrong_leaves_nothing_found() -> None:
    report = both(Selection(ignore=("sky", "ground")))
    assert codes(report) == (0, 0, 0, 0, "nothing-found")
    assert len(report.suppressed) == 3


def test_a_selected_failure_counts_although_its_cause_was_not_selected() -> None:
    report = both(Selection(select=("ground",)))
    assert [(each.id, each.role) for each in report.findings] == [("ground/power-cut", "consequence")]
    assert [each.id for each in report.suppressed] == ["sky/storm", "sky/drizzle"]
    assert codes(report) == (1, 0, 0, 1, "environment")


def test_a_selected_failure_whose_cause_is_ignored_does_not_count() -> None:
    report = both(Selection(select=("ground",), ignore=("sky/storm",)))
    assert codes(report) == (0, 0, 0, 0, "nothing-found")


def test_ignoring_beats_selecting() -> None:
    selection = Selection(select=("sky",), ignore=("sky/storm",))
    assert not selection.wants("sky/storm")
    assert selection.wants("sky/drizzle")
    assert not selection.wants("ground/power-cut")
    assert not Selection(select=("sk",)).wants("sky/storm")


def test_what_was_not_selected_could_not_make_it_3() -> None:
    selection = Selection(select=("sky",))
    assert reported(*fair()[:2], hidden=(Ground,), selection=selection).summary.exit_code == 0


def test_a_selected_rule_that_could_not_judge_is_3() -> None:
    things = fair()[:1] + fair()[2:]
    for select, code in {"sky/moonless": 3, "sky/storm": 0, "sky": 0, "ground": 0}.items():
        report = reported(*things, hidden=(Moon,), selection=Selection(select=(select,)))
        assert report.summary.exit_code == code, select


def test_a_selected_rule_that_breaks_is_3() -> None:
    things = fair(breaks_rules=True)
    assert reported(*things, selection=Selection(select=("sky/crooked",))).summary.exit_code == 3
    assert reported(*things, selection=Selection(select=("sky/storm",))).summary.exit_code == 0


# The rest of the document.


def test_a_text_without_fault_of_the_environment_says_so() -> None:
    well = doctor()
    seen = well.read("awful weather\n", "-")
    report = well.report(seen, Selection())
    assert report.target.source == "text"
    from envdoctor.judging import bind, judge

    facts = Facts.of(SaidSo())
    other = build_report(
        tool=our_tool(()),
        target=TargetEntry("text"),
        machine=(),
        judgement=judge(bind((sky,), facts)),
        facts=facts,
        checks=(),
        selection=Selection(),
        not_the_environment=True,
    )
    assert other.verdict == "not-the-environment"


def test_fixes_are_worded_for_the_surroundings_that_were_seen() -> None:
    around = Surroundings(python_manager="uv", python="/v/bin/python", source=HERE)
    (finding,) = reported(*fair(storm=True), around).findings
    assert finding.fixes[1].commands == ("uv pip install --python /v/bin/python 'lamp[led]'",)


def test_surroundings_that_could_not_be_seen_are_not_guessed() -> None:
    facts = Facts.of(*fair(storm=True)).merged(
        Facts(unavailable={Surroundings: Unavailable("envdoctor.surroundings", "denied")})
    )
    report = doctor().report(Seen(facts, TargetEntry("live")), Selection())
    (finding,) = report.findings
    assert len(finding.fixes[1].commands) == 2


def test_plugins_and_target_are_named() -> None:
    report = reported(*fair())
    assert [(each.name, each.distribution) for each in report.tool.plugins] == [
        ("sky", "weather"),
        ("ground", "weather"),
    ]
    assert report.target.passed_over == (PassedOver("/x", "no"),)
    assert report.schema == "envdoctor.report/1"
