"""The machine code in torch, against the GPUs."""

from __future__ import annotations

from msgspec import structs

from envdoctor.api import (
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
    SetVariable,
    Severity,
    Source,
    gpu,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.facts import DriverCuda, DriverRelease
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.advice import Advice, Needs, wheel_platform
from envdoctor_checks.torch.binaries import kernel_for
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda, TorchDevices
from envdoctor_checks.torch.known import (
    Gpu,
    code_of_torch,
    gpus_seen,
    present,
    runs,
    torch_cuda,
    torch_version,
    version_evidence,
)
from envdoctor_checks.torch.symptoms import (
    ArchUnsupported,
    BinaryArchs,
    ExtensionNeedsGpu,
    NoKernelImage,
)
from envdoctor_checks.torch.versions import is_official

KERNEL = Outcome("kernel-on-gpu")
OF_TORCH = ("aten/", "c10/", "torch/csrc", "/THC", "caffe2/")
"""Parts of the source paths in messages that torch itself prints."""


@check.rule
def arch_not_in_build(
    cuda: TorchCuda | None,
    build: TorchBuild | None,
    devices: TorchDevices | None,
    gpus: GpuDevices | None,
    packages: Distributions | None,
    driver: DriverCuda | None,
    release: DriverRelease | None,
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
) -> Findings:
    """This torch has no kernels for the GPU's compute capability: it is too new, or was dropped."""
    version = torch_version(build, packages)
    built_for = torch_cuda(build, version)
    code = code_of_torch(cuda, build, version, advice, wheel_platform(platform))
    seen = gpus_seen(devices, gpus, advice)
    lost = [each for each in seen if code and not runs(code, each.capability, built_for)]
    if build is not None and build.accelerator != "cuda":
        return
    for each in lost:
        needs = advice.needs(
            None, packages, driver or release, platform, around.python_version if around else None
        )
        whole = len(lost) == len(seen)
        yield Finding(
            title=f"torch {version or ''} has no kernels for {each.name} (compute capability {each.capability})".replace(
                "  ", " "
            ),
            subject=f"gpu:{each.index}",
            severity=Severity.ERROR if whole or each.visible else Severity.WARNING,
            detail=_direction(each.capability, code or ()),
            evidence=(
                *version_evidence(build, packages),
                _code_evidence(cuda, build, packages, code or ()),
                Evidence(
                    "GPU",
                    f"{each.name}, compute capability {each.capability}",
                    _source(devices, gpus),
                ),
            ),
            remedies=_other_build(version, each, seen, _with(needs, each.capability), advice, code or ()),
            breaks=(KERNEL,) if whole else (gpu(each.index),),
        )


def _with(needs: Needs, capability: str) -> Needs:
    return structs.replace(needs, capabilities=(*needs.capabilities, capability))


def _code_evidence(
    cuda: TorchCuda | None, build: TorchBuild | None, packages: Distributions | None, code: tuple[str, ...]
) -> Evidence:
    listed = " ".join(code)
    if cuda is not None and cuda.arch_list:
        return cuda.shows("compiled for", listed)
    source = build.source if build is not None else packages.source if packages is not None else None
    return Evidence("compiled for", listed, source)


def _source(devices: TorchDevices | None, gpus: GpuDevices | None) -> Source | None:
    if devices is not None and devices.devices:
        return devices.source
    return gpus.source if gpus is not None else None


def _direction(capability: str, code: tuple[str, ...]) -> str:
    numbers = sorted(
        int("".join(each for each in arch.partition("_")[2] if each.isdigit()) or 0)
        for arch in code
        if arch.startswith("sm_")
    )
    own = int(capability.replace(".", ""))
    if numbers and own > numbers[-1]:
        return "The GPU is newer than every architecture in this build, and there is no PTX that the driver could compile for it."
    if numbers and own < numbers[0]:
        return "The GPU is older than every architecture in this build: support for it was dropped."
    return "None of the architectures in this build is of the GPU's major with the same or a lower minor."


def _other_build(
    version: str | None, lost: Gpu, seen: tuple[Gpu, ...], needs: Needs, advice: Advice, code: tuple[str, ...]
) -> tuple[Remedy, ...]:
    found: list[Remedy] = []
    others = [each for each in seen if each != lost and runs(code, each.capability, None)]
    if others:
        listed = ",".join(str(each.index) for each in others)
        found.append(
            SetVariable(name="CUDA_VISIBLE_DEVICES", value=listed, why=f"use {others[0].name} instead")
        )
    keep = version if version and is_official(version) else None
    install = advice.install(keep, needs, why=f"with kernels for compute capability {lost.capability}")
    if install is not None:
        return (*found, install)
    arch = lost.capability
    found.append(
        Run(
            title=f"build torch from source for compute capability {arch}: no published build that fits has it",
            commands=(
                "git clone --recursive https://github.com/pytorch/pytorch && cd pytorch",
                f'TORCH_CUDA_ARCH_LIST="{arch}" python -m pip install --no-build-isolation -v .',
            ),
            reach=Reach.ENVIRONMENT,
            caveat=f"The CUDA toolkit used for it must still know sm_{arch.replace('.', '')}; an older torch release may have had the kernels.",
        )
    )
    return tuple(found)


@arch_not_in_build.sign
def _warned(
    said: ArchUnsupported,
    build: TorchBuild | None,
    cuda: TorchCuda | None,
    gpus: GpuDevices | None,
    packages: Distributions | None,
    driver: DriverCuda | None,
    release: DriverRelease | None,
    platform: Platform | None,
    around: Surroundings | None,
    failed: tuple[NoKernelImage, ...],
    advice: Advice,
) -> Findings:
    how = kernel_for(said.archs, said.compute_capability) if said.archs else None
    if how == "machine-code" or (how == "ptx" and not failed):
        return  # torch up to 2.9 looks at neither PTX nor later minors of a major
    version = torch_version(build, packages)
    needs = advice.needs(
        None, packages, driver or release, platform, around.python_version if around else None
    )
    seen = gpus_seen(None, gpus, advice)
    lost = next(
        (each for each in seen if each.name == said.gpu), Gpu(-1, said.gpu, said.compute_capability, True)
    )
    code = said.archs or (cuda.arch_list if cuda and cuda.arch_list else ())
    yield Finding(
        title=f"torch {version or ''} has no kernels for {said.gpu} (compute capability {said.compute_capability})".replace(
            "  ", " "
        ),
        subject=f"gpu:{lost.index}" if lost.index >= 0 else "",
        detail=_direction(said.compute_capability, code)
        if code
        else "torch says so itself when it first uses the GPU.",
        evidence=(
            said.evidence("warning"),
            *version_evidence(build, packages),
            *(each.evidence() for each in failed[:1]),
        ),
        remedies=_other_build(version, lost, seen, _with(needs, said.compute_capability), advice, code),
        breaks=(KERNEL,),
        shows=(KERNEL,),
    )


@arch_not_in_build.sign
def _no_image(
    said: NoKernelImage,
    warned: tuple[ArchUnsupported, ...],
    refused: tuple[ExtensionNeedsGpu, ...],
    binaries: tuple[BinaryArchs, ...],
    cuda: TorchCuda | None,
    build: TorchBuild | None,
    devices: TorchDevices | None,
    gpus: GpuDevices | None,
    packages: Distributions | None,
    driver: DriverCuda | None,
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
) -> Findings:
    """Only where nothing says that the missing code is an extension's."""
    if warned or refused or binaries or is_extensions(said):
        return
    version = torch_version(build, packages)
    code = code_of_torch(cuda, build, version, advice, wheel_platform(platform))
    seen = gpus_seen(devices, gpus, advice)
    lost = [each for each in seen if code and not runs(code, each.capability, torch_cuda(build, version))]
    if code and seen and not lost:
        return
    needs = advice.needs(gpus, packages, driver, platform, around.python_version if around else None)
    known = lost[0] if lost else None
    remedy = advice.install(
        version if version and is_official(version) else None,
        _with(needs, known.capability) if known else needs,
    )
    yield Finding(
        title=f"a CUDA kernel has no code for {known.name if known else 'this GPU'}",
        subject=f"gpu:{known.index}" if known else "",
        confidence=Confidence.CERTAIN if known else Confidence.LIKELY,
        detail="torch, or an extension, was compiled for other compute capabilities than the GPU's.",
        evidence=(said.evidence(), *version_evidence(build, packages)),
        remedies=tuple(present(remedy))
        or (NoFix(reason="no published build of torch is known to have kernels for this GPU"),),
        breaks=(KERNEL,),
        shows=(KERNEL,),
    )


def is_extensions(said: NoKernelImage) -> bool:
    """Whether the source file in the message is none of torch's."""
    return said.said_by is not None and not any(part in said.said_by for part in OF_TORCH)
