"""What CUDA, PyTorch, JAX, TensorFlow, Numba, Triton and NCCL print when the driver is the matter."""

from __future__ import annotations

import re

from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.symptoms import (
    CompatRequested,
    CudaFailed,
    DriverTooOld,
    LibcudaNamed,
    LibcudaNotOpened,
    LinkFailed,
    MultiGpuLaunch,
    NoDriverFound,
    NvlsFailed,
)

CODES = {
    "CUDA_ERROR_NOT_INITIALIZED": 3,
    "cudaErrorInitializationError": 3,
    "CUDA_ERROR_STUB_LIBRARY": 34,
    "cudaErrorStubLibrary": 34,
    "CUDA_ERROR_NO_DEVICE": 100,
    "cudaErrorNoDevice": 100,
    "CUDA_ERROR_INVALID_DEVICE": 101,
    "cudaErrorInvalidDevice": 101,
    "CUDA_ERROR_SYSTEM_NOT_READY": 802,
    "cudaErrorSystemNotReady": 802,
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": 803,
    "cudaErrorSystemDriverMismatch": 803,
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": 804,
    "cudaErrorCompatNotSupportedOnDevice": 804,
    "CUDA_ERROR_UNKNOWN": 999,
    "cudaErrorUnknown": 999,
}
WORDS = {
    "cuda driver is a stub library": 34,
    "no cuda-capable device is detected": 100,
    "invalid device ordinal": 101,
    "system not yet initialized": 802,
    "system has unsupported display driver / cuda driver combination": 803,
    "forward compatibility was attempted on non supported hw": 804,
    "cuda error: unknown error": 999,
    "cuda unknown error": 999,
    "cuda driver initialization failed": 3,
}
"""cudaGetErrorString's texts. The bare ``unknown error`` and ``initialization error`` are other programs' words, too."""


@check.message(
    r"\b(" + "|".join(CODES) + r")\b",
    needles=tuple(name.lower() for name in CODES),
    sample="failed call to cuInit: CUDA_ERROR_SYSTEM_NOT_READY: system not yet initialized",
)
def cuda_error_name(match: re.Match[str]) -> CudaFailed:
    """An error by one of its names."""
    return CudaFailed(code=CODES[match[1]])


@check.message(
    "(?i)" + "|".join(re.escape(words) for words in WORDS),
    needles=tuple(WORDS),
    sample="RuntimeError: CUDA error: system not yet initialized",
)
def cuda_error_words(match: re.Match[str]) -> CudaFailed:
    """An error by the text that CUDA has for it."""
    return CudaFailed(code=WORDS[match[0].lower()])


NUMBER = r"(?P<code>3|34|100|101|802|803|804|999)(?![\d.])"
WORDLESS = r"(?=(?:999|3)(?![\d.]))"
"""Numbers whose texts are too common to be read by themselves."""
BEFORE = (
    r"\bcuInit\b\S*(?: failed with| returned| gave| ->| =|:)?(?: error)?(?: code)?[ =:(\[]*",
    r"\bCUDA (?:driver |runtime )?(?:error|failure)(?: code)?[ =:(\[]+",
    r"UNKNOWN_CUDA_ERROR \(",
    r"\bcudaGetDeviceCount\(\)?\.?(?: Did you run [^\n]{1,120}\?)? Error " + WORDLESS,
    r"\bcuda(?:GetDeviceCount|SetDevice|Malloc|Free)(?:\(\w*\))?(?: returned| failed with(?: error)?| error)[ =:(\[]*"
    + WORDLESS,
)


@check.message(
    rf"\[{NUMBER}\] Call to cu\w+ results in"
    + "".join(f"|{before}{NUMBER}" for before in BEFORE).replace("?P<code>", ""),
    needles=(
        "cuinit",
        "cuda error",
        "cuda driver error",
        "cuda runtime error",
        "cuda failure",
        "cuda_error",
        "call to cu",
        "cudagetdevicecount",
        "cudasetdevice",
        "cudamalloc",
        "cudafree",
    ),
    sample="cuInit(0) returned 999",
)
def cuda_error_number(match: re.Match[str]) -> CudaFailed:
    """An error by its number, in the words of Numba, cupy, NCCL and test programs."""
    return CudaFailed(code=int(next(number for number in match.groups() if number)))


@check.message(
    r"The NVIDIA driver on your system is too old(?: \(found version (\d+)\))?",
    needles="driver on your system is too old",
    sample="UserWarning: CUDA initialization: The NVIDIA driver on your system is too old (found version 11020).",
)
def torch_says_too_old(match: re.Match[str]) -> DriverTooOld:
    """PyTorch's own check at the first use of CUDA."""
    return DriverTooOld(found=int(match[1]) if match[1] else None)


@check.message(
    r"CUDA driver version is insufficient for CUDA runtime version|cudaErrorInsufficientDriver"
    r"|CUDA_ERROR_INSUFFICIENT_DRIVER|\bcuda>=[\d.]+, please update your driver"
    r"|requires? an? (?:newer|updated) (?:NVIDIA )?(?:GPU )?driver",
    needles=(
        "driver version is insufficient", "insufficientdriver", "insufficient_driver", "newer nvidia driver",
        "newer driver", "newer gpu driver", "updated driver", "updated nvidia driver", "please update your driver",
    ),
    sample="cudaGetDeviceCount returned 35: CUDA driver version is insufficient for CUDA runtime version",
)  # fmt: skip
def runtime_says_too_old(match: re.Match[str]) -> DriverTooOld | None:
    """The CUDA runtime's error 35. The container toolkit's own refusal is the container check's."""
    if "please update your driver" in match[0]:
        return None
    return DriverTooOld()


