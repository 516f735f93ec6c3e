"""The options that several commands share, and what they add up to: a `Selection` and a `Presentation`."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from envdoctor.asked import Asked, asked
from envdoctor.check import Tier
from envdoctor.errors import UsageError
from envdoctor.render import FORMATS, RenderOptions
from envdoctor.render.style import Style, decide
from envdoctor.report import Selection

BUDGET = 30.0
"""Seconds for a run that nobody gave another limit."""
Command = TypeVar("Command", bound=Callable[..., Any])


class Wish(msgspec.Struct, frozen=True):
    """How this machine is to be looked at."""

    tier: Tier = Tier.DEFAULT
    python: str | None = None
    budget: float | None = None
    offline: bool = False
    asked: Asked | None = None
    """What is to be tried beyond looking."""

    def seconds(self) -> float:
        """The budget: what was asked for, else 30 s, else no end where everything was asked for."""
        if self.budget is not None:
            return self.budget
        return math.inf if self.tier is Tier.DEEP else BUDGET


class Presentation(msgspec.Struct, frozen=True):
    """Which page is written, where to, and how it looks."""

    format: str
    output: str | None
    """A file, or None for stdout."""
    redact: bool
    options: RenderOptions

    @property
    def quiet(self) -> bool:
        """Whether -q was given."""
        return self.options.verbosity < 0


def complete_rules(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Rule ids and areas for the shell, also after a comma."""
    from click.shell_completion import CompletionItem

    from envdoctor.session import Doctor

    doctor = Doctor()
    before, comma, last = incomplete.rpartition(",")
    names = sorted({*doctor.rule_ids(), *(check.name for check in doctor.checks)})
    return [CompletionItem(before + comma + name) for name in names if name.startswith(last)]


def _stacked(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several option decorators as one; ``--help`` lists them in the order given."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


look_options = _stacked(
    click.option(
        "--quick", is_flag=True, help="Only files, variables and library headers; no vendor library is called."
    ),
    click.option("--deep", is_flag=True, help="Everything, however long it takes."),
    click.option(
        "--python", metavar="PATH", help="The interpreter or environment to ask about, instead of the one found."
    ),
    click.option(
        "--budget", type=click.FloatRange(min=0, min_open=True), metavar="S",
        help="Seconds after which nothing more is begun or waited for (30; with --deep, no end).",
    ),
    click.option(
        "--device", type=click.Choice(["auto", "cpu"]), default="auto", show_default=True,
        help="Where the smoke test compiles and runs: on GPUs that work, or on the processor.",
    ),
    click.option(
        "--for", "architectures", metavar="SM,..",
        help="Say whether this environment can run on GPUs that are not here: sm_90,sm_120.",
    ),
    click.option("--driver", metavar="RELEASE", help="The driver that the GPUs of --for have: 535.104.05."),
    click.option(
        "--offline", is_flag=True, help="Resolve no host names either. Nothing else ever uses the network."
    ),
)  # fmt: skip
selection_options = _stacked(
    click.option(
        "--select", multiple=True, metavar="ID|AREA,..", shell_complete=complete_rules,
        help="Report only these rules; all the same everything is looked at.",
    ),
    click.option(
        "--ignore", multiple=True, metavar="ID|AREA,..", shell_complete=complete_rules,
        help="Do not report these rules; they still explain others.",
    ),
    click.option(
        "--fail-on", type=click.Choice(["error", "warning", "never"]), default="error", show_default=True,
        help="The least finding that makes the exit code 1.",
    ),
    click.option("--strict", is_flag=True, help="Exit with 3 if only one source could not be read."),
)  # fmt: skip
presentation_options = _stacked(
    click.option(
        "--format", "format_", type=click.Choice(list(FORMATS)), default="text", show_default=True,
        help="; ".join(f"{name}: {each.help}" for name, each in FORMATS.items()) + ".",
    ),
    click.option("--output", metavar="FILE", help="Write the report to FILE, whole or not at all."),
    click.option(
        "--redact", is_flag=True, help="Replace names of users and hosts, addresses, serial numbers and secrets."
    ),
    click.option(
        "--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
        help="Colour; auto minds NO_COLOR, FORCE_COLOR and the terminal.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Only what fails; nothing when nothing does."),
    click.option(
        "-v", "--verbose", is_flag=True, help="Also the evidence of notes, how each check fared, and times."
    ),
)  # fmt: skip


def wish_of(given: dict[str, Any]) -> Wish:
    """From the values of `look_options`."""
    if given["quick"] and given["deep"]:
        raise click.UsageError("--quick and --deep exclude each other")
    tier = Tier.QUICK if given["quick"] else Tier.DEEP if given["deep"] else Tier.DEFAULT
    wanted = asked(
        deep=tier is Tier.DEEP,
        device=given["device"],
        architectures=given["architectures"],
        driver=given["driver"],
    )
    if wanted is not None and wanted.device != "auto" and tier is Tier.QUICK:
        raise click.UsageError("--quick tries nothing; leave it out to use --device")
    return Wish(
        tier=tier,
        python=given["python"],
        budget=given["budget"],
        offline=given["offline"],
        asked=wanted,
    )


def selection_of(given: dict[str, Any]) -> Selection:
    """From the values of `selection_options`."""
    return Selection(
        select=_names(given["select"]),
        ignore=_names(given["ignore"]),
        fail_on=given["fail_on"],
        strict=given["strict"],
    )


def _names(values: tuple[str, ...]) -> tuple[str, ...]:
    """``("a,b", "c")`` -> ``("a", "b", "c")``."""
    return tuple(dict.fromkeys(name.strip() for value in values for name in value.split(",") if name.strip()))


def presentation_of(given: dict[str, Any]) -> Presentation:
    """From the values of `presentation_options`. Raises `UsageError` for a file that cannot be written."""
    if given["quiet"] and given["verbose"]:
        raise click.UsageError("-q and -v exclude each other")
    output: str | None = given["output"]
    if output is not None:
        refuse_unwritable(output)
    return Presentation(
        format=given["format_"],
        output=output,
        redact=given["redact"] or FORMATS[given["format_"]].redacted,
        options=RenderOptions(
            style=_style(given["color"], output),
            verbosity=given["verbose"] - given["quiet"],
            fail_on=given.get("fail_on", "error"),
        ),
    )


def _style(choice: Any, output: str | None) -> Style:
    """For stdout, or for a file: that has no terminal, and is read in the same locale."""
    style = decide(sys.stdout if output is None else None, choice, os.environ)
    if output is None or os.name != "nt":
        return style
    return msgspec.structs.replace(style, unicode=True)


def refuse_unwritable(path: str) -> None:
    """Before anybody waits for a report: raise `UsageError` if it could not be written there."""
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        raise UsageError(f"--output {path}: this is a directory; give a file")
    if not os.path.isdir(folder):
        raise UsageError(f"--output {path}: there is no directory {folder}")
    where = path if os.path.exists(path) and not os.path.isfile(path) else folder
    if not os.access(where, os.W_OK):
        raise UsageError(f"--output {path}: you may not write to {where}")
