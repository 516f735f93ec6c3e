"""One child from its start to its last descendant's end, and the registry of those that live."""

from __future__ import annotations

import atexit
import errno
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from envdoctor.probing.child import ChildEnd, ChildRequest, ChildResult, StuckChild
from envdoctor.probing.child_kept import Exit, verdict
from envdoctor.probing.child_pipes import Pipes
from envdoctor.probing.child_private import PrivateDirectory
from envdoctor.probing.child_proc import describe_stuck, within
from envdoctor.probing.child_process import Process, signal_name
from envdoctor.probing.child_shared import SharedMemory

if TYPE_CHECKING:
    from collections.abc import Iterable

_PIPE_GRACE = 0.25  # after the exit: a descendant may hold the pipes for ever
_TERM_GRACE = 0.5
_KILL_WAIT = 2.0  # a killed process with tens of GB takes a while to give them back
_TERMINATE_SECONDS = 1.0
_NOTE_EVERY = 0.1
_LONG_NAME = 500


class Run:
    """One run of a request: `to_end` once; meanwhile `kill` and `clean_up` from any thread."""

    def __init__(self, request: ChildRequest) -> None:
        self._request = request
        self._began = time.monotonic()
        self._token = os.urandom(12).hex()
        self._process = Process(self._token)
        self._pipes = Pipes(max_output=request.max_output, max_answer=request.max_answer)
        self._private: PrivateDirectory | None = None
        self._shared = SharedMemory()
        self._start_lock = threading.Lock()  # of the next two: a late start cleans up after itself
        self._starting = False
        self._given_up = False
        self._failure = ""
        self._timed_out = False
        self._seconds: float | None = None
        self._stuck: StuckChild | None = None
        self._left_behind = ""
        self.interrupted = False

    def to_end(self) -> ChildResult:
        """Start it, drain it, see it off, tell what happened."""
        if not registry.admit(self):
            self.interrupted = True
            return self._result()
        try:
            if self._start():
                self._attend()
        finally:
            self._see_off()
            registry.dismiss(self)
        return self._result()

    def kill(self) -> bool:
        """Kill all of it that lives; whether nothing did."""
        if self._starting and self._process.pid is None:
            return False
        living = self._process.living()
        self._shared.note(living)
        self._process.signal(signal.SIGKILL, living)
        return not living

    def clean_up(self) -> None:
        """Remove the private directory and shared memory; nothing happens where they are gone already."""
        kept = [self._shared.remove(), "" if self._private is None else self._private.remove()]
        self._left_behind = "; ".join(filter(None, kept))

    def _start(self) -> bool:
        """Whether there is a process to attend to."""
        try:
            self._pipes.open(stdin=self._request.stdin, answers=self._request.answers)
            self._starting = True
            in_time = within(self._request.deadline, self._fork)
        except (OSError, RuntimeError) as error:  # no descriptor or no thread left
            self._starting = False
            self._failure = _why(error)
            return False
        if not in_time and self._give_up_start():
            self._timed_out = True
            self._seconds = time.monotonic() - self._began
            self._failure = "the start did not return: a file system does not answer"
            return False
        self._pipes.close_child_ends()
        return self._process.pid is not None

    def _give_up_start(self) -> bool:
        """Leave a start that still runs to itself; whether there is one."""
        with self._start_lock:
            self._given_up = self._starting
        return self._given_up

    def _fork(self) -> None:
        """On a thread of its own: making a directory, chdir and exec hang where a file system does."""
        try:
            env = dict(os.environ if self._request.env is None else self._request.env)
            if self._request.temporary_directory:
                self._private = PrivateDirectory(env)
                env |= self._private.environment()
            if not (self._given_up or self.interrupted):
                self._exec(env)
        except (OSError, ValueError, TypeError) as error:
            self._failure = self._failure or _why(error)
        finally:
            with self._start_lock:
                self._starting = False
            if self._given_up:
                self._clean_up_late_start()

    def _clean_up_late_start(self) -> None:
        """Nobody waits for what this start brought: `to_end` sees the process off, or has returned."""
        self._pipes.close_child_ends()
        self._process.signal(signal.SIGKILL, ())
        registry.reap_later(self._process)
        self.clean_up()

    def _exec(self, env: dict[str, str]) -> None:
        pipes, request = self._pipes, self._request
        if not request.argv:
            raise ValueError("no program was named")
        # A child that is itself envdoctor has children of its own: they carry both tokens.
        env["ENVDOCTOR_CHILD"] = f"{env.get('ENVDOCTOR_CHILD', '')}{self._token}."
        env.pop("ENVDOCTOR_ANSWER_FD", None)
        keep = () if pipes.child_answer is None else (pipes.child_answer,)
        if pipes.child_answer is not None:
            env["ENVDOCTOR_ANSWER_FD"] = str(pipes.child_answer)
        self._process.start(
            request.argv,
            env=env,
            cwd=request.cwd,
            stdin=pipes.child_stdin,
            stdout=pipes.child_stdout,
            stderr=pipes.child_stderr,
            keep=keep,
        )

    def _attend(self) -> None:
        """Drain it until it has exited and its pipes are closed, or the deadline."""
        deadline = self._began + self._request.deadline
        pause, note_at = 0.001, 0.0
        while True:
            now = time.monotonic()
            if now >= note_at:
                self._note_shared(())
                note_at = now + _NOTE_EVERY
            if self._process.has_exited():
                if self._seconds is None:
                    self._seconds = now - self._began
                if not self._pipes.reading or now > self._began + self._seconds + _PIPE_GRACE:
                    return
            elif now >= deadline or self.interrupted:
                self._timed_out = now >= deadline
                self._seconds = now - self._began
                return
            pause = 0.001 if self._pipes.pump(pause) else min(pause * 2, 0.05)

    def _see_off(self) -> None:
        """End what still lives, take the last of what was said, give everything back."""
        if not (self._given_up or self._give_up_start()):
            self._pipes.close_child_ends()
        living = self._process.living()
        self._note_shared(living)
        if living and not self.interrupted:
            living = self._end(living, signal.SIGTERM, _TERM_GRACE)
        if living:
            living = self._end(living, signal.SIGKILL, _KILL_WAIT)
        if not self._process.reap():
            registry.reap_later(self._process)
        self._pipes.pump_what_is_there()
        self._pipes.close()
        self._pipes.answers.read()
        if living:
            seconds = time.monotonic() - self._began
            self._stuck = describe_stuck(living, stage=self._last_stage(), seconds=seconds)
        self.clean_up()

    def _note_shared(self, others: Iterable[int]) -> None:
        if self._process.pid is not None:
            self._shared.note({self._process.pid, *others})

    def _end(self, living: list[int], number: int, patience: float) -> list[int]:
        """Signal each process once, also those that appear meanwhile; those that outlive `patience`."""
        told: set[int] = set()
        until = time.monotonic() + patience
        pause = 0.002
        while living and time.monotonic() < until:
            if new := set(living) - told:
                self._process.signal(number, new)
                told |= new
            self._drain_for(pause)
            pause = min(pause * 2, 0.05)
            living = self._process.living()
        return living

    def _drain_for(self, seconds: float) -> None:
        """Who is told to go may have last words, and may not go before they are read."""
        until = time.monotonic() + seconds
        while (rest := until - time.monotonic()) > 0:
            self._pipes.pump(rest)

    def _last_stage(self) -> str | None:
        stages = self._pipes.answers.stages
        return stages[-1]["stage"] if stages else None

    def _result(self) -> ChildResult:
        pipes = self._pipes
        exit_ = self._process.exit or Exit()
        seconds = time.monotonic() - self._began if self._seconds is None else self._seconds
        return ChildResult(
            end=self._verdict(exit_),
            argv=self._request.argv,
            exit_code=exit_.code,
            signal=signal_name(exit_.signal),
            seconds=seconds,
            done=pipes.answers.done,
            stages=tuple(pipes.answers.stages),
            stdout=pipes.stdout.captured(),
            stderr=pipes.stderr.captured(),
            error=self._failure or pipes.answers.error or self._unseen(exit_),
            stuck=self._stuck,
            left_behind=self._left_behind,
        )

    def _verdict(self, exit_: Exit) -> ChildEnd:
        if self.interrupted:
            return ChildEnd.INTERRUPTED
        if self._timed_out:
            return ChildEnd.TIMED_OUT
        if self._process.pid is None:
            return ChildEnd.NOT_STARTED
        return verdict(exit_, self._pipes.answers if self._request.answers else None)

    def _unseen(self, exit_: Exit) -> str:
        lost = self._process.exit is not None and exit_ == Exit()
        return "its exit status was lost: SIGCHLD is ignored in this process" if lost else ""


