"""Copies that do not go together: parts of one library from two installs, two files of one SONAME, a symbol that lacks."""

from __future__ import annotations

import msgspec

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Outcome,
    Reach,
    Remedy,
    Run,
    Severity,
    UnsetVariable,
    Variables,
    library,
)
from envdoctor_checks.libraries.advice import SEARCHED
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.clues import Copy, copies_of, entries_of, in_wheel, of_family
from envdoctor_checks.libraries.facts import (
    LibrarySeen,
    LoadedLibraries,
    SearchPath,
    SubLibraryMismatch,
    SystemPackages,
    UndefinedSymbol,
)
from envdoctor_checks.libraries.knowledge import Knowledge
from envdoctor_checks.libraries.names import family_of, is_cuda, provider_of, soname_major, stem_of
from envdoctor_checks.libraries.owners import Around, broken_by, failed
from envdoctor_checks.python.facts import CondaPackages, Distributions
from envdoctor_checks.torch.facts import TorchBuild, TorchRequirements

KERNELS = Outcome("kernel-on-gpu")


@check.rule
def mixed_copies(
    loaded: LoadedLibraries,
    path: SearchPath | None,
    mismatch: tuple[SubLibraryMismatch, ...],
) -> Findings:
    """Libraries that belong together come from two installs of different releases."""
    mapped, entries = copies_of((), None, loaded), entries_of(None, path)
    said = {family_of(each.library) for each in mismatch}
    for family in dict.fromkeys(family_of(copy.library) for copy in mapped):
        parts = of_family(mapped, family)
        if family in said and any(entries.supplying(copy.path) for copy in parts):
            continue  # LD_LIBRARY_PATH is what mixes them, and the message says that it fails
        if is_cuda(family) and _from_two(parts) and len({copy.library for copy in parts}) > 1:
            yield _mixed(family, parts, (), Confidence.LIKELY)


def _from_two(parts: tuple[Copy, ...]) -> bool:
    """Whether different parts (not two copies of one part) come from two installs, and no release says that they agree."""
    versions = {copy.version for copy in parts if copy.version}
    agree = len(versions) == 1 and all(copy.version for copy in parts)
    return len(_installs(parts)) > 1 and not agree


def _installs(parts: tuple[Copy, ...]) -> tuple[str, ...]:
    """The installs of the parts, as far as their paths tell: not those with a variable, or relative ones."""
    return tuple(dict.fromkeys(copy.install for copy in parts if copy.path.startswith("/")))


@mixed_copies.sign
def _symbol_between_parts(
    said: UndefinedSymbol,
    seen: tuple[LibrarySeen, ...],
    loaded: LoadedLibraries | None,
    variables: Variables | None,
    path: SearchPath | None,
    installed: Distributions | None,
) -> Findings:
    wanted = provider_of(said.symbol, said.version)
    if wanted is None or said.wanted_by is None or stem_of(said.wanted_by) is None:
        return
    stem = stem_of(wanted) or wanted
    if stem == "libnccl":
        return  # which has a check of its own
    copies = copies_of(seen, None, loaded)
    entries = entries_of(variables, path)
    if any(entries.supplying(copy.path) for copy in of_family(copies, stem)):
        return  # then LD_LIBRARY_PATH is what mixes them
    asker = Copy(said.wanted_by, said.wanted_by, True)
    parts = of_family((asker, *copies), stem)
    if family_of(asker.library) == family_of(stem) and _two_releases(asker, parts, wanted):
        yield _mixed(family_of(stem), parts, (said.evidence(),), Confidence.CERTAIN, (wanted,))
        return
    if _opened_by_the_wheel(said, asker, stem, installed):
        yield _mixed(family_of(stem), (asker,), (said.evidence(),), Confidence.LIKELY, (wanted,))
        return
    foreign = [
        each
        for each in seen
        if each.how == "resolved" and stem_of(each.path) == stem and not in_wheel(each.path)
    ]
    if foreign and in_wheel(said.wanted_by):
        found = tuple(copy for copy in copies if copy.library == stem)
        yield _mixed(stem, (asker, *found), (said.evidence(),), Confidence.CERTAIN, (wanted,))


