"""`Look` at a machine with every probe, concurrently and bounded.

Each probe runs on a daemon thread that nobody joins: one stuck in a dead mount costs its deadline, no more.
A probe starts when the facts that it names are in, or will not come any more.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from envdoctor.check import Check, Need, Probe, Tier
from envdoctor.facts import Fact, Facts, LeftOut, Printed, Symptom, Unavailable
from envdoctor.host import could_not_look
from envdoctor.injecting import Missing, arguments_for

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from envdoctor.host import Host

    Stranger = Callable[[Check, Probe, Host, Facts], list[Any]]
    """Runs a stranger's probe in a child and brings back what it gave."""
    Match = Callable[[Printed], tuple[Symptom, ...]]
    """Reads the symptoms out of what a program printed."""

Named = TypeVar("Named", Fact, Symptom)
STRANGER_MARGIN = 5.0
"""Seconds beyond its probe's deadline for a stranger's child, to start and to be seen to its end."""


class ProbeEvent(msgspec.Struct, frozen=True):
    """A probe started (`seconds` is None) or ended."""

    check: str
    probe: str
    seconds: float | None = None


class NotTried(msgspec.Struct, frozen=True):
    """What this run did not try, and why: the flag that would."""

    probe: str
    reason: str


class Looked(msgspec.Struct, frozen=True):
    """The end of a look: the facts, what went wrong in the probes themselves, and what was not tried."""

    facts: Facts
    crashed: dict[str, str]
    """Probe -> the exception, for probes that broke rather than being kept from looking."""
    late: dict[str, float]
    """Probe -> the seconds it had."""
    not_tried: tuple[NotTried, ...]
    seconds: dict[str, float]

    def then(self, later: Looked) -> Looked:
        """This look and one that went on from its facts."""
        return Looked(
            later.facts,
            self.crashed | later.crashed,
            self.late | later.late,
            self.not_tried + later.not_tried,
            self.seconds | later.seconds,
        )


class ProbeBroke(Exception):
    """A stranger's probe that did not come to its end; the message says how."""


class ProbeLate(Exception):
    """The probe's time is up."""


class _Job(msgspec.Struct, eq=False):
    check: Check
    probe: Probe
    needs: tuple[Need, ...]
    gives: tuple[type[Fact], ...]
    deadline: float
    """Seconds until nobody waits for it any more."""
    started: float = 0.0


class _Answer(msgspec.Struct, frozen=True):
    facts: Facts
    crash: str = ""
    """What broke beside the facts: reading the messages in what a program printed."""


