"""Looking: probes start when their facts are in, are bounded, and break alone."""

from __future__ import annotations

import errno
import sys
import time
from typing import Any

import pytest

from envdoctor.check import Tier
from envdoctor.engine import Look, flatten, gathered
from envdoctor.errors import PluginError
from envdoctor.facts import CouldNotLook, Fact, Facts, Printed, Source, Symptom, Unavailable
from envdoctor.host import Host
from tests.core.kit import HERE, Bang, Engine, Fuel, Squeak, Wheels, looked, with_probes

# What probes give.


def gives_nothing() -> Engine | None:
    return None


def gives_engine() -> Engine:
    return Engine()


def gives_several(host: Host) -> tuple[Engine | Wheels | Symptom, ...]:
    return (Engine(), Wheels(), Squeak(), Squeak(), Squeak(where="door"))


def gives_in_turns() -> Any:
    yield Engine()
    yield Unavailable("car.wheels", "under water", "a tow")


def test_a_probe_without_anything_to_give_records_nothing() -> None:
    result = looked(with_probes(gives_nothing))
    assert list(result.facts) == []
    assert result.facts.unavailable() == {}
    assert (result.crashed, result.late, result.not_tried) == ({}, {}, ())


def test_facts_and_symptoms_in_any_iterable() -> None:
    facts = looked(with_probes(gives_several)).facts
    assert list(facts) == [Engine(), Wheels()]
    assert [(said.where, said.times) for said in facts.symptoms(Squeak)] == [("axle", 2), ("door", 1)]


def test_unavailable_is_sorted_to_its_type() -> None:
    facts = looked(with_probes(gives_in_turns)).facts
    assert facts.get(Engine) == Engine()
    assert facts.get(Wheels) == Unavailable("car.wheels", "under water", "a tow")


def test_events_tell_of_start_and_end() -> None:
    events = list(Look([with_probes(gives_engine)], Host.here(), tier=Tier.QUICK))
    assert [(event.check, event.probe, event.seconds is None) for event in events] == [
        ("car", "car.gives-engine", True),
        ("car", "car.gives-engine", False),
    ]


@pytest.mark.parametrize(
    "thing", ["text", b"bytes", 5, [Engine(), "text"], Unavailable("no.such-fact", "why")]
)
def test_what_is_no_fact_is_refused(thing: object) -> None:
    with pytest.raises(TypeError):
        gathered(flatten(thing))


# Needs: by type, optional, unavailable, absent.


def takes_wheels(engine: Engine) -> Wheels:
    return Wheels(count=3 if engine.running else 0)


def takes_maybe(engine: Engine | None) -> Wheels:
    return Wheels(count=0 if engine is None else 1)


def takes_reason(engine: Engine | Unavailable) -> Wheels:
    return Wheels(count=len(engine.reason) if isinstance(engine, Unavailable) else -1)


def takes_all_three(engine: Engine | Unavailable | None) -> Wheels:
    return Wheels(count=0 if engine is None else 2)


def slow_engine() -> Engine:
    time.sleep(0.1)
    return Engine(running=False)


def kept_engine() -> Engine:
    raise CouldNotLook("the bonnet is locked", "the key")


def test_a_probe_waits_for_the_facts_that_it_names() -> None:
    assert looked(with_probes(takes_wheels, slow_engine)).facts.get(Wheels) == Wheels(count=0)


def test_a_seed_fact_is_there_from_the_start() -> None:
    assert looked(with_probes(takes_wheels), seed=Facts.of(Engine())).facts.get(Wheels) == Wheels(count=3)


@pytest.mark.parametrize(("probe", "count"), [(takes_maybe, 0), (takes_all_three, 0)])
def test_what_is_not_recorded_is_none_for_who_can_do_without(probe: Any, count: int) -> None:
    assert looked(with_probes(probe)).facts.get(Wheels) == Wheels(count=count)


@pytest.mark.parametrize("probe", [takes_wheels, takes_reason])
def test_what_needs_something_not_recorded_is_not_recorded_either(probe: Any) -> None:
    result = looked(with_probes(probe))
    assert result.facts.get(Wheels) is None
    assert result.crashed == {}


@pytest.mark.parametrize(("probe", "count"), [(takes_maybe, 0), (takes_reason, 20), (takes_all_three, 2)])
def test_what_could_not_be_looked_at_reaches_only_who_tells_it_apart(probe: Any, count: int) -> None:
    assert looked(with_probes(probe, kept_engine)).facts.get(Wheels) == Wheels(count=count)


def test_what_needs_something_unavailable_is_unavailable_for_the_same_reason() -> None:
    facts = looked(with_probes(takes_wheels, kept_engine)).facts
    assert facts.get(Wheels) == Unavailable("car.wheels", "the bonnet is locked", "the key")


def takes_fuel(wheels: Wheels) -> Fuel:
    return Fuel()


def test_a_chain_below_something_unavailable_ends_without_a_circle() -> None:
    result = looked(with_probes(takes_fuel, takes_wheels, kept_engine))
    assert isinstance(result.facts.get(Fuel), Unavailable)
    assert result.crashed == {}


def test_a_chain_below_something_not_recorded_ends_without_a_circle() -> None:
    result = looked(with_probes(takes_fuel, takes_wheels))
    assert (result.facts.get(Fuel), result.crashed) == (None, {})


