"""Calling a check's pure functions (headlines, views, `applicable`) with the facts that they name by type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from envdoctor.check import needs_of
from envdoctor.facts import Facts, Symptom, Unavailable


class Missing(Exception):
    """A fact that the function cannot do without is not there."""


def call_with(function: Callable[..., Any], facts: Facts, *extra: object) -> Any:
    """Call `function` with its facts, and with those of `extra` whose type it names (a `Host`, say).

    Raises `Missing` where a required fact is absent or unavailable.
    """
    values: list[Any] = []
    for need in needs_of(function):
        given = next((each for each in extra if isinstance(each, need.kind)), None)
        if given is not None:
            values.append(given)
            continue
        if issubclass(need.kind, Symptom):
            values.append(facts.symptoms(need.kind))
            continue
        found = facts.get(need.kind)
        if isinstance(found, Unavailable) and not need.accepts_unavailable:
            found = None
        if found is None and not need.optional:
            raise Missing(need.kind.__name__)
        values.append(found)
    return function(*values)
