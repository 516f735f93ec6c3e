"""Extensions against torch's CUDA, and numpy's interface against torch's."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import (
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    Platform,
    Reach,
    Remedy,
    Run,
    Severity,
    imports,
    library,
)
from envdoctor.tables import compare_releases, major_minor, release_key
from envdoctor_checks.libraries.facts import LibraryNotFound
from envdoctor_checks.libraries.facts_loader import LoaderPredictions, Opened
from envdoctor_checks.libraries.tables import WheelLibraries
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.advice import Advice
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import CompiledExtensions, TorchBuild
from envdoctor_checks.torch.known import torch_cuda, torch_version, version_evidence
from envdoctor_checks.torch.rules_extensions import extension_of
from envdoctor_checks.torch.symptoms import (
    CudaBinaryMissing,
    ModuleBroke,
    NumpyAbi,
    PackageInTraceback,
)
from envdoctor_checks.torch.tables import Extensions
from envdoctor_checks.torch.versions import label_of_cuda

DECIDING = (
    "libcudart",
    "libcublas",
    "libcublasLt",
    "libnvrtc",
    "libcufft",
    "libcusparse",
    "libcusolver",
    "libnvJitLink",
)
"""Libraries whose SONAME tells the CUDA major; cuDNN's and NCCL's do not."""


def cuda_majors(soname: str, table: WheelLibraries) -> frozenset[int]:
    """The CUDA majors that a SONAME belongs to: ``libcudart.so.12`` to 12 alone. ``libcudart.so.11.0`` to 11."""
    stem = soname.partition(".so")[0]
    if stem not in DECIDING:
        return frozenset()
    if stem == "libcudart":
        match = re.search(r"\.so\.(\d+)", soname)
        return frozenset({int(match[1])} if match else ())
    return frozenset(row.cuda_major for row in table.owners(soname))


@check.rule
def extension_built_for_other_cuda(
    compiled: CompiledExtensions,
    build: TorchBuild,
    packages: Distributions | None,
    advice: Advice,
    predicted: LoaderPredictions | None,
) -> Findings:
    """A compiled extension needs another CUDA major than torch's."""
    if build.torch_cuda is None:
        return
    own = major_minor(build.torch_cuda)[0]
    told: set[str] = set()
    for each in compiled.extensions:
        wrong = [
            name for name in each.needed if (majors := cuda_majors(name, advice.wheels)) and own not in majors
        ]
        if not wrong or each.distribution in told or each.distribution == "bitsandbytes":
            continue  # bitsandbytes brings a library for every CUDA release and loads the one that fits
        told.add(each.distribution)
        wanted = min(cuda_majors(wrong[0], advice.wheels))
        opened = predicted.actual.extension(each.file) if predicted is not None else None
        there = packages is not None and packages.version(f"nvidia-cuda-runtime-cu{wanted}") is not None
        if opened is not None and (opened.failure is None or any(name in opened.failure for name in wrong)):
            there = opened.failure is None
        yield Finding(
            title=f"{each.distribution} {each.version} is built for CUDA {wanted}, and torch {build.version} for CUDA {build.torch_cuda}",
            subject=f"package:{each.distribution}",
            severity=Severity.NOTE if there else Severity.WARNING,
            confidence=Confidence.LIKELY,
            detail=f"It needs {wrong[0]}, which torch does not bring.",
            evidence=(
                compiled.shows("file", each.file),
                compiled.shows("needs", " ".join(wrong)),
                *_foreseen(predicted, opened),
                build.shows("torch", build.version),
            ),
            remedies=tuple(
                _of_this_cuda(
                    each.distribution, each.version, build.version, build.torch_cuda, wanted, advice
                )
            ),
            breaks=() if there else (imports(each.distribution.replace("-", "_")),),
        )


def _foreseen(predicted: LoaderPredictions | None, opened: Opened | None) -> tuple[Evidence, ...]:
    """What the loader would say, by the model of it."""
    if predicted is None or opened is None or opened.failure is None:
        return ()
    return (predicted.shows("the loader would say", opened.failure),)


