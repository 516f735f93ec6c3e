"""The command line: which command runs, and what every ending means for the exit code."""

from __future__ import annotations

import gc
from importlib import import_module
from typing import Any, NoReturn

import click

from envdoctor import __version__
from envdoctor.cli.failures import Failure
from envdoctor.cli.leaving import Terminated, catch_signals, interrupted, leave, say
from envdoctor.errors import EnvdoctorError

COMMANDS = {
    "check": "envdoctor.cli.check:check",
    "explain": "envdoctor.cli.explain:explain",
    "record": "envdoctor.cli.record:record",
    "libraries": "envdoctor.cli.libraries:libraries",
    "rules": "envdoctor.cli.rules:rules",
    "rule": "envdoctor.cli.rules:rule",
    "schema": "envdoctor.cli.schema:schema",
    "completion": "envdoctor.cli.completion:completion",
}
"""Command -> where it lives; imported when it is called."""

HELP = """Say why PyTorch can or cannot use the GPUs of this machine, what is wrong, how that is
known, and what to type.

\b
  envdoctor check                    look at this machine
  envdoctor check --quick            only files and variables, in a moment
  python train.py 2>&1 | envdoctor explain
                                     what a traceback or log points at
  envdoctor record -o facts.json     what envdoctor saw, to be judged elsewhere:
  envdoctor check --facts facts.json
  envdoctor libraries libcudart.so.12
                                     which file the loader takes, and why not another

Nothing is installed, repaired or sent. NVIDIA's own libraries, which the default run calls in
processes of their own, may load kernel modules and make device nodes; --quick does not call them.
"""
EPILOG = """\b
Exit codes:
  0    nothing at or above --fail-on (default: error) was found
  1    something was
  2    wrong usage
  3    could not judge: a check that applies here, or what --select names,
       could not be looked at, or envdoctor itself broke
  130  interrupted
"""


class Commands(click.Group):
    """Commands by name, each imported only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """The command, or None for an unknown name."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest names for an unknown one (click does so only since 8.4)."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"envdoctor {__version__}")
        ctx.exit(0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, help=HELP, epilog=EPILOG)
@click.option(
    "--version",
    "-V",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """See HELP."""


def run(arguments: list[str]) -> NoReturn:
    """Run one command and leave with its exit code."""
    gc.set_threshold(
        100_000
    )  # a process of a second has little to collect, and looking for it costs a tenth of that
    catch_signals()
    try:
        code = _code_of(arguments)
    except (KeyboardInterrupt, click.Abort):
        interrupted(130)
    except Terminated as end:
        interrupted(128 + end.number)
    leave(code)


def _code_of(arguments: list[str]) -> int:
    """Every ending but an interruption, as an exit code."""
    try:
        result: Any = main.main(
            arguments, prog_name="envdoctor", complete_var="_ENVDOCTOR_COMPLETE", standalone_mode=False
        )
    except click.ClickException as error:
        error.show()
        return 2
    except EnvdoctorError as error:
        say(f"envdoctor: {error}")
        return 3 if isinstance(error, Failure) else 2
    except click.Abort:
        raise  # an interruption, although click makes it an Exception
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except Exception as error:
        from envdoctor.cli.crash import tell

        tell(error)
        return 3
    return result if isinstance(result, int) else 0
