"""Libraries of the CUDA family that the loader does not find, cuDNN and NVRTC's companion aside."""

from __future__ import annotations

import msgspec

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
    Severity,
    imports,
    library,
)
from envdoctor_checks.libraries.advice import linked, with_folder
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.clues import Copy, copies_of, normal, same_library
from envdoctor_checks.libraries.facts import (
    FileGone,
    LibraryCopies,
    LibraryNotFound,
    LibraryNotLoadable,
    LibrarySeen,
    StaleCacheLines,
    WheelFile,
    WheelFiles,
)
from envdoctor_checks.libraries.knowledge import Knowledge
from envdoctor_checks.libraries.names import is_cuda, library_of_dll, soname_major, stem_of
from envdoctor_checks.libraries.owners import Around, broken_by, failed
from envdoctor_checks.libraries.tables import WheelLibrary
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild, TorchImport, TorchRequirements
from envdoctor_checks.torch.symptoms import ModuleBroke

OTHERS = ("libcudnn", "libnvrtc-builtins", "libcudart")
"""Stems that have rules of their own."""
LABELS = {11: "cu118", 12: "cu126", 13: "cu130"}
"""A build of torch that exists for each CUDA major over most releases."""


class Miss(msgspec.Struct, frozen=True):
    """One library that was not found, whoever says so."""

    soname: str
    quote: str
    evidence: Evidence
    wanted_by: str | None = None
    program: str | None = None

    @property
    def is_probe(self) -> bool:
        """Whether a program tried something that it can do without: TensorFlow looks for CUDA on every machine."""
        return self.program == "tensorflow"

    @property
    def stem(self) -> str:
        """``libcublas``."""
        return stem_of(self.soname) or self.soname

    @property
    def by_torch(self) -> bool:
        """Whether torch's own libraries or its own search missed it."""
        by = self.wanted_by or ""
        return by == "torch" or "/torch/" in by or "libtorch" in by or "/torch/lib/" in self.quote


def miss_of(said: LibraryNotFound | LibraryNotLoadable) -> Miss:
    """The same for both kinds of message; a DLL under the name that its library has on Linux."""
    name = library_of_dll(said.library) or said.library
    if isinstance(said, LibraryNotFound):
        return Miss(name, said.quote, said.evidence(), said.wanted_by)
    return Miss(name, said.quote, said.evidence(), None, said.program)


def on_disk(
    soname: str, seen: tuple[LibrarySeen, ...], copies: LibraryCopies | None, gone: tuple[FileGone, ...] = ()
) -> tuple[Copy, ...]:
    """The files that could stand for a SONAME where they lie in a folder that the loader can be told of.

    Not what ldconfig's cache names (the loader has looked there) nor what auditwheel renamed.
    """
    missing = {normal(each.path) for each in gone}
    return tuple(
        copy
        for copy in copies_of(tuple(each for each in seen if each.how != "cached"), copies)
        if same_library(copy, soname)
        and "/" in copy.path
        and f"{copy.library}.so" in copy.path
        and copy.path not in missing
    )


@check.rule
def cudart_missing(
    wheels: WheelFiles,
    know: Knowledge,
    wanted: TorchRequirements | None,
    build: TorchBuild | None,
    imported: TorchImport | None,
) -> Findings:
    """No libcudart of the CUDA major that is needed can be found."""
    around = Around(know, build, wanted)
    for file in wheels.files:
        if file.problem == "missing" and stem_of(file.path) == "libcudart":
            yield lost(wheels, file, around, imported)


def lost(wheels: WheelFiles, file: WheelFile, around: Around, imported: TorchImport | None) -> Finding:
    """A file that a wheel brought is gone: an error where torch asks for that wheel and was not seen to do without."""
    needed = around.wanted is not None and around.wanted.of(file.distribution) is not None
    works = imported is not None and imported.ok
    name = file.path.rpartition("/")[2]
    return Finding(
        title=f"{name} is gone from where {file.distribution} {file.version} put it",
        subject=f"library:{name}",
        severity=Severity.ERROR if needed and not works else Severity.WARNING,
        detail=f"The wheel's RECORD lists {file.path}, and there is no such file. Whoever asks the loader for {name} "
        "finds another copy or none.",
        evidence=(wheels.shows("missing file", file.path),),
        remedies=(around.reinstall(file.distribution, why="it puts the file back"),),
        breaks=(library(name), imports("torch")) if needed and not works else (library(name),),
    )


@cudart_missing.sign
def _cudart_not_found(
    said: LibraryNotFound,
    know: Knowledge,
    build: TorchBuild | None,
    wanted: TorchRequirements | None,
    installed: Distributions | None,
    seen: tuple[LibrarySeen, ...],
    copies: LibraryCopies | None,
    broke: tuple[ModuleBroke, ...],
    stale: StaleCacheLines | None,
) -> Findings:
    miss = miss_of(said)
    if miss.stem == "libcudart":
        around = Around(know, build, wanted, installed)
        yield _missing(miss, around, bool(on_disk(miss.soname, seen, copies)), broke, stale)


