"""`Check`: what a plugin registers, and how its functions say by their annotations what they need and give.

A check collects probes, readers, messages, rules (with their signs), tables, headlines and views. Annotations are
read when they are first needed, so that loading a plugin stays cheap.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Generic, ParamSpec, TypeVar

import msgspec

from envdoctor.errors import PluginError
from envdoctor.facts import Fact, Printed, Symptom, Unavailable
from envdoctor.findings import Findings

P = ParamSpec("P")
Function = TypeVar("Function", bound=Callable[..., Any])


class Tier(enum.IntEnum):
    """How much a run may cost. QUICK: files, environment, ELF headers. DEFAULT: a second or two. DEEP: everything."""

    QUICK = 0
    DEFAULT = 1
    DEEP = 2


class Need(msgspec.Struct, frozen=True):
    """One parameter of an injected function: a fact type, a symptom kind, or something the engine itself hands in."""

    parameter: str
    kind: type
    optional: bool
    """``| None``: the function can do without."""
    accepts_unavailable: bool
    """``| Unavailable``: the function must tell *could not look* apart."""
    many: bool
    """``tuple[S, ...]``: every symptom of the kind at once, possibly none."""


def needs_of(function: Callable[..., Any]) -> tuple[Need, ...]:
    """What a function asks for, by its annotations. Raises `PluginError` for a parameter without a usable one."""
    hints = _hints(function)
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return tuple(_need(function, name, hints.get(name)) for name in names)


def gives_of(function: Callable[..., Any]) -> tuple[type[Fact], ...]:
    """The fact types in a function's return annotation (through tuples, unions and iterators)."""
    found: dict[type[Fact], None] = {}
    _collect_facts(_hints(function).get("return"), found)
    return tuple(found)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError) as error:
        raise PluginError(f"{function.__module__}.{function.__qualname__}: its annotations cannot be read: {error}") from error


def _need(function: Callable[..., Any], name: str, hint: Any) -> Need:
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    kinds = [part for part in parts if part not in (type(None), Unavailable)]
    many = len(kinds) == 1 and typing.get_origin(kinds[0]) is tuple
    kind = typing.get_args(kinds[0])[0] if many else kinds[0] if len(kinds) == 1 else None
    if not isinstance(kind, type):
        where = f"{function.__module__}.{function.__qualname__}"
        raise PluginError(f"{where}: parameter {name!r} must name one fact or symptom type, not {hint!r}")
    return Need(name, kind, type(None) in parts, Unavailable in parts, many)


def _collect_facts(hint: Any, found: dict[type[Fact], None]) -> None:
    if isinstance(hint, type) and not typing.get_args(hint):
        if issubclass(hint, Fact):
            found[hint] = None
        return
    for part in typing.get_args(hint):
        _collect_facts(part, found)


class Probe(msgspec.Struct, frozen=True):
    """Looks and never judges. Gives facts, `Printed` text, or raises `CouldNotLook`."""

    name: str
    function: Callable[..., Any]
    tier: Tier
    deadline: float
    """Seconds until the engine stops waiting for it."""

    def needs(self) -> tuple[Need, ...]:
        """What it asks for."""
        return needs_of(self.function)

    def gives(self) -> tuple[type[Fact], ...]:
        """The fact types it owes."""
        return gives_of(self.function)


class Reader(msgspec.Struct, frozen=True):
    """Reads facts out of a block of pasted text.

    A block is found by the command that was typed for it (`command`, matched against the command line) or by its own
    shape (`starts`, a regular expression for its first line; `ends`, for its last one).
    """

    name: str
    function: Callable[..., Any]
    command: str
    starts: str
    ends: str
    max_lines: int

    def gives(self) -> tuple[type[Fact], ...]:
        """The fact types it may give."""
        return gives_of(self.function)


class Message(msgspec.Struct, frozen=True):
    """A pattern in what programs print, the symptom it makes, and a sample that it must match."""

    name: str
    function: Callable[..., Any]
    regex: str
    needles: tuple[str, ...]
    """Lower-case substrings, one of which is on every matching line: the cheap first pass."""
    sample: str
    span: int
    """How many consecutive lines the pattern may cover."""


