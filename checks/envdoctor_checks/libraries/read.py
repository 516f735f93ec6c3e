"""Reads the library files that a text shows: ls, ldd, ldconfig -p, mapped files, dpkg, LD_LIBRARY_PATH line by line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.facts import (
    LibrarySeen,
    SearchEntry,
    SearchPath,
    SystemPackage,
    SystemPackages,
)
from envdoctor_checks.libraries.names import LIBRARY, is_watched

How = Literal["mapped", "resolved", "cached", "listed"]

ARROW = re.compile(rf"^\s*(?P<name>{LIBRARY}) (?P<cached>\([^)]*\) )?=> (?P<path>/\S+)")
LOADED = re.compile(rf"^\s*(?P<path>/\S+/{LIBRARY}) \(0x[0-9a-f]+\)$")
FILE = re.compile(
    rf"(?:^|\s)(?P<path>[^\s'\":=]*{LIBRARY})(?: -> (?P<target>[^\s]*{LIBRARY}))?(?: \(deleted\))?\s*$"
)
MAPPED = re.compile(
    r"^[0-9a-f]+-[0-9a-f]+ [-rwxsp]{4} |\s(?:mem|DEL)\s+REG\s|calling init: |^[0-9a-f]{16}\s+\d+K "
)
IN_MAPS = re.compile(r"/proc/(?:self|\$?\w+)/maps|\bpmap\b|\blsof\b")
PYTHON = re.compile(r"(?:\S*/)?python[\d.]*\b")
ECHOED = re.compile(r"(?:LD_LIBRARY_PATH ?[:=] ?)?[\[\"'<]?(?P<value>[^\[\]'\"<>\s]*)[\]\"'>]?")
ANOTHER_TELLER = re.compile(r"collect_env|\bfind_library\b|\bglob\b")
MESSAGE = re.compile(
    r" => |[Ee]rror|undefined symbol|\bversion `|Loading binary|cannot |warning", re.IGNORECASE
)


@check.reader(starts=rf"{LIBRARY} (?:\([^)]*\) )?=> /|^\s*/\S+/{LIBRARY} \(0x", max_lines=1)
def resolved(block: FoundBlock) -> Iterator[LibrarySeen]:
    """A line of ldd, or of ``ldconfig -p``, which names the kind of library in parentheses before the arrow."""
    text = block.block.lines[0].text
    found = ARROW.match(text) or LOADED.match(text)
    if found is None or not is_watched(found["path"]):
        return
    cached = found.re is ARROW and found["cached"] is not None
    asked = re.search(r"\bldd +(?:-\w+ +)*(\S+)", block.block.command or "")
    wanted_by = asked.group(1) if asked and not cached else None
    how: How = "cached" if cached else "resolved"
    yield LibrarySeen(path=found["path"], how=how, wanted_by=wanted_by, quote=text.strip())


@check.reader(starts=rf"(?:^|\s)\S*{LIBRARY}(?: -> \S+)?(?: \(deleted\))?\s*$", max_lines=1)
def listed(block: FoundBlock) -> Iterator[LibrarySeen]:
    """A file at the end of a line: ls, find, the maps of a process, lsof, collect_env's list of cuDNNs."""
    text = block.block.lines[0].text
    found = FILE.search(text)
    if found is None or MESSAGE.search(text) or not is_watched(found["path"]):
        return
    path = found["path"]
    command = block.block.command or ""
    if "/" not in path:
        folder = _listed_folder(command)
        if folder is None and found["target"] is None and text.strip() != path:
            return
        path = f"{folder}/{path}" if folder else path
    yield LibrarySeen(path=path, how=_how(text, command), target=found["target"], quote=text.strip())


def _how(text: str, command: str) -> How:
    """Whether a process has it, by the line's own form, or by the program that printed the path."""
    if MAPPED.search(text) or IN_MAPS.search(command):
        return "mapped"
    if not text.lstrip().startswith("/") or ANOTHER_TELLER.search(command):
        return "listed"
    ran = PYTHON.match(command) is not None and " -m pip" not in command
    return "mapped" if ran else "listed"


def _listed_folder(command: str) -> str | None:
    """The folder that ``ls`` was asked about; None where it was several, files, or none."""
    for part in re.split(r"[|;&\n]+", command):
        words = part.split()
        if words and words[0].rsplit("/", 1)[-1] in ("ls", "ll", "dir"):
            folders = [word for word in words[1:] if not word.startswith(("-", "2>", ">"))]
            if len(folders) == 1 and "*" not in folders[0]:
                return folders[0].strip("'\"").rstrip("/") or "/"
    return None


@check.reader(command=r"(?:echo|printenv|printf)\b.*LD_LIBRARY_PATH")
def search_path_lines(block: FoundBlock) -> Iterator[SearchPath]:
    """``echo $LD_LIBRARY_PATH | tr : '\\n'``: one element per line; and with other words around it."""
    lines = [line.text.strip() for line in block.block.lines]
    split = re.search(r"\|\s*(?:tr|sed|xargs|awk)\b", block.block.command or "") is not None
    if split and lines and all(line.startswith(("/", "~", ".")) or not line for line in lines):
        yield _path(lines)
    elif len(lines) == 1 and (found := ECHOED.fullmatch(lines[0])):
        yield _path(found["value"].split(":") if found["value"] else [])


@check.reader(starts=r"LD_LIBRARY_PATH ?[=:] ?[\"']?[~./]", max_lines=1)
def search_path_said(block: FoundBlock) -> Iterator[SearchPath]:
    """An assignment anywhere in a line of output: a log, a script, a job's own report."""
    text = block.block.lines[0].text
    found = re.search(r"LD_LIBRARY_PATH ?[=:] ?[\"']?(?P<value>[^\s\"',;]+)", text)
    if found and not re.match(r"\s*#", text):
        yield _path([each for each in found["value"].split(":") if "$" not in each])


def _path(entries: list[str]) -> SearchPath:
    return SearchPath(entries=tuple(SearchEntry(each) for each in entries), source=Source("text"))


PACKAGE = re.compile(
    r"^(?:ii\s+)?(?P<name>(?:lib(?:cudnn|nccl|cublas|cusparse|nvjitlink|cufft|curand|cusolver)|cuda-(?:cudart|nvrtc|runtime|toolkit))[\w.+-]*?)(?::\w+)?\s+(?P<version>\d[\w.+~:-]*)"
)


@check.reader(command=r"(?:dpkg|dpkg-query|apt|rpm)\b")
def system_packages(block: FoundBlock) -> Iterator[SystemPackages]:
    """``dpkg -l``, whole or cut down to name and version."""
    found = (PACKAGE.match(line.text) for line in block.block.lines)
    packages = tuple(SystemPackage(each["name"], each["version"]) for each in found if each)
    if packages:
        yield SystemPackages(packages=packages, source=Source("text"))
