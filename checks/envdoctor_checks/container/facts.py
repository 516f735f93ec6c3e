"""What is known of the container that a process runs in: engine, users, mounts, limits, image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import msgspec

from envdoctor.api import Fact

NOBODY = 65534
"""What the kernel shows for an id that the user namespace does not map (``/proc/sys/kernel/overflowuid``)."""


class ContainerEngine(Fact, frozen=True):
    """What runs the container that we are in."""

    fact_name: ClassVar[str] = "container.engine"
    engine: str | None
    """``docker``, ``podman``, ``kubernetes``, ``containerd``, ``apptainer``, ``enroot``, ``lxc``, ``systemd-nspawn`` or
    ``other``; None when this is no container."""
    rootless: bool | None
    """Whether root in here is another user on the host; None where nothing tells."""
    image: str | None = None
    """The image's name, where the engine tells it inside."""
    found_via: str = ""
    """The file or variable that told the engine."""


class IdRange(msgspec.Struct, frozen=True):
    """One line of ``uid_map``: `count` ids from `inside` on are those from `outside` on, one level further out."""

    inside: int
    outside: int
    count: int


class IdMap(Fact, frozen=True):
    """Base of `UidMap` and `GidMap`: which ids of the parent user namespace the ids in here are."""

    ranges: tuple[IdRange, ...]

    def outside(self, identity: int) -> int | None:
        """The id on the other side, None when it is not mapped."""
        for each in self.ranges:
            if each.inside <= identity < each.inside + each.count:
                return each.outside + identity - each.inside
        return None

    def inside(self, identity: int) -> int | None:
        """The id in here of an id on the other side, None when it is not mapped."""
        for each in self.ranges:
            if each.outside <= identity < each.outside + each.count:
                return each.inside + identity - each.outside
        return None

    @property
    def identity(self) -> bool:
        """Whether every id stays what it is."""
        return all(each.inside == each.outside for each in self.ranges)


class UidMap(IdMap, frozen=True):
    """``/proc/self/uid_map``."""

    fact_name: ClassVar[str] = "container.uid-map"


class GidMap(IdMap, frozen=True):
    """``/proc/self/gid_map``."""

    fact_name: ClassVar[str] = "container.gid-map"


class Identity(Fact, frozen=True):
    """Who this process is, in numbers as its own user namespace shows them."""

    fact_name: ClassVar[str] = "container.identity"
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    """Supplementary groups; `NOBODY` stands for one that the namespace does not map."""


class PasswdEntry(Fact, frozen=True):
    """The entry of this process's UID in ``/etc/passwd``."""

    fact_name: ClassVar[str] = "container.passwd-entry"
    uid: int
    name: str | None
    """None when there is no entry."""
    home: str | None = None


class HomeDirectory(Fact, frozen=True):
    """The home directory as programs find it: HOME, else the passwd entry."""

    fact_name: ClassVar[str] = "container.home"
    path: str | None
    """None when neither names one."""
    found_via: Literal["HOME", "passwd"]
    exists: bool
    writable: bool


class ListedPath(msgspec.Struct, frozen=True):
    """One line of ``ls -l``."""

    path: str
    mode: str
    """As letters, ``drwxr-xr-x``."""
    owner: str
    """By name or by number, as listed."""
    group: str


class ListedPaths(Fact, frozen=True):
    """Files and directories that a text lists with their owners."""

    fact_name: ClassVar[str] = "container.listed-paths"
    paths: tuple[ListedPath, ...]

    def joined(self, later: ListedPaths) -> ListedPaths:
        """Two listings of one text, together."""
        by_path = {each.path: each for each in (*self.paths, *later.paths)}
        return ListedPaths(paths=tuple(by_path.values()), source=self.source)


class Mount(msgspec.Struct, frozen=True, omit_defaults=True):
    """One mount that a user may care for."""

    target: str
    fstype: str
    origin: str
    """What is mounted: the path inside its file system (``/home/alice/data`` for a bind mount), ``/`` for all of it."""
    device: str
    """The file system's own name: ``/dev/sda1``, ``nas:/export``, ``overlay``."""
    read_only: bool
    noexec: bool
    owner: int | None = None
    """UID of the mounted directory as seen in here; None where it was not looked at (network file systems hang)."""
    group: int | None = None
    mode: str | None = None
    """Octal, ``0755``."""
    writable: bool | None = None
    """Whether this process may write there; None where it was not looked at."""
    root_owned: str | None = None
    """A file of UID 0 in a directory of another user's, seen when this process is root in a container."""

    @property
    def bound(self) -> bool:
        """Whether files of the host are mounted here: no file system that the engine made for the container."""
        return self.fstype not in VOLATILE and self.target != "/" and not self.origin.startswith(ENGINE_OWN)


VOLATILE = frozenset(
    {"overlay", "tmpfs", "ramfs", "aufs", "fuse-overlayfs", "fuse.fuse-overlayfs", "squashfs"}
)
ENGINE_OWN = (
    "/var/lib/docker/",
    "/var/lib/containers/",
    "/var/lib/containerd/",
    "/var/lib/kubelet/pods/",
    "/run/containers/",
)
"""Where engines keep what they mount themselves: resolv.conf, named volumes, a pod's volumes."""


