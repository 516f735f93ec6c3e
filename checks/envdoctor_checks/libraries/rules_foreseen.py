"""Extensions that would not load, by the model of the loader: nobody has tried, so nothing here is certain."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from envdoctor.api import (
    Confidence,
    Evidence,
    Finding,
    Findings,
    Platform,
    Severity,
    Symptom,
    Variables,
    imports,
)
from envdoctor.text.late import Late
from envdoctor_checks.libraries.clues import entries_of
from envdoctor_checks.libraries.facts import BadLibraryFile, SearchPath, VersionNotFound
from envdoctor_checks.libraries.facts_loader import LoaderPredictions, Opened
from envdoctor_checks.libraries.knowledge import Knowledge
from envdoctor_checks.libraries.owners import Around
from envdoctor_checks.libraries.rules_files import library_corrupt, refused
from envdoctor_checks.libraries.rules_runtimes import (
    glibc_too_old,
    lacking_version,
    libstdcxx_too_old,
    needing_glibc,
)
from envdoctor_checks.libraries.tables import Runtimes
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild, TorchRequirements

LACKS = Late(r"(?P<library>\S+): version `(?P<version>[^']+)' not found \(required by (?P<by>.+)\)")
UNUSABLE = Late(r"(?P<path>/.+): (?P<problem>file too short|invalid ELF header)")


@glibc_too_old.sign
def _extension_needs_glibc(
    predicted: LoaderPredictions, table: Runtimes, platform: Platform | None
) -> Findings:
    for opened, said in _versions(predicted):
        yield from _foreseen(predicted, opened, said, needing_glibc(said, table, platform))


@libstdcxx_too_old.sign
def _extension_needs_libstdcxx(
    predicted: LoaderPredictions, table: Runtimes, variables: Variables | None, path: SearchPath | None
) -> Findings:
    entries = entries_of(variables, path)
    for opened, said in _versions(predicted):
        left_out = next(
            (
                each.dropped
                for each in sorted(predicted.scenarios[1:], key=lambda one: len(one.dropped))
                if (then := each.extension(opened.name)) is not None and then.failure is None
            ),
            (),
        )
        yield from _foreseen(predicted, opened, said, lacking_version(said, table, entries, left_out))


@library_corrupt.sign
def _extension_unusable(
    predicted: LoaderPredictions,
    know: Knowledge,
    build: TorchBuild | None,
    wanted: TorchRequirements | None,
    installed: Distributions | None,
) -> Findings:
    for opened in predicted.actual.extensions:
        if found := UNUSABLE.fullmatch(opened.failure or ""):
            quote = f"{opened.name}: {opened.failure}"
            said = BadLibraryFile(path=found["path"], problem=found["problem"], quote=quote)
            yield from _foreseen(
                predicted, opened, said, refused(said, Around(know, build, wanted, installed))
            )


def _versions(predicted: LoaderPredictions) -> Iterator[tuple[Opened, VersionNotFound]]:
    """The extensions that would fail for want of a version, as the loader would word it."""
    for opened in predicted.actual.extensions:
        if found := LACKS.fullmatch(opened.failure or ""):
            yield (
                opened,
                VersionNotFound(
                    library=found["library"],
                    version=found["version"],
                    wanted_by=found["by"],
                    quote=f"{opened.name}: {opened.failure}",
                ),
            )


def _foreseen(
    predicted: LoaderPredictions, opened: Opened, said: Symptom, found: Findings
) -> Iterator[Finding]:
    """A finding about a message that was not printed: a warning about the extension, and likely at most."""
    module = opened.name.rpartition("-packages/")[2].partition("/")[0].partition(".")[0]
    for each in found:
        yield msgspec.structs.replace(
            each,
            severity=Severity.WARNING,
            confidence=Confidence.LIKELY,
            evidence=(Evidence("the loader would say", said.quote, predicted.source), *each.evidence[1:]),
            breaks=(imports(module),),
            shows=(),
        )
