"""Damaged files, and elements of LD_LIBRARY_PATH that cannot help."""

from __future__ import annotations

import re

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    DropPathEntry,
    Evidence,
    Finding,
    Findings,
    Outcome,
    Reach,
    Remedy,
    Run,
    Severity,
    Variables,
    imports,
    library,
)
from envdoctor_checks.libraries.advice import VARIABLE
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.clues import CUDA_FOLDER, Entries, entries_of, in_wheel
from envdoctor_checks.libraries.facts import (
    BadLibraryFile,
    CurrentDirectory,
    LibraryCopies,
    LibraryCopy,
    LibraryNotFound,
    LibraryNotLoadable,
    RunPaths,
    SearchEntry,
    SearchPath,
    WheelFiles,
)
from envdoctor_checks.libraries.knowledge import Knowledge
from envdoctor_checks.libraries.names import DRIVER, is_cuda, stem_of
from envdoctor_checks.libraries.owners import Around, broken_by, failed
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild, TorchImport, TorchRequirements

PROBLEMS = {
    "empty": "is empty",
    "too-short": "is cut off",
    "truncated": "is cut off",
    "not-elf": "is no library",
    "wrong-machine": "is for another processor",
}


@check.rule
def library_corrupt(
    wheels: WheelFiles,
    copies: LibraryCopies | None,
    know: Knowledge,
    wanted: TorchRequirements | None,
    build: TorchBuild | None,
    imported: TorchImport | None,
) -> Findings:
    """A library file is empty, cut off or for another machine."""
    around = Around(know, build, wanted)
    bad: dict[str, tuple[str, str]] = {
        each.path: (each.problem, each.distribution)
        for each in wheels.files
        if each.problem is not None and each.problem != "missing"
    }
    for copy in copies.copies if copies else ():
        if copy.problem is not None and copy.owner is not None:
            bad.setdefault(copy.path, (copy.problem, copy.owner))
    works = imported is not None and imported.ok
    for path, (problem, owner) in bad.items():
        name = path.rpartition("/")[2]
        needed = wanted is None or wanted.of(owner) is not None
        yield Finding(
            title=f"{name} of {owner} {PROBLEMS[problem]}",
            subject=f"library:{name}",
            severity=Severity.ERROR if needed and not works else Severity.WARNING,
            detail=f"{path} is not the file that the wheel brought. The loader gives up at such a file and does not "
            "look for another. A full disk or an interrupted copy leaves files like that.",
            evidence=(wheels.shows("damaged file", f"{path}: {problem}"),),
            remedies=(around.reinstall(owner, why="it replaces the damaged file"),),
            asks=(_space(path),),
            breaks=(library(name), imports("torch")) if needed and not works else (library(name),),
        )


def _space(path: str) -> Ask:
    """What to look at before writing the file again."""
    return Ask(f"df -h {path.rpartition('/')[0]}", "whether the disk is full")


@library_corrupt.sign
def _beside_the_wheels(copies: LibraryCopies, path: SearchPath) -> Findings:
    """What LD_LIBRARY_PATH supplies and nobody was seen to need."""
    entries = entries_of(None, path)
    for copy in copies.copies:
        if copy.owner is None and _stops_the_loader(copy) and (entry := entries.supplying(copy.path)):
            yield Finding(
                title=f"{copy.name} in {entry} on LD_LIBRARY_PATH {PROBLEMS[copy.problem or 'empty']}",
                subject=f"library:{copy.name}",
                severity=Severity.NOTE,
                evidence=(copies.shows("damaged file", f"{copy.path}: {copy.problem}"),),
                remedies=(DropPathEntry(VARIABLE, entry),),
            )


def _stops_the_loader(copy: LibraryCopy) -> bool:
    """A file for another processor is passed over; the others end the search."""
    return copy.problem in ("empty", "too-short", "not-elf") and is_cuda(copy.path)


@library_corrupt.sign
def _refused(
    said: BadLibraryFile,
    know: Knowledge,
    build: TorchBuild | None,
    wanted: TorchRequirements | None,
    installed: Distributions | None,
) -> Findings:
    yield from refused(said, Around(know, build, wanted, installed))


