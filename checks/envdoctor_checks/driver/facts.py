"""What is known of the NVIDIA driver: kernel module, user-space libraries, device nodes, and what its calls answer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from envdoctor.api import Fact
from envdoctor_checks.driver.symptoms import (
    AdapterFailed,
    ApiMismatch,
    BarInvalid,
    BuildFailed,
    CallCrashed,
    CallHung,
    CompatRequested,
    ContainerSeen,
    CudaFailed,
    DeviceNodeFailed,
    DriverTooOld,
    FabricManagerDown,
    FabricManagerRestarted,
    FabricVersionDiffers,
    GpuClaimed,
    GpuNeedsLegacyDriver,
    GpuNotSupported,
    LibcudaNamed,
    LibcudaNotOpened,
    LinkFailed,
    ModuleRefused,
    MultiGpuLaunch,
    NeedsOpenModules,
    NoDriverFound,
    NvlsFailed,
    NvmlFailed,
    NvmlLibrary,
    Resumed,
    SmiFailed,
    SmiWithoutCuda,
)  # fmt: skip


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
    """The bound kernel driver: ``nvidia``, ``nouveau``, ``vfio-pci``; None when none is (see `drivers_known`)."""
    name: str | None = None
    """As lspci or the driver names it, where known."""


class PciDevices(Fact, frozen=True):
    """Every PCI function of vendor 10de. From ``/sys/bus/pci/devices`` or a pasted lspci."""

    fact_name: ClassVar[str] = "driver.pci-devices"
    devices: tuple[PciDevice, ...]
    drivers_known: bool = True
    """Whether a missing `kernel_driver` means that none is bound; False for a listing that does not show them."""

    def joined(self, later: PciDevices) -> PciDevices:
        """Two listings of one text: by address, the one that shows kernel drivers wins."""
        first, second = (later, self) if self.drivers_known and not later.drivers_known else (self, later)
        devices = {device.address: device for device in (*first.devices, *second.devices)}
        known = self.drivers_known or later.drivers_known
        return PciDevices(devices=tuple(devices.values()), drivers_known=known, source=later.source)

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


class UserLibrary(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file that could serve as a driver library in user space."""

    soname: str
    """The file's name: ``libcuda.so.1``, ``libnvidia-ml.so.1``, the unversioned ``libcuda.so``; or a versioned file
    beside a link that leads elsewhere."""
    path: str
    """Where it was found, links not resolved."""
    file: str | None
    """The file behind the links; None when the link dangles."""
    release: str | None
    """From the versioned file name, ``580.65.06``; None where the name tells none (WSL, stubs)."""
    kind: Literal["driver", "stub", "compat", "wsl"]
    found_via: Literal["cache", "directory", "ld-library-path"]
    """``cache`` and ``ld-library-path``: the loader looks there; ``directory``: we know the place, the loader may not."""


class UserLibraries(Fact, frozen=True):
    """Every libcuda and libnvidia-ml in the places where drivers, toolkits and containers put them."""

    fact_name: ClassVar[str] = "driver.user-libraries"
    libraries: tuple[UserLibrary, ...]
    absent: tuple[str, ...] = ()
    """Names that were looked for and are nowhere. From a text, only those that its listing would have shown."""

    def joined(self, later: UserLibraries) -> UserLibraries:
        """Two listings of one text, together; what one of them shows is not absent."""
        by_path = {each.path: each for each in self.libraries}
        by_path.update({each.path: each for each in later.libraries})
        seen = {each.soname for each in by_path.values()}
        absent = tuple(name for name in dict.fromkeys(self.absent + later.absent) if name not in seen)
        return UserLibraries(libraries=tuple(by_path.values()), absent=absent, source=later.source)

    def of(self, soname: str) -> tuple[UserLibrary, ...]:
        """Those of one SONAME, in the order they were found."""
        return tuple(each for each in self.libraries if each.soname == soname)


class DeviceNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """One device file under ``/dev``, and whether this user may open it for reading and writing."""

    path: str
    mode: str | None = None
    """``0666``; None where a text gives the bare name."""
    owner: str | None = None
    """The user by name, or by number where the machine has no name for it."""
    group: str | None = None
    openable: bool | None = None
    """None where a text does not tell who asks."""
    device: tuple[int, int] | None = None
    """Major and minor number."""


