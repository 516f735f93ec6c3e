"""Control groups, versions 1 and 2: memory, processors, tasks, devices."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from envdoctor.api import CouldNotLook, Host, Source, Tier
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import (
    CpuCount,
    CpuQuota,
    CpuThrottling,
    DeviceRules,
    MemoryLimit,
    MemoryUsage,
    OomKills,
    PidsLimit,
    PidsUsage,
)
from envdoctor_checks.container.probe_who import WHOLE
from envdoctor_checks.container.procfs import cpu_list, flat_keys, group_paths, mount_lines

UNLIMITED = 1 << 60
"""Version 1 writes "no limit" as the largest number of whole pages."""


class Group(msgspec.Struct, frozen=True):
    """The directories of one controller that bear on us, our own first, up to the mount."""

    version: int
    directories: tuple[str, ...]


def group_of(host: Host, controller: str) -> Group:
    """Where one controller's files are. Raises `CouldNotLook` where control groups are not mounted here."""
    paths = group_paths(host.text("/proc/self/cgroup") or "")
    if not paths:
        raise CouldNotLook("/proc/self/cgroup tells no control group")
    mounts = mount_lines(host.text("/proc/self/mountinfo", limit=WHOLE) or "")
    for mount in mounts:
        if mount.fstype == "cgroup" and controller in mount.super_options and controller in paths:
            return Group(1, tuple(_upwards(host, mount.target, mount.origin, paths[controller])))
    for mount in mounts:
        if mount.fstype == "cgroup2" and "" in paths:
            return Group(2, tuple(_upwards(host, mount.target, mount.origin, paths[""])))
    raise CouldNotLook("no control groups are mounted here")


def _upwards(host: Host, target: str, origin: str, path: str) -> Iterator[str]:
    """From our own group to the mount's top. A path that is not below the mount (another namespace) leaves the top."""
    origin = origin.rstrip("/")
    inside = path[len(origin) :] if path.startswith(origin) and "/.." not in path else ""
    parts = [part for part in inside.split("/") if part]
    while parts:
        directory = f"{target}/{'/'.join(parts)}"
        if host.exists(directory):  # it may have vanished, with its processes moved elsewhere
            yield directory
        parts.pop()
    yield target


def _number(host: Host, path: str) -> int | None:
    """A file with one number; None for ``max``, for no file, and for what is none."""
    text = (host.text(path, limit=64) or "").strip()
    if not text.lstrip("-").isdecimal():
        return None
    return None if int(text) >= UNLIMITED or int(text) < 0 else int(text)


def _tightest(host: Host, group: Group, name: str) -> tuple[int | None, str]:
    """The smallest limit of the groups above us, and the directory that sets it."""
    limits = [(_number(host, f"{directory}/{name}"), directory) for directory in group.directories]
    known = [(limit, directory) for limit, directory in limits if limit is not None]
    return min(known, default=(None, group.directories[0]), key=lambda each: each[0])


@check.probe(tier=Tier.QUICK)
def memory(host: Host) -> Iterator[MemoryLimit | MemoryUsage | OomKills]:
    """The limit, what is used of it, and how often it killed."""
    group = group_of(host, "memory")
    names = (
        ("memory.max", "memory.current")
        if group.version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    )
    limit, directory = _tightest(host, group, names[0])
    yield MemoryLimit(limit=limit, source=Source("file", f"{directory}/{names[0]}"))
    usage = _number(host, f"{directory}/{names[1]}")
    if usage is not None:
        yield MemoryUsage(usage=usage, source=Source("file", f"{directory}/{names[1]}"))
    events = f"{group.directories[0]}/{'memory.events' if group.version == 2 else 'memory.oom_control'}"
    kills = flat_keys(host.text(events) or "").get("oom_kill")
    if kills is not None:
        yield OomKills(kills=kills, source=Source("file", events))


@check.probe(tier=Tier.QUICK)
def processors(host: Host) -> Iterator[CpuQuota | CpuThrottling | CpuCount]:
    """The quota, how often it ran out, and the processors in the affinity mask."""
    allowed = re.search(r"(?m)^Cpus_allowed_list:\s*(\S+)", host.text("/proc/self/status") or "")
    if allowed and cpu_list(allowed[1]):
        yield CpuCount(usable=cpu_list(allowed[1]), source=Source("file", "/proc/self/status"))
    group = group_of(host, "cpu")
    quotas = [(_cores(host, directory, group.version), directory) for directory in group.directories]
    known = [(cores, directory) for cores, directory in quotas if cores is not None]
    cores, directory = min(known, default=(None, group.directories[0]), key=lambda each: each[0] or 0.0)
    name = "cpu.max" if group.version == 2 else "cpu.cfs_quota_us"
    yield CpuQuota(cores=cores, source=Source("file", f"{directory}/{name}"))
    stat = flat_keys(host.text(f"{directory}/cpu.stat") or "")
    if "nr_periods" in stat and "nr_throttled" in stat:
        source = Source("file", f"{directory}/cpu.stat")
        yield CpuThrottling(periods=stat["nr_periods"], throttled=stat["nr_throttled"], source=source)


def _cores(host: Host, directory: str, version: int) -> float | None:
    if version == 2:
        return cores_of(host.text(f"{directory}/cpu.max") or "")
    quota = _number(host, f"{directory}/cpu.cfs_quota_us")
    period = _number(host, f"{directory}/cpu.cfs_period_us")
    return quota / period if quota and period else None


def cores_of(text: str) -> float | None:
    """``cpu.max``: ``800000 100000`` is eight; ``max 100000`` is no quota."""
    fields = text.split()
    if len(fields) == 2 and fields[0].isdecimal() and fields[1].isdecimal() and int(fields[1]):
        return int(fields[0]) / int(fields[1])
    return None


@check.probe(tier=Tier.QUICK)
def tasks(host: Host) -> Iterator[PidsLimit | PidsUsage]:
    """The limit of tasks, how many there are, and how often one more was refused."""
    group = group_of(host, "pids")
    limit, directory = _tightest(host, group, "pids.max")
    yield PidsLimit(limit=limit, source=Source("file", f"{directory}/pids.max"))
    current = _number(host, f"{directory}/pids.current")
    if current is not None:
        refused = flat_keys(host.text(f"{directory}/pids.events") or "").get("max")
        yield PidsUsage(current=current, refused=refused, source=Source("file", f"{directory}/pids.current"))


@check.probe(tier=Tier.QUICK)
def device_rules(host: Host) -> DeviceRules | None:
    """The device rules of version 1. Version 2 keeps them in BPF programs of the host, which no process may read."""
    group = group_of(host, "devices")
    if group.version == 2:
        return None  # true of almost every machine today, and nothing would allow it: no gap worth telling
    path = f"{group.directories[0]}/devices.list"
    text = host.text(path)
    if text is None:
        raise CouldNotLook(f"{path} is not there")
    return DeviceRules(rules=tuple(text.splitlines()[:500]), source=Source("file", path))
