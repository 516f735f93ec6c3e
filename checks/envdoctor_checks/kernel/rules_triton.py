"""Rules about Triton: whether it is there, fits torch, the GPU and the driver, and the assembler it starts."""

from __future__ import annotations

from envdoctor.api import (
    Change,
    Confidence,
    Finding,
    Findings,
    Install,
    Platform,
    Reach,
    Remedy,
    SetVariable,
    Severity,
)
from envdoctor.tables import compare_releases, major_minor
from envdoctor_checks.gpu.facts import GpuDevice, GpuDevices
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.reasoning import COMPILE, SMOKE, on_windows, use_of
from envdoctor_checks.kernel.symptoms import (
    CompilerAtWork,
    CompilerNotFound,
    HeaderNotFound,
    TritonNameMissing,
    TritonNeedsCapability,
    TritonNotFound,
)
from envdoctor_checks.kernel.tables import Triton
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild
from envdoctor_checks.torch.tables import Companions

NAMES = ("triton", "pytorch-triton", "triton-windows", "torchtriton", "triton-nightly", "pytorch-triton-rocm")
EAGER = SetVariable(
    name="TORCHDYNAMO_DISABLE",
    value="1",
    why="run without torch.compile",
    caveat="The program runs more slowly.",
)


def installed_triton(packages: Distributions | None) -> str | None:
    """The version of Triton, under whichever name it was installed."""
    if packages is None:
        return None
    return next((version for name in NAMES if (version := packages.version(name))), None)


def fitting_triton(build: TorchBuild | None, companions: Companions, platform: Platform | None) -> Install:
    """The Triton that this torch asks for."""
    pin = companions.triton_for(build.release) if build is not None and build.release else None
    if on_windows(platform):
        line = ".".join(map(str, major_minor(pin.triton.lstrip("=~<>")))) if pin else ""
        name = f"triton-windows=={line}.*" if line else "triton-windows"
        return Install((name,), why="Triton's own wheels are for Linux only", verify=SMOKE)
    if pin is not None and build is not None:
        return Install(
            (f"triton{pin.triton}",), why=f"the release that torch {build.release} asks for", verify=SMOKE
        )
    why = "the release that `python -m pip show torch` names under Requires is best had by installing torch again with its dependencies"
    return Install(("triton",), why=why, verify=SMOKE)


@check.rule
def triton_missing(
    build: TorchBuild,
    packages: Distributions,
    companions: Companions,
    gpus: GpuDevices | None,
    work: tuple[CompilerAtWork, ...],
    platform: Platform | None,
) -> Findings:
    """Triton is not installed, with which torch.compile makes kernels for the GPU."""
    use = use_of(work, packages, gpus, build)
    wanted = companions.triton_for(build.release) if build.release else None
    linux = platform is None or (platform.system == "linux" and platform.machine == "x86_64")
    if (
        installed_triton(packages)
        or not packages.complete
        or build.torch_cuda is None
        or use is None
        or wanted is None
        or not linux
    ):
        return
    yield Finding(
        title="torch is installed without Triton, so torch.compile cannot make kernels for the GPU",
        detail="Packages with Triton kernels need it as well. Torch without torch.compile does not.",
        severity=use.severity,
        evidence=(
            build.shows("torch", build.version),
            packages.shows("triton", "not installed"),
            *use.evidence,
        ),
        remedies=(fitting_triton(build, companions, platform),),
        breaks=(COMPILE,),
    )


@triton_missing.sign
def _not_found(
    said: TritonNotFound,
    companions: Companions,
    build: TorchBuild | None,
    packages: Distributions | None,
    platform: Platform | None,
    compilers: tuple[CompilerNotFound, ...],
    headers: tuple[HeaderNotFound, ...],
    names: tuple[TritonNameMissing, ...],
    all_said: tuple[TritonNotFound, ...],
) -> Findings:
    if compilers or headers or names:
        return  # Triton is there, and what it needs is not
    goes_on = not said.fatal or (
        "No module named" in said.quote and any(not each.fatal for each in all_said)
    )  # the program that warns shows the exception that it caught
    found = installed_triton(packages)
    known = (packages.shows("triton", found),) if packages is not None and found else ()
    again: tuple[Remedy, ...] = (fitting_triton(build, companions, platform),)
    if goes_on:
        yield Finding(
            title="a program goes on without Triton",
            severity=Severity.NOTE,
            evidence=(said.evidence(), *known),
            remedies=again,
        )
        return
    yield Finding(
        title="Triton is installed, and cannot be used by the interpreter that runs"
        if found
        else "Triton is not installed",
        detail='It was perhaps installed for another interpreter, or cannot be imported: `python -c "import triton"` shows why.'
        if found
        else "torch's wheels for Linux ask for it; an installation without dependencies (--no-deps), or on Windows, leaves it out.",
        evidence=(said.evidence(), *known),
        remedies=(*again, EAGER),
        confidence=Confidence.POSSIBLE if found else Confidence.CERTAIN,
        breaks=(COMPILE,),
        shows=(COMPILE,),
    )


