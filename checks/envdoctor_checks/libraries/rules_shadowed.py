"""The wrong copy: what LD_LIBRARY_PATH puts before torch's own."""

from __future__ import annotations

import msgspec

from envdoctor.api import (
    Ask,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Outcome,
    Remedy,
    Severity,
    Variables,
    library,
)
from envdoctor.tables import compare_releases
from envdoctor_checks.libraries.advice import SEARCHED, with_folder, without
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.clues import (
    Copy,
    Entries,
    copies_of,
    entries_of,
    in_wheel,
    of_family,
    same_library,
)
from envdoctor_checks.libraries.facts import (
    LibraryCopies,
    LibraryNotLoadable,
    LibrarySeen,
    LoadedLibraries,
    LoaderTrace,
    Lookup,
    NoEngine,
    SearchPath,
    SubLibraryMismatch,
    UndefinedSymbol,
    WheelFile,
    WheelFiles,
)
from envdoctor_checks.libraries.facts_loader import LoaderPredictions
from envdoctor_checks.libraries.knowledge import Knowledge
from envdoctor_checks.libraries.names import file_version, is_cuda, provider_of, stem_of
from envdoctor_checks.libraries.owners import Around, broken_by, failed
from envdoctor_checks.libraries.what_if import proven
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild, TorchImport

KERNELS = Outcome("kernel-on-gpu")
WITH_RPATH = "2.1.0"
"""From this release on, torch's wheels carry DT_RPATH, which LD_LIBRARY_PATH does not beat."""


@check.rule
def shadowed_by_ld_library_path(
    trace: LoaderTrace,
    wheels: WheelFiles,
    copies: LibraryCopies | None,
    imported: TorchImport | None,
    undefined: tuple[UndefinedSymbol, ...],
    path: SearchPath | None,
    predicted: LoaderPredictions | None,
) -> Findings:
    """LD_LIBRARY_PATH puts a foreign copy of a CUDA library before the one that torch brought."""
    for look in trace.lookups:
        if look.rule != "ld-library-path" or look.found is None or in_wheel(look.found):
            continue
        own = next((file for file in wheels.files if _is_copy(file, look.name)), None)
        if own is None:
            continue
        behind = (
            next((each.file for each in copies.copies if each.path == look.found), None) if copies else None
        )
        version = file_version(behind or look.found)
        blamed = any(
            provider_of(each.symbol, each.version) in (look.name, stem_of(look.name)) for each in undefined
        )
        broke = blamed and imported is not None and not imported.ok
        entries = entries_of(None, path)
        left_out = proven(predicted, look.name, took=look.found)
        yield _taken(trace, look, own, version, broke, _own_copy(look, own, entries, left_out))


def _is_copy(file: WheelFile, soname: str) -> bool:
    return (
        is_cuda(soname) and file.problem is None and same_library(Copy(file.path, file.path, False), soname)
    )


def _own_copy(
    look: Lookup, own: WheelFile, entries: Entries, left_out: tuple[str, ...] | None
) -> tuple[Remedy, ...]:
    """Let the loader take the wheel's: without the folder, or, where it finds none then, before it."""
    folder = (look.found or "").rpartition("/")[0]
    known = entries if folder in entries.entries else Entries((folder,), True)
    why = f"the loader then takes {own.distribution}'s"
    first = with_folder(own.path.rpartition("/")[0], f"let the loader find {own.distribution}'s first")
    return without(known, (folder,), why, left_out) or (first,)


