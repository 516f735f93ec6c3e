"""What compilers, build tools, Triton and Inductor print, as kinds with fields."""

from __future__ import annotations

from typing import ClassVar, Literal

from envdoctor.api import Symptom
from envdoctor_checks.kernel.facts import CacheKind, Language


class CompilerNotFound(Symptom, frozen=True):
    """Something looked for a compiler and found none that works."""

    symptom_name: ClassVar[str] = "kernel.compiler-not-found"
    language: Language
    name: str = ""
    """What it looked for, ``g++`` or ``cl``, where it says so."""
    msvc: bool = False
    """Whether it is Microsoft's that is wanted."""


class HeaderNotFound(Symptom, frozen=True):
    """``fatal error: X: No such file or directory``, in any compiler's wording."""

    symptom_name: ClassVar[str] = "kernel.header-not-found"
    header: str
    wanted_by: str = ""
    """The source file, where the line names it."""


class LinkLibraryNotFound(Symptom, frozen=True):
    """``ld: cannot find -lX``, for every X but cuda."""

    symptom_name: ClassVar[str] = "kernel.link-library-not-found"
    library: str
    """``gomp``, ``cudart``."""


class OpenmpRefused(Symptom, frozen=True):
    """A compiler without OpenMP, or a program that says that it is not there."""

    symptom_name: ClassVar[str] = "kernel.openmp-refused"


class InstructionUnknown(Symptom, frozen=True):
    """The assembler does not know an instruction that the compiler wrote."""

    symptom_name: ClassVar[str] = "kernel.instruction-unknown"
    instruction: str


class NinjaNotFound(Symptom, frozen=True):
    """ninja was looked for and not found."""

    symptom_name: ClassVar[str] = "kernel.ninja-not-found"
    fatal: bool
    """False for a warning after which something slower is used."""


class NvccNotFound(Symptom, frozen=True):
    """CUDA_HOME is not set, leads nowhere, or has no nvcc."""

    symptom_name: ClassVar[str] = "kernel.nvcc-not-found"
    path: str | None = None
    """The nvcc or the toolkit that was looked for, where the message names it."""


class ToolkitPartNotFound(Symptom, frozen=True):
    """A toolkit's compiler cannot find another part of it."""

    symptom_name: ClassVar[str] = "kernel.toolkit-part-not-found"
    part: str
    """``cicc``, ``libdevice``."""


class CudaMismatch(Symptom, frozen=True):
    """A build refuses a toolkit whose release is not the one torch was built with."""

    symptom_name: ClassVar[str] = "kernel.cuda-mismatch"
    nvcc_cuda: str | None = None
    torch_cuda: str | None = None


class HeadersDiffer(Symptom, frozen=True):
    """CUDA's headers say that they are not those of the nvcc that reads them."""

    symptom_name: ClassVar[str] = "kernel.headers-differ"


class HostCompilerRefused(Symptom, frozen=True):
    """nvcc, or torch on its behalf, refuses the host's compiler or C library as too new."""

    symptom_name: ClassVar[str] = "kernel.host-compiler-refused"
    family: Literal["gcc", "clang", "msvc", "glibc"] = "gcc"
    newest: str | None = None
    """The newest release that it takes, where the message says."""
    found: str | None = None
    nvcc_cuda: str | None = None


class GpuNameUnknown(Symptom, frozen=True):
    """ptxas or nvcc does not know an architecture."""

    symptom_name: ClassVar[str] = "kernel.gpu-name-unknown"
    arch: str
    """``sm_121a``, ``compute_120``."""
    program: Literal["ptxas", "nvcc", "torch", "llvm"]


class AssemblerUsed(Symptom, frozen=True):
    """The ptxas that a program says it ran."""

    symptom_name: ClassVar[str] = "kernel.assembler-used"
    path: str
    arch: str | None = None


class PtxTooNew(Symptom, frozen=True):
    """PTX of a newer release than what should read it: the driver, or a ptxas."""

    symptom_name: ClassVar[str] = "kernel.ptx-too-new"
    reader: Literal["driver", "ptxas"]
    ptx: str | None = None
    """``8.7``, where the message says."""
    known: str | None = None
    """The newest that the reader knows."""


