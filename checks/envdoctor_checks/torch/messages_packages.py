"""What programs print when torch and the packages around it do not belong together."""

from __future__ import annotations

import re

from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.symptoms import (
    BuildIsolated,
    Convolution3d,
    CudaBinaryMissing,
    CudaRefused,
    DllNotLoaded,
    ExtensionBuiltFor,
    ModuleBroke,
    NoHipGpu,
    NotCompiledWithCuda,
    NumpyAbi,
    OperatorMissing,
    PackageInTraceback,
    RegisteredTwice,
    SisterBroken,
)

PURE = (
    "torch|transformers|accelerate|diffusers|lightning|pytorch_lightning|numpy|peft|trl|datasets|gradio|uvicorn|starlette|"
    "fastapi|anyio|click|typer|pydantic|ray|fire|hydra|sympy|networkx|jinja2|importlib|six|tqdm|requests|huggingface_hub|"
    "safetensors|gunicorn|streamlit|IPython|ipykernel|tornado|jupyter\\w*|sentence_transformers|timm"
)
"""Packages without code that is compiled against torch, whose frames fill tracebacks."""


@check.message(
    r"^\s*(?:from (?P<source>[\w.]+) import [^\n]*|import (?P<module>[\w.]+)[^\n]*)\n(?:[ \t]*[~^]+[ \t]*\n)?"
    r"(?P<exception>(?:Import|OS|Attribute|Runtime|Value)Error): (?P<message>[^\n]+)",
    needles=("importerror: ", "oserror: ", "attributeerror: ", "runtimeerror: ", "valueerror: "),
    sample="    import some_extension_cuda\n    ^^^^^^^^^^^^^^^^^^^^^^^^^^\nImportError: libX.so.1: cannot open shared object file",
    span=3,
)
def module_broke(match: re.Match[str]) -> ModuleBroke:
    """The last lines of a traceback: an import statement and what it raised."""
    module = match["source"] or match["module"]
    return ModuleBroke(module=module, exception=match["exception"], message=match["message"])


@check.message(
    r"Failed to import (?:from )?(?P<module>[\w.]+)(?: with|:|due to) (?P<exception>\w+Error)\(?[\"']?(?P<message>[^\"'\n]+)",
    needles="failed to import ",
    sample="WARNING _custom_ops.py:20] Failed to import from vllm._C with ImportError('libX.so.1: cannot open shared object file')",
)
def caught_import(match: re.Match[str]) -> ModuleBroke:
    """vLLM and others catch the exception and go on."""
    return ModuleBroke(module=match["module"], exception=match["exception"], message=match["message"])


@check.message(
    r"Could not load this library: \S*?[/\\](?P<package>\w+)[/\\](?:lib[/\\])?[^/\\]+$",
    needles="could not load this library",
    sample="OSError: Could not load this library: /x/site-packages/torchaudio/lib/libtorchaudio.so",
)
def library_of_package(match: re.Match[str]) -> SisterBroken | ModuleBroke:
    """torch.ops.load_library, from 2.9 on."""
    package = match["package"]
    if package in ("torchvision", "torchaudio"):
        return SisterBroken(package=package, why="operators")
    return ModuleBroke(module=package, exception="OSError", message=match.group())


@check.message(
    r"operator (?P<package>torchvision|torchaudio)::\w+ does not exist|No such operator (?P<older>torchvision|torchaudio)::|"
    r"'_OpNamespace' '(?P<space>torchvision|torchaudio)' object has no attribute|"
    r"partially initialized module '(?P<partial>torchvision|torchaudio)' has no attribute|"
    r"module '(?P<module>torchvision|torchaudio)' has no attribute '(?:extension|_extension|ops)'|"
    r"(?P<custom>Couldn't load custom C\+\+ ops)|Could not run '(?P<backend>torchvision|torchaudio)::\w+' with arguments from the 'CUDA' backend",
    needles=("torchvision", "torchaudio", "couldn't load custom c++ ops"),
    sample="RuntimeError: operator torchvision::nms does not exist",
)
def sister_operators(match: re.Match[str]) -> SisterBroken:
    """The compiled part of a sister package was not loaded, or is the one without CUDA."""
    named = match.groupdict()
    package = next((value for key, value in named.items() if value and key != "custom"), "torchvision")
    return SisterBroken(package=package, why="no-cuda" if named["backend"] else "operators")


