"""cuDNN: the wrong major, too old, or there and out of reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    Outcome,
    Reach,
    Remedy,
    Run,
    Severity,
    Variables,
    library,
)
from envdoctor_checks.libraries.advice import linked, with_folder
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.clues import Copy, copies_of, entries_of, in_wheel, of_family
from envdoctor_checks.libraries.facts import (
    LibraryCopies,
    LibraryNotFound,
    LibraryNotLoadable,
    LibrarySeen,
    SearchPath,
)
from envdoctor_checks.libraries.knowledge import Knowledge
from envdoctor_checks.libraries.names import soname_major
from envdoctor_checks.libraries.owners import Around, failed
from envdoctor_checks.libraries.rules_missing import Miss, miss_of, on_disk
from envdoctor_checks.libraries.tables import CudnnUser, CudnnUsers
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild, TorchRequirements

if TYPE_CHECKING:
    from collections.abc import Iterator

KERNELS = Outcome("kernel-on-gpu")


def _cudnn_majors(
    seen: tuple[LibrarySeen, ...], copies: LibraryCopies | None, installed: Distributions | None
) -> dict[str, Evidence | None]:
    """Every major of cuDNN that is on the machine, with what shows it."""
    found: dict[str, Evidence | None] = {}
    for one in installed.distributions if installed else ():
        if one.name.startswith("nvidia-cudnn-cu") or one.name in ("cudnn", "libcudnn"):
            major = one.version.partition(".")[0]
            found.setdefault(major, Evidence(one.name, one.version, installed.source if installed else None))
    for copy in of_family(copies_of(seen, copies), "libcudnn"):
        number = soname_major(copy.path) or soname_major(copy.file)
        if number is not None:
            found.setdefault(number, copy.evidence)
    return found


def _users(
    installed: Distributions | None, table: CudnnUsers, major: str, quote: str
) -> dict[str, CudnnUser]:
    """The packages that look for this major: installed ones, and those that the message names."""
    found: dict[str, CudnnUser] = {}
    for one in installed.distributions if installed else ():
        row = table.of(one.name)
        version = installed.version(row.distribution) if installed and row else None
        if row and row.distribution != "torch" and (version is None or str(row.major(version)) == major):
            found[row.distribution] = row
    for row in table.users:
        version = installed.version(row.distribution) if installed else None
        if row.module in quote and row.distribution != "torch" and version is None:
            found.setdefault(row.distribution, row)
    return found


@check.rule
def cudnn_missing(
    said: LibraryNotFound,
    know: Knowledge,
    users: CudnnUsers,
    build: TorchBuild | None,
    wanted: TorchRequirements | None,
    installed: Distributions | None,
    seen: tuple[LibrarySeen, ...],
    copies: LibraryCopies | None,
) -> Findings:
    """The cuDNN major that a package needs is not installed."""
    around = Around(know, build, wanted, installed)
    yield from _wrong_major(miss_of(said), around, users, _cudnn_majors(seen, copies, installed))


@cudnn_missing.sign
def _cudnn_not_loadable(
    said: LibraryNotLoadable,
    know: Knowledge,
    users: CudnnUsers,
    build: TorchBuild | None,
    wanted: TorchRequirements | None,
    installed: Distributions | None,
    seen: tuple[LibrarySeen, ...],
    copies: LibraryCopies | None,
) -> Findings:
    around = Around(know, build, wanted, installed)
    yield from _wrong_major(miss_of(said), around, users, _cudnn_majors(seen, copies, installed))


def _wrong_major(
    miss: Miss, around: Around, table: CudnnUsers, majors: dict[str, Evidence | None]
) -> Findings:
    needed = soname_major(miss.soname)
    if not miss.stem.startswith("libcudnn") or needed in majors or (needed is None and majors):
        return
    others = [each for each in majors.values() if each]
    users = _users(around.installed, table, needed or "", miss.quote)
    torch = _of_torch(around, table)
    own = needed is None or (torch is not None and str(torch) == needed)
    certain = bool(majors) or (around.installed is not None and around.installed.complete)
    there = f", cuDNN {' and '.join(majors)} is" if majors else ""
    yield Finding(
        title=f"cuDNN {needed or ''} is not installed{there}: {miss.soname} cannot be found".replace(
            "  ", " "
        ),
        subject="library:libcudnn" + (f".so.{needed}" if needed else ""),
        severity=Severity.NOTE if miss.is_probe else Severity.ERROR,
        confidence=Confidence.CERTAIN if certain else Confidence.LIKELY,
        detail=f"{miss.soname} belongs to cuDNN {needed or ''}. Its majors are different libraries with different "
        "names: one cannot stand for the other, and a program is built for one of them.",
        evidence=(miss.evidence, *others[:3]),
        remedies=tuple(_cudnn_remedies(around, needed, users, torch, own)),
        breaks=() if miss.is_probe else (library(miss.soname), KERNELS, *failed(miss.quote, miss.soname)),
        shows=() if miss.is_probe else (library(miss.soname), *failed(miss.quote, miss.soname)),
        asks=() if certain else (Ask("pip list | grep -i cudnn", "which cuDNN is installed"),),
    )


def _of_torch(around: Around, table: CudnnUsers) -> int | None:
    """The cuDNN major of the installed torch."""
    release, row = around.version, table.of("torch")
    return row.major(release) if release and row else None


def _cudnn_remedies(
    around: Around, needed: str | None, users: dict[str, CudnnUser], torch: int | None, own: bool
) -> Iterator[Remedy]:
    """Change the package that asks, not the cuDNN that torch needs; the wheel only where torch needs this major too."""
    cuda = around.cuda_major or 12
    if own or torch is None:
        specifier = f"=={needed}.*" if needed else ""
        pinned = around.specifier(f"nvidia-cudnn-cu{cuda}") if own else ""
        yield Install(
            (f"nvidia-cudnn-cu{cuda}{pinned or specifier}",),
            why=f"cuDNN {needed or ''} for CUDA {cuda}".strip(),
        )
    for name, row in users.items():
        if needed == "8":
            yield Install(
                (f"{name}>={row.cudnn9_from}",), why="later releases use cuDNN 9, as torch 2.4 and later do"
            )
        elif needed == "9":
            yield Install(
                (f"{name}<{row.cudnn9_from}",), why="earlier releases use cuDNN 8, as torch before 2.4 does"
            )
    if not own and torch is not None and not users:
        yield Change(
            f"install a release of the program that uses cuDNN {torch}, as torch {around.version or ''} does"
            f" (ctranslate2>=4.5 and onnxruntime-gpu>=1.19 use cuDNN 9)",
            Reach.ENVIRONMENT,
        )
    if needed:
        package = f"libcudnn{needed}" + (f"-cuda-{cuda}" if needed != "8" else "")
        yield Run(
            f"install cuDNN {needed} for the whole system, beside torch's own",
            (f"apt-get install -y {package}  # from NVIDIA's repository",),
            Reach.HOST,
            needs_root=True,
        )


@check.rule
def cudnn_not_on_path(
    said: LibraryNotFound,
    seen: tuple[LibrarySeen, ...],
    copies: LibraryCopies | None,
    installed: Distributions | None,
    variables: Variables | None,
    path: SearchPath | None,
) -> Findings:
    """cuDNN is installed, and a library that is not torch looks for it by its name where it is not."""
    majors = _cudnn_majors(seen, copies, installed)
    yield from _out_of_reach(miss_of(said), majors, on_disk(said.library, seen, copies), variables, path)


@cudnn_not_on_path.sign
def _cudnn_out_of_reach(
    said: LibraryNotLoadable,
    seen: tuple[LibrarySeen, ...],
    copies: LibraryCopies | None,
    installed: Distributions | None,
    variables: Variables | None,
    path: SearchPath | None,
) -> Findings:
    miss = miss_of(said)
    majors = _cudnn_majors(seen, copies, installed)
    yield from _out_of_reach(miss, majors, on_disk(miss.soname, seen, copies), variables, path)


def _out_of_reach(
    miss: Miss,
    majors: dict[str, Evidence | None],
    found: tuple[Copy, ...],
    variables: Variables | None,
    path: SearchPath | None,
) -> Findings:
    needed = soname_major(miss.soname)
    if not miss.stem.startswith("libcudnn") or miss.program in ("jax", "tensorflow"):
        return
    if needed is None and majors:
        yield _without_number(miss, found, majors)
    if needed not in majors:
        return
    entries = entries_of(variables, path)
    if any(entries.supplying(copy.path) for copy in found):
        return  # the loader looks there: something else is wrong
    proof = majors[needed]
    folder = found[0].folder if found else '$(python -c "import nvidia.cudnn as n; print(n.__path__[0])")/lib'
    wheel = not found or in_wheel(found[0].path)
    remedies: tuple[Remedy, ...] = (
        with_folder(folder, "let the loader find cuDNN")
        if found
        else Run(
            "let the loader find the wheel's cuDNN: put its folder on LD_LIBRARY_PATH",
            (f'export LD_LIBRARY_PATH="{folder}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"',),
            Reach.SHELL,
            needs_restart="process",
        ),
        Change(
            "import torch first: what it has loaded serves the others (onnxruntime from 1.21 on: onnxruntime.preload_dlls())",
            Reach.ENVIRONMENT,
            example=("import torch  # before the program that needs cuDNN",),
        ),
    )
    yield Finding(
        title=f"cuDNN {needed} is installed, and {miss.soname} is looked for where it is not",
        subject=f"library:libcudnn.so.{needed}",
        confidence=Confidence.CERTAIN if found else Confidence.LIKELY,
        detail=f"{miss.soname} is asked for by its name. "
        + (
            "pip's cuDNN lies in site-packages/nvidia/cudnn/lib, where torch's own run path leads and no one else's."
            if wheel
            else f"The file is in {folder}, which no run path and no variable names."
        ),
        evidence=(miss.evidence, *((proof,) if proof else ())),
        remedies=remedies,
        breaks=(library(miss.soname), KERNELS, *failed(miss.quote, miss.soname)),
        shows=(library(miss.soname), *failed(miss.quote, miss.soname)),
    )


def _without_number(miss: Miss, found: tuple[Copy, ...], majors: dict[str, Evidence | None]) -> Finding:
    """``libcudnn.so`` is a name for linking, which wheels and runtime packages leave out."""
    copy = next((each for each in found if soname_major(each.path)), None)
    example = "cd FOLDER_OF_CUDNN && ln -s libcudnn.so.9 libcudnn.so"
    return Finding(
        title=f"{miss.soname}, without a number, cannot be found: cuDNN is installed under numbered names only",
        subject="library:libcudnn.so",
        confidence=Confidence.LIKELY,
        detail="A program opens cuDNN by the name that linkers use. Packages for running programs hold the file with "
        "its major in the name.",
        evidence=(miss.evidence, *(each for each in majors.values() if each)),
        remedies=(
            linked(copy.folder, copy.path.rpartition("/")[2], miss.soname)
            if copy
            else Change(
                f"make a link {miss.soname} in cuDNN's folder, and put that on LD_LIBRARY_PATH",
                Reach.ENVIRONMENT,
                example=(example,),
            ),
        ),
        breaks=(library(miss.soname), KERNELS),
        shows=(library(miss.soname), *failed(miss.quote, miss.soname)),
    )
