"""What is known of the GPUs themselves.

But for `GpuDevices`, every fact here names a GPU by its label: the index that the driver gives it (``3``), or, where a
text tells no index, its PCI address (``0000:47:00.0``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal, Protocol, TypeVar

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


class _OfGpu(Protocol):
    @property
    def gpu(self) -> str: ...


Row = TypeVar("Row", bound=_OfGpu)


def of_gpu(rows: Iterable[Row], gpu: str) -> Row | None:
    """The row of one GPU."""
    return next((row for row in rows if row.gpu == gpu), None)


def by_gpu(first: Iterable[Row], later: Iterable[Row]) -> tuple[Row, ...]:
    """Two listings of one text: of each GPU what was shown last."""
    return tuple({row.gpu: row for row in (*first, *later)}.values())


class UnreachableGpu(msgspec.Struct, frozen=True):
    """A GPU that NVML counts and gives no handle for."""

    gpu: str
    error: str
    """``NVML_ERROR_GPU_IS_LOST`` ..."""


class UnreachableGpus(Fact, frozen=True):
    """The GPUs that NVML counts and cannot reach."""

    fact_name: ClassVar[str] = "gpu.unreachable"
    gpus: tuple[UnreachableGpu, ...]


class MemoryUse(msgspec.Struct, frozen=True):
    """How much memory of one GPU is taken, in MiB."""

    gpu: str
    total: int
    used: int


class GpuMemory(Fact, frozen=True):
    """Memory in use per GPU; a GPU that shares the machine's memory (GB10) has none of its own and no row."""

    fact_name: ClassVar[str] = "gpu.memory"
    gpus: tuple[MemoryUse, ...]

    def joined(self, later: GpuMemory) -> GpuMemory:
        """Two listings of one text."""
        return GpuMemory(gpus=by_gpu(self.gpus, later.gpus), source=later.source)


class GpuProcess(msgspec.Struct, frozen=True, omit_defaults=True):
    """One process on one GPU."""

    gpu: str
    pid: int
    name: str | None = None
    memory: int | None = None
    """MiB; None where the driver does not tell (Windows, a foreign container)."""
    graphics: bool = False
    """A display server or the like."""


class GpuProcesses(Fact, frozen=True):
    """The processes that hold memory of a GPU, as far as this user and container may see them."""

    fact_name: ClassVar[str] = "gpu.processes"
    processes: tuple[GpuProcess, ...]

    def joined(self, later: GpuProcesses) -> GpuProcesses:
        """Two listings of one text, together."""
        found = {(each.gpu, each.pid): each for each in (*self.processes, *later.processes)}
        return GpuProcesses(processes=tuple(found.values()), source=later.source)


class EccCounts(msgspec.Struct, frozen=True):
    """ECC of one GPU."""

    gpu: str
    enabled: bool
    uncorrectable: int
    """Errors that ECC could not correct, since the driver was loaded or the GPU reset; 0 while ECC is off."""


class GpuEcc(Fact, frozen=True):
    """ECC per GPU; consumer boards without it have no row."""

    fact_name: ClassVar[str] = "gpu.ecc"
    gpus: tuple[EccCounts, ...]

    def joined(self, later: GpuEcc) -> GpuEcc:
        """Two listings of one text."""
        return GpuEcc(gpus=by_gpu(self.gpus, later.gpus), source=later.source)


class RemappedRows(msgspec.Struct, frozen=True):
    """Row remapping of one GPU (Ampere and later): bad rows of memory that were replaced by spare ones."""

    gpu: str
    uncorrectable: int
    """Rows that were replaced after an uncorrectable error."""
    pending: bool
    """A replacement waits for the next reset of the GPU."""
    failed: bool
    """No spare row was left."""


class GpuRowRemapping(Fact, frozen=True):
    """Row remapping per GPU; those without it have no row."""

    fact_name: ClassVar[str] = "gpu.row-remapping"
    gpus: tuple[RemappedRows, ...]

    def joined(self, later: GpuRowRemapping) -> GpuRowRemapping:
        """Two listings of one text."""
        return GpuRowRemapping(gpus=by_gpu(self.gpus, later.gpus), source=later.source)


