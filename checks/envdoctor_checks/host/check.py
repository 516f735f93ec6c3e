"""The check itself; every other module of this folder registers with it."""

from __future__ import annotations

from envdoctor.api import Check, Platform

check = Check(
    "host", "shared memory, limits, memory, disks, and what WSL limits", package="envdoctor_checks.host"
)


@check.applicable
def on_linux(platform: Platform) -> str | None:
    """Why there is nothing to look at, on other systems."""
    return None if platform.is_linux else f"it looks at Linux; this is {platform.system}"
