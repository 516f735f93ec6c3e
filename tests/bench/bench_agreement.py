"""How often the model of the loader and this machine's loader agree, over random trees of libraries.

    python -m tests.bench.bench_agreement --resolutions 10000 --seed 1

A resolution is one start or dlopen, or one DT_NEEDED entry of an object that it loaded. Prints what was exercised,
and each disagreement in the smallest tree that still shows it. Exit code 1 where there was any.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import msgspec

from tests.support.loader_agreement import Disagreement, Tally, disagreements, shrink
from tests.support.loader_oracle import Oracle, why_not


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resolutions", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=3, help="disagreements to shrink and print")
    asked = parser.parse_args()
    reason = why_not()
    if reason:
        sys.exit(f"the real loader cannot be asked here: {reason}")
    tally, found = Tally(), 0
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        oracle = Oracle(Path(folder))
        for differs in disagreements(oracle, Random(asked.seed), Path(folder), asked.resolutions, tally):
            found += 1
            if found <= asked.show:
                show(shrink(oracle, differs, Path(folder)))
    report(tally, found, time.perf_counter() - start)
    return 1 if found else 0


def show(found: Disagreement) -> None:
    print(msgspec.json.format(msgspec.json.encode(found.world), indent=1).decode())
    print(f"step {found.step}\n  loader {found.loader}\n  model  {found.model}\n", flush=True)


def report(tally: Tally, found: int, seconds: float) -> None:
    for kind, count in tally.kinds.most_common():
        print(f"{count:8d}  {kind}")
    print(
        f"{tally.resolutions} resolutions in {tally.scripts} scripts, {found} disagreements, {seconds:.1f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
