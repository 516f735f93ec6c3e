"""Runtimes that packages share in one process: MKL, OpenMP, and the space for thread-local variables."""

from __future__ import annotations

from envdoctor.api import (
    Change,
    Confidence,
    Finding,
    Findings,
    Install,
    InstallSystem,
    Outcome,
    Reach,
    Remedy,
    Run,
    SetVariable,
    library,
)
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.facts import LibraryNotFound, StaticTlsExhausted, WrongMkl
from envdoctor_checks.libraries.names import stem_of
from envdoctor_checks.libraries.owners import failed
from envdoctor_checks.python.facts import CondaPackages
from envdoctor_checks.torch.facts import TorchBuild


@check.rule
def mkl_mismatch(said: WrongMkl, build: TorchBuild | None, conda: CondaPackages | None) -> Findings:
    """The installed MKL or OpenMP runtime does not fit this torch build."""
    mkl = conda.package("mkl") if conda else None
    title, detail, remedies = _about_mkl(said)
    yield Finding(
        title=title,
        subject="library:mkl",
        confidence=Confidence.CERTAIN if said.problem != "symbol" else Confidence.LIKELY,
        detail=detail,
        evidence=(
            said.evidence(),
            *((conda.shows("mkl", mkl.version),) if conda and mkl else ()),
            *((build.shows("torch", build.version),) if build and build.version else ()),
        ),
        remedies=remedies,
        breaks=(library("mkl"), *(failed(said.quote, "mkl") or (Outcome("import"),))),
        shows=(library("mkl"), *failed(said.quote, "mkl")),
    )


@mkl_mismatch.sign
def _runtime_not_found(said: LibraryNotFound) -> Findings:
    stem = stem_of(said.library) or said.library
    openmp = stem in ("libgomp", "libiomp5", "libomp")
    if not openmp and not stem.startswith("libmkl_"):
        return
    system: Remedy = InstallSystem("openmp", why=f"it brings {said.library}")
    package = "intel-openmp" if stem == "libiomp5" else "mkl"
    own = Run(
        f"install the package that brings {said.library}, from where numpy and torch came",
        (f"conda install {package}", f"python -m pip install {package}"),
        Reach.ENVIRONMENT,
    )
    yield Finding(
        title=f"{said.library} cannot be found: {'an OpenMP runtime' if openmp else 'MKL'} is not installed, or not where the loader looks",
        subject=f"library:{stem}",
        confidence=Confidence.LIKELY,
        detail="torch's wheels bring theirs under a name of their own; what was built against the one of the system or "
        "of conda needs that one.",
        evidence=(said.evidence(),),
        remedies=(system,) if stem == "libgomp" else (own,),
        breaks=(library(said.library), *failed(said.quote, said.library)),
        shows=(library(said.library), *failed(said.quote, said.library)),
    )


def _about_mkl(said: WrongMkl) -> tuple[str, str, tuple[Remedy, ...]]:
    """Title, detail and remedies by what the message was about."""
    if said.problem == "profiler-hook":
        return (
            f"MKL 2024.1 or later is installed, which has no {said.name} any more",
            "torch's conda packages up to 2.2 expect MKL's profiler hooks; MKL dropped them in 2024.1.",
            (
                Run(
                    "install the MKL that this torch was built with",
                    ("conda install 'mkl<2024.1' 'intel-openmp<2024.1'",),
                    Reach.ENVIRONMENT,
                ),
                Install(("torch",), why="pip's wheels have MKL inside"),
            ),
        )
    if said.problem == "threading-layer":
        return (
            "MKL was told to use Intel's OpenMP while GNU's is loaded already",
            "Whoever is imported first decides which OpenMP runtime a process has. numpy of conda sets MKL up for Intel's.",
            (
                SetVariable("MKL_THREADING_LAYER", "GNU", why="MKL then uses the runtime that is loaded"),
                Change("import numpy before torch", Reach.ENVIRONMENT, example=("import numpy, torch",)),
            ),
        )
    if said.problem == "openmp-twice":
        return (
            f"{said.name} is loaded a second time: two OpenMP runtimes in one process",
            "Two packages each brought an OpenMP runtime, most often numpy from conda and torch from pip, or the reverse.",
            (
                Change(
                    "install numpy, torch and scikit-learn from one source (all by pip, or all by conda)",
                    Reach.ENVIRONMENT,
                    example=("pip install --force-reinstall numpy torch",),
                ),
                SetVariable(
                    "KMP_DUPLICATE_LIB_OK",
                    "TRUE",
                    why="a way round only",
                    caveat="Intel warns that results may then be wrong without a word.",
                ),
            ),
        )
    return _about_its_parts(said)


def _about_its_parts(said: WrongMkl) -> tuple[str, str, tuple[Remedy, ...]]:
    what = (
        f"MKL cannot load its own part {said.name}"
        if said.problem == "kernels-missing"
        else f"{said.name} is missing in the MKL or OpenMP that was found"
    )
    return (
        what,
        "MKL is split into files that are opened by name while it runs; files of two releases, or of pip and conda, do not go together.",
        (
            Run(
                "install MKL and what uses it anew, from one source",
                ("conda install --force-reinstall mkl intel-openmp numpy",),
                Reach.ENVIRONMENT,
            ),
        ),
    )


@check.rule
def static_tls_exhausted(said: StaticTlsExhausted) -> Findings:
    """A library came too late: the space for thread-local variables that it needs at once was given away already."""
    name = said.path.rpartition("/")[2]
    yield Finding(
        title=f"{name} was loaded too late: no room is left for its thread-local variables",
        subject=f"library:{stem_of(name) or name}",
        detail="Some libraries, OpenMP runtimes above all, want their thread-local variables in a block that is laid "
        "out when the program starts and keeps little room for later. What is loaded first finds room.",
        evidence=(said.evidence(),),
        remedies=(
            Change(
                "import the module that needs it before all others",
                Reach.ENVIRONMENT,
                example=("import torch  # or sklearn, cv2: whichever failed, first of all",),
            ),
            SetVariable("LD_PRELOAD", said.path, why="it is then loaded when the program starts"),
            SetVariable(
                "GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=16384", why="more room, from glibc 2.33 on"
            ),
        ),
        breaks=(library(name), *failed(said.quote, name)),
        shows=(library(name), *failed(said.quote, name)),
    )
