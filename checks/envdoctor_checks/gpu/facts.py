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

    def joined(self, later: GpuDevices) -> GpuDevices:
        """Two listings of one text, by index: a name that was not cut off wins, and what only one of them tells is kept."""
        by_index = {device.index: device for device in self.devices}
        for device in later.devices:
            known = by_index.get(device.index)
            by_index[device.index] = _completed(device, known) if known else device
        return GpuDevices(devices=tuple(by_index[index] for index in sorted(by_index)), source=later.source)


def _completed(device: GpuDevice, known: GpuDevice) -> GpuDevice:
    """`device` with what only `known`, the same GPU in an earlier listing, tells."""
    cut = device.name.endswith("...") and not known.name.endswith("...")
    kept = {
        field: getattr(known, field)
        for field in ("uuid", "memory_total", "pci_address", "compute_capability")
        if getattr(device, field) is None
    }
    if cut:
        kept |= {"name": known.name, "compute_capability": known.compute_capability}
    return msgspec.structs.replace(device, **kept)
