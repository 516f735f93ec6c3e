"""cuDNN of an older release than the program was built for."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Confidence,
    Finding,
    Findings,
    Install,
    Outcome,
    Remedy,
    Severity,
    UnsetVariable,
    Variables,
    library,
)
from envdoctor.tables import compare_releases, release_key
from envdoctor.text.late import Late
from envdoctor_checks.libraries.advice import IMPORT_AGAIN, without
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.clues import copies_of, entries_of, of_family
from envdoctor_checks.libraries.facts import (
    LibrarySeen,
    LoadedLibraries,
    NoEngine,
    SearchPath,
    SubLibraryMismatch,
)
from envdoctor_checks.libraries.facts_loader import LoaderPredictions
from envdoctor_checks.libraries.knowledge import Knowledge
from envdoctor_checks.libraries.names import stem_of
from envdoctor_checks.libraries.owners import Around
from envdoctor_checks.libraries.what_if import proven, worthwhile
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild, TorchRequirements

KERNELS = Outcome("kernel-on-gpu")
RELEASE = Late(r"\d+\.\d+(?:\.\d+)?")


@check.rule
def cudnn_too_old(
    said: SubLibraryMismatch,
    know: Knowledge,
    build: TorchBuild | None,
    wanted: TorchRequirements | None,
    installed: Distributions | None,
    variables: Variables | None,
    path: SearchPath | None,
    predicted: LoaderPredictions | None,
) -> Findings:
    """The cuDNN that is loaded is older than the one that the program was built for."""
    if stem_of(f"{said.library}.so") != "libcudnn" or said.compiled is None or said.found is None:
        return
    if compare_releases(said.found, said.compiled) >= 0:
        return
    entries = entries_of(variables, path)
    left_out = proven(predicted, said.library, said)
    foreign = entries.of_cuda() if left_out is None else left_out
    around = Around(know, build, wanted, installed)
    yield Finding(
        title=f"cuDNN {said.found} is loaded, and this build needs {said.compiled}",
        subject="library:libcudnn",
        confidence=Confidence.CERTAIN,
        detail="cuDNN keeps compatibility within a major towards newer releases only: a program built for "
        f"{said.compiled} cannot use an older one. "
        + ("LD_LIBRARY_PATH names folders of CUDA libraries, which come first." if foreign else ""),
        evidence=(said.evidence(), *((entries.evidence(),) if entries.entries else ())),
        remedies=(
            *without(entries, foreign, "let torch take its own cuDNN", left_out),
            *_newer(around, said.compiled, said.found),
        ),
        # Where LD_LIBRARY_PATH supplies it, that is the cause, and an old cuDNN what it leads to.
        breaks=() if said.blames_search_path or foreign else (library("libcudnn"), KERNELS),
        shows=(library("libcudnn"), KERNELS),
    )


def _newer(around: Around, compiled: str, found: str) -> tuple[Remedy, ...]:
    row = around.owner(f"libcudnn.so.{compiled.partition('.')[0]}")
    if row is None:
        return ()
    pinned = around.specifier(row.distribution)
    requirement = row.distribution + (pinned or f">={compiled}")
    return (Install((requirement,), why=f"a cuDNN that is not older than {compiled}", verify=IMPORT_AGAIN),)


@cudnn_too_old.sign
def _no_engine(
    said: NoEngine,
    know: Knowledge,
    build: TorchBuild | None,
    wanted: TorchRequirements | None,
    installed: Distributions | None,
    seen: tuple[LibrarySeen, ...],
    loaded: LoadedLibraries | None,
    variables: Variables | None,
    path: SearchPath | None,
) -> Findings:
    around = Around(know, build, wanted, installed)
    mapped = [
        copy for copy in of_family(copies_of(seen, None, loaded), "libcudnn") if copy.mapped and copy.version
    ]
    needed = _bundled(around)
    old = next((copy for copy in mapped if needed and _older(copy.version or "", needed)), None)
    entries = entries_of(variables, path)
    if old is None:
        if not mapped and not entries.of_cuda():
            yield _perhaps_old(said, variables)
        return
    foreign = [entry for entry in (entries.supplying(old.path),) if entry]
    yield Finding(
        title=f"cuDNN {old.version} from {old.folder} is loaded; torch {build.version if build else ''} comes with {needed}",
        subject="library:libcudnn",
        confidence=Confidence.LIKELY,
        detail="An older cuDNN lacks engines that this torch asks for, and says that it finds none for the operation.",
        evidence=(said.evidence(), *((old.evidence,) if old.evidence else ())),
        remedies=(
            *without(entries, foreign, "let torch take its own cuDNN"),
            *(() if foreign else _newer(around, needed or "", old.version or "")),
        ),
        breaks=() if foreign else (library("libcudnn"), KERNELS),
        shows=(KERNELS,),
    )


def _perhaps_old(said: NoEngine, variables: Variables | None) -> Finding:
    """The message alone has other causes: a lack of memory, an operation that this GPU cannot do."""
    unset = UnsetVariable(
        "LD_LIBRARY_PATH", why="if it names folders of CUDA libraries, torch then takes its own"
    )
    show = "grep -o '/[^ ]*libcudnn[^ ]*' /proc/PID/maps | sort -u"
    return Finding(
        title="cuDNN found no engine for an operation: it may be an older one than torch was built with",
        subject="library:libcudnn",
        severity=Severity.WARNING,
        confidence=Confidence.POSSIBLE,
        detail="cuDNN says so where none of its engines fits: it is too old, the GPU's memory does not suffice for "
        "the workspace, or the GPU cannot do this operation in this data type.",
        evidence=(said.evidence(),),
        remedies=worthwhile((unset,), variables),
        shows=(KERNELS,),
        asks=(
            Ask(show, "which cuDNN the process has loaded"),
            Ask("nvidia-smi", "how much of the GPU's memory is free"),
        ),
    )


def _bundled(around: Around) -> str | None:
    """The cuDNN that torch's own pins or the release's table name."""
    for distribution in ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "nvidia-cudnn-cu11"):
        found = RELEASE.search(around.specifier(distribution))
        if found:
            return found.group()
    return None


def _older(version: str, needed: str) -> bool:
    return release_key(version)[:1] == release_key(needed)[:1] and compare_releases(version, needed) < 0
