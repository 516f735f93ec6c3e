"""Running out of memory with much of it reserved, and waiting for every kernel."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Finding,
    Findings,
    Outcome,
    Reach,
    Remedy,
    SetVariable,
    Severity,
    UnsetVariable,
    Variables,
)
from envdoctor.tables import compare_releases
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import TorchBuild
from envdoctor_checks.torch.known import torch_version
from envdoctor_checks.torch.rules_alloc import read_by, settings_of
from envdoctor_checks.torch.symptoms import (
    OutOfMemory,
)

MEMORY = Outcome("memory")
LARGE = 512.0
"""MiB. Less than this that is reserved and unallocated is ordinary rounding."""


@check.rule
def allocator_fragmentation(
    said: OutOfMemory, variables: Variables | None, build: TorchBuild | None, packages: Distributions | None
) -> Findings:
    """Out of memory with much memory reserved and unallocated."""
    if (
        said.unallocated is None
        or said.tried is None
        or said.unallocated < max(said.tried, LARGE, 0.05 * (said.total or 0.0))
    ):
        return
    version = torch_version(build, packages)
    on = [
        each
        for each in settings_of(variables)
        if (each.option, each.value) == ("expandable_segments", "True")
    ]
    active = [each for each in on if read_by(version, each.variable, rocm=False)]
    remedies: tuple[Remedy, ...] = (
        SetVariable(
            name="PYTORCH_CUDA_ALLOC_CONF",
            value="expandable_segments:True",
            why="blocks can then grow instead of leaving gaps",
        ),
    )
    if version is not None and compare_releases(version, "2.1") < 0:
        remedies = (
            SetVariable(
                name="PYTORCH_CUDA_ALLOC_CONF",
                value="max_split_size_mb:128",
                why="expandable segments came with torch 2.1",
            ),
        )
    if active:
        remedies = (
            Change(
                title="give back what is cached before the large allocation, or keep the shapes the same",
                reach=Reach.SHELL,
                example=("torch.cuda.empty_cache()",),
            ),
        )
    yield Finding(
        title=f"{said.unallocated / 1024:.1f} GiB are reserved and not in use, and {_size(said.tried)} could not be had in one piece",
        confidence=Confidence.POSSIBLE if active or on else Confidence.LIKELY,
        detail="The allocator holds more free memory than was asked for, cut into pieces that are too small: fragmentation.",
        evidence=(said.evidence(), *(variables.evidence(each.variable) for each in on[:1] if variables)),
        remedies=remedies,
        breaks=() if on and not active else (MEMORY,),
        shows=(MEMORY,),
    )


def _size(mebibytes: float) -> str:
    return f"{mebibytes / 1024:.1f} GiB" if mebibytes >= 1024 else f"{mebibytes:.0f} MiB"


@check.rule
def launch_blocking_left_on(variables: Variables, devices: GpuDevices | None) -> Findings:
    """CUDA_LAUNCH_BLOCKING=1 was left on."""
    value = variables.get("CUDA_LAUNCH_BLOCKING")
    if value is None or value.strip() in ("", "0"):
        return
    job = any(variables.get(name) for name in ("WORLD_SIZE", "SLURM_JOB_ID", "MASTER_ADDR"))
    in_text = variables.source.kind == "text"
    yield Finding(
        title=f"CUDA_LAUNCH_BLOCKING={value} makes the program wait for every kernel",
        subject="variable:CUDA_LAUNCH_BLOCKING",
        severity=Severity.WARNING if job or in_text else Severity.NOTE,
        detail="It is meant for finding the line of a failing kernel. While it is set, the GPU idles between launches, and overlapping transfers, streams and collectives are gone.",
        evidence=(variables.evidence("CUDA_LAUNCH_BLOCKING"),),
        remedies=(UnsetVariable(name="CUDA_LAUNCH_BLOCKING"),),
        asks=(
            Ask("env | grep CUDA_LAUNCH_BLOCKING", "whether it is still set where the program is started"),
        ),
    )
