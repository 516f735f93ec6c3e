"""``nvidia-smi -q`` and ``--query-gpu``: key and value, per GPU."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from envdoctor.api import Fact, FoundBlock, Source
from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.facts import (
    ComputeMode,
    EccCounts,
    GpuEcc,
    GpuMemory,
    GpuModes,
    GpuProcess,
    GpuProcesses,
    GpuRetiredPages,
    GpuRowRemapping,
    MemoryUse,
    Modes,
    RemappedRows,
    RetiredPages,
)
from envdoctor_checks.gpu.figures import (
    REASONS as BITS,
    ClockReasons,
    GpuClockReasons,
    GpuLoad,
    GpuPcieLinks,
    GpuTemperatures,
    Load,
    PcieLink,
    Reason,
    Temperature,
)
from envdoctor_checks.gpu.messages_kernel import full_address

TEXT = Source("text")
Values = dict[str, str]
"""Of one GPU, by the names of ``--query-gpu``; a value that is not known (``N/A``) is left out."""
Row = TypeVar("Row")
HEADER = r"^GPU (?P<address>[0-9A-Fa-f]{8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])\s*$"
LINE = r"^(?P<indent>\s*)(?P<key>\S[^:]*?)\s*(?:: ?(?P<value>.*))?$"
CHOSEN = r"(?:-i|--id)[= ](\d+)\b"
COLUMNS = r"--query-gpu[= ]([\w.,]+)"
APPS = r"--query-compute-apps[= ]([\w.,]+)"
NUMBER = r"-?\d+"

PATHS = {
    "memory.total": ("FB Memory Usage/Total",),
    "memory.used": ("FB Memory Usage/Used",),
    "temperature.gpu": ("Temperature/GPU Current Temp",),
    "utilization.gpu": ("Utilization/Gpu", "Utilization/GPU"),
    "compute_mode": ("Compute Mode",),
    "mig.mode.current": ("MIG Mode/Current",),
    "ecc.mode.current": ("ECC Mode/Current", "Ecc Mode/Current"),
    "retired_pages.double_bit.count": ("Retired Pages/Double Bit ECC",),
    "retired_pages.pending": ("Retired Pages/Pending Page Blacklist", "Retired Pages/Pending"),
    "remapped_rows.uncorrectable": ("Remapped Rows/Uncorrectable Error",),
    "remapped_rows.pending": ("Remapped Rows/Pending",),
    "remapped_rows.failure": ("Remapped Rows/Remapping Failure Occurred",),
    "pcie.link.gen.current": ("PCI/GPU Link Info/PCIe Generation/Current",),
    "pcie.link.gen.max": ("PCI/GPU Link Info/PCIe Generation/Max",),
    "pcie.link.width.current": ("PCI/GPU Link Info/Link Width/Current",),
    "pcie.link.width.max": ("PCI/GPU Link Info/Link Width/Max",),
}
"""Where ``nvidia-smi -q`` shows what ``--query-gpu`` calls so."""
VOLATILE = (
    "DRAM Uncorrectable",
    "SRAM Uncorrectable",
    "SRAM Uncorrectable Parity",
    "SRAM Uncorrectable SEC-DED",
)
HELD: dict[str, Reason] = {
    "HW Slowdown": "hw-slowdown",
    "HW Thermal Slowdown": "hw-thermal",
    "HW Power Brake Slowdown": "power-brake",
    "SW Thermal Slowdown": "sw-thermal",
    "SW Power Cap": "power-cap",
    "SW Power Capping": "power-cap",
    "Idle": "idle",
    "Applications Clocks Setting": "application-clocks",
    "Sync Boost": "sync-boost",
    "Display Clock Setting": "display",
}
"""Rows of ``Clocks Event Reasons`` (up to driver 530 ``Clocks Throttle Reasons``)."""
COLUMN_REASONS: dict[str, Reason] = {
    "hw_slowdown": "hw-slowdown",
    "hw_thermal_slowdown": "hw-thermal",
    "hw_power_brake_slowdown": "power-brake",
    "sw_thermal_slowdown": "sw-thermal",
    "sw_power_cap": "power-cap",
}
MODES: dict[str, ComputeMode] = {
    "Default": "default",
    "Exclusive_Thread": "exclusive-thread",
    "Exclusive_Process": "exclusive-process",
    "Prohibited": "prohibited",
}


@check.reader(command=r"(?:\S*/)?nvidia-smi(?:\.exe)?\b")
def smi_query(found: FoundBlock) -> Iterator[
    GpuMemory | GpuTemperatures | GpuLoad | GpuModes | GpuEcc | GpuRetiredPages | GpuRowRemapping | GpuPcieLinks
    | GpuClockReasons | GpuProcesses
]:  # fmt: skip
    """The report of ``-q``, or the columns that were asked for."""
    lines = [line.text for line in found.block.lines]
    command = found.command or ""
    gpus = list(_columns(lines, command)) or list(_report(lines, command))
    yield from _facts(gpus)
    yield from _apps(lines, command)


@check.reader(starts=r"^GPU [0-9A-Fa-f]{8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]\s*$", max_lines=400)
def smi_report(found: FoundBlock) -> Iterator[
    GpuMemory | GpuTemperatures | GpuLoad | GpuModes | GpuEcc | GpuRetiredPages | GpuRowRemapping | GpuPcieLinks
    | GpuClockReasons
]:  # fmt: skip
    """One GPU of the report, where the command that printed it was not pasted."""
    if re.search(r"\bnvidia-smi\b", found.block.command or "") is None:
        yield from _facts(list(_report([line.text for line in found.block.lines], "")))


def _report(lines: Sequence[str], command: str) -> Iterator[tuple[str, Values]]:
    """Per GPU of ``-q`` its label and values. Indices are known where all GPUs are shown, or one was chosen."""
    starts = [index for index, line in enumerate(lines) if re.match(HEADER, line)]
    chosen = re.search(CHOSEN, command)
    attached = next(
        (int(match[1]) for line in lines if (match := re.match(r"Attached GPUs\s*: (\d+)", line))), 0
    )
    for position, start in enumerate(starts):
        end = starts[position + 1] if position + 1 < len(starts) else len(lines)
        header = re.match(HEADER, lines[start])
        label = full_address(header["address"]) if header else None
        if chosen and len(starts) == 1:
            label = chosen[1]
        elif attached == len(starts):
            label = str(position)
        yield label or str(position), _values(lines[start + 1 : end])


def _values(lines: Sequence[str]) -> Values:
    """The values of one GPU under the names of ``--query-gpu``."""
    tree = dict(_paths(lines))
    values = {
        name: tree[path]
        for name, paths in PATHS.items()
        for path in paths
        if tree.get(path, "N/A") not in ("N/A", "")
    }
    counts = [tree.get(f"ECC Errors/Volatile/{key}", "") for key in VOLATILE]
    if any(count.isdigit() for count in counts):
        values["ecc.errors.uncorrected.volatile.total"] = str(
            sum(int(count) for count in counts if count.isdigit())
        )
    held = {
        path.rpartition("/")[2]: value
        for path, value in tree.items()
        if re.match(r"Clocks (?:Event|Throttle) Reasons/", path)
    }
    if held:
        values["reasons"] = ",".join(
            HELD[name] for name, value in held.items() if value == "Active" and name in HELD
        )
    return values


def _paths(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every value with the keys that lead to it, by indentation."""
    above: list[tuple[int, str]] = []
    for line in lines:
        match = re.match(LINE, line)
        if match is None:
            continue
        depth = len(match["indent"])
        while above and above[-1][0] >= depth:
            above.pop()
        if match["value"] is None:
            above.append((depth, match["key"]))
        else:
            yield "/".join((*(key for _, key in above), match["key"])), match["value"].strip()


