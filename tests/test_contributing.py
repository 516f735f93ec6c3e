"""The stranger's check that CONTRIBUTING.md prints works as it is printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"


def printed(name: str) -> str:
    found = re.search(rf"`{re.escape(name)}`:\n\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found, f"CONTRIBUTING.md prints no {name}"
    return found.group(1)


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that has the distribution, laid out as pip would."""
    (tmp_path / "envdoctor_scratch.py").write_text(printed("envdoctor_scratch.py"))
    project = printed("pyproject.toml")
    section = project.partition('[project.entry-points."envdoctor.checks"]')[2].replace('"', "")
    info = tmp_path / "envdoctor_scratch-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: envdoctor-scratch\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[envdoctor.checks]\n{section.strip()}\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def doctor(environ: dict[str, str], *arguments: str, text: str = "") -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "envdoctor", *arguments, "--format", "json"],
        env=environ, input=text, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert isinstance(report, dict), done.stderr
    return report


def ids(report: dict[str, object]) -> list[str]:
    findings = report["findings"]
    assert isinstance(findings, list)
    return [finding["id"] for finding in findings]


def test_silent_on_a_writable_disk(installed: dict[str, str], tmp_path: Path) -> None:
    report = doctor({**installed, "TMPDIR": str(tmp_path)}, "check", "--quick", "--select", "scratch")
    assert ids(report) == []
    checks = report["checks"]
    assert isinstance(checks, list)
    assert [check["outcome"] for check in checks if check["name"] == "scratch"] == ["ok"]


def test_fires_on_the_machine(installed: dict[str, str]) -> None:
    report = doctor({**installed, "TMPDIR": "/nowhere/at/all"}, "check", "--quick", "--select", "scratch")
    assert ids(report) == ["scratch/not-writable"]


def test_fires_on_a_text(installed: dict[str, str]) -> None:
    report = doctor(installed, "explain", "-", text="job 17\nE122: scratch quota exceeded\n")
    assert ids(report) == ["scratch/not-writable"]
