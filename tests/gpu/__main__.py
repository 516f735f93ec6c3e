"""``python -m tests.gpu``: run every GPU test, record this machine, print the figures.

The recording is redacted and goes to fixtures/machines/<gpu>.json; read it before you commit it. pytest's options may be
given, ``-k groups``. The exit code is pytest's.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from envdoctor.report import Selection
from tests.gpu.test_groups import visible
from tests.support.cases import MACHINES, doctor

HERE = Path(__file__).resolve().parent


class Figures:
    """Collects what tests print as ``figure: ...``."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.lines += re.findall(r"^figure: (.+)$", report.capstdout, re.MULTILINE)


def recorded() -> Path | None:
    """Record this machine with every check, redacted, under the name of its GPU; None where it has none."""
    if visible() == 0:
        return None
    draft = MACHINES / "draft.json"
    argv = [
        sys.executable,
        "-m",
        "envdoctor",
        "record",
        "--deep",
        "--python",
        sys.executable,
        "-o",
        str(draft),
    ]
    subprocess.run(argv, check=True)
    document = msgspec.json.decode(draft.read_bytes())
    devices = document["facts"]["torch.devices"]["devices"]
    name = re.sub(r"[^a-z0-9]+", "-", devices[0]["name"].lower()).strip("-")
    number = f"-x{len(devices)}" if len(devices) > 1 else ""
    return draft.replace(MACHINES / f"recorded-{name}{number}.json")


def main() -> int:
    """Tests, then the recording, then the figures."""
    figures = Figures()
    code = int(pytest.main([str(HERE), "--slow", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[figures]))
    path = recorded()
    if path is None:
        print("torch sees no GPU on this machine: nothing was recorded")
        return code
    print(f"recorded: fixtures/machines/{path.name}")
    seen = doctor().recorded([str(path)])
    report = doctor().report(seen, Selection())
    for row in report.machine:
        print(f"  {row.label}: {row.value}")
    for view in report.views:
        print(f"  {view.title}")
        for cells in view.rows:
            print(f"    {' | '.join(cells)}")
    for line in figures.lines:
        print(f"  {line}")
    return code


if __name__ == "__main__":
    sys.exit(main())
