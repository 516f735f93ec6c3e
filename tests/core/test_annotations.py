"""What functions say by their annotations, and handing them their facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional, Union

import pytest

from envdoctor.check import Need, Tier, dashed, gives_of, needs_of
from envdoctor.errors import PluginError
from envdoctor.facts import Fact, Facts, Printed, Symptom, Unavailable
from envdoctor.host import Host
from envdoctor.injecting import Missing, call_with
from tests.core.kit import Bang, Engine, Squeak, Wheels, car


def everything(
    host: Host,
    engine: Engine,
    wheels: Wheels | None,
    old: Optional[Wheels],  # noqa: UP045 - both spellings are in use
    told: Union[Engine, Unavailable],  # noqa: UP007 - both spellings are in use
    any_of: Engine | Unavailable | None,
    squeak: Squeak,
    bangs: tuple[Bang, ...],
    maybe: Bang | None,
    said: tuple[Symptom, ...],
) -> None:
    """All that can be asked for."""


def test_needs() -> None:
    assert needs_of(everything) == (
        Need("host", Host, False, False, False),
        Need("engine", Engine, False, False, False),
        Need("wheels", Wheels, True, False, False),
        Need("old", Wheels, True, False, False),
        Need("told", Engine, False, True, False),
        Need("any_of", Engine, True, True, False),
        Need("squeak", Squeak, False, False, False),
        Need("bangs", Bang, False, False, True),
        Need("maybe", Bang, True, False, False),
        Need("said", Symptom, False, False, True),
    )


def two_types(engine: Engine | Wheels) -> None: ...
def no_type(engine) -> None: ...  # type: ignore[no-untyped-def]
def plain_type(engine: int) -> None: ...
def any_fact(engine: Fact) -> None: ...
def any_symptom(said: Symptom) -> None: ...
def many_facts(engines: tuple[Engine, ...]) -> None: ...
def bare_tuple(engines: tuple) -> None: ...  # type: ignore[type-arg]
def list_of(said: list[Squeak]) -> None: ...
def unknown_name(engine: Motor) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def keyword_only(*, engine: Engine) -> None: ...
def nothing_but_none(engine: None) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        two_types,
        no_type,
        plain_type,
        any_fact,
        any_symptom,
        many_facts,
        bare_tuple,
        list_of,
        unknown_name,
        keyword_only,
        nothing_but_none,
        print,
    ],
)
def test_needs_that_are_of_no_use(function: Any) -> None:
    with pytest.raises(PluginError):
        needs_of(function)


def one() -> Engine: ...  # type: ignore[empty-body]
def several() -> Iterator[Engine | Wheels | Unavailable | Printed | Squeak]: ...  # type: ignore[empty-body]
def nested() -> tuple[Engine, list[Wheels | None]] | None: ...
def none() -> Printed: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("function", "kinds"),
    [(one, (Engine,)), (several, (Engine, Wheels)), (nested, (Engine, Wheels)), (none, ())],
)
def test_gives(function: Any, kinds: tuple[type[Fact], ...]) -> None:
    assert gives_of(function) == kinds


def test_giving_any_fact_is_of_no_use() -> None:
    def vague() -> list[Fact]:
        return []

    with pytest.raises(PluginError):
        gives_of(vague)


def test_names() -> None:
    assert dashed("too_old_for_torch") == "too-old-for-torch"
    assert dashed("_private_") == "private"


def test_types_of_a_check_by_name() -> None:
    check = car()
    check.probe(tier=Tier.QUICK)(several)
    check.reader(starts="engine:")(one)
    assert check.fact_types() == {"car.engine": Engine, "car.wheels": Wheels}
    assert check.symptom_types() == {"car.squeak": Squeak}


def test_a_reader_must_say_what_it_reads() -> None:
    with pytest.raises(PluginError):
        car().reader(ends="x")


def told(
    engine: Engine, wheels: Wheels | None, why: Wheels | Unavailable | None, bang: Bang | None
) -> tuple[Any, ...]:
    return engine, wheels, why, bang


def test_facts_are_handed_in() -> None:
    dark = Unavailable("car.wheels", "dark")
    facts = Facts({Engine: Engine()}, {Wheels: dark}, (Bang(loud=3),))
    assert call_with(told, facts) == (Engine(), None, dark, Bang(loud=3))
    assert call_with(told, Facts.of(Engine())) == (Engine(), None, None, None)


def with_host(host: Host, squeak: Squeak, bangs: tuple[Bang, ...]) -> tuple[Any, ...]:
    return host, squeak, bangs


def test_extras_are_handed_in_by_type() -> None:
    host = Host.here()
    assert call_with(with_host, Facts.of(Squeak()), "other", host) == (host, Squeak(), ())


def test_what_is_missing_is_told_and_unavailable_weighs_more() -> None:
    with pytest.raises(Missing) as nothing:
        call_with(told, Facts())
    assert nothing.value.why is None
    with pytest.raises(Missing) as no_host:
        call_with(with_host, Facts.of(Squeak()))
    assert str(no_host.value) == "Host"

    def both(wheels: Wheels, engine: Engine) -> None: ...

    with pytest.raises(Missing) as kept:
        call_with(both, Facts.of(unavailable=(Engine,)))
    assert kept.value.why == Unavailable("car.engine", "not readable")
