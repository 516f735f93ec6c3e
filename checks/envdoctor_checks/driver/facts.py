"""What is known of the NVIDIA driver: kernel module, user-space libraries, device nodes, and what its calls answer."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from envdoctor.api import Fact


class KernelModule(Fact, frozen=True):
    """The nvidia kernel module that is loaded now. From ``/sys/module/nvidia/version``, ``/proc/driver/nvidia/version``."""

    fact_name: ClassVar[str] = "driver.kernel-module"
    release: str | None
    """Driver release, ``580.65.06``; None when the module is not loaded."""
    flavour: Literal["open", "proprietary"] | None = None


class DriverRelease(Fact, frozen=True):
    """The driver release as a program told it (NVML, nvidia-smi, collect_env), whichever half it asked."""

    fact_name: ClassVar[str] = "driver.release"
    release: str


class DriverCuda(Fact, frozen=True):
    """The newest CUDA that the driver's libcuda speaks, as cuDriverGetVersion and nvidia-smi's header tell it."""

    fact_name: ClassVar[str] = "driver.cuda"
    driver_cuda: str
    """``12.4``."""


class PciDevice(msgspec.Struct, frozen=True):
    """One PCI function of vendor 10de."""

    address: str
    """``0000:65:00.0``."""
    device_id: str
    """``2330``, lower-case hexadecimal."""
    kind: Literal["gpu", "nvswitch", "other"]
    """By PCI class: 0300 and 0302 are GPUs, 0680 NVSwitches; audio, USB and so on are ``other``."""
    kernel_driver: str | None = None
    """The bound kernel driver: ``nvidia``, ``nouveau``, ``vfio-pci``; None when none is."""
    name: str | None = None
    """As lspci or the driver names it, where known."""


class PciDevices(Fact, frozen=True):
    """Every PCI function of vendor 10de. From ``/sys/bus/pci/devices`` or a pasted lspci."""

    fact_name: ClassVar[str] = "driver.pci-devices"
    devices: tuple[PciDevice, ...]

    @property
    def gpus(self) -> tuple[PciDevice, ...]:
        """Those that are GPUs."""
        return tuple(device for device in self.devices if device.kind == "gpu")


class NvmlInit(Fact, frozen=True):
    """What ``nvmlInit_v2`` answered."""

    fact_name: ClassVar[str] = "driver.nvml-init"
    code: int
    name: str
    """``NVML_SUCCESS``, ``NVML_ERROR_DRIVER_NOT_LOADED`` ... or ``NVML_ERROR_LIBRARY_NOT_FOUND``."""


class CudaInit(Fact, frozen=True):
    """What ``cuInit(0)`` and ``cuDeviceGetCount`` answered in a child of their own."""

    fact_name: ClassVar[str] = "driver.cuda-init"
    code: int
    name: str
    """``CUDA_SUCCESS``, ``CUDA_ERROR_NO_DEVICE`` ..."""
    library: str | None = None
    """The file that was loaded for libcuda.so.1; None when it could not be."""
    load_error: str | None = None
    """The loader's message when libcuda.so.1 could not be loaded."""
    devices: int | None = None
