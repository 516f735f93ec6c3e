"""``envdoctor check``: look at this machine, or judge recorded ones."""

from __future__ import annotations

from typing import Any

import click

from envdoctor.cli.options import (
    offline_option,
    presentation_of,
    presentation_options,
    python_option,
    selection_of,
    selection_options,
    tier_of,
    tier_options,
)


@click.command(short_help="look at this machine, or judge a recorded one")
@tier_options
@python_option
@click.option(
    "--facts", multiple=True, metavar="FILE|-", help="Judge what `envdoctor record` wrote; later files complete earlier ones."
)
@selection_options
@presentation_options
@offline_option
def check(quick: bool, deep: bool, python: str | None, facts: tuple[str, ...], offline: bool, **given: Any) -> int:
    """Look at this machine and one of its Pythons, and say what is wrong and how to put it right."""
    tier = tier_of(quick, deep)
    if facts and (quick or deep or python is not None):
        raise click.UsageError("--facts judges what was recorded: --quick, --deep and --python have no meaning with it")
    if facts.count("-") > 1:
        raise click.UsageError("--facts - can be given once only: there is one standard input")
    selection, wanted = selection_of(given), presentation_of(given)
    from envdoctor.cli.delivery import deliver
    from envdoctor.cli.looking import look

    if facts:
        return deliver(lambda doctor, progress: doctor.recorded(facts), selection, wanted, "facts")
    return deliver(
        lambda doctor, progress: look(doctor, progress, tier=tier, python=python, offline=offline),
        selection,
        wanted,
        "live",
    )
