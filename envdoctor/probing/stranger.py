"""A stranger's probe runs in a child of our own interpreter: whatever it does there, the report still comes.

`run_stranger` is the parent's side, `look` the child's. The child has the user's environment, our import
path, and of the facts only those that the probe names.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from envdoctor.facts import Fact, Facts, Printed, Symptom, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from envdoctor.check import Check, Probe
    from envdoctor.host import Host

START = 1.0
"""Seconds that a child of ours takes to start on a busy machine; they are not the probe's."""
CHILD = """
import json, sys
asked = json.loads(sys.stdin.buffer.read())
sys.path[:] = asked["path"]
from envdoctor.probing.stranger import look
look(asked, answer)
done()
"""


class Asked(msgspec.Struct, frozen=True):
    """What the child is told: which probe, where to import from, and what the probe asks for."""

    check: str
    probe: str
    path: list[str]
    environ: dict[str, str]
    facts: dict[str, Any]
    unavailable: tuple[Unavailable, ...]


class Given(msgspec.Struct, frozen=True):
    """What a probe gave, ready to travel: facts and symptoms with the names of their types."""

    facts: tuple[tuple[str, Any], ...] = ()
    symptoms: tuple[tuple[str, Any], ...] = ()
    unavailable: tuple[Unavailable, ...] = ()
    printed: tuple[Printed, ...] = ()


def run_stranger(check: Check, probe: Probe, host: Host, facts: Facts) -> list[Any]:
    """Run the probe in a child and bring back what it gave.

    Raises `CouldNotLook` where the probe does, and `ProbeBroke` or `ProbeLate` for all else that keeps it
    from coming to its end.
    """
    from envdoctor.engine import ProbeBroke, ProbeLate
    from envdoctor.facts import CouldNotLook
    from envdoctor.probing.child import ChildEnd, python_request
    from envdoctor.target import failure

    request = python_request(
        sys.executable,
        CHILD,
        deadline=probe.deadline + START,
        env=host.environ,
        stdin=msgspec.json.encode(_asked(check, probe, host, facts)),
        cwd=host.cwd,
        temporary_directory=True,
    )
    result = host.run_child(request)
    stages = {stage["stage"]: stage for stage in result.stages}
    if "given" in stages:
        return _brought(stages["given"], probe)
    if "could-not-look" in stages:
        raise CouldNotLook(stages["could-not-look"]["reason"], stages["could-not-look"]["would_allow"])
    if "broke" in stages:
        raise ProbeBroke(stages["broke"]["error"])
    if result.end is ChildEnd.TIMED_OUT:
        raise ProbeLate
    raise ProbeBroke(f"its process {failure(result)}")


def _asked(check: Check, probe: Probe, host: Host, facts: Facts) -> Asked:
    named = {need.kind for need in probe.needs()}
    return Asked(
        check=check.name,
        probe=probe.name,
        path=sys.path,
        environ=host.environ,
        facts={type(fact).fact_name: fact for fact in facts if type(fact) in named},
        unavailable=tuple(why for kind, why in facts.unavailable().items() if kind in named),
    )


def _brought(stage: dict[str, Any], probe: Probe) -> list[Any]:
    from envdoctor.engine import type_named

    given = msgspec.convert(stage["given"], Given)
    owed = {kind.fact_name: kind for kind in probe.gives()}
    facts = [msgspec.convert(value, owed.get(name) or type_named(Fact, name)) for name, value in given.facts]
    symptoms = [msgspec.convert(value, type_named(Symptom, name)) for name, value in given.symptoms]
    return [*facts, *symptoms, *given.unavailable, *given.printed]


def look(raw: dict[str, Any], answer: Callable[..., None]) -> None:
    """The child's side: load the check, run the probe, answer."""
    from envdoctor.engine import flatten
    from envdoctor.host import Host, could_not_look
    from envdoctor.injecting import arguments_for

    asked = msgspec.convert(raw, Asked)
    try:
        check = _check_named(asked.check)
        probe = next(probe for probe in check.probes if probe.name == asked.probe)
        seed = _seed(asked, probe)
        given = flatten(probe.function(*arguments_for(probe.needs(), seed, Host.here(environ=asked.environ))))
        answer("given", given=msgspec.to_builtins(_packed(given)))
    except BaseException as error:  # whatever a stranger raises, SystemExit too, is for the parent to tell
        kept = could_not_look(error)
        if kept is not None:
            answer("could-not-look", reason=kept.reason, would_allow=kept.would_allow)
        else:
            answer("broke", error=f"{type(error).__name__}: {error}")


def _check_named(name: str) -> Check:
    """Load the stranger that brings this check, and as few others as possible."""
    from envdoctor import plugins

    strangers = [point for point in plugins.entry_points() if point.distribution != plugins.OURS]
    for point in sorted(strangers, key=lambda point: point.name != name):
        check = plugins.load_one(point)
        if check.name == name:
            return check
    raise LookupError(f"no installed distribution brings the check {name!r}")


def _seed(asked: Asked, probe: Probe) -> Facts:
    kinds = {need.kind.fact_name: need.kind for need in probe.needs() if issubclass(need.kind, Fact)}
    known = {kinds[name]: msgspec.convert(value, kinds[name]) for name, value in asked.facts.items()}
    return Facts(known, {kinds[why.fact]: why for why in asked.unavailable})


def _packed(things: list[Any]) -> Given:
    wrong = [each for each in things if not isinstance(each, (Fact, Symptom, Unavailable, Printed))]
    if wrong:
        raise TypeError(f"a probe gave {type(wrong[0]).__name__}, which is no fact")
    return Given(
        facts=tuple((type(each).fact_name, each) for each in things if isinstance(each, Fact)),
        symptoms=tuple((type(each).symptom_name, each) for each in things if isinstance(each, Symptom)),
        unavailable=tuple(each for each in things if isinstance(each, Unavailable)),
        printed=tuple(each for each in things if isinstance(each, Printed)),
    )
