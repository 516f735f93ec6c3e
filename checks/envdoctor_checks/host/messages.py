"""What DataLoader, torch, NCCL, Python, Ray, RDMA libraries, compilers and the kernel print."""

from __future__ import annotations

import re

from envdoctor_checks.host.check import check
from envdoctor_checks.host.symptoms import (
    CudaStartedWithoutMemory,
    LockRefused,
    MemoryRanOut,
    NoSpace,
    PinnedMemoryFailed,
    ShmDenied,
    ShmExhausted,
    TooManyFiles,
    WorkersSuggested,
)


@check.message(
    r"caused by insufficient shared memory \(shm\)|workers are out of shared memory"
    r"|(?:DataLoader worker|pid \d+)[^\n]*killed by signal: Bus error",
    needles=("insufficient shared memory", "out of shared memory", "killed by signal: bus error"),
    sample="RuntimeError: DataLoader worker (pid 77) is killed by signal: Bus error.",
)
def workers_died(_match: re.Match[str]) -> ShmExhausted:
    """DataLoader, of a worker that wrote past the end of what /dev/shm could give."""
    return ShmExhausted(who="dataloader")


@check.message(
    r"^(?:[^\s:]+: )?(?:line \d+: +\d+ )?Bus error(?: +\(core dumped\))?\b|Fatal Python error: Bus error",
    needles="bus error",
    sample="Bus error (core dumped)",
)
def bus_error(_match: re.Match[str]) -> ShmExhausted:
    """The shell, or Python's faulthandler: a full /dev/shm is the usual reason, a truncated mapped file another."""
    return ShmExhausted(who="unknown", certain=False)


OBJECT = r"</?torch_\w+>"


@check.message(
    rf"unable to (?P<verb>open shared memory object|write to file|resize file|mmap \d+ bytes from file|allocate shared memory ?\(shm\) for file)"
    rf" {OBJECT}(?: in read[-/]write mode| to the right size)?(?:: (?P<why>[A-Z][\w ]+)(?: \((?P<errno>\d+)\))?)?",
    needles=("unable to open shared memory object", "unable to write to file", "unable to resize file", "unable to mmap", "unable to allocate shared memory"),
    sample="RuntimeError: unable to write to file </torch_1201_2890765>: No space left on device (28)",
)  # fmt: skip
def torch_shared(match: re.Match[str]) -> ShmExhausted | ShmDenied | None:
    """torch.multiprocessing; older releases leave the reason out. Too many open files has its own message."""
    why = (match["why"] or "").lower()
    if "permission" in why:
        return ShmDenied(why="permission")
    if "read-only" in why:
        return ShmDenied(why="read-only")
    if "too many open files" in why or "no such file" in why or "exists" in why:
        return None
    return ShmExhausted(who="torch", certain=bool(why) or match["verb"] != "open shared memory object")


@check.message(
    r"Error while creating shared memory segment \S+(?: \(size (?P<size>\d+)\))?(?:, error: (?P<why>[^\n(]+))?"
    r"|failed to extend (?P<path>/dev/shm/\S+) to (?P<bytes>\d+) bytes"
    r"|shm\w*\.(?:h|cc):\d+ NCCL WARN Call to (?:posix_fallocate|ftruncate|fallocate) failed ?: (?P<reason>[^\n]+)",
    needles=("creating shared memory segment", "failed to extend /dev/shm", "nccl warn call to"),
    sample="misc/shmutils.cc:72 NCCL WARN Error: failed to extend /dev/shm/nccl-a8Xq2z to 33030532 bytes",
)
def nccl_shared(match: re.Match[str]) -> ShmExhausted | ShmDenied:
    """NCCL, over its releases."""
    why = (match["why"] or match["reason"] or "").lower()
    if "permission" in why or "not permitted" in why:
        return ShmDenied(why="permission")
    size = match["size"] or match["bytes"]
    return ShmExhausted(who="nccl", size=int(size) if size else None)


@check.message(
    r"(?:_multiprocessing\.SemLock\(|_posixshmem\.shm_open\(|shared_memory\.py|os\.ftruncate\(self\._fd)[^\n]*\n(?:[^\n]*\n){0,5}?[^\n]*"
    r"(?P<why>No space left on device|Permission denied|Read-only file system|Function not implemented)",
    needles=("semlock", "shm_open", "shared_memory.py", "self._fd"),
    sample=(
        "    sl = self._semlock = _multiprocessing.SemLock(\n"
        "                         ^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        "PermissionError: [Errno 13] Permission denied"
    ),
    span=7,
)  # fmt: skip
def python_shared(match: re.Match[str]) -> ShmExhausted | ShmDenied:
    """Python's multiprocessing: locks and shared_memory live in /dev/shm."""
    why = match["why"]
    if why.startswith("No space"):
        return ShmExhausted(who="multiprocessing")
    if why.startswith("Read-only"):
        return ShmDenied(why="read-only")
    return ShmDenied(why="permission" if why.startswith("Permission") else "absent")


