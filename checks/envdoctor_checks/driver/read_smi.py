"""nvidia-smi in its forms, collect_env's GPU lines, NVIDIA's container banner: driver, CUDA and GPUs of a pasted text.

Patterns are kept as texts here and in the other readers: a run that reads no text compiles none of them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import DriverCuda, DriverRelease, KernelModule
from envdoctor_checks.driver.messages_kernel import RELEASE
from envdoctor_checks.gpu.facts import GpuDevice, GpuDevices
from envdoctor_checks.gpu.tables import compute_capabilities

Told: TypeAlias = Iterator[DriverRelease | DriverCuda | GpuDevices]
TEXT = Source("text")
HEADER = rf"Driver Version: ({RELEASE}|\d{{2,3}}\.\d{{2}})\s+CUDA Version: (\d+\.\d+)?"
ROW = (
    r"^\|\s+(\d+)\s+(\S.*?)\s+(?:On|Off|N/A|Enabled|Disabled|WDDM|TCC|MCDM|ERR!)\s*\|\s*"
    r"([0-9A-Fa-f]{8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])\s"
)
NAME_ONLY = r"^\|\s+(\d+)\s+((?:NVIDIA|Tesla|Quadro|GeForce|GRID|TITAN)\b.*?)\s+(?:On|Off|WDDM|TCC)\s*\|"
MEMORY = r"\|\s*\d+MiB /\s*(\d+)MiB\s*\|"
LISTED = r"^\s*GPU (\d+): (.+?)\s*(?:\(UUID: ?(GPU-[\w-]+)?\)?.*|\(UUID\b.*)?$"
QUERY = r"--query-gpu[= ]([\w.,]+)"
COUNTED = r"^\s*(\d+)\s+(?=\D)"
VERSION_LINE = rf"^(DRIVER|Driver|NVRM|CUDA|Cuda) [Vv]ersion\s*: +({RELEASE}|\d+\.\d+)\b"


@functools.cache
def capability_of(name: str) -> str | None:
    """The compute capability of a GPU by its printed name."""
    row = compute_capabilities().of(name)
    return row.compute_capability if row else None


def gpu(index: int, name: str, uuid: str | None = None, memory: int | None = None) -> GpuDevice:
    """A GPU as a text shows it."""
    return GpuDevice(
        index=index, name=name, uuid=uuid, memory_total=memory, compute_capability=capability_of(name)
    )


def devices(found: Iterable[GpuDevice]) -> Iterator[GpuDevices]:
    """The fact, where there is anything to tell."""
    listed = tuple(found)
    if listed:
        yield GpuDevices(devices=listed, source=TEXT)


@check.reader(starts=r"NVIDIA-SMI \d", max_lines=120)
def smi_table(found: FoundBlock) -> Told:
    """The table without the command that printed it."""
    yield from _table([line.text for line in found.block.lines])


@check.reader(starts=r"(?:^[ \t]*GPU \d+: \S.*\(UUID: GPU-.*\n?)+")
def smi_list(found: FoundBlock) -> Iterator[GpuDevices]:
    """Lines of ``nvidia-smi -L`` without the command."""
    yield from _list([line.text for line in found.block.lines])


@check.reader(command=r"(?:\S*/)?nvidia-smi(?:\.exe)?\b")
def smi_output(found: FoundBlock) -> Told:
    """Whatever nvidia-smi was asked for."""
    lines = [line.text for line in found.block.lines]
    yield from _table(lines)
    yield from _list(lines)
    query = re.search(QUERY, found.command or "")
    if query:
        yield from _csv(lines, query[1].split(","), counted="uniq -c" in (found.block.command or ""))
    yield from _report(lines)


def _table(lines: list[str]) -> Told:
    for line in lines:
        header = re.search(HEADER, line)
        if header:
            yield DriverRelease(release=header[1], source=TEXT)
            if header[2]:
                yield DriverCuda(driver_cuda=header[2], source=TEXT)
            break
    rows = [(index, re.match(ROW, line) or re.match(NAME_ONLY, line)) for index, line in enumerate(lines)]
    yield from devices(
        gpu(int(row[1]), row[2], memory=_memory(lines[index + 1 : index + 2])) for index, row in rows if row
    )


def _memory(following: list[str]) -> int | None:
    """MiB, from the second line of a GPU's row."""
    told = re.search(MEMORY, following[0]) if following else None
    return int(told[1]) if told else None


