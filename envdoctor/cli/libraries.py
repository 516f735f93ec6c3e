"""``envdoctor libraries``: which file the loader takes for a library, by which rule, and why not another."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click
import msgspec

from envdoctor.asked import asked_library
from envdoctor.cli.options import Wish, presentation_of, presentation_options
from envdoctor.report import Selection

if TYPE_CHECKING:
    from envdoctor.cli.progress import Progress
    from envdoctor.session import Doctor, Seen

AREA = "libraries"
"""The check whose trees are shown."""


def named(library: str) -> str:
    """A name as it is, a path from the root on."""
    return os.path.abspath(library) if "/" in library else library


@click.command(short_help="which file the loader takes for a library, and why")
@click.argument("library", required=False, default="", metavar="[NAME|PATH]")
@click.option(
    "--python", metavar="PATH", help="The interpreter or environment to ask about, instead of the one found."
)
@click.option("--facts", multiple=True, metavar="FILE|-", help="Ask about a machine that was recorded.")
@presentation_options
def libraries(library: str, python: str | None, facts: tuple[str, ...], **given: Any) -> int:
    """Say which file the loader takes for a library of torch's, by which rule, and why not another.

    NAME is what a program asks for (libcudart.so.12), PATH a file to be opened (an extension module). Without
    either: every CUDA library of torch's process.
    """
    if facts and python:
        raise click.UsageError("--facts asks about what was recorded: --python would change nothing")
    asked = asked_library(named(library))
    wanted = presentation_of(given)
    wanted = msgspec.structs.replace(wanted, options=msgspec.structs.replace(wanted.options, area=AREA))
    from envdoctor.cli.delivery import deliver
    from envdoctor.cli.looking import look

    def see(doctor: Doctor, progress: Progress) -> Seen:
        if facts:
            return doctor.recorded(facts, asked)
        return look(doctor, progress, Wish(python=python, asked=asked), AREA)

    return deliver(see, Selection(select=(AREA,)), wanted, "facts" if facts else "live")
