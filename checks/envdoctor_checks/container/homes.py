"""Which home directory a path lies in that could not be written."""

from __future__ import annotations

import re

from envdoctor.api import Variables
from envdoctor_checks.container.facts import PasswdEntry

DOT_FOLDER = r"/\.[A-Za-z][\w-]*"
"""``/.cache``, ``/.triton``: what HOME=/ leads to."""


def home_of(path: str, entry: PasswdEntry | None, variables: Variables | None) -> str | None:
    """The home that a refused path lies below, where the path itself or the text tells that it is one."""
    if re.match(DOT_FOLDER, path):
        return "/"
    if path == "/nonexistent" or path.startswith("/nonexistent/"):
        return "/nonexistent"
    told = [entry.home if entry else None, variables.get("HOME") if variables else None]
    for home in told:
        if home and home != "/" and (path == home or path.startswith(home.rstrip("/") + "/")):
            return home
    if re.match(r"/root/\.\w", path):
        return "/root"
    return None