class RetiredPages(msgspec.Struct, frozen=True):
    """Pages of memory that one GPU (before Ampere) has retired."""

    gpu: str
    double_bit: int
    """Retired after an uncorrectable error."""
    pending: bool
    """A retirement waits for the next reset of the GPU."""


class GpuRetiredPages(Fact, frozen=True):
    """Retired pages per GPU; those without page retirement have no row."""

    fact_name: ClassVar[str] = "gpu.retired-pages"
    gpus: tuple[RetiredPages, ...]

    def joined(self, later: GpuRetiredPages) -> GpuRetiredPages:
        """Two listings of one text."""
        return GpuRetiredPages(gpus=by_gpu(self.gpus, later.gpus), source=later.source)


class Recovery(msgspec.Struct, frozen=True):
    """What the driver asks for to bring one GPU back."""

    gpu: str
    action: str
    """``none``, ``gpu-reset``, ``node-reboot``, ``drain-p2p``, ``drain-and-reset`` ...; a number that is not known, as it is."""


class GpuRecovery(Fact, frozen=True):
    """The driver's own advice per GPU (driver 560 and later)."""

    fact_name: ClassVar[str] = "gpu.recovery-action"
    gpus: tuple[Recovery, ...]


ComputeMode = Literal["default", "exclusive-thread", "prohibited", "exclusive-process"]


class Modes(msgspec.Struct, frozen=True):
    """How one GPU is set."""

    gpu: str
    compute: ComputeMode
    mig: bool
    """False where the GPU has no MIG."""


class GpuModes(Fact, frozen=True):
    """Compute mode and MIG per GPU."""

    fact_name: ClassVar[str] = "gpu.modes"
    gpus: tuple[Modes, ...]

    def joined(self, later: GpuModes) -> GpuModes:
        """Two listings of one text."""
        return GpuModes(gpus=by_gpu(self.gpus, later.gpus), source=later.source)

    @property
    def in_mig(self) -> tuple[str, ...]:
        """The GPUs in MIG mode."""
        return tuple(each.gpu for each in self.gpus if each.mig)


class GpuPersistence(Fact, frozen=True):
    """The GPUs whose driver state is kept while nobody uses them, and those where it is not."""

    fact_name: ClassVar[str] = "gpu.persistence"
    on: tuple[str, ...]
    off: tuple[str, ...]


class MigInstance(msgspec.Struct, frozen=True, omit_defaults=True):
    """One MIG device."""

    gpu: str
    name: str
    """``3g.40gb``."""
    uuid: str | None = None
    """None where a text does not show it."""
    memory: int | None = None
    """MiB."""


class MigInstances(Fact, frozen=True):
    """The MIG devices of all GPUs."""

    fact_name: ClassVar[str] = "gpu.mig-instances"
    instances: tuple[MigInstance, ...]

    def joined(self, later: MigInstances) -> MigInstances:
        """Two listings of one text: the one that shows UUIDs."""
        return later if any(each.uuid for each in later.instances) or not self.instances else self


class KernelLog(Fact, frozen=True):
    """Where the kernel's messages of this boot were read; what they say are symptoms."""

    fact_name: ClassVar[str] = "gpu.kernel-log"
    lines: int
    whole: bool
    """False where only the end of a long log was read."""


class MpsPipe(Fact, frozen=True):
    """The directory in which programs look for the MPS control daemon."""

    fact_name: ClassVar[str] = "gpu.mps-pipe"
    directory: str
    named: bool
    """Whether CUDA_MPS_PIPE_DIRECTORY names it; else it is the default."""
    exists: bool
    control: bool
    """Whether the daemon's pipe is in it."""
    usable: bool
    """Whether this user may write to the pipe."""
    daemon: bool | None
    """Whether the daemon that left its PID there runs; None where that cannot be told (a container, no PID file)."""
