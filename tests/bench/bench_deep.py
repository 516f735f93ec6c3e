"""What `check --deep` costs: against its slowest child alone, until a toolchain fault is known, and in memory.

    python tests/bench/bench_deep.py --python PYTHON [--rounds N]

`--python` is an interpreter with torch. Run with the interpreter that has envdoctor, on a machine that does nothing
else. The first deep run is not counted: it fills the page cache and finds the slowest child.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from envdoctor.asked import Asked
from envdoctor.check import Tier
from envdoctor.facts import Source
from envdoctor.host import Host
from envdoctor.probing.child import ChildRequest, ChildResult, run_child
from envdoctor.session import Doctor

DEEP_LIMIT = 1.25
KNOWN_LIMIT = 1.0
MEMORY_LIMIT = 80.0
COMPILES = "kernel.smoke-compile-cpu"
KNOWS = "kernel.compile-stages"
RULE = "kernel/cxx-compiler-missing"
EVENTS = """
import sys, time
from envdoctor.asked import Asked
from envdoctor.check import Tier
from envdoctor.facts import Source
from envdoctor.host import Host
from envdoctor.session import Doctor
began, python, until = float(sys.argv[1]), sys.argv[2], sys.argv[3]
def told(event):
    print(event.probe, event.seconds is not None, time.monotonic() - began, flush=True)
    if event.probe == until:
        sys.exit()
asked = Asked(deep=True, source=Source("call", "the benchmark"))
Doctor().look(Host.here(), tier=Tier.DEEP, python=python, asked=asked, on_event=told)
"""
"""Tells every probe's start and end, up to the start of the first compilation by torch."""


def slowest_child(python: str) -> ChildRequest:
    """What the slowest child of a deep run was asked; ranks of a group, which cannot run alone, aside."""
    ran: list[tuple[ChildRequest, ChildResult]] = []

    def run(request: ChildRequest) -> ChildResult:
        result = run_child(request)
        ran.append((request, result))
        return result

    here = Host.here()
    host = Host(
        environ=here.environ,
        uid=here.uid,
        gid=here.gid,
        groups=here.groups,
        system=here.system,
        machine=here.machine,
        run=run,
        cwd=here.cwd,
    )
    asked = Asked(deep=True, source=Source("call", "the benchmark"))
    Doctor().look(host, tier=Tier.DEEP, python=python, asked=asked)
    alone = [each for each in ran if "MASTER_PORT" not in (each[0].env or {})]
    return max(alone, key=lambda each: each[1].seconds)[0]


def deep_run(python: str) -> tuple[float, float]:
    """Wall seconds of one `check --deep`, and the peak memory in MiB of its own process (VmHWM)."""
    command = (sys.executable, "-m", "envdoctor", "check", "--deep", "--format", "json", "--python", python)
    began = time.perf_counter()
    peak = 0
    with tempfile.TemporaryFile() as out, subprocess.Popen(command, stdout=out) as process:
        while process.poll() is None:
            peak = max(peak, _high_water(process.pid))
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        out.seek(0)
        document = json.load(out)
    assert any(check["name"] == "kernel" and check["seconds"] > 1 for check in document["checks"])
    return seconds, peak / 1024


def _high_water(pid: int) -> int:
    """KiB; 0 once the process has given its memory back."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def alone(request: ChildRequest) -> float:
    """Wall seconds of that child and nothing beside it."""
    began = time.perf_counter()
    result = run_child(request)
    assert result.ok, result
    return time.perf_counter() - began


def until_known(python: str, empty: str) -> tuple[float, float]:
    """Seconds from the start of the process until the fault was seen, and until torch.compile came to be tried.

    PATH has no compiler.
    """
    variables = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX")}
    words = (sys.executable, "-c", EVENTS, str(time.monotonic()), python, COMPILES)
    done = subprocess.run(words, env={**variables, "PATH": empty}, capture_output=True, text=True, check=True)
    events = [line.split() for line in done.stdout.splitlines()]
    known = min(float(at) for probe, ended, at in events if probe == KNOWS and ended == "True")
    compiled = min(float(at) for probe, ended, at in events if probe == COMPILES and ended == "False")
    return known, compiled


def names_the_fault(python: str, empty: str) -> bool:
    """Whether the report of a default run on such a PATH has the rule: else the seconds are those of nothing."""
    command = (
        sys.executable,
        "-m",
        "envdoctor",
        "check",
        "--device",
        "cpu",
        "--format",
        "json",
        "--python",
        python,
    )
    done = subprocess.run(
        command, env={**os.environ, "PATH": empty, "CC": "", "CXX": ""}, capture_output=True
    )
    return RULE in [each["id"] for each in msgspec.json.decode(done.stdout)["findings"]]


def show(name: str, value: float, limit: float, unit: str, about: str) -> None:
    """One row."""
    verdict = "ok" if value <= limit else "OVER"
    print(f"{name:44} {value:8.2f} {unit:4} limit {limit:6.2f}  {verdict:4}  {about}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty:
        assert names_the_fault(options.python, empty), f"no {RULE} without a compiler"
        seen = [until_known(options.python, empty) for _ in range(2 * options.rounds + 1)]
    known, compiled = (statistics.median(each[place] for each in seen) for place in (0, 1))
    show(
        "a missing C++ compiler is known after",
        known,
        KNOWN_LIMIT,
        "s",
        f"torch.compile after {compiled:.2f} s",
    )
    request = slowest_child(options.python)
    pairs = [(deep_run(options.python), alone(request)) for _ in range(options.rounds)]
    whole = statistics.median(deep[0] for deep, _ in pairs)
    slowest = statistics.median(child for _, child in pairs)
    words = " ".join(word for word in request.argv[-4:] if word and "\n" not in word)
    about = f"{whole:.2f} s : {slowest:.2f} s ({words})"
    show("check --deep : its slowest child alone", whole / slowest, DEEP_LIMIT, "x", about)
    show("peak memory of the core", max(deep[1] for deep, _ in pairs), MEMORY_LIMIT, "MiB", "VmHWM")


if __name__ == "__main__":
    main()
