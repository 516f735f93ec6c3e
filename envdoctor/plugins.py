"""From entry points to checks: ours load exactly as a stranger's do, and a broken plugin is a finding.

The group is found by reading ``*.dist-info/entry_points.txt`` along ``sys.path``, which takes a millisecond where
`importlib.metadata` costs 35 or more to import; it is asked only when the reading finds nothing (zipped or egg
installs).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module

import msgspec

from envdoctor.check import Check, gives_of, needs_of
from envdoctor.errors import PluginError

GROUP = "envdoctor.checks"


class EntryPoint(msgspec.Struct, frozen=True):
    """One line of an entry-points file: ``name = module:attribute`` and the distribution that brought it."""

    name: str
    target: str
    distribution: str
    version: str


class BrokenPlugin(msgspec.Struct, frozen=True):
    """A plugin that could not be loaded, and why."""

    entry_point: EntryPoint
    error: str


class Plugins(msgspec.Struct, frozen=True):
    """What was found: the checks in order of their names, where each comes from, and what is broken."""

    checks: tuple[Check, ...]
    origins: dict[str, EntryPoint]
    """Check name -> its entry point."""
    broken: tuple[BrokenPlugin, ...]

    def strangers(self) -> frozenset[str]:
        """Names of checks that did not come with envdoctor; their probes run in a child."""
        return frozenset(name for name, origin in self.origins.items() if origin.distribution != "envdoctor")


def load(paths: Iterable[str] | None = None) -> Plugins:
    """Load every check of the entry-point group. Never raises for what a plugin does wrong."""
    checks: dict[str, Check] = {}
    origins: dict[str, EntryPoint] = {}
    broken: list[BrokenPlugin] = []
    for point in sorted(set(entry_points(paths)), key=lambda point: (point.distribution != "envdoctor", point.name)):
        try:
            check = _load(point)
            if check.name in checks:
                raise PluginError(f"the name {check.name!r} is taken by {origins[check.name].distribution}")
        except Exception as error:
            broken.append(BrokenPlugin(point, f"{type(error).__name__}: {error}"))
            continue
        checks[check.name] = check
        origins[check.name] = point
    return Plugins(tuple(checks.values()), origins, tuple(broken))


def _load(point: EntryPoint) -> Check:
    module, _, attribute = point.target.partition(":")
    found: object = import_module(module.strip())
    for part in filter(None, attribute.strip().split(".")):
        found = getattr(found, part)
    if not isinstance(found, Check):
        raise PluginError(f"{point.target} is {type(found).__name__}, not an envdoctor.api.Check")
    if point.distribution != "envdoctor":
        _validate(found)
    return found


def _validate(check: Check) -> None:
    """Read a stranger's annotations at once, so that a mistake is a broken plugin and not a crash later."""
    for probe in check.probes:
        needs_of(probe.function)
        gives_of(probe.function)
    for rule in check.rules:
        for sign in rule.signs:
            needs_of(sign)


def entry_points(paths: Iterable[str] | None = None) -> Iterator[EntryPoint]:
    """The entry points of the group along `paths` (default: ``sys.path``)."""
    found = False
    for directory in dict.fromkeys(paths if paths is not None else sys.path):
        for point in _scan(directory or "."):
            found = True
            yield point
    if not found and paths is None:
        yield from _ask_importlib()


def _scan(directory: str) -> Iterator[EntryPoint]:
    try:
        names = sorted(entry.name for entry in os.scandir(directory) if entry.name.endswith(".dist-info"))
    except OSError:
        return  # sys.path may name zip files and directories that do not exist
    for name in names:
        try:
            with open(os.path.join(directory, name, "entry_points.txt"), encoding="utf-8") as file:
                text = file.read(1 << 20)
        except (OSError, UnicodeDecodeError):
            continue  # most distributions have none; an unreadable one cannot be ours to load
        if f"[{GROUP}]" in text:
            distribution, _, version = name[: -len(".dist-info")].rpartition("-")
            yield from _parse(text, distribution.replace("_", "-"), version)


def _parse(text: str, distribution: str, version: str) -> Iterator[EntryPoint]:
    """The lines of our section of an entry-points file."""
    ours = False
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            ours = line == f"[{GROUP}]"
        elif ours and "=" in line and not line.startswith(("#", ";")):
            name, _, target = line.partition("=")
            yield EntryPoint(name.strip(), target.partition("[")[0].strip(), distribution, version)


def _ask_importlib() -> Iterator[EntryPoint]:
    from importlib import metadata

    for point in metadata.entry_points(group=GROUP):
        distribution = point.dist
        yield EntryPoint(
            point.name,
            point.value,
            distribution.name if distribution else "unknown",
            distribution.version if distribution else "",
        )
