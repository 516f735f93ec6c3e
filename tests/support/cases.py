"""Case files: how every rule is shown to fire and to stay silent. `tests/test_cases.py` tells their format."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from envdoctor import snapshot
from envdoctor.facts import Facts
from envdoctor.judging import Judgement, bind, judge
from envdoctor.session import Doctor

FOLDER = Path(__file__).resolve().parents[1] / "cases"
DEFAULT_SOURCE = {"kind": "file", "where": "/a/case"}


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One machine or text."""

    name: str = ""
    text: str = ""
    facts: dict[str, dict[str, Any]] = {}
    unavailable: dict[str, str] = {}
    """Fact name -> reason."""
    symptoms: list[dict[str, Any]] = []
    subject: str | None = None
    severity: str | None = None
    confidence: str | None = None
    first: bool = False
    """Whether the rule's finding must be the first of all."""
    fix: str = ""
    """A regular expression that one of the finding's fixes must match."""


class CaseFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``tests/cases/<check>/<slug>.yaml``."""

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


@lru_cache(maxsize=1)
def doctor() -> Doctor:
    """The loaded checks, once per test run."""
    return Doctor()


def all_cases() -> list[Case]:
    """Every case of every file, in the order of the rules' ids."""
    return [case for path in sorted(FOLDER.glob("*/*.yaml")) for case in _read(path)]


def _read(path: Path) -> list[Case]:
    rule = f"{path.parent.name}/{path.stem}"
    try:
        file = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), CaseFile)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path.name} of {path.parent.name}: {error}") from error
    return [
        *(Case(rule, True, number, entry) for number, entry in enumerate(file.fires, 1)),
        *(Case(rule, False, number, entry) for number, entry in enumerate(file.silent, 1)),
    ]


def facts_of(entry: Entry) -> Facts:
    """The entry as facts: through the facts document where facts are given, through the readers where text is."""
    found = Facts()
    if entry.facts or entry.unavailable or entry.symptoms:
        document = {
            "schema": snapshot.SCHEMA,
            "recorded": {"at": "2026-01-01T00:00:00Z", "envdoctor": "0"},
            "facts": {name: {"source": DEFAULT_SOURCE, **fields} for name, fields in entry.facts.items()},
            "unavailable": {name: {"reason": reason} for name, reason in entry.unavailable.items()},
            "symptoms": entry.symptoms,
        }
        _, found = snapshot.decode(msgspec.json.encode(document), "case", doctor().checks)
        if found.unknown:
            raise ValueError(f"no loaded check knows {', '.join(sorted(found.unknown))}")
    if entry.text:
        found = found.merged(doctor().read(entry.text, "-").facts)
    return found


def judged(entry: Entry) -> Judgement:
    """What all loaded rules say of the entry."""
    return judge(bind(doctor().checks, facts_of(entry)))
