"""The facts document, ``envdoctor.facts/1``: a machine's facts as JSON, and back.

An unknown fact type (a newer version's, a stranger's) is kept and not judged; an unknown key or a wrong type inside a
known one is refused by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from envdoctor import __version__
from envdoctor.check import Check
from envdoctor.errors import DocumentError
from envdoctor.facts import Fact, Facts, Symptom, Unavailable

SCHEMA = "envdoctor.facts/1"
LIMIT = 64 * 1024 * 1024


class Recorded(msgspec.Struct, frozen=True):
    """When and by what the facts were recorded."""

    at: str
    envdoctor: str
    redacted: bool = False


class Gap(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a fact could not be looked at."""

    reason: str
    would_allow: str = ""


class FactsDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole document. `facts` and `unavailable` are keyed by fact name, ``driver.kernel-module``."""

    schema: str
    recorded: Recorded
    facts: dict[str, dict[str, Any]]
    unavailable: dict[str, Gap] = {}
    symptoms: list[dict[str, Any]] = []
    """What programs printed, each with its ``kind``."""


def to_document(facts: Facts, at: str, *, redacted: bool = False) -> FactsDocument:
    """Facts as a document; facts of unknown types travel on unchanged."""
    known = {type(fact).fact_name: msgspec.to_builtins(fact) for fact in facts}
    return FactsDocument(
        schema=SCHEMA,
        recorded=Recorded(at, __version__, redacted),
        facts={**{name: dict(value) for name, value in facts.unknown.items()}, **known},
        unavailable={
            kind.fact_name: Gap(why.reason, why.would_allow) for kind, why in facts.unavailable().items()
        },
        symptoms=[
            {"kind": type(said).symptom_name, **msgspec.to_builtins(said)} for said in facts.all_symptoms()
        ],
    )


def encode(document: FactsDocument) -> bytes:
    """The document as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def read_file(path: str) -> bytes:
    """The bytes of a facts file or pasted text (``-``: standard input), refused over 64 MB before they are read."""
    import sys

    if path == "-":
        data = sys.stdin.buffer.read(LIMIT + 1)
    else:
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size > LIMIT:
                    raise DocumentError(f"{path}: larger than 64 MB; cut out the part around the failure")
                data = file.read(LIMIT + 1)
        except OSError as error:
            raise DocumentError(f"{path}: {error.strerror}") from error
    if len(data) > LIMIT:
        raise DocumentError(f"{path}: larger than 64 MB; cut out the part around the failure")
    return data


def decode(data: bytes, name: str, checks: tuple[Check, ...]) -> tuple[FactsDocument, Facts]:
    """Read a facts document. Raises `DocumentError` naming what does not fit."""
    document = _parse(data, name)
    types = {fact: kind for check in checks for fact, kind in check.fact_types().items()}
    types.update({kind.fact_name: kind for kind in _core_types()})
    known: dict[type[Fact], Fact] = {}
    unknown: dict[str, Any] = {}
    for fact, value in document.facts.items():
        if fact in types:
            known[types[fact]] = _convert(value, types[fact], f"{name}: facts.{fact}")
        else:
            unknown[fact] = value
    hidden = {
        types[fact]: Unavailable(fact, gap.reason, gap.would_allow)
        for fact, gap in document.unavailable.items()
        if fact in types
    }
    return document, Facts(known, hidden, _symptoms(document, name, checks), unknown)


def _core_types() -> tuple[type[Fact], ...]:
    from envdoctor.core_check import PluginsState
    from envdoctor.platform import Platform
    from envdoctor.surroundings import Surroundings
    from envdoctor.target import Target, TargetPaths
    from envdoctor.variables import Variables

    return (Platform, Surroundings, Target, TargetPaths, PluginsState, Variables)


def _parse(data: bytes, name: str) -> FactsDocument:
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DocumentError(f"{name}: not a complete JSON document ({error}); record it anew") from error
    schema = raw.get("schema") if isinstance(raw, Mapping) else None
    if not isinstance(schema, str) or not schema.startswith("envdoctor.facts/"):
        hint = "; this is a report, give the file that `envdoctor record` wrote" if _is_report(schema) else ""
        raise DocumentError(f"{name}: not a facts document of envdoctor (no schema {SCHEMA!r}){hint}")
    if schema != SCHEMA:
        raise DocumentError(f"{name}: its schema is {schema}, this envdoctor reads {SCHEMA}; update envdoctor")
    try:
        return msgspec.convert(raw, FactsDocument)
    except msgspec.ValidationError as error:
        raise DocumentError(f"{name}: {error}") from error


def _is_report(schema: object) -> bool:
    return isinstance(schema, str) and schema.startswith("envdoctor.report/")


def _convert(value: Any, kind: type[Any], where: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise DocumentError(f"{where}: {error}") from error


def _symptoms(document: FactsDocument, name: str, checks: tuple[Check, ...]) -> tuple[Symptom, ...]:
    kinds = {symptom: kind for check in checks for symptom, kind in check.symptom_types().items()}
    found = []
    for index, value in enumerate(document.symptoms):
        kind = kinds.get(str(value.get("kind")))
        if kind is not None:
            fields = {key: each for key, each in value.items() if key != "kind"}
            found.append(_convert(fields, kind, f"{name}: symptoms[{index}]"))
    return tuple(found)
