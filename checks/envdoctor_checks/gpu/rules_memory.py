"""Memory of a GPU that another process holds."""

from __future__ import annotations

from envdoctor.api import Confidence, Evidence, Finding, Findings, Reach, Remedy, Run, SetVariable, Severity
from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.facts import (
    GpuMemory,
    GpuProcess,
    GpuProcesses,
    MemoryUse,
    of_gpu,
)
from envdoctor_checks.gpu.reasoning import MEMORY, named, quoted, subject
from envdoctor_checks.gpu.symptoms import (
    FreeMemoryTooLow,
    HeldByOther,
)
from envdoctor_checks.torch.facts import TorchBuild
from envdoctor_checks.torch.symptoms import OutOfMemory

CONTEXT = 800.0
"""MiB that a CUDA context and its libraries take, and no figure of torch's allocator counts."""
MUCH = 0.3
"""Part of a GPU's memory from which others, not the program itself, are the matter."""
FULL = 0.9
DETAIL = (
    "The program itself holds the smaller part. What other processes hold cannot be moved or swapped out: they end, or this "
    "program takes another GPU or less memory. A process that nvidia-smi does not list may be in another container, or a "
    "worker that outlived its job."
)


def _remedies(label: str | None, pids: tuple[int, ...], free: str | None) -> tuple[Remedy, ...]:
    chosen = " ".join(map(str, pids)) or "PID"
    fixes: list[Remedy] = []
    if free is not None:
        fixes.append(SetVariable("CUDA_VISIBLE_DEVICES", free, why=f"{named(free)} has memory to spare"))
    fixes.append(
        Run(
            title="see who holds the memory, and end what is yours and no longer needed",
            commands=(
                "nvidia-smi --query-compute-apps=gpu_bus_id,pid,used_memory,process_name --format=csv",
                f"ps -o pid,user,etime,args -p {chosen.replace(' ', ',')}",
                f"kill {chosen}",
            ),
            reach=Reach.SHELL,
            caveat="Only end processes that you know. Those of nobody's listing: sudo fuser -v /dev/nvidia*",
            verify="nvidia-smi",
        )
    )
    return tuple(fixes)


def _free_gpu(memory: GpuMemory | None, label: str | None) -> str | None:
    """Another GPU of which most memory is free."""
    rows = [row for row in memory.gpus if row.gpu != label and row.used < row.total * 0.1] if memory else []
    return max(rows, key=lambda row: row.total - row.used).gpu if rows else None


@check.rule
def memory_in_use(memory: GpuMemory, processes: GpuProcesses | None, torch: TorchBuild | None) -> Findings:
    """Another process holds most of a GPU's memory."""
    if memory.source.kind == "text":
        return  # whose memory it is, the text would have to say
    for row in memory.gpus:
        if row.used < row.total * FULL:
            continue
        holders = _holders(processes, row.gpu)
        yield Finding(
            subject=subject(row.gpu),
            title=f"{row.used} of {row.total} MiB of {named(row.gpu)} are in use" + _by(holders),
            severity=Severity.NOTE,
            detail="A program that is started now has little left on it.",
            evidence=(
                memory.shows(f"memory of {named(row.gpu)}", f"{row.used} of {row.total} MiB"),
                *_listed(processes, holders),
            ),
            remedies=_remedies(row.gpu, tuple(each.pid for each in holders), _free_gpu(memory, row.gpu)),
        )


def _holders(processes: GpuProcesses | None, label: str | None) -> tuple[GpuProcess, ...]:
    """The processes on a GPU, the greatest first."""
    found = [each for each in processes.processes if label is None or each.gpu == label] if processes else []
    return tuple(sorted(found, key=lambda each: -(each.memory or 0)))[:4]


def _by(holders: tuple[GpuProcess, ...]) -> str:
    return (
        f", by process {holders[0].pid}" + (f" ({holders[0].name})" if holders[0].name else "")
        if holders
        else ""
    )


def _listed(processes: GpuProcesses | None, holders: tuple[GpuProcess, ...]) -> tuple[Evidence, ...]:
    return tuple(
        processes.shows(
            f"process {each.pid}",
            f"{each.memory if each.memory is not None else '?'} MiB {each.name or ''}".strip(),
        )
        for each in holders
        if processes
    )


@memory_in_use.sign
def _ran_out(
    said: OutOfMemory,
    others: tuple[HeldByOther, ...],
    memory: GpuMemory | None,
    processes: GpuProcesses | None,
) -> Findings:
    """torch ran out of memory, and its own figures say that the greater part is not its own."""
    label = str(said.gpu) if said.gpu is not None else None
    told = sum(other.memory for other in others if other.quote == said.quote) or sum(
        other.memory for other in others
    )
    foreign = max(told, _not_ours(said))
    if said.total is None or foreign < said.total * MUCH or (said.tried or 0.0) > said.total:
        return
    row = of_gpu(memory.gpus, label) if memory and label else None
    yield _held(label, foreign, said.total, quoted(said), others, memory, processes, row)


def _not_ours(said: OutOfMemory) -> float:
    """MiB that are neither free nor this process's."""
    if said.total is None or said.free is None:
        return 0.0
    own = said.in_use
    if own is None:
        if said.allocated is None:
            return 0.0
        own = said.allocated + (said.unallocated or 0.0) + CONTEXT
    return said.total - said.free - own


def _held(
    label: str | None,
    foreign: float,
    total: float,
    evidence: tuple[Evidence, ...],
    others: tuple[HeldByOther, ...],
    memory: GpuMemory | None,
    processes: GpuProcesses | None,
    row: MemoryUse | None,
) -> Finding:
    holders = _holders(processes, label)
    pids = tuple(dict.fromkeys(other.pid for other in others)) or tuple(each.pid for each in holders)
    shown = (
        (memory.shows(f"memory of {named(label)}", f"{row.used} of {row.total} MiB"),)
        if memory and row
        else ()
    )
    return Finding(
        subject=subject(label),
        title=f"other processes hold {foreign / 1024:.1f} of the {total / 1024:.1f} GiB of {named(label)}",
        confidence=Confidence.CERTAIN if others else Confidence.LIKELY,
        detail=DETAIL,
        evidence=(*evidence, *shown, *_listed(processes, holders)),
        remedies=_remedies(label, pids, _free_gpu(memory, label)),
        breaks=(MEMORY,),
        shows=(MEMORY,),
    )


@memory_in_use.sign
def _refused_to_start(
    said: FreeMemoryTooLow, memory: GpuMemory | None, processes: GpuProcesses | None
) -> Findings:
    """A server that measures the free memory before it begins."""
    yield _held(None, said.total - said.free, said.total, quoted(said), (), memory, processes, None)
