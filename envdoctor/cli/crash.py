"""When envdoctor itself breaks: one line for people, a traceback on request, a document for programs."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

from envdoctor.__main__ import own_installation
from envdoctor.cli.leaving import say
from envdoctor.report import SCHEMA, Report, Summary, TargetEntry, our_tool

if TYPE_CHECKING:
    from types import TracebackType


def described(error: BaseException) -> str:
    """The exception and the line of ours where it was raised."""
    where = _last_line(error.__traceback__)
    return f"{type(error).__name__}: {error}{f' ({where})' if where else ''}"


def _last_line(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    if not frames:
        return ""
    ours = [frame for frame in frames if f"envdoctor{os.sep}" in frame.filename] or frames
    path = ours[-1].filename.rpartition(f"envdoctor{os.sep}")[2]
    return f"{path}:{ours[-1].lineno}"


def tell(error: BaseException) -> None:
    """One line on stderr; with ENVDOCTOR_DEBUG=1 the traceback before it."""
    if os.environ.get("ENVDOCTOR_DEBUG", "") not in ("", "0"):
        say("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, ImportError):
        say(own_installation(error))
        return
    say(
        f"envdoctor: internal error: {' '.join(described(error).split())}; this is a defect of envdoctor, "
        "not of your machine: please report it with what ENVDOCTOR_DEBUG=1 prints"
    )


def crashed(what: str, target: TargetEntry) -> Report:
    """The report document of a run that could not be finished: nothing was judged, and `crash` says why."""
    return Report(
        schema=SCHEMA,
        tool=our_tool(()),
        target=target,
        machine=(),
        verdict="could-not-judge",
        summary=Summary(errors=0, warnings=0, notes=0, could_not_check=0, exit_code=3),
        findings=(),
        suppressed=(),
        asks=(),
        checks=(),
        crash=what,
    )
