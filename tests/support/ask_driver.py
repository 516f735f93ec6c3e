"""Programs that are run against the fake driver, each in a child of its own."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.support.fake_driver import SOURCES, FakeDriver

if TYPE_CHECKING:
    from pathlib import Path

    Done = subprocess.CompletedProcess[str]

NVML = str(SOURCES / "ask_nvml.py")
CUDA = str(SOURCES / "ask_cuda.py")

DEADLINE = 60
"""Seconds that no healthy child needs; only a broken test waits so long."""


def base_environ() -> dict[str, str]:
    """This process's environment, without what would change the answers."""
    return {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")}


def command(program: str) -> list[str]:
    """How to start a file, or a program that is given itself."""
    return [sys.executable, program] if program.endswith(".py") else [sys.executable, "-c", program]


def child(driver: FakeDriver, scenario: str | Path, program: str, **more: str) -> Done:
    """Run a program to its end under a scenario."""
    return run(program, {**driver.environ(scenario, base_environ()), **more})


def run(program: str, environ: dict[str, str]) -> Done:
    """Run a program to its end."""
    return subprocess.run(command(program), env=environ, capture_output=True, text=True, timeout=DEADLINE)


@functools.cache
def ask(driver: FakeDriver, scenario: str | Path, program: str = NVML, **more: str) -> dict[str, Any]:
    """What the program's last line says. The same question is put to one child only."""
    done = child(driver, scenario, program, **more)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
