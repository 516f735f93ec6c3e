"""Writes fixtures/machines: ``python -m tests.support.machines [NAME]...``

Every machine is built as files, looked at by all probes of the default tier, recorded with redaction, and judged from
its recording: the report at 80 columns lies beside it. Read what changed before committing it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from msgspec import structs

from envdoctor import snapshot
from envdoctor.check import Tier
from envdoctor.core_check import PluginsState
from envdoctor.redact import own_names, redact_document
from envdoctor.render import render
from envdoctor.report import Report, Selection
from tests.support import fake_driver
from tests.support.cases import MACHINES, doctor
from tests.support.machine_tree import Parts, Tree
from tests.support.machines_broken import BROKEN
from tests.support.machines_contained import HEALTHY

RECORDED_AT = "2026-11-20T09:30:00Z"
INSTALLED = "/opt/envdoctor/bin/python"
"""Where envdoctor is, in recordings: the interpreter that runs the tests is nobody's business."""
RELEASE = "1.0.0"
"""Of envdoctor, as recordings and reports give it: a release that sees and says the same leaves them as they are."""


def names() -> tuple[str, ...]:
    """Every machine, the healthy ones first."""
    return (*HEALTHY, *BROKEN)


def build_parts(folder: Path) -> Parts:
    """What all machines are made from."""
    return Parts(folder, fake_driver.FakeDriver(fake_driver.build(folder / "driver")))


def build(name: str, folder: Path, parts: Parts) -> Tree:
    """The files of one machine."""
    machine = HEALTHY.get(name) or BROKEN[name]
    tree = Tree(folder / name, parts, machine=machine.processor)
    machine.build(tree)
    return tree


def record(tree: Tree) -> bytes:
    """What ``envdoctor record`` writes on that machine. Raises AssertionError where a probe broke or had no answer."""
    host = tree.host()
    seen = doctor().look(host, tier=Tier.DEFAULT)
    assert seen.looked is not None
    assert not seen.looked.crashed, seen.looked.crashed
    assert not seen.looked.late, seen.looked.late
    assert not tree.answers.unanswered, tree.answers.unanswered
    document = snapshot.to_document(seen.facts, RECORDED_AT)
    document, _ = redact_document(document, **own_names(host))
    recorded = structs.replace(document.recorded, envdoctor=RELEASE)
    state = {**document.facts[PluginsState.fact_name], "python": INSTALLED}
    facts = {**document.facts, PluginsState.fact_name: state}
    return snapshot.encode(structs.replace(document, recorded=recorded, facts=facts))


def judged(path: Path) -> Report:
    """The report on a recording, as ``envdoctor check --facts`` makes it."""
    return doctor().report(doctor().recorded([str(path)]), Selection())


def page(report: Report) -> str:
    """What a person reads, 80 columns wide."""
    return render(structs.replace(report, tool=structs.replace(report.tool, version=RELEASE)), "text")


def main(wanted: list[str]) -> None:
    """Write the recordings and their reports."""
    MACHINES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        parts = build_parts(Path(folder))
        for name in wanted or names():
            path = MACHINES / f"{name}.json"
            path.write_bytes(record(build(name, Path(folder), parts)))
            report = judged(path)
            path.with_suffix(".expected.txt").write_text(page(report), encoding="utf-8")
            roots = ", ".join(
                each.id for each in report.findings if each.role == "root" and each.severity != "note"
            )
            print(f"{name}: {roots or 'well'}")


if __name__ == "__main__":
    main(sys.argv[1:])
