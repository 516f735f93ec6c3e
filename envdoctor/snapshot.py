"""The facts document, ``envdoctor.facts/1``: a machine's facts as JSON, and back.

Facts and symptoms of unknown types (a newer version's, a stranger's) are kept, are not judged, and the
report says so (``envdoctor/fact-not-judged``). An unknown key or a wrong type inside a known one is refused
by name: a misspelt key that was ignored would read as *not there*. Every refusal is a `DocumentError` of
one line that says what to do.
"""

from __future__ import annotations

import codecs
import math
from typing import TYPE_CHECKING, Any

import msgspec

from envdoctor import __version__, core_check
from envdoctor.asked import Asked
from envdoctor.core_check import NotJudged
from envdoctor.errors import DocumentError
from envdoctor.facts import Fact, Facts, Source, Symptom, Unavailable, Unknown
from envdoctor.target import Target

if TYPE_CHECKING:
    from envdoctor.check import Check

SCHEMA = "envdoctor.facts/1"
LIMIT = 64 * 1024 * 1024
"""Bytes. No recording comes near it; what is larger is something else."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),  # Windows PowerShell 5 writes this for ``envdoctor record > file``
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ANEW = "record it anew with `envdoctor record -o FILE`"


class Recorded(msgspec.Struct, frozen=True):
    """When and by what the facts were recorded."""

    at: str
    """UTC, ISO 8601."""
    envdoctor: str
    """The version that recorded them."""
    redacted: bool = False
    """Whether names, addresses and identifiers were replaced by tokens."""


class Gap(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a fact could not be looked at."""

    reason: str
    would_allow: str = ""
    """What the user could do so that it can be looked at."""


class FactsDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine's facts. A fact is either in `facts`, or in `unavailable`, or was not recorded."""

    schema: str
    recorded: Recorded
    facts: dict[str, dict[str, Any]]
    """By fact name, ``driver.kernel-module``; in each, null is *not there*."""
    unavailable: dict[str, Gap] = {}
    """By fact name: *could not look*, and why."""
    symptoms: list[dict[str, Any]] = []
    """What programs printed, each with its ``kind``."""


def to_document(facts: Facts, at: str, *, redacted: bool = False) -> FactsDocument:
    """Facts as a document, in the order of their names whichever probe answered first (what is redacted is numbered
    in the order of the document); what no loaded check knows travels on unchanged."""
    known = {type(fact).fact_name: _plain(fact) for fact in facts if not isinstance(fact, NotJudged)}
    strange = {name for name, value in known.items() if not _finite(value)}
    gaps = {kind.fact_name: why for kind, why in facts.unavailable().items()}
    gaps.update({name: Unavailable(name, "it holds a number that JSON cannot carry") for name in strange})
    said = facts.unknown.facts | {name: value for name, value in known.items() if name not in strange}
    missing = facts.unknown.unavailable | gaps
    return FactsDocument(
        schema=SCHEMA,
        recorded=Recorded(at, __version__, redacted),
        facts=dict(sorted(said.items())),
        unavailable={name: Gap(why.reason, why.would_allow) for name, why in sorted(missing.items())},
        symptoms=[{"kind": type(said).symptom_name, **_plain(said)} for said in facts.all_symptoms()]
        + list(facts.unknown.symptoms),
    )


def _plain(thing: Fact | Symptom) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.to_builtins(thing, str_keys=True)
    return value


def _finite(value: Any) -> bool:
    """Whether JSON can carry every number in it: NaN and infinities would come back as null, *not there*."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, (list, tuple)) else True


def encode(document: FactsDocument) -> bytes:
    """The document as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def read_file(path: str) -> bytes:
    """The bytes of a facts file or pasted text (``-``: standard input), refused over 64 MB before they are
    read.

    A pipe or device without a size is read no further than that. Raises `DocumentError`.
    """
    try:
        return _read_stdin() if path == "-" else _read_path(path)
    except OSError as error:
        raise DocumentError(f"{_one_line(path)}: {error.strerror or error}") from error


def _read_stdin() -> bytes:
    import sys

    if sys.stdin is None:  # started with standard input closed
        raise DocumentError("-: standard input is closed; name a file")
    return _read(sys.stdin.buffer, "-")


