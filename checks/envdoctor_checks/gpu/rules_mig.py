"""GPUs in MIG mode, and which of their instances a process gets."""

from __future__ import annotations

from envdoctor.api import (
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Outcome,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
    Variables,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.facts import MultiGpuLaunch
from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.facts import (
    GpuModes,
    MigInstance,
    MigInstances,
)
from envdoctor_checks.gpu.reasoning import (
    CUDA,
    VISIBLE,
    multi_gpu,
    named,
    on_host,
    quoted,
    severity,
    wanted,
)
from envdoctor_checks.gpu.symptoms import (
    DeviceAssertFailed,
    NoGpuVisible,
)
from envdoctor_checks.gpu.visible import resolve
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda

NAME = "CUDA_VISIBLE_DEVICES"

MIG_DETAIL = (
    "On GPUs in MIG mode a CUDA process gets one MIG instance, the first one that it is given. PyTorch, which counts by NVML, "
    "may count the physical GPUs and then fail on its own assertion (device < num_gpus). CUDA_VISIBLE_DEVICES=MIG-<UUID> says "
    "which instance is meant, and makes both agree."
)


def _choose(instances: MigInstances | None) -> tuple[Remedy, ...]:
    uuid = next((each.uuid for each in instances.instances if each.uuid), None) if instances else None
    listing = Run(title="list the instances with their UUIDs", commands=("nvidia-smi -L",), reach=Reach.SHELL)
    chosen = SetVariable(
        NAME, uuid or "MIG-<UUID of an instance, from nvidia-smi -L>", why="one MIG instance per process"
    )
    return (chosen,) if uuid else (listing, chosen)


@check.rule
def mig_needs_visible_devices(
    modes: GpuModes,
    instances: MigInstances,
    variables: Variables | None,
    torch: TorchBuild | None,
    cuda: TorchCuda | None,
    around: Surroundings | None,
) -> Findings:
    """MIG is on, and CUDA_VISIBLE_DEVICES names no instance (or there is none)."""
    mig = modes.in_mig
    if not mig or modes.source.kind == "text":
        return
    failed = (CUDA,) if cuda is not None and not cuda.available else ()
    if len(mig) == len(modes.gpus) and not instances.instances:
        yield _no_instance(modes, failed, severity(wanted(torch)), around)
    elif len(modes.gpus) > 1 and variables is not None and variables.get(NAME) is None:
        yield Finding(
            subject=f"variable:{NAME}",
            title=f"MIG is on and {NAME} names no instance, so PyTorch counts {len(modes.gpus)} GPUs and CUDA gives it one instance",
            severity=Severity.ERROR if failed else Severity.WARNING if wanted(torch) else Severity.NOTE,
            confidence=Confidence.CERTAIN if failed else Confidence.LIKELY,
            detail=MIG_DETAIL,
            evidence=(modes.shows("GPUs in MIG mode", ", ".join(mig)), variables.evidence(NAME)),
            remedies=_choose(instances),
            breaks=(VISIBLE,) if failed else (),
            shows=failed,
        )


def _no_instance(
    modes: GpuModes,
    seen: tuple[Outcome, ...],
    level: Severity,
    around: Surroundings | None,
    more: tuple[Evidence, ...] = (),
) -> Finding:
    return Finding(
        title="MIG is on and no instance was made, so CUDA has no device",
        severity=level,
        detail="A GPU in MIG mode is used through its instances only. Either they are made, or MIG is switched off.",
        evidence=(modes.shows("GPUs in MIG mode", ", ".join(modes.in_mig)), *more),
        remedies=(
            on_host(
                around,
                Run(
                    title="make an instance (here: the first profile that is listed), or switch MIG off",
                    commands=(
                        "nvidia-smi mig -lgip  # the profiles and their ids",
                        "nvidia-smi mig -cgi 9 -C  # for example profile 9",
                        f"nvidia-smi -i {modes.in_mig[0]} -mig 0  # or: off",
                    ),
                    reach=Reach.HOST,
                    needs_root=True,
                    caveat="Switching MIG needs a GPU that nobody uses; before Hopper it needs a reset of the GPU.",
                    verify="nvidia-smi -L",
                ),
            ),
        ),
        breaks=(VISIBLE,),
        shows=seen,
    )


@mig_needs_visible_devices.sign
def _counted_wrong(
    said: DeviceAssertFailed,
    modes: GpuModes | None,
    instances: MigInstances | None,
    variables: Variables | None,
    launches: tuple[MultiGpuLaunch, ...],
) -> Findings:
    """torch's assertion, on a machine that shows MIG."""
    if not _has_mig(modes, instances) or _several_wanted(variables, instances, launches):
        return
    yield Finding(
        subject=f"variable:{NAME}",
        title=f"MIG is on and {NAME} names no instance",
        detail=MIG_DETAIL,
        evidence=(*quoted(said), *_mig_evidence(modes, instances)),
        remedies=_choose(instances),
        breaks=(VISIBLE,),
        shows=(CUDA,),
    )


def _has_mig(modes: GpuModes | None, instances: MigInstances | None) -> bool:
    return bool((modes and modes.in_mig) or (instances and instances.instances))


def _mig_evidence(modes: GpuModes | None, instances: MigInstances | None) -> tuple[Evidence, ...]:
    found = []
    if modes and modes.in_mig:
        found.append(modes.shows("GPUs in MIG mode", ", ".join(modes.in_mig)))
    if instances and instances.instances:
        found.append(instances.shows("MIG instances", ", ".join(map(_shown, instances.instances))))
    return tuple(found)


def _shown(instance: MigInstance) -> str:
    return f"{named(instance.gpu)} {instance.name}"


def _several_wanted(
    variables: Variables | None, instances: MigInstances | None, launches: tuple[MultiGpuLaunch, ...]
) -> bool:
    """Whether one process, or one job, is to use more than one instance."""
    value = variables.get(NAME) if variables else None
    listed = (
        value is not None
        and len([each for each in value.split(",") if each.strip().upper().startswith("MIG-")]) > 1
    )
    return listed or multi_gpu(variables, launches)


@mig_needs_visible_devices.sign
def _none_made(
    said: NoGpuVisible, modes: GpuModes, instances: MigInstances, around: Surroundings | None
) -> Findings:
    """No device, and nvidia-smi shows MIG without instances."""
    if modes.in_mig and len(modes.in_mig) == len(modes.gpus) and not instances.instances:
        yield _no_instance(modes, (CUDA,), Severity.ERROR, around, quoted(said))


ONE_PER_PROCESS = Change(
    title="give every process a single MIG instance of its own, by its UUID",
    reach=Reach.SHELL,
    example=(
        "CUDA_VISIBLE_DEVICES=MIG-<UUID of one instance> python train.py",
        "CUDA_VISIBLE_DEVICES=MIG-<UUID of another> python train.py",
    ),
)
WHOLE = Run(
    title="for a job that needs several GPUs at once: switch MIG off, NCCL does not work between MIG instances",
    commands=("nvidia-smi -mig 0",),
    reach=Reach.HOST,
    needs_root=True,
    caveat="It needs GPUs that nobody uses; before Hopper a reset of the GPU too.",
    verify="nvidia-smi -L",
)


@check.rule
def mig_one_instance_per_process(
    variables: Variables, modes: GpuModes, instances: MigInstances, around: Surroundings | None
) -> Findings:
    """One process, or one job, is to use several MIG instances: CUDA gives a process one."""
    value = variables.get(NAME)
    if value is None or not modes.in_mig or not variables.complete:
        return
    meant = [
        each
        for each in resolve(value, None, instances).visible
        if each in modes.in_mig or each.startswith("MIG-")
    ]
    if len(meant) < 2:
        return
    yield Finding(
        subject=f"variable:{NAME}",
        title=f"{NAME} names {len(meant)} MIG instances, and a process gets one",
        severity=Severity.ERROR if multi_gpu(variables) else Severity.WARNING,
        detail=MIG_DETAIL,
        evidence=(variables.evidence(NAME), *_mig_evidence(modes, instances)),
        remedies=(ONE_PER_PROCESS, on_host(around, WHOLE)),
        breaks=(VISIBLE,) if multi_gpu(variables) else (),
    )


@mig_one_instance_per_process.sign
def _several_asked(
    said: DeviceAssertFailed,
    modes: GpuModes | None,
    instances: MigInstances | None,
    variables: Variables | None,
    launches: tuple[MultiGpuLaunch, ...],
    around: Surroundings | None,
) -> Findings:
    """torch's assertion in a job of several processes, or with several instances named."""
    if _has_mig(modes, instances) and _several_wanted(variables, instances, launches):
        yield Finding(
            title="a job wants several MIG instances, and CUDA gives a process one",
            detail=MIG_DETAIL,
            evidence=(*quoted(said, *launches[:1]), *_mig_evidence(modes, instances)),
            remedies=(ONE_PER_PROCESS, on_host(around, WHOLE)),
            breaks=(VISIBLE,),
            shows=(CUDA,),
        )
