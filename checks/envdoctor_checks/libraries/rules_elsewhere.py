"""Libraries of the CUDA family that are on the machine, and not where the loader looks."""

from __future__ import annotations

import msgspec

from envdoctor.api import Change, Finding, Findings, Reach, Remedy, Variables, library
from envdoctor_checks.libraries.advice import IMPORT_AGAIN, in_cache, with_folder
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.clues import Copy, entries_of, in_wheel
from envdoctor_checks.libraries.facts import (
    FileGone,
    LibraryCopies,
    LibraryNotFound,
    LibraryNotLoadable,
    LibrarySeen,
    SearchPath,
)
from envdoctor_checks.libraries.names import is_cuda, soname_major
from envdoctor_checks.libraries.owners import broken_by, failed
from envdoctor_checks.libraries.rules_missing import Miss, miss_of, on_disk, shown


@check.rule
def cuda_library_not_on_path(
    said: LibraryNotFound,
    seen: tuple[LibrarySeen, ...],
    gone: tuple[FileGone, ...],
    copies: LibraryCopies | None,
    variables: Variables | None,
    path: SearchPath | None,
) -> Findings:
    """A CUDA library is on the machine, and not where the loader looks for whoever needs it."""
    yield from _elsewhere(miss_of(said), on_disk(said.library, seen, copies, gone), variables, path)


@cuda_library_not_on_path.sign
def _not_loadable_and_there(
    said: LibraryNotLoadable,
    seen: tuple[LibrarySeen, ...],
    gone: tuple[FileGone, ...],
    copies: LibraryCopies | None,
    variables: Variables | None,
    path: SearchPath | None,
) -> Findings:
    miss = miss_of(said)
    if soname_major(miss.soname) and miss.program != "jax" and not miss.is_probe:
        yield from _elsewhere(miss, on_disk(miss.soname, seen, copies, gone), variables, path)


def _elsewhere(
    miss: Miss, found: tuple[Copy, ...], variables: Variables | None, path: SearchPath | None
) -> Findings:
    entries = entries_of(variables, path)
    exact = [copy for copy in found if soname_major(copy.path)]
    if not exact or not is_cuda(miss.soname) or not soname_major(miss.soname):
        return
    if miss.stem.startswith(("libcudnn", "libnvrtc-builtins")):
        return
    copy = exact[0]
    if entries.supplying(copy.path) or (miss.by_torch and in_wheel(copy.path)):
        return  # the loader looks there: something else is wrong
    wheel = in_wheel(copy.path)
    remedies: tuple[Remedy, ...] = (with_folder(copy.folder, f"let the loader find {miss.soname}"),)
    if wheel:
        remedies += (
            Change(
                "import torch before the module that needs it: what torch has loaded serves all",
                Reach.ENVIRONMENT,
                example=("import torch  # first",),
            ),
        )
    else:
        remedies += (in_cache(copy.folder),)
    yield Finding(
        title=f"{miss.soname} is in {copy.folder}, where the loader does not look",
        subject=f"library:{miss.soname}",
        detail=f"{miss.wanted_by or 'The program'} asks for {miss.soname} by its name. The loader searches run paths, "
        "LD_LIBRARY_PATH, its cache and the system's folders; "
        + (
            "a wheel's folder is known to torch's own run path only."
            if wheel
            else "a toolkit's folder is none of these unless someone adds it."
        ),
        evidence=(miss.evidence, *shown((copy,)), *((entries.evidence(),) if entries.known else ())),
        remedies=tuple(
            msgspec.structs.replace(each, verify=each.verify or IMPORT_AGAIN) for each in remedies
        ),
        breaks=broken_by(miss.quote, miss.soname),
        shows=(library(miss.soname), *failed(miss.quote, miss.soname)),
    )
