"""What is known of the machine's memory, limits and disks. Sizes are in bytes; None as a limit is *unlimited*."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from envdoctor.api import Fact


class MemlockLimit(Fact, frozen=True):
    """``ulimit -l``: how much memory a process may lock (RLIMIT_MEMLOCK), which RDMA needs."""

    fact_name: ClassVar[str] = "host.memlock-limit"
    soft: int | None


class FilesLimit(Fact, frozen=True):
    """``ulimit -n``: how many files a process may have open (RLIMIT_NOFILE)."""

    fact_name: ClassVar[str] = "host.files-limit"
    soft: int | None


class ProcessesLimit(Fact, frozen=True):
    """``ulimit -u``: how many processes and threads this user may have (RLIMIT_NPROC)."""

    fact_name: ClassVar[str] = "host.processes-limit"
    soft: int | None


class HardLimits(Fact, frozen=True):
    """Up to where this user may raise the limits without help."""

    fact_name: ClassVar[str] = "host.hard-limits"
    memlock: int | None
    files: int | None
    processes: int | None


class SharedMemory(Fact, frozen=True):
    """The file system at ``/dev/shm``."""

    fact_name: ClassVar[str] = "host.shared-memory"
    total: int
    free: int

    def joined(self, later: SharedMemory) -> SharedMemory:
        """Two listings of one text, of a container and of its host as a rule: the smaller one is the container's."""
        return later if later.total <= self.total else self


class SharedMemoryAccess(Fact, frozen=True):
    """``/dev/shm`` as a directory, and whether this user may write there."""

    fact_name: ClassVar[str] = "host.shared-memory-access"
    exists: bool
    mode: str | None
    """``1777``; None when it is not there."""
    owner: int | None
    writable: bool


class MemoryInfo(Fact, frozen=True):
    """The machine's memory; in a virtual machine, the machine's own."""

    fact_name: ClassVar[str] = "host.memory"
    total: int
    available: int


class Swap(Fact, frozen=True):
    """Swap space."""

    fact_name: ClassVar[str] = "host.swap"
    total: int
    free: int


class Place(msgspec.Struct, frozen=True):
    """One place that programs write to, and the room there."""

    path: str
    """From a text, the mount point."""
    purpose: str
    """``temporary files``, ``caches``, ``the working directory``; empty in a text."""
    total: int
    free: int


class DiskSpace(Fact, frozen=True):
    """Room where PyTorch, its compilers and its hub write: TMPDIR, the caches, the working directory."""

    fact_name: ClassVar[str] = "host.disk-space"
    places: tuple[Place, ...]

    def joined(self, later: DiskSpace) -> DiskSpace:
        """Two listings of one text, together."""
        found = {place.path: place for place in (*self.places, *later.places)}
        return DiskSpace(places=tuple(found.values()), source=later.source)


class Inodes(Fact, frozen=True):
    """Inodes at the same places; file systems without a fixed number of them (btrfs, overlay images) are left out."""

    fact_name: ClassVar[str] = "host.inodes"
    places: tuple[Place, ...]


class CpuAffinity(Fact, frozen=True):
    """How many processors this process may run on, and how many are online."""

    fact_name: ClassVar[str] = "host.cpu-affinity"
    usable: int
    online: int


class RdmaDevices(Fact, frozen=True):
    """The RDMA devices of the machine, from ``/sys/class/infiniband``."""

    fact_name: ClassVar[str] = "host.rdma-devices"
    names: tuple[str, ...]
