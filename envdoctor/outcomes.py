"""Outcomes: what users want to have, in a closed and acyclic vocabulary; how findings cause one another.

A finding *breaks* an outcome ("because of me it cannot be had") or *shows* it ("I saw it fail"). One that
only shows is a consequence of every finding that breaks the same outcome, or one upstream of it, with at
least `likely`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UPSTREAM: dict[str, tuple[str, ...]] = {
    "container-start": (),
    "driver-loaded": (),
    "device-nodes": ("driver-loaded", "container-start"),
    "nvml": ("driver-loaded", "device-nodes"),
    "libcuda-loadable": ("driver-loaded", "container-start"),
    "gpu": ("driver-loaded",),
    "gpu-visible": ("gpu",),
    "library": (),
    "import": (),
    "install": (),
    "cuda-available": ("libcuda-loadable", "device-nodes", "gpu-visible"),
    "kernel-on-gpu": ("cuda-available", "gpu"),
    "compile-toolchain": (),
    "compile": ("compile-toolchain", "kernel-on-gpu"),
    "extension-build": ("compile-toolchain",),
    "interface": (),
    "rendezvous": ("interface",),
    "shared-memory": (),
    "peer-to-peer": ("gpu", "driver-loaded"),
    "rdma": (),
    "collective": ("kernel-on-gpu", "rendezvous", "shared-memory", "peer-to-peer", "rdma", "interface"),
    "memory": (),
    "write": (),
    "job": ("memory", "write", "kernel-on-gpu", "collective", "compile"),
}
"""Every kind of outcome and the kinds directly upstream of it.

``library`` and ``import`` have no general edge: which module needs which library is known to the rule, which
then names both. Kinds with instances: ``library`` (a SONAME), ``import`` (a module), ``gpu`` (an index),
``write`` (a path).
"""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing to be had: a kind of `UPSTREAM` and, where the kind has them, an instance ("": any)."""

    kind: str
    instance: str = ""

    def __post_init__(self) -> None:
        if self.kind not in UPSTREAM:
            raise ValueError(f"{self.kind!r} is no outcome; the vocabulary is {', '.join(UPSTREAM)}")

    def __str__(self) -> str:
        return f"{self.kind}:{self.instance}" if self.instance else self.kind


def library(soname: str) -> Outcome:
    """That the loader finds a usable file for this SONAME."""
    return Outcome("library", soname)


def imports(module: str) -> Outcome:
    """That ``import <module>`` comes back without an exception; the top-level name only."""
    return Outcome("import", module.partition(".")[0])


def gpu(index: int | str) -> Outcome:
    """That this GPU can be used at all."""
    return Outcome("gpu", str(index))


@cache
def upstream(kind: str) -> frozenset[str]:
    """All kinds that must be had before `kind`, itself not included."""
    direct = UPSTREAM[kind]
    return frozenset(direct).union(*(upstream(each) for each in direct)) if direct else frozenset()


def explains(broken: Outcome, seen: Outcome) -> bool:
    """Whether breaking `broken` accounts for `seen` having failed."""
    if broken.kind == seen.kind:
        return broken.instance == seen.instance or not broken.instance or not seen.instance
    return broken.kind in upstream(seen.kind)


def depth(outcomes: Iterable[Outcome]) -> int:
    """How far upstream these outcomes begin: 0 for the top of the vocabulary; with none, the last of all."""
    return min((len(upstream(each.kind)) for each in outcomes), default=len(UPSTREAM))


class Link(msgspec.Struct, frozen=True):
    """What the fold needs to know of one finding."""

    breaks: tuple[Outcome, ...]
    shows: tuple[Outcome, ...]
    may_explain: bool
    """Whether its confidence is at least `likely`."""


def causes_of(links: Sequence[Link]) -> tuple[tuple[int, ...], ...]:
    """For each finding, the indices of those it is a consequence of; empty for a root.

    Causes are never folded into causes: a finding that breaks anything is a root.
    """
    causes = [(index, link) for index, link in enumerate(links) if link.breaks and link.may_explain]
    return tuple(
        ()
        if link.breaks or not link.shows
        else tuple(
            index
            for index, cause in causes
            if any(explains(broken, seen) for broken in cause.breaks for seen in link.shows)
        )
        for link in links
    )


def explains_seen(link: Link, seen: Iterable[Outcome]) -> bool:
    """Whether a finding accounts for a failure that was really seen, by itself or by another finding."""
    if link.shows:
        return True
    return link.may_explain and any(explains(broken, failed) for broken in link.breaks for failed in seen)
