"""A stranger's probe runs in a child of our own interpreter: whatever it does to its process, the report still comes.

`run_stranger` is the parent's side; ``python -m envdoctor.probing.stranger CHECK PROBE`` the child's. Facts travel as the
facts document does.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import msgspec

from envdoctor.check import Check, Probe
from envdoctor.facts import CouldNotLook, Fact, Facts, Printed, Unavailable
from envdoctor.host import Host


class Given(msgspec.Struct, frozen=True):
    """What a probe gave, ready to travel."""

    document: dict[str, Any]
    printed: tuple[Printed, ...] = ()


def run_stranger(check: Check, probe: Probe, host: Host, facts: Facts) -> list[Any]:
    """Run the probe in a child and bring its facts back. Raises `CouldNotLook` when it did not answer."""
    from envdoctor import snapshot
    from envdoctor.probing.child import ChildRequest
    from envdoctor.target import failure

    needed = {need.kind for need in probe.needs()}
    seed = Facts(
        {type(fact): fact for fact in facts if type(fact) in needed},
        {kind: why for kind, why in facts.unavailable().items() if kind in needed},
    )
    request = ChildRequest(
        argv=(sys.executable, "-B", "-m", "envdoctor.probing.stranger", check.name, probe.name),
        deadline=max(probe.deadline - 0.5, 0.5),
        env=dict(host.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=snapshot.encode(snapshot.to_document(seed, "")),
        answers=True,
        temporary_directory=True,
    )
    result = host.run_child(request)
    answer = next((stage for stage in result.stages if stage.get("stage") == "given"), None)
    if answer is None:
        refused = next((stage for stage in result.stages if stage.get("stage") == "could-not-look"), None)
        if refused is not None:
            raise CouldNotLook(str(refused.get("reason")), str(refused.get("would_allow", "")))
        raise CouldNotLook(f"the probe {probe.name} {failure(result)}")
    return _brought(answer, check)


def _brought(answer: dict[str, Any], check: Check) -> list[Any]:
    from envdoctor import snapshot

    given = msgspec.convert({"document": answer["document"], "printed": answer.get("printed", ())}, Given)
    _, facts = snapshot.decode(msgspec.json.encode(given.document), check.name, (check,))
    things: list[Fact | Unavailable | Printed | Any] = [*facts, *facts.unavailable().values()]
    return [*things, *facts.all_symptoms(), *given.printed]


def main(check_name: str, probe_name: str) -> None:
    """The child's side: load the check, run the probe, answer on the descriptor that the parent opened."""
    from envdoctor import plugins, snapshot
    from envdoctor.engine import flatten, gathered
    from envdoctor.injecting import call_with
    from envdoctor.probing.answers import answer, done

    check = next(check for check in plugins.load().checks if check.name == check_name)
    probe = next(probe for probe in check.probes if probe.name == probe_name)
    _, seed = snapshot.decode(sys.stdin.buffer.read(), "the parent's facts", plugins.load().checks)
    try:
        given = flatten(call_with(probe.function, seed, Host.here()))
    except CouldNotLook as kept:
        answer("could-not-look", reason=kept.reason, would_allow=kept.would_allow)
    else:
        printed = [msgspec.to_builtins(each) for each in given if isinstance(each, Printed)]
        facts = gathered(each for each in given if not isinstance(each, Printed))
        answer("given", document=msgspec.to_builtins(snapshot.to_document(facts, "")), printed=printed)
    done()


if __name__ == "__main__":
    main(*sys.argv[1:3])
