"""Users, owners, mounts, control groups and kernel settings in a pasted text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import (
    CpuCount,
    CpuQuota,
    CpuThrottling,
    DeviceRules,
    GidMap,
    Identity,
    ImageVariables,
    ListedPath,
    ListedPaths,
    MemoryLimit,
    MemoryUsage,
    Mount,
    Mounts,
    OomKills,
    PasswdEntry,
    PidsLimit,
    PidsUsage,
    UidMap,
)
from envdoctor_checks.container.facts_host import SETTINGS, BpfJitHarden, KernelSettings, SelinuxMode
from envdoctor_checks.container.probe_groups import UNLIMITED, cores_of
from envdoctor_checks.container.probe_mounts import PSEUDO
from envdoctor_checks.container.procfs import account, flat_keys, id_ranges, mount_lines
from envdoctor_checks.container.shell import arguments, inside, outputs

TEXT = Source("text")
ID = r"^uid=(?P<uid>\d+)\S* gid=(?P<gid>\d+)\S*(?: groups=(?P<groups>\S+))?"


@check.reader(command=r"(?:\S*/)?id\b", starts=r"^uid=\d+\S* gid=\d+", max_lines=1)
def ids(found: FoundBlock) -> Iterator[Identity]:
    """``id`` in a container; on the host it speaks of somebody else."""
    told = re.match(ID, found.block.lines[0].text) if found.block.lines else None
    if told and inside(found):
        groups = tuple(int(each) for each in re.findall(r"(?:^|,)(\d+)", told["groups"] or ""))
        yield Identity(uid=int(told["uid"]), gid=int(told["gid"]), groups=groups, source=TEXT)


@check.reader(command=r"(?:\S*/)?cat\b.*/proc/(?:self|\d+|\$\$)/[ug]id_map")
def id_maps(found: FoundBlock) -> Iterator[UidMap | GidMap]:
    """Either map, or both one after the other."""
    ranges = id_ranges("\n".join(line.text for line in found.block.lines))
    kinds = [
        UidMap if path.endswith("uid_map") else GidMap
        for path in arguments(found.command or "")
        if path.endswith("id_map")
    ]
    if not ranges or not kinds or len(ranges) % len(kinds):
        return
    size = len(ranges) // len(kinds)
    for position, kind in enumerate(kinds):
        yield kind(ranges=ranges[position * size : (position + 1) * size], source=TEXT)


@check.reader(command=r".*\b(?:getent\s+passwd|grep\b.*/etc/passwd)\b")
def passwd_line(found: FoundBlock) -> Iterator[PasswdEntry]:
    """One user's entry."""
    entries = [
        line.text
        for line in found.block.lines
        if re.match(r"^[\w.-]+:[^:]*:\d+:\d+:[^:]*:[^:]*:\S*$", line.text)
    ]
    if len(entries) == 1:
        uid = int(entries[0].split(":")[2])
        name, home = account(entries[0], uid) or (None, None)
        yield PasswdEntry(uid=uid, name=name, home=home, source=TEXT)


LISTED = (
    r"^(?:\s*\d+\s+\d+\s+)?(?P<mode>[d-][rwxsStT-]{9})[.+@]?\s+\d+\s+(?P<owner>\S+)\s+(?P<group>\S+)\s+(?:[\w:]+_t\S*\s+)?\d[\d.,KMG]*\s+"
    r"(?:\w{3}\s+\d+\s+[\d:]+|\d{4}-\d\d-\d\d\s+[\d:.]+(?:\s+[+-]\d{4})?)\s+(?P<name>\S.*)$"
)


@check.reader(command=r"(?:\S*/)?(?:ls|ll|find|stat)\b")
def listed(found: FoundBlock) -> Iterator[ListedPaths]:
    """``ls -l`` of files and directories, long format; names are completed by the directory that was listed."""
    lines = [each for each in (re.match(LISTED, line.text) for line in found.block.lines) if each]
    places = arguments(found.command or "")
    folder = (
        places[0].rstrip("/") if len(places) == 1 and not re.search(r"\s-\w*d", found.command or "") else ""
    )
    paths = []
    for line in lines:
        name = line["name"].split(" -> ")[0]
        if name == "..":
            continue
        full = (
            name
            if name.startswith("/") or not folder
            else folder
            if name in (".", folder)
            else f"{folder}/{name}"
        )
        paths.append(ListedPath(full, line["mode"], line["owner"], line["group"]))
    if paths:
        yield ListedPaths(paths=tuple(paths), source=TEXT)