def _opened_by_the_wheel(
    said: UndefinedSymbol, asker: Copy, stem: str, installed: Distributions | None
) -> bool:
    """Whether a part outside of the wheels lacks a symbol of its own family, while the wheel of that family is installed."""
    own = f"nvidia-{family_of(stem)[3:]}"
    there = any(each.name.startswith(own) for each in installed.distributions) if installed else False
    return (
        said.version is None
        and there
        and family_of(asker.library) == family_of(stem)
        and not in_wheel(asker.path)
    )


def _two_releases(asker: Copy, parts: tuple[Copy, ...], wanted: str) -> bool:
    """Whether the links of one folder lead to different releases, or processes have parts of two installs."""
    mapped = tuple(copy for copy in parts if copy.mapped)
    if _from_two(mapped):
        return True
    name = asker.path.rpartition("/")[2]
    own = next((copy.version for copy in parts if copy.path.endswith(f"/{name}") and copy.version), None)
    other = next((copy.version for copy in parts if copy.path.endswith(f"/{wanted}") and copy.version), None)
    return own is not None and other is not None and own != other


@mixed_copies.sign
def _mismatch_between_parts(
    said: SubLibraryMismatch,
    seen: tuple[LibrarySeen, ...],
    loaded: LoadedLibraries | None,
    variables: Variables | None,
    path: SearchPath | None,
    know: Knowledge,
    build: TorchBuild | None,
    wanted: TorchRequirements | None,
    installed: Distributions | None,
    system: SystemPackages | None,
) -> Findings:
    parts = tuple(copy for copy in of_family(copies_of(seen, None, loaded), said.library) if copy.mapped)
    entries = entries_of(variables, path)
    if any(entries.supplying(copy.path) for copy in parts):
        return  # then LD_LIBRARY_PATH is what mixes them
    around = Around(know, build, wanted, installed)
    certain = _from_two(parts)
    if certain or (said.compiled is None and not parts and not entries.of_cuda()):
        confidence = Confidence.CERTAIN if certain else Confidence.LIKELY
        finding = _mixed(said.library, parts, (said.evidence(),), confidence)
        yield msgspec.structs.replace(
            finding, remedies=(*_agree(around, said.library, system), *finding.remedies)
        )


def _mixed(
    family: str,
    parts: tuple[Copy, ...],
    message: tuple[Evidence, ...],
    confidence: Confidence,
    names: tuple[str, ...] = (),
) -> Finding:
    """`message`: what was printed because of it; without one it is a danger and not yet a failure."""
    places = _installs(parts) if _from_two(parts) else ()
    quote = message[0].value if message else ""
    broken = (*(library(each) for each in (family, *names)), *(failed(quote, family) or (KERNELS,)))
    return Finding(
        title=f"the parts of {family} come from different installs{_where(places, parts)}",
        subject=f"library:{family}",
        severity=Severity.ERROR if message else Severity.WARNING,
        confidence=confidence,
        detail=f"The libraries of {family} call one another's private functions and must be of one release. Which file "
        "each name leads to is decided one by one, by run paths, LD_LIBRARY_PATH, the cache and what is loaded already.",
        evidence=(*message, *(copy.evidence for copy in _one_per_place(parts) if copy.evidence)),
        remedies=_keep_one(parts, places),
        breaks=broken if message else (),
        shows=broken if message else (),
        asks=() if confidence is Confidence.CERTAIN else (Ask(SEARCHED, "which file each name leads to"),),
    )


def _where(places: tuple[str, ...], parts: tuple[Copy, ...]) -> str:
    if len(places) > 1:
        return f": {' and '.join(places[:3])}"
    versions = sorted({copy.version for copy in parts if copy.version})
    return f" of releases {' and '.join(versions)}" if versions else ""


def _one_per_place(parts: tuple[Copy, ...]) -> tuple[Copy, ...]:
    """A copy of each install and release, for evidence."""
    first: dict[tuple[str, str | None], Copy] = {}
    for copy in parts:
        if copy.evidence:
            first.setdefault((copy.install, copy.version), copy)
    return tuple(first.values())[:4]


