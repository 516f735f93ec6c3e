"""Number formats and features that the GPU, or this release of torch, does not have."""

from __future__ import annotations

from envdoctor.api import (
    Change,
    Confidence,
    Finding,
    Findings,
    Install,
    NoFix,
    Outcome,
    Platform,
    Reach,
    Severity,
)
from envdoctor.surroundings import Surroundings
from envdoctor.tables import compare_releases
from envdoctor_checks.driver.facts import DriverCuda, DriverRelease
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.advice import Advice
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import TorchBuild, TorchDevices
from envdoctor_checks.torch.known import gpus_seen, torch_version, version_evidence
from envdoctor_checks.torch.symptoms import (
    Bf16Unsupported,
    FeatureMissing,
    Fp8Unsupported,
    KernelNotImplemented,
    MallocAsyncInUse,
    PackageInTraceback,
)

JOB = Outcome("job")
FEATURES = {
    "float8_e4m3fn": "2.1", "float8_e5m2": "2.1", "float8_e4m3fnuz": "2.2", "float8_e8m0fnu": "2.7", "float4_e2m1fn_x2": "2.8",
    "uint16": "2.3", "uint32": "2.3", "uint64": "2.3", "int4": "2.6", "int1": "2.6", "compiler": "2.1", "compile": "2.0",
    "_dynamo": "2.0", "_inductor": "2.0", "scaled_dot_product_attention": "2.0", "sdpa_kernel": "2.3", "flex_attention": "2.5",
    "attention": "2.3", "accelerator": "2.6", "register_fake": "2.4", "custom_op": "2.4", "triton_op": "2.6", "impl_abstract": "2.1",
    "get_default_device": "2.3", "device_mesh": "2.2", "_scaled_mm": "2.1", "_grouped_mm": "2.8", "_scaled_grouped_mm": "2.7",
    "is_bf16_supported": "1.10", "set_default_device": "2.0", "fully_shard": "2.6", "varlen": "2.10",
}  # fmt: skip
"""Names in torch's API that programs stumble over, and the release that first has them."""
BF16_KERNELS = {
    "triu_tril_cuda_template": "2.1", "upsample_nearest2d_out_frame": "2.1", "upsample_bilinear2d_out_frame": "2.1",
    "upsample_nearest1d_out_frame": "2.1", "upsample_nearest3d_out_frame": "2.1", "addmm_cuda": "1.10", "baddbmm_cuda": "1.10",
    "bmm_cuda": "1.10",
}  # fmt: skip
"""CUDA kernels that did not take bfloat16, and the release that first did."""


def lowest(
    devices: TorchDevices | None, gpus: GpuDevices | None, names: tuple[str | None, ...], advice: Advice
) -> tuple[str, str] | None:
    """Name and capability of the weakest GPU that is known, by the facts or by a name that a program printed."""
    seen = [(each.name, each.capability) for each in gpus_seen(devices, gpus, advice)]
    seen += [(name, found) for name in names if name and (found := advice.capability(name))]
    return min(seen, key=lambda each: tuple(map(int, each[1].split("."))), default=None)


@check.rule
def bf16_unsupported_gpu(
    said: Bf16Unsupported, devices: TorchDevices | None, gpus: GpuDevices | None, advice: Advice
) -> Findings:
    """bfloat16 is asked of a GPU below compute capability 8.0."""
    own = lowest(devices, gpus, (said.gpu,), advice)
    capability = said.compute_capability or (own[1] if own else None)
    if capability is not None and compare_releases(capability, "8.0") >= 0:
        return
    name = said.gpu or (own[0] if own else "this GPU")
    yield Finding(
        title=f"bfloat16 is asked of {name}{f' (compute capability {capability})' if capability else ''}, which does not have it",
        confidence=Confidence.CERTAIN if capability else Confidence.LIKELY,
        detail="bfloat16 arithmetic came with compute capability 8.0 (Ampere).",
        evidence=(said.evidence(),),
        remedies=(
            Change(
                title="use float16, or float32 where float16 overflows",
                reach=Reach.SHELL,
                example=("--dtype half", "torch_dtype=torch.float16", "fp16=True, bf16=False"),
            ),
        ),
        breaks=(JOB,),
        shows=(JOB,),
    )


