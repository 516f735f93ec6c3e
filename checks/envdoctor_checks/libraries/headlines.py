"""The CUDA libraries in the machine's summary, and the table of all copies."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.api import Headline, View
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.facts import LibraryCopies, LoadedLibraries, LoaderTrace, WheelFiles
from envdoctor_checks.libraries.names import file_version, is_cuda, soname_major, stem_of

SHOWN = ("libcudart", "libcudnn")
"""The runtime tells which CUDA is in use; cuDNN is what most often comes from elsewhere."""


@check.headline
def cuda_libraries(loaded: LoadedLibraries | None, wheels: WheelFiles | None) -> Iterator[Headline]:
    """``libcudart 12.8.90 from nvidia-cuda-runtime-cu12``: the ones that are loaded, else the ones that wheels brought."""
    brought = {stem_of(each.path): each for each in wheels.files if each.problem is None} if wheels else {}
    parts = []
    for library in SHOWN:
        files = loaded.of(library) if loaded else ()
        wheel = brought.get(library)
        if files:
            owner = wheels.owner(files[0].path) if wheels else None
            version = (
                owner.version if owner else file_version(files[0].path) or soname_major(files[0].path) or ""
            )
            parts.append(
                f"{library} {version} from {owner.distribution if owner else _folder(files[0].path)}"
            )
        elif wheel is not None and loaded is None:
            parts.append(f"{library} {wheel.version} from {wheel.distribution}")
    if parts:
        yield Headline("CUDA libraries", ", ".join(parts), order=60)


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


@check.view
def copies(found: LibraryCopies, loaded: LoadedLibraries | None, trace: LoaderTrace | None) -> View:
    """Every copy of a CUDA library, whose it is, and whether torch took it."""
    taken = {each.path for each in loaded.files} if loaded else set()
    rules = {each.found: each.rule or "" for each in trace.lookups if each.found} if trace else {}
    rows = [
        (
            each.library,
            each.path,
            each.owner or each.place,
            each.problem or ("dangling link" if each.file is None else ""),
            _taken(each.path in taken or each.file in taken, rules.get(each.path, "")),
        )
        for each in found.copies
        if is_cuda(each.path)
    ]
    return View("CUDA libraries", ("library", "file", "from", "problem", "loaded by torch"), tuple(rows))


def _taken(loaded: bool, rule: str) -> str:
    return f"yes, by {rule}" if loaded and rule else "yes" if loaded else ""