def refused(said: BadLibraryFile, around: Around) -> Findings:
    """What the loader's words about a file mean."""
    stem = stem_of(said.path) or said.path.rpartition("/")[2]
    if said.problem in ("empty", "too small") and not is_cuda(stem):
        return  # ldconfig's warning of the driver's placeholders in an image
    name = said.path.rpartition("/")[2]
    driver = stem in DRIVER or stem.startswith("libnvidia-")
    row = around.owner(name) if in_wheel(said.path) else None
    yield Finding(
        title=f"{name} cannot be used: {said.problem}",
        subject=f"library:{name}",
        confidence=Confidence.LIKELY if driver else Confidence.CERTAIN,
        detail=f"The loader found {said.path} and gave up: {_meaning(said.problem)} It does not look for another copy "
        "after that.",
        evidence=(said.evidence(),),
        remedies=_replace(said, around, row.distribution if row else None, driver),
        breaks=broken_by(said.quote, name),
        shows=(library(name), *failed(said.quote, name)),
        asks=(Ask(f"ls -lL {said.path}; file -L {said.path}", "what the file is"), _space(said.path)),
    )


def _meaning(problem: str) -> str:
    if "class" in problem or "ABI" in problem:
        return "it is for another kind of processor or system."
    if "header" in problem:
        return "it is no library; a text or a pointer of git-lfs lies under its name."
    return "it is empty or was cut off while it was written."


def _replace(said: BadLibraryFile, around: Around, owner: str | None, driver: bool) -> tuple[Remedy, ...]:
    if driver:
        return (
            Change(
                "take the driver's libraries out of the image: the container engine mounts the host's",
                Reach.CONTAINER,
            ),
        )
    if owner is not None:
        return (around.reinstall(owner, why="it replaces the damaged file"),)
    package = re.search(r"site-packages/([\w-]+)", said.path)
    if package:
        return (
            Run(
                f"install {package[1]} anew",
                (f"python -m pip install --force-reinstall --no-deps --no-cache-dir {package[1]}",),
                Reach.ENVIRONMENT,
            ),
        )
    folder = said.path.rpartition("/")[0]
    pointer = Run(
        "fetch the file, where git-lfs left a pointer in its place",
        (f"git -C {folder} lfs pull",),
        Reach.ENVIRONMENT,
    )
    return (
        *((pointer,) if "header" in said.problem else ()),
        Change(
            f"install the package that owns {said.path} anew", Reach.HOST, example=(f"dpkg -S {said.path}",)
        ),
    )


@check.rule
def ld_library_path_not_a_directory(
    path: SearchPath, missed: tuple[LibraryNotFound, ...], other: tuple[LibraryNotLoadable, ...]
) -> Findings:
    """An element of LD_LIBRARY_PATH is a file, or is not there."""
    wanted = _of_cuda(missed, other)
    for each in path.entries:
        if each.state == "file" or (each.state is None and _is_file(each.entry)):
            yield _file_entry(each.entry, entries_of(None, path), wanted)
        elif each.state == "missing" and wanted and _would_help(each):
            yield _missing_entry(each, path, wanted)


@ld_library_path_not_a_directory.sign
def _assigned_a_file(
    variables: Variables, missed: tuple[LibraryNotFound, ...], other: tuple[LibraryNotLoadable, ...]
) -> Findings:
    if variables.complete:
        return  # a live machine's, whose elements were looked at one by one
    entries = entries_of(variables, None)
    wanted = _of_cuda(missed, other)
    for entry in entries.entries:
        if _is_file(entry):
            yield _file_entry(entry, entries, wanted)


def _of_cuda(
    missed: tuple[LibraryNotFound, ...], other: tuple[LibraryNotLoadable, ...]
) -> tuple[LibraryNotFound | LibraryNotLoadable, ...]:
    """The messages about libraries of CUDA's: the use that makes an element a fault."""
    said: tuple[LibraryNotFound | LibraryNotLoadable, ...] = (*missed, *other)
    return tuple(each for each in said if is_cuda(stem_of(each.library) or each.library))


def _is_file(entry: str) -> bool:
    return re.search(r"\.so(?:\.[\d.]+)?/?$", entry) is not None


def _would_help(entry: SearchEntry) -> bool:
    return CUDA_FOLDER.search(entry.entry) is not None and not entry.entry.startswith("/usr/local/nvidia/")


