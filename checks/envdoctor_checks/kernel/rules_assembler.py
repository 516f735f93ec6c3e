"""The rule about a ptxas, or another code generator, that does not know the GPU."""

from __future__ import annotations

import re

from envdoctor.api import (
    Change,
    Confidence,
    Finding,
    Findings,
    Install,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
)
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import CudaToolkit, Nvcc, PtxAssemblers
from envdoctor_checks.kernel.reasoning import BUILD, COMPILE, SMOKE, use_of
from envdoctor_checks.kernel.rules_driver import used_for
from envdoctor_checks.kernel.symptoms import AssemblerUsed, CompilerAtWork, GpuNameUnknown, PtxTooNew
from envdoctor_checks.kernel.tables import Toolchains
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild


@check.rule
def ptxas_too_old_for_gpu(
    assemblers: PtxAssemblers,
    gpus: GpuDevices,
    toolchains: Toolchains,
    packages: Distributions | None,
    work: tuple[CompilerAtWork, ...],
    build: TorchBuild | None,
    toolkit: CudaToolkit | None,
) -> Findings:
    """The assembler that Triton starts does not know this GPU."""
    use = use_of(work, packages, gpus, build)
    replaced = {row.used_by for row, _ in used_for(assemblers, gpus.devices, "variable")}
    pairs = [
        *used_for(assemblers, gpus.devices, "variable"),
        *(() if replaced else used_for(assemblers, gpus.devices, "triton")),
    ]
    for row, device in pairs:
        capability = device.compute_capability
        if use is None or capability is None or toolchains.knows(row.ptxas_cuda, capability) is not False:
            continue
        if _is_older(toolchains, capability, row.ptxas_cuda):
            continue  # it was dropped from a newer release: another rule's matter
        yield Finding(
            title=f"the ptxas that Triton starts is of CUDA {row.ptxas_cuda} and does not know {device.name} (sm_{capability.replace('.', '')})",
            subject=f"gpu:{device.index}",
            severity=min(use.severity, Severity.WARNING, key=lambda each: -each.order),
            evidence=(
                assemblers.shows(row.path, row.ptxas_cuda),
                gpus.shows(f"GPU {device.index}", f"{device.name}, {capability}"),
                *use.evidence,
            ),
            remedies=newer_assembler(
                _first(toolchains, capability), toolkit.root if toolkit is not None else None
            ),
            breaks=(COMPILE,),
        )


def _is_older(toolchains: Toolchains, capability: str, cuda: str) -> bool:
    row = toolchains.release(cuda)
    numbers = [int(arch.removeprefix("sm_")) for arch in (row.archs or ())] if row is not None else []
    return bool(numbers) and int(capability.replace(".", "")) < min(numbers)


def _first(toolchains: Toolchains, capability: str) -> str | None:
    """The oldest release that knows a capability."""
    return next((row.cuda for row in toolchains.toolchains if toolchains.knows(row.cuda, capability)), None)


def newer_assembler(cuda: str | None, root: str | None = None) -> tuple[Remedy, ...]:
    """One that is there already in a toolkit; else a newer Triton, or a toolkit."""
    folder = root or (f"/usr/local/cuda-{cuda}" if cuda else "/usr/local/cuda")
    path = Run(
        title=f"have Triton start a ptxas of CUDA {cuda or 'a newer release'} or later (TRITON_PTXAS_BLACKWELL_PATH is what Triton 3.6 and later read on Blackwell)",
        commands=(
            f"export TRITON_PTXAS_PATH={folder}/bin/ptxas",
            'export TRITON_PTXAS_BLACKWELL_PATH="$TRITON_PTXAS_PATH"',
            '"$TRITON_PTXAS_PATH" --version',
        ),
        reach=Reach.SHELL,
        needs_restart="process",
        verify=SMOKE,
    )
    newer = Install(
        ("torch", "triton"), why="or install a newer torch, which brings a newer Triton with a newer ptxas"
    )
    return (path, newer)


@ptxas_too_old_for_gpu.sign
def _unknown(
    said: GpuNameUnknown,
    toolchains: Toolchains,
    used: tuple[AssemblerUsed, ...],
    nvcc: Nvcc | None,
    toolkit: CudaToolkit | None,
    gpus: GpuDevices | None,
) -> Findings:
    told = re.search(r"_(\d+)", said.arch)
    number = int(told[1]) if told else 0
    capability = f"{number // 10}.{number % 10}"
    seen = [each.evidence() for each in used[:1]]
    if nvcc is not None:
        seen.append(nvcc.shows("nvcc", nvcc.nvcc_cuda))
    first = _first(toolchains, capability)
    if said.program in ("ptxas", "llvm"):
        there = nvcc is not None and toolchains.knows(nvcc.nvcc_cuda, capability)
        root = toolkit.root if toolkit is not None else "/usr/local/cuda" if there else None
        title = "the ptxas that Triton starts" if said.program == "ptxas" else "the LLVM inside Triton"
        newer = newer_assembler(first, root)
        yield Finding(
            title=f"{title} is too old to know {said.arch}",
            detail=f"CUDA {first} is the first release whose ptxas knows it." if first else "",
            evidence=(said.evidence(), *seen),
            remedies=newer if said.program == "ptxas" else newer[1:],
            breaks=(COMPILE,),
            shows=(COMPILE,),
        )
        return
    dropped = 0 < number < 70
    archs = SetVariable(
        name="TORCH_CUDA_ARCH_LIST",
        value=";".join(sorted({each.compute_capability for each in gpus.devices if each.compute_capability}))
        if gpus is not None and not dropped and gpus.devices
        else "<your GPU's compute capability>",
        why="build for the GPUs at hand only, as far as nvcc knows them",
    )
    toolkit_change = Change(
        title=f"build with a CUDA toolkit that knows it: {f'{first} or later' if first and not dropped else 'an older one' if dropped else 'a newer one'}",
        reach=Reach.HOST,
        example=(f"export CUDA_HOME=/usr/local/cuda-{first}",) if first else (),
    )
    yield Finding(
        title=f"{'nvcc' if said.program == 'nvcc' else 'this torch'} does not know {said.arch}{', which newer releases dropped' if dropped else ''}",
        evidence=(said.evidence(), *seen),
        remedies=(archs, toolkit_change) if dropped else (toolkit_change, archs),
        confidence=Confidence.LIKELY,
        severity=Severity.ERROR,
        breaks=(BUILD,),
        shows=(BUILD,),
    )


@ptxas_too_old_for_gpu.sign
def _ptx_unread(said: PtxTooNew, toolchains: Toolchains) -> Findings:
    if said.reader != "ptxas":
        return
    yield Finding(
        title=f"this ptxas reads PTX up to {said.known or 'an older release'}, and was given {said.ptx or 'a newer one'}",
        evidence=(said.evidence(),),
        remedies=newer_assembler(toolchains.first_for_ptx(said.ptx) if said.ptx else None),
        breaks=(COMPILE,),
        shows=(COMPILE,),
    )