class Look:
    """One look at a machine. Iterate for `ProbeEvent`s; `result` stands when the iteration has ended.

    After `budget` seconds nothing more is started and nothing more is waited for. `trials`: the probes that try an
    outcome, else all others; `only` these are asked at all; `spared` are those not to be started, with the reason.
    """

    def __init__(
        self,
        checks: Sequence[Check],
        host: Host,
        *,
        tier: Tier,
        seed: Facts | None = None,
        run_stranger: Mapping[str, Stranger] | None = None,
        match: Match | None = None,
        budget: float = math.inf,
        trials: bool = False,
        only: Collection[str] | None = None,
        spared: Mapping[str, str] | None = None,
    ) -> None:
        self._host = host
        self._strangers = run_stranger or {}
        self._match = match
        self._budget = budget
        self._end = math.inf
        spared = spared or {}
        probes = [
            (check, probe)
            for check in checks
            for probe in check.probes
            if bool(probe.tries) == trials and (only is None or probe.name in only)
        ]
        self._waiting = [
            self._job(check, probe)
            for check, probe in probes
            if probe.tier <= tier and probe.name not in spared
        ]
        self._running: list[_Job] = []
        self._answers: queue.SimpleQueue[tuple[_Job, _Answer | BaseException, float]] = queue.SimpleQueue()
        self._facts = seed or Facts()
        self._crashed: dict[str, str] = {}
        self._late: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._not_tried = [_left_out(probe) for _, probe in probes if probe.tier > tier]
        self._not_tried += [NotTried(name, reason) for name, reason in spared.items()]

    @property
    def result(self) -> Looked:
        """What was seen."""
        return Looked(self._facts, self._crashed, self._late, tuple(self._not_tried), self._seconds)

    def __iter__(self) -> Iterator[ProbeEvent]:
        self._end = time.monotonic() + self._budget
        while self._waiting or self._running:
            yield from self._start_ready()
            if self._running:
                yield from self._next_answer()

    def _job(self, check: Check, probe: Probe) -> _Job:
        margin = STRANGER_MARGIN if check.name in self._strangers else 0.0
        return _Job(check, probe, probe.needs(), probe.gives(), probe.deadline + margin)

    def _start_ready(self) -> Iterator[ProbeEvent]:
        """Start every probe whose facts are in, or will not come any more."""
        while time.monotonic() < self._end:
            owed = Counter(kind for job in (*self._waiting, *self._running) for kind in job.gives)
            ready = [job for job in self._waiting if not _must_wait(job, owed)]
            if not ready:
                break
            self._waiting = [job for job in self._waiting if job not in ready]
            for job in ready:
                if self._start(job):
                    yield ProbeEvent(job.check.name, job.probe.name)
        if not self._running:
            self._give_up_waiting()

    def _start(self, job: _Job) -> bool:
        """Whether it was started. What needs something unavailable is so itself; not recorded, likewise."""
        try:
            arguments = arguments_for(job.needs, self._facts, self._host)
            job.started = time.monotonic()
            run = threading.Thread(target=self._run, args=(job, arguments, self._facts), daemon=True)
            run.start()
        except Missing as missing:
            if missing.why is not None:
                self._note_unavailable(job, missing.why.reason, missing.why.would_allow)
            return False
        except RuntimeError as error:  # the limit of threads is reached
            self._note_unavailable(job, str(error))
            return False
        self._running.append(job)
        return True

    def _give_up_waiting(self) -> None:
        """Nothing runs that the rest could wait for: the budget is spent, or they wait for one another."""
        spent = time.monotonic() >= self._end
        for job in self._waiting:
            if spent:
                reason = f"the budget of {self._budget:g} s was spent; --budget gives more"
                self._not_tried.append(NotTried(job.probe.name, reason))
            else:
                self._crashed[job.probe.name] = "it waits for facts that wait for its own"
                self._note_unavailable(job, "the probes wait for one another's facts")
        self._waiting.clear()

    def _run(self, job: _Job, arguments: Sequence[Any], facts: Facts) -> None:
        """On the probe's own thread: whatever comes of it goes into the queue."""
        answer: _Answer | BaseException
        try:
            stranger = self._strangers.get(job.check.name)
            if stranger is not None:
                given = flatten(stranger(job.check, job.probe, self._host, facts))
            else:
                given = flatten(job.probe.function(*arguments))
            answer = self._sorted(given)
        except BaseException as error:  # even SystemExit must not vanish with the thread
            answer = error
        self._answers.put((job, answer, time.monotonic()))

    def _sorted(self, given: Sequence[Any]) -> _Answer:
        """Facts and symptoms; a message that cannot be read costs nothing else."""
        facts = gathered(each for each in given if not isinstance(each, Printed))
        crash = ""
        for printed in given:
            if isinstance(printed, Printed) and self._match is not None:
                try:
                    facts = facts.merged(Facts(symptoms=self._match(printed)))
                except Exception as error:  # a plugin's pattern or message function
                    crash = _what(error)
        return _Answer(facts, crash)

    def _next_answer(self) -> Iterator[ProbeEvent]:
        """Wait for one answer, at most until the nearest deadline."""
        nearest = min(self._running, key=self._ends_at)
        patience = self._ends_at(nearest) - time.monotonic()
        try:
            job, answer, ended = self._answers.get(timeout=max(patience, 0.001))
        except queue.Empty:
            job, answer, ended = nearest, ProbeLate(), time.monotonic()
        if job not in self._running:
            return  # it was late, and has been reported so
        self._running.remove(job)
        self._seconds[job.probe.name] = ended - job.started
        self._accept(job, answer)
        yield ProbeEvent(job.check.name, job.probe.name, self._seconds[job.probe.name])

    def _ends_at(self, job: _Job) -> float:
        return min(job.started + job.deadline, self._end)

    def _accept(self, job: _Job, answer: _Answer | BaseException) -> None:
        if isinstance(answer, _Answer):
            self._facts = self._facts.merged(answer.facts)
            if answer.crash:
                self._crashed[job.probe.name] = answer.crash
            return
        kept = could_not_look(answer)
        if isinstance(answer, LeftOut):
            self._not_tried.append(NotTried(job.probe.name, str(answer)))
        elif kept is not None:
            self._note_unavailable(job, kept.reason, kept.would_allow)
        elif isinstance(answer, ProbeLate):
            had = round(min(job.probe.deadline, self._end - job.started), 3)
            self._late[job.probe.name] = had
            self._note_unavailable(job, f"no answer within {had:g} s")
        else:
            self._crashed[job.probe.name] = _what(answer)
            self._note_unavailable(job, f"the probe failed: {_what(answer)}")

    def _note_unavailable(self, job: _Job, reason: str, would_allow: str = "") -> None:
        hidden = {kind: Unavailable(kind.fact_name, reason, would_allow) for kind in job.gives}
        self._facts = Facts(unavailable=hidden).merged(self._facts)


