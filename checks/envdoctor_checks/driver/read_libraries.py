"""Driver libraries in a pasted text: ``ldconfig -p``, ``ls``, ``find``."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import UserLibraries, UserLibrary
from envdoctor_checks.driver.probe_libraries import SONAMES, Via, fits, library
from envdoctor_checks.driver.read_filters import shown_by

TEXT = Source("text")
NAME = r"lib(?:cuda|nvidia-ml)\.so(?:\.\d+)*"
CACHE_LINE = rf"^\s*(?P<name>{NAME}) \((?P<abi>[^)]*)\) => (?P<path>/\S+)"
FILE = rf"(?P<path>(?:(?<=\s)|(?<=^)|(?<='))(?:/[^\s']*/)?{NAME})'?(?: -> (?P<target>\S+))?(?=\s|$)"
DEFAULT = r"^/(?:usr/)?lib(?:64|/[\w]+-linux-gnu)?$"


@check.reader(starts=rf"(?:^[ \t]*{NAME} \(libc6.*=> /.*\n?)+")
def cache_lines(found: FoundBlock) -> Iterator[UserLibraries]:
    """Lines of ``ldconfig -p`` without the command."""
    libraries = _cached_libraries(found)
    if libraries:
        yield UserLibraries(libraries=libraries, source=TEXT)


def _cached_libraries(found: FoundBlock) -> tuple[UserLibrary, ...]:
    matches = [re.match(CACHE_LINE, line.text) for line in found.block.lines]
    entries = [each for each in matches if each and fits(each["abi"]) and each["name"] in SONAMES]
    return tuple(library(each["path"], each["path"], "cache") for each in entries)


@check.reader(command=r"(?:\S*/)?ldconfig\b.*(?:-\w*p|--print-cache)")
def ldconfig_cache(found: FoundBlock) -> Iterator[UserLibraries]:
    """The cache's entries for 64-bit programs, and what it would show and does not have."""
    libraries = _cached_libraries(found)
    shown = shown_by(found.block.command or "", r"ldconfig\b")
    seen = {each.soname for each in libraries}
    absent = tuple(
        name
        for name in SONAMES
        if name not in seen and shown is not None and shown(f"\t{name} (libc6,x86-64) => /usr/lib/{name}")
    )
    if libraries or absent:
        yield UserLibraries(libraries=libraries, absent=absent, source=TEXT)


@check.reader(starts=rf"(?:^[l-]\S{{9}}\S?\s.*\s/\S*/{NAME}(?: -> \S+)?$\n?)+")
def library_lines(found: FoundBlock) -> Iterator[UserLibraries]:
    """Lines of ``ls -l`` without the command."""
    libraries = tuple(each for line in found.block.lines for each in _listed(line.text, ""))
    if libraries:
        yield UserLibraries(libraries=libraries, source=TEXT)


@check.reader(command=r"(?:\S*/)?(?:ls|find|locate|whereis|stat|readlink|file)\b")
def library_files(found: FoundBlock) -> Iterator[UserLibraries]:
    """Files of the driver's libraries, with the links' targets where the listing shows them."""
    folder = _folder(found.command or "")
    libraries = {each.path: each for line in found.block.lines for each in _listed(line.text, folder)}
    absent = _not_found(found, {each.soname for each in libraries.values()})
    if libraries or absent:
        yield UserLibraries(libraries=tuple(libraries.values()), absent=absent, source=TEXT)


def _folder(command: str) -> str:
    """The directory that is listed, where names come without one."""
    paths = [word.strip("'\"") for word in command.split()[1:] if word.startswith("/")]
    if not paths or "*" in paths[0] or (posixpath.basename(paths[0]).startswith("lib") and ".so" in paths[0]):
        return ""
    return paths[0].rstrip("/")


def _listed(text: str, folder: str) -> Iterator[UserLibrary]:
    if "cannot access" in text or "=>" in text or "cannot open" in text:
        return
    for match in re.finditer(FILE, text):
        path = match["path"]
        if not path.startswith("/"):
            if not folder:
                continue
            path = f"{folder}/{path}"
        target = match["target"]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(path), target)) if target else path
        yield library(path, file, via_of(path))


def via_of(path: str) -> Via:
    """Whether the loader looks there without being told."""
    return "cache" if re.match(DEFAULT, posixpath.dirname(path)) else "directory"


def _not_found(found: FoundBlock, seen: set[str]) -> tuple[str, ...]:
    """What a search of the whole machine was asked for and did not show."""
    command = found.command or ""
    if not re.match(r"(?:\S*/)?find /(?:usr)?/?\s", command) or re.search(
        r"\|\s*(?:head|tail|wc)\b", found.block.command or ""
    ):
        return ()
    patterns = re.findall(r"-i?name\s+(\S+)", command.replace("'", "").replace('"', "").replace("\\", ""))
    asked = (name for name in SONAMES if any(_glob(pattern, name) for pattern in patterns))
    return tuple(name for name in asked if name not in seen)


def _glob(pattern: str, name: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), name) is not None
