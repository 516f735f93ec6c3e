"""`Check`: what a plugin registers, and how its functions say by their annotations what they need and give.

A check collects probes, readers, messages, rules (with their signs), tables, headlines and views. Annotations
are read when they are first needed, so that loading a plugin stays cheap.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from typing import Any, Generic, ParamSpec, TypeVar

import msgspec

from envdoctor.errors import PluginError
from envdoctor.facts import Fact, Printed, Symptom, Unavailable
from envdoctor.host import Host
from envdoctor.outcomes import Outcome

if typing.TYPE_CHECKING:
    from envdoctor.findings import Findings

P = ParamSpec("P")
Base = TypeVar("Base")
Function = TypeVar("Function", bound=Callable[..., Any])


class Tier(enum.IntEnum):
    """How much a run may cost.

    QUICK: files, environment, ELF headers. DEFAULT: a second or two. DEEP: everything.
    """

    QUICK = 0
    DEFAULT = 1
    DEEP = 2


class Need(msgspec.Struct, frozen=True):
    """One parameter of an injected function: a fact type, a symptom kind, or the `Host`."""

    parameter: str
    kind: type
    optional: bool
    """``| None``: the function can do without."""
    accepts_unavailable: bool
    """``| Unavailable``: the function must tell *could not look* apart."""
    many: bool
    """``tuple[S, ...]``: every symptom of the kind at once, possibly none."""


@cache
def needs_of(function: Callable[..., Any]) -> tuple[Need, ...]:
    """What a function asks for, by its annotations. Raises `PluginError` where they are of no use."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_kwonlyargcount:
        raise PluginError(f"{_where(function)} must be a plain function without keyword-only parameters")
    hints = _hints(function)
    return tuple(_need(function, name, hints.get(name)) for name in code.co_varnames[: code.co_argcount])


@cache
def gives_of(function: Callable[..., Any]) -> tuple[type[Fact], ...]:
    """The fact types in a function's return annotation (through tuples, unions and iterators)."""
    given = tuple(dict.fromkeys(_classes(_hints(function).get("return"), Fact)))
    if Fact in given:
        raise PluginError(f"{_where(function)} must name the fact types that it gives, not Fact")
    return given


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """A function's annotations as objects: what `typing.get_type_hints` gives for them, in a tenth of its time."""
    names = getattr(function, "__globals__", {})
    try:
        return {name: _evaluated(hint, names) for name, hint in function.__annotations__.items()}
    except Exception as error:  # a name that is missing, a subscript that fails: an annotation is a program
        message = f"{_where(function)}: its annotations cannot be read: {type(error).__name__}: {error}"
        raise PluginError(message) from error


def _evaluated(hint: Any, names: dict[str, Any]) -> Any:
    if not isinstance(hint, str):
        return hint
    found = names.get(hint)  # most annotations are one name, and most others stand many times in their module
    if found is None:
        _, known = _seen.setdefault(id(names), (names, {}))
        if hint not in known:
            known[hint] = eval(hint, names)  # noqa: S307 - the module's own annotation
        found = known[hint]
    return found


_seen: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
"""By the identity of a module's names, which are held here so that no other may take it: hint -> object."""


