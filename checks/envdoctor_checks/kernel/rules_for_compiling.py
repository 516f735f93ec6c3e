"""Signs over ``--for``: whether Triton, its ptxas and NVRTC make code for GPUs that are not here."""

from __future__ import annotations

from envdoctor.api import (
    Asked,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    Platform,
    Reach,
    Severity,
)
from envdoctor.tables import compare_releases, major_minor
from envdoctor_checks.driver.tables import Architectures, CudaFloors
from envdoctor_checks.kernel.facts import PtxAssemblers
from envdoctor_checks.kernel.facts_for import CompiledFor, TargetCompile
from envdoctor_checks.kernel.reasoning_for import Outlook, capability_of, outlooks, triton_assembler
from envdoctor_checks.kernel.rules_assembler import newer_assembler, ptxas_too_old_for_gpu
from envdoctor_checks.kernel.rules_compiling import compile_failed
from envdoctor_checks.kernel.rules_driver import newer_driver, older_assembler, triton_needs_newer_driver
from envdoctor_checks.kernel.rules_for import said_asked
from envdoctor_checks.kernel.rules_triton import (
    fitting_triton,
    installed_triton,
    triton_missing,
    triton_needs_newer_gpu,
    without_triton,
)
from envdoctor_checks.kernel.tables import Toolchains, Triton
from envdoctor_checks.libraries.rules_nvrtc import nvrtc_too_old_for_gpu
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.advice import Advice
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda
from envdoctor_checks.torch.tables import Companions, PackageIndexes

UNKNOWN_NAME = "is not defined for option 'gpu-name'"
"""What ptxas says of an architecture that it does not know."""


@triton_missing.sign
def _nothing_compiles_there(
    asked: Asked,
    build: TorchBuild,
    packages: Distributions,
    companions: Companions,
    platform: Platform | None,
) -> Findings:
    wanted = companions.triton_for(build.release) if build.release else None
    linux = platform is None or (platform.system == "linux" and platform.machine == "x86_64")
    if (
        not asked.architectures
        or installed_triton(packages)
        or not packages.complete
        or build.torch_cuda is None
        or wanted is None
        or not linux
    ):
        return
    yield Finding(
        title="torch is installed without Triton, so torch.compile cannot make kernels for the GPUs asked about",
        severity=Severity.WARNING,
        evidence=(
            build.shows("torch", build.version),
            packages.shows("triton", "not installed"),
            *said_asked(asked),
        ),
        remedies=(fitting_triton(build, companions, platform),),
    )


@triton_needs_newer_gpu.sign
def _older_gpu_there(asked: Asked, build: TorchBuild, packages: Distributions, table: Triton) -> Findings:
    if build.torch_cuda is None or installed_triton(packages) is None:
        return
    for each in asked.architectures:
        if not table.supports(capability_of(each)):
            yield Finding(
                title=f"Triton makes no kernels for {each} that it answers for: it takes 7.0 or later",
                subject=f"gpu:{each}",
                severity=Severity.WARNING,
                evidence=(*said_asked(asked), packages.shows("triton", installed_triton(packages))),
                remedies=without_triton("7.0"),
            )


@ptxas_too_old_for_gpu.sign
def _ptxas_does_not_know_it(
    asked: Asked,
    packages: Distributions,
    assemblers: PtxAssemblers | None,
    compiled: CompiledFor | None,
    build: TorchBuild | None,
    cuda: TorchCuda | None,
    platform: Platform | None,
    table: Triton,
    toolchains: Toolchains,
    advice: Advice,
    architectures: Architectures,
) -> Findings:
    """By trying, where it was tried; else by the release of the ptxas that Triton would start."""
    if build is None or build.torch_cuda is None:
        return
    for each in outlooks(asked, build, cuda, platform, advice, architectures):
        tried = compiled.of(each.architecture) if compiled is not None else None
        release = triton_assembler(each, asked, assemblers, packages, table)
        refused = tried is not None and UNKNOWN_NAME in tried.error
        older = release is not None and _is_older(toolchains, release, each)
        if each.chip is None or not (refused or (tried is None and older)):
            continue
        first = next(
            (row.cuda for row in toolchains.toolchains if toolchains.knows(row.cuda, each.capability)), None
        )
        yield Finding(
            title=f"the ptxas that Triton starts{f' is of CUDA {release} and' if release else ''} does not know {each.architecture}",
            subject=each.subject,
            severity=Severity.WARNING,
            confidence=Confidence.CERTAIN if refused or assemblers is not None else Confidence.LIKELY,
            detail="torch's own kernels may run there; what torch.compile and Triton make does not."
            + (f" CUDA {first} is the first release whose ptxas knows it." if first else ""),
            evidence=(
                *((_tried(compiled, tried),) if compiled is not None and tried is not None else ()),
                *((assemblers.shows("ptxas", release),) if assemblers is not None and release else ()),
                packages.shows("triton", installed_triton(packages) or "not installed"),
                *said_asked(asked),
            ),
            remedies=newer_assembler(first),
        )


