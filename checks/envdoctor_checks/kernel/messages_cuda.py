"""What is printed where the CUDA toolkit is missing, incomplete, or of another release."""

from __future__ import annotations

import re

from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.symptoms import (
    AssemblerUsed,
    CompileFailed,
    CompilerAtWork,
    CudaMismatch,
    GpuNameUnknown,
    HeadersDiffer,
    ImageInvalid,
    NvccNotFound,
    PtxTooNew,
    ToolkitPartNotFound,
)

PATH = r"(?P<{}>:?/[^\s'\"]*/nvcc(?:\.exe)?)"


@check.message(
    r"CUDA_HOME environment variable is not set|CUDA_HOME does not exist, unable to compile|CUDA was not found on the system, please set the CUDA_HOME|"
    rf"nvcc not found at '(?P<at>[^']+)'|No such file or directory: '{PATH.format('python')}'|(?:^|: ){PATH.format('shell')}: (?:not found|No such file)|"
    r"(?:^|: )nvcc: (?:command )?not found|No such file or directory: 'nvcc'|command '?(?P<distutils>[^\s']*/nvcc)'? failed: No such file|"
    r"nvcc was not found|nvcc binary could not be|Could not find nvcc(?: and default cuda_home='(?P<default>[^']*)' doesn't exist)?|"
    r"No CUDA compiler found|Failed to find nvcc|Could NOT find CUDA(?:Toolkit)? \(missing: [^)]*(?:NVCC|TOOLKIT_ROOT|INCLUDE_DIR|CUDART)|"
    r"CUDA_TOOLKIT_ROOT_DIR not found or specified|CMAKE_CUDA_COMPILER[^\n]*(?:NOTFOUND|is not a full path|No CMAKE_CUDA_COMPILER)|No CMAKE_CUDA_COMPILER could be found",
    needles=(
        "cuda_home",
        "nvcc",
        "could not find cuda",
        "cuda compiler found",
        "cuda_toolkit_root_dir",
        "cmake_cuda_compiler",
    ),
    sample="OSError: CUDA_HOME environment variable is not set. Please set it to your CUDA install root.",
)
def nvcc_not_found(match: re.Match[str]) -> NvccNotFound:
    """torch, DeepSpeed, flash-attn, FlashInfer, distutils, the shell and CMake."""
    groups = match.groupdict()
    return NvccNotFound(path=next((value for value in groups.values() if value), None))


@check.message(
    r"(?:sh|bash)?:?\s?(?:\d+: )?(?P<part>cicc|cudafe\+\+|fatbinary|nvlink|ptxas): (?:command )?not found|"
    r"(?P<device>libdevice)(?:\.10\.bc)?[^\n]{0,40}(?:not found|No such file|Can't find)|(?:Can't|Cannot|cannot) find (?P<bc>libdevice)|"
    r"Cannot find (?P<exe>ptxas(?:\.exe)?)|nvcc fatal\s*: (?:Could not open|Path to) (?P<path>libdevice)",
    needles=("cicc", "cudafe++", "fatbinary", "nvlink", "ptxas", "libdevice"),
    sample="sh: 1: cicc: not found",
)
def toolkit_part(match: re.Match[str]) -> ToolkitPartNotFound:
    """nvcc starts its parts by name; XLA and Numba look for libdevice."""
    return ToolkitPartNotFound(part=next(value for value in match.groups() if value))


@check.message(
    r"The detected CUDA version \((?P<nvcc>[\d.]+)\) mismatches the version that was used to compile\s+PyTorch \((?P<torch>[\d.]+)\)|"
    r"The detected CUDA version \(%s\) mismatches[^\n]*', '(?P<raw>[\d.]+)', '(?P<raw_torch>[\d.]+)'|"
    r"Installed CUDA version (?P<ds>[\d.]+) does not match the version torch was compiled with (?P<ds_torch>[\d.]+)|"
    r"does not match the version used to compile Pytorch binaries\.\s+Pytorch binaries were compiled with Cuda (?P<apex>[\d.]*\d)",
    needles=("mismatches the version", "does not match the version"),
    sample="RuntimeError:\nThe detected CUDA version (99.4) mismatches the version that was used to compile\nPyTorch (88.8). Please make sure to use the same CUDA versions.",
    span=2,
)
def cuda_mismatch(match: re.Match[str]) -> CudaMismatch:
    """torch.utils.cpp_extension, DeepSpeed and apex. A minor difference is a warning of its own, and no fault."""
    return CudaMismatch(
        nvcc_cuda=match["nvcc"] or match["raw"] or match["ds"],
        torch_cuda=match["torch"] or match["raw_torch"] or match["ds_torch"] or match["apex"],
    )


@check.message(
    r"CUDA compiler and CUDA toolkit headers are incompatible|nvcc and the CUDA headers? (?:are|is) (?:not|in)|"
    r"__CUDACC_VER_M\w+__[^\n]*(?:does not match|!=)[^\n]*CUDART_VERSION",
    needles=("headers are incompatible", "cuda header", "__cudacc_ver_m"),
    sample='error: #error "CUDA compiler and CUDA toolkit headers are incompatible, please check your include paths"',
)
def headers_differ(match: re.Match[str]) -> HeadersDiffer:
    """CCCL compares the compiler's release with that of cuda_runtime_api.h."""
    return HeadersDiffer()