def _where(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', function)}"


def _need(function: Callable[..., Any], name: str, hint: Any) -> Need:
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    kinds = [part for part in parts if part not in (type(None), Unavailable)]
    many = len(kinds) == 1 and typing.get_origin(kinds[0]) is tuple
    kind = typing.get_args(kinds[0])[0] if many else kinds[0] if len(kinds) == 1 else None
    if not isinstance(kind, type) or not issubclass(kind, Symptom if many else (Fact, Symptom, Host)):
        raise PluginError(
            f"{_where(function)}: parameter {name!r} must name one fact or symptom type, not {hint!r}"
        )
    if kind is Fact or (kind is Symptom and not many):
        raise PluginError(
            f"{_where(function)}: parameter {name!r} must name a type of its own, not any {kind.__name__}"
        )
    return Need(name, kind, type(None) in parts, Unavailable in parts, many)


def _classes(hint: Any, base: type[Base]) -> Iterator[type[Base]]:
    """The subclasses of `base` that an annotation names, however deep."""
    inner = typing.get_args(hint)
    if not inner and isinstance(hint, type) and issubclass(hint, base):
        yield hint
    for part in inner:
        yield from _classes(part, base)


class Probe(msgspec.Struct, frozen=True):
    """Looks and never judges. Gives facts, `Printed` text, or raises `CouldNotLook`."""

    name: str
    function: Callable[..., Any]
    tier: Tier
    deadline: float
    """Seconds until the engine stops waiting for it."""
    tries: tuple[Outcome, ...] = ()
    """What it tries to have. It then starts when all others have looked, and not at all where a finding already
    says why it would fail."""

    def needs(self) -> tuple[Need, ...]:
        """What it asks for."""
        return needs_of(self.function)

    def gives(self) -> tuple[type[Fact], ...]:
        """The fact types it owes."""
        return gives_of(self.function)


class Reader(msgspec.Struct, frozen=True):
    """Reads facts out of a block of pasted text.

    A block is found by the command that was typed for it (`command`, matched against the command line) or by
    its own shape (`starts`, a regular expression for its first line; `ends`, for its last one).
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
        """Run the rule itself, as a test would."""
        return self.function(*args, **kwargs)


class Check:
    """A plugin: everything it registers, in the order of registration. Export one by the entry-point group
    ``envdoctor.checks``.

    `name` is the area of its rule ids; `title` one line for listings; `package` where its ``docs/`` lives.
    """

    def __init__(self, name: str, title: str, *, package: str) -> None:
        self.name = name
        self.title = title
        self.package = package
        self._probes: list[Probe] = []
        self._readers: list[Reader] = []
        self._messages: list[Message] = []
        self._rules: list[Rule[Any]] = []
        self._tables: list[Callable[[], Fact]] = []
        self._headlines: list[Callable[..., Any]] = []
        self._views: list[Callable[..., Any]] = []
        self._later_probes: list[str] = []
        self._later_text: list[str] = []
        self._later_judging: list[str] = []
        self.applies: Callable[..., str | None] | None = None

    @property
    def probes(self) -> tuple[Probe, ...]:
        """What it looks with. Modules that were left for later are imported now."""
        self._import(self._later_probes)
        return tuple(self._probes)

    @property
    def readers(self) -> tuple[Reader, ...]:
        """What reads blocks of pasted text. Modules that were left for later are imported now."""
        self._import(self._later_text)
        return tuple(self._readers)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The patterns of what programs print. Modules that were left for later are imported now."""
        self._import(self._later_text)
        return tuple(self._messages)

    @property
    def rules(self) -> tuple[Rule[Any], ...]:
        """What judges. Modules that were left for later are imported now, here and in the next three."""
        self._import(self._later_judging)
        return tuple(self._rules)

    @property
    def tables(self) -> tuple[Callable[[], Fact], ...]:
        """The knowledge that rules ask for."""
        self._import(self._later_judging)
        return tuple(self._tables)

    @property
    def headlines(self) -> tuple[Callable[..., Any], ...]:
        """What makes rows of the machine's summary."""
        self._import(self._later_judging)
        return tuple(self._headlines)

    @property
    def views(self) -> tuple[Callable[..., Any], ...]:
        """What makes tables for the report."""
        self._import(self._later_judging)
        return tuple(self._views)

    @property
    def gives_facts(self) -> bool:
        """Whether it has any probe or reader."""
        return bool(self._probes or self._readers or self._later_probes or self._later_text)

    def later(
        self, *, probes: Iterable[str] = (), text: Iterable[str] = (), judging: Iterable[str] = ()
    ) -> None:
        """Name modules of this check's package that register nothing but probes, nothing but readers and messages, or
        nothing but rules, tables, headlines and views.

        They are imported when somebody asks for those: a text is judged without probes, a machine is looked at
        without readers, and what judges is loaded while the machine answers.
        """
        self._later_probes += [f"{self.package}.{module}" for module in probes]
        self._later_text += [f"{self.package}.{module}" for module in text]
        self._later_judging += [f"{self.package}.{module}" for module in judging]

    @staticmethod
    def _import(modules: list[str]) -> None:
        for module in tuple(modules):  # two threads may be here: import_module lets each wait for the other
            import_module(module)
        modules.clear()

    def probe(
        self, *, tier: Tier = Tier.DEFAULT, deadline: float = 5.0, tries: Iterable[Outcome] = ()
    ) -> Callable[[Function], Function]:
        """Register a function that looks: ``(host: Host, other facts by type) -> facts``."""

        def register(function: Function) -> Function:
            name = f"{self.name}.{dashed(function.__name__)}"
            self._probes.append(Probe(name, function, tier, deadline, tuple(tries)))
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
            self._readers.append(Reader(name, function, command, starts, ends, max_lines))
            return function

        return register

    def message(
        self, regex: str, *, needles: Iterable[str] | str, sample: str, span: int = 1
    ) -> Callable[[Function], Function]:
        """Register a pattern; the decorated ``(re.Match[str]) -> Symptom | None`` makes the symptom."""
        small = tuple(each.lower() for each in ((needles,) if isinstance(needles, str) else needles))

        def register(function: Function) -> Function:
            name = f"{self.name}.{dashed(function.__name__)}"
            self._messages.append(Message(name, function, regex, small, sample, span))
            return function

        return register

    def rule(self, function: Callable[P, Findings]) -> Rule[P]:
        """Register a generator of findings over the facts that its parameters name by type."""
        rule = Rule(self.name, function)
        self._rules.append(rule)
        return rule

    def table(self, function: Function) -> Function:
        """Register ``() -> Fact``: knowledge that rules ask for by type, loaded when the first one runs."""
        self._tables.append(function)
        return function

    def headline(self, function: Function) -> Function:
        """Register ``(facts by type) -> Iterable[Headline]``: rows of the machine's one-screen summary."""
        self._headlines.append(function)
        return function

    def view(self, function: Function) -> Function:
        """Register ``(facts by type) -> View``: a table that text, JSON and the TUI show."""
        self._views.append(function)
        return function

    def applicable(self, function: Function) -> Function:
        """Register ``(facts by type) -> str | None``: why this check has nothing to say here, if so."""
        self.applies = function
        return function

    def fact_types(self) -> dict[str, type[Fact]]:
        """Every fact type that its probes and readers may give, by name."""
        makers = [probe.function for probe in self.probes] + [reader.function for reader in self.readers]
        return {kind.fact_name: kind for maker in makers for kind in gives_of(maker)}

    def symptom_types(self) -> dict[str, type[Symptom]]:
        """Every symptom kind that its messages, probes and readers may give, by name."""
        registered: tuple[Message | Probe | Reader, ...] = (*self.messages, *self.probes, *self.readers)
        makers = [each.function for each in registered]
        kinds = (kind for maker in makers for kind in _classes(_hints(maker).get("return"), Symptom))
        return {kind.symptom_name: kind for kind in kinds}


class Headline(msgspec.Struct, frozen=True):
    """A row of the machine's summary: ``driver``, ``580.65.06 (CUDA 13.0)``. Lower `order` comes first."""

    label: str
    value: str
    order: int = 50


class View(msgspec.Struct, frozen=True):
    """A table as data: what text, JSON and the TUI show of a check beyond its findings."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    depths: tuple[int, ...] = ()
    """For a tree: how deep each row stands; empty for a plain table."""


def dashed(name: str) -> str:
    """``too_old_for_torch`` -> ``too-old-for-torch``."""
    return name.strip("_").replace("_", "-")


__all__ = ["Check", "Headline", "Message", "Need", "Printed", "Probe", "Reader", "Rule", "Tier", "View"]
