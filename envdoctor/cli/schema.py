"""``envdoctor schema report|facts``: the contract of our JSON documents."""

from __future__ import annotations

import click

from envdoctor.cli.leaving import write_out


@click.command(short_help="the JSON Schema of our documents")
@click.argument("document", type=click.Choice(["report", "facts"]))
def schema(document: str) -> int:
    """Print the JSON Schema of a document that envdoctor writes."""
    from envdoctor.schemas import text

    write_out(text(document))
    return 0
