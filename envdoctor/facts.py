"""Facts: what was seen of a machine, small, frozen and known as a whole.

Three absences are kept apart and never mix:

* *not there* - the fact is present and its field is ``None``: we looked, and there is nothing;
* *could not look* - the fact's type is mapped to an `Unavailable`, with the reason and what would allow it;
* *not recorded* - the type is in neither map: nobody asked (pasted text, a quick run, an older recording).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, TypeVar

import msgspec

SourceKind = Literal["file", "env", "call", "child", "text", "table"]


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """How something is known: a file, a variable, a call into a library, a child's answer or a pasted text."""

    kind: SourceKind
    where: str = ""
    """The path, the variable, the function or the program; for text, the file's name or ``-``."""
    line: int | None = None
    """1-based line in `where`, as the user's editor counts."""


class Evidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fact shown to the user in support of a finding."""

    fact: str
    """A short label in the field's terms, such as ``driver release``."""
    value: str
    source: Source | None = None


class Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every fact type. A subclass sets ``fact_name = "<area>.<dashed-name>"``, which is public and stable.

    If a fact is present, every field of it was looked at, and ``None`` means *not there*.
    New knowledge is a new type, not a new field of an old one.
    """

    fact_name: ClassVar[str] = ""
    source: Source

    def shows(self, label: str, value: object) -> Evidence:
        """Evidence drawn from this fact."""
        return Evidence(label, str(value), self.source)

    def joined(self, later: Any) -> Any:
        """This fact and a `later` one of its type, read from the same text: the later one, unless a type adds up."""
        return later


class Symptom(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what programs print, parsed into a kind with fields. One machine may show many of one kind.

    Two symptoms are the same when all but `quote`, `source` and `times` agree.
    """

    symptom_name: ClassVar[str] = ""
    quote: str = ""
    """The line as it was printed, cleaned of escapes and prefixes."""
    source: Source = Source("text")
    times: int = 1
    """How often it was seen."""

    def evidence(self, label: str = "message") -> Evidence:
        """The printed line itself as evidence."""
        return Evidence(label, self.quote, self.source)


class Printed(msgspec.Struct, frozen=True):
    """Text that a probe heard a program print. The engine reads every check's messages out of it."""

    text: str
    source: Source


class Unavailable(msgspec.Struct, frozen=True, omit_defaults=True):
    """*Could not look*: the fact type exists for this machine, and something kept us from reading it."""

    fact: str
    reason: str
    would_allow: str = ""
    """What the user could do so that we can look: a command, a flag, a right. Empty when nothing would."""


class CouldNotLook(Exception):
    """Raised by a probe that was kept from looking; the engine turns it into `Unavailable` for each fact it owes."""

    def __init__(self, reason: str, would_allow: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.would_allow = would_allow


class LeftOut(Exception):
    """Raised by a probe that does not try something in this run; the reason names the flag that makes it try.

    Its facts are then *not recorded*: nothing was looked at, and nothing hides it.
    """


class Unknown(msgspec.Struct, frozen=True):
    """What a recording holds and no loaded check knows (a newer version's, a stranger's): kept, never judged."""

    facts: dict[str, Any] = {}
    """By fact name, as JSON-like values."""
    unavailable: dict[str, Unavailable] = {}
    """By fact name."""
    symptoms: tuple[dict[str, Any], ...] = ()
    """As they were written, each with its ``kind``."""

    def names(self) -> tuple[str, ...]:
        """The fact types and symptom kinds, once each."""
        kinds = (str(said["kind"]) for said in self.symptoms)
        return tuple(dict.fromkeys((*self.facts, *self.unavailable, *kinds)))

    def merged(self, other: Unknown) -> Unknown:
        """Both, with `other`'s on top."""
        return Unknown(
            {**self.facts, **other.facts},
            {**self.unavailable, **other.unavailable},
            self.symptoms + tuple(said for said in other.symptoms if said not in self.symptoms),
        )


F = TypeVar("F", bound=Fact)
S = TypeVar("S", bound=Symptom)


class Facts:
    """Everything known about one machine. Immutable; iteration order is the order of arrival."""

    __slots__ = ("_known", "_symptoms", "_unavailable", "unknown")

    def __init__(
        self,
        known: Mapping[type[Fact], Fact] | None = None,
        unavailable: Mapping[type[Fact], Unavailable] | None = None,
        symptoms: tuple[Symptom, ...] = (),
        unknown: Unknown | None = None,
    ) -> None:
        self._known = dict(known or {})
        self._unavailable = {
            kind: why for kind, why in (unavailable or {}).items() if kind not in self._known
        }
        self._symptoms = merge_symptoms(symptoms)
        self.unknown = unknown or Unknown()
        """What no loaded check knows: kept, never judged."""

    @classmethod
    def of(cls, *things: Fact | Symptom, unavailable: tuple[type[Fact], ...] = ()) -> Facts:
        """Facts from their instances, for tests and readers; `unavailable` types get a plain reason."""
        known = {type(thing): thing for thing in things if isinstance(thing, Fact)}
        said = tuple(thing for thing in things if isinstance(thing, Symptom))
        hidden = {kind: Unavailable(kind.fact_name, "not readable") for kind in unavailable}
        return cls(known, hidden, said)

    def get(self, kind: type[F]) -> F | Unavailable | None:
        """The fact, or why it could not be had, or None when it was never asked for."""
        fact = self._known.get(kind)
        if fact is not None:
            return fact  # type: ignore[return-value] # the map's key is the type of its value
        return self._unavailable.get(kind)

    def symptoms(self, kind: type[S]) -> tuple[S, ...]:
        """Every symptom of one kind, in the order it was first seen."""
        return tuple(said for said in self._symptoms if isinstance(said, kind))

    def __iter__(self) -> Iterator[Fact]:
        return iter(self._known.values())

    def all_symptoms(self) -> tuple[Symptom, ...]:
        """Every symptom, in the order it was first seen."""
        return self._symptoms

    def unavailable(self) -> Mapping[type[Fact], Unavailable]:
        """What could not be looked at, by fact type."""
        return self._unavailable

    def merged(self, other: Facts) -> Facts:
        """These facts with `other`'s on top: a known fact beats an unavailable one, a later one an earlier one."""
        return Facts(
            {**self._known, **other._known},
            {**self._unavailable, **other._unavailable},
            self._symptoms + other._symptoms,
            self.unknown.merged(other.unknown),
        )


def merge_symptoms(symptoms: tuple[Symptom, ...]) -> tuple[Symptom, ...]:
    """Fold equal symptoms into the first one, counting how often they were seen."""
    first: dict[tuple[Any, ...], Symptom] = {}
    for said in symptoms:
        key = symptom_key(said)
        seen = first.get(key)
        first[key] = said if seen is None else msgspec.structs.replace(seen, times=seen.times + said.times)
    return tuple(first.values())


def symptom_key(said: Symptom) -> tuple[Any, ...]:
    """What makes two symptoms the same: their kind and every field but where and how often they were seen."""
    own = (name for name in said.__struct_fields__ if name not in ("quote", "source", "times"))
    return (type(said), *(getattr(said, name) for name in own))
