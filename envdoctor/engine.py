"""`look` at a machine with every probe, and `judge` the facts with every rule.

Looking is concurrent and bounded: each probe runs on a daemon thread that nobody joins, so that one stuck in a dead
mount costs its deadline and no more. Judging is pure: it opens, lists, runs and connects to nothing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from envdoctor.check import Check, Need, Probe, Tier
from envdoctor.facts import CouldNotLook, Fact, Facts, Printed, Source, Symptom, Unavailable
from envdoctor.host import Host

Stranger = Callable[[Check, Probe, Host, Facts], list[Any]]
"""Runs a stranger's probe in a child and brings back what it gave."""


class ProbeEvent(msgspec.Struct, frozen=True):
    """A probe started (`seconds` is None) or ended."""

    check: str
    probe: str
    seconds: float | None = None


class NotTried(msgspec.Struct, frozen=True):
    """A probe that this run did not ask for, and the flag that would."""

    probe: str
    reason: str


class Looked(msgspec.Struct, frozen=True):
    """The end of `look`: the facts, what went wrong in the probes themselves, and what was not tried."""

    facts: Facts
    crashed: dict[str, str]
    """Probe -> the exception, for probes that broke rather than being kept from looking."""
    late: dict[str, float]
    """Probe -> its deadline in seconds."""
    not_tried: tuple[NotTried, ...]
    seconds: dict[str, float]


class _Job(msgspec.Struct):
    check: Check
    probe: Probe
    needs: tuple[Need, ...]
    gives: tuple[type[Fact], ...]
    started: float | None = None


class Look:
    """One look at a machine. Iterate for `ProbeEvent`s; `result` stands when the iteration has ended."""

    def __init__(
        self,
        checks: Sequence[Check],
        host: Host,
        *,
        tier: Tier,
        seed: Facts | None = None,
        run_stranger: dict[str, Stranger] | None = None,
        match: Callable[[Printed], tuple[Symptom, ...]] | None = None,
    ) -> None:
        self._host = host
        self._tier = tier
        self._strangers = run_stranger or {}
        self._match = match
        self._waiting = [
            _Job(check, probe, probe.needs(), probe.gives())
            for check in checks
            for probe in check.probes
            if probe.tier <= tier
        ]
        self._running: list[_Job] = []
        self._answers: queue.SimpleQueue[tuple[_Job, list[Any] | BaseException]] = queue.SimpleQueue()
        self._facts = seed or Facts()
        self._crashed: dict[str, str] = {}
        self._late: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._not_tried = tuple(
            NotTried(probe.name, f"not tried; --{'deep' if probe.tier is Tier.DEEP else 'quick left it out'}")
            for check in checks
            for probe in check.probes
            if probe.tier > tier
        )

    @property
    def result(self) -> Looked:
        """What was seen."""
        return Looked(self._facts, self._crashed, self._late, self._not_tried, self._seconds)

    def __iter__(self) -> Iterator[ProbeEvent]:
        while self._waiting or self._running:
            yield from self._start_ready()
            if not self._running:
                self._give_up_waiting()
                continue
            yield from self._next_answer()

    def _start_ready(self) -> Iterator[ProbeEvent]:
        """Start every probe whose facts are in, or will not come any more."""
        owed = {kind for job in (*self._waiting, *self._running) for kind in job.gives}
        for job in list(self._waiting):
            if any(need.kind in owed and need.kind not in job.gives for need in job.needs if need.kind is not Host):
                continue
            self._waiting.remove(job)
            blocked = self._blocked_by(job)
            if blocked is not None:
                self._note_unavailable(job, blocked.reason, blocked.would_allow)
                continue
            if self._arguments(job) is None:
                continue  # a fact that this run does not record: what would come of it is not recorded either
            job.started = time.monotonic()
            self._running.append(job)
            yield ProbeEvent(job.check.name, job.probe.name)
            threading.Thread(target=self._run, args=(job,), daemon=True, name=job.probe.name).start()

    def _give_up_waiting(self) -> None:
        """Probes that wait for one another in a circle will never start: say so rather than hang."""
        for job in self._waiting:
            self._crashed[job.probe.name] = "it waits for facts that wait for its own"
        self._waiting.clear()

    def _blocked_by(self, job: _Job) -> Unavailable | None:
        for need in job.needs:
            if need.kind is Host or need.optional or need.accepts_unavailable or not issubclass(need.kind, Fact):
                continue
            found = self._facts.get(need.kind)
            if isinstance(found, Unavailable):
                return found
        return None

    def _arguments(self, job: _Job) -> list[Any] | None:
        values: list[Any] = []
        for need in job.needs:
            if need.kind is Host:
                values.append(self._host)
                continue
            found = self._facts.get(need.kind)
            if isinstance(found, Unavailable) and not need.accepts_unavailable:
                found = None
            if found is None and not need.optional:
                return None
            values.append(found)
        return values

    def _run(self, job: _Job) -> None:
        """On the probe's own thread: whatever comes of it goes into the queue."""
        try:
            stranger = self._strangers.get(job.check.name)
            if stranger is not None:
                self._answers.put((job, stranger(job.check, job.probe, self._host, self._facts)))
            else:
                self._answers.put((job, flatten(job.probe.function(*(self._arguments(job) or ())))))
        except BaseException as error:  # noqa: BLE001 # even SystemExit from a plugin must not vanish with the thread
            self._answers.put((job, error))

    def _next_answer(self) -> Iterator[ProbeEvent]:
        """Wait for one answer, at most until the nearest deadline."""
        now = time.monotonic()
        nearest = min(self._running, key=lambda job: (job.started or now) + job.probe.deadline)
        patience = (nearest.started or now) + nearest.probe.deadline - now
        try:
            job, answer = self._answers.get(timeout=max(patience, 0.001))
        except queue.Empty:
            if patience > 0:
                return
            job, answer = nearest, TimeoutError()
        if job not in self._running:
            return  # it was late, and its facts have been reported as such
        self._running.remove(job)
        self._seconds[job.probe.name] = time.monotonic() - (job.started or now)
        self._accept(job, answer)
        yield ProbeEvent(job.check.name, job.probe.name, self._seconds[job.probe.name])

    def _accept(self, job: _Job, answer: list[Any] | BaseException) -> None:
        if isinstance(answer, CouldNotLook):
            self._note_unavailable(job, answer.reason, answer.would_allow)
        elif isinstance(answer, TimeoutError):
            self._late[job.probe.name] = job.probe.deadline
            self._note_unavailable(job, f"no answer within {job.probe.deadline:g} s")
        elif isinstance(answer, BaseException):
            if isinstance(answer, KeyboardInterrupt):
                raise answer
            self._crashed[job.probe.name] = f"{type(answer).__name__}: {answer}"
            self._note_unavailable(job, f"the probe failed: {type(answer).__name__}: {answer}")
        else:
            self._facts = self._facts.merged(gathered(answer, self._match))

    def _note_unavailable(self, job: _Job, reason: str, would_allow: str = "") -> None:
        hidden = {kind: Unavailable(kind.fact_name, reason, would_allow) for kind in job.gives}
        self._facts = Facts(unavailable=hidden).merged(self._facts)


