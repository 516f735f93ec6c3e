"""What the model says of ``import torch``, of extensions after it, and of bare names: pure, over any tree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec import structs

from envdoctor.loader.process import Failure, Loaded, Process
from envdoctor_checks.libraries.facts_loader import Opened, Scenario, TorchLoading
from envdoctor_checks.libraries.names import is_watched

if TYPE_CHECKING:
    from envdoctor.loader.settings import LoaderSettings
    from envdoctor.loader.tree import Tree

CRASH = "the process is killed while the file is read"
DRIVER_NAMES = ("libcuda.so.1", "libnvidia-ml.so.1")
MOST_ELEMENTS = 12
"""Elements of LD_LIBRARY_PATH of which each is tried without; longer lists are only dropped as a whole."""


def import_torch(process: Process, loading: TorchLoading) -> Failure | None:
    """Open what ``import torch`` opens, as its start-up code goes. None where the loader has no reason to fail."""
    first = process.dlopen(loading.dependencies)
    if isinstance(first, Failure):
        if first.crash or not _concerns(first.message, loading.after_failure_stems()):
            return first
        for each in loading.after_failure:
            if each.path is None:
                return Failure(f"{each.pattern} not found in the system path")
            opened = process.dlopen(each.path)
            if isinstance(opened, Failure):
                return opened
        first = process.dlopen(loading.dependencies)
        if isinstance(first, Failure):
            return first
    elif any(loading.needs_in_maps in each.file for each in process.objects):
        for each in loading.after_success:
            if each.path is None or isinstance(process.dlopen(each.path), Failure):
                break
    last = process.dlopen(loading.extension)
    return last if isinstance(last, Failure) else None


def _concerns(message: str, stems: Iterable[str]) -> bool:
    return any(stem in message for stem in stems)


def words(failure: Failure | None) -> str | None:
    """A failure as one line."""
    return None if failure is None else failure.message or CRASH


def scenarios(
    tree: Tree,
    settings: LoaderSettings,
    loading: TorchLoading,
    extensions: Iterable[str],
    ctypes: str | None = None,
) -> Iterator[Scenario]:
    """As it is, without LD_LIBRARY_PATH, and without each of its elements."""
    files = tuple(extensions)
    yield scenario(tree, settings, loading, files, ())
    elements = (
        tuple(dict.fromkeys(re.split("[:;]", settings.library_path or ""))) if settings.library_path else ()
    )
    if elements:
        yield scenario(tree, settings, loading, files, elements, ctypes)
    if 1 < len(elements) <= MOST_ELEMENTS:
        for each in elements:
            yield scenario(tree, settings, loading, files, (each,), ctypes)


def scenario(
    tree: Tree,
    settings: LoaderSettings,
    loading: TorchLoading,
    extensions: Iterable[str],
    dropped: tuple[str, ...],
    ctypes: str | None = None,
) -> Scenario:
    """One of them."""
    kept_settings = without(settings, dropped)
    process = Process(tree, kept_settings)
    failure = process.start() or import_torch(process, loading)
    torch = process.lookups
    opened = tuple(opened_after(process, path) for path in extensions) if failure is None else ()
    kept = tuple(
        each if each.how == "failed" else structs.replace(each, attempts=())  # the tree tells them anew
        for each in torch
        if is_watched(each.name) or each.how == "failed"
    )
    drivers = tuple(by_name(tree, kept_settings, ctypes, DRIVER_NAMES)) if dropped else ()
    return Scenario(dropped, words(failure), kept, opened, drivers)


def without(settings: LoaderSettings, dropped: Iterable[str]) -> LoaderSettings:
    """The settings with elements of LD_LIBRARY_PATH left out; unset where none remains."""
    gone = set(dropped)
    if not gone or settings.library_path is None:
        return settings
    rest = [each for each in re.split("[:;]", settings.library_path) if each not in gone]
    return structs.replace(settings, library_path=":".join(rest) if rest else None)


def opened_after(process: Process, path: str) -> Opened:
    """What becomes of one more file in a process."""
    opened = process.dlopen(path)
    return Opened(path, words(opened)) if isinstance(opened, Failure) else Opened(path, path=opened.file)


def by_name(
    tree: Tree, settings: LoaderSettings, ctypes: str | None, names: Iterable[str]
) -> Iterator[Opened]:
    """What a program without torch gets that asks for a bare name through ctypes, each in a process of its own."""
    for name in names:
        process = Process(tree, settings)
        failure = process.start()
        caller = process.dlopen(ctypes) if ctypes and failure is None else None
        if failure is not None:
            yield Opened(name, words(failure))
            continue
        opened = process.dlopen(name, caller if isinstance(caller, Loaded) else None)
        yield Opened(name, words(opened)) if isinstance(opened, Failure) else Opened(name, path=opened.file)
