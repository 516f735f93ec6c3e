"""Memory and disks in the machine's summary."""

# ruff: noqa: S108 - /dev/shm and /tmp are what is looked at, not where we write

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.api import Headline, View
from envdoctor_checks.host.check import check
from envdoctor_checks.host.facts import (
    CpuAffinity,
    DiskSpace,
    FilesLimit,
    MemlockLimit,
    MemoryInfo,
    ProcessesLimit,
    SharedMemory,
)
from envdoctor_checks.host.reasoning import sized


@check.headline
def memory_row(memory: MemoryInfo, shm: SharedMemory | None) -> Iterator[Headline]:
    """The machine's memory, and what of it may be shared."""
    shared = f", /dev/shm {sized(shm.total)}" if shm else ""
    yield Headline("memory", f"{sized(memory.available)} of {sized(memory.total)} available{shared}", 70)


@check.view
def limits(
    files: FilesLimit | None,
    memlock: MemlockLimit | None,
    processes: ProcessesLimit | None,
    cpus: CpuAffinity | None,
    shm: SharedMemory | None,
    space: DiskSpace | None,
) -> View:
    """What this process may have, and the room where it writes."""
    rows = []
    if cpus:
        rows.append(("processors", f"{cpus.usable} of {cpus.online}"))
    if files:
        rows.append(("open files (ulimit -n)", "unlimited" if files.soft is None else str(files.soft)))
    if memlock:
        rows.append(("locked memory (ulimit -l)", sized(memlock.soft)))
    if processes:
        rows.append(("processes (ulimit -u)", "unlimited" if processes.soft is None else str(processes.soft)))
    if shm:
        rows.append(("/dev/shm", f"{sized(shm.free)} of {sized(shm.total)} free"))
    rows += [
        (
            f"{place.path} {f'({place.purpose})' if place.purpose else ''}".strip(),
            f"{sized(place.free)} of {sized(place.total)} free",
        )
        for place in (space.places if space else ())
    ]
    return View("Limits and room", ("what", "how much"), tuple(rows))
