"""Compile a small kernel for the GPUs of ``--for``, which need not be here: Triton in a child of the target."""

from __future__ import annotations

from typing import Any

from envdoctor.api import Asked, CouldNotLook, Host, LeftOut, Source, Target, TargetPaths, Tier, imports
from envdoctor.probing.child import ChildEnd, ChildResult, python_request
from envdoctor.target import failure
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts_for import CompiledFor, TargetCompile
from envdoctor_checks.kernel.for_script import SCRIPT
from envdoctor_checks.kernel.rules_triton import installed_triton
from envdoctor_checks.python.facts import Distributions

DEADLINE = 60.0
"""Seconds for all of them; two take under three, unless Triton lies on a cold or distant file system."""


@check.probe(tier=Tier.DEFAULT, deadline=DEADLINE + 10, tries=(imports("triton"),))
def compiled_for(
    host: Host, target: Target, paths: TargetPaths, asked: Asked, packages: Distributions | None
) -> CompiledFor | None:
    """Compile, and tell of each architecture how it went. No C compiler is needed: nothing is launched."""
    del paths  # an interpreter that answers is what it needs
    if not asked.architectures:
        return None
    if packages is not None and packages.complete and installed_triton(packages) is None:
        raise LeftOut("Triton is not installed, with which kernels are compiled for the GPUs of --for")
    version, targets, left = "", list[TargetCompile](), min(DEADLINE, host.remaining() - 1.0)
    while waiting := asked.architectures[len(targets) :]:
        request = python_request(
            target.python, SCRIPT, deadline=left, env=host.environ, args=waiting, temporary_directory=True
        )
        result = host.run_child(request)
        tried, left = _targets(result), left - result.seconds
        version, targets = _version(result) or version, [*targets, *tried]
        if not targets:
            raise CouldNotLook(f"Triton, asked to compile for {', '.join(waiting)}, {failure(result)}")
        if result.ok or not tried or result.end is ChildEnd.TIMED_OUT or left <= 0:
            break  # else it died of one of them: another child goes on with the rest
    return CompiledFor(triton=version, targets=tuple(targets), source=Source("child", "triton.compile"))


def _version(result: ChildResult) -> str | None:
    told = next((stage for stage in result.stages if stage["stage"] == "triton"), None)
    return str(told["version"]) if told is not None else None


def _targets(result: ChildResult) -> list[TargetCompile]:
    """What was told of each; the one that the child did not come back from has failed by that."""
    told = {
        stage["architecture"]: _target(stage)
        for stage in result.stages
        if stage["stage"] in ("compiled", "failed")
    }
    begun = [stage["architecture"] for stage in result.stages if stage["stage"] == "compiling"]
    lost = (name for name in begun if name not in told)
    return [*told.values(), *(TargetCompile(name, ok=False, error=failure(result)) for name in lost)]


def _target(stage: dict[str, Any]) -> TargetCompile:
    if stage["stage"] == "failed":
        return TargetCompile(
            stage["architecture"], ok=False, seconds=round(stage["seconds"], 2), error=stage["error"].strip()
        )
    return TargetCompile(
        stage["architecture"],
        ok=True,
        seconds=round(stage["seconds"], 2),
        ptx_version=stage["version"],
        ptx_target=stage["target"],
        cubin_bytes=stage["bytes"],
    )
