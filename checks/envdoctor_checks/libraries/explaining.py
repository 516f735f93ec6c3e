"""A resolution as lines of a tree: which file, by which rule, over which candidates, and why each of them lost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from envdoctor.loader.search import Attempt, Place, Search

if TYPE_CHECKING:
    from envdoctor.loader.process import Loaded, Lookup, Process
    from envdoctor.loader.settings import LoaderSettings
    from envdoctor.loader.tree import Tree
    from envdoctor_checks.libraries.facts import LibraryCopy

RULES = {
    "path": "its path",
    "rpath": "RPATH",
    "ld-library-path": "LD_LIBRARY_PATH",
    "runpath": "RUNPATH",
    "cache": "ld.so.cache",
    "default": "the default directories",
}
VERDICTS = {
    "taken": "taken",
    "absent": "not there",
    "no-directory": "no such directory",
    "permission": "may not be read by this user",
    "other-class": "passed over: not a 64-bit file",
    "other-machine": "passed over: for another processor",
    "stale": "not there: the line in ld.so.cache is stale",
    "not-set-uid": "passed over: a privileged program preloads set-user-ID files only",
    "directory": "a directory, at which the search ends",
    "crash": "cut short: the process would be killed while reading it",
}
DEEPEST = 12


class Line(msgspec.Struct, frozen=True):
    """One line: what is asked for, what it is, why."""

    depth: int
    what: str
    file: str = ""
    why: str = ""


def lines_of(
    process: Process, lookup: Lookup, depth: int, seen: set[str], *, brief: bool = False
) -> Iterator[Line]:
    """One lookup with everything that it considered, and what its file needs in turn; `brief`: only what failed."""
    name = lookup.name if "/" not in lookup.name else lookup.name.rpartition("/")[2]
    yield Line(depth, name, clean(lookup.found) or "not found", why_of(lookup))
    if lookup.how == "failed" or (not brief and len(lookup.attempts) > 1):
        yield from considered(lookup.attempts, depth + 1)
        yield from not_asked(process, lookup, depth + 1)
    if lookup.how != "searched" or lookup.found in seen or depth >= DEEPEST:
        return
    seen.add(lookup.found)
    for need in process.lookups:
        if need.wanted_by == lookup.found and not need.dlopen:
            yield from lines_of(process, need, depth + 1, seen, brief=brief)


def clean(path: str) -> str:
    """A path without ``..`` where that only leads out of a folder that is named before it."""
    return os.path.normpath(path) if path.startswith("/") else path


def why_of(lookup: Lookup) -> str:
    """The rule on the edge."""
    if lookup.how == "already-loaded":
        return "already in the process under this name, which ends the search before it begins"
    if lookup.how == "same-file":
        return "the same file as one that is in the process"
    if lookup.how == "failed":
        last = lookup.attempts[-1].verdict if lookup.attempts else "absent"
        return VERDICTS.get(last, last) if last not in ("absent", "no-directory") else "no candidate is left"
    rule = RULES[lookup.rule or "path"]
    return f"by {rule} of {clean(lookup.source)}" if lookup.source else f"by {rule}"


def considered(attempts: Sequence[Attempt], depth: int) -> Iterator[Line]:
    """Every file that was tried, in order, rule by rule; hardware subdirectories that are not there are counted."""
    asked: set[str] = set()
    for (rule, source), group in groupby(attempts, key=lambda each: (each.rule, each.source)):
        if rule == "default" and "cache" not in asked:
            yield Line(depth, RULES["cache"], "", "has no line for it")
        asked.add(rule)
        tried = list(group)
        real = [each for each in tried if each.verdict != "no-directory" or not is_subdirectory(each.path)]
        left_out = (
            f" ({len(tried) - len(real)} hardware subdirectories are not there)"
            if len(real) < len(tried)
            else ""
        )
        yield Line(
            depth, f"{RULES[rule]} of {clean(source)}" if source else RULES[rule], "", left_out.strip(" ()")
        )
        for each in real:
            yield Line(depth + 1, clean(each.path), "", VERDICTS.get(each.verdict, each.verdict))


def is_subdirectory(path: str) -> bool:
    """Whether a file was looked for in a subdirectory for some processors only."""
    parent = path.rpartition("/")[0]
    return "/glibc-hwcaps/" in path or parent.rpartition("/")[2] in ("tls", "x86_64", "haswell", "avx512_1")


def not_asked(process: Process, lookup: Lookup, depth: int) -> Iterator[Line]:
    """Run paths that a reader would expect to count, and why they do not."""
    by = next((each for each in process.opened if each.file == lookup.wanted_by), None)
    if by is None or by.runpath is None:
        return
    for above in _above(by):
        if above.rpath:
            yield Line(
                depth,
                "not asked",
                f"RPATH of {clean(above.file)}",
                f"{clean(by.file)} has a RUNPATH, which sets every RPATH aside",
            )


def _above(loaded: Loaded) -> Iterator[Loaded]:
    each = loaded.loader
    while each is not None:
        yield each
        each = each.loader


def losers(
    tree: Tree,
    settings: LoaderSettings,
    process: Process,
    lookup: Lookup,
    copies: Sequence[LibraryCopy],
    depth: int,
) -> Iterator[Line]:
    """The other files of this name on the machine, and why each was not the one."""
    by = next((each for each in process.opened if each.file == lookup.wanted_by), process.objects[0])
    places = [
        *Search(tree, settings).places(by, process.objects[0]),
        Place("default", tuple(f"{each}/" for each in settings.system_dirs)),
    ]
    told = {clean(each.path) for each in lookup.attempts} | {clean(lookup.found)}
    for copy in copies:
        if copy.name != lookup.name or copy.path in told:
            continue
        folder = copy.path.rpartition("/")[0] + "/"
        place = next((each for each in places if folder in each.folders), None)
        if place is None:
            why = "its directory is searched by no rule for this request"
        elif lookup.how == "searched":
            why = f"{RULES[place.rule]} comes later"
        elif lookup.how == "failed":
            why = "the search ended before it"
        else:
            why = f"{RULES[place.rule]} was not searched"
        yield Line(depth, "also there", copy.path, why)
