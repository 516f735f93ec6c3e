"""The model of the loader against the loader: the same script in the same tree, answer by answer."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from envdoctor.loader.diagnostics import Diagnostics, parse
from envdoctor.loader.process import Failure, Loaded, Process
from envdoctor.loader.recorded import RecordedTree, record_of
from envdoctor.loader.settings import LoaderSettings
from envdoctor.loader.tree import LiveTree
from envdoctor.probing.elf import Elf, read_elf_file
from envdoctor.tree import host_tree
from tests.support.loader_oracle import Answer, Oracle, list_diagnostics, subfolders
from tests.support.loader_trees import Grower
from tests.support.loader_worlds import PROGRAM, Script, World, inside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.support.elf_writer import Dynamic

S = TypeVar("S", bound=msgspec.Struct)


class Disagreement(msgspec.Struct, frozen=True):
    """The first answer of a script in which the two differ."""

    world: World
    script: Script
    step: int
    """0: the start."""
    loader: Answer
    model: Answer


class Tally(msgspec.Struct):
    """What was compared."""

    resolutions: int = 0
    """Starts and dlopens, and the NEEDED entries of what they loaded."""
    scripts: int = 0
    kinds: Counter[str] = msgspec.field(default_factory=Counter)


def settings(world: World, script: Script) -> LoaderSettings:
    """As they are read from this machine's loader, for one run."""
    return this_machine().settings(
        machine="x86_64",
        program=PROGRAM,
        cwd=script.cwd,
        library_path=script.library_path,
        preload=script.preload,
        secure=world.setuid and script.uid != 0,
    )


@cache
def this_machine() -> Diagnostics:
    found = parse(list_diagnostics())
    if found is None:
        raise RuntimeError("this machine's loader does not describe itself")
    return found


def modelled(process: Process, script: Script) -> Iterator[Answer]:
    """What the model says of each step; only of the start where it says that the program does not start."""
    failure = process.start()
    if failure is not None:
        yield Answer(error=failure.message)
        return
    yield Answer(objects=_paths(process))
    for step in script.steps:
        callers = [None, *(each for each in process.objects if _generated(each))]
        told = process.dlopen(step.name, callers[step.caller % len(callers)])
        if isinstance(told, Failure):
            yield Answer(objects=_paths(process), error=told.message)
        else:
            yield Answer(objects=_paths(process), handle=told.path)


def _paths(process: Process) -> tuple[str, ...]:
    return tuple(each.path for each in process.objects if each.path)


def _generated(each: Loaded) -> bool:
    return bool(each.path) and not each.path.endswith(("/libc.so.6", "/ld-linux-x86-64.so.2"))


@contextmanager
def _as_user(root: Path, uid: int) -> Iterator[Path]:
    """The model reads as the program's user does; through a descriptor, so that the way to the root does not matter."""
    handle = os.open(root, os.O_PATH)
    try:
        if uid:
            os.setegid(uid)
            os.seteuid(uid)
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        if uid:
            os.seteuid(0)
            os.setegid(0)
        os.close(handle)


def compare(oracle: Oracle, world: World, root: Path, tally: Tally) -> Disagreement | None:
    """Run every script of a world both ways; `root` is written and removed."""
    root.mkdir()
    try:
        oracle.plant(world, root)
        for script in world.scripts:
            differs = _compare_script(oracle, world, root, script, tally)
            if differs is not None:
                return differs
    finally:
        os.chmod(root, 0o755)
        shutil.rmtree(root)
    return None


def _compare_script(
    oracle: Oracle, world: World, root: Path, script: Script, tally: Tally
) -> Disagreement | None:
    real = oracle.run(root, script)
    with _as_user(root, 0 if world.setuid else script.uid) as place:
        tree = LiveTree(host_tree(place, cwd=script.cwd, uid=os.geteuid(), gid=os.getegid()))
        process = Process(tree, settings(world, script))
        model = list(modelled(process, script))
        record = record_of(tree)
    recorded = list(modelled(Process(RecordedTree(record), settings(world, script)), script))
    if recorded != model:
        raise AssertionError(f"recorded: {world} {script} {recorded} {model}")
    tally.scripts += 1
    seen: set[str] = set()
    for step, (loader, ours) in enumerate(zip(real, model, strict=False)):
        if loader != ours:
            return Disagreement(world, script, step, loader, ours)
        new = [path for path in loader.objects if path not in seen]
        seen.update(new)
        tally.resolutions += 1 + sum(_edges(root, script.cwd, path) for path in new)
        _sort(tally, script, step, loader)
    _count(tally, process)
    if len(real) != len(model):
        return Disagreement(world, script, 0, real[0], model[0])
    return None


def _edges(root: Path, cwd: str, path: str) -> int:
    """How many NEEDED entries a loaded file has."""
    host = host_tree(root)
    elf = read_elf_file(inside(root, host.resolve(os.path.join(cwd, path))))
    return len(elf.needed) if isinstance(elf, Elf) else 0


