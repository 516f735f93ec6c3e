"""Whose file it is where two distributions brought one: their RECORDs against what lies there."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator

from envdoctor.api import CouldNotLook, Host, Tier
from envdoctor_checks.python.check import check
from envdoctor_checks.python.facts import (
    Distribution,
    Distributions,
    OverwrittenFile,
    OverwrittenFiles,
    normalised,
)
from envdoctor_checks.python.shared import SharedFiles, shared_files

LIMIT = 4 << 20
"""Bytes of a RECORD that are read: that of the largest wheel has one."""
KEPT = 20
"""Files of one pair that are told."""
CODE = (".so", ".pyd", ".dll", ".py")
"""Endings of what makes a difference; shared headers and licences do not."""


@check.probe(tier=Tier.QUICK)
def overwritten_files(host: Host, packages: Distributions) -> OverwrittenFiles:
    """Only the groups of which two are installed are read: on most machines none."""
    found: list[OverwrittenFile] = []
    for owners in installed_groups(packages, shared_files()):
        found += _shared_by(host, owners)
    return OverwrittenFiles(files=tuple(found), source=packages.source)


def installed_groups(packages: Distributions, shared: SharedFiles) -> Iterator[tuple[Distribution, ...]]:
    """Distributions that are known to bring files of one name, of which at least two are in one folder."""
    told: set[tuple[str, ...]] = set()
    for _, names in shared.groups:
        owners = tuple(each for name in names for each in packages.named(name)[:1])
        owners = tuple(each for each in owners if each.location and each.location == owners[0].location)
        key = tuple(each.name for each in owners)
        if len(owners) > 1 and key not in told:
            told.add(key)
            yield owners


def _shared_by(host: Host, owners: tuple[Distribution, ...]) -> list[OverwrittenFile]:
    records = {each.name: _record(host, each) for each in owners}
    paths = dict.fromkeys(path for record in records.values() for path in record)
    found = []
    for path in paths:
        told = {name: record[path] for name, record in records.items() if path in record}
        if len(told) < 2 or len({hashed for hashed, _ in told.values()}) < 2 or not _is_code(path):
            continue
        whole = os.path.normpath(os.path.join(owners[0].location, path))
        found.append(OverwrittenFile(path=whole, owners=tuple(told), kept=_kept(host, whole, told)))
    return found[:KEPT]


def _is_code(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith(CODE) or ".so." in name


def _kept(host: Host, path: str, told: dict[str, tuple[str, int | None]]) -> str | None:
    """The only owner in whose RECORD the file has the size that it has."""
    try:
        status = host.status(path)
    except CouldNotLook:
        return None
    fitting = [name for name, (_, size) in told.items() if status is not None and size == status.size]
    return fitting[0] if len(fitting) == 1 else None


def _record(host: Host, owner: Distribution) -> dict[str, tuple[str, int | None]]:
    """Path -> hash and size, from ``path,sha256=...,size`` lines."""
    try:
        text = host.text(_path(host, owner), LIMIT) or ""
    except CouldNotLook:
        return {}
    return dict(_rows(csv.reader(text.splitlines())))


def _rows(lines: Iterable[list[str]]) -> Iterator[tuple[str, tuple[str, int | None]]]:
    for row in lines:
        if len(row) == 3 and row[1]:  # what pip wrote itself has no hash: compiled files, RECORD
            yield row[0], (row[1], int(row[2]) if row[2].isdigit() else None)


def _path(host: Host, owner: Distribution) -> str:
    """Its RECORD, however its folder spells the name."""
    ending = f"-{owner.version}.dist-info"
    expected = f"{owner.location}/{owner.name.replace('-', '_')}{ending}"
    if not host.exists(expected):
        for name in host.names(owner.location) or ():
            if name.endswith(ending) and normalised(name[: -len(ending)]) == owner.name:
                return f"{owner.location}/{name}/RECORD"
    return f"{expected}/RECORD"
