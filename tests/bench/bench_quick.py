"""What each check adds to `check --quick` on a machine of which it has nothing to say.

    python -m tests.bench.bench_quick [--python TARGET] [--rounds N] [--limit MS]

Each round starts the quick check once with its parts timed, and `python -c pass` beside it. A check's part is the
processor time of importing its own modules (`load`), of its probes on their threads (`probes`), and of handing its
rules their facts and running them, tables included (`rules`); all of them hold the interpreter's lock, so that is also
what somebody waits for. What belongs to no check, such as threads, the examined interpreter's paths and the report,
is the row `core`. Leaving one check out instead would blame it for others, whose probes and rules need its facts.
"""

from __future__ import annotations

import argparse
import compileall
import statistics
import subprocess
import sys
from pathlib import Path

import msgspec

from tests.bench.bench_cli import timed

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 15.0
"""Milliseconds that one check may add."""
TIMED = """
import gc, importlib.machinery, json, sys, threading, time
gc.set_threshold(100_000)  # as the command line does
from collections import defaultdict
began = time.process_time()
spent = defaultdict(float)
here = threading.local()  # what judges is imported on a thread of its own

class Loader:  # counts what a module of a check takes, without the modules of checks that it imports
    def __init__(self, loader, owner):
        self.loader, self.owner = loader, owner
    def __getattr__(self, name):
        return getattr(self.loader, name)
    def exec_module(self, module):
        now = time.thread_time()
        running = here.__dict__.setdefault("running", [])
        if running:
            spent[running[-1][0], "load"] += now - running[-1][1]
        running.append([self.owner, now])
        try:
            self.loader.exec_module(module)
        finally:
            owner, since = running.pop()
            now = time.thread_time()
            spent[owner, "load"] += now - since
            if running:
                running[-1][1] = now

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        parts = name.split(".")
        if parts[0] != "envdoctor_checks" or len(parts) < 2:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = Loader(spec.loader, parts[1])
        return spec

sys.meta_path.insert(0, Finder)
from envdoctor import judging, session
from envdoctor.check import Tier
from envdoctor.engine import Look
from envdoctor.host import Host
from envdoctor.report import Selection
run_probe, bind_rule, said_by, needs_of = Look._run, judging._bind_rule, judging._said_by, session.needs_of

def probe(self, job, *more):
    since = time.thread_time()
    run_probe(self, job, *more)
    spent[job.check.name, "probes"] += time.thread_time() - since

def rule(function, of):
    def run(*arguments):
        since = time.thread_time()
        try:
            return function(*arguments)
        finally:
            spent[of(arguments[0]), "rules"] += time.thread_time() - since
    return run

Look._run = probe
judging._bind_rule = rule(bind_rule, lambda rule: rule.id.partition("/")[0])
judging._said_by = rule(said_by, lambda bound: bound.rule.id.partition("/")[0])
session.needs_of = rule(needs_of, lambda sign: sign.__module__.split(".")[1])
doctor = session.Doctor()
seen = doctor.look(Host.here(), tier=Tier.QUICK, python=sys.argv[1])
report = doctor.report(seen, Selection())
whole = time.process_time() - began
loud = [each.rule for each in report.findings]
names = [check.name for check in doctor.plugins.checks]
told = {name: [1000 * spent[name, part] for part in ("load", "probes", "rules")] for name in names}
print(json.dumps({"checks": told, "whole": 1000 * whole, "findings": loud}))
"""


class Round(msgspec.Struct, frozen=True):
    """One timed check, in milliseconds of processor time."""

    checks: dict[str, tuple[float, float, float]]
    """Load, probes and rules of each check."""
    whole: float
    findings: list[str]


def main() -> None:
    """Measure and print one row per check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the examined interpreter")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--limit", type=float, default=LIMIT, help="milliseconds that one check may add")
    options = parser.parse_args()
    for folder in ("envdoctor", "checks"):  # without caches, compiling would be measured
        compileall.compile_dir(str(REPOSITORY / folder), quiet=1)
    rounds: list[Round] = []
    bare: list[float] = []
    for _ in range(options.rounds):
        told = subprocess.run((sys.executable, "-c", TIMED, options.python), capture_output=True, text=True)
        if told.returncode:
            sys.exit(told.stderr)
        rounds.append(msgspec.json.decode(told.stdout, type=Round))
        bare.append(1000 * timed((sys.executable, "-c", "pass"))[0])
    if rounds[0].findings:
        print("this machine is not healthy, so judge the rows with care:", *rounds[0].findings)
    show(rounds, statistics.median(bare), options.limit)


def show(rounds: list[Round], bare: float, limit: float) -> None:
    """Medians in milliseconds of processor time; the ratio is to the wall time of `python -c pass`."""
    print(f"{'check':10} {'ms':>7}  {'load':>6} {'probes':>6} {'rules':>6}  {'ratio to python -c pass':>23}")
    totals = 0.0
    for name in rounds[0].checks:
        parts = zip(*(each.checks[name] for each in rounds), strict=True)
        row = " ".join(f"{statistics.median(part):6.1f}" for part in parts)
        total = statistics.median(sum(each.checks[name]) for each in rounds)
        totals += total
        verdict = f"over {limit:g} ms" if total > limit else ""
        print(f"{name:10} {total:7.1f}  {row}  {total / bare:23.2f}  {verdict}")
    core = statistics.median(each.whole for each in rounds) - totals
    print(f"{'core':10} {core:7.1f}  {'':20}  {core / bare:23.2f}  python -c pass: {bare:.1f} ms")


if __name__ == "__main__":
    main()