def _sort(tally: Tally, script: Script, step: int, answer: Answer) -> None:
    if answer.error:
        words = re.sub("`.*", "...", answer.error.split(": ", 1)[1])
        tally.kinds[f"failed: {words}"] += 1
        return
    tally.kinds["started" if step == 0 else "opened"] += 1
    tally.kinds["with LD_LIBRARY_PATH"] += script.library_path is not None
    tally.kinds["with LD_PRELOAD"] += script.preload is not None
    tally.kinds["as another user"] += script.uid != 0
    tally.kinds["opened from a library"] += step > 0 and script.steps[step - 1].caller != 0


def _count(tally: Tally, process: Process) -> None:
    """By which rules the model found its files, and what it passed over on the way."""
    for lookup in process.lookups:
        rule = f" by {lookup.rule}" if lookup.rule else ""
        tally.kinds[f"lookup: {lookup.how}{rule}"] += 1
        tally.kinds["lookup: in a glibc-hwcaps subdirectory"] += "/glibc-hwcaps/" in lookup.found
        for attempt in lookup.attempts:
            tally.kinds[f"tried: {attempt.verdict}"] += 1


def disagreements(
    oracle: Oracle, chance: Random, folder: Path, resolutions: int, tally: Tally
) -> Iterator[Disagreement]:
    """Random worlds until so many resolutions agreed."""
    grower = Grower(chance, subfolders(), ids=not oracle.prefix)
    while tally.resolutions < resolutions:
        differs = compare(oracle, grower.world(), folder / "world", tally)
        if differs is not None:
            yield differs


def shrink(oracle: Oracle, found: Disagreement, folder: Path) -> Disagreement:
    """The same kind of disagreement in a smaller world: parts are left out one by one while the two still differ."""
    best = msgspec.structs.replace(found, world=_only(found))
    smaller = True
    while smaller:
        smaller = False
        for world in _smaller(best.world):
            try:
                differs = compare(oracle, world, folder / "shrunk", Tally())
            except (OSError, RuntimeError, ValueError):
                continue  # the smaller world does not hold together
            if differs is not None:
                best, smaller = differs, True
                break
    return best


def _only(found: Disagreement) -> World:
    steps = found.script.steps[: found.step]
    return msgspec.structs.replace(found.world, scripts=(msgspec.structs.replace(found.script, steps=steps),))


def _smaller(world: World) -> Iterator[World]:
    """Every world that lacks one part of this one."""
    replace = msgspec.structs.replace
    for field in ("libraries", "links", "folders"):
        parts = getattr(world, field)
        for index in range(len(parts)):
            yield replace(world, **{field: parts[:index] + parts[index + 1 :]})
    script = world.scripts[0]
    for index in range(len(script.steps)):
        yield replace(
            world, scripts=(replace(script, steps=script.steps[:index] + script.steps[index + 1 :]),)
        )
    for plain in _plainer(script, library_path=None, preload=None, cwd="/", uid=0):
        yield replace(world, scripts=(plain,))
    for index, step in enumerate(script.steps):
        for simple in _plainer(step, caller=0, flags=1):
            steps = (*script.steps[:index], simple, *script.steps[index + 1 :])
            yield replace(world, scripts=(replace(script, steps=steps),))
    yield from _plainer(
        world, merged=False, setuid=False, preload_file=None, conf=None, cache="new", makes_links=False
    )
    for dynamic in _shorter(world.program, keep=("libc.so.6",)):
        yield replace(world, program=dynamic)
    for index, library in enumerate(world.libraries):
        plainer = [replace(library, dynamic=each) for each in _shorter(library.dynamic)]
        plainer += _plainer(library, flaw=None, mode=0o755, late=False, gone=False)
        for each in plainer:
            yield replace(world, libraries=(*world.libraries[:index], each, *world.libraries[index + 1 :]))


def _plainer(struct: S, **defaults: object) -> Iterator[S]:
    for name, value in defaults.items():
        if getattr(struct, name) != value:
            yield msgspec.structs.replace(struct, **{name: value})


def _shorter(dynamic: Dynamic, keep: tuple[str, ...] = ()) -> Iterator[Dynamic]:
    for index, name in enumerate(dynamic.needed):
        if name not in keep:
            yield msgspec.structs.replace(
                dynamic, needed=dynamic.needed[:index] + dynamic.needed[index + 1 :]
            )
    for field in ("rpath", "runpath"):
        text = getattr(dynamic, field)
        if text is not None:
            yield msgspec.structs.replace(dynamic, **{field: None})
            parts = text.split(":")
            for index in range(len(parts) if len(parts) > 1 else 0):
                yield msgspec.structs.replace(
                    dynamic, **{field: ":".join(parts[:index] + parts[index + 1 :])}
                )
    yield from _plainer(dynamic, nodeflib=False, defines=(), requires=())
