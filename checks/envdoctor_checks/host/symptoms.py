"""What programs, libraries and the kernel print when the machine has too little of something."""

from __future__ import annotations

from typing import ClassVar, Literal

from envdoctor.api import Symptom


class ShmExhausted(Symptom, frozen=True):
    """Something did not fit into ``/dev/shm``."""

    symptom_name: ClassVar[str] = "host.shm-exhausted"
    who: Literal["dataloader", "torch", "nccl", "multiprocessing", "ray", "unknown"]
    certain: bool = True
    """False for words that have other causes, too (a bare bus error, an error without its reason)."""
    size: int | None = None
    """Bytes that were asked for."""


class ShmDenied(Symptom, frozen=True):
    """Shared memory could not be made for want of permission, or because there is none."""

    symptom_name: ClassVar[str] = "host.shm-denied"
    why: Literal["permission", "read-only", "absent"]


class LockRefused(Symptom, frozen=True):
    """Memory could not be locked or registered for RDMA."""

    symptom_name: ClassVar[str] = "host.lock-refused"
    call: str
    """``ibv_reg_mr`` ..., ``mlock``; empty where the program only names the limit."""
    names_limit: bool = False
    """Whether the message itself speaks of the limit (``ulimit -l``, RLIMIT_MEMLOCK, memlock)."""


class TooManyFiles(Symptom, frozen=True):
    """A file, socket or pipe could not be opened because too many are open."""

    symptom_name: ClassVar[str] = "host.too-many-files"
    scope: Literal["process", "system"]
    passed: bool = False
    """``received 0 items of ancdata``: a file descriptor that was sent to this process did not arrive."""


class NoSpace(Symptom, frozen=True):
    """A file could not be written for want of room."""

    symptom_name: ClassVar[str] = "host.no-space"
    path: str | None = None
    quota: bool = False
    """The user's quota, not the disk, is used up."""
    certain: bool = True
    """False for a writer that does not tell why it failed."""


class MemoryRanOut(Symptom, frozen=True):
    """The machine's own memory ran out."""

    symptom_name: ClassVar[str] = "host.memory-ran-out"
    told_by: Literal["kernel", "allocator", "shell"]
    """The kernel's OOM killer (of the machine, not of a control group); a failed allocation; the shell's ``Killed``."""


class PinnedMemoryFailed(Symptom, frozen=True):
    """Page-locked host memory could not be had from CUDA."""

    symptom_name: ClassVar[str] = "host.pinned-memory-failed"


class CudaStartedWithoutMemory(Symptom, frozen=True):
    """CUDA answers *out of memory* when it is initialised, before anything was allocated."""

    symptom_name: ClassVar[str] = "host.cuda-started-without-memory"


class WorkersSuggested(Symptom, frozen=True):
    """DataLoader warns that it makes more workers than there are processors for it."""

    symptom_name: ClassVar[str] = "host.workers-suggested"
    wanted: int
    suggested: int