@check.message(
    r"ptxas fatal\s*: +Value '(?P<ptxas>sm_\w+)' is not defined for option 'gpu-name'|"
    r"nvcc fatal\s*: +(?:Unsupported gpu architecture '(?P<nvcc>\w+)'|Value '(?P<value>\w+)' is not defined for option 'gpu-(?:architecture|code)')|"
    r"'(?P<llvm>sm_\w+)' is not a recognized processor for this target|Unknown CUDA arch \((?P<torch>[\d.]+\w?)\) or GPU not supported",
    needles=(
        "is not defined for option",
        "unsupported gpu architecture",
        "is not a recognized processor",
        "unknown cuda arch",
    ),
    sample="ptxas fatal   : Value 'sm_999a' is not defined for option 'gpu-name'",
)
def gpu_name(match: re.Match[str]) -> GpuNameUnknown:
    """The assembler, the compiler, LLVM, and torch's own list."""
    if match["ptxas"]:
        return GpuNameUnknown(arch=match["ptxas"], program="ptxas")
    if match["torch"]:
        return GpuNameUnknown(arch=f"sm_{match['torch'].replace('.', '')}", program="torch")
    if match["llvm"]:
        return GpuNameUnknown(arch=match["llvm"], program="llvm")
    return GpuNameUnknown(arch=match["nvcc"] or match["value"], program="nvcc")


@check.message(
    r"(?:Repro command: |\[')(?P<path>[^\s']*ptxas[\w-]*(?:\.exe)?)\b.*?--gpu-name=(?P<arch>sm_\w+)",
    needles="--gpu-name=",
    sample="Repro command: /x/triton/backends/nvidia/bin/ptxas -lineinfo -v --gpu-name=sm_99 /tmp/x.ptx -o /tmp/x.ptx.o",
)
def assembler_used(match: re.Match[str]) -> AssemblerUsed:
    """Triton shows the command that failed."""
    return AssemblerUsed(path=match["path"], arch=match["arch"])


@check.message(
    r"PTX was compiled with an unsupported toolchain|CUDA_ERROR_UNSUPPORTED_PTX_VERSION|cudaErrorUnsupportedPtxVersion|"
    r"fatal\s*: Unsupported \.version (?P<ptx>[\d.]+); current version is '(?P<known>[\d.]+)'|(?i:ptx) version (?P<other>[\d.]+) is too new",
    needles=(
        "unsupported toolchain",
        "unsupported_ptx_version",
        "unsupportedptxversion",
        "unsupported .version",
        "is too new",
    ),
    sample="RuntimeError: CUDA error: the provided PTX was compiled with an unsupported toolchain.",
)
def ptx_too_new(match: re.Match[str]) -> PtxTooNew:
    """The driver's error 222, and an assembler's own words."""
    if match["ptx"]:
        return PtxTooNew(reader="ptxas", ptx=match["ptx"], known=match["known"])
    return PtxTooNew(reader="driver", ptx=match["other"])


@check.message(
    r"device kernel image is invalid|CUDA_ERROR_INVALID_IMAGE|cudaErrorInvalidKernelImage",
    needles=("kernel image is invalid", "cuda_error_invalid_image", "cudaerrorinvalidkernelimage"),
    sample="RuntimeError: Triton Error [CUDA]: device kernel image is invalid",
)
def image_invalid(match: re.Match[str]) -> ImageInvalid:
    """The driver's error 200."""
    return ImageInvalid()


@check.message(
    r"CppCompileError: C\+\+ compile error|(?P<ptxas>PTXASError: PTXAS error|Internal Triton PTX codegen error)|"
    r"(?P<extension>Error building extension '[^']*'|Error compiling objects for extension|Ninja build failed|ninja: build stopped: subcommand failed)|"
    r"(?P<triton>CalledProcessError: Command '\['(?P<cc>[^']+)', '[^']*(?:main\.c|cuda_utils\.c|__triton_launcher\.c)'.*returned non-zero exit status)",
    needles=(
        "cppcompileerror",
        "ptxas",
        "ptx codegen error",
        "building extension",
        "compiling objects",
        "ninja",
        "calledprocesserror",
    ),
    sample="torch._inductor.exc.InductorError: CppCompileError: C++ compile error",
)
def compile_failed(match: re.Match[str]) -> CompileFailed:
    """A compiler's or build tool's last word; the cause stands above it."""
    if match["extension"]:
        return CompileFailed(what="extension")
    if match["ptxas"]:
        return CompileFailed(what="triton", command="ptxas")
    return (
        CompileFailed(what="triton", command=match["cc"])
        if match["triton"]
        else CompileFailed(what="inductor")
    )


@check.message(
    r"[/\\](?P<inductor>torch[/\\]_inductor)[/\\]|[/\\](?P<triton>triton)[/\\](?:runtime|compiler|backends|language)[/\\]|"
    r"[/\\]torch[/\\]utils[/\\](?P<extension>cpp_extension\.py)|(?:^|[\s/\\'])(?P<nvcc>nvcc)(?:\.exe)?'? .*-c ",
    needles=("_inductor", "triton", "cpp_extension.py", "nvcc"),
    sample='  File "/x/site-packages/torch/_inductor/codecache.py", line 1, in build',
)
def at_work(match: re.Match[str]) -> CompilerAtWork:
    """Frames and command lines of compilers."""
    for what in ("inductor", "triton", "extension"):
        if match[what]:
            return CompilerAtWork(what=what)
    return CompilerAtWork(what="nvcc")