def _must_wait(job: _Job, owed: Counter[type[Fact]]) -> bool:
    """Whether another probe still owes a fact that this one asks for."""
    return any(owed[need.kind] > (need.kind in job.gives) for need in job.needs)


def _left_out(probe: Probe) -> NotTried:
    return NotTried(probe.name, "--deep tries it" if probe.tier is Tier.DEEP else "--quick leaves it out")


def _what(error: BaseException) -> str:
    return str(error) if isinstance(error, ProbeBroke) else f"{type(error).__name__}: {error}"


def flatten(given: Any) -> list[Any]:
    """What a probe or reader returned, as a list: one thing, None, or an iterable of things."""
    if given is None:
        return []
    if isinstance(given, (Fact, Symptom, Unavailable, Printed)):
        return [given]
    if isinstance(given, (str, bytes)):
        raise TypeError(f"a probe gave {type(given).__name__}, which is no fact")
    return [each for part in given for each in flatten(part)]


def gathered(things: Iterable[Any]) -> Facts:
    """Facts from what probes and readers gave, but for `Printed`; two of one type as their `joined` says.

    Raises TypeError for what is no fact, and for an `Unavailable` of a fact that no loaded type has.
    """
    known: dict[type[Fact], Fact] = {}
    hidden: dict[type[Fact], Unavailable] = {}
    symptoms: list[Symptom] = []
    for thing in things:
        if isinstance(thing, Fact):
            before = known.get(type(thing))
            known[type(thing)] = thing if before is None else before.joined(thing)
        elif isinstance(thing, Symptom):
            symptoms.append(thing)
        elif isinstance(thing, Unavailable):
            hidden[type_named(Fact, thing.fact)] = thing
        else:
            raise TypeError(f"a probe gave {type(thing).__name__}, which is no fact")
    return Facts(known, hidden, tuple(symptoms))


def type_named(base: type[Named], name: str) -> type[Named]:
    """The loaded fact or symptom type of that name, the one defined last. Raises TypeError."""
    todo = list(base.__subclasses__())
    while todo:
        kind = todo.pop()
        if name == (kind.fact_name if issubclass(kind, Fact) else kind.symptom_name):
            return kind
        todo.extend(kind.__subclasses__())
    raise TypeError(f"{name!r} names no {base.__name__.lower()} of a loaded plugin")


__all__ = [
    "Look",
    "Looked",
    "NotTried",
    "ProbeBroke",
    "ProbeEvent",
    "ProbeLate",
    "flatten",
    "gathered",
    "type_named",
]
