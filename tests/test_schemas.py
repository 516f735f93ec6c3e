"""The committed JSON Schemas: what today's types give, and what every document that is built must satisfy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest

from envdoctor import schemas, snapshot
from envdoctor.api import Ask
from envdoctor.facts import Evidence, Facts, Source, Unavailable
from envdoctor.prescribe import Fix
from envdoctor.redact import redact_document
from envdoctor.report import (
    CheckEntry,
    FindingEntry,
    MachineRow,
    Missed,
    PassedOver,
    PluginEntry,
    Report,
    RuleCounts,
    Selection,
    Summary,
    TargetEntry,
    Tool,
)
from envdoctor.session import Doctor
from tests.support import garden

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = ("report", "facts")


def validator(document: str) -> Any:
    schema = json.loads(schemas.text(document))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def complaints(document: str, value: Any) -> list[str]:
    return [error.message for error in validator(document).iter_errors(value)]


def as_json(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


FULL = Report(
    schema="envdoctor.report/1",
    tool=Tool("envdoctor", "1", (PluginEntry("garden", "garden", "2"),)),
    target=TargetEntry("live", "/p", "/", "why", (PassedOver("/q", "not there"),), "2026-01-02T03:04:05Z"),
    machine=(MachineRow("system", "Linux"),),
    verdict="environment",
    summary=Summary(1, 0, 0, 1, 1),
    findings=(
        FindingEntry(
            "a/b", "gpu:0", "error", "certain", "root", ("c/d",), "title", "detail",
            (Evidence("x", "1", Source("file", "/f", 3)), Evidence("y", "2")),
            (Fix("do", "shell", ("ls",), True, "process", "careful", "ls"), Fix("nothing", "host")), None, "envdoctor rule a/b",
        ),
    ),
    suppressed=(),
    asks=(Ask("ls", "what"),),
    checks=(
        CheckEntry("c", "t", "partly", "r", "w", RuleCounts(1, 2), (Missed("f", "r", "w"), Missed("g", "r")), ("s",), 0.25),
    ),
    crash="ValueError",
)  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_is_committed_is_what_the_types_give(document: str) -> None:
    assert schemas.text(document) == schemas.generated(document), "run: python -m envdoctor.schemas"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_definition_is_described_and_used(document: str) -> None:
    schema = json.loads(schemas.text(document))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:envdoctor:schema:{document}-1"
    assert schema["properties"]["schema"]["const"] == f"envdoctor.{document}/1"
    text = schemas.text(document)
    for name, definition in schema["$defs"].items():
        assert definition["description"], name
        assert f'"#/$defs/{name}"' in text
    assert "`" not in json.dumps(schema["$defs"])


def test_an_unknown_document_has_no_schema() -> None:
    with pytest.raises(KeyError):
        schemas.text("novel")


def test_a_full_and_an_empty_report_are_valid() -> None:
    assert complaints("report", as_json(FULL)) == []
    bare = msgspec.structs.replace(
        FULL, findings=(), checks=(), machine=(), asks=(), crash=None, target=TargetEntry("text")
    )
    assert complaints("report", as_json(bare)) == []


def test_a_report_built_from_a_recording_is_valid(tmp_path: Path) -> None:
    facts = Facts.of(garden.GateStuck(gate=1), garden.Gates(source=Source("file"), visible="x"))
    (tmp_path / "m.json").write_bytes(snapshot.encode(snapshot.to_document(facts, "2026-01-02T03:04:05Z")))
    well = Doctor()
    report = well.report(well.recorded([str(tmp_path / "m.json")]), Selection())
    assert report.findings
    assert complaints("report", as_json(report)) == []


def test_facts_written_and_redacted_are_valid() -> None:
    facts = Facts.of(
        garden.Gates(source=Source("file", "/home/alice/x", 2)),
        garden.GateStuck(gate=1, quote="alice@g: stuck"),
    ).merged(Facts(unavailable={garden.Paths: Unavailable("garden.paths", "denied")}))
    document = snapshot.to_document(facts, "2026-01-02T03:04:05Z")
    assert complaints("facts", as_json(document)) == []
    redacted, _ = redact_document(document, user="alice", home="/home/alice", hostname="g")
    assert complaints("facts", as_json(redacted)) == []


def without(value: Any, *path: Any) -> Any:
    value = json.loads(json.dumps(value))
    inner = value
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return value


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ("report", {**as_json(FULL), "schema": "envdoctor.report/2"}),
        ("report", {**as_json(FULL), "verdict": "perhaps"}),
        ("report", without(as_json(FULL), "summary", "exit_code")),
        ("report", without(as_json(FULL), "findings", 0, "id")),
        (
            "facts",
            {"schema": "envdoctor.facts/1", "recorded": {"at": "x", "envdoctor": "1"}, "facts": {"a.b": {}}},
        ),
        ("facts", {"schema": "envdoctor.facts/1", "recorded": {"at": "x"}, "facts": {}}),
        (
            "facts",
            {
                "schema": "envdoctor.facts/1",
                "recorded": {"at": "x", "envdoctor": "1"},
                "facts": {},
                "more": 1,
            },
        ),
    ],
)
def test_what_is_no_such_document_is_told(document: str, value: Any) -> None:
    assert complaints(document, value)


def test_a_later_minor_version_only_adds_so_readers_of_reports_ignore_what_they_do_not_know() -> None:
    later = as_json(FULL)
    later["tomorrow"] = later["findings"][0]["tomorrow"] = {"new": True}
    assert complaints("report", later) == []