class DeviceNodes(Fact, frozen=True):
    """The device files of the driver, read before any vendor library ran: those may create missing ones."""

    fact_name: ClassVar[str] = "driver.device-nodes"
    nodes: tuple[DeviceNode, ...]
    """``/dev/nvidia*``, ``/dev/nvidia-caps/*``, ``/dev/nvidia-caps-imex-channels/*`` and ``/dev/dxg``."""
    absent: tuple[str, ...] = ()
    """Of ``/dev/nvidiactl``, ``/dev/nvidia0`` and ``/dev/nvidia-uvm``, those that were looked for and are not there."""

    def joined(self, later: DeviceNodes) -> DeviceNodes:
        """Two listings of one text, the later one's nodes winning; what one of them shows is not absent."""
        by_path = {each.path: each for each in (*self.nodes, *later.nodes)}
        absent = tuple(path for path in dict.fromkeys(self.absent + later.absent) if path not in by_path)
        return DeviceNodes(nodes=tuple(by_path.values()), absent=absent, source=later.source)

    def node(self, path: str) -> DeviceNode | None:
        """One of them, or None when it is not there."""
        return next((each for each in self.nodes if each.path == path), None)

    @property
    def gpus(self) -> tuple[DeviceNode, ...]:
        """``/dev/nvidia0``, ``/dev/nvidia1`` ..."""
        return tuple(each for each in self.nodes if each.path.removeprefix("/dev/nvidia").isdigit())


class LoadedModules(Fact, frozen=True):
    """Which kernel modules that bear on NVIDIA GPUs are loaded. From ``/proc/modules`` or lsmod."""

    fact_name: ClassVar[str] = "driver.loaded-modules"
    loaded: tuple[str, ...]
    absent: tuple[str, ...]
    """Of `MODULES`, those that were looked for and are not loaded (a module built into the kernel counts as loaded)."""

    def joined(self, later: LoadedModules) -> LoadedModules:
        """Two listings of one text; the later one decides where both speak of a module."""
        loaded = tuple(name for name in self.loaded if name not in later.absent)
        absent = tuple(name for name in self.absent if name not in later.loaded)
        return LoadedModules(
            loaded=tuple(dict.fromkeys(loaded + later.loaded)),
            absent=tuple(dict.fromkeys(absent + later.absent)),
            source=later.source,
        )


MODULES = (
    "nvidia",
    "nvidia_uvm",
    "nvidia_modeset",
    "nvidia_drm",
    "nvgpu",
    "nouveau",
    "nova_core",
    "vfio_pci",
)
"""The kernel modules that `LoadedModules` speaks of."""


class ModuleFiles(Fact, frozen=True):
    """Which installed kernels have an nvidia module on disk."""

    fact_name: ClassVar[str] = "driver.module-files"
    running_kernel: str
    kernels_with_module: tuple[str, ...]
    """Kernel releases under ``/lib/modules`` with an ``nvidia.ko`` (or compressed)."""
    modules_directory: bool
    """Whether ``/lib/modules/<running kernel>`` exists at all: in a container it mostly does not."""
    headers: bool | None = None
    """Whether the running kernel's headers are installed (``build`` below its modules); None where a text says nothing."""


class RunningKernel(Fact, frozen=True):
    """The running kernel's release, where a text shows it (``uname -r``); on the live machine, `Platform` has it."""

    fact_name: ClassVar[str] = "driver.running-kernel"
    release: str


class ModuleOnDisk(Fact, frozen=True):
    """The nvidia module that modprobe would load into the running kernel, as modinfo or DKMS tell."""

    fact_name: ClassVar[str] = "driver.module-on-disk"
    release: str


class DkmsBuild(msgspec.Struct, frozen=True):
    """One line of ``dkms status``."""

    module: str
    release: str
    kernel: str | None
    state: str
    """``added``, ``built``, ``installed``, ``broken``."""


