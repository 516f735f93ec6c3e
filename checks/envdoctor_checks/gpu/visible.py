"""CUDA_VISIBLE_DEVICES resolved to devices, as libcuda does it.

libcuda reads the list from the left: an index counts GPUs; ``GPU-<start of a UUID>`` must mean one GPU; ``MIG-<UUID>`` an
instance (older: ``MIG-GPU-<UUID>/<gi>/<ci>``). The first entry that names nothing ends the list, and a device that is
named twice leaves none. A GPU in MIG mode stands for its first instance, and a process gets one MIG instance at most.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from envdoctor_checks.gpu.facts import (
    GpuDevices,
    MigInstances,
)

INDEX = r"\s*([+-]?\d+)"
HIDDEN = ("", "NoDevFiles", "none", "None")
"""Values with which users and Slurm (``NoDevFiles``) hide every GPU on purpose."""


class Resolved(msgspec.Struct, frozen=True):
    """What a value of CUDA_VISIBLE_DEVICES leaves."""

    entries: tuple[str, ...]
    """As written."""
    visible: tuple[str, ...]
    """Labels of GPUs, or UUIDs of MIG instances, in CUDA's order."""
    stopped_at: str | None = None
    """The entry that ended the list."""
    why: Literal["", "empty", "negative", "no-such-index", "no-such-uuid", "ambiguous", "twice"] = ""

    @property
    def hides_on_purpose(self) -> bool:
        """Empty, -1 and the like: no mistake of counting."""
        return not self.visible and self.why in ("empty", "negative")


def resolve(value: str, devices: GpuDevices | None, instances: MigInstances | None = None) -> Resolved:
    """Resolve a value. Where the devices are not known, every index and UUID counts as one of them."""
    entries = tuple(each.strip() for each in value.split(","))
    if value.strip().strip("\"'") in HIDDEN:
        return Resolved(entries, (), value, "empty")
    visible: list[str] = []
    for entry in entries:
        found, why = _entry(entry, devices, instances)
        if why:
            return Resolved(entries, tuple(visible), entry, why)
        if found in visible:
            return Resolved(entries, (), entry, "twice")
        visible.append(found)
    return Resolved(entries, tuple(visible))


Why = Literal["", "empty", "negative", "no-such-index", "no-such-uuid", "ambiguous", "twice"]


def _entry(entry: str, devices: GpuDevices | None, instances: MigInstances | None) -> tuple[str, Why]:
    number = re.match(INDEX, entry)
    if number is not None:  # like atoi: what follows the number is not looked at
        index = int(number[1])
        if index < 0:
            return "", "negative"
        known = devices is None or any(device.index == index for device in devices.devices)
        return (str(index), "") if known else ("", "no-such-index")
    if entry.upper().startswith("MIG-"):
        return _instance(entry, devices, instances)
    if entry.upper().startswith("GPU-"):
        return _by_uuid(entry, devices)
    return "", "no-such-uuid" if entry else "empty"


def _by_uuid(entry: str, devices: GpuDevices | None) -> tuple[str, Why]:
    uuids = {str(device.index): device.uuid for device in devices.devices} if devices else {}
    if devices is None or None in uuids.values():
        return entry, ""  # a text that does not show UUIDs cannot contradict one
    meant = [label for label, uuid in uuids.items() if (uuid or "").lower().startswith(entry.lower())]
    if len(meant) > 1:
        return "", "ambiguous"
    return (meant[0], "") if meant else ("", "no-such-uuid")


def _instance(entry: str, devices: GpuDevices | None, instances: MigInstances | None) -> tuple[str, Why]:
    if entry.upper().startswith("MIG-GPU-"):
        _, why = _by_uuid(entry[4:].partition("/")[0], devices)
        return entry, why
    known = [each.uuid for each in instances.instances] if instances else [None]
    if None in known:
        return entry, ""
    meant = [uuid for uuid in known if uuid and uuid.lower().startswith(entry.lower())]
    return (meant[0], "") if len(meant) == 1 else ("", "ambiguous" if meant else "no-such-uuid")