class Rule(Generic[P]):
    """Judges and never looks. One id, one page, one or more signs."""

    def __init__(self, check: str, function: Callable[P, Findings]) -> None:
        self.check = check
        self.id = f"{check}/{dashed(function.__name__)}"
        self.function = function
        self.signs: list[Callable[..., Findings]] = [function]

    @property
    def summary(self) -> str:
        """The first line of the rule's docstring: the cause, in the user's terms."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    def sign(self, function: Function) -> Function:
        """Register another way of seeing the same cause: other facts, or a printed message."""
        self.signs.append(function)
        return function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Findings:
        return self.function(*args, **kwargs)


class Check:
    """A plugin: everything it registers, in the order of registration. Export one by the entry-point group
    ``envdoctor.checks``.

    `name` is the area of its rule ids; `title` one line for listings; `package` where its ``docs/`` folder lives.
    """

    def __init__(self, name: str, title: str, *, package: str) -> None:
        self.name = name
        self.title = title
        self.package = package
        self.probes: list[Probe] = []
        self.readers: list[Reader] = []
        self.messages: list[Message] = []
        self.rules: list[Rule[Any]] = []
        self.tables: list[Callable[[], Fact]] = []
        self.headlines: list[Callable[..., Any]] = []
        self.views: list[Callable[..., Any]] = []
        self.applies: Callable[..., str | None] | None = None

    def probe(self, *, tier: Tier = Tier.DEFAULT, deadline: float = 5.0) -> Callable[[Function], Function]:
        """Register a function that looks: ``(host: Host, other facts by type) -> facts``."""

        def register(function: Function) -> Function:
            self.probes.append(Probe(f"{self.name}.{dashed(function.__name__)}", function, tier, deadline))
            return function

        return register

    def reader(
        self, *, command: str = "", starts: str = "", ends: str = "", max_lines: int = 4000
    ) -> Callable[[Function], Function]:
        """Register a function ``(block: FoundBlock) -> facts`` for blocks of pasted text."""
        if not command and not starts:
            raise PluginError(f"a reader of {self.name!r} names neither a command nor a first line")

        def register(function: Function) -> Function:
            name = f"{self.name}.{dashed(function.__name__)}"
            self.readers.append(Reader(name, function, command, starts, ends, max_lines))
            return function

        return register

    def message(
        self, regex: str, *, needles: Iterable[str] | str, sample: str, span: int = 1
    ) -> Callable[[Function], Function]:
        """Register a pattern; the decorated ``(match: re.Match[str]) -> Symptom | None`` makes the symptom."""
        small = tuple(each.lower() for each in ((needles,) if isinstance(needles, str) else needles))

        def register(function: Function) -> Function:
            name = f"{self.name}.{dashed(function.__name__)}"
            self.messages.append(Message(name, function, regex, small, sample, span))
            return function

        return register

    def rule(self, function: Callable[P, Findings]) -> Rule[P]:
        """Register a generator of findings over the facts that its parameters name by type."""
        rule = Rule(self.name, function)
        self.rules.append(rule)
        return rule

    def table(self, function: Function) -> Function:
        """Register ``() -> Fact``: knowledge that a rule asks for by type, loaded when the first such rule runs."""
        self.tables.append(function)
        return function

    def headline(self, function: Function) -> Function:
        """Register ``(facts by type) -> Iterable[Headline]``: rows of the one-screen summary of the machine."""
        self.headlines.append(function)
        return function

    def view(self, function: Function) -> Function:
        """Register ``(facts by type) -> View``: a table, tree or gauges that text, the TUI and JSON show as data."""
        self.views.append(function)
        return function

    def applicable(self, function: Function) -> Function:
        """Register ``(facts by type) -> str | None``: why this check has nothing to say here, or None if it has."""
        self.applies = function
        return function

    def fact_types(self) -> dict[str, type[Fact]]:
        """Every fact type that its probes and readers may give, by name."""
        makers = [probe.function for probe in self.probes] + [reader.function for reader in self.readers]
        return {kind.fact_name: kind for maker in makers for kind in gives_of(maker)}

    def symptom_types(self) -> dict[str, type[Symptom]]:
        """Every symptom kind that its messages may give, by name."""
        found: dict[str, type[Symptom]] = {}
        for message in self.messages:
            hint = _hints(message.function).get("return")
            for part in typing.get_args(hint) or (hint,):
                if isinstance(part, type) and issubclass(part, Symptom):
                    found[part.symptom_name] = part
        return found


class Headline(msgspec.Struct, frozen=True):
    """One row of the machine's summary: ``driver``, ``580.65.06 (CUDA 13.0)``. Rows with lower `order` come first."""

    label: str
    value: str
    order: int = 50


class View(msgspec.Struct, frozen=True):
    """A table as data: what text, JSON and the TUI show of a check beyond its findings."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def dashed(name: str) -> str:
    """``too_old_for_torch`` -> ``too-old-for-torch``."""
    return name.strip("_").replace("_", "-")


__all__ = ["Check", "Headline", "Message", "Need", "Printed", "Probe", "Reader", "Rule", "Tier", "View"]