@check.message(
    r"Detected that PyTorch and (?P<package>[Tt]orch[Vv]ision|[Tt]orch[Aa]udio) were compiled with different\s+CUDA\s+(?:major )?versions\.\s+PyTorch has\s+CUDA\s+"
    r"[Vv]ersion[= ](?P<torch>\d+\.\d+)\s+(?:and|whereas)\s+\w+\s+has\s+CUDA\s+[Vv]ersion[= ](?P<own>\d+\.\d+)",
    needles="were compiled with different",
    sample="RuntimeError: Detected that PyTorch and torchvision were compiled with different CUDA major versions. "
    "PyTorch has CUDA Version=12.4 and torchvision has CUDA Version=11.8. Please reinstall the torchvision that matches your PyTorch install.",
    span=4,
)
def sister_cuda(match: re.Match[str]) -> SisterBroken:
    """Both check this when they are imported."""
    return SisterBroken(
        package=match["package"].lower(), why="cuda-release", torch_cuda=match["torch"], own_cuda=match["own"]
    )


@check.message(
    r"xFormers was built for:?\s+PyTorch (?P<built>\S+)(?: with CUDA \d+)? \(you have (?P<found>[^)\s]+)\)",
    needles="xformers was built for",
    sample="WARNING[XFORMERS]: xFormers can't load C++/CUDA extensions. xFormers was built for:\n    PyTorch 2.1.0+cu121 with CUDA 1201 (you have 2.0.1+cu118)",
    span=2,
)
def xformers_built_for(match: re.Match[str]) -> ExtensionBuiltFor:
    """xformers compares its build with the torch that it finds."""
    return ExtensionBuiltFor(package="xformers", built_for=match["built"], found=match["found"])


@check.message(
    r"(?P<file>libbitsandbytes_cuda\d+\w*\.(?:so|dll))\b.{0,80}?(?:not found|does not exist|cannot open)|Configured (?:CUDA|ROCm) binary not found at \S*?(?P<configured>libbitsandbytes_cuda\d+\w*\.(?:so|dll))|"
    r"Required library version not found: (?P<required>libbitsandbytes_cuda\d+\w*\.(?:so|dll))",
    needles="libbitsandbytes_cuda",
    sample="RuntimeError: Configured CUDA binary not found at /x/site-packages/bitsandbytes/libbitsandbytes_cuda130.so",
)
def bitsandbytes_binary(match: re.Match[str]) -> CudaBinaryMissing:
    """bitsandbytes brings one library per CUDA release."""
    return CudaBinaryMissing(
        package="bitsandbytes", file=match["file"] or match["configured"] or match["required"]
    )


@check.message(
    r"A module that was compiled using NumPy 1\.x cannot be run in\s+NumPy (?P<numpy>\d[\w.]*)|Failed to initialize NumPy: |"
    r"RuntimeError: Numpy is not available|numpy\.core\.multiarray failed to import|Could not infer dtype of numpy\.|_ARRAY_API not found|"
    r"module compiled against (?:ABI|API) version 0x[0-9a-f]+ but this version of numpy is|numpy\.(?:dtype|ndarray) size changed, may indicate binary incompatibility",
    needles=("numpy", "_array_api"),
    sample="A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.1.0 as it may crash.",
    span=2,
)
def numpy_abi(match: re.Match[str]) -> NumpyAbi:
    """numpy's own warning, torch's, and what fails later."""
    return NumpyAbi(numpy=match["numpy"].rstrip(".") if match["numpy"] else None)


@check.message(
    r"Torch not compiled with CUDA enabled|PyTorch is not linked with support for cuda devices|(?:Py)?Torch (?:was |is )?not compiled with CUDA|"
    r"(?:Py)?[Tt]orch (?:was|is) compiled without CUDA",
    needles=("compiled with cuda", "compiled without cuda", "linked with support for cuda"),
    sample="AssertionError: Torch not compiled with CUDA enabled",
)
def not_compiled_with_cuda(match: re.Match[str]) -> NotCompiledWithCuda:
    """A build for the CPU was asked for a GPU."""
    return NotCompiledWithCuda()


