"""``envdoctor completion SHELL``: the script that makes the shell complete commands, options and rule ids."""

from __future__ import annotations

import click

from envdoctor.cli.leaving import write_out

HOW = {
    "bash": 'eval "$(envdoctor completion bash)"        # in ~/.bashrc',
    "zsh": 'eval "$(envdoctor completion zsh)"         # in ~/.zshrc, after compinit',
    "fish": "envdoctor completion fish | source         # in ~/.config/fish/config.fish",
}


@click.command(short_help="the completion script of a shell", epilog="\b\n" + "\n".join(HOW.values()))
@click.argument("shell", type=click.Choice(list(HOW)))
def completion(shell: str) -> int:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from envdoctor.cli import main

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click knows no completion for {shell}")
    script = kind(main, {}, "envdoctor", "_ENVDOCTOR_COMPLETE")
    write_out(script.source_template % script.source_vars() + "\n")
    return 0
