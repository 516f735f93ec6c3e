"""NVRTC, which compiles kernels while a program runs: its companion library, and GPUs that it does not know."""

from __future__ import annotations

import re

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Finding,
    Findings,
    Install,
    Outcome,
    Reach,
    Remedy,
    library,
)
from envdoctor.tables import compare_releases
from envdoctor_checks.driver.facts import DriverCuda
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.libraries.advice import linked, with_folder
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.clues import Copy, copies_of
from envdoctor_checks.libraries.facts import (
    BuiltinsNotOpened,
    LibraryCopies,
    LibraryNotFound,
    LibrarySeen,
    NvrtcArchUnknown,
    RunPathSeen,
)
from envdoctor_checks.libraries.knowledge import Knowledge
from envdoctor_checks.libraries.names import stem_of
from envdoctor_checks.libraries.owners import Around
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild, TorchRequirements

BUILTINS = "libnvrtc-builtins"


@check.rule
def nvrtc_builtins_missing(
    said: BuiltinsNotOpened,
    seen: tuple[LibrarySeen, ...],
    copies: LibraryCopies | None,
    run_paths: tuple[RunPathSeen, ...],
    know: Knowledge,
    build: TorchBuild | None,
    wanted: TorchRequirements | None,
    installed: Distributions | None,
) -> Findings:
    """NVRTC cannot open its companion libnvrtc-builtins."""
    around = Around(know, build, wanted, installed)
    yield _builtins(said.library, said, copies_of(seen, copies), run_paths, around)


@nvrtc_builtins_missing.sign
def _builtins_not_found(
    said: LibraryNotFound,
    seen: tuple[LibrarySeen, ...],
    copies: LibraryCopies | None,
    run_paths: tuple[RunPathSeen, ...],
    know: Knowledge,
    build: TorchBuild | None,
    wanted: TorchRequirements | None,
    installed: Distributions | None,
) -> Findings:
    if stem_of(said.library) == BUILTINS:
        around = Around(know, build, wanted, installed)
        yield _builtins(said.library, said, copies_of(seen, copies), run_paths, around)


def _builtins(
    name: str,
    said: BuiltinsNotOpened | LibraryNotFound,
    copies: tuple[Copy, ...],
    run_paths: tuple[RunPathSeen, ...],
    around: Around,
) -> Finding:
    found = tuple(copy for copy in copies if copy.library == BUILTINS and _of_release(copy, name))
    plain = next((copy for copy in found if copy.path.endswith(f"/{name}")), None)
    where = plain or (found[0] if found else None)
    return Finding(
        title=f"NVRTC cannot open {name}" + (f", which is there as {where.path}" if where else ""),
        subject=f"library:{name}",
        detail=f"NVRTC opens {name} by its name when it compiles the first kernel. "
        + _why_not(plain, where, name)
        + (
            " A run path of the program counts for what the program itself needs, not for what NVRTC opens."
            if run_paths and plain
            else ""
        ),
        evidence=(
            said.evidence(),
            *((where.evidence,) if where and where.evidence else ()),
            *(each.evidence("run path") for each in run_paths[:1]),
        ),
        remedies=_builtins_remedies(name, plain, where, around),
        breaks=(library(name), Outcome("compile"), Outcome("kernel-on-gpu")),
        shows=(library(name), Outcome("kernel-on-gpu")),
    )


def _of_release(copy: Copy, name: str) -> bool:
    """Whether a file is of the release that is asked for, also under the name that auditwheel gave it."""
    wanted = re.search(r"\.so\.([\d.]+)$", name)
    own = re.search(r"\.so\.([\d.]+)$", copy.path)
    return wanted is None or own is None or f"{own[1]}.".startswith(f"{wanted[1]}.")


def _why_not(plain: Copy | None, where: Copy | None, name: str) -> str:
    if plain is not None:
        return f"The file is in {plain.folder}, where the loader does not look for NVRTC's needs."
    if where is not None:
        return f"The file is there under another name, {where.path.rpartition('/')[2]}: packaging renamed it."
    return f"No file {name} is known of: it comes in the same package as libnvrtc, of the same release."


def _builtins_remedies(
    name: str, plain: Copy | None, where: Copy | None, around: Around
) -> tuple[Remedy, ...]:
    if plain is not None:
        return (with_folder(plain.folder, f"let NVRTC find {name}"),)
    if where is not None and "/" in where.path:
        file = where.path.rpartition("/")[2]
        return (
            linked(where.folder, file, name),
            with_folder(where.folder, f"if the link alone does not help, let NVRTC find {name}"),
        )
    release = re.search(r"(\d+)\.(\d+)", name)
    row = around.owner(name)
    install: tuple[Remedy, ...] = ()
    if row is not None:
        pinned = around.specifier(row.distribution)
        exact = f"=={release[1]}.{release[2]}.*" if release else ""
        install = (
            Install(
                (row.distribution + (pinned or exact),),
                reinstall=True,
                why=f"it brings {name} beside libnvrtc",
            ),
        )
    search = f"find / -name '{BUILTINS}*' -not -path '/proc/*' 2>/dev/null"
    return (
        *install,
        Change(
            f"find {BUILTINS} of the same release and put its folder on LD_LIBRARY_PATH, or link it as {name} beside libnvrtc",
            Reach.SHELL,
            example=(search,),
        ),
    )


@check.rule
def nvrtc_too_old_for_gpu(
    said: NvrtcArchUnknown,
    build: TorchBuild | None,
    gpus: GpuDevices | None,
    driver: DriverCuda | None,
) -> Findings:
    """This NVRTC does not know the GPU's architecture: it is older than the GPU."""
    cuda = build.torch_cuda if build else None
    gpu = gpus.devices[0] if gpus and gpus.devices else None
    of = f" of CUDA {cuda}" if cuda else ""
    label = _newer_build(gpu.compute_capability if gpu else None, driver, cuda)
    yield Finding(
        title=f"NVRTC{of} does not know this GPU's architecture{f' ({gpu.name})' if gpu else ''}",
        subject="library:libnvrtc",
        confidence=Confidence.CERTAIN,
        detail="Kernels that torch fuses while it runs are compiled by NVRTC for the GPU at hand. Each CUDA release "
        "knows the architectures of its time; torch's own kernels may still run, being compatible within a major.",
        evidence=(
            said.evidence(),
            *((build.shows("torch", f"{build.version}, CUDA {cuda}"),) if build and cuda else ()),
            *((gpus.shows("GPU", gpu.name),) if gpus and gpu else ()),
        ),
        remedies=(
            Install(
                ("torch",),
                build=label,
                why="its NVRTC knows the GPU",
                caveat="torchvision, torchaudio and other extensions must follow.",
            ),
        ),
        breaks=(Outcome("compile"), Outcome("kernel-on-gpu")),
        shows=(Outcome("kernel-on-gpu"),),
        asks=()
        if gpu
        else (
            Ask("nvidia-smi --query-gpu=name,compute_cap --format=csv", "which architecture must be known"),
        ),
    )


def _newer_build(capability: str | None, driver: DriverCuda | None, cuda: str | None) -> str:
    """A build of torch that knows the GPU and that the driver can run."""
    speaks = driver.driver_cuda if driver else None
    if speaks is not None and compare_releases(speaks, "12.0") < 0:
        return "cu118"
    if capability is not None and compare_releases(capability, "10.0") >= 0:
        return "cu130" if speaks and compare_releases(speaks, "13.0") >= 0 else "cu128"
    return "cu128" if cuda is not None and compare_releases(cuda, "12.6") >= 0 else "cu126"