def _columns(lines: Sequence[str], command: str) -> Iterator[tuple[str, Values]]:
    """``--query-gpu=...``; the label is the index, asked for or counted."""
    asked = re.search(COLUMNS, command)
    if asked is None:
        return
    names = [_canonical(name) for name in asked[1].split(",")]
    position = 0
    for line in lines:
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(names) or cells[0].split(" ")[0] in (asked[1].split(",")[0], names[0]):
            continue
        values = {
            name: cell
            for name, cell in zip(names, cells, strict=True)
            if cell not in ("[N/A]", "N/A", "[Not Supported]")
        }
        _join_reasons(values)
        yield values.get("index", str(position)), values
        position += 1


def _canonical(name: str) -> str:
    return name.replace("clocks_throttle_reasons", "reasons").replace("clocks_event_reasons", "reasons")


def _join_reasons(values: Values) -> None:
    """The columns that each tell of one reason, or of all of them as bits, as one value."""
    shown = [name for name in values if name.startswith("reasons.")]
    if not shown:
        return
    held = [
        COLUMN_REASONS[name[8:]] for name in shown if values[name] == "Active" and name[8:] in COLUMN_REASONS
    ]
    bits = values.get("reasons.active", "")
    if bits.startswith("0x"):
        held += [name for bit, name in BITS.items() if int(bits, 16) & bit and name not in held]
    values["reasons"] = ",".join(held)