class Dkms(Fact, frozen=True):
    """The nvidia entries of DKMS, from ``/var/lib/dkms`` or ``dkms status``."""

    fact_name: ClassVar[str] = "driver.dkms"
    builds: tuple[DkmsBuild, ...]

    def joined(self, later: Dkms) -> Dkms:
        """Two listings of one text, together."""
        return Dkms(builds=tuple(dict.fromkeys(self.builds + later.builds)), source=later.source)


class SecureBoot(Fact, frozen=True):
    """Whether UEFI Secure Boot is on. From the EFI variable, or ``mokutil --sb-state``."""

    fact_name: ClassVar[str] = "driver.secure-boot"
    enabled: bool | None
    """None on a machine that was not started by UEFI."""


class Package(msgspec.Struct, frozen=True):
    """One operating-system package of the driver."""

    name: str
    version: str
    state: str
    """dpkg's two or three letters (``ii``, ``iU``, ``rc``, ``hi``); ``installed`` where there are none."""


class DriverPackages(Fact, frozen=True):
    """The installed driver packages, from dpkg's status file, pacman's folder or a pasted package list."""

    fact_name: ClassVar[str] = "driver.packages"
    packages: tuple[Package, ...]

    def joined(self, later: DriverPackages) -> DriverPackages:
        """Two lists of one text, together; the later one's versions win."""
        by_name = {each.name: each for each in (*self.packages, *later.packages)}
        return DriverPackages(packages=tuple(by_name.values()), source=later.source)


class FabricManager(Fact, frozen=True):
    """nvidia-fabricmanager: installed, running, and of which release."""

    fact_name: ClassVar[str] = "driver.fabric-manager"
    release: str | None
    """None when it is not installed (or does not tell)."""
    running: bool | None
    """None where the process table does not show the host's processes (a container)."""

    def joined(self, later: FabricManager) -> FabricManager:
        """What two commands of one text say, together."""
        running = self.running if later.running is None else later.running
        return FabricManager(release=later.release or self.release, running=running, source=later.source)


class BootTimes(Fact, frozen=True):
    """When the machine was started and when the fabric manager was, in seconds since 1970, to a minute."""

    fact_name: ClassVar[str] = "driver.boot-times"
    machine: float | None
    fabric_manager: float | None
    """None when it does not run, or does not tell."""

    def joined(self, later: BootTimes) -> BootTimes:
        """What two commands of one text tell, together."""
        return BootTimes(
            machine=self.machine if later.machine is None else later.machine,
            fabric_manager=self.fabric_manager if later.fabric_manager is None else later.fabric_manager,
            source=later.source,
        )


class NvmlAnswers(Fact, frozen=True):
    """What NVML answered per GPU, by key of `nvml_child.QUESTIONS`; the gpu check makes its facts of it."""

    fact_name: ClassVar[str] = "driver.nvml-answers"
    devices: tuple[dict[str, Any], ...]
    """Per GPU, ``index`` and the answers. ``errors`` maps a key to the NVML error's name; ``error`` alone is a GPU
    for which NVML gave no handle."""


__all__ = [
    "MODULES", "AdapterFailed", "ApiMismatch", "BarInvalid", "BootTimes", "BuildFailed", "CallCrashed",
    "CallHung", "CompatRequested", "ContainerSeen", "CudaFailed", "CudaInit", "DeviceNode",
    "DeviceNodeFailed", "DeviceNodes", "Dkms", "DkmsBuild", "DriverCuda", "DriverPackages", "DriverRelease",
    "DriverTooOld", "FabricManager", "FabricManagerDown", "FabricManagerRestarted", "FabricVersionDiffers",
    "GpuClaimed", "GpuNeedsLegacyDriver", "GpuNotSupported", "KernelModule", "LibcudaNamed", "LibcudaNotOpened", "LinkFailed",
    "LoadedModules", "ModuleFiles", "ModuleOnDisk", "ModuleRefused", "MultiGpuLaunch", "NeedsOpenModules",
    "NoDriverFound", "NvlsFailed", "NvmlAnswers", "NvmlFailed", "NvmlInit", "NvmlLibrary", "Package",
    "PciDevice", "PciDevices", "Resumed", "RunningKernel", "SecureBoot", "SmiFailed", "SmiWithoutCuda",
    "UserLibraries", "UserLibrary",
]  # fmt: skip
