"""Turns what NVML answered (asked once, by the driver check) into facts about the GPUs, and looks for MPS."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from envdoctor.api import Host, Source, Tier, Variables
from envdoctor_checks.driver.facts import NvmlAnswers
from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.facts import (
    ComputeMode,
    EccCounts,
    GpuEcc,
    GpuMemory,
    GpuModes,
    GpuPersistence,
    GpuProcess,
    GpuProcesses,
    GpuRecovery,
    GpuRetiredPages,
    GpuRowRemapping,
    MemoryUse,
    MigInstance,
    MigInstances,
    Modes,
    MpsPipe,
    Recovery,
    RemappedRows,
    RetiredPages,
    UnreachableGpu,
    UnreachableGpus,
)
from envdoctor_checks.gpu.figures import (
    REASONS,
    ClockOffset,
    ClockReasons,
    Clocks,
    GpuClockOffsets,
    GpuClockReasons,
    GpuClocks,
    GpuLoad,
    GpuNvlinks,
    GpuPcieLinks,
    GpuPower,
    GpuTemperatures,
    Load,
    Nvlinks,
    PcieLink,
    Power,
    Temperature,
)

Row = TypeVar("Row")
Answers = dict[str, Any]
MIB = 1 << 20
ABSURD = 1 << 50
"""Bytes that no GPU has: a driver in a bad state may answer with anything."""
COMPUTE_MODES: tuple[ComputeMode, ...] = ("default", "exclusive-thread", "prohibited", "exclusive-process")
RECOVERY = (
    "none", "gpu-reset", "node-reboot", "drain-p2p", "drain-and-reset", "recover-imex-domain", "bus-reset",
    "system-reboot",
)  # fmt: skip
"""nvmlDeviceGpuRecoveryAction_t, by number."""


def source(call: str) -> Source:
    """One NVML function, by its name without the prefix."""
    return Source("call", f"nvmlDevice{call}")


def rows(answers: NvmlAnswers, convert: Callable[[str, Answers], Row | None]) -> tuple[Row, ...]:
    """One row per GPU that answered and for which `convert` finds all that it needs."""
    found = (convert(str(each["index"]), each) for each in answers.devices if "error" not in each)
    return tuple(row for row in found if row is not None)


def numbers(answers: Answers, *keys: str) -> tuple[int, ...] | None:
    """The answers to these questions, None unless all of them are sane numbers."""
    values = tuple(answers.get(key) for key in keys)
    if all(type(value) is int and abs(value) < ABSURD and value != 0xFFFFFFFF for value in values):
        return values  # type: ignore[return-value] # checked one line above
    return None


@check.probe(tier=Tier.DEFAULT)
def health(
    answers: NvmlAnswers,
) -> Iterator[
    UnreachableGpus | GpuEcc | GpuRowRemapping | GpuRetiredPages | GpuRecovery | GpuNvlinks | GpuPcieLinks
]:
    """Whether every GPU answers, and what its memory and links have met."""
    lost = tuple(
        UnreachableGpu(str(each["index"]), each["error"]) for each in answers.devices if "error" in each
    )
    lost += rows(answers, _lost)
    yield UnreachableGpus(gpus=lost, source=source("GetHandleByIndex"))
    yield GpuEcc(gpus=rows(answers, _ecc), source=source("GetTotalEccErrors"))
    yield GpuRowRemapping(gpus=rows(answers, _remapped), source=source("GetRemappedRows"))
    yield GpuRetiredPages(gpus=rows(answers, _retired), source=source("GetRetiredPages"))
    yield GpuRecovery(gpus=rows(answers, _recovery), source=source("GetFieldValues"))
    yield GpuNvlinks(gpus=rows(answers, _nvlinks), source=source("GetNvLinkState"))
    yield GpuPcieLinks(gpus=rows(answers, _pcie), source=source("GetCurrPcieLinkWidth"))


def _lost(gpu: str, answers: Answers) -> UnreachableGpu | None:
    """A handle was given, and every question to it is answered by the loss of the GPU."""
    errors = answers.get("errors", {})
    name = errors.get("name")
    return (
        UnreachableGpu(gpu, name) if name in ("NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_RESET_REQUIRED") else None
    )


def _ecc(gpu: str, answers: Answers) -> EccCounts | None:
    match answers.get("ecc_mode"):
        case [1, *_]:
            counted = numbers(answers, "ecc_volatile")
            return EccCounts(gpu, True, counted[0]) if counted else None
        case [0, *_]:
            return EccCounts(gpu, False, 0)
    return None


def _remapped(gpu: str, answers: Answers) -> RemappedRows | None:
    match answers.get("remapped_rows"):
        case [int(), int(uncorrectable), int(pending), int(failed)] if uncorrectable < 1 << 20:
            return RemappedRows(gpu, uncorrectable, pending == 1, failed == 1)
    return None


def _retired(gpu: str, answers: Answers) -> RetiredPages | None:
    pages, pending = answers.get("retired_pages"), answers.get("retired_pending")
    if not isinstance(pages, list) or pending not in (0, 1) or len(pages) > 1 << 16:
        return None
    return RetiredPages(gpu, len(pages), pending == 1)


def _recovery(gpu: str, answers: Answers) -> Recovery | None:
    told = numbers(answers, "recovery_action")
    if told is None:
        return None
    return Recovery(gpu, RECOVERY[told[0]] if 0 <= told[0] < len(RECOVERY) else str(told[0]))


def _nvlinks(gpu: str, answers: Answers) -> Nvlinks | None:
    states = answers.get("nvlinks")
    return Nvlinks(gpu, sum(state == 1 for state in states), len(states)) if states else None


def _pcie(gpu: str, answers: Answers) -> PcieLink | None:
    told = numbers(answers, "pcie_generation", "pcie_generation_max", "pcie_width", "pcie_width_max")
    return PcieLink(gpu, *told) if told and max(told) <= 32 and min(told) > 0 else None


@check.probe(tier=Tier.DEFAULT)
def activity(
    answers: NvmlAnswers,
) -> Iterator[
    GpuMemory
    | GpuProcesses
    | GpuTemperatures
    | GpuLoad
    | GpuClocks
    | GpuClockReasons
    | GpuClockOffsets
    | GpuPower
]:
    """What the GPUs do now: memory and by whom, heat, load, clocks and what holds them down."""
    yield GpuMemory(gpus=rows(answers, _memory), source=source("GetMemoryInfo"))
    found = tuple(each for group in rows(answers, _processes) for each in group)
    yield GpuProcesses(processes=found, source=source("GetComputeRunningProcesses"))
    yield GpuTemperatures(gpus=rows(answers, _temperature), source=source("GetTemperature"))
    yield GpuLoad(gpus=rows(answers, _load), source=source("GetUtilizationRates"))
    yield GpuClocks(gpus=rows(answers, _clocks), source=source("GetClockInfo"))
    yield GpuClockReasons(gpus=rows(answers, _reasons), source=source("GetCurrentClocksThrottleReasons"))
    yield GpuClockOffsets(gpus=rows(answers, _offsets), source=source("GetGpcClkVfOffset"))
    yield GpuPower(gpus=rows(answers, _power), source=source("GetPowerUsage"))


def _memory(gpu: str, answers: Answers) -> MemoryUse | None:
    told = numbers(answers.get("memory") or {}, "total", "used")
    return MemoryUse(gpu, told[0] // MIB, told[1] // MIB) if told and told[0] else None


def _processes(gpu: str, answers: Answers) -> tuple[GpuProcess, ...]:
    graphics = {each["pid"] for each in answers.get("graphics_processes") or ()}
    listed = {
        each["pid"]: each for key in ("graphics_processes", "processes") for each in answers.get(key) or ()
    }
    return tuple(
        GpuProcess(gpu, pid, each.get("name"), _mebibytes(each.get("usedGpuMemory")), pid in graphics)
        for pid, each in listed.items()
    )


def _mebibytes(told: object) -> int | None:
    return told // MIB if isinstance(told, int) and told < ABSURD else None


def _temperature(gpu: str, answers: Answers) -> Temperature | None:
    told = numbers(answers, "temperature")
    limit = numbers(answers, "slowdown_at")
    if told is None or not 0 < told[0] < 150:
        return None
    return Temperature(gpu, told[0], limit[0] if limit and 0 < limit[0] < 150 else None)


def _load(gpu: str, answers: Answers) -> Load | None:
    told = numbers(answers.get("utilization") or {}, "gpu")
    return Load(gpu, told[0]) if told and told[0] <= 100 else None


def _clocks(gpu: str, answers: Answers) -> Clocks | None:
    told = numbers(answers, "sm_clock", "sm_clock_max")
    return Clocks(gpu, *told) if told else None


def _reasons(gpu: str, answers: Answers) -> ClockReasons | None:
    told = numbers(answers, "clock_reasons")
    return ClockReasons(gpu, tuple(name for bit, name in REASONS.items() if told[0] & bit)) if told else None


def _offsets(gpu: str, answers: Answers) -> ClockOffset | None:
    told = numbers(answers, "core_offset", "memory_offset")
    return ClockOffset(gpu, *told) if told and max(map(abs, told)) < 10_000 else None


def _power(gpu: str, answers: Answers) -> Power | None:
    told = numbers(answers, "power", "power_limit")
    return Power(gpu, told[0] / 1000, told[1] / 1000) if told else None


@check.probe(tier=Tier.DEFAULT)
def modes(answers: NvmlAnswers) -> Iterator[GpuModes | GpuPersistence | MigInstances]:
    """How the GPUs are set."""
    yield GpuModes(gpus=rows(answers, _modes), source=source("GetComputeMode"))
    on = rows(answers, lambda gpu, told: gpu if told.get("persistence_mode") == 1 else None)
    off = rows(answers, lambda gpu, told: gpu if told.get("persistence_mode") == 0 else None)
    yield GpuPersistence(on=on, off=off, source=source("GetPersistenceMode"))
    found = tuple(each for group in rows(answers, _instances) for each in group)
    yield MigInstances(instances=found, source=source("GetMigDeviceHandleByIndex"))


def _modes(gpu: str, answers: Answers) -> Modes | None:
    told = numbers(answers, "compute_mode")
    if told is None or not 0 <= told[0] < len(COMPUTE_MODES):
        return None
    return Modes(gpu, COMPUTE_MODES[told[0]], (answers.get("mig_mode") or [0])[0] == 1)


def _instances(gpu: str, answers: Answers) -> tuple[MigInstance, ...]:
    return tuple(
        MigInstance(
            gpu,
            str(each.get("name") or "").rpartition("MIG ")[2],
            each.get("uuid"),
            _mebibytes((each.get("memory") or {}).get("total")),
        )
        for each in answers.get("mig_instances") or ()
    )


MPS_DEFAULT = "/tmp/nvidia-mps"  # noqa: S108 - NVIDIA's own default
MPS_PID = "nvidia-cuda-mps-control.pid"


@check.probe(tier=Tier.QUICK)
def mps(host: Host, variables: Variables) -> Iterator[MpsPipe]:
    """Where CUDA looks for the MPS control daemon, where there is anything to look at."""
    told = variables.get("CUDA_MPS_PIPE_DIRECTORY")
    directory = told or MPS_DEFAULT
    exists = host.exists(directory)
    if told is None and not exists:
        return
    pipe = os.path.join(directory, "control")
    yield MpsPipe(
        directory=directory,
        named=told is not None,
        exists=exists,
        control=host.exists(pipe),
        usable=host.may(pipe, os.R_OK | os.W_OK),
        daemon=_daemon(host, directory),
        source=Source("file", directory),
    )


def _daemon(host: Host, directory: str) -> bool | None:
    """By the PID that it wrote beside its pipe; of another PID namespace it says nothing."""
    written = (host.text(os.path.join(directory, MPS_PID)) or "").strip()
    if not written.isdigit():
        return None
    name = host.text(f"/proc/{written}/comm")
    if name is None and host.exists("/.dockerenv"):
        return None
    return name is not None and name.startswith("nvidia-cuda-mps")
