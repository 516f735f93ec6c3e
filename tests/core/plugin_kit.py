"""Throw-away distributions with a plugin in them."""

from __future__ import annotations

import zipfile
from pathlib import Path

HEAD = """
import os, sys, time
from typing import ClassVar
from envdoctor.api import *

check = Check("{name}", "a stranger", package="{name}_plugin")

class Mood(Fact, frozen=True, kw_only=True):
    fact_name: ClassVar[str] = "{name}.mood"
    mood: str | None

class Sigh(Symptom, frozen=True, kw_only=True):
    symptom_name: ClassVar[str] = "{name}.sigh"
    how: str = ""

HERE = Source("call", "stranger")
"""


def distribution(
    folder: Path, name: str, source: str, *, target: str = "", dist: str = "", lines: str = ""
) -> Path:
    """Install a distribution `dist` with the module ``<name>_plugin`` and an entry point to its ``check``."""
    folder.mkdir(parents=True, exist_ok=True)
    dist = dist or f"envdoctor-{name}"
    (folder / f"{name}_plugin.py").write_text(source)
    info = folder / f"{dist.replace('-', '_')}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.5\n")
    entry = f"{name} = {target or f'{name}_plugin:check'}\n"
    (info / "entry_points.txt").write_text(
        lines or f"[console_scripts]\nx = y:z\n\n[envdoctor.checks]\n{entry}"
    )
    return folder


def zipped(folder: Path, path: Path) -> Path:
    """The same as one zip file, as it may stand on ``sys.path``."""
    with zipfile.ZipFile(path, "w") as file:
        for each in sorted(folder.rglob("*")):
            file.write(each, each.relative_to(folder))
    return path