def _file_entry(
    entry: str, entries: Entries, wanted: tuple[LibraryNotFound | LibraryNotLoadable, ...]
) -> Finding:
    folder = entry.rstrip("/").rpartition("/")[0]
    rest = ":".join(folder if each == entry else each for each in entries.entries)
    said = wanted[0] if wanted else None
    name = said.library if said else entry.rpartition("/")[2]
    broken: tuple[Outcome, ...] = broken_by(said.quote, name) if said else ()
    return Finding(
        title=f"LD_LIBRARY_PATH names a file, {entry}: it takes folders",
        subject="variable:LD_LIBRARY_PATH",
        severity=Severity.ERROR if wanted else Severity.NOTE,
        detail=f"The loader looks for names inside each element. {entry} is a file, in which it finds nothing; the "
        f"folder is {folder}.",
        evidence=(entries.evidence(), *((said.evidence(),) if said else ())),
        remedies=(
            Run(
                f"name the folder in LD_LIBRARY_PATH: {folder}",
                (f"export LD_LIBRARY_PATH={rest}",),
                Reach.SHELL,
                needs_restart="process",
            ),
        ),
        breaks=broken,
        shows=broken,
    )


def _missing_entry(
    entry: SearchEntry, path: SearchPath, wanted: tuple[LibraryNotFound | LibraryNotLoadable, ...]
) -> Finding:
    name = wanted[0].library
    return Finding(
        title=f"LD_LIBRARY_PATH names {entry.entry}, which is not there, and {name} cannot be found",
        subject="variable:LD_LIBRARY_PATH",
        confidence=Confidence.LIKELY,
        detail="Someone put the folder on the variable so that its libraries are found; the toolkit that held them "
        "was removed, moved, or is not in this container.",
        evidence=(path.shows("element", entry.entry), wanted[0].evidence()),
        remedies=(
            Run(
                "look for the folder that holds it now, and name that one",
                (f"find / -name '{name}*' -not -path '/proc/*' 2>/dev/null",),
                Reach.SHELL,
            ),
            DropPathEntry(VARIABLE, entry.entry),
        ),
        breaks=broken_by(wanted[0].quote, name),
        shows=(library(name),),
    )


@check.rule
def ld_library_path_empty_element(path: SearchPath, here: CurrentDirectory | None) -> Findings:
    """An empty element of LD_LIBRARY_PATH makes the current directory a library directory."""
    if any(not each.entry for each in path.entries) and path.entries:
        yield _empty_element(
            path.shows("LD_LIBRARY_PATH", ":".join(each.entry for each in path.entries)), here
        )


@ld_library_path_empty_element.sign
def _empty_in_run_path(paths: RunPaths, here: CurrentDirectory) -> Findings:
    """One of NVIDIA's own wheels has such a run path: worth a word only where the current directory has something to load."""
    having = [each for each in paths.libraries if "" in (each.runpath or each.rpath or "x").split(":")]
    if not here.names or not having:
        return
    name = here.names[0]
    yield Finding(
        title=f"{name} in the current directory may be loaded: a wheel's run path has an empty element",
        subject=f"library:{name}",
        severity=Severity.WARNING,
        confidence=Confidence.POSSIBLE,
        detail="The loader reads an empty element as the current directory. What such a library asks for by name is "
        "taken from there where the elements before have it not; NVIDIA builds some of its wheels so.",
        evidence=(
            here.shows("in the current directory", ", ".join(here.names)),
            *(paths.shows("run path", f"{each.path}: {each.runpath or each.rpath}") for each in having[:3]),
        ),
        remedies=(
            Change(
                f"start the program in another directory, or take {name} out of {here.path}",
                Reach.SHELL,
                example=("cd",),
            ),
        ),
    )


@ld_library_path_empty_element.sign
def _empty_in_text(variables: Variables) -> Findings:
    value = variables.get("LD_LIBRARY_PATH")
    if value and not variables.complete and "$" not in value and "" in re.split("[:;]", value):
        yield _empty_element(variables.evidence("LD_LIBRARY_PATH"), None)


def _empty_element(shown: Evidence, here: CurrentDirectory | None) -> Finding:
    inside = here.names if here else ()
    return Finding(
        title="an empty element of a library path makes the current directory one of its folders"
        + (f", and {inside[0]} lies there" if inside else ""),
        subject="variable:LD_LIBRARY_PATH",
        severity=Severity.WARNING if inside else Severity.NOTE,
        detail="The loader reads an element without a name (a colon at an end, or two in a row) as the current "
        "directory, so what is loaded depends on where the program is started. "
        "LD_LIBRARY_PATH=$LD_LIBRARY_PATH:/some/lib does that where the variable was not set before.",
        evidence=(
            shown,
            *((here.shows("in the current directory", ", ".join(inside)),) if here and inside else ()),
        ),
        remedies=(
            Change(
                "join with a colon only where there is something to join",
                Reach.SHELL,
                example=("export LD_LIBRARY_PATH=/some/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}",),
            ),
        ),
    )
