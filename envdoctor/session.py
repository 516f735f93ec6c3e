"""One run of envdoctor: plugins -> facts (live, recorded, pasted) -> judgement -> report. What the commands call."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import msgspec

from envdoctor import core_check, plugins, snapshot
from envdoctor.check import Check, Headline, Tier, View, needs_of
from envdoctor.engine import Look, Looked, ProbeEvent
from envdoctor.errors import UsageError
from envdoctor.facts import Facts, Printed, Source, Symptom
from envdoctor.host import Host
from envdoctor.injecting import Missing, call_with
from envdoctor.judging import Judgement, bind, judge, ranked
from envdoctor.outcomes import explains
from envdoctor.report import (
    MachineRow,
    PassedOver,
    PluginEntry,
    Report,
    Selection,
    TargetEntry,
    ViewEntry,
    build_report,
    our_tool,
)
from envdoctor.standing import check_entries
from envdoctor.target import Target, TargetPaths, choose

if TYPE_CHECKING:
    from envdoctor.asked import Asked
    from envdoctor.reading import Messages

OnEvent = Callable[[ProbeEvent], None]


def _ignore(event: ProbeEvent) -> None:
    """Nobody is watching."""


class Seen(msgspec.Struct, frozen=True):
    """The facts of a machine and where they came from."""

    facts: Facts
    target: TargetEntry
    looked: Looked | None = None
    """How the probes fared; None for recordings and texts."""
    broken_readers: dict[str, str] = {}
    """Reader -> exception."""
    not_the_environment: bool = False
    """Whether a text ends in an error of the program's own."""


class Doctor:
    """The loaded checks, the core's own first, and everything that can be done with them."""

    def __init__(self, found: plugins.Plugins | None = None) -> None:
        self.plugins = found or plugins.load()
        self.checks: tuple[Check, ...] = (core_check.check, *self.plugins.checks)
        self._messages: Messages | None = None

    def rule_ids(self) -> tuple[str, ...]:
        """Every rule id of every loaded check."""
        return tuple(rule.id for check in self.checks for rule in check.rules)

    def verify_selection(self, selection: Selection) -> None:
        """Raise `UsageError` for an id or area that no loaded check has, with the nearest that exist."""
        areas = {check.name for check in self.checks}
        ids = set(self.rule_ids())
        for pattern in (*selection.select, *selection.ignore):
            if pattern not in ids and pattern not in areas:
                raise UsageError(unknown_rule(pattern, sorted(ids | areas)))

    def look(
        self,
        host: Host,
        *,
        tier: Tier,
        python: str | None = None,
        budget: float = math.inf,
        asked: Asked | None = None,
        area: str | None = None,
        on_event: OnEvent = _ignore,
    ) -> Seen:
        """Look at the live machine for at most `budget` seconds, then try what the findings leave open.

        With `area` only what that check and its facts need is looked at, and nothing is tried.
        Raises `UsageError` for a named interpreter that is not there.
        """
        from envdoctor.probing.stranger import run_stranger

        host.ends = time.monotonic() + budget
        self._get_ready()
        seed = Facts.of(choose(host, python), *([asked] if asked else []))
        only = None if area is None else self._needed_by(area)
        strangers = dict.fromkeys(self.plugins.strangers(), run_stranger)

        def look(seed: Facts, trials: bool) -> Looked:
            run = Look(
                self.checks,
                host,
                tier=tier,
                seed=seed,
                run_stranger=strangers,
                match=self._read_printed,
                budget=host.remaining(),
                trials=trials,
                only=only,
                spared=self._explained(seed) if trials and tier is Tier.DEFAULT else None,
            )
            for event in run:
                on_event(event)
            return run.result

        looked = look(seed, trials=False)
        if area is None:
            looked = looked.then(look(looked.facts, trials=True))
        state = core_check.state_of(
            tuple(check.name for check in self.plugins.checks), self._broken(), looked.crashed, looked.late
        )
        facts = looked.facts.merged(Facts.of(state))
        return Seen(facts, _target_entry(facts, "live"), looked)

    def _get_ready(self) -> None:
        """Import what judges, and read its annotations, on a thread of its own: meanwhile the machine answers."""

        def load() -> None:
            with suppress(Exception):  # what fails here fails again, and is told, where it is asked for
                for check in self.checks:
                    for rule in check.rules:
                        for sign in rule.signs:
                            needs_of(sign)

        with suppress(RuntimeError):  # the limit of threads is reached
            threading.Thread(target=load, daemon=True).start()

    def _needed_by(self, area: str) -> frozenset[str]:
        """The probes of a check, and those whose facts its probes, rules and views ask for, however indirectly."""
        probes = [probe for check in self.checks for probe in check.probes]
        own = [check for check in self.checks if check.name in (area, core_check.check.name)]
        functions = [sign for check in own for rule in check.rules for sign in rule.signs]
        functions += [view for check in own for view in check.views]
        wanted = {need.kind for function in functions for need in needs_of(function)}
        chosen = {probe.name: probe for check in own for probe in check.probes}
        grown = True
        while grown:
            wanted |= {need.kind for probe in chosen.values() for need in probe.needs()}
            more = {each.name: each for each in probes if wanted.intersection(each.gives())}
            grown = not more.keys() <= chosen.keys()
            chosen |= more
        return frozenset(chosen)

    def _explained(self, facts: Facts) -> dict[str, str]:
        """The probes whose trial would fail, by name, and the rule that says why."""
        causes = [each for each in judge(bind(self.checks, facts)).findings if each.finding.may_explain]
        spared: dict[str, str] = {}
        for probe in (probe for check in self.checks for probe in check.probes):
            for found in causes:
                if any(explains(broken, tried) for broken in found.finding.breaks for tried in probe.tries):
                    spared.setdefault(probe.name, f"{found.rule} says why it would fail; --deep tries it")
        return spared

    def _read_printed(self, printed: Printed) -> tuple[Symptom, ...]:
        """What a probe heard a program print."""
        return self.messages().printed(printed)

    def messages(self) -> Messages:
        """All messages of all checks. The text machinery is imported when there is something to read."""
        from envdoctor.reading import Messages

        if self._messages is None:
            self._messages = Messages(self.checks)
        return self._messages

    def _broken(self) -> tuple[core_check.Broken, ...]:
        return tuple(
            core_check.Broken(each.entry_point.name, each.entry_point.distribution, each.error)
            for each in self.plugins.broken
        )

    def recorded(self, names: Iterable[str], asked: Asked | None = None) -> Seen:
        """Facts from one or more recordings, later ones on top, and what is asked now. Raises `DocumentError`."""
        facts, at = Facts(), ""
        for name in names:
            document, more = snapshot.decode(snapshot.read_file(name), name, self.checks)
            facts, at = facts.merged(more), document.recorded.at
        if asked is not None:
            facts = facts.merged(Facts.of(asked))
        return Seen(snapshot.not_judged(facts), _target_entry(facts, "facts", at))

    def read(self, text: str, name: str) -> Seen:
        """Facts and symptoms of a pasted text."""
        from envdoctor.reading import read_text

        reading = read_text(text, name, self.checks, self.messages())
        return Seen(
            reading.facts,
            _target_entry(reading.facts, "text"),
            broken_readers=reading.broken,
            not_the_environment=reading.application_error is not None,
        )

    def report(self, seen: Seen, selection: Selection) -> Report:
        """Judge the facts and build the document."""
        judgement = judge(bind(self.checks, seen.facts))
        machine, broken = self._shown(seen.facts, lambda check: check.headlines)
        views, more = self._shown(seen.facts, lambda check: check.views)
        return build_report(
            tool=our_tool(self._plugin_entries()),
            target=seen.target,
            machine=_machine(row for _, row in machine),
            views=tuple(
                ViewEntry(check, view.title, view.columns, view.rows, view.depths) for check, view in views
            ),
            judgement=_with_crashes(judgement, seen.broken_readers, broken | more),
            facts=seen.facts,
            checks=check_entries(self.checks, seen.facts, judgement, seen.looked),
            selection=selection,
            not_the_environment=seen.not_the_environment,
        )

    def _plugin_entries(self) -> Iterable[PluginEntry]:
        for check in self.plugins.checks:
            origin = self.plugins.origins[check.name]
            yield PluginEntry(check.name, origin.distribution, origin.version)

    def _shown(
        self, facts: Facts, wanted: Callable[[Check], Iterable[Callable[..., Any]]]
    ) -> tuple[list[tuple[str, Any]], dict[str, str]]:
        """What the headlines or views give, each with its check, and those checks of which one broke."""
        shown: list[tuple[str, Any]] = []
        broken: dict[str, str] = {}
        for check in self.checks:
            for function in wanted(check):
                try:
                    given = call_with(function, facts)
                    several = (given,) if isinstance(given, View) else () if given is None else given
                    shown.extend((check.name, each) for each in several)
                except Missing:
                    continue
                except Exception as error:
                    broken[check.name] = f"{type(error).__name__}: {error}"
        return shown, broken


