"""df, free, ulimit and /proc/PID/limits as people paste them, and messages that must not be taken for each other."""

from __future__ import annotations

from typing import Any

import pytest

from envdoctor.facts import Facts
from envdoctor.session import Doctor
from envdoctor_checks.host.facts import (
    DiskSpace,
    FilesLimit,
    Inodes,
    MemlockLimit,
    MemoryInfo,
    ProcessesLimit,
    SharedMemory,
    Swap,
)
from envdoctor_checks.host.symptoms import (
    LockRefused,
    MemoryRanOut,
    NoSpace,
    PinnedMemoryFailed,
    ShmDenied,
    ShmExhausted,
    TooManyFiles,
)

GIB = 1 << 30


def read(text: str) -> Facts:
    return Doctor().read(text, "-").facts


def known(text: str, kind: type[Any]) -> Any:
    fact = read(text).get(kind)
    assert isinstance(fact, kind), fact
    return fact


DF = """\
$ df -h
Filesystem      Size  Used Avail Use% Mounted on
overlay         1.8T  611G  1.1T  37% /
tmpfs            64M     0   64M   0% /dev
shm              64M   60M  4.0M  94% /dev/shm
nas:/export      10T   10T     0 100% /data/sets
"""


def test_df_with_its_header() -> None:
    shm = known(DF, SharedMemory)
    assert (shm.total, shm.free) == (64 << 20, 4 << 20)
    places = {place.path: place.free for place in known(DF, DiskSpace).places}
    assert places["/data/sets"] == 0
    assert "/dev/shm" not in places


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("$ df -h /dev/shm | tail -1\ntmpfs            63G   12M   63G   1% /dev/shm\n", 63 * GIB),
        ("$ df /dev/shm\nFilesystem     1K-blocks  Used Available Use% Mounted on\ntmpfs              65536     0     65536   0% /dev/shm\n", 64 << 20),
        ("$ df -hT /dev/shm\nFilesystem     Type   Size  Used Avail Use% Mounted on\ntmpfs          tmpfs   16G     0   16G   0% /dev/shm\n", 16 * GIB),
        ("$ df -m /dev/shm\nFilesystem     1M-blocks  Used Available Use% Mounted on\nshm                   64     0        64   0% /dev/shm\n", 64 << 20),
    ],
)  # fmt: skip
def test_df_in_its_forms(text: str, total: int) -> None:
    assert known(text, SharedMemory).total == total


def test_df_of_inodes_is_no_room() -> None:
    text = "$ df -i /data\nFilesystem      Inodes   IUsed   IFree IUse% Mounted on\n/dev/sdb1     13107200 13107200      0  100% /data\n"
    assert known(text, Inodes).places[0].free == 0
    assert read(text).get(DiskSpace) is None


@pytest.mark.parametrize(
    ("text", "total", "available"),
    [
        ("$ free -g | head -2\n               total        used        free      shared  buff/cache   available\nMem:              62           7          41           0          13          54\n", 62 * GIB, 54 * GIB),
        ("$ free -h\n               total        used        free      shared  buff/cache   available\nMem:            15Gi       1.2Gi        12Gi       3.0Mi       1.6Gi        14Gi\nSwap:          4.0Gi          0B       4.0Gi\n", 15 * GIB, 14 * GIB),
        ("$ free\n               total        used        free      shared  buff/cache   available\nMem:        16000000     1000000    14000000           0     1000000    15000000\n", 16000000 << 10, 15000000 << 10),
    ],
)  # fmt: skip
def test_free_in_its_units(text: str, total: int, available: int) -> None:
    memory = known(text, MemoryInfo)
    assert (memory.total, memory.available) == (total, available)


def test_free_shows_swap() -> None:
    text = "$ free -m\n               total        used        free      shared  buff/cache   available\nMem:           15884        2210       11001          12        2673       13361\nSwap:           2047           0        2047\n"
    assert known(text, Swap).total == 2047 << 20


@pytest.mark.parametrize(
    ("text", "soft"),
    [
        ("$ ulimit -l\n65536\n", 64 << 20),
        ("$ ulimit -l; ulimit -Hl\n8192\n8192\n", 8 << 20),
        ("$ srun -n1 bash -c 'ulimit -l'\nunlimited\n", None),
        ("$ ulimit -a\nmax locked memory           (kbytes, -l) 8182440\nopen files                          (-n) 1024\n", 8182440 << 10),
        ("$ grep lock /proc/self/limits\nMax locked memory         8388608              8388608              bytes\n", 8 << 20),
        ("$ prlimit -l\nMEMLOCK    max locked-in-memory address space 65536 65536 bytes\n", 65536),
    ],
)  # fmt: skip
def test_the_limit_of_locked_memory(text: str, soft: int | None) -> None:
    assert known(text, MemlockLimit).soft == soft


def test_the_limits_of_files_and_processes() -> None:
    text = "$ cat /proc/51/limits\nMax processes             4096                 4096                 processes\nMax open files            1024                 524288               files\n"
    assert known(text, FilesLimit).soft == 1024
    assert known(text, ProcessesLimit).soft == 4096


def test_a_hard_limit_alone_is_no_soft_one() -> None:
    assert read("$ ulimit -Hn\n1048576\n").get(FilesLimit) is None


SAID: dict[str, tuple[type[Any], ...]] = {
    "include/shm.h:28 NCCL WARN Call to posix_fallocate failed : No space left on device": (ShmExhausted,),
    "OSError: [Errno 28] No space left on device": (NoSpace,),
    "OSError: [Errno 28] No space left on device: '/dev/shm/torch_1'": (ShmExhausted,),
    "OSError: [Errno 28] inotify watch limit reached: No space left on device": (),
    "OSError: inotify_init: Too many open files": (),
    "unable to open shared memory object </torch_1_2> in read-write mode: Too many open files (24)": (TooManyFiles,),
    "unable to open shared memory object </torch_1_2> in read-write mode: Permission denied (13)": (ShmDenied,),
    "unable to open shared memory object </torch_1_2> in read-write mode: No such file or directory (2)": (),
    "unable to mmap 4096 bytes from file </torch_1_2>: Cannot allocate memory (12)": (ShmExhausted,),
    "NCCL WARN Call to ibv_reg_mr failed with error Cannot allocate memory": (LockRefused,),
    "NCCL WARN Call to ibv_reg_mr failed with error Bad address": (),
    "OSError: [Errno 12] Cannot allocate memory": (MemoryRanOut,),
    "Memory cgroup out of memory: Killed process 881 (python)": (),
    "Using 'pin_memory=False' as WSL is detected. This may slow down the performance.": (),
    "cudaHostAlloc(&p, 8 GiB) failed: out of memory": (PinnedMemoryFailed,),
    "IoError(Os { code: 28, kind: StorageFull, message: \"No space left on device\" })": (NoSpace,),
}  # fmt: skip


@pytest.mark.parametrize("line", SAID)
def test_a_line_is_what_it_is_and_nothing_else(line: str) -> None:
    ours = [type(each) for each in read(line).all_symptoms() if type(each).symptom_name.startswith("host.")]
    assert tuple(dict.fromkeys(ours)) == SAID[line]
