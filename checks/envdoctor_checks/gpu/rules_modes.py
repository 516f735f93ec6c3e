"""Compute modes and MPS: who may use a GPU together with whom."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Reach,
    Relaunch,
    Remedy,
    Run,
    Severity,
    UnsetVariable,
    Variables,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.facts import CudaInit
from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.facts import (
    GpuModes,
    GpuProcesses,
    Modes,
    MpsPipe,
)
from envdoctor_checks.gpu.reasoning import (
    CUDA,
    KERNEL,
    contained,
    named,
    on_host,
    quoted,
    severity,
    subject,
    wanted,
)
from envdoctor_checks.gpu.symptoms import (
    DeviceBusy,
    MpsFailed,
)
from envdoctor_checks.torch.facts import TorchBuild

MODE_DETAIL = (
    "In mode EXCLUSIVE_PROCESS a GPU gives one process a context and turns every other one away, DataLoader workers that use "
    "CUDA and a second rank on the same GPU included; in mode PROHIBITED it gives none. Clusters set it on purpose."
)

MPS = "nvidia-cuda-mps-server"
"""The one process that an exclusive GPU lets in so that others share it: NVIDIA's way to run MPS."""


def _default_mode(label: str | None) -> Run:
    which = f" -i {label}" if label else ""
    return Run(
        title=f"let several processes share {named(label)}",
        commands=(f"nvidia-smi{which} -c DEFAULT",),
        reach=Reach.HOST,
        needs_root=True,
        caveat="On a cluster ask whoever runs it first: the mode keeps jobs apart.",
        verify=f"nvidia-smi{which} -q -d COMPUTE",
    )


ONE_EACH = Change(
    title="or start one process per GPU only, and end the one that holds it (nvidia-smi shows its PID); with MPS, several share it",
    reach=Reach.SHELL,
)


@check.rule
def compute_mode_exclusive(
    modes: GpuModes, processes: GpuProcesses | None, torch: TorchBuild | None, around: Surroundings | None
) -> Findings:
    """A GPU's compute mode (EXCLUSIVE_PROCESS or PROHIBITED) keeps a second process out."""
    if modes.source.kind == "text":
        return  # without an error that somebody met, the mode is as it should be
    taken = {each.gpu: each for each in processes.processes if not each.graphics} if processes else {}
    shared = (
        {each.gpu for each in processes.processes if (each.name or "").endswith(MPS)} if processes else set()
    )
    shut = [
        each
        for each in modes.gpus
        if each.compute == "prohibited"
        or (each.compute != "default" and each.gpu in taken and each.gpu not in shared)
    ]
    for each in shut:
        holder = taken.get(each.gpu)
        level = severity(wanted(torch))
        if level is Severity.ERROR and len(shut) < len(modes.gpus):
            level = Severity.WARNING
        yield Finding(
            subject=subject(each.gpu),
            title=f"{named(each.gpu)} is in compute mode {each.compute}"
            + (f", and process {holder.pid} has it" if holder and each.compute != "prohibited" else ""),
            severity=level,
            detail=MODE_DETAIL,
            evidence=(
                modes.shows(f"compute mode of {named(each.gpu)}", each.compute),
                *_holding(processes, each),
            ),
            remedies=(on_host(around, _default_mode(each.gpu)), ONE_EACH),
            breaks=(KERNEL,),
        )


def _holding(processes: GpuProcesses | None, mode: Modes) -> tuple[Evidence, ...]:
    found = [each for each in processes.processes if each.gpu == mode.gpu] if processes else []
    return tuple(
        processes.shows(f"process on {named(mode.gpu)}", f"{each.pid} {each.name or ''}".strip())
        for each in found
        if processes
    )


@compute_mode_exclusive.sign
def _turned_away(
    said: tuple[DeviceBusy, ...], modes: GpuModes | None, around: Surroundings | None
) -> Findings:
    """CUDA gave no context."""
    if not said:
        return
    shut = next((each for each in modes.gpus if each.compute != "default"), None) if modes else None
    certain = shut is not None or any(each.exclusive for each in said)
    confidence = Confidence.CERTAIN if certain else Confidence.POSSIBLE if modes else Confidence.LIKELY
    label = shut.gpu if shut and modes and len(modes.gpus) == 1 else None
    yield Finding(
        subject=subject(label),
        title=f"{named(label)} gives this process no context: "
        + (
            "its compute mode lets one process in only"
            if certain
            else "it is held by another process, or closed to all"
        ),
        confidence=confidence,
        detail=MODE_DETAIL
        + " Where the mode is DEFAULT, a GPU that needs a reset, or a MIG GPU without compute instance, answers so.",
        evidence=(
            *quoted(*said[:2]),
            *((modes.shows("compute mode", shut.compute),) if modes and shut else ()),
        ),
        remedies=(on_host(around, _default_mode(label)), ONE_EACH),
        breaks=(KERNEL,),
        shows=(KERNEL,),
        asks=()
        if certain
        else (Ask("nvidia-smi --query-gpu=index,compute_mode --format=csv", "whether a GPU is exclusive"),),
    )


