"""How the process writes its last words and leaves: at once, whatever threads and children still hang."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    from types import FrameType

CHILDREN = "envdoctor.probing.child_run"


class Terminated(BaseException):
    """A signal came that ends us. Not an Exception, so that nothing on the way takes it for its failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def catch_signals() -> None:
    """Unwind to `envdoctor.cli.run` on the signals that end us, unless we were started to ignore them (nohup)."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _on_signal)


def _on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated(number)


def say(line: str) -> None:
    """One line on stderr. A stderr that is closed or full must not change the exit code."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _swallow("stderr")


def write_out(text: str) -> None:
    """The page to stdout. A reader that went away (``| head -1``) has what it wanted: that is no error.

    Raises OSError for everything else, such as a full disk.
    """
    stream = sys.stdout
    if stream is None:
        return  # started with a closed stdout: nobody listens
    try:
        stream.flush()
        data = text.encode("utf-8" if stream.encoding is None else stream.encoding, "backslashreplace")
        stream.buffer.write(data)
        stream.buffer.flush()
    except BrokenPipeError:
        _swallow("stdout")


def _swallow(name: str) -> None:
    """Let what is still buffered for a dead stream go to the void, so that the exit does not trip over it."""
    stream = getattr(sys, name)
    try:
        void = os.open(os.devnull, os.O_WRONLY)
        os.dup2(void, stream.fileno())
    except (OSError, ValueError, AttributeError):
        setattr(sys, name, None)  # it has no descriptor: nothing more can be written to it either


def interrupted(code: int) -> NoReturn:
    """Leave after a signal. Further ones are ignored: ending the children is bounded by a second."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    say("envdoctor: interrupted")
    leave(code)


def leave(code: int) -> NoReturn:
    """End the children that still live, flush, and go.

    `os._exit`, because an ordinary exit waits for what a doctor must not wait for: a probe's thread that is
    stuck in a dead mount, or a library's exit handler. Everything we own has been cleaned up by then.
    """
    if CHILDREN in sys.modules:  # else none was ever started
        from envdoctor.probing.child import terminate_all

        terminate_all()
    if not _flushed(sys.stdout):
        code = code or 3  # what was to be said was lost on its way out, as on a full disk
    _flushed(sys.stderr)
    os._exit(code)


def _flushed(stream: TextIO | None) -> bool:
    """Whether everything got out, as far as anybody listened."""
    try:
        if stream is not None:
            stream.flush()
    except BrokenPipeError:
        return True
    except (OSError, ValueError):
        return False
    return True
