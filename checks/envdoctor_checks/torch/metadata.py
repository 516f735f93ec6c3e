"""A small reader of ``METADATA``: what a distribution asks for, with the markers that hold for one interpreter.

packaging.requirements would do it, at forty times the start-up cost of a quick run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from envdoctor.api import CouldNotLook, Host, TargetPaths
from envdoctor_checks.python.facts import Distribution, normalised

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 1 << 18
"""Bytes of a METADATA file that are read: its headers come first."""
REQUIREMENT = r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[([^\]]*)\])?\s*\(?([^;)]*)\)?\s*(?:;\s*(.*))?$"
TOKEN = r"\s*(?:(and|or|not in|in|\(|\)|===|[=!<>~]=|[<>])|([A-Za-z_.]+)|'([^']*)'|\"([^\"]*)\")"  # noqa: S105 - a pattern


class Wanted(msgspec.Struct, frozen=True):
    """One ``Requires-Dist`` line."""

    name: str
    extras: tuple[str, ...]
    specifier: str
    marker: str


def requirement(line: str) -> Wanted | None:
    """``cuda-toolkit[cublas,cudart]==13.0.3; platform_system == "Linux"``; None where it is none."""
    match = re.match(REQUIREMENT, line)
    if match is None:
        return None
    name, extras, specifier, marker = match.groups()
    return Wanted(
        name=normalised(name),
        extras=tuple(normalised(each.strip()) for each in (extras or "").split(",") if each.strip()),
        specifier=specifier.strip().replace(" ", ""),
        marker=marker or "",
    )


def requires(host: Host, distribution: Distribution) -> tuple[Wanted, ...] | None:
    """What an installed distribution asks for; None where its METADATA is not there or may not be read."""
    path = metadata_path(host, distribution)
    try:
        text = host.text(path, LIMIT) if path else None
    except CouldNotLook:
        return None
    if text is None:
        return None
    headers = text.partition("\n\n")[0].splitlines()
    lines = (line.partition(":")[2] for line in headers if line.startswith("Requires-Dist:"))
    return tuple(wanted for line in lines if (wanted := requirement(line)))


def metadata_path(host: Host, distribution: Distribution) -> str | None:
    """Where the METADATA of an installed distribution lies, however its folder spells the name."""
    ending = f"-{distribution.version}.dist-info"
    expected = f"{distribution.location}/{distribution.name.replace('-', '_')}{ending}/METADATA"
    if host.status(expected) is not None:
        return expected
    for name in host.names(distribution.location) or ():
        if name.endswith(ending) and normalised(name[: -len(ending)]) == distribution.name:
            return f"{distribution.location}/{name}/METADATA"
    return None


def environment(paths: TargetPaths, system: str) -> dict[str, str]:
    """The marker variables of the target interpreter."""
    return {
        "python_version": ".".join(paths.version.split(".")[:2]),
        "python_full_version": paths.version,
        "implementation_name": paths.implementation.lower(),
        "platform_python_implementation": paths.implementation,
        "platform_machine": paths.machine,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "windows": "Windows"}.get(system, system),
        "sys_platform": {"windows": "win32"}.get(system, system),
        "os_name": "nt" if system == "windows" else "posix",
    }


def holds(marker: str, variables: Mapping[str, str], extras: tuple[str, ...] = ()) -> bool:
    """Whether a marker holds. One that cannot be understood holds: better one requirement too many than too few."""
    if not marker.strip():
        return True
    try:
        return any(
            _Marker(marker, {**variables, "extra": normalised(extra)}).value() for extra in extras or ("",)
        )
    except (ValueError, KeyError, IndexError):
        return True


class _Marker:
    """``and`` binds tighter than ``or``; the operands are variables and quoted strings."""

    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._tokens = list(_tokens(text.strip()))
        self._variables = variables
        self._at = 0

    def value(self) -> bool:
        """Read it all. Raises ValueError for what is no marker, KeyError for an unknown variable."""
        found = self._any()
        if self._at != len(self._tokens):
            raise ValueError("something follows the marker")
        return found

    def _next(self) -> tuple[str, str]:
        self._at += 1
        return self._tokens[self._at - 1]

    def _follows(self, word: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] == ("operator", word):
            self._at += 1
            return True
        return False

    def _any(self) -> bool:
        found = self._all()
        while self._follows("or"):
            found = self._all() or found
        return found

    def _all(self) -> bool:
        found = self._one()
        while self._follows("and"):
            found = self._one() and found
        return found

    def _one(self) -> bool:
        if self._follows("("):
            found = self._any()
            if not self._follows(")"):
                raise ValueError("a parenthesis is open")
            return found
        left, operator, right = self._operand(), self._next()[1], self._operand()
        return _COMPARE[operator](left, right)

    def _operand(self) -> str:
        kind, text = self._next()
        return self._variables[text] if kind == "variable" else text


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = re.compile(TOKEN).match(text, at)
        if match is None:
            raise ValueError(f"{text[at:]!r} is no part of a marker")
        at = match.end()
        operator, variable, single, double = match.groups()
        if operator:
            yield "operator", operator
        elif variable:
            yield "variable", variable
        else:
            yield "string", single if single is not None else double


def _key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Versions compare number by number; anything else as text."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in text.split("."))


_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "==": lambda left, right: normalised(left) == normalised(right),
    "===": lambda left, right: left == right,
    "!=": lambda left, right: normalised(left) != normalised(right),
    "<": lambda left, right: _key(left) < _key(right),
    "<=": lambda left, right: _key(left) <= _key(right),
    ">": lambda left, right: _key(left) > _key(right),
    ">=": lambda left, right: _key(left) >= _key(right),
    "~=": lambda left, right: _key(left) >= _key(right) and _key(left)[:1] == _key(right)[:1],
    "in": lambda left, right: left in right,
    "not in": lambda left, right: left not in right,
}
