"""Handing facts to functions that name them by type: probes, headlines, views, `applicable`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.check import needs_of
from envdoctor.facts import Fact, Facts, Symptom, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envdoctor.check import Need


class Missing(Exception):
    """What the function cannot do without is not there.

    `why` says why it could not be looked at; None where it was merely not recorded.
    """

    def __init__(self, need: Need, why: Unavailable | None) -> None:
        super().__init__(need.kind.__name__)
        self.why = why


def arguments_for(needs: Sequence[Need], facts: Facts, *extra: object) -> list[Any]:
    """One value per need, from `extra` (a `Host`, say) or from the facts.

    Raises `Missing` where a required one is absent; one that could not be looked at is the weightier reason.
    """
    values: list[Any] = []
    missing: list[Missing] = []
    for need in needs:
        value = _value(need, facts, extra)
        why = value if isinstance(value, Unavailable) and not need.accepts_unavailable else None
        value = None if why else value
        if value is None and not need.optional:
            missing.append(Missing(need, why))
        values.append(value)
    if missing:
        raise next((each for each in missing if each.why), missing[0])
    return values


def _value(need: Need, facts: Facts, extra: Sequence[object]) -> Any:
    if issubclass(need.kind, Symptom):
        said = facts.symptoms(need.kind)
        return said if need.many else said[0] if said else None
    if issubclass(need.kind, Fact):
        return facts.get(need.kind)
    return next((each for each in extra if isinstance(each, need.kind)), None)


def call_with(function: Callable[..., Any], facts: Facts, *extra: object) -> Any:
    """Call `function` with what it names by type. Raises `Missing`."""
    return function(*arguments_for(needs_of(function), facts, *extra))
