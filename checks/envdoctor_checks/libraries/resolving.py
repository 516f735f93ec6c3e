"""How the loader resolves one library, or all of torch's, as a view."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from envdoctor.api import View
from envdoctor.loader.process import Failure, Loaded, Process
from envdoctor.loader.recorded import RecordedTree
from envdoctor.loader.tree import NotRecorded
from envdoctor_checks.libraries.explaining import Line, clean, lines_of, losers
from envdoctor_checks.libraries.facts import LibraryCopies, LoadedLibraries
from envdoctor_checks.libraries.facts_loader import (
    LibraryOpened,
    LoaderPredictions,
    LoaderSetup,
    LoaderTree,
    Opened,
    TorchLoading,
)
from envdoctor_checks.libraries.names import is_cuda, is_watched
from envdoctor_checks.libraries.predicting import CRASH, by_name, import_torch, started, without, words

COLUMNS = ("library", "file", "why")
PROVEN = (2, 36)
"""The release of glibc on which the model was compared with the real loader."""


def of_torch(
    setup: LoaderSetup,
    tree: LoaderTree,
    loading: TorchLoading,
    predicted: LoaderPredictions,
    loaded: LoadedLibraries | None,
    copies: LibraryCopies | None,
) -> View:
    """Every CUDA library of torch's process: the file, the rule, and what else there was."""
    title = "What torch's process gets, and why"
    try:
        process, _, failure = started(RecordedTree(tree.record), setup)
        failure = failure or import_torch(process, loading)
    except NotRecorded as missing:  # recordings of two machines, one on top of the other
        return shown(title, [not_recorded(missing, "envdoctor record")])
    lines: list[Line] = []
    for each in process.lookups:
        if each.how in ("searched", "failed") and (is_cuda(each.name) or each.how == "failed"):
            lines += lines_of(process, each, 0, {one.found for one in process.lookups}, brief=True)
            lines += losers(
                RecordedTree(tree.record), setup.settings, process, each, copies.copies if copies else (), 1
            )
    if failure is not None:
        lines.append(Line(0, "import torch", "would fail", words(failure) or ""))
    lines += what_ifs(predicted)
    lines += standing(setup, agreement(process, loaded))
    return shown(title, lines)


def of_one(
    name: str,
    setup: LoaderSetup,
    tree: LoaderTree,
    loading: TorchLoading | None,
    opened: LibraryOpened | None,
    copies: LibraryCopies | None,
) -> View:
    """One library or file: alone, after torch, and without LD_LIBRARY_PATH."""
    known = RecordedTree(tree.record)
    lines: list[Line] = []
    foreseen: Opened | None = None
    try:
        foreseen = next(by_name(known, setup, [name]))
        lines.append(Line(0, "asked for by a program of its own (ctypes.CDLL)"))
        lines += answer(known, setup, None, name, copies)
        if loading is not None:
            lines.append(Line(0, "asked for after import torch"))
            lines += answer(known, setup, loading, name, copies)
            process, _, failure = started(known, setup)
            failure = failure or import_torch(process, loading)
            if failure is not None:
                lines.append(Line(1, "import torch", "would fail", words(failure) or ""))
        if setup.settings.library_path:
            lines.append(Line(0, "asked for with LD_LIBRARY_PATH unset"))
            bare = without(setup, re.split("[:;]", setup.settings.library_path))
            lines += answer(known, bare, None, name, copies)
    except NotRecorded as missing:
        lines.append(not_recorded(missing, f"envdoctor record --library {name}"))
    tried = opened if opened is not None and opened.name == name else None
    lines += standing(setup, truth(tried, foreseen))
    return shown(f"How the loader resolves {name}", lines)


