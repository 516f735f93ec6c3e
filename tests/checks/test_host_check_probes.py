"""Limits, shared memory, disks and processors of real processes: limits set in children, tmpfs in mount namespaces."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envdoctor.engine import flatten, gathered
from envdoctor.facts import CouldNotLook, Facts, Unavailable
from envdoctor.host import Host
from envdoctor.tree import host_tree
from envdoctor_checks.host import probe
from envdoctor_checks.host.facts import (
    CpuAffinity,
    DiskSpace,
    FilesLimit,
    HardLimits,
    Inodes,
    MemlockLimit,
    MemoryInfo,
    RdmaDevices,
    SharedMemory,
    SharedMemoryAccess,
    Swap,
)

SHOW = """
import json, sys
import msgspec
from envdoctor.engine import flatten
from envdoctor.facts import Fact
from envdoctor.host import Host
from envdoctor_checks.host import probe
given = flatten(getattr(probe, sys.argv[1])(Host.here()))
print(json.dumps({each.fact_name: msgspec.to_builtins(each) for each in given if isinstance(each, Fact)}))
"""
NAMESPACE = "mount --make-rprivate / && mount -t tmpfs -o {options} tmpfs {at} && exec "


def child(name: str, before: Callable[[], None] | None = None, **more: str) -> dict[str, Any]:
    """What one probe sees in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW, name],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=before,
        env={**os.environ, **more},
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def in_namespace(name: str, at: str, options: str, *prefix: str, **more: str) -> dict[str, Any]:
    """What one probe sees where another tmpfs is mounted, for that process alone."""
    script = NAMESPACE.format(options=options, at=at) + '"$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *prefix, sys.executable, "-c", SHOW, name],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **more},
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def may_mount() -> bool:
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return tried.returncode == 0 and os.getuid() == 0


needs_mounts = pytest.mark.skipif(not may_mount(), reason="mount namespaces need root here")


def limited(kind: int, soft: int, hard: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (soft, hard))


# Limits.


def test_limits_are_those_of_the_shell_that_starts_us() -> None:
    told = child("limits", limited(resource.RLIMIT_MEMLOCK, 65536, 131072))
    assert told["host.memlock-limit"]["soft"] == 65536
    assert told["host.hard-limits"]["memlock"] == 131072
    assert child("limits", limited(resource.RLIMIT_NOFILE, 256, 512))["host.files-limit"]["soft"] == 256


def tree(root: Path, files: dict[str, str], more: str = "") -> Host:
    for path, text in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    (root / "host.toml").write_text(more)
    return host_tree(root)


def seen(given: Any) -> Facts:
    return gathered(flatten(given))


def known(facts: Facts, kind: type[Any]) -> Any:
    fact = facts.get(kind)
    assert isinstance(fact, kind), fact
    return fact


LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max processes             unlimited            unlimited            processes
Max open files            1024                 1048576              files
Max locked memory         8388608              unlimited            bytes
"""


def test_unlimited_is_none(tmp_path: Path) -> None:
    facts = seen(probe.limits(tree(tmp_path, {"/proc/self/limits": LIMITS})))
    assert known(facts, MemlockLimit).soft == 8388608
    assert known(facts, FilesLimit).soft == 1024
    assert known(facts, HardLimits).memlock is None


@pytest.mark.parametrize("text", ["", "Max open files 12", "\x00\xff garbage"])
def test_limits_in_no_known_form_could_not_be_looked_at(tmp_path: Path, text: str) -> None:
    with pytest.raises(CouldNotLook):
        flatten(probe.limits(tree(tmp_path, {"/proc/self/limits": text})))


def test_without_proc_limits_could_not_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises(CouldNotLook, match="not there"):
        flatten(probe.limits(tree(tmp_path, {})))


# Shared memory.


def test_this_machines_shared_memory_is_seen() -> None:
    facts = seen(probe.shared_memory(Host.here()))
    told = os.statvfs("/dev/shm")
    assert known(facts, SharedMemory).total == told.f_frsize * told.f_blocks
    assert known(facts, SharedMemoryAccess).writable


@needs_mounts
def test_a_container_sized_mount_is_seen() -> None:
    told = in_namespace("shared_memory", "/dev/shm", "size=64m,mode=1777")
    assert told["host.shared-memory"]["total"] == 64 << 20
    assert told["host.shared-memory-access"]["mode"] == "1777"


@needs_mounts
def test_a_mount_that_only_root_may_write() -> None:
    who = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
    access = in_namespace("shared_memory", "/dev/shm", "size=64m,mode=0755", *who)[
        "host.shared-memory-access"
    ]
    assert (access["exists"], access["writable"], access["mode"]) == (True, False, "0755")


def test_shared_memory_that_is_not_there(tmp_path: Path) -> None:
    facts = seen(probe.shared_memory(tree(tmp_path, {"/etc/x": ""})))
    assert not known(facts, SharedMemoryAccess).exists
    assert isinstance(facts.get(SharedMemory), Unavailable)


# Memory.


def test_this_machines_memory_is_seen() -> None:
    facts = seen(probe.memory(Host.here()))
    memory = known(facts, MemoryInfo)
    assert 0 < memory.available <= memory.total
    assert memory.total == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert known(facts, Swap).total >= 0


@pytest.mark.parametrize("text", ["", "MemTotal: lots\n", "\x00"])
def test_memory_that_is_not_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(CouldNotLook):
        flatten(probe.memory(tree(tmp_path, {"/proc/meminfo": text})))


# Disks.


@needs_mounts
def test_a_full_place_for_temporary_files_is_seen(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    told = in_namespace("disks", str(place), "size=4m,nr_inodes=32", TMPDIR=str(place))
    where = next(each for each in told["host.disk-space"]["places"] if each["purpose"] == "temporary files")
    assert (where["path"], where["total"]) == (str(place), 4 << 20)
    inodes = next(each for each in told["host.inodes"]["places"] if each["path"] == str(place))
    assert (inodes["total"], inodes["free"]) == (32, 31)


def test_what_is_not_made_yet_is_judged_where_it_would_be(tmp_path: Path) -> None:
    told = child("disks", XDG_CACHE_HOME=str(tmp_path / "a" / "b"), TMPDIR=str(tmp_path))
    paths = [each["path"] for each in told["host.disk-space"]["places"]]
    assert paths.count(str(tmp_path)) == 2


SPACES = """
[environ]
HOME = "/home/u"
[paths."/home/u"]
kind = "directory"
[paths."/tmp"]
kind = "directory"
[space."/"]
total = 1000000
free = 10
inodes = 0
inodes_free = 0
[space."/tmp"]
total = 5000
free = 4000
read_only = true
"""


def test_read_only_places_and_those_without_inodes_are_left_out(tmp_path: Path) -> None:
    facts = seen(probe.disks(tree(tmp_path, {}, SPACES)))
    assert "/tmp" not in [place.path for place in known(facts, DiskSpace).places]
    assert known(facts, Inodes).places == ()


# Processors and RDMA.


def test_the_affinity_mask_is_seen() -> None:
    mask = min(os.sched_getaffinity(0))
    told = child("processors", lambda: os.sched_setaffinity(0, {mask}))["host.cpu-affinity"]
    assert told["usable"] == 1
    assert told["online"] == os.sysconf("SC_NPROCESSORS_ONLN")


@pytest.mark.parametrize(("listed", "count"), [("0", 1), ("0-3", 4), ("0-3,8,10-11", 7), ("", 0)])
def test_lists_of_processors_are_counted(listed: str, count: int) -> None:
    assert probe.counted(listed) == count


def test_processors_that_are_not_told(tmp_path: Path) -> None:
    with pytest.raises(CouldNotLook):
        probe.processors(tree(tmp_path, {"/proc/self/status": "Name: x\n"}))


def test_rdma_devices_are_named(tmp_path: Path) -> None:
    host = tree(tmp_path, {"/sys/class/infiniband/mlx5_0/node_type": "1: CA\n"})
    assert probe.rdma(host) == RdmaDevices(names=("mlx5_0",), source=probe.rdma(host).source)
    assert known(seen(probe.processors(Host.here())), CpuAffinity).usable >= 1
