"""Tries a process group over Gloo and prints the report on it: ``python -m tests.support.group_trial TIMEOUT``.

A program of its own, so that tests can start it in other namespaces and with other variables. It looks at what files
tell (the quick tier), runs the group, and judges both by the rules of all checks.
"""

from __future__ import annotations

import sys

import msgspec

from envdoctor.asked import Asked
from envdoctor.check import Tier
from envdoctor.engine import gathered
from envdoctor.facts import Facts, Printed, Source, Symptom
from envdoctor.host import Host
from envdoctor.report import Selection
from envdoctor.target import Target, TargetPaths
from envdoctor_checks.nccl import probe_groups
from envdoctor_checks.torch.facts import TorchBuild
from tests.support.cases import doctor

ON_THE_CPU = Asked(device="cpu", source=Source("call", "a test"))


def main(timeout: float) -> bytes:
    """The report as JSON."""
    probe_groups.TIMEOUT = timeout
    probe_groups.MEET = timeout + 3
    host = Host.here()
    looked = doctor().look(host, tier=Tier.QUICK, python=sys.executable, budget=90)
    facts = looked.facts
    target, paths, build = facts.get(Target), facts.get(TargetPaths), facts.get(TorchBuild)
    assert isinstance(target, Target)
    assert isinstance(paths, TargetPaths)
    assert isinstance(build, TorchBuild), build
    given = list(probe_groups.process_group(host, target, paths, build, None, None, ON_THE_CPU))
    said: list[Symptom] = []
    for each in given:
        if isinstance(each, Printed):
            said += doctor().messages().printed(each)
    more = gathered([*(each for each in given if not isinstance(each, Printed)), *said])
    seen = msgspec.structs.replace(looked, facts=facts.merged(more).merged(Facts.of(ON_THE_CPU)))
    report = doctor().report(seen, Selection())
    return msgspec.json.encode(report)


if __name__ == "__main__":
    sys.stdout.buffer.write(main(float(sys.argv[1])))
