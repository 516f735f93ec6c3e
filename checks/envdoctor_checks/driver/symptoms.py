"""What programs, libraries and the kernel print about the NVIDIA driver."""

from __future__ import annotations

from typing import ClassVar, Literal

from envdoctor.api import Symptom


class CallHung(Symptom, frozen=True):
    """A call into a driver library did not return in its time."""

    symptom_name: ClassVar[str] = "driver.call-hung"
    call: str
    """``nvmlInit``, ``cuInit``."""
    seconds: int
    state: str | None = None
    """The kernel's state of the process after SIGKILL: ``D``; None when it could be killed."""
    wchan: str | None = None
    """The kernel function it waits in."""


class CallCrashed(Symptom, frozen=True):
    """A call into a driver library killed its process."""

    symptom_name: ClassVar[str] = "driver.call-crashed"
    call: str
    signal: str


class CudaFailed(Symptom, frozen=True):
    """A CUDA call that answered with an error of initialisation: 3, 34, 35, 100, 101, 802, 803, 804 or 999."""

    symptom_name: ClassVar[str] = "driver.cuda-failed"
    code: int


class NvmlFailed(Symptom, frozen=True):
    """NVML (or nvidia-smi, which asks it) answered with an error."""

    symptom_name: ClassVar[str] = "driver.nvml-failed"
    name: str
    """``NVML_ERROR_LIB_RM_VERSION_MISMATCH`` ..."""


class DriverTooOld(Symptom, frozen=True):
    """A program says that the driver is too old for the CUDA that it was built with."""

    symptom_name: ClassVar[str] = "driver.too-old"
    found: int | None = None
    """The driver's CUDA as cuDriverGetVersion encodes it, 11040, where the message tells."""


class NoDriverFound(Symptom, frozen=True):
    """PyTorch found no driver: libcuda could not be loaded, or it answered that there is none."""

    symptom_name: ClassVar[str] = "driver.none-found"


class SmiFailed(Symptom, frozen=True):
    """nvidia-smi could not show the GPUs."""

    symptom_name: ClassVar[str] = "driver.smi-failed"
    problem: Literal["no-driver", "no-library", "no-devices", "not-installed"]
    """It could not reach the kernel module; it found no libnvidia-ml; it saw no GPU; it is no command here."""


class SmiWithoutCuda(Symptom, frozen=True):
    """nvidia-smi prints ``CUDA Version: N/A``: NVML could not load libcuda."""

    symptom_name: ClassVar[str] = "driver.smi-without-cuda"


class ApiMismatch(Symptom, frozen=True):
    """The kernel log's ``NVRM: API mismatch`` with both releases."""

    symptom_name: ClassVar[str] = "driver.api-mismatch"
    client: str
    """The library's release."""
    module: str
    """The loaded kernel module's."""


class NvmlLibrary(Symptom, frozen=True):
    """The release of the NVML library, which nvidia-smi prints below a mismatch, perhaps cut short (``550.127``)."""

    symptom_name: ClassVar[str] = "driver.nvml-library"
    release: str


class ModuleRefused(Symptom, frozen=True):
    """A kernel module that could not be loaded."""

    symptom_name: ClassVar[str] = "driver.module-refused"
    module: str
    """``nvidia``, ``nvidia_uvm``; empty where the line names none."""
    why: Literal["not-found", "key-rejected", "no-such-device", "bad-format", "other"]
    kernel: str | None = None
    """The kernel release whose modules were searched."""


class BuildFailed(Symptom, frozen=True):
    """DKMS or akmods could not build the module."""

    symptom_name: ClassVar[str] = "driver.build-failed"
    kernel: str | None = None
    missing: Literal["headers", "dkms.conf"] | None = None
    path: str | None = None
    """The file that is missing."""


class GpuClaimed(Symptom, frozen=True):
    """Another kernel driver owns the GPU."""

    symptom_name: ClassVar[str] = "driver.gpu-claimed"
    by: str | None = None
    """``nouveau``, ``NovaCore``, ``vfio-pci``; None where the kernel log only suspects."""
    address: str | None = None