@check.message(
    r"Torch is not able to use GPU",
    needles="torch is not able to use gpu",
    sample="RuntimeError: Torch is not able to use GPU; add --skip-torch-cuda-test to COMMANDLINE_ARGS variable to disable this check",
)
def cuda_refused(match: re.Match[str]) -> CudaRefused:
    """The web interfaces for diffusion models, when they start."""
    return CudaRefused()


@check.message(
    r"No HIP GPUs are available|hipErrorNoDevice",
    needles=("no hip gpus are available", "hiperrornodevice"),
    sample="RuntimeError: No HIP GPUs are available",
)
def no_hip_gpu(match: re.Match[str]) -> NoHipGpu:
    """A build for ROCm found no AMD GPU."""
    return NoHipGpu()


@check.message(
    r"function '_has_torch_function' already has a docstring|Only a single TORCH_LIBRARY can be used to register the namespace (?!_C\b)",
    needles=("already has a docstring", "only a single torch_library"),
    sample="RuntimeError: function '_has_torch_function' already has a docstring",
)
def registered_twice(match: re.Match[str]) -> RegisteredTwice:
    """A second copy of torch's compiled part came into the process."""
    return RegisteredTwice()


@check.message(
    r"depends on `torch`, but doesn't declare it as a build dependency|in get_requires_for_build_wheel|Getting requirements to build wheel did not run successfully|"
    r"[/\\]pip-build-env-|This error likely indicates that `(?P<package>[\w.-]+)",
    needles=(
        "build dependency",
        "get_requires_for_build_wheel",
        "getting requirements to build wheel",
        "pip-build-env-",
        "error likely indicates",
    ),
    sample='  File "/tmp/pip-build-env-abc/overlay/setuptools/build_meta.py", line 1, in get_requires_for_build_wheel',
)
def build_isolated(match: re.Match[str]) -> BuildIsolated:
    """Frames of an isolated build, and uv's hint."""
    package = match["package"]
    return BuildIsolated(package=package.partition("@")[0] if package else None)


@check.message(
    r"'_OpNamespace' '(?P<namespace>(?!torchvision|torchaudio)\w+)' object has no attribute '(?P<operator>\w+)'|"
    r"(?P<xformers>xFormers wasn't buil[dt] with CUDA support)",
    needles=("'_opnamespace'", "xformers wasn't buil"),
    sample="AttributeError: '_OpNamespace' '_C' object has no attribute 'rms_norm'",
)
def operator_missing(match: re.Match[str]) -> OperatorMissing:
    """An extension did not register its operators: it was not loaded. xformers says it in its own words."""
    if match["xformers"]:
        return OperatorMissing(namespace="xformers", operator="memory_efficient_attention")
    return OperatorMissing(namespace=match["namespace"], operator=match["operator"])


@check.message(
    r"(?:\[WinError (?P<code>\d+)\].*)?Error loading \"?[^\"\n]*?(?P<dll>\w+\.dll)\"? or one of its dependencies",
    needles="or one of its dependencies",
    sample='OSError: [WinError 126] The specified module could not be found. Error loading "C:\\x\\torch\\lib\\some.dll" or one of its dependencies.',
)
def dll_not_loaded(match: re.Match[str]) -> DllNotLoaded:
    """torch's own message on Windows; the words before it come in the language of the system."""
    code = re.search(r"WinError (\d+)", match.string)
    return DllNotLoaded(dll=match["dll"].lower(), code=int(code[1]) if code else None)


@check.message(
    r"\bconv3d\(|in _conv_forward.*conv3d",
    needles="conv3d(",
    sample="    return F.conv3d(",
)
def convolution(match: re.Match[str]) -> Convolution3d:
    """The source line of a frame."""
    return Convolution3d()


@check.message(
    rf"File [\"'][^\"']*(?:site|dist)-packages[/\\](?!(?:{PURE})\b)(?P<module>[A-Za-z_]\w*)[/\\.]",
    needles=("site-packages", "dist-packages"),
    sample='  File "/x/site-packages/some_extension/ops.py", line 10, in forward',
)
def package_in_traceback(match: re.Match[str]) -> PackageInTraceback:
    """Which packages with compiled code were at work."""
    return PackageInTraceback(module=match["module"])