@cudart_missing.sign
def _cudart_not_loadable(
    said: LibraryNotLoadable,
    know: Knowledge,
    build: TorchBuild | None,
    installed: Distributions | None,
    seen: tuple[LibrarySeen, ...],
    copies: LibraryCopies | None,
) -> Findings:
    miss = miss_of(said)
    if miss.stem != "libcudart":
        return
    if miss.program != "bitsandbytes":
        yield _missing(
            miss, Around(know, build, None, installed), bool(on_disk(miss.soname, seen, copies)), ()
        )
        return
    found = on_disk(miss.soname, seen, copies)
    yield Finding(
        title="bitsandbytes found no libcudart, and works on the CPU only",
        subject="library:libcudart",
        confidence=Confidence.LIKELY,
        detail="Releases of bitsandbytes before 0.43 search the folders of LD_LIBRARY_PATH and of the conda "
        "environment for a file libcudart.so*; later ones take the CUDA runtime that torch has loaded.",
        evidence=(miss.evidence, *shown(found)),
        remedies=(
            Install(("bitsandbytes>=0.43",), why="it uses the CUDA runtime that torch brings"),
            *(with_folder(copy.folder, "let it find libcudart") for copy in found[:1]),
        ),
        breaks=(library("libcudart.so"),),
        shows=(library("libcudart.so"),),
    )


def _missing(
    miss: Miss,
    around: Around,
    elsewhere: bool,
    broke: tuple[ModuleBroke, ...],
    stale: StaleCacheLines | None = None,
) -> Finding:
    """A library was asked for by name and is nowhere the loader looks."""
    major, own = soname_major(miss.soname), around.cuda_major
    row = around.owner(miss.soname)
    needed = row.cuda_major if row else _major_of_cuda(miss, major)
    name = miss.soname
    if major is None and row is not None:  # torch's own search does not tell the number
        name = row.soname if own == row.cuda_major and "{" not in row.soname else miss.soname[:-3]
    foreign = own is not None and needed is not None and needed != own
    by_torch = miss.by_torch or (own is not None and not foreign and not broke)
    cached = _is_cached(miss, row, around, stale)
    certain = (by_torch or own == needed is not None) and not elsewhere and not cached
    why = f" (the wheel {row.distribution} brings it)" if row and soname_major(name) else ""
    if foreign:
        why = f": something here was built for CUDA {needed}, and this torch brings CUDA {own}"
    return Finding(
        title=f"no {name} can be found{why}",
        subject=f"library:{name}",
        severity=Severity.NOTE if miss.is_probe else Severity.ERROR,
        confidence=Confidence.CERTAIN if certain and not foreign else Confidence.LIKELY,
        detail=_why_missing(miss, around, foreign, broke),
        evidence=(miss.evidence, *_torch(around)),
        remedies=_remedies(miss, around, foreign, broke, needed),
        breaks=() if miss.is_probe or cached else broken_by(miss.quote, miss.soname),
        shows=() if miss.is_probe else (library(miss.soname), *failed(miss.quote, miss.soname)),
        asks=(Ask("python -m torch.utils.collect_env", "which CUDA torch was built for"),)
        if own is None
        else (),
    )


def _is_cached(miss: Miss, row: WheelLibrary | None, around: Around, stale: StaleCacheLines | None) -> bool:
    """Whether the system's copy is the one that was meant, and the loader's cache has a stale line for it.

    Where torch's metadata asks for the wheel, the wheel is what is missing.
    """
    by_wheel = row is not None and around.wanted is not None and around.wanted.of(row.distribution)
    return not by_wheel and stale is not None and any(each.name == miss.soname for each in stale.lines)


def _major_of_cuda(miss: Miss, major: str | None) -> int | None:
    """The CUDA major that a SONAME is of where the table has no row for it: those two are numbered alike."""
    numbered = miss.stem in ("libcudart", "libcublas", "libcublasLt")
    return int(major) if numbered and major is not None else None


def _why_missing(miss: Miss, around: Around, foreign: bool, broke: tuple[ModuleBroke, ...]) -> str:
    module = broke[-1].module if broke else "the module that was imported"
    if foreign:
        return (
            f"A SONAME's number is that of a CUDA major: {module} wants {miss.soname}, torch "
            f"{around.build.version if around.build else ''} brings the libraries of CUDA {around.cuda_major}. "
            "Both must be of one major, for they share the runtime's state."
        )
    return (
        f"The loader looked for {miss.soname} in the run paths of {miss.wanted_by or 'whoever asked'}, in "
        "LD_LIBRARY_PATH, in its cache and in the system's folders. torch's wheels keep it in site-packages/nvidia, "
        "where only torch's own run path leads."
    )


