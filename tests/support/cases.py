"""Case files: how every rule is shown to fire and to stay silent. `tests/test_cases.py` tells their format."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from envdoctor import plugins, snapshot
from envdoctor.check import Rule, needs_of
from envdoctor.facts import Facts, Symptom, Unavailable
from envdoctor.judging import BoundRule, Call, Judgement, bind, judge
from envdoctor.session import Doctor
from envdoctor.testing import pure

FOLDER = Path(__file__).resolve().parents[1] / "cases"
MACHINES = Path(__file__).resolve().parents[2] / "fixtures" / "machines"
DEFAULT_SOURCE = {"kind": "file", "where": "/a/case"}


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One machine or text."""

    name: str = ""
    machine: str = ""
    """The recording ``fixtures/machines/<machine>.json``, on which `facts` are put."""
    text: str = ""
    facts: dict[str, dict[str, Any] | None] = {}
    """On a machine, only the fields that differ; None takes a fact away."""
    unavailable: dict[str, str] = {}
    """Fact name -> reason."""
    symptoms: list[dict[str, Any]] = []
    subject: str | None = None
    severity: str | None = None
    confidence: str | None = None
    first: bool = False
    """Whether the rule's finding must be the first of all."""
    also: list[str] = []
    """Other rules that must speak."""
    never: list[str] = []
    """Rules that must not speak, not even in a note."""
    fix: str = ""
    """A regular expression that one of the finding's fixes must match."""


class CaseFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``tests/cases/<check>/<slug>.yaml``."""

    facts: dict[str, dict[str, Any]] = {}
    """Put under the facts of every entry that gives facts."""
    fires: list[Entry] = []
    silent: list[Entry] = []


class Case(msgspec.Struct, frozen=True):
    """One entry of one file, ready to be judged."""

    rule: str
    fires: bool
    number: int
    entry: Entry

    def __str__(self) -> str:
        kind = "fires" if self.fires else "silent"
        return f"{self.rule}-{kind}-{self.entry.name.replace(' ', '-') or self.number}"


@cache
def doctor() -> Doctor:
    """Our own checks, once per test run; what else happens to be installed is not what is tested."""
    found = plugins.load()
    ours = tuple(check for check in found.checks if check.name not in found.strangers())
    return Doctor(msgspec.structs.replace(found, checks=ours, broken=()))


def all_cases() -> list[Case]:
    """Every case of every file, in the order of the rules' ids."""
    return [case for path in sorted(FOLDER.glob("*/*.yaml")) for case in _read(path)]


def _read(path: Path) -> list[Case]:
    rule = f"{path.parent.name}/{path.stem}"
    try:
        file = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), CaseFile)
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{path.parent.name}/{path.name}: {error}") from error
    return [
        Case(rule, fires, number, _with_shared(entry, file.facts))
        for fires, entries in ((True, file.fires), (False, file.silent))
        for number, entry in enumerate(entries, 1)
    ]


def _with_shared(entry: Entry, shared: dict[str, dict[str, Any]]) -> Entry:
    if not entry.facts or not shared:
        return entry
    return msgspec.structs.replace(entry, facts=laid_over(shared, entry.facts))


def laid_over(
    below: dict[str, dict[str, Any]], above: dict[str, dict[str, Any] | None]
) -> dict[str, dict[str, Any] | None]:
    """Field by field, what is `above` wins; None takes the whole fact away."""
    merged = {
        name: None if fields is None else {**below.get(name, {}), **fields} for name, fields in above.items()
    }
    return {**below, **merged}


@cache
def facts_of_entry(encoded: bytes) -> Facts:
    """The entry (as JSON, so that it can be kept) as facts."""
    entry = msgspec.json.decode(encoded, type=Entry)
    found = _recorded(entry)
    return found.merged(doctor().read(entry.text, "-").facts) if entry.text else found


def facts_of(case: Case) -> Facts:
    """The case through the facts document where it gives facts, and through the readers where it gives text."""
    try:
        return facts_of_entry(msgspec.json.encode(case.entry))
    except Exception as error:
        raise AssertionError(f"{case}: {error}") from error


def _recorded(entry: Entry) -> Facts:
    if not (entry.machine or entry.facts or entry.unavailable or entry.symptoms):
        return Facts()
    document = _document(entry.machine)
    facts = laid_over(document.get("facts", {}), entry.facts)
    document["facts"] = {
        name: {"source": DEFAULT_SOURCE, **fields} for name, fields in facts.items() if fields is not None
    }
    gaps = {name: {"reason": reason} for name, reason in entry.unavailable.items()}
    document["unavailable"] = {**document.get("unavailable", {}), **gaps}
    document["facts"] = {name: fields for name, fields in document["facts"].items() if name not in gaps}
    document["symptoms"] = [*document.get("symptoms", []), *entry.symptoms]
    _, found = snapshot.decode(msgspec.json.encode(document), "case", doctor().checks)
    if found.unknown.names():
        raise ValueError(f"no loaded check knows {', '.join(found.unknown.names())}")
    return found


def _document(machine: str) -> dict[str, Any]:
    if not machine:
        return {"schema": snapshot.SCHEMA, "recorded": {"at": "2026-01-01T00:00:00Z", "envdoctor": "0"}}
    document: dict[str, Any] = msgspec.json.decode((MACHINES / f"{machine}.json").read_bytes())
    return document


def bound(facts: Facts) -> tuple[BoundRule, ...]:
    """All loaded rules with these facts."""
    return bind(doctor().checks, facts)


def judged(case: Case) -> Judgement:
    """What all loaded rules say of the case; none of them may look at anything, or break."""
    return judged_facts(facts_of(case))


def judged_facts(facts: Facts) -> Judgement:
    """What all loaded rules say of these facts; none of them may look at anything, or break."""
    ready = bound(facts)
    with pure():
        judgement = judge(ready)
    assert not judgement.crashed, judgement.crashed
    return judgement


def has_judged_by_facts(rule: Rule[Any], facts: Facts) -> bool:
    """Whether a sign of the rule that asks for no message had all that it cannot do without."""
    return any(_by_facts(call) for each in bound(facts) if each.rule.id == rule.id for call in each.calls)


def _by_facts(call: Call) -> bool:
    return asks_no_message(call.sign) and not any(isinstance(each, Unavailable) for each in call.arguments)


def asks_no_message(sign: Any) -> bool:
    """Whether a sign needs facts only: a message that it may also take does not count."""
    return not any(issubclass(need.kind, Symptom) and not need.optional for need in needs_of(sign))
