"""What the tests of children share."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from envdoctor.probing.child import ChildRequest, ChildResult, python_request, run_child

ROOT = str(Path(__file__).parents[2])
LONG = 60  # nothing here may take this long: who waits for it would show by that


def run(script: str, deadline: float = LONG, **more: Any) -> ChildResult:
    request = python_request(sys.executable, textwrap.dedent(script), deadline=deadline, env=None, **more)
    return run_child(request)


def command(*argv: str, deadline: float = LONG, **more: Any) -> ChildResult:
    return run_child(ChildRequest(argv=argv, deadline=deadline, **more))


def driver(code: str, *args: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """A process of its own that uses the module, for what would leave traces in this one."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", textwrap.dedent(code), *args],
        env=os.environ | {"PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, err
    return out


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")
