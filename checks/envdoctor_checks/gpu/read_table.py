"""nvidia-smi's table, its list of devices, and collect_env's: memory, modes, load, MIG devices, processes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.facts import (
    ComputeMode,
    EccCounts,
    GpuEcc,
    GpuMemory,
    GpuModes,
    GpuProcess,
    GpuProcesses,
    MemoryUse,
    MigInstance,
    MigInstances,
    Modes,
    UnreachableGpu,
    UnreachableGpus,
)
from envdoctor_checks.gpu.figures import (
    GpuLoad,
    GpuNvlinks,
    GpuTemperatures,
    Load,
    Nvlinks,
    Temperature,
)

TEXT = Source("text")
Told: TypeAlias = Iterator[
    GpuMemory | GpuModes | GpuLoad | GpuTemperatures | GpuEcc | MigInstances | GpuProcesses | UnreachableGpus
]

FIRST = r"^\|\s+(?P<gpu>\d+)\s+\S.*?\|\s*(?:[0-9A-Fa-f]{4,8}:)?[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7].*?\|\s*(?P<ecc>\S+)\s*\|\s*$"
SECOND = r"^\|\s*\S+\s+(?P<celsius>\S+)(?:\s+P\d+)?.*?\|\s*(?P<used>\d+)MiB\s*/\s*(?P<total>\d+)MiB\s*\|\s*(?P<load>\d+%|N/A|ERR!)\s+(?P<mode>[A-Z]\S*(?: \w+)?)\s*\|"
LOST = r"^\|\s*ERR!\s+ERR!"
THIRD = r"^\|\s+\|\s+\|\s*(?P<mig>Enabled\*?|Disabled\*?|N/A)\s*\|"
MIG = (
    r"^\|\s+(?P<gpu>\d+)\s+(?P<gi>\d+)\s+(?P<ci>\d+)\s+(?P<device>\d+)\s*\|\s*\d+MiB\s*/\s*(?P<total>\d+)MiB"
)
PROCESS = r"^\|\s+(?P<gpu>\d+)\s+(?:(?:N/A|\d+)\s+(?:N/A|\d+)\s+)?(?P<pid>\d+)\s+(?P<type>C\+G|[CGM](?:\+C)?)\s+(?P<name>\S.*?)\s+(?P<memory>\d+MiB|N/A)?\s*\|\s*$"
COMPUTE: dict[str, ComputeMode] = {
    "Default": "default",
    "E. Thread": "exclusive-thread",
    "E. Process": "exclusive-process",
    "Prohibited": "prohibited",
}


@check.reader(starts=r"NVIDIA-SMI \d", max_lines=400)
def smi_table(found: FoundBlock) -> Told:
    """The table, with or without the command that printed it."""
    lines = [line.text for line in found.block.lines]
    yield from _devices(lines)
    yield from _instances(lines)
    processes = tuple(_process(row) for row in (re.match(PROCESS, each) for each in lines) if row)
    if processes or any("No running processes found" in line for line in lines):
        yield GpuProcesses(processes=processes, source=TEXT)


def _devices(lines: Sequence[str]) -> Told:
    rows = [
        (match, lines[index + 1 : index + 3])
        for index, line in enumerate(lines)
        if (match := re.match(FIRST, line))
    ]
    lost = [row["gpu"] for row, rest in rows if rest and re.match(LOST, rest[0])]
    if lost:
        yield UnreachableGpus(gpus=tuple(UnreachableGpu(gpu, "ERR!") for gpu in lost), source=TEXT)
    known = [
        (row["gpu"], row["ecc"], second, rest)
        for row, rest in rows
        if rest and (second := re.match(SECOND, rest[0]))
    ]
    if not known:
        return
    yield GpuMemory(
        gpus=tuple(MemoryUse(gpu, int(second["total"]), int(second["used"])) for gpu, _, second, _ in known),
        source=TEXT,
    )
    yield GpuTemperatures(
        gpus=tuple(
            Temperature(gpu, int(second["celsius"][:-1]))
            for gpu, _, second, _ in known
            if re.fullmatch(r"\d+C", second["celsius"])
        ),
        source=TEXT,
    )
    yield GpuLoad(
        gpus=tuple(
            Load(gpu, int(second["load"][:-1])) for gpu, _, second, _ in known if second["load"][0].isdigit()
        ),
        source=TEXT,
    )
    yield GpuModes(
        gpus=tuple(
            Modes(gpu, COMPUTE[second["mode"]], _in_mig(rest))
            for gpu, _, second, rest in known
            if second["mode"] in COMPUTE
        ),
        source=TEXT,
    )
    yield GpuEcc(
        gpus=tuple(
            EccCounts(gpu, ecc != "Off", int(ecc) if ecc.isdigit() else 0)
            for gpu, ecc, _, _ in known
            if _tells(ecc)
        ),
        source=TEXT,
    )


def _tells(ecc: str) -> bool:
    """A count of uncorrectable errors, or ``Off``; a GPU in MIG mode shows ``On`` and counts per instance."""
    return ecc.isdigit() or ecc == "Off"


def _in_mig(rest: Sequence[str]) -> bool:
    third = re.match(THIRD, rest[1]) if len(rest) > 1 else None
    return third is not None and third["mig"].startswith("Enabled")


def _instances(lines: Sequence[str]) -> Iterator[MigInstances]:
    rows = [match for match in (re.match(MIG, each) for each in lines) if match]
    if rows:
        found = tuple(
            MigInstance(row["gpu"], f"device {row['device']}", memory=int(row["total"])) for row in rows
        )
        yield MigInstances(instances=found, source=TEXT)
    elif any("No MIG devices found" in line for line in lines):
        yield MigInstances(instances=(), source=TEXT)


def _process(row: re.Match[str]) -> GpuProcess:
    memory = row["memory"]
    return GpuProcess(
        row["gpu"],
        int(row["pid"]),
        row["name"],
        int(memory[:-3]) if memory and memory != "N/A" else None,
        graphics="G" in row["type"],
    )


LISTED = r"^(?:GPU models and configuration:\s*)?\s*GPU (?P<gpu>\d+): "
LISTED_MIG = r"^\s+MIG (?P<name>\d\S*g\.\S+)\s+Device\s+\d+:(?: \(UUID: (?P<uuid>MIG-[^)\s]+)\))?"


@check.reader(
    starts=r"^(?:GPU models and configuration:\s*)?GPU 0: |^GPU models and configuration:",
    ends=r"^(?:Nvidia driver version|Is XNNPACK)",
    max_lines=300,
)
def listed_instances(found: FoundBlock) -> Iterator[MigInstances]:
    """``nvidia-smi -L``, which collect_env repeats without UUIDs."""
    gpu = None
    instances: list[MigInstance] = []
    complete = re.search(r"\bnvidia-smi +(?:-L|--list-gpus)\b", found.block.command or "") is not None
    for line in found.block.lines:
        device, instance = re.match(LISTED, line.text), re.match(LISTED_MIG, line.text)
        if device:
            gpu = device["gpu"]
        elif instance and gpu is not None:
            instances.append(MigInstance(gpu, instance["name"], instance["uuid"]))
    if instances or (complete and gpu is not None):
        yield MigInstances(instances=tuple(instances), source=TEXT)


LINK = r"^\s+Link (?P<link>\d+): (?P<state><inactive>|[\d.]+ GB/s)"


@check.reader(command=r"(?:\S*/)?nvidia-smi(?:\.exe)? +nvlink +(?:-s|--status)\b")
def nvlink_status(found: FoundBlock) -> GpuNvlinks | None:
    """``nvidia-smi nvlink --status``: every link of every GPU with its rate, or ``<inactive>``."""
    links: dict[str, list[bool]] = {}
    gpu = None
    for line in found.block.lines:
        device, link = re.match(LISTED, line.text), re.match(LINK, line.text)
        if device:
            gpu = device["gpu"]
        elif link and gpu is not None:
            links.setdefault(gpu, []).append(link["state"] != "<inactive>")
    rows = tuple(Nvlinks(each, sum(up), len(up)) for each, up in links.items())
    return GpuNvlinks(gpus=rows, source=TEXT) if rows else None
