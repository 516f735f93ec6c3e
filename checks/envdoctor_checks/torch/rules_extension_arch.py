"""The machine code in extensions, against the GPUs."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.api import (
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    NoFix,
    Outcome,
    Platform,
    Reach,
    Remedy,
    Run,
)
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.advice import Advice, wheel_platform
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda, TorchDevices
from envdoctor_checks.torch.known import (
    code_of_torch,
    gpus_seen,
    runs,
    torch_cuda,
    torch_version,
)
from envdoctor_checks.torch.rules_arch import is_extensions
from envdoctor_checks.torch.symptoms import (
    ArchUnsupported,
    BinaryArchs,
    ExtensionNeedsGpu,
    NoKernelImage,
    PackageInTraceback,
)
from envdoctor_checks.torch.tables import Extensions

KERNEL = Outcome("kernel-on-gpu")


@check.rule
def extension_arch_missing(
    said: NoKernelImage,
    warned: tuple[ArchUnsupported, ...],
    binaries: tuple[BinaryArchs, ...],
    frames: tuple[PackageInTraceback, ...],
    cuda: TorchCuda | None,
    build: TorchBuild | None,
    devices: TorchDevices | None,
    gpus: GpuDevices | None,
    packages: Distributions | None,
    platform: Platform | None,
    known: Extensions,
    advice: Advice,
) -> Findings:
    """A compiled extension has no code for this GPU."""
    version = torch_version(build, packages)
    code = code_of_torch(cuda, build, version, advice, wheel_platform(platform))
    seen = gpus_seen(devices, gpus, advice)
    own = seen[0] if seen else None
    torch_runs = (
        code is not None and own is not None and runs(code, own.capability, torch_cuda(build, version))
    )
    lacking = [each for each in binaries if own is not None and not runs(each.archs, own.capability, None)]
    named = _package(said, lacking, frames, packages, known)
    if warned or not (lacking or is_extensions(said) or (torch_runs and named)):
        return
    capability = own.capability if own else None
    what = named or "an extension"
    yield Finding(
        title=f"{what} has no code for {own.name if own else 'this GPU'}{f' (compute capability {capability})' if capability else ''}",
        subject=f"package:{named}" if named else "",
        confidence=Confidence.CERTAIN if lacking else Confidence.LIKELY,
        detail=(
            "torch itself has kernels for this GPU, so the missing ones are the extension's. "
            if torch_runs
            else ""
        )
        + "Its wheel, or the build on this machine, was compiled for other compute capabilities.",
        evidence=(
            said.evidence(),
            *(each.evidence("in the file") for each in lacking[:1]),
            *(
                (Evidence("torch compiled for", " ".join(code), cuda.source if cuda else None),)
                if torch_runs and code
                else ()
            ),
        ),
        remedies=tuple(_rebuild(named, capability, lacking)),
        breaks=(KERNEL,),
        shows=(KERNEL,),
    )


def _package(
    said: NoKernelImage,
    lacking: list[BinaryArchs],
    frames: tuple[PackageInTraceback, ...],
    packages: Distributions | None,
    known: Extensions,
) -> str | None:
    """Whose code is missing, by the clearest sign: the source file, the file that was looked into, the traceback, what is installed."""
    path = (said.said_by or "").lower().replace("_", "-")
    for row in known.extensions:
        if row.distribution in path or row.distribution.replace("-attn", "-attention") in path:
            return row.distribution
    if said.said_by and "csrc/ops.cu" in said.said_by:
        return "bitsandbytes"
    for each in lacking:
        parts = each.path.replace("\\", "/").rpartition("-packages/")[2].split("/")
        if row_of := known.by_module(parts[0].partition(".")[0]):
            return row_of.distribution
    for frame in reversed(frames):
        if row_of := known.by_module(frame.module):
            return row_of.distribution
    installed = [
        row.distribution
        for row in known.extensions
        if packages is not None and packages.named(row.distribution)
    ]
    compiled = [
        name for name in installed if name not in ("torchvision", "torchaudio", "torchcodec", "torchao")
    ]
    return compiled[0] if len(compiled) == 1 else None


OWN_VARIABLES = {"flash-attn": "FLASH_ATTN_CUDA_ARCHS"}
"""Packages that take their architectures from a variable of their own."""


def _rebuild(package: str | None, capability: str | None, lacking: list[BinaryArchs]) -> Iterator[Remedy]:
    arch = capability or "X.Y"
    name = package or "PACKAGE"
    oldest = min(
        (each for found in lacking for each in found.archs if each.startswith("sm_")),
        key=lambda each: int("".join(filter(str.isdigit, each))),
        default=None,
    )
    limit = (
        f" Its files begin at {oldest}, and many packages have no code at all for older GPUs: then a newer GPU, compute capability {_dotted(oldest)} or newer, is the only way."
        if oldest
        else ""
    )
    digits = arch.replace(".", "")
    variables = f'TORCH_CUDA_ARCH_LIST="{arch}"' + (
        f' {OWN_VARIABLES[name]}="{digits}"' if name in OWN_VARIABLES else ""
    )
    yield Run(
        title=f"rebuild {name} from source for compute capability {arch}",
        commands=(
            f"{variables} python -m pip install --force-reinstall --no-deps --no-build-isolation --no-binary {name} {name}",
        ),
        reach=Reach.ENVIRONMENT,
        caveat=f"Needs nvcc of torch's CUDA release.{limit}",
    )


def _dotted(arch: str) -> str:
    digits = "".join(filter(str.isdigit, arch))
    return f"{digits[:-1]}.{digits[-1]}"


@extension_arch_missing.sign
def _refuses_gpu(
    said: ExtensionNeedsGpu, devices: TorchDevices | None, gpus: GpuDevices | None, advice: Advice
) -> Findings:
    own = said.compute_capability or next(
        (each.capability for each in gpus_seen(devices, gpus, advice)), None
    )
    needs = f"compute capability {said.needs} or newer" if said.needs else "another generation of GPU"
    yield Finding(
        title=f"{said.package} works on {needs}" + (f", and this GPU has {own}" if own else ""),
        subject=f"package:{said.package}",
        evidence=(said.evidence(),),
        remedies=tuple(_without(said.package))
        or (NoFix(reason=f"{said.package} has no kernels for this GPU: use one of {needs}"),),
        breaks=(KERNEL,),
        shows=(KERNEL,),
    )


def _without(package: str) -> Iterator[Remedy]:
    """What does the same on older GPUs."""
    if package in ("flash-attn", "xformers"):
        yield Change(
            title="use torch's own attention, which has kernels for this GPU",
            reach=Reach.SHELL,
            example=(
                'attn_implementation="sdpa"',
                "torch.nn.functional.scaled_dot_product_attention(q, k, v)",
            ),
        )
    if package == "vllm":
        yield Change(
            title="use a quantisation method or an engine that supports this GPU, or rebuild vllm from source for it",
            reach=Reach.ENVIRONMENT,
            example=("vllm serve MODEL --dtype half",),
        )