def _machine(headlines: Iterable[Headline]) -> Iterable[MachineRow]:
    return (MachineRow(each.label, each.value) for each in sorted(headlines, key=lambda row: row.order))


def _with_crashes(judgement: Judgement, readers: dict[str, str], headlines: dict[str, str]) -> Judgement:
    """What broke while judging is itself judged, by the core's own rules."""
    if not judgement.crashed and not readers and not headlines:
        return judgement
    crashes = core_check.Crashes(
        rules=judgement.crashed, readers=readers, headlines=headlines, source=Source("call", "envdoctor")
    )
    more = judge(bind((core_check.check,), Facts.of(crashes)))
    everything = [(each.rule, each.finding) for each in (*judgement.findings, *more.findings)]
    return msgspec.structs.replace(judgement, findings=ranked(everything))


def _target_entry(facts: Facts, source: str, at: str | None = None) -> TargetEntry:
    target, paths = facts.get(Target), facts.get(TargetPaths)
    known = target if isinstance(target, Target) else None
    return TargetEntry(
        source=source,  # type: ignore[arg-type] # callers pass one of the three literals
        python=known.python if known else None,
        prefix=paths.prefix if isinstance(paths, TargetPaths) else None,
        why=known.why if known else "",
        passed_over=tuple(PassedOver(each.python, each.why) for each in known.passed_over) if known else (),
        recorded_at=at,
    )


def unknown_rule(pattern: str, known: Sequence[str]) -> str:
    """The error for an id that does not exist, with the nearest ones that do."""
    from difflib import get_close_matches

    near = get_close_matches(pattern, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`envdoctor rules` lists them"
    return f"{pattern!r} is no rule and no area; {hint}"


def now() -> str:
    """UTC, to the second, ISO 8601."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
