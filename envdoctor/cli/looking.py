"""Looking at this machine from a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.host import Host

if TYPE_CHECKING:
    from envdoctor.cli.options import Wish
    from envdoctor.cli.progress import Progress
    from envdoctor.session import Doctor, Seen

OFFLINE = "ENVDOCTOR_OFFLINE"
"""Set in the environment of the host and of every child when no name may be resolved."""


def look(doctor: Doctor, progress: Progress, wish: Wish, area: str | None = None) -> Seen:
    """The facts of this machine. Raises `UsageError` for a named interpreter that is not there."""
    host = Host.here()
    if wish.offline:
        host.environ[OFFLINE] = "1"
    return doctor.look(
        host,
        tier=wish.tier,
        python=wish.python,
        budget=wish.seconds(),
        asked=wish.asked,
        area=area,
        on_event=progress.on_event,
    )