@check.rule
def fp8_unsupported_gpu(
    said: Fp8Unsupported,
    devices: TorchDevices | None,
    gpus: GpuDevices | None,
    printed: tuple[MallocAsyncInUse, ...],
    advice: Advice,
) -> Findings:
    """FP8 matrix products are asked of a GPU below compute capability 8.9."""
    own = lowest(devices, gpus, tuple(each.gpu for each in printed), advice)
    capability = said.compute_capability or (own[1] if own else None)
    if capability is not None and compare_releases(capability, "8.9") >= 0:
        return
    name = own[0] if own else "this GPU"
    yield Finding(
        title=f"FP8 arithmetic is asked of {name}{f' (compute capability {capability})' if capability else ''}, which does not have it",
        confidence=Confidence.CERTAIN if capability else Confidence.LIKELY,
        detail="FP8 matrix products came with compute capability 8.9 (Ada) and 9.0 (Hopper). Weights may be stored in FP8 on older GPUs; "
        "products must then be computed in another format.",
        evidence=(said.evidence(),),
        remedies=(
            Change(
                title="compute in bfloat16 or float16 instead of FP8, and turn the program's fast FP8 mode off",
                reach=Reach.SHELL,
                example=(
                    "torch_dtype=torch.bfloat16",
                    "weights without fp8, or an fp16, bf16, int8 or GGUF variant of the model",
                ),
            ),
        ),
        breaks=(JOB,),
        shows=(JOB,),
    )


@check.rule
def too_old_for_gpu_feature(
    said: FeatureMissing,
    frames: tuple[PackageInTraceback, ...],
    build: TorchBuild | None,
    packages: Distributions | None,
    gpus: GpuDevices | None,
    driver: DriverCuda | None,
    release: DriverRelease | None,
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
) -> Findings:
    """The GPU can do it, and this torch release cannot."""
    first = FEATURES.get(said.name)
    version = torch_version(build, packages)
    if first is None or any(each.module == "torchvision" for each in frames) or not _older(version, first):
        return
    yield Finding(
        title=f"{said.module}.{said.name} came with torch {first}"
        + (f", and this is {version}" if version else ""),
        subject=f"feature:{said.name}",
        confidence=Confidence.CERTAIN if version else Confidence.LIKELY,
        evidence=(said.evidence(), *version_evidence(build, packages)),
        remedies=(_newer(first, build, packages, gpus, driver or release, platform, around, advice),),
        breaks=(JOB,),
        shows=(JOB,),
    )


def _older(version: str | None, first: str) -> bool:
    """Whether a version lacks what a release brought; a version that is not known may."""
    return version is None or compare_releases(version, first) < 0


def _newer(
    first: str,
    build: TorchBuild | None,
    packages: Distributions | None,
    gpus: GpuDevices | None,
    driver: DriverCuda | DriverRelease | None,
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
) -> Install | NoFix:
    needs = advice.needs(gpus, packages, driver, platform, around.python_version if around else None)
    label = build.label if build is not None else ""
    found = advice.at_least(first, label, needs, why=f"{first} is the first that has it")
    return found or NoFix(
        reason=f"no build of torch {first} or newer is known to fit this GPU, driver and Python"
    )


@too_old_for_gpu_feature.sign
def _kernel(
    said: KernelNotImplemented,
    build: TorchBuild | None,
    packages: Distributions | None,
    gpus: GpuDevices | None,
    driver: DriverCuda | None,
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
) -> Findings:
    first = BF16_KERNELS.get(said.kernel) if said.dtype == "BFloat16" else None
    version = torch_version(build, packages)
    if first is None or not _older(version, first):
        return
    yield Finding(
        title=f"this torch{f' ({version})' if version else ''} has no {said.dtype} version of {said.kernel}; {first} brought it",
        subject=f"feature:{said.kernel}",
        confidence=Confidence.CERTAIN if version else Confidence.LIKELY,
        detail="The GPU could do it: the kernel was not compiled for this type yet.",
        evidence=(said.evidence(), *version_evidence(build, packages)),
        remedies=(
            _newer(first, build, packages, gpus, driver, platform, around, advice),
            Change(title="or compute in float16", reach=Reach.SHELL, example=("torch_dtype=torch.float16",)),
        ),
        breaks=(JOB,),
        shows=(JOB,),
    )


@too_old_for_gpu_feature.sign
def _fp8_on_ada(
    said: Fp8Unsupported,
    build: TorchBuild | None,
    packages: Distributions | None,
    devices: TorchDevices | None,
    gpus: GpuDevices | None,
    printed: tuple[MallocAsyncInUse, ...],
    driver: DriverCuda | None,
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
) -> Findings:
    own = lowest(devices, gpus, tuple(each.gpu for each in printed), advice)
    if not said.only_90 or own is None or compare_releases(own[1], "8.9") < 0:
        return
    yield Finding(
        title=f"{own[0]} has FP8, and this torch release knows it on compute capability 9.0 only",
        subject="feature:_scaled_mm",
        severity=Severity.ERROR,
        evidence=(said.evidence(), *version_evidence(build, packages)),
        remedies=(_newer("2.3", build, packages, gpus, driver, platform, around, advice),),
        breaks=(JOB,),
        shows=(JOB,),
    )
