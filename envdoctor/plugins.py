"""From entry points to checks: ours load exactly as a stranger's do, and a broken plugin is a finding.

The group is found by reading ``*.dist-info/entry_points.txt`` along ``sys.path``, which takes a millisecond
where `importlib.metadata` costs 35 or more to import. That is asked about zip files on the path, and about
everything when the reading finds nothing.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import redirect_stdout
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec

from envdoctor.check import Check, gives_of, needs_of
from envdoctor.errors import PluginError
from envdoctor.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from importlib.metadata import Distribution

GROUP = "envdoctor.checks"
OURS = "envdoctor"
"""Our own distribution, and the area of the core's own rules."""


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
        return frozenset(name for name, origin in self.origins.items() if origin.distribution != OURS)


def load(paths: Iterable[str] | None = None) -> Plugins:
    """Load every check of the entry-point group. Never raises for what a plugin does wrong."""
    checks: dict[str, Check] = {}
    origins: dict[str, EntryPoint] = {}
    broken: list[BrokenPlugin] = []
    for point in sorted(entry_points(paths), key=lambda point: (point.distribution != OURS, point.name)):
        try:
            check = load_one(point)
            if point.distribution != OURS:
                _validate(check, checks, origins)
        except KeyboardInterrupt:
            raise
        except (
            BaseException
        ) as error:  # SystemExit, or a panic of a compiled module, is the plugin's and no end
            broken.append(BrokenPlugin(point, f"{type(error).__name__}: {error}"))
            continue
        checks[check.name] = check
        origins[check.name] = point
    return Plugins(tuple(checks.values()), origins, tuple(broken))


def load_one(point: EntryPoint) -> Check:
    """Import what an entry point names. Raises what the import does, `PluginError` for what is no check."""
    module, _, attribute = point.target.partition(":")
    with redirect_stdout(sys.stderr):  # stdout is the report's
        found: object = import_module(module.strip())
    for part in filter(None, attribute.strip().split(".")):
        found = getattr(found, part)
    if not isinstance(found, Check):
        raise PluginError(f"{point.target} is {type(found).__name__}, not an envdoctor.api.Check")
    return found


def _validate(check: Check, others: dict[str, Check], origins: dict[str, EntryPoint]) -> None:
    """Find a stranger's mistakes at once, so that they are a broken plugin and not a crash later."""
    if check.name in others:
        raise PluginError(f"the name {check.name!r} is taken by {origins[check.name].distribution}")
    if check.name == OURS or not re.fullmatch(r"[a-z][a-z0-9-]*", check.name):
        raise PluginError(f"{check.name!r} cannot be the name of a check")
    verify(check)
    theirs = _types(check)
    for name, kind in theirs.items():
        if name.startswith(f"{OURS}.") and not kind.__module__.startswith(f"{OURS}."):
            raise PluginError(f"the fact {name!r} is one of the core's")
    for other in others.values():
        for name in theirs.keys() & (types := _types(other)).keys():
            if types[name] is not theirs[name]:
                raise PluginError(f"the fact or symptom {name!r} is one of {other.name!r}")


def _types(check: Check) -> dict[str, type]:
    return {**check.fact_types(), **check.symptom_types()}


def verify(check: Check) -> None:
    """Read all that a check registers. Raises `PluginError` or `re.error` where something cannot work."""
    for probe in check.probes:
        needs_of(probe.function)
        if not gives_of(probe.function):
            raise PluginError(
                f"the probe {probe.name} names no fact that it gives, so its absence could not be told"
            )
    for rule in check.rules:
        for sign in rule.signs:
            if any(issubclass(need.kind, Host) for need in needs_of(sign)):
                raise PluginError(f"the rule {rule.id} asks for the host: rules judge, and probes look")
    for message in check.messages:
        re.compile(message.regex)
    for name, kind in check.symptom_types().items():
        if "kind" in kind.__struct_fields__:
            raise PluginError(
                f"the symptom {name!r} has a field 'kind', which names the symptom in recordings"
            )
    for reader in check.readers:
        for pattern in (reader.command, reader.starts, reader.ends):
            re.compile(pattern)
    functions: list[Callable[..., object]] = [
        *check.headlines,
        *check.views,
        *([check.applies] if check.applies else []),
    ]
    for function in functions:
        needs_of(function)
    for table in check.tables:
        gives_of(table)
    _verify_names(check)


def _verify_names(check: Check) -> None:
    names = [f"rule {rule.id}" for rule in check.rules]
    names += [f"probe {probe.name}" for probe in check.probes]
    names += [f"reader {reader.name}" for reader in check.readers]
    names += [f"message {message.name}" for message in check.messages]
    for name in names:
        if names.count(name) > 1:
            raise PluginError(f"the {name} is registered twice")
    for name, kind in _types(check).items():
        if not re.fullmatch(r"[a-z][a-z0-9-]*\.[a-z0-9]+(-[a-z0-9]+)*", name):
            raise PluginError(f"{kind.__name__} must be named like area.dashed-name, not {name!r}")


def entry_points(paths: Iterable[str] | None = None) -> tuple[EntryPoint, ...]:
    """The entry points of the group along `paths` (default: ``sys.path``), each distribution's first only."""
    found: dict[str, list[EntryPoint]] = {}
    for directory in dict.fromkeys(paths if paths is not None else sys.path):
        for distribution, points in _scan(directory or os.curdir):
            found.setdefault(_canonical(distribution), points)
    points = [point for each in found.values() for point in each]
    if not points and paths is None:
        from importlib import metadata

        points = [point for distribution in metadata.distributions() for point in _told_by(distribution)]
    return tuple(dict.fromkeys(points))


def _scan(directory: str) -> Iterator[tuple[str, list[EntryPoint]]]:
    """Every distribution of a directory or zip file with entry points, and those of our group."""
    try:
        names = sorted(entry.name for entry in os.scandir(directory) if entry.name.endswith(".dist-info"))
    except NotADirectoryError:
        yield from _in_zip(directory)
        return
    except OSError:
        return  # sys.path may name what does not exist
    for name in names:
        try:
            with open(os.path.join(directory, name, "entry_points.txt"), encoding="utf-8") as file:
                text = file.read(1 << 20)
        except (OSError, UnicodeDecodeError):
            continue  # most distributions have none
        distribution, _, version = name.removesuffix(".dist-info").rpartition("-")
        yield distribution, list(_parse(text, distribution.replace("_", "-"), version))


def _parse(text: str, distribution: str, version: str) -> Iterator[EntryPoint]:
    """The lines of our section of an entry-points file."""
    ours = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            ours = line == f"[{GROUP}]"
        elif ours and "=" in line and not line.startswith(("#", ";")):
            name, _, target = line.partition("=")
            yield EntryPoint(name.strip(), target.partition("[")[0].strip(), distribution, version)


def _in_zip(path: str) -> Iterator[tuple[str, list[EntryPoint]]]:
    from importlib import metadata

    for distribution in metadata.distributions(path=[path]):
        yield distribution.name, list(_told_by(distribution))


def _told_by(distribution: Distribution) -> Iterator[EntryPoint]:
    for point in distribution.entry_points:
        if point.group == GROUP:
            yield EntryPoint(point.name, point.value, distribution.name, distribution.version)


def _canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
