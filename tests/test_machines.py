"""Recorded machines: the healthy ones are never accused, the broken ones are told what is wrong first.

`python -m tests.support.machines` builds them anew from files, real probes and a fake driver, and writes recordings
and reports; the changes are to be read before they are committed.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.support import machines
from tests.support.cases import MACHINES, doctor
from tests.support.machines_broken import BROKEN
from tests.support.machines_contained import HEALTHY

if TYPE_CHECKING:
    from pathlib import Path

    from envdoctor.report import FindingEntry, Report
    from tests.support.machine_tree import Parts

AREAS = {"container", "driver", "gpu", "host", "kernel", "libraries", "nccl", "python", "torch"}
SAMPLE = ("laptop-cpu", "rtx4090", "mig-pod", "fabric-manager-stopped")
"""Rebuilt in every run; the others with --slow."""
PEOPLE = (
    r"alice\b",
    r"bob\b",
    r"carol\b",
    r"dave\b",
    r"eve\b",
    r"frank",
    "hgx-",
    "gpu-vm",
    "spark-4a1f",
    "DESKTOP-",
    "inference-2",
)
"""Accounts and hosts of the machines, as they were before redaction."""


def report(name: str) -> Report:
    return _report(name, (MACHINES / f"{name}.json").read_bytes())


@cache
def _report(name: str, _content: bytes) -> Report:
    return machines.judged(MACHINES / f"{name}.json")


def loud(found: tuple[FindingEntry, ...]) -> list[str]:
    """What stands for itself above a note."""
    return [
        f"{each.id} {each.subject}: {each.title}"
        for each in found
        if each.role == "root" and each.severity != "note"
    ]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_machine_is_not_accused(name: str) -> None:
    told = report(name)
    assert [f"{each.id}: {each.title}" for each in told.findings if each.severity != "note"] == []
    assert told.summary.exit_code == 0, told.checks


@pytest.mark.parametrize("name", HEALTHY)
def test_every_check_looked_at_a_healthy_machine(name: str) -> None:
    outcomes = {each.name: each.outcome for each in report(name).checks}
    assert outcomes.keys() >= AREAS, "a check is not loaded"
    strange = {
        area: outcome
        for area, outcome in outcomes.items()
        if outcome not in ("ok", "partly", "not-applicable")
    }
    assert not strange


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_machine_is_told_the_cause_first(name: str) -> None:
    told, wanted = report(name), BROKEN[name]
    first = told.findings[0]
    assert (first.id, first.severity, first.role) == (wanted.rule, wanted.severity, "root")
    assert any(re.search(wanted.fix, f"{fix.title} {' '.join(fix.commands)}") for fix in first.fixes), (
        first.fixes
    )
    assert told.summary.exit_code == (1 if wanted.severity == "error" else 0)


@pytest.mark.parametrize("name", BROKEN)
def test_one_fault_is_one_root(name: str) -> None:
    assert len(loud(report(name).findings)) == 1, loud(report(name).findings)


@pytest.mark.parametrize("name", machines.names())
def test_the_report_reads_as_committed(name: str) -> None:
    expected = (MACHINES / f"{name}.expected.txt").read_text(encoding="utf-8")
    assert machines.page(report(name)) == expected, f"python -m tests.support.machines {name}"


@pytest.mark.parametrize("name", machines.names())
def test_the_report_is_80_columns_wide_and_whole(name: str) -> None:
    """Commands are never broken, nor are words as long as paths are."""
    told = report(name)
    typed = {line for each in told.findings for fix in each.fixes for line in (*fix.commands, fix.verify)}
    typed |= {ask.command for ask in told.asks}
    wide = [line for line in machines.page(told).splitlines() if len(line) > 80 and line.strip() not in typed]
    assert [line for line in wide if max(map(len, line.split())) < 40] == []
    assert not re.search(r"\bNone\b|Traceback|<[a-z.]+ object", machines.page(told))


@pytest.mark.parametrize("name", machines.names())
def test_the_recording_names_nobody(name: str) -> None:
    text = (MACHINES / f"{name}.json").read_text(encoding="utf-8")
    assert json.loads(text)["recorded"]["redacted"] is True
    assert [each for each in PEOPLE if re.search(rf"\b{each}", text)] == []


def test_every_recording_is_of_a_machine_that_is_built() -> None:
    built = {path.stem for path in MACHINES.glob("*.json") if not path.stem.startswith("recorded-")}
    assert built == set(machines.names())
    assert {path.name for path in MACHINES.glob("*.txt")} == {
        f"{name}.expected.txt" for name in machines.names()
    }


def test_every_fact_of_the_recordings_is_known() -> None:
    for name in machines.names():
        facts = doctor().recorded([str(MACHINES / f"{name}.json")]).facts
        assert facts.unknown.names() == (), name


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return machines.build_parts(tmp_path_factory.mktemp("parts"))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in SAMPLE else [pytest.mark.slow]) for name in machines.names()],
)
def test_the_recording_is_what_the_probes_see(name: str, parts: Parts, tmp_path: Path) -> None:
    built = json.loads(machines.record(machines.build(name, tmp_path, parts)))
    assert built == json.loads((MACHINES / f"{name}.json").read_bytes()), (
        f"python -m tests.support.machines {name}"
    )
