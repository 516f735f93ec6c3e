"""Reads limits, shared memory, memory, disks and processors: files and statvfs(3) only."""

# ruff: noqa: S108 - /dev/shm and /tmp are what is looked at, not where we write

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from envdoctor.api import CouldNotLook, Host, Source, Tier, Unavailable
from envdoctor_checks.host.check import check
from envdoctor_checks.host.facts import (
    CpuAffinity,
    DiskSpace,
    FilesLimit,
    HardLimits,
    Inodes,
    MemlockLimit,
    MemoryInfo,
    Place,
    ProcessesLimit,
    RdmaDevices,
    SharedMemory,
    SharedMemoryAccess,
    Swap,
)

LIMITS = "/proc/self/limits"
LIMIT = r"(?m)^Max (locked memory|open files|processes) +(\d+|unlimited) +(\d+|unlimited)\b"
LISTED = r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*"
"""Numbers of processors, ``0-3,8``."""
SHM = "/dev/shm"


@check.probe(tier=Tier.QUICK)
def limits(host: Host) -> Iterator[MemlockLimit | FilesLimit | ProcessesLimit | HardLimits]:
    """The limits that programs inherit from the shell that started us."""
    text = host.text(LIMITS)
    found = {name: (number(soft), number(hard)) for name, soft, hard in re.findall(LIMIT, text or "")}
    if len(found) != 3:
        raise CouldNotLook(
            f"{LIMITS} is not there" if text is None else f"{LIMITS} is not in its usual form", "mount /proc"
        )
    memlock, files, processes = found["locked memory"], found["open files"], found["processes"]
    source = Source("file", LIMITS)
    yield MemlockLimit(soft=memlock[0], source=source)
    yield FilesLimit(soft=files[0], source=source)
    yield ProcessesLimit(soft=processes[0], source=source)
    yield HardLimits(memlock=memlock[1], files=files[1], processes=processes[1], source=source)


def number(written: str) -> int | None:
    """A limit as the kernel writes it."""
    return None if written == "unlimited" else int(written)


@check.probe(tier=Tier.QUICK)
def shared_memory(host: Host) -> Iterator[SharedMemory | SharedMemoryAccess | Unavailable]:
    """How large /dev/shm is, and whether this user may use it."""
    source = Source("file", SHM)
    status = host.status(SHM)
    writable = status is not None and host.may(SHM, os.W_OK | os.X_OK)
    yield SharedMemoryAccess(
        exists=status is not None,
        mode=f"{status.mode:04o}" if status else None,
        owner=status.uid if status else None,
        writable=writable,
        source=source,
    )
    space = host.space(SHM) if status else None
    if space is None:
        yield Unavailable(
            SharedMemory.fact_name, f"{SHM} does not tell its size" if status else f"{SHM} is not there"
        )
    else:
        yield SharedMemory(total=space.total, free=space.free, source=source)


@check.probe(tier=Tier.QUICK)
def memory(host: Host) -> Iterator[MemoryInfo | Swap]:
    """From /proc/meminfo, which in a container shows the whole machine."""
    figures = {
        key: int(value) * 1024
        for key, value in re.findall(r"^(\w+): +(\d+) kB$", host.text("/proc/meminfo") or "", re.MULTILINE)
    }
    if not {"MemTotal", "MemAvailable", "SwapTotal", "SwapFree"} <= figures.keys():
        raise CouldNotLook("/proc/meminfo does not tell the machine's memory", "mount /proc")
    source = Source("file", "/proc/meminfo")
    yield MemoryInfo(total=figures["MemTotal"], available=figures["MemAvailable"], source=source)
    yield Swap(total=figures["SwapTotal"], free=figures["SwapFree"], source=source)


@check.probe(tier=Tier.QUICK, deadline=3.0)
def disks(host: Host) -> Iterator[DiskSpace | Inodes]:
    """Room where programs will write. A dead network file system costs this probe its time, and no other."""
    spaces: list[Place] = []
    inodes: list[Place] = []
    for purpose, path in _writing_places(host):
        there = _existing(host, path)
        try:
            space = host.space(there)
        except OSError:
            continue  # gone meanwhile, or not ours to look at: whoever writes there will meet it
        if space is None or space.read_only or space.total == 0:
            continue
        spaces.append(Place(there, purpose, space.total, space.free))
        if space.inodes:
            inodes.append(Place(there, purpose, space.inodes, space.inodes_free))
    source = Source("call", "statvfs")
    yield DiskSpace(places=tuple(spaces), source=source)
    yield Inodes(places=tuple(inodes), source=source)


def _writing_places(host: Host) -> Iterator[tuple[str, str]]:
    """What is written there, and the path; each path once."""
    told = host.environ.get
    home = told("HOME") or "/root"
    temporary = told("TMPDIR") or told("TEMP") or told("TMP") or "/tmp"
    cache = told("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    places = {
        temporary: "temporary files",
        cache: "caches",
        told("TORCH_HOME") or "": "PyTorch's hub",
        told("HF_HOME") or "": "Hugging Face's hub",
        told("TRITON_CACHE_DIR") or os.path.join(home, ".triton"): "Triton's cache",
        told("TORCHINDUCTOR_CACHE_DIR") or "": "Inductor's cache",
        host.cwd: "the working directory",
    }
    return ((purpose, path) for path, purpose in places.items() if path.startswith("/"))


def _existing(host: Host, path: str) -> str:
    """The path, or the nearest directory above it that is there: where it would be made."""
    while path != "/":
        try:
            host.stat(path)
        except OSError:
            path = os.path.dirname(path)
        else:
            return path
    return path


@check.probe(tier=Tier.QUICK)
def processors(host: Host) -> CpuAffinity:
    """The affinity mask against the processors that are online."""
    allowed = re.search(r"^Cpus_allowed_list:\s*(\S+)$", host.text("/proc/self/status") or "", re.MULTILINE)
    online = (host.text("/sys/devices/system/cpu/online") or "").strip()
    if allowed is None or not re.fullmatch(LISTED, online) or not re.fullmatch(LISTED, allowed[1]):
        raise CouldNotLook(
            "/proc/self/status or /sys/devices/system/cpu/online does not tell", "mount /proc and /sys"
        )
    return CpuAffinity(
        usable=counted(allowed[1]), online=counted(online), source=Source("file", "/proc/self/status")
    )


def counted(listed: str) -> int:
    """How many numbers a list such as ``0-3,8`` holds."""
    ends = (each.partition("-")[::2] for each in listed.split(",") if each)
    return sum(int(last or first) - int(first) + 1 for first, last in ends)


@check.probe(tier=Tier.QUICK)
def rdma(host: Host) -> RdmaDevices:
    """Which RDMA devices there are."""
    where = "/sys/class/infiniband"
    return RdmaDevices(names=host.names(where) or (), source=Source("file", where))
