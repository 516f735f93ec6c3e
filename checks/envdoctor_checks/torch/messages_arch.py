"""What programs print when a GPU and a binary, or a GPU and a number format, do not fit."""

from __future__ import annotations

import re

from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.symptoms import (
    ArchUnsupported,
    Bf16Unsupported,
    ExtensionNeedsGpu,
    FeatureMissing,
    Fp8Unsupported,
    KernelNotImplemented,
    NoKernelImage,
)


def dotted(digits: str) -> str:
    """``120`` -> ``12.0``, ``86`` -> ``8.6``."""
    return f"{digits[:-1]}.{digits[-1]}"


@check.message(
    r"(?P<gpu>\S.{0,120}?) with CUDA capability sm_(?P<cc>\d+) is not compatible with the current PyTorch installation"
    r"(?:\.?\s*The current PyTorch install supports CUDA capabilities (?P<archs>(?:(?:sm|compute)_\w+ ?)+))?",
    needles="is not compatible with the current pytorch",
    sample="NVIDIA RTX 9999 with CUDA capability sm_120 is not compatible with the current PyTorch installation.\n"
    "The current PyTorch install supports CUDA capabilities sm_50 sm_90.",
    span=2,
)
def not_compatible(match: re.Match[str]) -> ArchUnsupported:
    """torch's warning before 2.10, and since then for wheels without machine code for the GPU."""
    gpu = match["gpu"].rpartition("UserWarning: ")[2].strip()
    return ArchUnsupported(
        gpu=gpu, compute_capability=dotted(match["cc"]), archs=tuple((match["archs"] or "").split())
    )


@check.message(
    r"Found GPU\d+ (?P<gpu>.{1,120}?) which is of cuda capability (?P<cc>\d+\.\d+)\.?\s+PyTorch no longer supports this GPU because it is too old"
    r"(?:\.?\s+The minimum cuda capability (?:supported by this library|that we support) is (?P<low>\d+\.\d+))?",
    needles="which is of cuda capability",
    sample="    Found GPU0 Old Card which is of cuda capability 3.0.\n    PyTorch no longer supports this GPU because it is too old.\n"
    "    The minimum cuda capability supported by this library is 3.7.",
    span=3,
)
def too_old(match: re.Match[str]) -> ArchUnsupported:
    """torch's warning up to 2.8 for GPUs below its oldest architecture."""
    return ArchUnsupported(gpu=match["gpu"], compute_capability=match["cc"], minimum=match["low"])


@check.message(
    r"Found GPU\d+ (?P<gpu>.{1,120}?) which is of cuda capability (?P<cc>\d+\.\d+)\.?\s+Minimum and Maximum cuda capability supported by this version of "
    r"PyTorch is\s+\((?P<low>\d+\.\d+)\) - \((?P<high>\d+\.\d+)\)",
    needles="which is of cuda capability",
    sample="    Found GPU0 Some Card which is of cuda capability 6.1.\n"
    "    Minimum and Maximum cuda capability supported by this version of PyTorch is\n    (7.0) - (12.0)",
    span=3,
)
def out_of_range(match: re.Match[str]) -> ArchUnsupported | None:
    """torch 2.9's warning. It compares with the ends of the range, so a later minor of the newest major is no fault."""
    major = int(match["cc"].partition(".")[0])
    if major == int(match["high"].partition(".")[0]):
        return None
    return ArchUnsupported(gpu=match["gpu"], compute_capability=match["cc"], minimum=match["low"])


@check.message(
    r"Found GPU\d+ (?P<gpu>.{1,120}?) which is of compute capability \(CC\) (?P<cc>\d+\.\d+)\.(?P<rest>[\s\S]*)",
    needles="which is of compute capability (cc)",
    sample="Found GPU0 Some Card which is of compute capability (CC) 6.1.\n"
    "The following list shows the CCs this version of PyTorch was built for and the hardware CCs it supports:\n"
    "- 7.5 which supports hardware CC >=7.5,<8.0",
    span=8,
)
def listed(match: re.Match[str]) -> ArchUnsupported:
    """torch's warning from 2.10 on, which lists what each architecture runs on."""
    built = re.findall(r"- (\d+)\.(\d) which supports hardware", match["rest"])
    archs = tuple(f"sm_{major}{minor}" for major, minor in built)
    return ArchUnsupported(gpu=match["gpu"], compute_capability=match["cc"], archs=archs)


