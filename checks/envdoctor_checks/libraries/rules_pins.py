"""Wheels that are not the ones torch was built with, and a conda toolkit of another CUDA release."""

from __future__ import annotations

import re

from envdoctor.api import (
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    Outcome,
    Reach,
    Run,
    Severity,
    imports,
)
from envdoctor.tables import compare_releases, major_minor, release_key
from envdoctor.text.late import Late
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.clues import in_wheel
from envdoctor_checks.libraries.facts import LibraryNotFound, SubLibraryMismatch, UndefinedSymbol
from envdoctor_checks.libraries.knowledge import Knowledge
from envdoctor_checks.libraries.names import family_of, is_cuda, provider_of, stem_of
from envdoctor_checks.libraries.owners import Around, failed
from envdoctor_checks.python.facts import (
    CondaPackage,
    CondaPackages,
    Distributions,
    RequirementConflict,
)
from envdoctor_checks.torch.facts import TorchBuild, TorchRequirements

CLAUSE = Late(r"\s*(==|!=|<=|>=|<|>|~=|===)\s*([\w.*+!-]+)\s*")


@check.rule
def wheel_pins_violated(
    wanted: TorchRequirements,
    installed: Distributions,
    know: Knowledge,
    undefined: tuple[UndefinedSymbol, ...],
    mismatch: tuple[SubLibraryMismatch, ...],
) -> Findings:
    """An nvidia-* wheel is not at the version that torch's metadata asks for, extras included."""
    blamed = _blamed(know, undefined, mismatch)
    for asked in wanted.requirements:
        have = installed.version(asked.name)
        if not asked.name.startswith("nvidia-") or have is None or satisfied(have, asked.specifier):
            continue
        yield Finding(
            title=f"{asked.name} {have} is installed; torch asks for {asked.specifier}",
            subject=f"distribution:{asked.name}",
            severity=Severity.ERROR if asked.name in blamed else Severity.WARNING,
            confidence=Confidence.CERTAIN if asked.name in blamed else Confidence.LIKELY,
            detail=f"{asked.wanted_by} names that release because this torch was built and tested with it. pip lets "
            "another package's requirement change it later, and pip check does not follow extras.",
            evidence=(
                wanted.shows("asked for", f"{asked.name}{asked.specifier}"),
                installed.shows("installed", f"{asked.name} {have}"),
            ),
            remedies=(
                Install((f"{asked.name}{asked.specifier}",), why="the release that torch was built with"),
            ),
            breaks=(imports("torch"), Outcome("kernel-on-gpu")) if asked.name in blamed else (),
        )


def _blamed(
    know: Knowledge, undefined: tuple[UndefinedSymbol, ...], mismatch: tuple[SubLibraryMismatch, ...]
) -> set[str]:
    """The wheels whose libraries a message names."""
    stems = {family_of(each.library) for each in mismatch}
    for each in undefined:
        provider = provider_of(each.symbol, each.version)
        stems |= {family_of(stem_of(provider) or provider)} if provider else set()
    return {row.distribution for row in know.wheels.libraries if family_of(row.library) in stems}


def satisfied(version: str, specifier: str) -> bool:
    """Whether a release fits ``==12.8.*`` or ``>=2,<3``. What cannot be read counts as satisfied: no false alarm."""
    for clause in specifier.split(","):
        found = CLAUSE.fullmatch(clause)
        if found and not _fits(version, found[1], found[2]):
            return False
    return True


def _fits(version: str, operator: str, wanted: str) -> bool:
    try:
        order = compare_releases(version, wanted.rstrip(".*"))
    except ValueError:
        return True
    if wanted.endswith(".*"):
        prefix = tuple(int(part) for part in wanted[:-2].split("."))
        same = (release_key(version) + (0,) * len(prefix))[: len(prefix)] == prefix
        return same if operator == "==" else not same
    return {
        "==": order == 0,
        "===": version == wanted,
        "!=": order != 0,
        "<=": order <= 0,
        ">=": order >= 0,
        "<": order < 0,
        ">": order > 0,
    }.get(operator, True)


@wheel_pins_violated.sign
def _pip_says_so(
    said: RequirementConflict,
    undefined: tuple[UndefinedSymbol, ...],
    mismatch: tuple[SubLibraryMismatch, ...],
    know: Knowledge,
) -> Findings:
    if said.package != "torch" or not said.other.startswith("nvidia-"):
        return
    blamed = said.other in _blamed(know, undefined, mismatch)
    yield Finding(
        title=f"{said.other} {said.found or ''} is installed; torch {said.version} asks for {said.requirement}".replace(
            "  ", " "
        ),
        subject=f"distribution:{said.other}",
        severity=Severity.ERROR if blamed else Severity.WARNING,
        confidence=Confidence.CERTAIN if blamed else Confidence.LIKELY,
        detail="torch names the releases of NVIDIA's wheels that it was built with. Another package asked for another "
        "one, and pip kept that.",
        evidence=(said.evidence("pip"),),
        remedies=(Install((said.requirement,), why="the release that torch was built with"),),
        breaks=(imports("torch"), Outcome("kernel-on-gpu")) if blamed else (),
    )