PIPE = "CUDA_MPS_PIPE_DIRECTORY"
MPS_WHAT = {
    805: "cannot reach the MPS control daemon or its server",
    806: "lost its connection to the MPS server",
    807: "is turned away because the MPS server is not ready",
    808: "is turned away because the MPS server has its greatest number of clients",
    809: "is turned away because the MPS server has no connections left",
    810: "was ended by the MPS server, after another client's fault",
}
MPS_DETAIL = (
    "Where the MPS control daemon's pipe is in CUDA_MPS_PIPE_DIRECTORY (default /tmp/nvidia-mps), libcuda uses the GPU through "
    "it and nothing else. The daemon must run, belong to the same user or root, and share the IPC namespace with the program: "
    "a container needs its pipe directory and --ipc=host."
)


def _mps_remedies(
    around: Surroundings | None, directory: str, *, named_by_variable: bool
) -> tuple[Remedy, ...]:
    fixes: list[Remedy] = []
    if named_by_variable:
        fixes.append(UnsetVariable(PIPE, why="then the GPU is used without MPS"))
    fixes.append(
        Run(
            title="start the daemon anew (or, to go without MPS, only quit it and remove its directory)",
            commands=(
                "echo quit | nvidia-cuda-mps-control",
                f"rm -rf {directory}",
                "nvidia-cuda-mps-control -d",
            ),
            reach=Reach.HOST,
            caveat="Other programs that use the GPU through MPS end with it.",
            verify="echo get_server_list | nvidia-cuda-mps-control",
        )
    )
    if around is None or around.engine is None or contained(around):
        fixes.append(
            Relaunch(
                adds=f"--ipc=host -v {directory}:{directory}", why="a container reaches the host's daemon so"
            )
        )
    return tuple(fixes)


@check.rule
def mps_unreachable(
    pipe: MpsPipe, init: CudaInit | None, torch: TorchBuild | None, around: Surroundings | None
) -> Findings:
    """An MPS daemon, or its pipe directory, is expected and cannot be reached."""
    failed = init is not None and 805 <= init.code <= 810
    stale = pipe.control and (pipe.daemon is False or not pipe.usable)
    if not failed and not stale:
        return
    state = (
        "there, and its daemon does not run"
        if pipe.daemon is False
        else "there, and not this user's to write"
        if pipe.control
        else "not there"
    )
    yield Finding(
        subject=f"variable:{PIPE}" if pipe.named else "",
        title=f"a program {MPS_WHAT[init.code]}"
        if failed and init
        else f"the MPS pipe in {pipe.directory} is {state}",
        severity=Severity.ERROR if failed else Severity.WARNING if wanted(torch) else Severity.NOTE,
        confidence=Confidence.CERTAIN if failed else Confidence.LIKELY,
        detail=MPS_DETAIL,
        evidence=(
            pipe.shows(f"pipe in {pipe.directory}", state),
            *((init.shows("cuInit", f"{init.code} {init.name}"),) if failed and init else ()),
        ),
        remedies=_mps_remedies(around, pipe.directory, named_by_variable=pipe.named),
        breaks=(CUDA,),
        shows=(CUDA,) if failed else (),
    )


@mps_unreachable.sign
def _mps_said(said: MpsFailed, variables: Variables | None, around: Surroundings | None) -> Findings:
    """CUDA errors 805 to 810."""
    directory = variables.get(PIPE) if variables else None
    yield Finding(
        subject=f"variable:{PIPE}" if directory else "",
        title=f"the program {MPS_WHAT[said.code]}",
        detail=MPS_DETAIL,
        evidence=(*quoted(said), *((variables.evidence(PIPE),) if variables and directory else ())),
        remedies=_mps_remedies(around, directory or "/tmp/nvidia-mps", named_by_variable=True),  # noqa: S108 - NVIDIA's default
        breaks=(CUDA,),
        shows=(CUDA,),
    )
