"""What the model says of ``import torch``, of extensions after it, and of bare names: pure, over any tree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec import structs

from envdoctor.loader.process import Failure, Loaded, Process
from envdoctor_checks.libraries.facts_loader import LoaderSetup, Opened, Scenario, TorchLoading
from envdoctor_checks.libraries.names import is_watched

if TYPE_CHECKING:
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


def started(tree: Tree, setup: LoaderSetup) -> tuple[Process, Loaded | None, Failure | None]:
    """The interpreter at its prompt, the object whose code opens libraries for ctypes, and why it did not start."""
    process = Process(tree, setup.settings)
    failure = process.start()
    caller = process.dlopen(setup.ctypes) if setup.ctypes and failure is None else None
    return process, caller if isinstance(caller, Loaded) else None, failure


def scenarios(
    tree: Tree, setup: LoaderSetup, loading: TorchLoading, extensions: Iterable[str]
) -> Iterator[Scenario]:
    """As it is, without LD_LIBRARY_PATH, and without each of its elements."""
    files = tuple(extensions)
    yield scenario(tree, setup, loading, files, ())
    path = setup.settings.library_path
    elements = tuple(dict.fromkeys(re.split("[:;]", path))) if path else ()
    if elements:
        yield scenario(tree, setup, loading, files, elements)
    if 1 < len(elements) <= MOST_ELEMENTS:
        for each in elements:
            yield scenario(tree, setup, loading, files, (each,))


def scenario(
    tree: Tree, setup: LoaderSetup, loading: TorchLoading, extensions: Iterable[str], dropped: tuple[str, ...]
) -> Scenario:
    """One of them."""
    changed = without(setup, dropped)
    process, caller, failure = started(tree, changed)
    failure = failure or import_torch(process, loading)
    torch = process.lookups
    opened = tuple(opened_by(process, caller, path) for path in extensions) if failure is None else ()
    kept = tuple(
        each if each.how == "failed" else structs.replace(each, attempts=())  # the tree tells them anew
        for each in torch
        if is_watched(each.name) or each.how == "failed"
    )
    drivers = tuple(by_name(tree, changed, DRIVER_NAMES)) if dropped else ()
    return Scenario(dropped, words(failure), kept, opened, drivers)


def without(setup: LoaderSetup, dropped: Iterable[str]) -> LoaderSetup:
    """The same with elements of LD_LIBRARY_PATH left out; unset where none remains."""
    gone, path = set(dropped), setup.settings.library_path
    if not gone or path is None:
        return setup
    rest = [each for each in re.split("[:;]", path) if each not in gone]
    settings = structs.replace(setup.settings, library_path=":".join(rest) if rest else None)
    return structs.replace(setup, settings=settings)


def opened_by(process: Process, caller: Loaded | None, name: str) -> Opened:
    """What becomes of one more file or name that ctypes is asked for in a process."""
    opened = process.dlopen(name, caller)
    return Opened(name, words(opened)) if isinstance(opened, Failure) else Opened(name, path=opened.file)


def by_name(tree: Tree, setup: LoaderSetup, names: Iterable[str]) -> Iterator[Opened]:
    """What a program without torch gets that asks for a bare name through ctypes, each in a process of its own."""
    for name in names:
        process, caller, failure = started(tree, setup)
        yield Opened(name, words(failure)) if failure is not None else opened_by(process, caller, name)


def ask(tree: Tree, setup: LoaderSetup, loading: TorchLoading | None, library: str) -> None:
    """Look at all that a question about one library needs, alone and after torch, with LD_LIBRARY_PATH and without."""
    for each in (setup, without(setup, re.split("[:;]", setup.settings.library_path or ""))):
        process, caller, failure = started(tree, each)
        if failure is None:
            opened_by(process, caller, library)
    if loading is not None:
        process, caller, failure = started(tree, setup)
        if failure is None:
            import_torch(process, loading)
            opened_by(process, caller, library)
