"""What programs print about PyTorch, as kinds with fields."""

from __future__ import annotations

from typing import ClassVar, Literal

from envdoctor.api import Symptom


class ModuleBroke(Symptom, frozen=True):
    """An ``import`` statement that is the last frame of a traceback, and the exception that it raised."""

    symptom_name: ClassVar[str] = "torch.module-broke"
    module: str
    """As written: ``flash_attn_2_cuda``, ``vllm._C``."""
    exception: str
    message: str


class ImportInterrupted(Symptom, frozen=True):
    """Someone lost patience: an interrupt or a time limit ended ``import torch``."""

    symptom_name: ClassVar[str] = "torch.import-interrupted"


class NotCompiledWithCuda(Symptom, frozen=True):
    """Torch says that it was not compiled with CUDA."""

    symptom_name: ClassVar[str] = "torch.not-compiled-with-cuda"


class CudaRefused(Symptom, frozen=True):
    """A program says that torch cannot use the GPU, and not why."""

    symptom_name: ClassVar[str] = "torch.cuda-refused"


class NoHipGpu(Symptom, frozen=True):
    """A ROCm build found no AMD GPU."""

    symptom_name: ClassVar[str] = "torch.no-hip-gpu"


class NoKernelImage(Symptom, frozen=True):
    """``no kernel image is available for execution on the device``."""

    symptom_name: ClassVar[str] = "torch.no-kernel-image"
    said_by: str | None = None
    """The source file that the message names, which tells a package's own kernels from torch's."""


class ArchUnsupported(Symptom, frozen=True):
    """Torch warns that it was not built for a GPU."""

    symptom_name: ClassVar[str] = "torch.arch-unsupported"
    gpu: str
    compute_capability: str
    """``12.0``."""
    archs: tuple[str, ...] = ()
    """What it was built for, where the warning says so."""
    minimum: str | None = None
    """The oldest capability it was built for, where the warning says so."""


class BinaryArchs(Symptom, frozen=True):
    """What cuobjdump finds in a file."""

    symptom_name: ClassVar[str] = "torch.binary-archs"
    path: str
    archs: tuple[str, ...]


class SisterBroken(Symptom, frozen=True):
    """torchvision or torchaudio do not fit torch, by what they print."""

    symptom_name: ClassVar[str] = "torch.sister-broken"
    package: str
    why: Literal["operators", "cuda-release", "no-cuda", "api"]
    """Its operators are not registered; it was built for another CUDA; without any; it uses what torch lacks."""
    torch_cuda: str | None = None
    own_cuda: str | None = None


class ExtensionBuiltFor(Symptom, frozen=True):
    """A package says which torch it was built for."""

    symptom_name: ClassVar[str] = "torch.extension-built-for"
    package: str
    built_for: str
    """``2.1.0+cu121``."""
    found: str
    """The torch that it found."""


class CudaBinaryMissing(Symptom, frozen=True):
    """bitsandbytes has no library for the CUDA of this torch."""

    symptom_name: ClassVar[str] = "torch.cuda-binary-missing"
    package: str
    file: str
    """``libbitsandbytes_cuda130.so``."""


class ExtensionNeedsGpu(Symptom, frozen=True):
    """A package's kernels are for newer (or older) GPUs than this one."""

    symptom_name: ClassVar[str] = "torch.extension-needs-gpu"
    package: str
    needs: str | None = None
    """The oldest compute capability it works on, ``8.0``."""
    compute_capability: str | None = None
    """The GPU's."""


class NumpyAbi(Symptom, frozen=True):
    """A module compiled for one numpy ABI met the other."""

    symptom_name: ClassVar[str] = "torch.numpy-abi"
    numpy: str | None = None
    """The installed numpy, where the message names it."""


class FeatureMissing(Symptom, frozen=True):
    """A program uses something of torch's API that this release does not have."""

    symptom_name: ClassVar[str] = "torch.feature-missing"
    module: str
    """``torch``, ``torch.library``."""
    name: str
    """``float8_e4m3fn``."""


class KernelNotImplemented(Symptom, frozen=True):
    """``"triu_tril_cuda_template" not implemented for 'BFloat16'``."""

    symptom_name: ClassVar[str] = "torch.kernel-not-implemented"
    kernel: str
    dtype: str


class Bf16Unsupported(Symptom, frozen=True):
    """A program refuses bfloat16 on this GPU."""

    symptom_name: ClassVar[str] = "torch.bf16-unsupported"
    gpu: str | None = None
    compute_capability: str | None = None