@check.rule
def triton_torch_mismatch(
    build: TorchBuild,
    packages: Distributions,
    companions: Companions,
    gpus: GpuDevices | None,
    work: tuple[CompilerAtWork, ...],
    platform: Platform | None,
) -> Findings:
    """The installed Triton is of another release than the one torch was made with."""
    use = use_of(work, packages, gpus, build)
    found = installed_triton(packages)
    pin = companions.triton_for(build.release) if build.release else None
    if found is None or pin is None or use is None or build.torch_cuda is None:
        return
    if not pin.triton.startswith("==") or major_minor(pin.triton.removeprefix("==")) == major_minor(found):
        return
    yield Finding(
        title=f"torch {build.release} asks for triton{pin.triton}, and {found} is installed",
        severity=min(use.severity, Severity.WARNING, key=lambda each: -each.order),
        evidence=(build.shows("torch", build.version), packages.shows("triton", found), *use.evidence),
        remedies=(fitting_triton(build, companions, platform),),
        breaks=(COMPILE,),
    )


@triton_torch_mismatch.sign
def _name_missing(
    said: TritonNameMissing,
    companions: Companions,
    build: TorchBuild | None,
    packages: Distributions | None,
    platform: Platform | None,
) -> Findings:
    found = installed_triton(packages)
    pin = companions.triton_for(build.release) if build is not None and build.release else None
    fits = (
        found is not None and pin is not None and major_minor(pin.triton.lstrip("=~<>")) == major_minor(found)
    )
    what = f"{said.module}.{said.name}" if said.name else said.module
    newer = Change(
        title="update the package whose file the traceback names last: it was written for another release of Triton",
        reach=Reach.ENVIRONMENT,
        example=("pip install --upgrade <that package>",),
    )
    known = [packages.shows("triton", found)] if packages is not None and found else []
    if build is not None and build.version:
        known.append(build.shows("torch", build.version))
    yield Finding(
        title=f"the installed Triton{f' {found}' if found else ''} has no {what}",
        detail="Its inner names come and go between releases, so each torch works with the one it asks for.",
        evidence=(said.evidence(), *known),
        remedies=(newer,) if fits else (fitting_triton(build, companions, platform), newer),
        breaks=(COMPILE,),
        shows=(COMPILE,),
    )


def too_old(table: Triton, gpus: GpuDevices | None) -> tuple[GpuDevice, ...]:
    """The GPUs that Triton does not compile for."""
    devices = gpus.devices if gpus is not None else ()
    return tuple(
        each for each in devices if each.compute_capability and not table.supports(each.compute_capability)
    )


@check.rule
def triton_needs_newer_gpu(
    gpus: GpuDevices,
    table: Triton,
    packages: Distributions | None,
    work: tuple[CompilerAtWork, ...],
    build: TorchBuild | None,
) -> Findings:
    """The GPU is older than those that Triton makes kernels for."""
    use = use_of(work, packages, gpus, build)
    for device in too_old(table, gpus):
        if use is not None:
            yield Finding(
                title=f"Triton makes no kernels for {device.name} (compute capability {device.compute_capability})",
                subject=f"gpu:{device.index}",
                severity=min(use.severity, Severity.WARNING, key=lambda each: -each.order),
                evidence=(
                    gpus.shows(f"GPU {device.index}", f"{device.name}, {device.compute_capability}"),
                    *use.evidence,
                ),
                remedies=without_triton("7.0"),
                breaks=(COMPILE,),
            )


def without_triton(needs: str) -> tuple[Remedy, ...]:
    """What runs on an old GPU."""
    code = Change(
        title="or switch compiling off in the program (compile=False, --enforce-eager and the like), or compile with another backend",
        reach=Reach.SHELL,
        example=('torch.compile(model, backend="aot_eager")',),
    )
    newer = Change(
        title=f"or use a GPU of compute capability {needs} or later ({_family(needs)})", reach=Reach.HOST
    )
    return (EAGER, code, newer)


def _family(needs: str) -> str:
    known = {"7": "Volta", "8": "Ampere", "9": "Hopper", "10": "Blackwell", "12": "Blackwell"}
    if needs == "8.9":
        return "Ada"
    return "Turing" if needs == "7.5" else known.get(needs.partition(".")[0], "a newer one")


@triton_needs_newer_gpu.sign
def _gpu_refused(said: TritonNeedsCapability, gpus: GpuDevices | None) -> Findings:
    name = said.gpu or "this GPU"
    have = f" (compute capability {said.compute_capability})" if said.compute_capability else ""
    devices = gpus.devices if gpus is not None else ()
    seen = tuple(
        gpus.shows(f"GPU {each.index}", f"{each.name}, {each.compute_capability}")
        for each in devices
        if gpus is not None
        and each.compute_capability
        and compare_releases(each.compute_capability, said.needs) < 0
    )
    yield Finding(
        title=f"{name}{have} is too old for {'Triton' if said.needs == '7.0' else 'this kernel'}, which takes {said.needs} or later",
        evidence=(said.evidence(), *seen),
        remedies=without_triton(said.needs),
        breaks=(COMPILE,),
        shows=(COMPILE,),
    )