@check.message(
    r"(?:Permission denied|Read-only file system|Operation not permitted)[^\n]{0,6}['\"]?/dev/shm\b|/dev/shm\S*['\"]?:? (?P<why>Permission denied|Read-only file system)",
    needles="/dev/shm",
    sample="PermissionError: [Errno 13] Permission denied: '/dev/shm/cache.lock'",
)
def shm_path_denied(match: re.Match[str]) -> ShmDenied:
    """Anything that makes a file there by its path."""
    return ShmDenied(why="read-only" if "Read-only" in match[0] else "permission")


@check.message(
    r"object store is using \S+ instead of /dev/shm because /dev/shm has only (?P<size>\d+) bytes",
    needles="instead of /dev/shm",
    sample="WARNING services.py:1996 -- The object store is using /tmp instead of /dev/shm because /dev/shm has only 67108864 bytes available.",
)
def ray_shared(match: re.Match[str]) -> ShmExhausted:
    """Ray goes on, slowly, on a disk."""
    return ShmExhausted(who="ray", size=int(match["size"]))


@check.message(
    r"(?P<call>ibv_reg_\w+|ibv_exp_reg_mr|ibv_create_(?:cq|qp|srq)\w*|ibv_open_device)\b[^\n]*?(?:failed|error)[^\n]*?"
    r"(?:Cannot allocate memory|ENOMEM|errno:? ?12\b)"
    r"|(?P<limit>RLIMIT_MEMLOCK is \d+ bytes|memlock limits? (?:is|are) set too low|allocate some locked memory"
    r"|set max locked memory \(ulimit -l\)|increasing RLIMIT_MEMLOCK)",
    needles=("ibv_", "memlock", "locked memory"),
    sample="misc/ibvwrap.cc:162 NCCL WARN Call to ibv_reg_mr failed with error Cannot allocate memory",
)
def lock_refused(match: re.Match[str]) -> LockRefused:
    """NCCL, UCX, Open MPI, libibverbs, llama.cpp."""
    return LockRefused(
        call=match["call"] or "", names_limit="ulimit -l" in match.string or match["limit"] is not None
    )


@check.message(
    r"(?P<passed>received \d+ items of ancdata)|(?P<system>[Tt]oo many open files in system|\[Errno 23\]|os error 23)"
    r"|\[Errno 24\]|os error 24|\bEMFILE\b|[Tt]oo many open files|File descriptor limit \(?\d* ?\)?(?:is )?(?:too low|reached)",
    needles=("items of ancdata", "too many open files", "[errno 23]", "[errno 24]", "os error 23", "os error 24", "emfile", "file descriptor limit"),
    sample="OSError: [Errno 24] Too many open files",
)  # fmt: skip
def too_many_files(match: re.Match[str]) -> TooManyFiles | None:
    """Anybody. That inotify has no watches left says the same words of something else."""
    if re.search(r"(?i)inotify|fsnotify|file watch", match.string):
        return None
    return TooManyFiles(scope="system" if match["system"] else "process", passed=match["passed"] is not None)


SHARED = r"(?i)/?torch_\d|nccl|\bshm|/dev/shm|inotify|file watch|psm_|semlock"


@check.message(
    r"(?:(?P<before>/[^\s'\":]+)['\"]?: )?(?P<what>(?i:no space left on device)|ENOSPC\b|(?P<quota>(?i:disk quota exceeded))|StorageFull"
    r"|[Nn]ot enough free disk space)(?:[^\n'\"/]{0,20}['\"](?P<after>/[^'\"]+)['\"])?",
    needles=(
        "no space left on device",
        "enospc",
        "disk quota exceeded",
        "storagefull",
        "not enough free disk space",
    ),
    sample="OSError: [Errno 28] No space left on device: '/scratch/run7/epoch3.pt'",
)
def no_space(match: re.Match[str]) -> NoSpace | ShmExhausted | None:
    """Anybody who writes. What is said of shared memory is no disk."""
    path = match["after"] or match["before"]
    if path is not None and path.startswith("/dev/shm"):
        return ShmExhausted(who="unknown")
    if re.search(SHARED, match.string):
        return None
    return NoSpace(path=path, quota=match["quota"] is not None)