class Fp8Unsupported(Symptom, frozen=True):
    """A program refuses FP8 on this GPU."""

    symptom_name: ClassVar[str] = "torch.fp8-unsupported"
    only_90: bool = False
    """The torch of the time knew FP8 products for compute capability 9.0 only."""
    compute_capability: str | None = None


class OutOfMemory(Symptom, frozen=True):
    """CUDA ran out of memory. Sizes in MiB; None where this release's message does not tell."""

    symptom_name: ClassVar[str] = "torch.out-of-memory"
    gpu: int | None = None
    tried: float | None = None
    total: float | None = None
    free: float | None = None
    in_use: float | None = None
    """By this process, with what is not torch's."""
    allocated: float | None = None
    """In use by tensors."""
    unallocated: float | None = None
    """Reserved by torch and not in use by tensors."""


class AllocOptionUnknown(Symptom, frozen=True):
    """Torch does not understand its allocator's settings."""

    symptom_name: ClassVar[str] = "torch.alloc-option-unknown"
    option: str | None = None
    """The option it stumbles over; None where the message only says what it expected."""


class AllocUnsupported(Symptom, frozen=True):
    """An allocator feature is refused on this platform or driver, or beside another feature."""

    symptom_name: ClassVar[str] = "torch.alloc-unsupported"
    feature: Literal["expandable_segments", "cudaMallocAsync"]


class AllocSettingInactive(Symptom, frozen=True):
    """A program shows that an allocator setting is off."""

    symptom_name: ClassVar[str] = "torch.alloc-setting-inactive"


class MallocAsyncInUse(Symptom, frozen=True):
    """A program says that it runs with the cudaMallocAsync backend."""

    symptom_name: ClassVar[str] = "torch.malloc-async-in-use"
    gpu: str | None = None
    switched_on_by: str | None = None
    """``--cuda-malloc`` where the command line has it."""


class NotSupported(Symptom, frozen=True):
    """``CUDA error: operation not supported``."""

    symptom_name: ClassVar[str] = "torch.operation-not-supported"
    driver_api: bool
    """``CUDA driver error``, which is what expandable segments meet."""


class RequirementNotFound(Symptom, frozen=True):
    """An installer finds no such release on the indexes that it looks at."""

    symptom_name: ClassVar[str] = "torch.requirement-not-found"
    requirement: str
    """``torch==2.1.0+cu118``."""
    versions: tuple[str, ...] | None = None
    """What it did find; empty: none at all; None: it does not say."""
    python: str | None = None
    """``cp313``, where it says that only the Python does not fit."""


class IndexNamed(Symptom, frozen=True):
    """A PyTorch wheel index on a command line, in a file or in what pip says it looks at."""

    symptom_name: ClassVar[str] = "torch.index-named"
    index: str
    """``cu112``, ``cpu``, ``nightly/cu128``."""
    extra: bool = False
    """Named by ``--extra-index-url``: PyPI is looked at as well, and the newer release of either is taken."""


class WheelTaken(Symptom, frozen=True):
    """The wheel of torch that an installer took."""

    symptom_name: ClassVar[str] = "torch.wheel-taken"
    version: str
    """With its local label, where it has one."""
    platform: str
    """``win_amd64``, ``manylinux_2_28_aarch64``."""
    megabytes: float | None = None


class BuildIsolated(Symptom, frozen=True):
    """A package is built in an environment of its own, which has no torch."""

    symptom_name: ClassVar[str] = "torch.build-isolated"
    package: str | None = None
    """What is built, where the line says so."""


class RegisteredTwice(Symptom, frozen=True):
    """torch's extensions were loaded into one process a second time, from another copy."""

    symptom_name: ClassVar[str] = "torch.registered-twice"


class PackageInTraceback(Symptom, frozen=True):
    """A frame of a traceback lies in a package other than torch."""

    symptom_name: ClassVar[str] = "torch.package-in-traceback"
    module: str


class OperatorMissing(Symptom, frozen=True):
    """An operator that a package's compiled part should have registered with torch is not there."""

    symptom_name: ClassVar[str] = "torch.operator-missing"
    namespace: str
    """``_C``, ``_moe_C``."""
    operator: str


class DllNotLoaded(Symptom, frozen=True):
    """Windows could not load a library of torch's."""

    symptom_name: ClassVar[str] = "torch.dll-not-loaded"
    dll: str
    code: int | None = None
    """126: it, or something that it needs, is not there; 1114: its initialisation failed."""


class Convolution3d(Symptom, frozen=True):
    """A traceback ends in a three-dimensional convolution."""

    symptom_name: ClassVar[str] = "torch.convolution-3d"
