"""Puts a real report into the README, as text and as a picture: ``python -m tests.support.readme``.

The report is that of a recorded machine, as `envdoctor check --facts` prints it; `tests/test_readme.py` compares.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MACHINE = ROOT / "fixtures" / "machines" / "cudart-deleted.json"
PICTURE = ROOT / "fixtures" / "readme" / "report.svg"
README = ROOT / "README.md"
BEGIN, END = "<!-- report -->", "<!-- /report -->"
WIDTH = 96


def report(color: str) -> str:
    """The text report of the machine, as a terminal of `WIDTH` columns gets it."""
    done = subprocess.run(
        [sys.executable, "-m", "envdoctor", "check", "--facts", str(MACHINE), "--color", color],
        env={**os.environ, "COLUMNS": str(WIDTH), "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    return done.stdout


def block() -> str:
    """What stands between the two marks of the README."""
    return f"{BEGIN}\n```text\n$ envdoctor check\n{report('never')}```\n{END}"


def picture() -> str:
    """The same in colour, drawn by rich."""
    from rich.console import Console
    from rich.text import Text

    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(
            record=True, width=WIDTH + 2, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        console.print(Text.from_ansi(report("always")), soft_wrap=False)
    return console.export_svg(title="envdoctor check", unique_id="envdoctor")


def main() -> None:
    """Write both."""
    text = README.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    README.write_text(head + block() + rest.partition(END)[2], encoding="utf-8")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