@check.message(
    r"(?:CUDA error \((?P<file>[^()\n]+?):\d+\): ?)?no kernel image is available for execution on (?:the )?device(?:.* (?:at|in file) (?P<at>\S+))?",
    needles="no kernel image is available",
    sample="RuntimeError: CUDA error: no kernel image is available for execution on the device",
)
def no_kernel_image(match: re.Match[str]) -> NoKernelImage:
    """CUDA error 209, with the source file where a package's own macro prints it."""
    return NoKernelImage(said_by=match["file"] or match["at"])


@check.message(
    r"cudaErrorNoKernelImageForDevice|CUDA_ERROR_NO_BINARY_FOR_GPU",
    needles=("cudaerrornokernelimagefordevice", "cuda_error_no_binary_for_gpu"),
    sample="CUDADriverError: CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available for execution on the device",
)
def no_kernel_image_by_name(match: re.Match[str]) -> NoKernelImage:
    """The error's name, as CuPy, Numba and Triton print it."""
    return NoKernelImage()


@check.message(
    r"named symbol not found at line \d+ in file (?P<file>\S+)",
    needles="named symbol not found at line",
    sample="Error named symbol not found at line 62 in file /src/csrc/ops.cu",
)
def symbol_not_in_binary(match: re.Match[str]) -> NoKernelImage:
    """bitsandbytes, where its library has no code for the GPU."""
    return NoKernelImage(said_by=match["file"])


@check.message(
    r"Bfloat16 is only supported on GPUs with compute capability of at least 8\.0\. Your (?P<gpu>.{1,120}?) GPU has compute capability (?P<cc>\d+\.\d+)",
    needles="bfloat16 is only supported on gpus",
    sample="ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute capability 7.5.",
)
def bf16_refused(match: re.Match[str]) -> Bf16Unsupported:
    """vLLM and what is built on it."""
    return Bf16Unsupported(gpu=match["gpu"], compute_capability=match["cc"])


@check.message(
    r"Current CUDA Device does not support bfloat16|Your setup doesn't support bf16(?!/cpu)|Type bf16 is not supported on your device|"
    r"(?i:your (?:device|gpu) (?:does not|doesn't) support (?:torch\.)?b(?:f|float)16)|(?i:\bbf(?:loat)?16 is not supported (?:on|by) (?:this|your|the)(?: current)? (?:device|gpu))|"
    r"Feature '\.bf16[^']*' requires \.target sm_80|(?i:does not support bfloat16 compilation natively)",
    needles=("bf16", "bfloat16"),
    sample="RuntimeError: Current CUDA Device does not support bfloat16. Please switch dtype to float16.",
)
def bf16_not_supported(match: re.Match[str]) -> Bf16Unsupported | None:
    """torch.compile, transformers, DeepSpeed, ptxas."""
    return None if "natively" in match.group() else Bf16Unsupported()


@check.message(
    r"torch\._scaled_mm is only supported on (?:CUDA )?devices with compute capability >= 9\.0(?P<ada>(?:\)? or|,) ?8\.9)?",
    needles="_scaled_mm is only supported",
    sample="RuntimeError: torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0 or 8.9, or ROCm MI300+",
)
def scaled_mm(match: re.Match[str]) -> Fp8Unsupported:
    """torch's FP8 product. Releases before 2.3 had it for compute capability 9.0 alone."""
    return Fp8Unsupported(only_90=match["ada"] is None)


@check.message(
    r"type fp8e4\w* not supported in this architecture|(?i:compute capability 8\.9 or (?:higher|above) (?:is )?required for fp8)|"
    r"(?i:fp8\b.{0,80}(?:requires?|only supported on|not supported on) .{0,40}(?:compute capability|sm_?89|Ada|Hopper|8\.9))|"
    r"Feature '[^']*e[45]m[23][^']*' requires \.target sm_89|(?i:fp8 (?:is|are) not supported (?:on|by) (?:this|your|the current) (?:device|gpu|hardware|platform))",
    needles=("fp8", "e4m3", "e5m2"),
    sample="ValueError: type fp8e4nv not supported in this architecture. The supported fp8 dtypes are ('fp8e4b15', 'fp8e5')",
)
def fp8_not_supported(match: re.Match[str]) -> Fp8Unsupported:
    """Triton, Transformer Engine, transformers, ptxas."""
    return Fp8Unsupported()