@check.reader(starts=r"^[d-][rwxsStT-]{9}[.+@]?\s+\d+\s+\S+\s+\S+\s+\d.*\s/\S+$", max_lines=1)
def listed_line(found: FoundBlock) -> Iterator[ListedPaths]:
    """One line of it that names the whole path, whatever command printed it."""
    line = re.match(LISTED, found.block.lines[0].text)
    if line:
        path = ListedPath(line["name"], line["mode"], line["owner"], line["group"])
        yield ListedPaths(paths=(path,), source=TEXT)


MOUNTED = r"^(?P<device>\S+) on (?P<target>/\S*) type (?P<fstype>\S+) \((?P<options>[^)]*)\)"
FOUND = (
    r"^[^/\w]*(?P<target>/\S*)\s+(?P<device>\S+)\s+(?P<fstype>[a-z][\w.]*)\s+(?P<options>r[ow],\S+|r[ow])$"
)


@check.reader(command=r"(?:\S*/)?(?:mount|findmnt)\b|(?:\S*/)?cat\b.*/(?:self|\d+)/mount(?:info|s)")
def mounted(found: FoundBlock) -> Iterator[Mounts]:
    """``mount``, ``findmnt`` and mountinfo; none of them tells owners."""
    text = "\n".join(line.text for line in found.block.lines)
    mounts = [
        Mount(
            each.target, each.fstype, each.origin, each.device, "ro" in each.options, "noexec" in each.options
        )
        for each in mount_lines(text)
    ]
    for line in text.splitlines():
        told = re.match(MOUNTED, line) or re.match(FOUND, line)
        if told:
            options = told["options"].split(",")
            device, _, origin = told["device"].partition("[")
            origin = origin.rstrip("]") or "/"
            mounts.append(
                Mount(told["target"], told["fstype"], origin, device, "ro" in options, "noexec" in options)
            )
    kept = tuple(each for each in mounts if each.fstype not in PSEUDO)
    if kept:
        yield Mounts(mounts=kept, source=TEXT)


@check.reader(command=r"(?:\S*/)?cat\b.*/sys/fs/cgroup/")
def group_files(
    found: FoundBlock,
) -> Iterator[MemoryLimit | MemoryUsage | OomKills | CpuQuota | PidsLimit | PidsUsage]:
    """The files of one value each, in the order in which they were asked for."""
    for command, lines in outputs(found):
        paths = arguments(command)
        if not command.startswith("cat") or len(paths) != len(lines):
            if len(paths) == 1 and paths[0].endswith("memory.events"):
                kills = flat_keys("\n".join(lines)).get("oom_kill")
                if kills is not None:
                    yield OomKills(kills=kills, source=TEXT)
            continue
        values = {path.rpartition("/")[2]: value for path, value in zip(paths, lines, strict=True)}
        yield from _group_values(values)


def _group_values(
    values: dict[str, str],
) -> Iterator[MemoryLimit | MemoryUsage | CpuQuota | PidsLimit | PidsUsage]:
    for name, value in values.items():
        number = None if value == "max" else int(value) if value.isdecimal() else -1
        if name in ("memory.max", "memory.limit_in_bytes") and number != -1:
            yield MemoryLimit(limit=None if number is None or number >= UNLIMITED else number, source=TEXT)
        elif name in ("memory.current", "memory.usage_in_bytes") and number is not None and number >= 0:
            yield MemoryUsage(usage=number, source=TEXT)
        elif name == "cpu.max":
            yield CpuQuota(cores=cores_of(value), source=TEXT)
        elif name == "pids.max" and number != -1:
            yield PidsLimit(limit=number, source=TEXT)
        elif name == "pids.current" and number is not None and number >= 0:
            yield PidsUsage(current=number, source=TEXT)
    quota, period = values.get("cpu.cfs_quota_us", ""), values.get("cpu.cfs_period_us", "")
    if period.isdecimal() and quota.lstrip("-").isdecimal():
        yield CpuQuota(
            cores=int(quota) / int(period) if int(quota) > 0 and int(period) else None, source=TEXT
        )


@check.reader(command=r"(?:\S*/)?cat\b.*devices\.list")
def device_list(found: FoundBlock) -> Iterator[DeviceRules]:
    """``devices.list`` of version 1, whole."""
    rules = tuple(
        line.text for line in found.block.lines if re.match(r"^[abc] [\d*]+:[\d*]+ [rwm]+$", line.text)
    )
    if rules:
        yield DeviceRules(rules=rules, source=TEXT)


@check.reader(starts=r"^nr_periods \d+$", max_lines=3)
def throttling(found: FoundBlock) -> Iterator[CpuThrottling]:
    """The lines of ``cpu.stat`` that matter."""
    stat = flat_keys("\n".join(line.text for line in found.block.lines))
    if "nr_throttled" in stat:
        yield CpuThrottling(periods=stat["nr_periods"], throttled=stat["nr_throttled"], source=TEXT)


