"""``envdoctor explain``: what a pasted text, a traceback or a log points at."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from envdoctor.cli.options import Wish, presentation_of, presentation_options, selection_of, selection_options
from envdoctor.errors import DocumentError, UsageError
from envdoctor.render.style import is_terminal

if TYPE_CHECKING:
    from envdoctor.cli.progress import Progress
    from envdoctor.session import Doctor, Seen


@click.command(short_help="say what a traceback or log points at")
@click.argument("file", required=False, metavar="[FILE|-]")
@click.option("--here", is_flag=True, help="The text came from this machine: look at it too.")
@click.option("--facts", metavar="FILE", help="The text came from the machine that was recorded in FILE.")
@selection_options
@presentation_options
def explain(file: str | None, here: bool, facts: str | None, **given: Any) -> int:
    """Say what a text points at: a traceback, a log, the output of nvidia-smi, all of them together.

    Without FILE it is read from standard input.
    """
    name = _text_named(file, here, facts)
    selection, wanted = selection_of(given), presentation_of(given)
    from envdoctor.cli.delivery import deliver

    data = _read(name)

    def see(doctor: Doctor, progress: Progress) -> Seen:
        text = doctor.read(data, name)
        if here:
            from envdoctor.cli.looking import look

            return _together(text, look(doctor, progress, Wish()))
        return _together(text, doctor.recorded([facts])) if facts is not None else text

    return deliver(see, selection, wanted, "live" if here else "facts" if facts is not None else "text")


def _text_named(file: str | None, here: bool, facts: str | None) -> str:
    """Where the text comes from. Nobody is left waiting before a silent prompt."""
    if here and facts is not None:
        raise click.UsageError("--here and --facts exclude each other: the text came from one machine")
    if facts == "-" and file in (None, "-"):
        raise click.UsageError(
            "--facts - and the text cannot both be read from standard input: give the text's FILE"
        )
    if file is None and is_terminal(sys.stdin):
        raise click.UsageError(
            "no text to explain; give its file (envdoctor explain train.log), pipe it in "
            "(python train.py 2>&1 | envdoctor explain), or paste it after: envdoctor explain -"
        )
    if file == "-" and is_terminal(sys.stdin) and is_terminal(sys.stderr):
        from envdoctor.cli.leaving import say

        say("Paste the text, then press Ctrl-D on a line of its own.")
    return file or "-"


def _read(name: str) -> str:
    """The text, whatever its encoding. Raises `DocumentError` for an empty one or a recording."""
    from envdoctor import snapshot
    from envdoctor.text.decode import decode

    if name == "-" and sys.stdin is None:
        raise UsageError("standard input is closed; give the text's file")
    data = snapshot.read_file(name)
    text = decode(data).text
    if not text.strip():
        raise DocumentError(f"{'standard input' if name == '-' else name}: there is no text in it")
    if text.lstrip().startswith("{") and '"envdoctor.facts/' in text[:400]:
        raise DocumentError(
            f"{name}: these are recorded facts, not a text; judge them with: envdoctor check --facts {name}"
        )
    return text


def _together(text: Seen, machine: Seen) -> Seen:
    """A text and the machine that it came from: what was looked at beats what was said, and all that was said counts."""
    return msgspec.structs.replace(
        machine, facts=text.facts.merged(machine.facts), broken_readers=text.broken_readers
    )