@wheel_pins_violated.sign
def _by_the_table(
    installed: Distributions,
    build: TorchBuild | None,
    know: Knowledge,
    undefined: tuple[UndefinedSymbol, ...],
    mismatch: tuple[SubLibraryMismatch, ...],
    wanted: TorchRequirements | None,
) -> Findings:
    """A text names the library that does not fit, and lists the wheel that brings it: the pins are the table's."""
    if wanted is not None:
        return
    around = Around(know, build, None, installed)
    for name in sorted(_blamed(know, undefined, mismatch)):
        have, specifier = installed.version(name), around.specifier(name)
        if have is None or not specifier or satisfied(have, specifier) or name.startswith("nvidia-nccl"):
            continue
        said = (*undefined, *mismatch)[0]
        yield Finding(
            title=f"{name} {have} is installed; torch {around.version} asks for {specifier}",
            subject=f"distribution:{name}",
            confidence=Confidence.LIKELY,
            detail="The release of the wheel is not the one that this torch was built with, and the message speaks of "
            "its library.",
            evidence=(said.evidence(), installed.shows("installed", f"{name} {have}")),
            remedies=(Install((f"{name}{specifier}",), why="the release that torch was built with"),),
            breaks=(Outcome("import"), Outcome("kernel-on-gpu")),
            shows=failed(said.quote, name),
        )


@check.rule
def conda_toolkit_conflict(
    packages: CondaPackages,
    undefined: tuple[UndefinedSymbol, ...],
    missed: tuple[LibraryNotFound, ...],
    mismatch: tuple[SubLibraryMismatch, ...],
    build: TorchBuild | None,
) -> Findings:
    """A conda cudatoolkit supplies libraries of another CUDA release than torch's."""
    toolkit, torch = packages.package("cudatoolkit"), _torch_cuda(packages, build)
    said = _of_cuda(undefined, missed, mismatch)
    if (
        toolkit is None
        or torch is None
        or said is None
        or major_minor(toolkit.version) == major_minor(torch.value)
    ):
        return
    asker = (said.wanted_by or "") if isinstance(said, UndefinedSymbol) else ""
    yield Finding(
        title=f"conda's cudatoolkit {toolkit.version} lies over the libraries of CUDA {torch.value} that torch was built with",
        subject="distribution:cudatoolkit",
        confidence=Confidence.LIKELY if "/nvidia/" in asker and in_wheel(asker) else Confidence.CERTAIN,
        detail="cudatoolkit and the cuda-* and lib* packages of the nvidia channel put files of the same names into the "
        "environment's lib folder. Where both are installed, the links there lead now to the one, now to the other.",
        evidence=(said.evidence(), packages.shows("cudatoolkit", _spelled(toolkit)), torch),
        remedies=(
            Run(
                "remove cudatoolkit, and put the libraries that torch uses back",
                (
                    "conda remove --force cudatoolkit",
                    f"conda install --force-reinstall -c nvidia 'cuda-runtime={torch.value}.*' libcublas",
                ),
                Reach.ENVIRONMENT,
                needs_restart="process",
            ),
            Change(
                "or make a new environment in which nothing asks for cudatoolkit",
                Reach.ENVIRONMENT,
                example=("conda create -n fresh python=3.11", "conda activate fresh && pip install torch"),
            ),
        ),
        breaks=(Outcome("library"), *(failed(said.quote, "libcublas") or (Outcome("kernel-on-gpu"),))),
        shows=(Outcome("library"), *failed(said.quote, "libcublas")),
    )


def _torch_cuda(packages: CondaPackages, build: TorchBuild | None) -> Evidence | None:
    """The CUDA of conda's torch, else of the installed one: ``11.6``."""
    for name, pattern in (
        ("pytorch-cuda", r"^(\d+\.\d+)"),
        ("pytorch", r"cuda(\d+\.\d+)"),
        ("pytorch", r"cuda(\d{2})(\d)"),
    ):
        package = packages.package(name)
        if package is not None:
            found = re.search(pattern, package.version if name == "pytorch-cuda" else package.build)
            if found:
                return packages_evidence(packages, package, ".".join(found.groups()))
    cuda = build.torch_cuda if build else None
    return Evidence("torch's CUDA", cuda, build.source) if build and cuda else None


def packages_evidence(packages: CondaPackages, package: CondaPackage, cuda: str) -> Evidence:
    """What a conda package says of CUDA, as evidence whose value is the release."""
    return Evidence(f"CUDA of {package.name} {package.version}", cuda, packages.source)


def _spelled(package: CondaPackage) -> str:
    return " ".join(filter(None, (package.version, package.build, package.channel)))


def _of_cuda(
    undefined: tuple[UndefinedSymbol, ...],
    missed: tuple[LibraryNotFound, ...],
    mismatch: tuple[SubLibraryMismatch, ...],
) -> UndefinedSymbol | LibraryNotFound | SubLibraryMismatch | None:
    """The first message about a library of CUDA's: the use that makes two releases a fault."""
    for said in undefined:
        if provider_of(said.symbol, said.version):
            return said
    return next((each for each in missed if is_cuda(each.library)), mismatch[0] if mismatch else None)