@check.reader(command=r"nproc\b")
def processors_printed(found: FoundBlock) -> Iterator[CpuCount]:
    """``nproc``, which goes by the affinity mask, not by the quota."""
    for command, lines in outputs(found):
        if command.startswith("nproc") and len(lines) == 1 and lines[0].isdecimal():
            yield CpuCount(usable=int(lines[0]), source=TEXT)


@check.reader(command=r"(?:\S*/)?(?:getenforce|sestatus)\b")
def selinux_mode(found: FoundBlock) -> Iterator[SelinuxMode]:
    """``getenforce`` prints one word; ``sestatus`` has it in a line."""
    for line in found.block.lines:
        told = re.match(
            r"^(?:Current mode:\s+)?(enforcing|permissive|disabled)$", line.text.strip(), re.IGNORECASE
        )
        if told:
            yield SelinuxMode(mode=told[1].lower(), source=TEXT)  # type: ignore[arg-type] # one of the three words


KNOWN = (*SETTINGS, "net.core.bpf_jit_harden")
ASSIGNED = r"^\s*(?P<name>" + "|".join(re.escape(name) for name in KNOWN) + r")\s*=\s*(?P<value>-?\d+)\s*$"


@check.reader(command=r"(?:\S*/)?(?:sysctl|cat)\b.*(?:userns|user_namespaces|bpf_jit_harden)")
def kernel_setting(found: FoundBlock) -> Iterator[KernelSettings | BpfJitHarden]:
    """``sysctl NAME`` and ``cat /proc/sys/...``."""
    values = {}
    for line in found.block.lines:
        told = re.match(ASSIGNED, line.text)
        if told:
            values[told["name"]] = told["value"]
    for command, lines in outputs(found):
        paths = arguments(command)
        if command.startswith("cat") and len(paths) == len(lines):
            names = [path.removeprefix("/proc/sys/").replace("/", ".") for path in paths]
            values.update(
                {
                    name: value
                    for name, value in zip(names, lines, strict=True)
                    if name in KNOWN and value.isdecimal()
                }
            )
    harden = values.pop("net.core.bpf_jit_harden", None)
    if harden is not None:
        yield BpfJitHarden(value=int(harden), source=TEXT)
    if values:
        yield KernelSettings(values=values, source=TEXT)


NVIDIA = r"""\b(?P<name>NVIDIA_(?:VISIBLE_DEVICES|DRIVER_CAPABILITIES|REQUIRE_\w+|DISABLE_REQUIRE))["']?\s*(?:=|:\s)\s*["']?(?P<value>[^"'\n]*?)["',]*(?=\s+[A-Z][A-Z_]+=|\s*$|\s-)"""


@check.reader(command=r"(?:printenv|echo)\s+\W*NVIDIA_\w+\W*$")
def image_variable(found: FoundBlock) -> Iterator[ImageVariables]:
    """``printenv NVIDIA_VISIBLE_DEVICES``: one value."""
    name = re.search(r"NVIDIA_\w+", found.command or "")
    lines = [line.text.strip() for line in found.block.lines if line.text.strip()]
    if name and len(lines) <= 1:
        value = lines[0] if lines else ""
        yield ImageVariables(values={name[0]: value}, complete=False, source=TEXT)


@check.reader(
    starts=r"\bNVIDIA_(?:VISIBLE_DEVICES|DRIVER_CAPABILITIES|REQUIRE_\w+|DISABLE_REQUIRE)[\"']?\s*(?:=|:\s)",
    max_lines=1,
)
def image_variables(found: FoundBlock) -> Iterator[ImageVariables]:
    """The variables wherever they stand: an environment, ``docker inspect``, a Dockerfile, a compose file."""
    line = found.block.lines[0].text
    values = {told["name"]: told["value"].strip(" ]") for told in re.finditer(NVIDIA, line)}
    if values and "$" not in line:
        yield ImageVariables(values=values, complete=False, source=TEXT)


@check.reader(starts=r"^\s*-?\s*name:\s*[\"']?NVIDIA_\w+[\"']?\s*$", max_lines=2)
def manifest_variable(found: FoundBlock) -> Iterator[ImageVariables]:
    """A name and its value in a pod's ``env``."""
    texts = [line.text for line in found.block.lines]
    name = re.search(r"NVIDIA_\w+", texts[0])
    value = re.match(r"^\s*value:\s*[\"']?(.*?)[\"']?\s*$", texts[1]) if len(texts) > 1 else None
    if name and value:
        yield ImageVariables(values={name[0]: value[1]}, complete=False, source=TEXT)