@check.message(
    r"CUDA driver version \(?(\d+)\.(\d+)[\d.]*\)? is (?:too old|older than)|Found CUDA version (\d{5}), but JAX was built",
    needles=("cuda driver version", "found cuda version"),
    sample="Your CUDA driver version (11.4) is too old",
)
def another_says_too_old(match: re.Match[str]) -> DriverTooOld:
    """JAX and others, with the CUDA that they found."""
    found = int(match[3]) if match[3] else int(match[1]) * 1000 + int(match[2]) * 10
    return DriverTooOld(found=found)


@check.message(
    r"Found no NVIDIA driver on your system",
    needles="found no nvidia driver",
    sample="RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
)
def torch_found_none(_match: re.Match[str]) -> NoDriverFound:
    """PyTorch's check: cudaErrorInsufficientDriver with a CUDA of 0, so no libcuda answered."""
    return NoDriverFound()


@check.message(
    r"Failed to dlopen (libcuda\.so(?:\.1)?)|(libcuda\.so) cannot found|Could not load dynamic library '(libcuda\.so\.1)'"
    r"|Could not (?:find|open|load) (?:library )?[\"']?(libcuda\.so(?:\.1)?)|(?:cannot|can't|unable to) (?:find|load|open|locate)"
    r" (?:library )?[\"']?(libcuda(?:\.so(?:\.1)?)?)\b",
    needles=("libcuda",),
    sample="RuntimeError: Failed to dlopen libcuda.so",
)
def libcuda_not_opened(match: re.Match[str]) -> LibcudaNotOpened:
    """cuda-python, Triton, TensorFlow and others, in their own words."""
    return LibcudaNotOpened(library=next(name for name in match.groups() if name))


@check.message(
    r"CUDA driver library cannot be found",
    needles="cuda driver library cannot be found",
    sample="CUDA driver library cannot be found. If you are sure that a CUDA driver is installed, try setting",
)
def numba_found_none(_match: re.Match[str]) -> LibcudaNotOpened:
    """Numba looks for the name without a number, too, and in places of its own."""
    return LibcudaNotOpened(library="libcuda")


@check.message(
    r"cannot find -lcuda(?![\w.+-])|unable to find library -lcuda(?![\w.+-])|library not found for -lcuda(?![\w.+-])",
    needles="-lcuda",
    sample="/usr/bin/ld: cannot find -lcuda: No such file or directory",
)
def linker_found_none(_match: re.Match[str]) -> LinkFailed:
    """ld, lld, gold and mold, of the driver's library; ``-lcudart`` and its kind are others."""
    return LinkFailed()


@check.message(
    r"(/[^\s'\",:;=\]})]{0,200}/(?:(stubs)|(?:cuda-)?compat(?:-[\d.-]+)?)(?:/[^\s'\",:;=\]})/]+)?/libcuda\.so(?:\.1)?(?:\.(\d{3}\.[\d.]*\d))?)"
    r"(?![\w.])",
    needles=("/stubs/libcuda.so", "compat"),
    sample="libcuda.so.1 => /usr/local/cuda-12.4/compat/libcuda.so.550.54.15 (0x00007f2b1c000000)",
)
def libcuda_named(match: re.Match[str]) -> LibcudaNamed:
    """The path of a stub or of a compatibility library."""
    return LibcudaNamed(path=match[1], role="stub" if match[2] else "compat", release=match[3])


@check.message(
    r"\b(VLLM_ENABLE_CUDA_COMPATIBILITY)=([1-9]\w*|[Tt]rue)\b|\b(LD_LIBRARY_PATH)=(\S*/(?:cuda-)?compat\b\S*)"
    r"|\b(LD_PRELOAD)=(\S*/compat/libcuda\.so\S*)",
    needles=("vllm_enable_cuda_compatibility", "ld_library_path=", "ld_preload="),
    sample="LD_LIBRARY_PATH=/usr/local/cuda-12.9/compat:/usr/local/nvidia/lib64",
)
def compat_requested(match: re.Match[str]) -> CompatRequested:
    """A variable that puts a compatibility library first, where it is set or printed."""
    name, value = next(
        pair for pair in zip(match.groups()[::2], match.groups()[1::2], strict=True) if pair[0]
    )
    return CompatRequested(variable=name, value=value)


@check.message(
    r"nvls\.cc:\d+ .*Cuda failure \d+|Failed to bind NVLink SHARP \(NVLS\) [Mm]ulticast|NVLS multicast .*(?:failed|error)",
    needles=("nvls.cc:", "nvlink sharp", "nvls multicast"),
    sample="transport/nvls.cc:254 NCCL WARN Cuda failure 1 'invalid argument'",
)
def nvls_failed(_match: re.Match[str]) -> NvlsFailed:
    """NCCL's reduction in the switches; older releases print only the file of their sources."""
    return NvlsFailed()


@check.message(
    r"(?:torchrun|torch\.distributed\.(?:run|launch)|accelerate launch|deepspeed|mpirun|srun)\b.*?"
    r"(?:--?nproc[_-]per[_-]node|--num_processes|--num_gpus|--ntasks-per-node|-np)[ =]+(\d+)\b",
    needles=("nproc", "num_processes", "num_gpus", "ntasks-per-node", "-np "),
    sample="$ torchrun --standalone --nproc_per_node 2 train.py",
)
def multi_gpu_launch(match: re.Match[str]) -> MultiGpuLaunch | None:
    """The command line of a launcher, as it was typed."""
    return MultiGpuLaunch(processes=int(match[1])) if int(match[1]) > 1 else None
