"""What programs, NVML and the kernel print about GPUs."""

from __future__ import annotations

from typing import ClassVar, Literal

from envdoctor.api import Symptom


class Xid(Symptom, frozen=True):
    """``NVRM: Xid (PCI:0000:3b:00): 79, ...``: the kernel module reports an error of a GPU."""

    symptom_name: ClassVar[str] = "gpu.xid"
    number: int
    address: str | None = None
    """``0000:3b:00.0``; None where a program passes only the number on."""
    recovery: str | None = None
    """What Xid 154 asks for: ``gpu-reset``, ``node-reboot``, ``drain-p2p``, ``drain-and-reset``, ``none``."""


class SwitchError(Symptom, frozen=True):
    """``nvidia-nvswitch0: SXid (PCI:0000:85:00.0): 20034, Fatal, ...``: an NVSwitch reports an error."""

    symptom_name: ClassVar[str] = "gpu.switch-error"
    number: int
    address: str
    fatal: bool


class FallenOff(Symptom, frozen=True):
    """Something says that a GPU does not answer on PCIe any more."""

    symptom_name: ClassVar[str] = "gpu.fallen-off"
    address: str | None = None
    certain: bool = True
    """False for words that other faults share (``Unknown Error`` of a device handle)."""


class EccFailed(Symptom, frozen=True):
    """CUDA says that it met a memory error that ECC could not correct."""

    symptom_name: ClassVar[str] = "gpu.ecc-failed"


class NvlinkFailed(Symptom, frozen=True):
    """CUDA says that it met an uncorrectable NVLink error."""

    symptom_name: ClassVar[str] = "gpu.nvlink-failed"


class KernelFaulted(Symptom, frozen=True):
    """A kernel died of an access or instruction that it must not do: mostly the program's fault, at times the chip's."""

    symptom_name: ClassVar[str] = "gpu.kernel-faulted"
    how: Literal[
        "illegal-access",
        "illegal-instruction",
        "launch-failure",
        "misaligned",
        "hardware-stack",
        "invalid-pc",
    ]


class OffsetsSet(Symptom, frozen=True):
    """A command, setting or tool that overclocks or undervolts a GPU."""

    symptom_name: ClassVar[str] = "gpu.offsets-set"
    what: str
    """``core +180``, ``memory +1200``, ``undervolt`` or the tool's name."""


class Throttled(Symptom, frozen=True):
    """A program says that a GPU's clocks are held down."""

    symptom_name: ClassVar[str] = "gpu.throttled"
    reason: Literal["hw-slowdown", "sw-thermal", "hw-thermal", "power-brake"]
    gpu: str | None = None


class DeviceBusy(Symptom, frozen=True):
    """CUDA gives no context: devices are busy, unavailable, prohibited, or already in use by another process."""

    symptom_name: ClassVar[str] = "gpu.device-busy"
    exclusive: bool = False
    """Whether the message itself names the exclusive or prohibited mode."""


class DeviceAssertFailed(Symptom, frozen=True):
    """torch's ``device >= 0 && device < num_gpus``: CUDA gave it fewer devices than it had counted."""

    symptom_name: ClassVar[str] = "gpu.device-assert-failed"


class NoGpuVisible(Symptom, frozen=True):
    """CUDA works and has no device to give, or not the one that was asked for."""

    symptom_name: ClassVar[str] = "gpu.none-visible"
    ordinal: bool = False
    """``invalid device ordinal``: there are devices, and not this one."""


class MpsFailed(Symptom, frozen=True):
    """A CUDA error of MPS."""

    symptom_name: ClassVar[str] = "gpu.mps-failed"
    code: int
    """805 to 810, as cudaError_t and CUresult number them."""


class HeldByOther(Symptom, frozen=True):
    """torch names another process that holds memory of the GPU on which it ran out."""

    symptom_name: ClassVar[str] = "gpu.held-by-other"
    pid: int
    memory: float
    """MiB."""


class FreeMemoryTooLow(Symptom, frozen=True):
    """A server refuses to start because too little of a GPU's memory is free. Sizes in MiB."""

    symptom_name: ClassVar[str] = "gpu.free-memory-too-low"
    free: float
    total: float
    wanted: float | None = None
