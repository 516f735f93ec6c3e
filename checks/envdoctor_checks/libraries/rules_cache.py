"""Lines of the loader's cache whose files are gone."""

from __future__ import annotations

from envdoctor.api import Confidence, Finding, Findings, Reach, Run, Severity, library
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.clues import normal
from envdoctor_checks.libraries.facts import FileGone, LibraryNotFound, LibrarySeen, StaleCacheLines
from envdoctor_checks.libraries.names import DRIVER, stem_of
from envdoctor_checks.libraries.owners import broken_by, failed

REFRESH = Run("write the loader's cache anew", ("ldconfig",), Reach.HOST, needs_root=True)


@check.rule
def stale_ld_cache(lines: StaleCacheLines, missed: tuple[LibraryNotFound, ...]) -> Findings:
    """The loader's cache names a file that is gone, and the loader does not try a second entry."""
    for line in lines.lines:
        said = next((each for each in missed if each.library == line.name), None)
        if stem_of(line.name) in DRIVER and said is None:
            continue  # the driver's check speaks of these
        yield Finding(
            title=f"ld.so.cache still has {line.name} at {line.path}, where it is not",
            subject=f"library:{line.name}",
            severity=Severity.ERROR if said else Severity.NOTE,
            detail="ldconfig wrote the cache when the file was there. The loader takes the first line of a name; where "
            "that file is gone it tries the system's own folders and nothing else.",
            evidence=(
                lines.shows("cache line", f"{line.name} => {line.path}"),
                *((said.evidence(),) if said else ()),
            ),
            remedies=(REFRESH,),
            breaks=broken_by(said.quote, line.name) if said else (),
            shows=(library(line.name), *failed(said.quote, line.name)) if said else (),
        )


@stale_ld_cache.sign
def _cached_and_gone(
    said: LibraryNotFound, seen: tuple[LibrarySeen, ...], gone: tuple[FileGone, ...]
) -> Findings:
    for each in seen:
        if (
            each.how != "cached"
            or not normal(each.path).endswith(f"/{said.library}")
            or stem_of(said.library) in DRIVER
        ):
            continue
        proof = next((one for one in gone if one.path == each.path), None)
        yield Finding(
            title=f"ld.so.cache has {said.library} at {each.path}, and the loader does not find it there",
            subject=f"library:{said.library}",
            confidence=Confidence.CERTAIN if proof else Confidence.LIKELY,
            detail="ldconfig -p prints what was there when ldconfig ran last. The loader takes the first line of a "
            "name; where that file is gone it tries the system's own folders and nothing else.",
            evidence=(said.evidence(), each.evidence("cache line"), *((proof.evidence(),) if proof else ())),
            remedies=(REFRESH,),
            breaks=broken_by(said.quote, said.library),
            shows=(library(said.library), *failed(said.quote, said.library)),
        )
