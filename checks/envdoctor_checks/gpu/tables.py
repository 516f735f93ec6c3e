"""What the gpu check judges by: compute capabilities by name and by PCI id, Xid and SXid numbers."""

import re
from typing import ClassVar, Literal

from envdoctor.tables import Row, Table, load


class GpuName(Row, frozen=True, kw_only=True):
    """A GPU by the name that its driver prints, without the brand in front."""

    name: str
    compute_capability: str
    architecture: str


class ComputeCapabilities(Table, frozen=True, kw_only=True):
    """GPU names against compute capabilities."""

    fact_name: ClassVar[str] = "gpu.compute-capabilities"
    gpus: tuple[GpuName, ...]

    def of(self, printed_name: str) -> GpuName | None:
        """The GPU that a printed name means (``NVIDIA A100-SXM4-80GB``, ``Tesla V100-SXM2...``).

        A name cut off by nvidia-smi is answered where every GPU that it may stand for has one capability.
        None for a name that is not known or may mean several.
        """
        words = _words(printed_name)
        if printed_name.rstrip().endswith("..."):
            return self._of_cut_name(words)
        fitting = [row for row in self.gpus if words[: len(name := _words(row.name))] == name]
        return max(fitting, key=lambda row: len(_words(row.name)), default=None)

    def _of_cut_name(self, words: list[str]) -> GpuName | None:
        *whole, cut = words or [""]
        complete = [row for row in self.gpus if whole[: len(name := _words(row.name))] == name]
        if complete:
            return max(complete, key=lambda row: len(_words(row.name)))
        beginnings = [
            row
            for row in self.gpus
            if (name := _words(row.name))[: len(whole)] == whole
            and len(name) > len(whole)
            and name[len(whole)].startswith(cut)
        ]
        one = {row.compute_capability for row in beginnings}
        return beginnings[0] if len(one) == 1 else None


def _words(name: str) -> list[str]:
    words = re.split(r"[\s-]+", name.strip().rstrip(".").lower())
    while words and words[0] in ("nvidia", "tesla", "grid"):
        words.pop(0)
    return words


class PciDevices(Row, frozen=True, kw_only=True):
    """PCI device ids of one chip, of vendor 10de."""

    first: int
    last: int
    chip: str
    compute_capability: str
    architecture: str


class PciIds(Table, frozen=True, kw_only=True):
    """PCI device ids against chips, for GPUs that no driver names."""

    fact_name: ClassVar[str] = "gpu.pci-ids"
    devices: tuple[PciDevices, ...]

    def chip(self, device_id: int) -> PciDevices | None:
        """The chip of a device id such as ``0x2b85``; None for one that is not known."""
        return next((row for row in self.devices if row.first <= device_id <= row.last), None)


class Xid(Row, frozen=True, kw_only=True):
    """An Xid number."""

    number: int
    name: str | None = None
    """NVIDIA's own name; None where it gives none."""
    meaning: str
    blame: Literal["application", "hardware", "driver", "fabric", "unclear"]
    action: (
        Literal[
            "ignore",
            "restart-app",
            "reset",
            "restart-machine",
            "check-mechanics",
            "update",
            "workflow",
            "contact",
        ]
        | None
    ) = None
    """What NVIDIA asks for first; None where it says nothing."""
    fatal_for: Literal["nothing", "process", "gpu", "machine"]


class Xids(Table, frozen=True, kw_only=True):
    """Xid numbers."""

    fact_name: ClassVar[str] = "gpu.xids"
    xids: tuple[Xid, ...]
    unused: tuple[int, ...]
    """Numbers that current drivers do not use."""

    def xid(self, number: int) -> Xid | None:
        """What is known of a number; None for one that is unused or not known."""
        return next((row for row in self.xids if row.number == number), None)


class Sxid(Row, frozen=True, kw_only=True):
    """An SXid number: an error of an NVSwitch."""

    number: int
    name: str
    fatal: Literal["always", "may-be", "no"] | None = None
    """For the fabric; None where the guide does not say."""


class Sxids(Table, frozen=True, kw_only=True):
    """SXid numbers."""

    fact_name: ClassVar[str] = "gpu.sxids"
    sxids: tuple[Sxid, ...]

    def sxid(self, number: int) -> Sxid | None:
        """What is known of a number."""
        return next((row for row in self.sxids if row.number == number), None)


def compute_capabilities() -> ComputeCapabilities:
    """GPU names against compute capabilities."""
    return load(__package__, "compute_capability", ComputeCapabilities)


def pci_ids() -> PciIds:
    """PCI device ids against chips."""
    return load(__package__, "pci_devices", PciIds)


def xids() -> Xids:
    """Xid numbers."""
    return load(__package__, "xids", Xids)


def sxids() -> Sxids:
    """SXid numbers."""
    return load(__package__, "sxids", Sxids)