class Registry:
    """The children that live now, for whoever must end them all."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may interrupt its own thread in here
        self._live: set[Run] = set()
        self._unreaped: list[Process] = []
        self._closed = False
        self._owner = os.getpid()

    def admit(self, run: Run) -> bool:
        """Whether it may start."""
        with self._lock:
            self._unreaped = [process for process in self._unreaped if not process.reap()]
            if not self._closed:
                self._live.add(run)
            return not self._closed

    def dismiss(self, run: Run) -> None:
        """It has ended."""
        with self._lock:
            self._live.discard(run)

    def reap_later(self, process: Process) -> None:
        """It did not go yet: each later start looks again, so that it does not stay a zombie."""
        with self._lock:
            self._unreaped.append(process)

    def terminate(self, *, refuse_new: bool = True) -> None:
        """Kill all, wait at most a second, remove what they made. In a fork of the owner: nothing."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            self._closed = self._closed or refuse_new
            runs = tuple(self._live)
        for run in runs:
            run.interrupted = True
        until = time.monotonic() + _TERMINATE_SECONDS
        alive = list(runs)
        while (alive := [run for run in alive if not run.kill()]) and time.monotonic() < until:
            time.sleep(0.01)
        for run in runs:
            run.clean_up()


def _why(error: BaseException) -> str:
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    name = errno.errorcode.get(error.errno, str(error.errno))
    where = f": {str(error.filename)[:_LONG_NAME]}" if error.filename else ""
    return f"{name}: {error.strerror}{where}"


registry = Registry()
# A daemon thread that is late at the exit would leave its child behind. This waits for nothing unbounded.
atexit.register(registry.terminate)
