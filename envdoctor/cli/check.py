"""``envdoctor check``: look at this machine, or judge recorded ones."""

from __future__ import annotations

from typing import Any

import click

from envdoctor.cli.options import (
    look_options,
    presentation_of,
    presentation_options,
    selection_of,
    selection_options,
    wish_of,
)

LOOKING = {"quick": "--quick", "deep": "--deep", "python": "--python", "budget": "--budget"}
"""Options that say how to look, which a recording makes idle."""


@click.command(short_help="look at this machine, or judge a recorded one")
@look_options
@click.option(
    "--facts",
    multiple=True,
    metavar="FILE|-",
    help="Judge what `envdoctor record` wrote; later files complete earlier ones.",
)
@selection_options
@presentation_options
def check(facts: tuple[str, ...], **given: Any) -> int:
    """Look at this machine and one of its Pythons, and say what is wrong and how to put it right."""
    wish = wish_of(given)
    idle = [option for name, option in LOOKING.items() if given[name]]
    idle += ["--device"] if given["device"] != "auto" else []
    if facts and idle:
        raise click.UsageError(f"--facts judges what was recorded: {', '.join(idle)} would change nothing")
    if facts.count("-") > 1:
        raise click.UsageError("--facts - can be given once only: there is one standard input")
    selection, wanted = selection_of(given), presentation_of(given)
    from envdoctor.cli.delivery import deliver
    from envdoctor.cli.looking import look

    if facts:
        return deliver(lambda doctor, _: doctor.recorded(facts, wish.asked), selection, wanted, "facts")
    return deliver(lambda doctor, progress: look(doctor, progress, wish), selection, wanted, "live")