def _list(lines: list[str]) -> Iterator[GpuDevices]:
    matches = (re.match(LISTED, line) for line in lines)
    yield from devices(gpu(int(match[1]), match[2], match[3]) for match in matches if match)


def _csv(lines: list[str], columns: list[str], *, counted: bool) -> Told:
    """``--query-gpu=... --format=csv``, also after ``uniq -c``; indices are counted where they were not asked for."""
    rows = []
    for line in lines:
        times = re.match(COUNTED, line) if counted else None
        cells = [cell.strip() for cell in (line[times.end() :] if times else line).split(",")]
        if len(cells) == len(columns) and not cells[0].startswith(columns[0]):
            rows += [dict(zip(columns, cells, strict=True))] * (int(times[1]) if times else 1)
    release = next(
        (row["driver_version"] for row in rows if row.get("driver_version", "")[:1].isdigit()), None
    )
    if release:
        yield DriverRelease(release=release, source=TEXT)
    yield from devices(_csv_device(position, row) for position, row in enumerate(rows) if _named(row))


def _named(row: dict[str, str]) -> str:
    """The GPU's name, under either of its columns; empty where it was not asked for."""
    return row.get("name") or row.get("gpu_name") or ""


def _csv_device(position: int, row: dict[str, str]) -> GpuDevice:
    index, memory = row.get("index", ""), row.get("memory.total", "").partition(" ")[0]
    return gpu(
        int(index) if index.isdigit() else position,
        _named(row),
        row.get("uuid") or row.get("gpu_uuid"),
        int(memory) if memory.isdigit() else None,
    )


def _report(lines: list[str]) -> Told:
    """``nvidia-smi -q`` and ``--version``: ``key : value`` lines."""
    names = []
    for line in lines:
        told = re.match(VERSION_LINE, line.strip())
        if told and told[1].lower() in ("driver", "nvrm"):
            yield DriverRelease(release=told[2], source=TEXT)
        elif told:
            yield DriverCuda(driver_cuda=told[2], source=TEXT)
        key, _, value = line.partition(":")
        if key.strip() == "Product Name" and value.strip() not in ("", "N/A"):
            names.append(value.strip())
    yield from devices(gpu(index, name) for index, name in enumerate(names))


@check.reader(starts=r"^GPU models and configuration:", ends=r"^Nvidia driver version:", max_lines=70)
def collect_env_gpus(found: FoundBlock) -> Iterator[GpuDevices]:
    """torch.utils.collect_env: one GPU on the same line, several below."""
    lines = [line.text.removeprefix("GPU models and configuration:") for line in found.block.lines]
    yield from _list(lines)


@check.reader(starts=rf"^Nvidia driver version: {RELEASE}", max_lines=1)
def collect_env_driver(found: FoundBlock) -> Iterator[DriverRelease]:
    """torch.utils.collect_env asks nvidia-smi."""
    yield DriverRelease(release=found.block.lines[0].text.partition(":")[2].strip(), source=TEXT)


@check.reader(starts=rf"^NVRM version:\s+{RELEASE}", max_lines=2)
def container_cli_info(found: FoundBlock) -> Told:
    """``nvidia-container-cli info``."""
    yield from _report([line.text for line in found.block.lines])


@check.reader(starts=r"Using CUDA \d+\.\d+ driver version \S+ with kernel driver version \d", max_lines=1)
def forward_compatibility_banner(found: FoundBlock) -> Iterator[DriverCuda | KernelModule]:
    """NVIDIA's own images, where their entry point has put a compatibility library in use."""
    told = re.search(
        rf"Using CUDA (\d+\.\d+) driver version \S+ with kernel driver version ({RELEASE})",
        found.block.lines[0].text,
    )
    if told:
        yield DriverCuda(driver_cuda=told[1], source=TEXT)
        yield KernelModule(release=told[2], source=TEXT)
