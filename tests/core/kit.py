"""Small facts, symptoms and checks to look and judge with."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from envdoctor.check import Check, Tier
from envdoctor.engine import Look, Looked
from envdoctor.facts import Fact, Facts, Source, Symptom
from envdoctor.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

HERE = Source("file", "/here")


class Engine(Fact, frozen=True):
    fact_name: ClassVar[str] = "car.engine"
    running: bool | None = True
    source: Source = HERE


class Wheels(Fact, frozen=True):
    fact_name: ClassVar[str] = "car.wheels"
    count: int = 4
    source: Source = HERE


class Fuel(Fact, frozen=True):
    fact_name: ClassVar[str] = "car.fuel"
    litres: int = 40
    source: Source = HERE


class Squeak(Symptom, frozen=True):
    symptom_name: ClassVar[str] = "car.squeak"
    where: str = "axle"


class Bang(Symptom, frozen=True):
    symptom_name: ClassVar[str] = "car.bang"
    loud: int = 1


def car() -> Check:
    """A check without anything in it."""
    return Check("car", "a car", package="tests.core")


def with_probes(*functions: Callable[..., Any], tier: Tier = Tier.QUICK, deadline: float = 5.0) -> Check:
    """A check with these probes."""
    check = car()
    for function in functions:
        check.probe(tier=tier, deadline=deadline)(function)
    return check


def looked(
    *checks: Check,
    tier: Tier = Tier.DEFAULT,
    seed: Facts | None = None,
    host: Host | None = None,
    **options: Any,
) -> Looked:
    """What a whole look sees."""
    look = Look(checks, host or Host.here(), tier=tier, seed=seed, **options)
    for _ in look:
        pass
    return look.result