class ImageInvalid(Symptom, frozen=True):
    """``device kernel image is invalid``: the driver could not load what was compiled."""

    symptom_name: ClassVar[str] = "kernel.image-invalid"


class TritonNotFound(Symptom, frozen=True):
    """Inductor, or a program, finds no working Triton."""

    symptom_name: ClassVar[str] = "kernel.triton-not-found"
    fatal: bool = True
    """False for a warning after which the program goes on without it."""


class TritonNameMissing(Symptom, frozen=True):
    """A name or module of Triton that its caller expects is not there: another release."""

    symptom_name: ClassVar[str] = "kernel.triton-name-missing"
    module: str
    """``triton.compiler.compiler``."""
    name: str
    """Empty where the module itself is missing."""


class TritonNeedsCapability(Symptom, frozen=True):
    """Triton, or what it compiled, is not made for a GPU this old."""

    symptom_name: ClassVar[str] = "kernel.triton-needs-capability"
    gpu: str | None = None
    compute_capability: str | None = None
    needs: str = "7.0"


class SegmentNotMapped(Symptom, frozen=True):
    """``failed to map segment from shared object``: the file lies where nothing may be executed."""

    symptom_name: ClassVar[str] = "kernel.segment-not-mapped"
    path: str


class CacheFileGone(Symptom, frozen=True):
    """A file that was just written into a compile cache is not there any more."""

    symptom_name: ClassVar[str] = "kernel.cache-file-gone"
    path: str = ""
    """Empty where the program only says that it cannot read its own source."""


class CacheEntryBroken(Symptom, frozen=True):
    """An entry of a compile cache cannot be loaded."""

    symptom_name: ClassVar[str] = "kernel.cache-entry-broken"
    what: str
    """``cuda_utils``, or the file."""


class CacheAtWork(Symptom, frozen=True):
    """A frame of a traceback in which a compiler writes to its cache."""

    symptom_name: ClassVar[str] = "kernel.cache-at-work"
    cache: CacheKind


class CacheCleared(Symptom, frozen=True):
    """A command removes a compile cache."""

    symptom_name: ClassVar[str] = "kernel.cache-cleared"
    path: str


class NvFolderListed(Symptom, frozen=True):
    """A listing shows ``.nv``, the folder of CUDA's own compile cache, and whose it is."""

    symptom_name: ClassVar[str] = "kernel.nv-folder-listed"
    owner: str
    mode: str


class CublasNotInitialized(Symptom, frozen=True):
    """cuBLAS could not start: one of the faces of a compute cache that cannot be used."""

    symptom_name: ClassVar[str] = "kernel.cublas-not-initialized"


class WorkerStuck(Symptom, frozen=True):
    """A stack dump in which the compile pool's client waits, or its worker is blocked."""

    symptom_name: ClassVar[str] = "kernel.worker-stuck"
    where: Literal["client", "worker"]


class WorkerDied(Symptom, frozen=True):
    """A compile worker ended without an answer."""

    symptom_name: ClassVar[str] = "kernel.worker-died"


class ForkedWithThreads(Symptom, frozen=True):
    """Python warns that a process with threads was forked."""

    symptom_name: ClassVar[str] = "kernel.forked-with-threads"


class CompileFailed(Symptom, frozen=True):
    """A compiler's own word that it failed, without a cause."""

    symptom_name: ClassVar[str] = "kernel.compile-failed"
    what: Literal["inductor", "triton", "extension"]
    command: str = ""


class AccuracyWrong(Symptom, frozen=True):
    """PyTorch's own comparison found the compiled result to differ from the eager one."""

    symptom_name: ClassVar[str] = "kernel.accuracy-wrong"


class CompilerAtWork(Symptom, frozen=True):
    """A sign that the program compiles kernels here: what makes a missing compiler a fault."""

    symptom_name: ClassVar[str] = "kernel.compiler-at-work"
    what: Literal["inductor", "triton", "extension", "nvcc"]
