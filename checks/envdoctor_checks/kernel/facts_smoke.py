"""What the staged smoke test gives: which stages passed, how it ended, and what was measured."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from envdoctor.api import Evidence, Fact, Source

SmokeDevice = Literal["cpu", "cuda"]
NO_THREADS = r"(?i)thread creation failed|can't start new thread|pthread_create failed|resource temporarily unavailable"
"""What programs say that may start no more threads or processes."""
SMOKE_TEST = Source("child", "smoke test")
"""Of what the smoke test printed."""
NO_MEMORY = (
    r"(?i)MemoryError|bad_alloc|out of memory|can't allocate memory|cannot allocate memory|memory exhausted"
    r"|failed to map segment|error return without exception set|memory allocation (?:still )?failed"
)
"""What programs say that have no more address space, in the loader and in a thread's stack as well."""


class SmokeStage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of the smoke test."""

    name: str
    state: Literal["passed", "failed", "left-out"]
    seconds: float = 0.0
    exception: str = ""
    """The type of what was raised; ``WrongResult`` where a result is not the expected one."""
    said: str = ""
    """The end of what the exception says; for a stage that was left out, why."""


class SmokeEnd(msgspec.Struct, frozen=True):
    """How the child ended, where it did not come to its end."""

    stage: str
    """The stage that it was at."""
    how: Literal["timed-out", "killed", "exited"]
    detail: str
    """The signal (``SIGSEGV``), or ``status 3``; at a time-out, the Python line that it was at, where that was told."""
    seconds: float
    """How long it was at that stage."""
    said: str = ""
    """The last lines that it wrote to stderr, the dump of its Python lines left out."""


class Smoke(Fact, frozen=True):
    """What both parts of the smoke test have in common."""

    device: SmokeDevice
    stages: tuple[SmokeStage, ...]
    ended: SmokeEnd | None = None
    """None where it came to its end, whatever its stages say."""

    def stage(self, name: str) -> SmokeStage | None:
        """One of them; None where it was not reached."""
        return next((each for each in self.stages if each.name == name), None)

    @property
    def failed(self) -> tuple[SmokeStage, ...]:
        """The stages that failed, in order."""
        return tuple(each for each in self.stages if each.state == "failed")

    @property
    def well(self) -> bool:
        """Whether all that was tried passed."""
        return self.ended is None and not self.failed

    def said_by(self, stage: SmokeStage) -> Evidence:
        """What a stage that failed says."""
        return self.shows(f"stage {stage.name}", f"{stage.exception}: {stage.said}")


class SmokeEager(Smoke, frozen=True):
    """Tensors without torch.compile: made, multiplied, and on a GPU copied from pinned memory on a stream of their own."""

    fact_name: ClassVar[str] = "kernel.smoke-eager"


class SmokeCompile(Smoke, frozen=True):
    """A small fused kernel through torch.compile, forward and backward, with cold and with warm caches."""

    fact_name: ClassVar[str] = "kernel.smoke-compile"
    cold: float | None = None
    """Seconds of everything that the first compiled call waits for, the compiler's own import included."""
    warm: float | None = None
    """Seconds of the first call after torch._dynamo.reset() in the same process, from the caches on disk."""
    cached: bool | None = None
    """Whether the warm call found its graph in the cache; None where this torch does not count it."""
    speedup: float | None = None
    """Time of the eager call over that of the compiled one, both warm."""
    parts: tuple[tuple[str, float], ...] = ()
    """What the cold time went into, in seconds, the largest first."""


class SmokeGpu(Fact, frozen=True):
    """The GPU that the smoke test ran on, and what compiled for it."""

    fact_name: ClassVar[str] = "kernel.smoke-gpu"
    name: str
    compute_capability: str
    triton: str | None = None
    """The release that was imported."""
    ptxas: str | None = None
    """The assembler that Triton starts for this GPU."""
    ptxas_cuda: str | None = None
    """Its CUDA release: ``12.8``."""


class SmokeRates(Fact, frozen=True):
    """What the GPU reached, in GB/s (10^9 bytes) and TFLOP/s (10^12 operations). None where it was not measured."""

    fact_name: ClassVar[str] = "kernel.smoke-rates"
    gpu: str
    host_to_device: float | None = None
    """From pinned memory."""
    device_to_host: float | None = None
    device_memory: float | None = None
    """A copy within the GPU's memory, bytes read and written."""
    matmul: float | None = None
    matmul_type: str = ""
    """``bfloat16`` or ``float16``."""


class SmokeAllocator(Fact, frozen=True):
    """How torch's caching allocator behaved on the GPU."""

    fact_name: ClassVar[str] = "kernel.smoke-allocator"
    fragmented: float
    """Share of the reserved memory that lay in splits after every second block was freed, 0 to 1."""
    expandable: bool | None
    """Whether expandable segments work here; None where this torch has none."""
    expandable_error: str = ""


class AddressSpace(Fact, frozen=True):
    """How much address space a program started here may have (RLIMIT_AS)."""

    fact_name: ClassVar[str] = "kernel.address-space"
    limit: int | None
    """Bytes (``ulimit -v`` counts kibibytes); None: unlimited."""
