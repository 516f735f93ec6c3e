"""What is known of PyTorch in the target environment."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from envdoctor.api import Fact


class TorchBuild(Fact, frozen=True):
    """The installed torch, from ``torch/version.py`` and its metadata, without importing it; or as a text prints it."""

    fact_name: ClassVar[str] = "torch.build"
    version: str | None
    """``2.8.0+cu128``; None when torch is not installed."""
    torch_cuda: str | None = None
    """The CUDA that it was built with, ``12.8``; None for a build without CUDA."""
    hip: str | None = None
    """The ROCm that it was built with."""
    path: str | None = None
    """The package's folder; None when only a text speaks of it."""

    @property
    def release(self) -> str | None:
        """``2.8.0``: the version without its local label."""
        return self.version.partition("+")[0] if self.version else None

    @property
    def label(self) -> str:
        """``cu128``, ``cpu``, ``rocm6.4``, ``xpu``: the version's local label, or nothing."""
        return self.version.partition("+")[2] if self.version else ""

    @property
    def accelerator(self) -> str:
        """``cuda``, ``rocm``, ``xpu`` or ``cpu``: what it was built for."""
        if self.torch_cuda:
            return "cuda"
        return "rocm" if self.hip else "xpu" if self.label.startswith("xpu") else "cpu"


class TorchImport(Fact, frozen=True):
    """How ``import torch`` went in a child of the target interpreter."""

    fact_name: ClassVar[str] = "torch.import"
    ok: bool
    exception: str | None = None
    """The exception's type, ``ImportError``."""
    message: str | None = None
    signal: str | None = None
    """The signal that killed the child, ``SIGSEGV``."""
    timed_out: bool = False
    seconds: float | None = None


class ImportStuck(Fact, frozen=True):
    """The process that imported torch could not even be killed: a call in the kernel holds it."""

    fact_name: ClassVar[str] = "torch.import-stuck"
    pid: int
    state: str
    """One letter of proc(5): D is a call in the kernel that no signal ends."""
    wchan: str
    """The kernel function in which it waits; empty where the kernel does not tell."""
    seconds: float
    """From its start until it was given up."""


class TorchCuda(Fact, frozen=True):
    """What an imported torch says of CUDA."""

    fact_name: ClassVar[str] = "torch.cuda"
    available: bool
    device_count: int | None = None
    """Devices that torch sees, after CUDA_VISIBLE_DEVICES."""
    reason: str | None = None
    """Why it is not available, in the words of the exception that initialising raised."""
    arch_list: tuple[str, ...] | None = None
    """Architectures it was compiled for: ``sm_90``, ``compute_120``."""
    cudnn: str | None = None
    """``9.10.2``."""
    nccl: str | None = None
    """``2.27.3``."""

    def joined(self, later: TorchCuda) -> TorchCuda:
        """Two answers of one text: the later one, completed by what only the earlier one told."""
        kept = {
            name: getattr(self, name)
            for name in ("device_count", "reason", "arch_list", "cudnn", "nccl")
            if getattr(later, name) is None
        }
        return msgspec.structs.replace(later, **kept)


class TorchDevice(msgspec.Struct, frozen=True):
    """One GPU as torch numbers it."""

    index: int
    name: str
    compute_capability: str


class TorchDevices(Fact, frozen=True):
    """The GPUs that torch sees, after CUDA_VISIBLE_DEVICES and in CUDA's order."""

    fact_name: ClassVar[str] = "torch.devices"
    devices: tuple[TorchDevice, ...]

    def joined(self, later: TorchDevices) -> TorchDevices:
        """Two prints of one text, together."""
        seen = {each.index for each in later.devices}
        kept = tuple(each for each in self.devices if each.index not in seen)
        return TorchDevices(devices=(*kept, *later.devices), source=self.source)


class TorchFolder(msgspec.Struct, frozen=True):
    """One ``torch`` package on the target's path."""

    path: str
    version: str | None
    """From its version.py; None where that cannot be read."""


class TorchInstalls(Fact, frozen=True):
    """Every torch on the target's path: the package folders in path order (the first is imported), and the metadata."""

    fact_name: ClassVar[str] = "torch.installs"
    folders: tuple[TorchFolder, ...]
    metadata: tuple[TorchFolder, ...]
    """``torch-2.8.0.dist-info`` folders, with the version in their names."""
    user_site: str | None = None
    """The user's own site-packages, where it is on the path."""


class Requirement(msgspec.Struct, frozen=True):
    """One thing that an installed distribution asks for on this machine and Python."""

    name: str
    """Normalised."""
    specifier: str
    """``==12.8.90``, ``>=2.0,<3``; empty: any version."""
    wanted_by: str
    """The distribution that asks, with the extra through which it does: ``cuda-toolkit[cublas]``."""


class TorchRequirements(Fact, frozen=True):
    """What the installed torch's METADATA asks for here, followed through the extras of what it asks for."""

    fact_name: ClassVar[str] = "torch.requirements"
    requirements: tuple[Requirement, ...]

    def of(self, name: str) -> Requirement | None:
        """What is asked of one distribution."""
        return next((each for each in self.requirements if each.name == name), None)


class SisterPackage(msgspec.Struct, frozen=True):
    """torchvision, torchaudio and the like: compiled against one torch."""

    name: str
    version: str
    torch: str | None
    """The specifier that its own METADATA has for torch (``==2.8.0``); None where it asks for none."""


class SisterPackages(Fact, frozen=True):
    """The installed sister packages of torch, with what their own metadata asks of torch."""

    fact_name: ClassVar[str] = "torch.sister-packages"
    packages: tuple[SisterPackage, ...]


class CompiledExtension(msgspec.Struct, frozen=True):
    """A shared object of a package that is compiled against torch or CUDA."""

    distribution: str
    version: str
    file: str
    needed: tuple[str, ...]
    """The CUDA libraries in its DT_NEEDED: ``libcudart.so.12``."""
    missing: tuple[str, ...] | None = None
    """Symbols of torch that it wants and no library of the installed torch has; None where that was not looked at."""


class CompiledExtensions(Fact, frozen=True):
    """The installed packages with code compiled against torch, and what their files ask of torch and CUDA."""

    fact_name: ClassVar[str] = "torch.compiled-extensions"
    extensions: tuple[CompiledExtension, ...]