class NeedsOpenModules(Symptom, frozen=True):
    """The proprietary module says that this GPU works with the open kernel modules only."""

    symptom_name: ClassVar[str] = "driver.needs-open-modules"
    address: str | None = None
    device_id: str | None = None


class GpuNotSupported(Symptom, frozen=True):
    """The module says that it does not support a GPU: too new or too old for the release, or for the open flavour."""

    symptom_name: ClassVar[str] = "driver.gpu-not-supported"
    address: str | None = None
    device_id: str | None = None
    release: str | None = None
    open_modules: bool = False
    """The open flavour refuses a GPU that only the proprietary one supports."""


class GpuNeedsLegacyDriver(Symptom, frozen=True):
    """The module ignores a GPU that an older driver branch was the last to support, and names that branch."""

    symptom_name: ClassVar[str] = "driver.gpu-needs-legacy-driver"
    name: str
    branch: int
    release: str | None = None
    """Of the module that ignores it."""


class AdapterFailed(Symptom, frozen=True):
    """``NVRM: GPU ...: RmInitAdapter failed!``: the module could not initialise the GPU."""

    symptom_name: ClassVar[str] = "driver.adapter-failed"
    address: str | None = None
    code: str | None = None


class BarInvalid(Symptom, frozen=True):
    """The firmware gave a memory region (BAR) of the GPU no usable address."""

    symptom_name: ClassVar[str] = "driver.bar-invalid"
    address: str | None = None


class FabricVersionDiffers(Symptom, frozen=True):
    """The fabric manager refuses a driver of another release."""

    symptom_name: ClassVar[str] = "driver.fabric-version-differs"
    fabric_manager: str
    driver: str


class FabricManagerDown(Symptom, frozen=True):
    """Something says that the fabric manager does not run, or could not do its work."""

    symptom_name: ClassVar[str] = "driver.fabric-manager-down"


class FabricManagerRestarted(Symptom, frozen=True):
    """Something says that the fabric manager was stopped and started again on a running machine."""

    symptom_name: ClassVar[str] = "driver.fabric-manager-restarted"


class NvlsFailed(Symptom, frozen=True):
    """NCCL could not set up NVLS, the reduction in the NVSwitches, which needs the fabric manager."""

    symptom_name: ClassVar[str] = "driver.nvls-failed"


class Resumed(Symptom, frozen=True):
    """The machine was suspended and resumed."""

    symptom_name: ClassVar[str] = "driver.resumed"


class LinkFailed(Symptom, frozen=True):
    """The linker found no usable file for ``-lcuda``."""

    symptom_name: ClassVar[str] = "driver.link-failed"


class LibcudaNotOpened(Symptom, frozen=True):
    """A program's own words (not the loader's) for a libcuda that it could not open or find."""

    symptom_name: ClassVar[str] = "driver.libcuda-not-opened"
    library: str
    """``libcuda.so`` (the unversioned name) or ``libcuda.so.1``; ``libcuda`` where it does not tell."""


class LibcudaNamed(Symptom, frozen=True):
    """The path of a libcuda, as a program prints it that was asked for what it had loaded, or as a listing shows it."""

    symptom_name: ClassVar[str] = "driver.libcuda-named"
    path: str
    role: Literal["stub", "compat"]
    release: str | None = None
    """From a versioned file name."""


class CompatRequested(Symptom, frozen=True):
    """A setting that puts a cuda-compat library before the driver's own."""

    symptom_name: ClassVar[str] = "driver.compat-requested"
    variable: str
    value: str


class DeviceNodeFailed(Symptom, frozen=True):
    """A device file that could not be found or opened."""

    symptom_name: ClassVar[str] = "driver.device-node-failed"
    path: str
    problem: Literal["missing", "permission"]


class MultiGpuLaunch(Symptom, frozen=True):
    """A command that starts one process per GPU, on two GPUs or more of one machine."""

    symptom_name: ClassVar[str] = "driver.multi-gpu-launch"
    processes: int


class ContainerSeen(Symptom, frozen=True):
    """A container engine is at work in the text, so that what is missing may be missing inside a container only."""

    symptom_name: ClassVar[str] = "driver.container-seen"