def _taken(
    trace: LoaderTrace,
    look: Lookup,
    own: WheelFile,
    version: str | None,
    broke: bool,
    remedies: tuple[Remedy, ...],
) -> Finding:
    """The loader was seen to take it: an error where a symbol is missing in it, a note where it is the same release."""
    same = version is not None and own.version.startswith(version)
    severity = Severity.ERROR if broke else Severity.NOTE if same else Severity.WARNING
    folder = (look.found or "").rpartition("/")[0]
    return Finding(
        title=f"LD_LIBRARY_PATH supplies {look.name} {version or ''} from {folder}, before {own.distribution} {own.version}".replace(
            "  ", " "
        ),
        subject=f"library:{look.name}",
        severity=severity,
        detail=f"{look.wanted_by or 'A library'} has no run path that the loader asks before LD_LIBRARY_PATH, so it got "
        f"{look.found} and not {own.path}, which it was built with.",
        evidence=(trace.shows("loader took", look.found), Evidence("own copy", own.path)),
        remedies=remedies,
        breaks=(library(look.name), Outcome("import", "torch")) if broke else (),
        shows=(Outcome("import", "torch"),) if broke else (),
    )


@shadowed_by_ld_library_path.sign
def _symbol_from_search_path(
    said: UndefinedSymbol,
    variables: Variables | None,
    path: SearchPath | None,
    seen: tuple[LibrarySeen, ...],
    copies: LibraryCopies | None,
    loaded: LoadedLibraries | None,
    build: TorchBuild | None,
    predicted: LoaderPredictions | None,
) -> Findings:
    wanted = provider_of(said.symbol, said.version)
    entries = entries_of(variables, path)
    if wanted is None or not entries.entries or (stem_of(wanted) or wanted) == "libnccl":
        return
    left_out = proven(predicted, wanted, said)
    if left_out == ():
        return  # the loader takes the same file without the variable
    known = [copy for copy in copies_of(seen, copies, loaded) if same_library(copy, wanted)]
    proof = next((copy for copy in known if entries.supplying(copy.path)), None)
    own_folder = entries.supplying(said.wanted_by) if said.wanted_by else None
    guarded = _guarded(said.wanted_by, build)
    foreign = left_out or tuple(filter(None, (entries.supplying(proof.path) if proof else None, own_folder)))
    if (not foreign and (any(copy.mapped for copy in known) or not entries.of_cuda())) or (
        guarded and not foreign
    ):
        return
    certain = bool(foreign) and not guarded
    yield _foreign_symbol(said, wanted, entries, foreign or entries.of_cuda(), proof, certain, left_out)


def _guarded(wanted_by: str | None, build: TorchBuild | None) -> bool:
    """Whether what asked is a library of torch's own with DT_RPATH, which LD_LIBRARY_PATH does not beat."""
    name = (wanted_by or "").rpartition("/")[2]
    if not name.startswith(("libtorch", "libc10", "_C.")):
        return False
    release = build.release if build else None
    return release is None or compare_releases(release, WITH_RPATH) >= 0


def _foreign_symbol(
    said: UndefinedSymbol,
    wanted: str,
    entries: Entries,
    foreign: tuple[str, ...],
    proof: Copy | None,
    certain: bool,
    left_out: tuple[str, ...] | None,
) -> Finding:
    stem = stem_of(wanted) or wanted
    whose = (said.wanted_by or "a library").rpartition("/")[2]
    return Finding(
        title=f"LD_LIBRARY_PATH puts another {stem} before the one that {whose} was built with",
        subject=f"library:{stem}",
        confidence=Confidence.CERTAIN if certain else Confidence.LIKELY,
        detail=f"{whose} found a {wanted} that lacks {said.symbol or 'its version'}. NVIDIA's wheels find one another by "
        f"DT_RUNPATH, which the loader asks after LD_LIBRARY_PATH; that variable names {', '.join(foreign)}.",
        evidence=(
            said.evidence(),
            entries.evidence(),
            *((proof.evidence,) if proof and proof.evidence else ()),
        ),
        remedies=without(entries, foreign, "each library then takes the copy that came with it", left_out),
        breaks=broken_by(said.quote, wanted),
        shows=(library(wanted), *failed(said.quote, wanted)),
        asks=() if certain else (Ask(SEARCHED, "which file the loader takes, and by which rule"),),
    )