def _remedies(
    miss: Miss, around: Around, foreign: bool, broke: tuple[ModuleBroke, ...], needed: int | None
) -> tuple[Remedy, ...]:
    row = around.owner(miss.soname)
    if not foreign:
        if row is None:
            return (Change(f"install the package that brings {miss.soname}", Reach.ENVIRONMENT),)
        return (around.reinstall(row.distribution, why=f"it brings {miss.soname}"),)
    module = broke[-1].module.partition(".")[0] if broke else "the extension"
    own = around.cuda_major or 0
    build = around.build.label if around.build else ""
    label = build if build.startswith("cu") else LABELS.get(own, f"cu{own}")
    rebuild = Change(
        f"install a build of {module} for this torch's CUDA ({label}), or build it from source against this torch",
        Reach.ENVIRONMENT,
        example=(f"pip install --no-build-isolation --no-binary :all: --force-reinstall {module}",),
    )
    if needed not in LABELS:
        return (rebuild,)  # no torch of today is built for that CUDA
    other = Install(
        ("torch",),
        build=LABELS[needed],
        why=f"a torch of the CUDA that {module} was built for",
        caveat="torchvision, torchaudio and other extensions must follow.",
    )
    return (rebuild, other)


def _torch(around: Around) -> tuple[Evidence, ...]:
    build = around.build
    if build is None or build.torch_cuda is None:
        return ()
    return (build.shows("torch", f"{build.version or '?'}, CUDA {build.torch_cuda}"),)


def shown(copies: tuple[Copy, ...]) -> tuple[Evidence, ...]:
    """The first copies as evidence."""
    return tuple(copy.evidence for copy in copies[:3] if copy.evidence)


@check.rule
def cuda_library_missing(
    wheels: WheelFiles,
    know: Knowledge,
    wanted: TorchRequirements | None,
    build: TorchBuild | None,
    imported: TorchImport | None,
) -> Findings:
    """A library of torch's CUDA family cannot be found."""
    around = Around(know, build, wanted)
    for file in wheels.files:
        if file.problem == "missing" and stem_of(file.path) != "libcudart":
            yield lost(wheels, file, around, imported)


@cuda_library_missing.sign
def _library_not_found(
    said: LibraryNotFound,
    know: Knowledge,
    build: TorchBuild | None,
    wanted: TorchRequirements | None,
    installed: Distributions | None,
    seen: tuple[LibrarySeen, ...],
    copies: LibraryCopies | None,
    broke: tuple[ModuleBroke, ...],
    stale: StaleCacheLines | None,
) -> Findings:
    miss = miss_of(said)
    if not _is_ours(miss):
        return
    around = Around(know, build, wanted, installed)
    if soname_major(miss.soname) is None and not miss.by_torch:
        yield from _unversioned(miss, around, seen, copies)
    else:
        yield _missing(miss, around, bool(on_disk(miss.soname, seen, copies)), broke, stale)


def _is_ours(miss: Miss) -> bool:
    return is_cuda(miss.soname) and not miss.stem.startswith(OTHERS)


def _unversioned(
    miss: Miss, around: Around, seen: tuple[LibrarySeen, ...], copies: LibraryCopies | None
) -> Findings:
    """``libnvrtc.so`` without a number is a name for linking that wheels and runtime packages leave out."""
    found = on_disk(miss.soname, seen, copies)
    numbered = [copy for copy in found if soname_major(copy.path)]
    row = around.owner(miss.soname)
    links: tuple[Remedy, ...] = tuple(
        linked(copy.folder, copy.path.rpartition("/")[2], miss.soname) for copy in numbered[:1]
    )
    example = f"cd \"$(python -c 'import nvidia.cuda_nvrtc as n; print(n.__path__[0])')/lib\" && ln -s {miss.soname}.* {miss.soname}"
    yield Finding(
        title=f"{miss.soname}, without a number, cannot be found: wheels bring numbered names only",
        subject=f"library:{miss.soname}",
        confidence=Confidence.LIKELY,
        detail=f"A program opens {miss.soname} by the name that linkers use. The packages for running programs hold "
        "the file with its major in the name; the bare name comes with development packages, or as a link that you make.",
        evidence=(miss.evidence, *shown(found)),
        remedies=links
        or (
            Change(
                f"make a link {miss.soname} beside the numbered file", Reach.ENVIRONMENT, example=(example,)
            ),
            *((around.reinstall(row.distribution),) if row else ()),
        ),
        breaks=broken_by(miss.quote, miss.soname),
        shows=(library(miss.soname), Outcome("kernel-on-gpu")),
    )


@cuda_library_missing.sign
def _library_not_loadable(
    said: LibraryNotLoadable,
    know: Knowledge,
    build: TorchBuild | None,
    wanted: TorchRequirements | None,
    installed: Distributions | None,
    seen: tuple[LibrarySeen, ...],
    copies: LibraryCopies | None,
) -> Findings:
    miss = miss_of(said)
    if not is_cuda(f"{miss.stem}.so") or miss.stem.startswith(OTHERS):
        return
    around = Around(know, build, wanted, installed)
    row = around.owner(miss.soname)
    if miss.program == "jax" and row and installed and installed.version(row.distribution):
        return  # JAX says so as well where the library is there and something that it needs is wrong
    yield _missing(miss, around, bool(on_disk(miss.soname, seen, copies)), ())
