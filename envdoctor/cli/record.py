"""``envdoctor record``: write the facts of this machine, to be judged elsewhere or later."""

from __future__ import annotations

import shlex
from typing import Any

import click
import msgspec

from envdoctor.asked import asked_library
from envdoctor.cli.libraries import named
from envdoctor.cli.options import look_options, refuse_unwritable, wish_of


@click.command(short_help="write the facts of this machine to a file")
@click.option(
    "-o", "--output", metavar="FILE|-", default="-", help="Where to write; - is stdout, and the default."
)
@look_options
@click.option(
    "--library",
    metavar="NAME|PATH",
    help="Also record what `envdoctor libraries NAME|PATH --facts FILE` needs to answer.",
)
@click.option("--no-redact", is_flag=True, help="Keep names, addresses and serial numbers as they are.")
def record(output: str, library: str | None, no_redact: bool, **given: Any) -> int:
    """Write what envdoctor sees of this machine; `envdoctor check --facts` judges it anywhere.

    Names of users and hosts, addresses, serial numbers and secrets are replaced, always in the same way,
    so that the judgement stays the same.
    """
    wish = wish_of(given)
    if library:
        wish = msgspec.structs.replace(wish, asked=asked_library(named(library), wish.asked))
    if output != "-":
        refuse_unwritable(output)
    from envdoctor.cli.delivery import installed_doctor
    from envdoctor.cli.files import write_file
    from envdoctor.cli.leaving import say, write_out
    from envdoctor.cli.looking import look
    from envdoctor.cli.progress import Progress
    from envdoctor.host import Host
    from envdoctor.redact import own_names, redact_document
    from envdoctor.render.json import encoded
    from envdoctor.session import now
    from envdoctor.snapshot import to_document

    doctor = installed_doctor()
    with Progress.on_stderr(quiet=False) as progress:
        seen = look(doctor, progress, wish)
    document, hidden = to_document(seen.facts, now()), "nothing redacted"
    if not no_redact:
        document, kinds = redact_document(document, **own_names(Host.here()))
        hidden = f"redacted: {', '.join(kinds) or 'nothing needed it'}"
    page = encoded(document)
    if output == "-":
        write_out(page)
        return 0
    write_file(output, page)
    say(f"facts written to {output} ({hidden}); to judge: envdoctor check --facts {shlex.quote(output)}")
    return 0
