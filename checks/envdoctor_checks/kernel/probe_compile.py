"""The small compile-and-load probe: no torch, one child of the target, everything in a private folder."""

from __future__ import annotations

from typing import Any

from envdoctor.api import CouldNotLook, Host, Source, Target, TargetPaths, Tier
from envdoctor.probing.child import ChildEnd, ChildResult, python_request
from envdoctor.target import failure
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.compile_script import SCRIPT
from envdoctor_checks.kernel.facts import CompileStages, Stage

DEADLINE = 15.0
"""Seconds; it takes under half of one, unless the compilers lie on a cold or distant file system."""
NO_ROOM = ("No space left on device", "Disk quota exceeded")
"""Words after which a compiler's failure says nothing of the compiler."""
ORDER = ("c", "cxx", "python-h", "openmp", "load")


@check.probe(tier=Tier.DEFAULT, deadline=DEADLINE + 4)
def compile_stages(host: Host, target: Target, paths: TargetPaths) -> CompileStages:
    """Compile three lines as Inductor and Triton would, and load them."""
    del paths  # an interpreter that answers is what it needs
    if host.system == "windows":
        raise CouldNotLook("compiling is not tried on Windows")
    request = python_request(
        target.python, SCRIPT, deadline=DEADLINE, env=host.environ, temporary_directory=True
    )
    result = host.run_child(request)
    stages = {stage["stage"]: stage for stage in result.stages}
    timed_out = result.end is ChildEnd.TIMED_OUT
    told = [str(stage.get("output", "")) for stage in result.stages] + [result.stderr.text]
    if any(full in each for each in told for full in NO_ROOM):
        raise CouldNotLook(
            "the disk of temporary files is full", "make room there, or name another with TMPDIR"
        )
    if "compiling" not in stages or (not result.ok and not timed_out):
        raise CouldNotLook(f"the child that compiles {failure(result)}")
    tried = tuple(_stage(name, stages[name]) for name in ORDER if name in stages)
    return CompileStages(
        stages=tried,
        timed_out=_reached(result) if timed_out else None,
        user=stages.get("user", {}).get("name"),
        source=Source("child", "compile-and-load"),
    )


def _stage(name: Any, told: dict[str, Any]) -> Stage:
    return Stage(name=name, ok=told["ok"], command=told["command"], output=told["output"].strip())


def _reached(result: ChildResult) -> str:
    """The stage after the last one that was told."""
    done = {stage["stage"] for stage in result.stages}
    return next((name for name in ORDER if name not in done), "load")