def answer(
    tree: RecordedTree,
    setup: LoaderSetup,
    loading: TorchLoading | None,
    name: str,
    copies: LibraryCopies | None,
) -> Iterator[Line]:
    """One request through ctypes, in a process that has imported torch where `loading` is given, told in full."""
    process, caller, failure = started(tree, setup)
    if failure is None and loading is not None:
        import_torch(process, loading)
    if failure is not None:
        yield Line(1, "the interpreter does not start", "", words(failure) or "")
        return
    before = len(process.lookups)
    known = next((each for each in process.objects if name in each.names or each.soname == name), None)
    opened = process.dlopen(name, caller)
    made = process.lookups[before:]
    if not made:
        return
    seen = (
        {each.file for each in process.objects if each is not opened} if isinstance(opened, Loaded) else set()
    )
    seen.discard(made[0].found)
    yield from lines_of(process, made[0], 1, seen)
    if known is not None:
        first = next((each for each in process.lookups[:before] if each.found == known.file), None)
        if first is not None:
            yield from lines_of(process, first, 2, {each.found for each in process.lookups})
    yield from losers(tree, setup.settings, process, made[0], copies.copies if copies else (), 2)
    if isinstance(opened, Failure) and made[0].how != "failed":
        yield Line(1, "it fails", "", words(opened) or "")


def what_ifs(predicted: LoaderPredictions) -> Iterator[Line]:
    """What leaving out parts of LD_LIBRARY_PATH would change."""
    actual = predicted.actual
    for each in predicted.scenarios[1:]:
        changed = [
            (look.name, look.found)
            for look in each.lookups
            if look.how != "failed" and look.found != (actual.found(look.name) or "")
        ]
        left_out = ":".join(each.dropped) or "its empty element (the current directory)"
        label = f"LD_LIBRARY_PATH without {left_out}"
        if each.failure != actual.failure:
            yield Line(0, label, "import torch", each.failure or "would work, as far as the loader goes")
        for name, found in changed:
            yield Line(0, label, clean(found), f"for {name}")
        if not changed and each.failure == actual.failure:
            yield Line(0, label, "nothing changes")


def agreement(process: Process, loaded: LoadedLibraries | None) -> str:
    """Whether what was mapped is what the model says; only files that are watched are compared."""
    if loaded is None:
        return "no process was seen that has imported torch: this is the model's answer alone"
    expected = sorted({clean(each.file) for each in process.objects if is_watched(each.file)})
    strange = [path for path in expected if not any(is_same(path, each.path) for each in loaded.files)]
    if strange:
        return f"the real process differs: it has no {', '.join(strange)}; take the rest with care"
    return f"the real process has the same {len(expected)} files"


def is_same(opened: str, mapped: str) -> bool:
    """Whether a file that was opened by one path may be mapped under another, its links followed.

    Links of a system's folders lead to other names (``libstdc++.so.6.0.30``) and folders; those of wheels do not.
    """
    folder, _, name = opened.rpartition("/")
    real_folder, _, real_name = mapped.rpartition("/")
    return real_name.startswith(name) and ("-packages/" not in opened or folder == real_folder)


def truth(opened: LibraryOpened | None, foreseen: Opened | None) -> str:
    """What the loader really did with the name, beside what the model says of the same request."""
    if opened is None:
        return "it was not tried: this is the model's answer alone"
    got = opened.path or opened.failure or ""
    if foreseen is None:
        return f"tried in a process of its own: {got}"
    if opened.failure is None or foreseen.failure is None:
        agrees = opened.failure == foreseen.failure and clean(opened.path or "") == clean(foreseen.path)
    else:
        agrees = foreseen.failure in (opened.failure, CRASH)  # which no loader has words for
    return f"tried in a process of its own: {got}" + (
        "" if agrees else "; the model differs, so mistrust it here"
    )


def not_recorded(missing: NotRecorded, command: str) -> Line:
    """A question that the recording cannot answer, and what to record so that it can."""
    return Line(0, "not recorded", str(missing), f"record it with: {command}")


def standing(setup: LoaderSetup, seen: str) -> Iterator[Line]:
    """How far this can be trusted."""
    release = ".".join(map(str, setup.settings.libc))
    proven = (
        "compared with the real loader"
        if setup.settings.libc == PROVEN
        else "by glibc's sources, compared on 2.36 only"
    )
    yield Line(0, "how sure", f"a model of glibc {release}'s loader ({proven})", seen)


def shown(title: str, lines: Sequence[Line]) -> View:
    """Lines as a view."""
    return View(
        title,
        COLUMNS,
        tuple((each.what, each.file, each.why) for each in lines),
        depths=tuple(each.depth for each in lines),
    )