def _facts(gpus: Sequence[tuple[str, Values]]) -> Iterator[Any]:
    """Every fact of which at least one GPU shows all that it has."""
    made: tuple[tuple[Callable[..., Fact], Callable[[str, Values], Any]], ...] = (
        (GpuMemory, _memory),
        (GpuTemperatures, _temperature),
        (GpuLoad, _load),
        (GpuModes, _modes),
        (GpuEcc, _ecc),
        (GpuRetiredPages, _retired),
        (GpuRowRemapping, _remapped),
        (GpuPcieLinks, _pcie),
        (GpuClockReasons, _reasons),
    )
    for kind, convert in made:
        rows = tuple(row for gpu, values in gpus if (row := convert(gpu, values)) is not None)
        if rows:
            yield kind(gpus=rows, source=TEXT)


def _numbers(values: Values, *names: str) -> tuple[int, ...] | None:
    """The numbers under these names, without their units; None unless all are there."""
    found = [re.match(NUMBER, values.get(name, "")) for name in names]
    return tuple(int(match[0]) for match in found if match) if all(found) else None


def _memory(gpu: str, values: Values) -> MemoryUse | None:
    told = _numbers(values, "memory.total", "memory.used")
    return MemoryUse(gpu, *told) if told else None


def _temperature(gpu: str, values: Values) -> Temperature | None:
    told = _numbers(values, "temperature.gpu")
    return Temperature(gpu, told[0]) if told else None


def _load(gpu: str, values: Values) -> Load | None:
    told = _numbers(values, "utilization.gpu")
    return Load(gpu, told[0]) if told else None


def _modes(gpu: str, values: Values) -> Modes | None:
    compute, mig = MODES.get(values.get("compute_mode", "")), values.get("mig.mode.current")
    if compute is None and mig != "Enabled":
        return None  # that MIG is off, alone, says nothing that a rule asks for
    return Modes(gpu, compute or "default", mig == "Enabled")


def _ecc(gpu: str, values: Values) -> EccCounts | None:
    count = _numbers(values, "ecc.errors.uncorrected.volatile.total")
    if count is None:
        return None
    return EccCounts(gpu, values.get("ecc.mode.current", "Enabled") == "Enabled", count[0])


def _retired(gpu: str, values: Values) -> RetiredPages | None:
    count, pending = _numbers(values, "retired_pages.double_bit.count"), values.get("retired_pages.pending")
    return RetiredPages(gpu, count[0], pending == "Yes") if count and pending in ("Yes", "No") else None


def _remapped(gpu: str, values: Values) -> RemappedRows | None:
    count = _numbers(values, "remapped_rows.uncorrectable")
    pending, failed = values.get("remapped_rows.pending"), values.get("remapped_rows.failure")
    if count is None or pending is None or failed is None:
        return None
    return RemappedRows(gpu, count[0], pending in ("Yes", "1"), failed in ("Yes", "1"))


def _pcie(gpu: str, values: Values) -> PcieLink | None:
    told = _numbers(
        values, "pcie.link.gen.current", "pcie.link.gen.max", "pcie.link.width.current", "pcie.link.width.max"
    )
    return PcieLink(gpu, *told) if told else None


def _reasons(gpu: str, values: Values) -> ClockReasons | None:
    told = values.get("reasons")
    if told is None:
        return None
    return ClockReasons(gpu, tuple(name for name in BITS.values() if name in told.split(",")))


def _apps(lines: Sequence[str], command: str) -> Iterator[GpuProcesses]:
    """``--query-compute-apps``, which names a GPU by UUID or address only: one GPU is meant where neither is asked."""
    asked = re.search(APPS, command)
    names = asked[1].split(",") if asked else []
    if "pid" not in names:
        return
    found = []
    for line in lines:
        cells = [cell.strip() for cell in line.split(",")]
        row: Values = dict(zip(names, cells, strict=False))
        if len(cells) != len(names) or not row["pid"].isdigit():
            continue
        memory = re.match(NUMBER, row.get("used_memory", row.get("used_gpu_memory", "")))
        label = row.get("gpu_uuid") or row.get("gpu_bus_id") or "0"
        found.append(
            GpuProcess(
                label,
                int(row["pid"]),
                row.get("process_name", row.get("name")),
                int(memory[0]) if memory else None,
            )
        )
    yield GpuProcesses(processes=tuple(found), source=TEXT)