def _of_this_cuda(
    package: str, version: str | None, torch: str | None, cuda: str, wanted: int, advice: Advice
) -> Iterator[Remedy]:
    label = label_of_cuda(cuda)
    plain = version.partition("+")[0] if version else None
    requirement = f"{package}=={plain}" if plain else package
    yield Run(
        title=f"install a build of {package} for CUDA {cuda} ({label}), or rebuild it from source against this torch",
        commands=(
            f"# wheels for {label}, where {package} publishes them: its release page",
            f"python -m pip install --force-reinstall --no-deps --no-cache-dir --no-build-isolation --no-binary {package} {requirement}",
        ),
        reach=Reach.ENVIRONMENT,
        caveat=f"The build needs nvcc {cuda}.",
    )
    release = torch.partition("+")[0] if torch else None
    having = advice.indexes.having(release) if release else ()
    builds = [row.index for row in having if row.cuda and major_minor(row.cuda)[0] == wanted]
    if builds:
        yield Install(
            requirements=(f"torch=={release}+{builds[0]}",),
            build=builds[0],
            why=f"or the build of the same torch for CUDA {wanted}, where the driver allows it",
        )
    row = advice.wheels.library("libcudart", wanted)
    if row is not None:
        yield Install(
            requirements=(row.distribution,),
            why=f"only the library itself ({row.soname}); the two CUDA runtimes then run side by side",
            caveat="The loader does not look into wheels: LD_LIBRARY_PATH must name its folder.",
        )


@extension_built_for_other_cuda.sign
def _library_missing(
    said: LibraryNotFound,
    broke: tuple[ModuleBroke, ...],
    frames: tuple[PackageInTraceback, ...],
    build: TorchBuild | None,
    packages: Distributions | None,
    known: Extensions,
    advice: Advice,
) -> Findings:
    version = torch_version(build, packages)
    cuda = torch_cuda(build, version)
    majors = cuda_majors(said.library, advice.wheels)
    module, row = extension_of(said.wanted_by, _about(said, broke), frames, known)
    if (
        cuda is None
        or not majors
        or major_minor(cuda)[0] in majors
        or module is None
        or module.startswith("torch.")
    ):
        return
    name = row.distribution if row else module
    installed = packages.version(name) if packages is not None else None
    wanted = min(majors)
    shown = imports(row.module if row else module)
    yield Finding(
        title=f"{name}{f' {installed}' if installed else ''} is built for CUDA {wanted}, and torch {version} for CUDA {cuda}",
        subject=f"package:{name}",
        detail=f"It needs {said.library}, and torch's wheels bring the libraries of CUDA {cuda} only.",
        evidence=(
            said.evidence(),
            *version_evidence(build, packages),
            *((packages.shows(name, installed),) if packages and installed else ()),
        ),
        remedies=tuple(_of_this_cuda(name, installed, version, cuda, wanted, advice)),
        breaks=(shown, library(said.library)),
        shows=(shown,),
    )


def _about(said: LibraryNotFound, broke: tuple[ModuleBroke, ...]) -> tuple[ModuleBroke, ...]:
    """The imports that broke over this library."""
    return tuple(each for each in broke if said.library in each.message)


