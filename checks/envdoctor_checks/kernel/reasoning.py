"""What several rules of the kernel check share: outcomes, whether anything here compiles, remedies."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from envdoctor.api import Asked, Evidence, Outcome, Platform, Reach, Remedy, Run, Severity
from envdoctor.tables import major_minor
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.kernel.facts import CompileStages, Nvcc, Stage
from envdoctor_checks.kernel.symptoms import CompileFailed, CompilerAtWork
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild

TOOLCHAIN = Outcome("compile-toolchain")
COMPILE = Outcome("compile")
BUILD = Outcome("extension-build")
KERNEL = Outcome("kernel-on-gpu")

COMPILES_WHEN_RUN = frozenset({
    "vllm", "sglang", "sgl-kernel", "unsloth", "flashinfer-python", "tilelang", "triton-kernels", "liger-kernel",
    "flash-linear-attention", "deepspeed", "lightllm", "lmdeploy", "torchao",
})  # fmt: skip
"""Distributions that compile kernels while they work, with Triton, Inductor or nvcc: a use of the toolchain."""
SMOKE = 'python -c "import torch; print(torch.compile(lambda x: x * 2)(torch.ones(4)))"'
"""What shows that compiling works again."""


class Use(msgspec.Struct, frozen=True):
    """How much a broken toolchain matters here."""

    severity: Severity
    evidence: tuple[Evidence, ...] = ()


def use_of(
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
    asked: Asked | None = None,
) -> Use | None:
    """Something was seen to compile, or is asked to (`asked`, of what compiling for the processor needs): an error.
    A package that will, and a GPU: a warning. Torch alone: a note.

    None where there is no torch either: nobody here compiles kernels.
    """
    if work:
        return Use(Severity.ERROR, (work[0].evidence("at work"),))
    if asked is not None and asked.device == "cpu":
        return Use(Severity.ERROR, (asked.shows("to be tried", "--device cpu"),))
    if packages is not None and gpus is not None and gpus.devices:
        found = [each for each in packages.distributions if each.name in COMPILES_WHEN_RUN]
        if found:
            text = f"{found[0].name} {found[0].version}"
            return Use(Severity.WARNING, (packages.shows("compiles kernels when it runs", text),))
    has_torch = build is not None and build.version is not None
    return Use(Severity.NOTE) if has_torch else None


def seen_failing(failed: tuple[CompileFailed, ...], default: Outcome = COMPILE) -> tuple[Outcome, ...]:
    """What a text shows to have failed: a build of an extension, or the compiling of kernels."""
    if failed and all(each.what == "extension" for each in failed):
        return (BUILD,)
    return (default,)


def on_windows(platform: Platform | None) -> bool:
    """Whether the machine is known to be one."""
    return platform is not None and platform.system == "windows"


def on_macos(platform: Platform | None) -> bool:
    """Whether the machine is known to be one."""
    return platform is not None and platform.system == "darwin"


def own_folder(variable: str, folder: str, why: str) -> Run:
    """Move a cache. The folder may hold ``$HOME`` or ``$(id -u)``, for the shell to put in."""
    return Run(
        title=f"give it a folder of your own with {variable}: {why}",
        commands=(f'export {variable}="{folder}"', f'mkdir -p "${variable}"'),
        reach=Reach.SHELL,
        needs_restart="process",
    )


def remove(path: str, what: str, *, windows: bool = False, needs_root: bool = False) -> Run:
    """Take a cache away; it is built again when it is next needed."""
    command = f'rmdir /s /q "{path}"' if windows else f"rm -rf {path}"
    return Run(
        title=f"remove {what}",
        commands=(command,),
        reach=Reach.ENVIRONMENT,
        needs_root=needs_root,
        caveat="Kernels are compiled again at the next run, which then takes longer.",
    )


def toolchain_remedy(packages: Iterable[Remedy], *conda: str) -> tuple[Remedy, ...]:
    """System packages, and what conda offers to those who are not root."""
    install = Run(
        title=f"or, without root, from conda-forge: {', '.join(conda)}",
        commands=(f"conda install -y -c conda-forge {' '.join(conda)}",),
        reach=Reach.ENVIRONMENT,
    )
    return (*packages, install)


def at_least_warning(use: Use) -> Severity:
    """A stage that failed, or a variable that names nothing, is more than an absence."""
    return use.severity if use.severity is Severity.ERROR else Severity.WARNING


def said_by(stages: CompileStages, stage: Stage) -> Evidence:
    """What the compiler or the loader said at a stage."""
    return stages.shows(stage.command or stage.name, stage.output)


XCODE = Run(
    title="install Apple's command line tools", commands=("xcode-select --install",), reach=Reach.HOST
)


def nvcc_evidence(nvcc: Nvcc | None) -> tuple[Evidence, ...]:
    """nvcc's release and place, where they are known."""
    return (nvcc.shows("nvcc", f"{nvcc.nvcc_cuda} {nvcc.path or ''}".strip()),) if nvcc is not None else ()


def release_line(cuda: str | None) -> str:
    """``12.4.131`` -> ``12.4``; empty where it is not known."""
    return ".".join(map(str, major_minor(cuda))) if cuda else ""