def flatten(given: Any) -> list[Any]:
    """What a probe or reader returned, as a list: one thing, None, or an iterable of things."""
    if given is None:
        return []
    if isinstance(given, (Fact, Symptom, Unavailable, Printed)):
        return [given]
    return [each for part in given for each in flatten(part)]


def gathered(
    things: Iterable[Any],
    match: Callable[[Printed], tuple[Symptom, ...]] | None = None,
    types: dict[str, type[Fact]] | None = None,
) -> Facts:
    """Facts from what probes and readers gave. `Unavailable`s are sorted to their type by name (`types`, or any known)."""
    known: dict[type[Fact], Fact] = {}
    hidden: dict[type[Fact], Unavailable] = {}
    symptoms: list[Symptom] = []
    for thing in things:
        if isinstance(thing, Fact):
            known[type(thing)] = thing
        elif isinstance(thing, Symptom):
            symptoms.append(thing)
        elif isinstance(thing, Printed):
            symptoms.extend(match(thing) if match else ())
        elif isinstance(thing, Unavailable):
            kind = (types or {}).get(thing.fact) or _type_named(thing.fact)
            if kind is not None:
                hidden[kind] = thing
        else:
            raise TypeError(f"a probe gave {type(thing).__name__}, which is no fact")
    return Facts(known, hidden, tuple(symptoms))


def _type_named(name: str) -> type[Fact] | None:
    """The loaded fact type of that name."""
    todo: list[type[Fact]] = list(Fact.__subclasses__())
    while todo:
        kind = todo.pop()
        if kind.fact_name == name:
            return kind
        todo.extend(kind.__subclasses__())
    return None


__all__ = ["Look", "Looked", "NotTried", "ProbeEvent", "Source", "flatten", "gathered"]
