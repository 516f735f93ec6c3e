"""More signs of compile caches: entries that the loader refuses, and folders that a variable names."""

from __future__ import annotations

import re

from envdoctor.api import Confidence, Evidence, Finding, Findings, Variables
from envdoctor_checks.container.symptoms import WriteRefused
from envdoctor_checks.kernel.facts import CacheKind
from envdoctor_checks.kernel.paths import NAMES, VARIABLES, cache_root, kind_of
from envdoctor_checks.kernel.reasoning import BUILD, COMPILE, TOOLCHAIN, remove
from envdoctor_checks.kernel.rules_caches import cache_dir_not_writable, cache_stale, elsewhere, hand_over
from envdoctor_checks.kernel.symptoms import CacheAtWork
from envdoctor_checks.libraries.facts import BadLibraryFile, UndefinedSymbol, VersionNotFound


def _stale(path: str, why: str, seen: Evidence, confidence: Confidence) -> Finding | None:
    """An entry that cannot be loaded here, by the file that the loader names."""
    kind = kind_of(path)
    if kind is None or kind == "cuda":
        return None
    outcome = BUILD if kind in ("extensions", "flashinfer") else COMPILE
    return Finding(
        title=f"an entry of {NAMES[kind]} cannot be loaded: {why}",
        subject=f"path:{cache_root(path, kind)}",
        detail="What is compiled here is kept by its source, not by the system or the torch that it was compiled with.",
        evidence=(seen,),
        remedies=(
            remove(cache_root(path, kind), NAMES[kind]),
            elsewhere(kind, "one for each system that shares this home"),
        ),
        confidence=confidence,
        breaks=(TOOLCHAIN,),
        shows=(outcome,),
    )


@cache_stale.sign
def _bad_file(said: BadLibraryFile) -> Findings:
    if "Stale file handle" in said.problem:
        return  # it was removed on the server: the rule about a wiped cache speaks
    found = _stale(said.path, said.problem, said.evidence(), Confidence.CERTAIN)
    if found is not None:
        yield found


@cache_stale.sign
def _of_newer_system(said: VersionNotFound) -> Findings:
    why = f"it was compiled on a system whose C library has {said.version}, and this one's has not"
    found = _stale(said.wanted_by or "", why, said.evidence(), Confidence.CERTAIN)
    if found is not None:
        yield found


@cache_stale.sign
def _of_other_torch(said: UndefinedSymbol) -> Findings:
    if re.match(r"cu[A-Z]", said.symbol):
        return  # a call of the driver's: the rule about an old driver speaks
    why = "it was compiled against another torch or CUDA than today's"
    found = _stale(said.wanted_by or "", why, said.evidence(), Confidence.CERTAIN)
    if found is not None:
        yield found


@cache_dir_not_writable.sign
def _by_variable(said: WriteRefused, used: tuple[CacheAtWork, ...], variables: Variables | None) -> Findings:
    """A folder whose name tells nothing: a variable names it, or the traceback stands in the cache's own code."""
    if kind_of(said.path) is not None:
        return
    named = _named(said.path, variables)
    kind = named or (used[-1].cache if used else None)
    if kind is None or kind == "cuda":
        return
    root = variables.get(VARIABLES[kind]) if named and variables is not None else None
    evidence = (variables.evidence(VARIABLES[kind]),) if root and variables is not None else ()
    outcome = BUILD if kind in ("extensions", "flashinfer") else COMPILE
    yield Finding(
        title=f"{NAMES[kind]} cannot be written{': its file system is read-only' if said.why == 'read-only' else ''}",
        subject=f"path:{root or said.path}",
        evidence=(said.evidence(), *evidence),
        remedies=(
            elsewhere(kind, "one that this user may write"),
            *(() if said.why == "read-only" else (hand_over(root or said.path),)),
        ),
        confidence=Confidence.CERTAIN if named else Confidence.LIKELY,
        breaks=(outcome,),
        shows=(outcome,),
    )


def _named(path: str, variables: Variables | None) -> CacheKind | None:
    """The cache whose variable names a folder that the path lies in."""
    if variables is None:
        return None
    places = ((kind, variables.get(name)) for kind, name in VARIABLES.items())
    return next(
        (kind for kind, place in places if place and f"{path}/".startswith(place.rstrip("/") + "/")), None
    )
