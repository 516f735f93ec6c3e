"""Signs over ``--for`` and ``--driver``: whether what is installed runs on a GPU and driver that are not here.

Each belongs to the rule that says the same of a GPU that is here. They break nothing but the job that was asked about,
so that they neither explain away what fails on this machine nor keep its own GPUs from being tried.
"""

from __future__ import annotations

from msgspec import structs

from envdoctor.api import (
    Ask,
    Asked,
    Evidence,
    Finding,
    Findings,
    NoFix,
    Platform,
    Remedy,
    Severity,
    Unavailable,
    UpgradeDriver,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.rules_support import gpu_not_supported
from envdoctor_checks.driver.rules_torch import older_build, too_old_for_torch
from envdoctor_checks.driver.tables import Architectures
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.reasoning import on_windows
from envdoctor_checks.kernel.reasoning_for import (
    Outlook,
    driver_needs,
    dropped_by,
    floor_of,
    outlooks,
    unmet,
    wanted_gpus,
)
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.advice import Advice, Needs
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda
from envdoctor_checks.torch.known import present
from envdoctor_checks.torch.rules_arch import arch_not_in_build
from envdoctor_checks.torch.rules_build import cpu_only_build, wrong_accelerator_build
from envdoctor_checks.torch.rules_import import not_installed
from envdoctor_checks.torch.tables import PackageIndexes
from envdoctor_checks.torch.versions import is_official

ASK = Ask(
    'python -c "import torch; print(torch.__version__, torch._C._cuda_getArchFlags())"',
    "for which architectures torch has code; no GPU is needed to ask",
)


def listed(asked: Asked) -> str:
    """``sm_90 and sm_120``."""
    *first, last = asked.architectures
    return f"{', '.join(first)} and {last}" if first else last


def build_for(
    asked: Asked,
    keep: str | None,
    packages: Distributions | None,
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
    *,
    only: str | None = None,
) -> tuple[Remedy, ...]:
    """torch with code for all that was asked for, else for `only`; that driver's CUDA, if one was named, must run it."""
    gpus = wanted_gpus(asked)
    release = keep if keep and is_official(keep) else None
    needs = advice.needs(gpus, packages, None, platform, around.python_version if around else None)
    spoken = advice.floors.native_cuda(asked.driver) if asked.driver else None
    for capabilities in (needs.capabilities, (only,) if only else ()):
        wanted = Needs(capabilities, spoken, needs.platform, needs.python, needs.sisters)
        found = advice.install(
            release, wanted, why=f"with kernels for compute capability {', '.join(capabilities)}"
        )
        if capabilities and found is not None:
            lacks = (
                "" if capabilities == needs.capabilities else "No build has code for all that was asked for."
            )
            return (structs.replace(found, caveat=lacks),)
    with_driver = f" and that driver {asked.driver} runs" if asked.driver else ""
    return (
        NoFix(reason=f"no published build of torch is known that has code for {listed(asked)}{with_driver}"),
    )


def said_asked(asked: Asked) -> tuple[Evidence, ...]:
    """What the user asked about, as evidence."""
    driver = (asked.shows("--driver", asked.driver),) if asked.driver else ()
    return (asked.shows("--for", ",".join(asked.architectures)), *driver)


def jobs(asked: Asked) -> tuple[Outlook, ...]:
    """The architectures with nothing known of torch's code."""
    return tuple(Outlook(each, "", None, None, None, None) for each in asked.architectures)


@not_installed.sign
def _nothing_to_run(
    asked: Asked,
    build: TorchBuild,
    packages: Distributions | None,
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
) -> Findings:
    if not asked.architectures or build.version is not None or build.path is not None:
        return
    yield Finding(
        title=f"torch is not installed, and is to run on {listed(asked)}",
        evidence=said_asked(asked),
        remedies=build_for(asked, None, packages, platform, around, advice),
        breaks=tuple(each.job for each in jobs(asked)),
    )


@cpu_only_build.sign
def _for_cpu_only(
    asked: Asked,
    build: TorchBuild,
    packages: Distributions | None,
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
) -> Findings:
    if not asked.architectures or build.version is None or build.accelerator != "cpu":
        return
    yield Finding(
        title=f"torch {build.version} is built for the CPU only, and is to run on {listed(asked)}",
        detail="Its version.py names no CUDA, so it runs on no GPU at all, whatever the driver.",
        evidence=(
            build.shows("torch", build.version),
            build.shows("built with CUDA", "none"),
            *said_asked(asked),
        ),
        remedies=build_for(asked, build.version, packages, platform, around, advice),
        breaks=tuple(each.job for each in jobs(asked)),
    )


@wrong_accelerator_build.sign
def _for_another_maker(
    asked: Asked,
    build: TorchBuild,
    packages: Distributions | None,
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
) -> Findings:
    if not asked.architectures or build.version is None or build.accelerator not in ("rocm", "xpu"):
        return
    kind = "AMD GPUs (ROCm)" if build.accelerator == "rocm" else "Intel GPUs (XPU)"
    yield Finding(
        title=f"torch {build.version} is built for {kind}, and is to run on {listed(asked)}",
        evidence=(build.shows("torch", build.version), *said_asked(asked)),
        remedies=build_for(asked, build.version, packages, platform, around, advice),
        breaks=tuple(each.job for each in jobs(asked)),
    )


@arch_not_in_build.sign
def _no_code_for(
    asked: Asked,
    build: TorchBuild,
    cuda: TorchCuda | None,
    packages: Distributions | None,
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
    table: Architectures,
) -> Findings:
    if build.accelerator != "cuda":
        return
    for each in outlooks(asked, build, cuda, platform, advice, table):
        if each.chip is None or not each.code or each.piece is not None:
            continue
        told = cuda if cuda is not None and cuda.arch_list else build
        yield Finding(
            title=f"torch {build.version} has no kernels for {each.architecture} ({each.chip.architecture})",
            subject=each.subject,
            detail=f"A GPU of compute capability {each.capability} runs machine code for its own major with the same or a lower minor, "
            "and PTX for its own or a lower capability, which the driver compiles. Nothing of that is in this build.",
            evidence=(
                build.shows("torch", build.version),
                told.shows("compiled for", " ".join(each.code)),
                *said_asked(asked),
            ),
            remedies=build_for(
                asked, build.version, packages, platform, around, advice, only=each.capability
            ),
            breaks=(each.job,),
        )


@too_old_for_torch.sign
def _older_driver_there(
    asked: Asked,
    build: TorchBuild,
    cuda: TorchCuda | None,
    platform: Platform | None,
    advice: Advice,
    indexes: PackageIndexes,
    table: Architectures,
) -> Findings:
    if asked.driver is None or build.torch_cuda is None:
        return
    found = outlooks(asked, build, cuda, platform, advice, table)
    needs = {
        need.why: (need, each)
        for each in found
        for need in unmet(
            driver_needs(each, build.torch_cuda, advice.floors, on_windows(platform)), asked.driver
        )
    }
    if "torch" not in needs and "ptx" not in needs:
        return
    need, outlook = needs.get("torch") or needs["ptx"]
    speaks = advice.floors.native_cuda(asked.driver)
    if need.why == "torch":
        title = (
            f"driver {asked.driver} is too old for PyTorch {build.version}, which needs {need.floor} or newer"
        )
        detail = f"A PyTorch built for CUDA {build.torch_cuda} runs on every driver from {need.floor} on (minor-version compatibility), and on none older."
    else:
        title = f"driver {asked.driver} cannot compile the PTX in PyTorch {build.version}, all that it has for {outlook.architecture}"
        detail = f"{outlook.piece} is PTX of CUDA {build.torch_cuda}; a driver compiles that of its own CUDA{f', {speaks},' if speaks else ''} and of older ones. Minor-version compatibility does not cover it."
    lower = older_build(build.release, speaks, indexes, wanted_gpus(asked)) if "gpu" not in needs else None
    yield Finding(
        title=title,
        subject=f"driver:{asked.driver}",
        detail=detail,
        evidence=(build.shows("torch", f"{build.version}, CUDA {build.torch_cuda}"), *said_asked(asked)),
        remedies=(
            *present(lower if need.why == "torch" else None),
            UpgradeDriver(need.floor, why="on the machines that have the GPU", verify="nvidia-smi"),
        ),
        breaks=tuple(each.job for each in found) if need.why == "torch" else (outlook.job,),
    )


@gpu_not_supported.sign
def _driver_knows_no_such_gpu(
    asked: Asked,
    build: TorchBuild | None,
    cuda: TorchCuda | None,
    platform: Platform | None,
    advice: Advice,
    table: Architectures,
) -> Findings:
    """Whatever is installed here: it is between the driver and the GPU. What torch needs only raises the floor."""
    known = build or TorchBuild(version=None, source=asked.source)
    for each in outlooks(asked, known, cuda, platform, advice, table) if asked.driver else ():
        last = dropped_by(each, asked.driver)
        needs = driver_needs(each, known.torch_cuda, advice.floors, on_windows(platform))
        missing = tuple(need for need in unmet(needs, asked.driver) if need.why == "gpu")
        if each.chip is None or not (last or missing):
            continue
        floor = floor_of(missing)
        why = f"it is served from {floor} on" if floor else f"its last driver branch is {last}"
        upgrade = UpgradeDriver(
            floor_of(needs) or "",
            open_modules=each.chip.kernel_modules == "open",
            why="on the machines that have the GPU",
        )
        yield Finding(
            title=f"driver {asked.driver} does not support {each.architecture} ({each.chip.architecture}): {why}",
            subject=each.subject,
            evidence=(*said_asked(asked), table.cite(each.chip, "support", why)),
            remedies=(upgrade,)
            if floor
            else (NoFix(reason=f"a machine with this GPU must stay on driver branch {last}"),),
            breaks=(each.job,),
        )


@check.rule
def absent_gpu_undecided(
    asked: Asked,
    build: TorchBuild | Unavailable | None,
    cuda: TorchCuda | None,
    platform: Platform | None,
    advice: Advice,
    table: Architectures,
) -> Findings:
    """Whether this environment runs on a GPU that was asked about cannot be told."""
    known = build if isinstance(build, TorchBuild) else None
    nothing = TorchBuild(version=None, source=asked.source)
    for each in outlooks(asked, known or nothing, cuda, platform, advice, table):
        why = open_question(each, build)
        if why is None:
            continue
        yield Finding(
            title=f"cannot tell whether this environment runs on {each.architecture}: {why}",
            subject=each.subject,
            severity=Severity.WARNING,
            detail="What is not known is not taken for well.",
            evidence=(
                *said_asked(asked),
                *((known.shows("torch", known.version),) if known and known.version else ()),
            ),
            asks=(ASK,) if each.chip is not None else (),
        )


def open_question(outlook: Outlook, build: TorchBuild | Unavailable | None) -> str | None:
    """What keeps us from telling; None where nothing does."""
    if outlook.chip is None:
        return "no GPU of that architecture is in the tables"
    if isinstance(build, Unavailable):
        return f"torch could not be looked at ({build.reason})"
    if build is None:
        return "nothing is recorded of torch"
    if build.accelerator != "cuda" or outlook.code:
        return None
    return f"the architectures in torch {build.version} are not known"