@shadowed_by_ld_library_path.sign
def _mismatch_from_search_path(
    said: SubLibraryMismatch,
    variables: Variables | None,
    path: SearchPath | None,
    seen: tuple[LibrarySeen, ...],
    loaded: LoadedLibraries | None,
) -> Findings:
    entries = entries_of(variables, path)
    mapped = tuple(copy for copy in of_family(copies_of(seen, None, loaded), said.library) if copy.mapped)
    taken = tuple(dict.fromkeys(filter(None, (entries.supplying(copy.path) for copy in mapped))))
    if not taken and (mapped or (not entries.of_cuda() and not said.blames_search_path)):
        return
    yield _foreign_library(
        said.library, said.evidence(), entries, taken, bool(taken) or said.blames_search_path
    )


@shadowed_by_ld_library_path.sign
def _no_engine_from_search_path(
    said: NoEngine,
    variables: Variables | None,
    path: SearchPath | None,
    seen: tuple[LibrarySeen, ...],
    loaded: LoadedLibraries | None,
) -> Findings:
    entries = entries_of(variables, path)
    mapped = tuple(copy for copy in of_family(copies_of(seen, None, loaded), "libcudnn") if copy.mapped)
    taken = tuple(dict.fromkeys(filter(None, (entries.supplying(copy.path) for copy in mapped))))
    if taken:
        finding = _foreign_library("libcudnn", said.evidence(), entries, taken, True)
        shown = tuple(copy.evidence for copy in mapped[:3] if copy.evidence)
        yield msgspec.structs.replace(finding, evidence=finding.evidence + shown)
    elif not mapped and entries.of_cuda():
        yield _foreign_library("libcudnn", said.evidence(), entries, (), False)


@shadowed_by_ld_library_path.sign
def _not_loadable_for_search_path(
    said: LibraryNotLoadable,
    variables: Variables | None,
    path: SearchPath | None,
    seen: tuple[LibrarySeen, ...],
    installed: Distributions | None,
    know: Knowledge,
) -> Findings:
    """A library that is installed and cannot be loaded: what it needs comes from elsewhere."""
    entries = entries_of(variables, path)
    stem = stem_of(said.library) or said.library
    taken = tuple(
        dict.fromkeys(
            entry
            for each in seen
            if each.how == "resolved"
            and each.wanted_by
            and in_wheel(each.wanted_by)
            and not in_wheel(each.path)
            and (stem_of(each.wanted_by) == stem or stem_of(each.path) == stem)
            and (entry := entries.supplying(each.path))
        )
    )
    row = Around(know, installed=installed).owner(said.library)
    there = row is not None and installed is not None and installed.version(row.distribution) is not None
    if taken or (there and said.program == "jax" and entries.of_cuda()):
        yield _foreign_library(stem, said.evidence(), entries, taken, bool(taken))


def _foreign_library(
    stem: str, message: Evidence, entries: Entries, taken: tuple[str, ...], certain: bool
) -> Finding:
    foreign = taken or entries.of_cuda()
    named = f"{', '.join(foreign)} on LD_LIBRARY_PATH" if foreign else "LD_LIBRARY_PATH"
    return Finding(
        title=f"{named} puts a foreign {stem}, or what it needs, before the one that was installed with the program",
        subject=f"library:{stem}",
        confidence=Confidence.CERTAIN if certain else Confidence.LIKELY,
        detail="The loader asks LD_LIBRARY_PATH before the run paths of NVIDIA's wheels and for everything that is "
        "opened by its name while the program runs. pip's packages bring all that they need: no folder of CUDA "
        "libraries has to be on that variable for them.",
        evidence=(message, *((entries.evidence(),) if entries.known else ())),
        remedies=without(
            entries,
            foreign or entries.entries or ("",),
            "the program then takes the libraries that came with it",
        ),
        breaks=(library(stem), KERNELS),
        shows=(library(stem), KERNELS),
        asks=() if certain else (Ask(SEARCHED, "which file the loader takes, and by which rule"),),
    )