@extension_built_for_other_cuda.sign
def _no_binary(said: CudaBinaryMissing, build: TorchBuild | None, packages: Distributions | None) -> Findings:
    digits = re.search(r"cuda(\d+)", said.file)
    cuda = f"{digits[1][:-1]}.{digits[1][-1]}" if digits else None
    installed = packages.version(said.package) if packages is not None else None
    yield Finding(
        title=f"{said.package}{f' {installed}' if installed else ''} has no library for CUDA {cuda or 'of this torch'}",
        subject=f"package:{said.package}",
        detail=f"It brings one library per CUDA release and looks for {said.file}, after the CUDA of the installed torch"
        " (or BNB_CUDA_VERSION, where that is set).",
        evidence=(said.evidence(), *version_evidence(build, packages)),
        remedies=(
            Install(
                requirements=(f"{said.package}",),
                reinstall=False,
                why="the newest release, which knows newer CUDA releases",
                caveat="Add --upgrade if an older one is installed.",
            ),
            Run(
                title=f"or upgrade {said.package} and see what it finds",
                commands=(f"python -m pip install --upgrade {said.package}", f"python -m {said.package}"),
                reach=Reach.ENVIRONMENT,
            ),
        ),
        breaks=(imports(said.package),),
        shows=(imports(said.package),),
    )


def _numpy_remedies(torch: str | None, packages: Distributions | None, advice: Advice) -> tuple[Remedy, ...]:
    label = torch.partition("+")[2] if torch else ""
    newer = advice.at_least(
        "2.3", label, advice.needs(None, packages), why="or a torch that works with numpy 2"
    )
    older = Install(
        requirements=("numpy<2",),
        why="the interface that this torch was compiled for",
        verify='python -c "import torch; print(torch.ones(2).numpy())"',
    )
    return (older, newer) if newer is not None else (older,)


@check.rule
def numpy_abi_mismatch(
    packages: Distributions, build: TorchBuild | None, platform: Platform | None, advice: Advice
) -> Findings:
    """torch was compiled against numpy 1.x and numpy 2 is installed, or the reverse."""
    version, numpy = torch_version(build, packages), packages.version("numpy")
    if version is None or numpy is None or release_key(numpy)[0] < 2 or compare_releases(version, "1.0") < 0:
        return
    system = "windows" if platform is not None and platform.system == "windows" else "linux"
    if advice.releases.works_with_numpy_2(version, system):  # type: ignore[arg-type] # one of the two literals
        return
    yield Finding(
        title=f"torch {version} was compiled for numpy 1, and numpy {numpy} is installed",
        subject="package:numpy",
        severity=Severity.WARNING,
        detail="torch imports with a warning, and everything that exchanges arrays with numpy fails: tensor.numpy(), torch.from_numpy(), data loaders.",
        evidence=(packages.shows("numpy", numpy), *version_evidence(build, packages)),
        remedies=_numpy_remedies(version, packages, advice),
        breaks=(imports("numpy"),),
    )


@numpy_abi_mismatch.sign
def _said(
    said: tuple[NumpyAbi, ...],
    build: TorchBuild | None,
    packages: Distributions | None,
    advice: Advice,
) -> Findings:
    if not said:
        return
    version = torch_version(build, packages)
    numpy = next((each.numpy for each in said if each.numpy), None) or (
        packages.version("numpy") if packages else None
    )
    both_fit = version is not None and advice.releases.works_with_numpy_2(version)
    surest = next((each for each in said if each.numpy), said[0])
    shown = imports("numpy")
    yield Finding(
        title=f"numpy{f' {numpy}' if numpy else ''} has another binary interface than the one "
        + (
            "a package here was compiled for"
            if both_fit
            else f"torch{f' {version}' if version else ''} was compiled for"
        ),
        subject="package:numpy",
        confidence=Confidence.CERTAIN
        if any(each.numpy for each in said) and not both_fit
        else Confidence.LIKELY,
        detail="numpy 2 changed its binary interface; modules that were compiled for numpy 1 cannot use it.",
        evidence=tuple(
            each.evidence() for each in (surest, *(other for other in said[:2] if other is not surest))
        )
        + _evidence(packages, numpy),
        remedies=_numpy_remedies(version, packages, advice),
        breaks=(shown,),
        shows=(shown,),
    )


def _evidence(packages: Distributions | None, numpy: str | None) -> tuple[Evidence, ...]:
    installed = packages.version("numpy") if packages is not None else None
    return (
        (packages.shows("numpy", installed),)
        if packages is not None and installed == numpy and installed
        else ()
    )