def _read_path(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return _read(file, path)
    except ValueError as error:  # a NUL in the name
        raise DocumentError(f"{_one_line(path)}: no such file ({error})") from error


def _read(file: Any, path: str) -> bytes:
    import os

    too_large = DocumentError(f"{_one_line(path)}: larger than 64 MB; give the part around the failure")
    if os.fstat(file.fileno()).st_size > LIMIT:
        raise too_large
    data: bytes = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise too_large
    return data


def decode(data: bytes, name: str, checks: tuple[Check, ...]) -> tuple[FactsDocument, Facts]:
    """Read a facts document; `name` is what messages call it. Raises `DocumentError` naming what does not
    fit.
    """
    document = _parse(data, name)
    types = {fact: kind for check in checks for fact, kind in check.fact_types().items()}
    types.update(_core_types())
    known = {
        types[fact]: _convert(value, types[fact], name, f"facts.{fact}")
        for fact, value in document.facts.items()
        if fact in types
    }
    gaps = {
        fact: Unavailable(fact, gap.reason, gap.would_allow) for fact, gap in document.unavailable.items()
    }
    symptoms, strange = _symptoms(document, name, checks)
    unknown = Unknown(
        {fact: value for fact, value in document.facts.items() if fact not in types},
        {fact: gap for fact, gap in gaps.items() if fact not in types},
        strange,
    )
    hidden = {types[fact]: gap for fact, gap in gaps.items() if fact in types}
    return document, Facts(known, hidden, symptoms, unknown)


def not_judged(facts: Facts) -> Facts:
    """The same facts, with the one by which the report says what of them nobody can judge."""
    names = facts.unknown.names()
    return facts.merged(Facts.of(NotJudged(names=names, source=Source("file")))) if names else facts


def _core_types() -> dict[str, type[Fact]]:
    """What the core itself knows: its own check's facts, and the two that no probe gives."""
    own: tuple[type[Fact], ...] = (core_check.PluginsState, Target, Asked)
    return core_check.check.fact_types() | {kind.fact_name: kind for kind in own}


def _parse(data: bytes, name: str) -> FactsDocument:
    raw = _json(_utf8(data, name), name)
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if isinstance(schema, str) and schema.startswith("envdoctor.report/"):
        raise _refusal(name, "this is a report; give the facts that `envdoctor record` wrote")
    if not isinstance(schema, str) or not schema.startswith("envdoctor.facts/"):
        raise _refusal(name, f"not a facts document (it has no schema {SCHEMA!r}); {_ANEW}")
    if schema != SCHEMA:
        raise _refusal(name, f"its schema is {schema}, this envdoctor reads {SCHEMA}; update envdoctor")
    document: FactsDocument = _convert(raw, FactsDocument, name, "")
    return document


def _utf8(data: bytes, name: str) -> bytes:
    """The document in UTF-8 without a byte order mark; one in UTF-16 must begin with its mark."""
    encoding, mark = next(((each, mark) for mark, each in _MARKS if data.startswith(mark)), ("utf-8", b""))
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise _refusal(
            name, f"not {encoding.upper()} text ({error.reason} at byte {error.start}); {_ANEW}"
        ) from error
    if not text.strip():
        raise _refusal(name, f"empty; {_ANEW}")
    if text.lstrip()[0] not in "{[":
        raise _refusal(
            name, "no JSON; pasted text is for `envdoctor explain`, facts come from `envdoctor record`"
        )
    return text.encode()


def _json(data: bytes, name: str) -> Any:
    """Strict JSON: complete, no NaN, no key twice (a second one would silently win), no endless nesting."""
    import json

    try:
        raw = msgspec.json.decode(data)
        json.loads(data, object_pairs_hook=_no_key_twice)
    except RecursionError as error:
        raise _refusal(name, f"nested too deeply to be facts; {_ANEW}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise _refusal(name, f"not a complete JSON document ({error}); {_ANEW}") from error
    return raw


def _no_key_twice(pairs: list[tuple[str, Any]]) -> None:
    """Called for every object; the values are not wanted, so nothing is built."""
    if len({key for key, _ in pairs}) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")


def _convert(value: Any, kind: type[Any], name: str, where: str) -> Any:
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _refusal(name, f"{where}: {error}" if where else str(error)) from error


def _refusal(name: str, message: str) -> DocumentError:
    return DocumentError(_one_line(f"{name}: {message}"))


def _one_line(text: str) -> str:
    """Fit for one line of a terminal: names in a document are whatever somebody wrote there."""
    plain = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return plain if len(plain) <= 400 else plain[:398] + " …"


def _symptoms(
    document: FactsDocument, name: str, checks: tuple[Check, ...]
) -> tuple[tuple[Symptom, ...], tuple[dict[str, Any], ...]]:
    """The symptoms of known kinds, and the rest as they were written."""
    kinds = {symptom: kind for check in checks for symptom, kind in check.symptom_types().items()}
    found: list[Symptom] = []
    strange: list[dict[str, Any]] = []
    for index, value in enumerate(document.symptoms):
        kind = value.get("kind")
        if not isinstance(kind, str):
            raise _refusal(name, f"symptoms[{index}] has no kind; {_ANEW}")
        if kind in kinds:
            fields = {key: each for key, each in value.items() if key != "kind"}
            found.append(_convert(fields, kinds[kind], name, f"symptoms[{index}]"))
        else:
            strange.append(value)
    return tuple(found), tuple(strange)
