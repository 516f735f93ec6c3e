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
from envdoctor_checks.libraries.names import family_of, is_cuda, provider_of, stem_of
from envdoctor_checks.libraries.owners import Around, failed
from envdoctor_checks.libraries.what_if import worthwhile
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild, TorchRequirements

KERNELS = Outcome("kernel-on-gpu")


@check.rule
def mixed_copies(
    loaded: LoadedLibraries,
    path: SearchPath | None,
    mismatch: tuple[SubLibraryMismatch, ...],
    variables: Variables | None,
) -> Findings:
    """Libraries that belong together come from two installs of different releases."""
    mapped, entries = copies_of((), None, loaded), entries_of(None, path)
    said = {family_of(each.library) for each in mismatch}
    for family in dict.fromkeys(family_of(copy.library) for copy in mapped):
        parts = of_family(mapped, family)
        if family in said and any(entries.supplying(copy.path) for copy in parts):
            continue  # LD_LIBRARY_PATH is what mixes them, and the message says that it fails
        if is_cuda(family) and _from_two(parts) and len({copy.library for copy in parts}) > 1:
            yield _mixed(family, parts, (), Confidence.LIKELY, (), variables)


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
        yield _mixed(family_of(stem), parts, (said.evidence(),), Confidence.CERTAIN, (wanted,), variables)
        return
    if _opened_by_the_wheel(said, asker, stem, installed):
        yield _mixed(family_of(stem), (asker,), (said.evidence(),), Confidence.LIKELY, (wanted,), variables)
        return
    foreign = [
        each
        for each in seen
        if each.how == "resolved" and stem_of(each.path) == stem and not in_wheel(each.path)
    ]
    if foreign and in_wheel(said.wanted_by):
        found = tuple(copy for copy in copies if copy.library == stem)
        yield _mixed(stem, (asker, *found), (said.evidence(),), Confidence.CERTAIN, (wanted,), variables)


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
        finding = _mixed(said.library, parts, (said.evidence(),), confidence, (), variables)
        yield msgspec.structs.replace(
            finding, remedies=(*_agree(around, said.library, system), *finding.remedies)
        )


def _mixed(
    family: str,
    parts: tuple[Copy, ...],
    message: tuple[Evidence, ...],
    confidence: Confidence,
    names: tuple[str, ...] = (),
    variables: Variables | None = None,
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
        remedies=worthwhile(_keep_one(parts, places), variables) or (ANEW,),
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


ANEW = Run(
    "make a new environment from one source of packages, or reinstall this library's package in the old one",
    ("conda create -n fresh python=3.11  # then install torch from one channel only",),
    Reach.ENVIRONMENT,
)


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
    return (ANEW,)


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
