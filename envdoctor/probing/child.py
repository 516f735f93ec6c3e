"""The one way envdoctor runs what may crash, hang or flood: a child with a deadline, bounded in everything.

The child is a session of its own. It answers with one JSON object per stage on a descriptor of its own, the
last being ``{"done": true}``, so that a missing end names the stage that was reached. At the deadline, or
when it has exited, it and every process that it left behind get SIGTERM, a moment, and SIGKILL. One that does
not go even then is reported as stuck, with what the kernel says of it, and left alone: nothing here waits
without a bound.

Not found are descendants that both made a session of their own and emptied their environment after their
parent died.
"""

from __future__ import annotations

import enum
import functools
import os
from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = [
    "Captured",
    "ChildEnd",
    "ChildRequest",
    "ChildResult",
    "StuckChild",
    "python_request",
    "run_child",
    "terminate_all",
]


_LONG_WORD = 200


class ChildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, and its bounds."""

    argv: tuple[str, ...]
    """The program (a path, or a name looked up on PATH of `env`) and its arguments."""
    deadline: float
    """Seconds of wall clock from the start; the child may be seen to its end for up to three seconds more."""
    env: Mapping[str, str] | None = None
    """The complete environment; None for that of this process. The variables named below are added."""
    stdin: bytes = b""
    """What the child reads; empty is /dev/null."""
    cwd: str | None = None
    answers: bool = False
    """Open a descriptor for JSON Lines, whose number the child finds in ENVDOCTOR_ANSWER_FD."""
    max_output: int = 256 * 1024
    """Bytes kept of each of stdout and stderr: the head and the tail."""
    max_answer: int = 8 * 1024 * 1024
    """Bytes kept of all answers."""
    temporary_directory: bool = False
    """Give a private directory (mode 0700, removed afterwards) as TMPDIR, with compile caches in it."""


class ChildEnd(enum.Enum):
    """How it ended. The first that applies, in this order."""

    NOT_STARTED = "not-started"
    INTERRUPTED = "interrupted"
    """`terminate_all` ended it: this says nothing about the program."""
    TIMED_OUT = "timed-out"
    KILLED = "killed"
    """By a signal that was not ours."""
    EXITED = "exited"
    """With another code than 0, or with one that nobody could see (`exit_code` is None)."""
    ANSWER_TOO_LONG = "answer-too-long"
    NOT_JSON = "not-json"
    WRONG_SHAPE = "wrong-shape"
    """JSON that is neither an object with a "stage" in text nor ``{"done": true}``."""
    NO_ANSWER = "no-answer"
    """Exit code 0, and answers were asked for, but the last was not ``{"done": true}``."""
    ANSWERED = "answered"
    """Exit code 0, and complete where answers were asked for."""


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """What a child wrote to one stream: head and tail, with a line between that counts what was left out.

    Undecodable bytes are U+FFFD.
    """

    text: str = ""
    dropped_bytes: int = 0


class StuckChild(msgspec.Struct, frozen=True, kw_only=True):
    """A process that SIGKILL did not end: the child or one that it started. From /proc, Linux only."""

    pid: int
    thread: int
    """The thread that holds it; `pid` where it is the first thread."""
    name: str
    state: str
    """One letter of proc(5): D is a call in the kernel that no signal ends."""
    wchan: str
    """The kernel function in which it waits; empty where the kernel does not tell."""
    status: str
    """/proc/PID/task/TID/status, its first 4 KiB."""
    stage: str | None
    """The last stage that the child told of."""
    seconds: float
    """From the start of the child until it was given up."""

    @property
    def told(self) -> str:
        """In words: what holds it."""
        place = f", in {self.wchan}" if self.wchan else ""
        return f"no signal ends process {self.pid}: it waits in the kernel (state {self.state}{place})"


class ChildResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a child."""

    end: ChildEnd
    argv: tuple[str, ...]
    exit_code: int | None = None
    signal: str | None = None
    """The signal that ended it ("SIGSEGV"); at TIMED_OUT and INTERRUPTED, the one of ours that it obeyed."""
    seconds: float = 0.0
    """From the start until it was seen to have exited, or until the deadline."""
    done: bool = False
    """It said ``{"done": true}``: the stages are complete, whatever happened to it afterwards."""
    stages: tuple[dict[str, Any], ...] = ()
    """The answers in order without the last ``{"done": true}``, also when it ended badly."""
    stdout: Captured = Captured()
    stderr: Captured = Captured()
    error: str = ""
    """Why it was not started, what was wrong with an answer (quoted), what could not be seen."""
    stuck: StuckChild | None = None
    left_behind: str = ""
    """Its private directory and shared memory, with the reason, when they could not be removed."""

    @property
    def command(self) -> str:
        """The command line as one short line: scripts and other long arguments are left out."""
        words = (word if len(word) <= _LONG_WORD and "\n" not in word else "..." for word in self.argv)
        return " ".join(words)

    @property
    def ok(self) -> bool:
        """Whether it ended well and its answers are complete."""
        return self.end is ChildEnd.ANSWERED

    def last_stage(self) -> str | None:
        """The last stage that was told: the one reached when the child did not come to its end."""
        return self.stages[-1]["stage"] if self.stages else None


def run_child(request: ChildRequest) -> ChildResult:
    """Run a child to its end. Raises nothing for what child or machine do; any thread may call it."""
    if os.name == "nt":
        from envdoctor.probing.child_basic import run_basic

        return run_basic(request)
    from envdoctor.probing.child_run import Run  # here, for what only judges or reads text starts no child

    return Run(request).to_end()


def terminate_all(*, refuse_new: bool = True) -> None:
    """Kill every live child and remove what it made, within about a second.

    For Ctrl-C, SIGTERM and the exit. With `refuse_new`, threads that are still at work get INTERRUPTED for
    every further child. On Windows it does nothing.
    """
    if os.name != "nt":
        from envdoctor.probing.child_run import registry

        registry.terminate(refuse_new=refuse_new)


def python_request(
    python: str,
    script: str,
    *,
    deadline: float,
    env: Mapping[str, str] | None,
    args: tuple[str, ...] = (),
    flags: tuple[str, ...] = ("-B", "-X", "faulthandler"),
    stdin: bytes = b"",
    cwd: str | None = None,
    max_answer: int = 8 * 1024 * 1024,
    temporary_directory: bool = False,
) -> ChildRequest:
    """A request to run `script` in `python`, with ``answer(stage, **fields)`` and ``done()`` at hand.

    `args` are its ``sys.argv[1:]``. The current directory is not on its path. A crash or the deadline makes
    it write the Python lines that it was at to stderr. Raises ValueError for a script that is not ASCII: an
    argument is decoded by the child's locale, which nobody knows.
    """
    if not script.isascii():
        raise ValueError("a script for a child must be ASCII")
    return ChildRequest(
        argv=(python, *flags, "-c", _answers_source(), script, *args),
        deadline=deadline,
        env=env,
        stdin=stdin,
        cwd=cwd,
        answers=True,
        max_answer=max_answer,
        temporary_directory=temporary_directory,
    )


@functools.cache
def _answers_source() -> str:
    """The text of answers.py, by its loader: the package may lie in a zip file."""
    from envdoctor.probing import answers

    loader: Any = answers.__loader__  # the protocol of loaders leaves out what they all have
    source = loader.get_source(answers.__name__)
    if not isinstance(source, str):
        raise RuntimeError("envdoctor/probing/answers.py is installed without its source")
    return source
