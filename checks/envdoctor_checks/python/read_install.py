"""Reads what installers print: what was installed, what was there, and what does not fit together."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import FoundBlock
from envdoctor_checks.python.check import check
from envdoctor_checks.python.facts import Distributions, RequirementConflict, normalised
from envdoctor_checks.python.read import NAME, VERSION, distributions_of

INSTALLED = rf"(?<=\s)({NAME}?)-({VERSION.replace('-', '')})(?=\s|$)"
UV_CHANGED = rf"^ *([+~]) ({NAME})==({VERSION})"
THERE = rf"Requirement already satisfied: ({NAME})\b.*\(({VERSION})\)$"
BEFORE = rf"Found existing installation: ({NAME}) ({VERSION})$"
FOLDER = rf"(?:^|[/\\\s'\"])([A-Za-z0-9][\w.]*)-({VERSION.replace('-', '')})\.dist-info\b"


@check.reader(starts=r"Successfully installed \S+-\d", max_lines=1)
def installed(block: FoundBlock) -> Iterator[Distributions]:
    """pip's last line. A name may itself have dashes: the version is what follows the last one."""
    text = block.block.lines[0].text.partition("Successfully installed")[2]
    return distributions_of(match.groups() for match in re.finditer(INSTALLED, text))  # type: ignore[misc] # pairs, by the pattern


@check.reader(starts=rf"^ *\+ {NAME}==\d", max_lines=1)
def installed_by_uv(block: FoundBlock) -> Iterator[Distributions]:
    """uv's `` + torch==2.8.0``."""
    match = re.match(UV_CHANGED, block.block.lines[0].text)
    return distributions_of([(match.group(2), match.group(3))] if match else [])


@check.reader(starts=r"Requirement already satisfied: |Found existing installation: ", max_lines=1)
def already_there(block: FoundBlock) -> Iterator[Distributions]:
    """What pip met while it resolved or replaced."""
    text = block.block.lines[0].text.strip()
    match = re.search(THERE, text) or re.search(BEFORE, text)
    return distributions_of([match.groups()] if match else [])  # type: ignore[list-item] # a pair, by the pattern


@check.reader(starts=r"\.dist-info\b", max_lines=1)
def folders(block: FoundBlock) -> Iterator[Distributions]:
    """The names of ``*.dist-info`` folders in a listing."""
    text = block.block.lines[0].text
    if "~" in text:  # what an interrupted pip left is no installation
        return iter(())
    return distributions_of(match.groups() for match in re.finditer(FOLDER, text))  # type: ignore[misc] # pairs, by the pattern


CONFLICT = (
    rf"\b(?P<package>{NAME}) (?P<version>{VERSION}) (?:requires|has requirement) (?P<requirement>(?P<other>{NAME})[^,;]*)"
    rf"(?:;[^,]*)?, but you(?: have|'ll have) {NAME} (?P<found>{VERSION}?)(?: which is incompatible)?\.?$"
)


@check.message(
    CONFLICT,
    needles=", but you",
    sample="somepackage 1.2.0 requires torch==2.3.1, but you have torch 2.4.0 which is incompatible.",
)
def conflict(match: re.Match[str]) -> RequirementConflict:
    """pip's resolver after an installation, and ``pip check``."""
    return RequirementConflict(
        package=normalised(match["package"]),
        version=match["version"],
        requirement=match["requirement"].strip(),
        other=normalised(match["other"]),
        found=match["found"].rstrip("."),
    )


@check.message(
    rf"\b(?P<package>{NAME}) (?P<version>{VERSION}) requires (?P<requirement>(?P<other>{NAME})[^,;]*)(?:;[^,]*)?, which is not installed",
    needles="which is not installed",
    sample="somepackage 1.2.0 requires torch>=2.0, which is not installed.",
)
def not_there(match: re.Match[str]) -> RequirementConflict:
    """``pip check`` of something that is missing."""
    return RequirementConflict(
        package=normalised(match["package"]),
        version=match["version"],
        requirement=match["requirement"].strip(),
        other=normalised(match["other"]),
        found=None,
    )


@check.reader(starts=r", but you(?: have|'ll have) \S+ \d", max_lines=1)
def versions_in_conflict(block: FoundBlock) -> Iterator[Distributions]:
    """A conflict names two installed versions."""
    match = re.search(CONFLICT, block.block.lines[0].text.strip())
    if match is None:
        return iter(())
    pairs = [(match["package"], match["version"]), (match["other"], match["found"].rstrip("."))]
    return distributions_of(pairs)
