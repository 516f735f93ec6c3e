"""What is known of the GPUs themselves."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from envdoctor.api import Fact


class GpuDevice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One GPU as the driver numbers it."""

    index: int
    name: str
    uuid: str | None = None
    compute_capability: str | None = None
    """``9.0``. Where a text gives only the name, taken from the table of names."""
    memory_total: int | None = None
    """MiB."""
    pci_address: str | None = None


class GpuDevices(Fact, frozen=True):
    """Every GPU that the driver reports, before CUDA_VISIBLE_DEVICES. From NVML, nvidia-smi or collect_env."""

    fact_name: ClassVar[str] = "gpu.devices"
    devices: tuple[GpuDevice, ...]
