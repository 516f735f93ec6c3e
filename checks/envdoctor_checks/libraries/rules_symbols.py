"""Two files of one SONAME in a process, and a symbol that the file which was found does not have."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Finding,
    Findings,
    Reach,
    Remedy,
    Severity,
    UnsetVariable,
    Variables,
    library,
)
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.clues import copies_of, entries_of
from envdoctor_checks.libraries.facts import LibrarySeen, LoadedLibraries, SearchPath, UndefinedSymbol
from envdoctor_checks.libraries.facts_loader import LoaderPredictions
from envdoctor_checks.libraries.knowledge import Knowledge
from envdoctor_checks.libraries.names import is_cuda, provider_of, soname_major, stem_of
from envdoctor_checks.libraries.owners import Around, broken_by, failed
from envdoctor_checks.libraries.what_if import proven, worthwhile
from envdoctor_checks.python.facts import CondaPackages, Distributions
from envdoctor_checks.torch.facts import TorchBuild, TorchRequirements


@check.rule
def duplicate_soname(loaded: LoadedLibraries) -> Findings:
    """Two files with one SONAME are in one process, or the copy that was loaded first serves everyone."""
    by_name: dict[str, dict[str, None]] = {}
    for file in loaded.files:
        major = soname_major(file.path)
        if major is not None and is_cuda(file.library):
            by_name.setdefault(f"{file.library}.so.{major}", {})[file.path] = None
    for soname, paths in by_name.items():
        if len(paths) > 1:
            yield _twice(loaded, soname, tuple(paths))


def _twice(loaded: LoadedLibraries, soname: str, paths: tuple[str, ...]) -> Finding:
    return Finding(
        title=f"{soname} is loaded twice: from {' and '.join(path.rpartition('/')[0] for path in paths)}",
        subject=f"library:{soname}",
        severity=Severity.NOTE,
        detail="Files that are opened by their paths are loaded side by side even where their SONAME is the same. "
        "Each has its own state; later requests by name get the one that was loaded first.",
        evidence=tuple(loaded.shows("mapped", path) for path in paths),
        remedies=(Change("keep one of the two installs", Reach.ENVIRONMENT),),
    )


EARLIER: tuple[Remedy, ...] = (
    UnsetVariable("LD_PRELOAD", why="if it names a CUDA library"),
    UnsetVariable(
        "LD_LIBRARY_PATH",
        why="if it names folders of CUDA libraries, what is imported first takes them from there",
    ),
    Change(
        "import torch before any other package that loads CUDA libraries",
        Reach.ENVIRONMENT,
        example=("import torch  # first",),
    ),
)
"""What loads a copy before torch does."""


@duplicate_soname.sign
def _first_one_wins(
    said: UndefinedSymbol,
    seen: tuple[LibrarySeen, ...],
    loaded: LoadedLibraries | None,
    variables: Variables | None,
    predicted: LoaderPredictions | None,
) -> Findings:
    """A library of torch's own, which its run path leads to the right copy, found another one: it was loaded already."""
    wanted = provider_of(said.symbol, said.version)
    asker = (said.wanted_by or "").rpartition("/")[2]
    if wanted is None or said.version is None or (stem_of(wanted) or wanted) == "libnccl":
        return
    stem = stem_of(wanted) or wanted
    mapped = tuple(copy for copy in copies_of(seen, None, loaded) if copy.mapped and copy.library == stem)
    twice = len({copy.path for copy in mapped}) > 1
    if not twice and not asker.startswith(("libtorch", "libc10")):
        return
    yield Finding(
        title=f"another {stem} was loaded before torch's own, and serves {asker or 'everyone'} as well",
        subject=f"library:{stem}",
        confidence=Confidence.CERTAIN if twice else Confidence.LIKELY,
        detail="A name that is loaded already is not searched for again. torch's libraries carry a run path to their "
        f"own {stem}, so a wrong one can only come from LD_PRELOAD or from a module that was imported before torch.",
        evidence=(said.evidence(), *(copy.evidence for copy in mapped if copy.evidence)),
        remedies=worthwhile(EARLIER, variables, proven(predicted, wanted, said)),
        breaks=broken_by(said.quote, wanted),
        shows=(library(wanted), *failed(said.quote, wanted)),
        asks=(
            Ask(
                "grep -o '/[^ ]*" + stem + "[^ ]*' /proc/PID/maps | sort -u",
                "which copies the process has loaded",
            ),
        ),
    )


SEARCH = Change(
    "find where the copy comes from, and take the one that the program was built with", Reach.ENVIRONMENT
)


@check.rule
def undefined_symbol(
    said: UndefinedSymbol,
    know: Knowledge,
    build: TorchBuild | None,
    wanted: TorchRequirements | None,
    installed: Distributions | None,
    variables: Variables | None,
    path: SearchPath | None,
    conda: CondaPackages | None,
    predicted: LoaderPredictions | None,
) -> Findings:
    """The copy of a CUDA library that was found lacks a symbol: it is of another release than was meant."""
    provider = provider_of(said.symbol, said.version)
    if provider is None:
        return
    stem = stem_of(provider) or provider
    around = Around(know, build, wanted, installed)
    row = around.owner(provider)
    whose = (said.wanted_by or "a library").rpartition("/")[2]
    nccl = stem == "libnccl"  # which has a check of its own
    named = bool(entries_of(variables, path).of_cuda()) or (
        conda is not None and conda.package("cudatoolkit") is not None
    )
    unset = UnsetVariable(
        "LD_LIBRARY_PATH", why=f"if it names folders of CUDA libraries, one of them holds another {stem}"
    )
    again = around.reinstall(row.distribution, why="the release that torch asks for") if row else SEARCH
    yield Finding(
        title=f"the {stem} that was found lacks {said.symbol or 'the version'} that {whose} needs: it is of another release",
        subject=f"library:{stem}",
        confidence=Confidence.POSSIBLE if nccl else Confidence.LIKELY,
        detail=f"{whose} was found and loaded; a file that bears the name {provider} was found as well, and is not the "
        "one that it was built with. An older copy comes from LD_LIBRARY_PATH, from a wheel that another package "
        "changed, or was loaded by something imported earlier.",
        evidence=(said.evidence(),),
        remedies=worthwhile((unset, again), variables, proven(predicted, provider, said)),
        breaks=()
        if nccl or named
        else broken_by(said.quote, provider),  # another rule names where it comes from
        shows=broken_by(said.quote, provider),
        asks=(
            Ask("echo $LD_LIBRARY_PATH", "whether it names folders of CUDA libraries"),
            Ask(f"ldd {said.wanted_by or 'FILE'} | grep {stem}", "which file the loader takes"),
        ),
    )
