"""What the kernel check judges by: toolchains, the assemblers of Triton, what a GPU should reach."""

import re
from typing import ClassVar, Literal

from envdoctor.tables import Row, Table, compare_releases, load, major_minor, release_key


class Toolchain(Row, frozen=True, kw_only=True):
    """A release of nvcc: the host compilers it accepts and what its ptxas makes."""

    cuda: str
    gcc_max: int
    """The newest GCC major that it accepts."""
    clang_below: int | None = None
    """The first clang major that it refuses; None where it is not known."""
    ptx: str | None = None
    """The newest PTX release that its ptxas reads; None where it was not read."""
    archs: tuple[str, ...] | None = None
    """``sm_*`` that its ptxas makes, without ``a`` and ``f``; None where they were not read."""


class Toolchains(Table, frozen=True, kw_only=True):
    """Releases of nvcc."""

    fact_name: ClassVar[str] = "kernel.toolchains"
    toolchains: tuple[Toolchain, ...]

    def release(self, cuda: str) -> Toolchain | None:
        """The row of a CUDA release (``12.8`` or ``12.8.93``)."""
        return next((row for row in self.toolchains if major_minor(row.cuda) == major_minor(cuda)), None)

    def accepts_gcc(self, cuda: str, gcc_major: int) -> bool | None:
        """Whether that nvcc takes that GCC as host compiler; None where it is not known."""
        row = self.release(cuda)
        return None if row is None else gcc_major <= row.gcc_max

    def knows(self, cuda: str, compute_capability: str) -> bool | None:
        """Whether that release's ptxas makes code for a capability; None where it was not read."""
        row = self.release(cuda)
        if row is None or row.archs is None:
            return None
        return f"sm_{compute_capability.replace('.', '')}" in row.archs

    def first_for_ptx(self, ptx: str) -> str | None:
        """The oldest CUDA release, and so the oldest driver CUDA, that reads a PTX release."""
        return next(
            (row.cuda for row in self.toolchains if row.ptx and compare_releases(row.ptx, ptx) >= 0), None
        )


class Assembler(Row, frozen=True, kw_only=True):
    """An assembler in Triton's wheel."""

    triton: str
    file: str
    cuda: str
    """The CUDA release that it comes from."""
    for_archs_from: str | None = None
    """Used for this capability and later; None: for all that no other is used for."""
    variable: str
    """The variable that names another in its place."""


class TritonGpus(Row, frozen=True, kw_only=True):
    """The GPUs that Triton compiles for."""

    minimum_capability: str
    note: str


class Triton(Table, frozen=True, kw_only=True):
    """Triton against GPUs, and the assemblers that it brings."""

    fact_name: ClassVar[str] = "kernel.triton"
    assemblers: tuple[Assembler, ...]
    gpus: tuple[TritonGpus, ...]

    def assembler(self, triton: str, compute_capability: str) -> Assembler | None:
        """The assembler that a Triton release uses for a GPU; None where its wheel was not read."""
        fitting = [
            row
            for row in self.assemblers
            if major_minor(row.triton) == major_minor(triton)
            and (row.for_archs_from is None or compare_releases(row.for_archs_from, compute_capability) <= 0)
        ]
        return max(fitting, key=lambda row: release_key(row.for_archs_from or "0"), default=None)

    def supports(self, compute_capability: str) -> bool:
        """Whether Triton compiles for that GPU at all."""
        return all(compare_releases(row.minimum_capability, compute_capability) <= 0 for row in self.gpus)


Metric = Literal["host_to_device", "device_memory", "matmul"]


class ExpectedRate(Row, frozen=True, kw_only=True):
    """What a GPU should reach, reached somewhere, or is said to reach."""

    gpu: str
    """A regular expression for the name that torch gives."""
    metric: Metric
    kind: Literal["least", "measured", "claimed"]
    value: float
    """GB/s of 10^9 bytes, TFLOP/s of 10^12 operations."""


class ExpectedRates(Table, frozen=True, kw_only=True):
    """Rates by the GPU's model."""

    fact_name: ClassVar[str] = "kernel.expected-rates"
    rates: tuple[ExpectedRate, ...]

    def of(self, gpu: str, metric: str) -> tuple[ExpectedRate, ...]:
        """The rows for a GPU by its name."""
        return tuple(row for row in self.rates if row.metric == metric and re.search(row.gpu, gpu))


def toolchains() -> Toolchains:
    """Releases of nvcc."""
    return load(__package__, "toolchains", Toolchains)


def triton() -> Triton:
    """Triton against GPUs, and the assemblers that it brings."""
    return load(__package__, "triton", Triton)


def expected_rates() -> ExpectedRates:
    """Rates by the GPU's model."""
    return load(__package__, "expected_rates", ExpectedRates)
