"""What the interpreter prints about packages that are not there."""

from __future__ import annotations

import re

from envdoctor_checks.python.check import check
from envdoctor_checks.python.facts import LeftoverWarned, ModuleNotFound


@check.message(
    r"No module named '?(?P<module>[A-Za-z_][\w.]*)'?",
    needles="no module named",
    sample="ModuleNotFoundError: No module named 'some_package'",
)
def module_not_found(match: re.Match[str]) -> ModuleNotFound:
    """Python's own words, with and without quotes (``python -m``, old releases)."""
    return ModuleNotFound(module=match["module"].rstrip("."))


@check.message(
    r"Ignoring invalid distribution (?P<name>[~-][\w.-]+) ?(?:\((?P<folder>[^)]+)\))?",
    needles="ignoring invalid distribution",
    sample="WARNING: Ignoring invalid distribution ~ome-package (/x/site-packages)",
)
def leftover(match: re.Match[str]) -> LeftoverWarned:
    """pip, of a folder that an interrupted uninstallation renamed."""
    return LeftoverWarned(name=match["name"], folder=match["folder"])