@check.message(
    r"PytorchStreamWriter failed writing file|inline_container\.cc:\d+[^\n]*unexpected pos \d+ vs \d+",
    needles=("pytorchstreamwriter failed", "unexpected pos"),
    sample="RuntimeError: [enforce fail at inline_container.cc:659] . unexpected pos 1344 vs 1238",
)
def writer_failed(_match: re.Match[str]) -> NoSpace:
    """torch.save: the file ended up shorter than what was written, which mostly is a full disk or quota."""
    return NoSpace(certain=False)


@check.message(
    r"DefaultCPUAllocator: (?:can't|not enough memory)|enforce fail at alloc_cpu\.cpp|\[Errno 12\] Cannot allocate memory|os error 12\b"
    r"|numpy\S*\.\w*MemoryError: Unable to allocate|fork: Cannot allocate memory",
    needles=("defaultcpuallocator", "alloc_cpu.cpp", "[errno 12]", "os error 12", "memoryerror: unable to allocate", "fork: cannot allocate"),
    sample="RuntimeError: [enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 34359738368 bytes.",
)  # fmt: skip
def allocation_failed(match: re.Match[str]) -> MemoryRanOut | None:
    """torch, Python and numpy, of the host's memory. RDMA libraries say the same of the lock limit."""
    return None if re.search(r"ibv_|shm|/torch_", match.string) else MemoryRanOut(told_by="allocator")


@check.message(
    r"(?<!cgroup )[Oo]ut of memory: Kill(?:ed)? process \d+ \((?P<name>[^)]*)\)|oom-kill:constraint=CONSTRAINT_NONE",
    needles=("out of memory: kill", "constraint_none"),
    sample="Out of memory: Killed process 4021 (python) total-vm:98120460kB, anon-rss:61225472kB",
)
def kernel_killed(_match: re.Match[str]) -> MemoryRanOut:
    """The kernel's OOM killer, of the whole machine; a control group's has other words."""
    return MemoryRanOut(told_by="kernel")


@check.message(
    r"^(?:\S+: line \d+: +\d+ )?Killed\b(?:\s{2,}\S.*)?$",
    needles="killed",
    sample="Killed",
)
def shell_killed(_match: re.Match[str]) -> MemoryRanOut:
    """The shell, of a program that got SIGKILL."""
    return MemoryRanOut(told_by="shell")


@check.message(
    r"(?:pin_memory\b[^\n]*\n(?:[^\n]*\n){0,5}?[^\n]*(?:CUDA error: out of memory|cudaErrorMemoryAllocation)"
    r"|(?:cudaHostAlloc|cudaHostRegister|cudaMallocHost|cuMemHostAlloc|cuMemHostRegister|cuMemAllocHost)\b[^\n]*(?:out of memory|failed|error)"
    r"|failed to (?:allocate|pin|register)[^\n]*(?:pinned|page-locked)[^\n]*)",
    needles=("pin_memory", "cudahost", "cudamallochost", "cumemhost", "cumemallochost", "pinned", "page-locked"),
    sample="    data = data.pin_memory(device)\n           ^^^^^^^^^^^^^^^^^^^^^^^\nRuntimeError: CUDA error: out of memory",
    span=7,
)  # fmt: skip
def pinned_failed(_match: re.Match[str]) -> PinnedMemoryFailed:
    """torch's pinning thread, llama.cpp, DeepSpeed, cupy."""
    return PinnedMemoryFailed()


@check.message(
    r"(?:cudaGetDeviceCount|cuInit|CUDA (?:driver )?initialization)[^\n]*(?:Error 2: out of memory|(?:returned|error:?) 2\b|CUDA_ERROR_OUT_OF_MEMORY|out of memory)",
    needles=("cudagetdevicecount", "cuinit", "cuda initialization", "cuda driver initialization"),
    sample="UserWarning: CUDA initialization: Unexpected error from cudaGetDeviceCount(). Error 2: out of memory",
)
def started_without_memory(_match: re.Match[str]) -> CudaStartedWithoutMemory:
    """torch and others, at the first call."""
    return CudaStartedWithoutMemory()


@check.message(
    r"This DataLoader will create (?P<wanted>\d+) worker processes in total\. Our suggested max number of worker in current system is (?P<suggested>\d+)",
    needles="our suggested max number of worker",
    sample="UserWarning: This DataLoader will create 8 worker processes in total. Our suggested max number of worker in current system is 1, which",
)
def workers_suggested(match: re.Match[str]) -> WorkersSuggested:
    """DataLoader counts the processors in its affinity mask."""
    return WorkersSuggested(wanted=int(match["wanted"]), suggested=int(match["suggested"]))
