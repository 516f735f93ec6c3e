"""What the GPUs do now: heat, load, clocks, power and links. GPUs are named as in `facts`."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from envdoctor.api import Fact
from envdoctor_checks.gpu.facts import by_gpu


class Temperature(msgspec.Struct, frozen=True):
    """Degrees Celsius of one GPU."""

    gpu: str
    celsius: int
    slowdown_at: int | None = None
    """Where the hardware begins to slow down; None where it does not tell."""


class GpuTemperatures(Fact, frozen=True):
    """How hot the GPUs are."""

    fact_name: ClassVar[str] = "gpu.temperatures"
    gpus: tuple[Temperature, ...]

    def joined(self, later: GpuTemperatures) -> GpuTemperatures:
        """Two listings of one text."""
        return GpuTemperatures(gpus=by_gpu(self.gpus, later.gpus), source=later.source)


class Load(msgspec.Struct, frozen=True):
    """How busy one GPU is."""

    gpu: str
    percent: int
    """Of the last second, or less, a kernel ran in."""


class GpuLoad(Fact, frozen=True):
    """How busy the GPUs are; one in MIG mode does not tell."""

    fact_name: ClassVar[str] = "gpu.load"
    gpus: tuple[Load, ...]

    def joined(self, later: GpuLoad) -> GpuLoad:
        """Two listings of one text."""
        return GpuLoad(gpus=by_gpu(self.gpus, later.gpus), source=later.source)


class Clocks(msgspec.Struct, frozen=True):
    """The clock of one GPU's multiprocessors in MHz."""

    gpu: str
    sm: int
    sm_max: int


class GpuClocks(Fact, frozen=True):
    """The clocks now and at their highest."""

    fact_name: ClassVar[str] = "gpu.clocks"
    gpus: tuple[Clocks, ...]


Reason = Literal[
    "idle", "application-clocks", "power-cap", "hw-slowdown", "sync-boost", "sw-thermal", "hw-thermal", "power-brake",
    "display",
]  # fmt: skip
REASONS: dict[int, Reason] = {
    0x1: "idle",
    0x2: "application-clocks",
    0x4: "power-cap",
    0x8: "hw-slowdown",
    0x10: "sync-boost",
    0x20: "sw-thermal",
    0x40: "hw-thermal",
    0x80: "power-brake",
    0x100: "display",
}
"""The bits of nvmlDeviceGetCurrentClocksEventReasons."""


class ClockReasons(msgspec.Struct, frozen=True):
    """What holds the clocks of one GPU below their highest."""

    gpu: str
    reasons: tuple[Reason, ...]


class GpuClockReasons(Fact, frozen=True):
    """What holds the clocks down, per GPU. Idle and the power cap are normal."""

    fact_name: ClassVar[str] = "gpu.clock-reasons"
    gpus: tuple[ClockReasons, ...]

    def joined(self, later: GpuClockReasons) -> GpuClockReasons:
        """Two listings of one text."""
        return GpuClockReasons(gpus=by_gpu(self.gpus, later.gpus), source=later.source)


class ClockOffset(msgspec.Struct, frozen=True):
    """An overclocking profile of one GPU, in MHz over what the maker set."""

    gpu: str
    core: int
    memory: int


class GpuClockOffsets(Fact, frozen=True):
    """The GPUs whose clock offsets can be asked for."""

    fact_name: ClassVar[str] = "gpu.clock-offsets"
    gpus: tuple[ClockOffset, ...]


class Power(msgspec.Struct, frozen=True):
    """Power of one GPU in watts."""

    gpu: str
    drawn: float
    limit: float


class GpuPower(Fact, frozen=True):
    """What the GPUs draw, and may draw."""

    fact_name: ClassVar[str] = "gpu.power"
    gpus: tuple[Power, ...]


class PcieLink(msgspec.Struct, frozen=True):
    """The PCIe link of one GPU: what it runs at, and the most that GPU and slot can do."""

    gpu: str
    generation: int
    generation_max: int
    width: int
    """Lanes."""
    width_max: int


class GpuPcieLinks(Fact, frozen=True):
    """PCIe per GPU. An idle GPU lowers the generation to save power; the width it keeps."""

    fact_name: ClassVar[str] = "gpu.pcie-links"
    gpus: tuple[PcieLink, ...]

    def joined(self, later: GpuPcieLinks) -> GpuPcieLinks:
        """Two listings of one text."""
        return GpuPcieLinks(gpus=by_gpu(self.gpus, later.gpus), source=later.source)


class Nvlinks(msgspec.Struct, frozen=True):
    """NVLink of one GPU."""

    gpu: str
    active: int
    total: int
    """Links that NVML counts; boards with fewer than their chip has report the rest as inactive."""


class GpuNvlinks(Fact, frozen=True):
    """NVLink per GPU; those without it have no row."""

    fact_name: ClassVar[str] = "gpu.nvlinks"
    gpus: tuple[Nvlinks, ...]
