"""The views of ``envdoctor libraries``. The model of the loader is imported when one is asked for."""

from __future__ import annotations

from envdoctor.api import Asked, View
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.facts import LibraryCopies, LoadedLibraries
from envdoctor_checks.libraries.facts_loader import (
    LibraryOpened,
    LoaderPredictions,
    LoaderSetup,
    LoaderTree,
    TorchLoading,
)


@check.view
def torch_libraries(
    setup: LoaderSetup,
    tree: LoaderTree,
    loading: TorchLoading,
    predicted: LoaderPredictions,
    loaded: LoadedLibraries | None,
    copies: LibraryCopies | None,
    asked: Asked | None,
) -> View | None:
    """Every CUDA library of torch's process, where no single one was asked about."""
    if asked is None or asked.library != "":
        return None
    from envdoctor_checks.libraries.resolving import of_torch

    return of_torch(setup, tree, loading, predicted, loaded, copies)


@check.view
def one_library(
    setup: LoaderSetup,
    tree: LoaderTree,
    loading: TorchLoading | None,
    opened: LibraryOpened | None,
    copies: LibraryCopies | None,
    asked: Asked | None,
) -> View | None:
    """The library or file that was asked about."""
    if asked is None or not asked.library:
        return None
    from envdoctor_checks.libraries.resolving import of_one

    return of_one(asked.library, setup, tree, loading, opened, copies)