class Mounts(Fact, frozen=True):
    """The mounts of this process that hold files, from ``/proc/self/mountinfo``."""

    fact_name: ClassVar[str] = "container.mounts"
    mounts: tuple[Mount, ...]
    omitted: int = 0
    """How many more of them there are: a process with thousands of mounts is not looked at whole."""

    def holding(self, path: str) -> Mount | None:
        """The mount that a path lies on, among those that were kept."""
        fitting = [each for each in self.mounts if f"{path}/".startswith(each.target.rstrip("/") + "/")]
        return max(fitting, key=lambda each: len(each.target), default=None)


class MemoryLimit(Fact, frozen=True):
    """The tightest memory limit of the control groups above this process."""

    fact_name: ClassVar[str] = "container.memory-limit"
    limit: int | None
    """Bytes; None: no limit."""


class MemoryUsage(Fact, frozen=True):
    """What the group with the tightest memory limit uses, page cache included."""

    fact_name: ClassVar[str] = "container.memory-usage"
    usage: int
    """Bytes."""


class OomKills(Fact, frozen=True):
    """How many processes the kernel has killed in this control group because its memory limit was reached."""

    fact_name: ClassVar[str] = "container.oom-kills"
    kills: int


class CpuQuota(Fact, frozen=True):
    """How much processor time the control groups allow."""

    fact_name: ClassVar[str] = "container.cpu-quota"
    cores: float | None
    """Quota divided by period; None: no quota."""


class CpuThrottling(Fact, frozen=True):
    """How often the quota ran out, from ``cpu.stat``."""

    fact_name: ClassVar[str] = "container.cpu-throttling"
    periods: int
    throttled: int


class CpuCount(Fact, frozen=True):
    """How many logical processors this process may run on (its affinity mask): what programs size their pools by."""

    fact_name: ClassVar[str] = "container.cpu-count"
    usable: int


class PidsLimit(Fact, frozen=True):
    """How many tasks (threads count) the control groups allow."""

    fact_name: ClassVar[str] = "container.pids-limit"
    limit: int | None
    """None: no limit."""


class PidsUsage(Fact, frozen=True):
    """How many tasks the group with the tightest limit has, and how often it refused one more."""

    fact_name: ClassVar[str] = "container.pids-usage"
    current: int
    refused: int | None = None
    """None where the kernel does not count them, or the text does not say."""


class DeviceRules(Fact, frozen=True):
    """Device files that control groups of version 1 allow. Version 2 keeps that in programs that nobody in here can read."""

    fact_name: ClassVar[str] = "container.device-rules"
    rules: tuple[str, ...]
    """Lines of ``devices.list``: ``c 195:* rwm``, ``a *:* rwm``."""

    def allows(self, major: int) -> bool:
        """Whether a rule lets this process read and write character devices of a major number."""
        for rule in self.rules:
            kind, _, rest = rule.partition(" ")
            number, _, access = rest.partition(" ")
            if (
                kind in ("a", "c")
                and number.partition(":")[0] in ("*", str(major))
                and {"r", "w"} <= set(access)
            ):
                return True
        return False


class ImageKind(Fact, frozen=True):
    """Whether this is an NVIDIA CUDA image, and which flavour."""

    fact_name: ClassVar[str] = "container.image-kind"
    cuda: str | None
    """The image's CUDA_VERSION; None for an image without one."""
    flavour: Literal["base", "runtime", "devel"] | None
    """By what is installed: nvcc makes it devel, libcublas runtime. None without CUDA."""


DRIVER_CAPABILITIES = frozenset(
    {"compute", "utility", "graphics", "video", "display", "compat32", "ngx", "all"}
)


def without_compute(capabilities: Iterable[str]) -> bool:
    """Whether these are driver capabilities of which none brings libcuda."""
    told = DRIVER_CAPABILITIES.intersection(capabilities)
    return bool(told) and not told & {"compute", "all"}


class ImageVariables(Fact, frozen=True):
    """The NVIDIA_* variables by which an image or its launch asks the NVIDIA runtime for GPUs."""

    fact_name: ClassVar[str] = "container.image-variables"
    values: dict[str, str]
    complete: bool = True
    """Whether a name that is missing here is not set; False when we only know what a text showed."""

    def joined(self, later: ImageVariables) -> ImageVariables:
        """What two places of a text show, together."""
        complete = self.complete or later.complete
        return ImageVariables(values={**self.values, **later.values}, complete=complete, source=later.source)

    @property
    def lack_compute(self) -> bool:
        """Whether NVIDIA_DRIVER_CAPABILITIES names some, and libcuda comes with none of them."""
        return without_compute(self.values.get("NVIDIA_DRIVER_CAPABILITIES", "").split(","))


class ProcessLabel(Fact, frozen=True):
    """What confines this process: ``/proc/self/attr/current`` and the seccomp mode."""

    fact_name: ClassVar[str] = "container.process-label"
    label: str | None
    """``system_u:system_r:container_t:s0:c1,c2``, ``docker-default (enforce)``; None: no such security module."""
    seccomp: int | None
    """0: none, 2: a filter; None where the kernel does not tell."""


class Preload(Fact, frozen=True):
    """The libraries that the loader puts into every program: LD_PRELOAD and ``/etc/ld.so.preload``."""

    fact_name: ClassVar[str] = "container.preload"
    libraries: tuple[str, ...]