def _is_older(toolchains: Toolchains, cuda: str, outlook: Outlook) -> bool:
    """Whether a release came before the GPU; one that dropped the GPU is newer."""
    first = outlook.chip.first_toolkit if outlook.chip is not None else None
    return (
        first is not None
        and toolchains.knows(cuda, outlook.capability) is False
        and compare_releases(cuda, first) < 0
    )


def _tried(compiled: CompiledFor, tried: TargetCompile) -> Evidence:
    lines = [line.strip() for line in tried.error.splitlines() if line.strip()]
    said = next((line for line in lines if "fatal" in line), lines[0] if lines else "")
    return compiled.shows(f"compiling for {tried.architecture}", said)


@compile_failed.sign
def _not_compiled_for(asked: Asked, compiled: CompiledFor) -> Findings:
    for each in compiled.targets:
        if each.ok or UNKNOWN_NAME in each.error:
            continue
        watch = Change(
            title="see what Triton itself says, with a cache of its own",
            reach=Reach.SHELL,
            example=(
                "export TRITON_CACHE_DIR=$(mktemp -d)",
                'python -c "import triton; print(triton.__version__)"',
            ),
        )
        yield Finding(
            title=f"Triton {compiled.triton} could not compile a small kernel for {each.architecture}",
            subject=f"gpu:{each.architecture}",
            severity=Severity.WARNING,
            detail=f"What it said ends so: {each.error[-600:]}",
            evidence=(_tried(compiled, each), *said_asked(asked)),
            remedies=(
                Install(
                    ("torch", "triton"), why="a newer torch brings a newer Triton, which knows newer GPUs"
                ),
                watch,
            ),
        )


@triton_needs_newer_driver.sign
def _older_driver_than_ptxas(
    asked: Asked,
    build: TorchBuild,
    packages: Distributions,
    assemblers: PtxAssemblers | None,
    cuda: TorchCuda | None,
    platform: Platform | None,
    table: Triton,
    floors: CudaFloors,
    advice: Advice,
    architectures: Architectures,
) -> Findings:
    speaks = floors.native_cuda(asked.driver) if asked.driver else None
    if speaks is None or build.torch_cuda is None or installed_triton(packages) is None:
        return
    if major_minor(build.torch_cuda)[0] > major_minor(speaks)[0]:
        return  # torch itself does not start there
    for each in outlooks(asked, build, cuda, platform, advice, architectures):
        release = triton_assembler(each, asked, assemblers, packages, table)
        if (
            release is None
            or each.chip is None
            or each.chip.tegra
            or major_minor(release)[0] <= major_minor(speaks)[0]
        ):
            continue
        yield Finding(
            title=f"Triton assembles kernels for {each.architecture} with CUDA {release}; driver {asked.driver} speaks CUDA {speaks}",
            subject=each.subject,
            severity=Severity.WARNING,
            evidence=(packages.shows("triton", installed_triton(packages)), *said_asked(asked)),
            remedies=(*newer_driver(release, floors), older_assembler(speaks)),
        )


@nvrtc_too_old_for_gpu.sign
def _nvrtc_does_not_know_it(
    asked: Asked,
    build: TorchBuild,
    cuda: TorchCuda | None,
    platform: Platform | None,
    toolchains: Toolchains,
    indexes: PackageIndexes,
    advice: Advice,
    architectures: Architectures,
) -> Findings:
    """Where torch has code for it: without, nothing gets as far as NVRTC."""
    if build.torch_cuda is None:
        return
    for each in outlooks(asked, build, cuda, platform, advice, architectures):
        if each.piece is None or not _is_older(toolchains, build.torch_cuda, each):
            continue
        newer = _builds_that_know(build, each, asked, toolchains, indexes, advice)
        yield Finding(
            title=f"NVRTC of CUDA {build.torch_cuda} does not know {each.architecture}",
            subject=each.subject,
            severity=Severity.WARNING,
            confidence=Confidence.LIKELY,
            detail=f"torch's own kernels run there ({each.piece}); those that it compiles with NVRTC while it runs may not.",
            evidence=(build.shows("torch", f"{build.version}, CUDA {build.torch_cuda}"), *said_asked(asked)),
            remedies=tuple(
                Install((f"torch=={build.release}+{index}",), build=index, why="its NVRTC knows the GPU")
                for index in newer[:1]
            ),
        )


def _builds_that_know(
    build: TorchBuild,
    outlook: Outlook,
    asked: Asked,
    toolchains: Toolchains,
    indexes: PackageIndexes,
    advice: Advice,
) -> list[str]:
    """The CUDA indexes with this release whose NVRTC knows the GPU and whose CUDA the named driver runs, oldest first."""
    speaks = advice.floors.native_cuda(asked.driver) if asked.driver else None
    return [
        row.index
        for row in (indexes.having(build.release) if build.release else ())
        if row.cuda
        and toolchains.knows(row.cuda, outlook.capability)
        and (speaks is None or major_minor(row.cuda)[0] <= major_minor(speaks)[0])
    ]
