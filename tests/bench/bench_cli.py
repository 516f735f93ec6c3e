"""How long envdoctor takes, as ratios to something measured beside it in the same run.

    python tests/bench/bench_cli.py [--target PYTHON] [--rounds N]

`--target` is an interpreter with torch: its `python -m torch.utils.collect_env` and a bare torch child are measured
against `check`. Without it, only what needs no torch is measured. Run with the interpreter that has envdoctor.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

TRACEBACK = """Traceback (most recent call last):
  File "/srv/app/train.py", line 3, in <module>
    import torch
  File "/srv/app/.venv/lib/python3.11/site-packages/torch/__init__.py", line 405, in <module>
    from torch._C import *  # noqa: F403
ImportError: libcudart.so.12: cannot open shared object file: No such file or directory
"""
DOCTOR = (sys.executable, "-m", "envdoctor")


def timed(
    argv: tuple[str, ...], text: str = "", environ: Mapping[str, str] | None = None
) -> tuple[float, float]:
    """Wall seconds of one run, and the peak memory in MiB of its own process (not of its children)."""
    started = time.perf_counter()
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environ,
    )
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.close()
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    return time.perf_counter() - started, used.ru_maxrss / 1024


def compare(
    name: str,
    ours: Callable[[], tuple[float, float]],
    theirs: Callable[[], tuple[float, float]],
    limit: float,
    rounds: int,
) -> None:
    """Interleave both and print the ratio of their medians beside the limit that was set for it."""
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    for index, what, unit in ((0, "time", "s"), (1, "memory", "MiB")):
        mine = statistics.median(pair[0][index] for pair in pairs)
        other = statistics.median(pair[1][index] for pair in pairs)
        verdict = f"limit {limit:.2f}" if index == 0 or limit < 1 else ""
        print(f"{name:46} {what:7} {mine:9.3f} / {other:9.3f} {unit:4} = {mine / other:6.2f}  {verdict}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    rounds = options.rounds

    def nothing() -> tuple[float, float]:
        return timed((sys.executable, "-c", "pass"))

    compare("--version : python -c pass", lambda: timed((*DOCTOR, "--version")), nothing, 4, rounds)
    compare(
        "explain one traceback : python -c pass",
        lambda: timed((*DOCTOR, "explain", "-"), TRACEBACK),
        nothing,
        15,
        rounds,
    )
    if not options.target:
        print("no --target with torch: check is not measured")
        return
    target = options.target
    few = max(3, rounds // 2)
    compare(
        "check --quick : torch.utils.collect_env",
        lambda: timed((*DOCTOR, "check", "--quick", "--python", target)),
        lambda: timed((target, "-m", "torch.utils.collect_env")),
        1 / 8,
        few,
    )
    compare(
        "check : the torch child alone",
        lambda: timed((*DOCTOR, "check", "--python", target)),
        lambda: timed(torch_child(target)),
        1.3,
        few,
    )


def torch_child(target: str) -> tuple[str, ...]:
    """The longest child of a default check, run by itself as `check` runs it."""
    alone = (
        "import os, sys\n"
        "from envdoctor.probing.child import python_request, run_child\n"
        "from envdoctor_checks.torch.child_script import SCRIPT\n"
        "environ = {**os.environ, 'LD_DEBUG': 'libs,files'}\n"
        "run_child(python_request(sys.argv[1], SCRIPT, deadline=60, env=environ, temporary_directory=True))\n"
    )
    return (sys.executable, "-c", alone, target)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