def _keep_one(parts: tuple[Copy, ...], places: tuple[str, ...]) -> tuple[Remedy, ...]:
    """Keep the wheels' copies where there are some; in one folder, install the package anew."""
    foreign = [copy.folder for copy in parts if not in_wheel(copy.path)]
    if len(places) > 1 and any(in_wheel(copy.path) for copy in parts):
        paths = ", ".join(dict.fromkeys(foreign))
        return (
            UnsetVariable(
                "LD_LIBRARY_PATH",
                why=f"if it names {paths}, the wheels' own copies are found first without it",
            ),
            Change(
                f"remove or hide the copies in {paths}, or bring both installs to the same version",
                Reach.HOST,
            ),
        )
    if not parts:
        return (
            UnsetVariable("LD_LIBRARY_PATH", why="if it names folders of CUDA libraries, they come first"),
        )
    return (
        Run(
            "make a new environment from one source of packages, or reinstall this library's package in the old one",
            ("conda create -n fresh python=3.11  # then install torch from one channel only",),
            Reach.ENVIRONMENT,
        ),
    )


def _agree(around: Around, family: str, system: SystemPackages | None) -> tuple[Remedy, ...]:
    """Bring both to one release: the wheel at torch's pin, and the system's package out of the way."""
    found = tuple(each for each in system.packages if each.name.startswith(family)) if system else ()
    names = " ".join(each.name for each in found)
    row = around.owner(family)
    mine: tuple[Remedy, ...] = (
        (around.reinstall(row.distribution, why="all its parts at one release"),) if row else ()
    )
    if not names:
        return mine
    return (
        *mine,
        Run(
            f"remove the system's {family[3:]}, which nothing in this environment needs",
            (f"apt-get remove {names}",),
            Reach.HOST,
            needs_root=True,
        ),
    )


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


@duplicate_soname.sign
def _first_one_wins(
    said: UndefinedSymbol,
    seen: tuple[LibrarySeen, ...],
    loaded: LoadedLibraries | None,
    build: TorchBuild | None,
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
        remedies=(
            Change(
                "import torch before any other package that loads CUDA libraries",
                Reach.ENVIRONMENT,
                example=("import torch  # first",),
            ),
            UnsetVariable("LD_PRELOAD", why="if it names a CUDA library"),
            UnsetVariable(
                "LD_LIBRARY_PATH",
                why="if it names folders of CUDA libraries, what is imported first takes them from there",
            ),
        ),
        breaks=broken_by(said.quote, wanted),
        shows=(library(wanted), *failed(said.quote, wanted)),
        asks=(
            Ask(
                "grep -o '/[^ ]*" + stem + "[^ ]*' /proc/PID/maps | sort -u",
                "which copies the process has loaded",
            ),
        ),
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
    yield Finding(
        title=f"the {stem} that was found lacks {said.symbol or 'the version'} that {whose} needs: it is of another release",
        subject=f"library:{stem}",
        confidence=Confidence.POSSIBLE if nccl else Confidence.LIKELY,
        detail=f"{whose} was found and loaded; a file that bears the name {provider} was found as well, and is not the "
        "one that it was built with. An older copy comes from LD_LIBRARY_PATH, from a wheel that another package "
        "changed, or was loaded by something imported earlier.",
        evidence=(said.evidence(),),
        remedies=(
            UnsetVariable(
                "LD_LIBRARY_PATH",
                why=f"if it names folders of CUDA libraries, one of them holds another {stem}",
            ),
            *((around.reinstall(row.distribution, why="the release that torch asks for"),) if row else ()),
        ),
        breaks=()
        if nccl or named
        else broken_by(said.quote, provider),  # another rule names where it comes from
        shows=broken_by(said.quote, provider),
        asks=(
            Ask("echo $LD_LIBRARY_PATH", "whether it names folders of CUDA libraries"),
            Ask(f"ldd {said.wanted_by or 'FILE'} | grep {stem}", "which file the loader takes"),
        ),
    )