@check.message(
    r"quantization method (?P<method>\S+) is not supported for the current GPU\.\s+Minimum capability: (?P<low>\d+)\.\s+Current capability: (?P<cc>\d+)",
    needles="is not supported for the current gpu",
    sample="ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. Current capability: 75.",
)
def quantization(match: re.Match[str]) -> Fp8Unsupported | ExtensionNeedsGpu:
    """vLLM: FP8 is a matter of the hardware, other methods of the kernels that it brings."""
    capability = dotted(match["cc"])
    if "fp8" in match["method"].lower():
        return Fp8Unsupported(compute_capability=capability)
    return ExtensionNeedsGpu(package="vllm", needs=dotted(match["low"]), compute_capability=capability)


@check.message(
    r"FlashAttention only supports? (?P<chip>Ampere|Hopper|Ada) GPUs or newer",
    needles="flashattention only support",
    sample="RuntimeError: FlashAttention only supports Ampere GPUs or newer.",
)
def flash_attention(match: re.Match[str]) -> ExtensionNeedsGpu:
    """flash-attn 2 and 3."""
    return ExtensionNeedsGpu(
        package="flash-attn", needs={"Ampere": "8.0", "Ada": "8.9", "Hopper": "9.0"}[match["chip"]]
    )


@check.message(
    r"requires (?:a GPU with|device with) capability [<>]=? ?\((?P<major>\d+), ?(?P<minor>\d+)\) but your GPU has capability "
    r"\((?P<own>\d+), ?(?P<own_minor>\d+)\) \(too (?P<which>old|new)\)",
    needles="but your gpu has capability",
    sample="    requires device with capability > (8, 0) but your GPU has capability (7, 5) (too old)",
)
def xformers_operator(match: re.Match[str]) -> ExtensionNeedsGpu:
    """xformers' reasons why none of its attention operators can be used."""
    needs = f"{match['major']}.{match['minor']}" if match["which"] == "old" else None
    return ExtensionNeedsGpu(
        package="xformers", needs=needs, compute_capability=f"{match['own']}.{match['own_minor']}"
    )


@check.message(
    r"GPUs with compute capability below (?P<low>\d+\.\d+) are not supported",
    needles="gpus with compute capability below",
    sample="RuntimeError: GPUs with compute capability below 7.0 are not supported.",
)
def vllm_minimum(match: re.Match[str]) -> ExtensionNeedsGpu:
    """vLLM before 0.6."""
    return ExtensionNeedsGpu(package="vllm", needs=match["low"])


@check.message(
    r"(?<!initialized )module '(?P<module>torch(?:\.[\w.]+)?)' has no attribute '(?P<name>\w+)'",
    needles="module 'torch",
    sample="AttributeError: module 'torch' has no attribute 'float8_e4m3fn'",
)
def attribute_missing(match: re.Match[str]) -> FeatureMissing:
    """Something of torch's API that this release does not have."""
    return FeatureMissing(module=match["module"], name=match["name"])


@check.message(
    r"cannot import name '(?P<name>\w+)' from '(?P<module>torch(?:\.[\w.]+)?)'",
    needles="from 'torch",
    sample="ImportError: cannot import name 'sdpa_kernel' from 'torch.nn.attention' (/x/torch/nn/attention.py)",
)
def name_missing(match: re.Match[str]) -> FeatureMissing:
    """The same, imported by name."""
    return FeatureMissing(module=match["module"], name=match["name"])


@check.message(
    r"No module named '(?P<module>torch\.(?!_C\b)(?:[\w]+\.)*?)(?P<name>\w+)'",
    needles="no module named 'torch.",
    sample="ModuleNotFoundError: No module named 'torch.nn.attention'",
)
def submodule_missing(match: re.Match[str]) -> FeatureMissing:
    """The same, where it is a module."""
    return FeatureMissing(module=match["module"].rstrip("."), name=match["name"])


@check.message(
    r"\"(?P<kernel>\w+)\" not implemented for '(?P<dtype>\w+)'",
    needles="not implemented for '",
    sample="RuntimeError: \"triu_tril_cuda_template\" not implemented for 'BFloat16'",
)
def kernel_not_implemented(match: re.Match[str]) -> KernelNotImplemented:
    """A kernel that torch has, not for this type."""
    return KernelNotImplemented(kernel=match["kernel"], dtype=match["dtype"])