def engine_of_fuel(fuel: Fuel) -> Engine:
    return Engine()


def test_probes_that_wait_for_one_another_are_given_up() -> None:
    result = looked(with_probes(engine_of_fuel, takes_wheels, takes_fuel))
    assert set(result.crashed) == {"car.engine-of-fuel", "car.takes-wheels", "car.takes-fuel"}
    assert all(isinstance(result.facts.get(kind), Unavailable) for kind in (Engine, Wheels, Fuel))


def refines(engine: Engine) -> Engine:
    return Engine(running=None)


def test_a_probe_may_refine_what_another_one_gives() -> None:
    assert looked(with_probes(refines, slow_engine)).facts.get(Engine) == Engine(running=None)


# Tiers.


def test_what_a_tier_leaves_out_is_told_with_the_flag_that_tries_it() -> None:
    check = with_probes(gives_engine)
    check.probe(tier=Tier.DEFAULT)(takes_wheels)
    check.probe(tier=Tier.DEEP)(takes_fuel)
    quick = looked(check, tier=Tier.QUICK)
    assert list(quick.facts) == [Engine()]
    assert [(each.probe, each.reason) for each in quick.not_tried] == [
        ("car.takes-wheels", "--quick leaves it out"),
        ("car.takes-fuel", "--deep tries it"),
    ]
    assert looked(check, tier=Tier.DEEP).not_tried == ()


# Probes that break.


def raises_value() -> Engine:
    raise ValueError("no such gear")


def raises_exit() -> Engine:
    sys.exit(3)


def raises_interrupt() -> Engine:
    raise KeyboardInterrupt


def raises_timeout() -> Engine:
    raise TimeoutError("my own")


def raises_denied() -> Engine:
    raise PermissionError(errno.EACCES, "Permission denied", "/dev/engine")


def raises_absent() -> Engine:
    raise FileNotFoundError(errno.ENOENT, "No such file", "/dev/engine")


def gives_text() -> Engine:
    return "an engine"  # type: ignore[return-value] # what a careless plugin does


@pytest.mark.parametrize(
    ("probe", "error"),
    [
        (raises_value, "ValueError: no such gear"),
        (raises_exit, "SystemExit: 3"),
        (raises_interrupt, "KeyboardInterrupt: "),
        (raises_timeout, "TimeoutError: my own"),
        (raises_absent, "FileNotFoundError: [Errno 2] No such file: '/dev/engine'"),
        (gives_text, "TypeError: a probe gave str, which is no fact"),
    ],
)
def test_a_probe_that_breaks_breaks_alone(probe: Any, error: str) -> None:
    def wheels() -> Wheels:
        return Wheels()

    result = looked(with_probes(probe, wheels))
    (crash,) = result.crashed.values()
    assert crash == error
    assert result.facts.get(Engine) == Unavailable("car.engine", f"the probe failed: {error}")
    assert result.facts.get(Wheels) == Wheels()
    assert result.late == {}


def test_an_error_of_the_system_is_being_kept_from_looking() -> None:
    result = looked(with_probes(raises_denied))
    why = result.facts.get(Engine)
    assert isinstance(why, Unavailable)
    assert why.reason == "/dev/engine: Permission denied"
    assert why.would_allow
    assert result.crashed == {}


def test_annotations_that_cannot_be_read_are_a_plugin_error() -> None:
    def lost(engine: NoSuchType) -> Wheels:  # type: ignore[name-defined]  # noqa: F821 - the point of it
        return Wheels()

    def vague(engine) -> Wheels:  # type: ignore[no-untyped-def] # the point of it
        return Wheels()

    def any_fact(engine: Engine) -> Fact:
        return engine

    for probe in (lost, vague, any_fact):
        with pytest.raises(PluginError):
            looked(with_probes(probe))


# What programs printed.


def prints() -> tuple[Engine | Printed, ...]:
    return Engine(), Printed("a bang", HERE), Printed("silence", HERE)


def bangs(printed: Printed) -> tuple[Symptom, ...]:
    return (Bang(quote=printed.text, source=printed.source),) if "bang" in printed.text else ()


def breaks_on_bangs(printed: Printed) -> tuple[Symptom, ...]:
    if "bang" in printed.text:
        raise ValueError("too loud")
    return (Squeak(quote=printed.text),)


def test_printed_text_becomes_symptoms() -> None:
    facts = looked(with_probes(prints), match=bangs).facts
    assert facts.all_symptoms() == (Bang(quote="a bang", source=HERE),)
    assert facts.get(Engine) == Engine()


def test_a_message_that_breaks_costs_neither_facts_nor_other_messages() -> None:
    result = looked(with_probes(prints), match=breaks_on_bangs)
    assert result.facts.get(Engine) == Engine()
    assert [said.quote for said in result.facts.symptoms(Squeak)] == ["silence"]
    assert result.crashed == {"car.prints": "ValueError: too loud"}


def test_two_facts_of_one_type_are_joined() -> None:
    """A list that a text shows line by line is one list."""
    from envdoctor_checks.python.facts import Distribution, Distributions

    here = Source("text")
    lines = [
        Distributions(distributions=(Distribution(name, "1"),), complete=False, source=here)
        for name in ("a", "b")
    ]
    seen = gathered(lines).get(Distributions)
    assert isinstance(seen, Distributions)
    assert [each.name for each in seen.distributions] == ["a", "b"]
