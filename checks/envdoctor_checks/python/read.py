"""Reads lists of installed packages: pip, uv, conda, `pip show`, and the ones at the end of collect_env's report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.python.check import check
from envdoctor_checks.python.facts import (
    CondaPackage,
    CondaPackages,
    Distribution,
    Distributions,
    normalised,
)

NAME = r"[A-Za-z0-9][\w.-]{0,127}"
VERSION = r"\d[\w.+!-]*"
COLUMNS = rf"({NAME})\s+({VERSION})(?:\s+(?P<rest>\S.*))?$"
PINNED = rf"({NAME})(?:\[[^\]]*\])?===?({VERSION})$"
FROM_URL = rf"({NAME}) @ \S*/[\w.]+?-(\d[\w.+!%]*)-\S+\.whl"
CONDA = rf"({NAME}|_\w[\w.-]*)\s+({VERSION})\s+(\S+)(?:\s+(\S+))?$"
PIP = r"(?:\S*python\S* +-m +)?pip[\d.]*(?:\.exe)?"


def distributions_of(found: Iterable[tuple[str, str]], *, complete: bool = False) -> Iterator[Distributions]:
    """The fact for (name, version) pairs as a text has them; nothing where there are none."""
    each = tuple(Distribution(name=normalised(name), version=version) for name, version in found)
    if each:
        yield Distributions(distributions=each, complete=complete, source=Source("text"))


@check.reader(command=rf"{PIP} +(?:list|freeze)\b|uv +pip +(?:list|freeze)\b", starts=r"^Package +Version\b")
def pip_list(block: FoundBlock) -> Iterator[Distributions]:
    """``pip list`` in columns, or ``pip freeze``. Complete only where the list was neither filtered nor cut."""
    lines = [line.text.strip() for line in block.block.lines]
    header = bool(lines) and lines[0].startswith("Package")
    found = []
    for text in lines[2:] if header else lines:
        if header and not text:
            break
        if match := re.match(PINNED, text) or re.match(FROM_URL, text) or re.match(COLUMNS, text):
            version = match.group(2).replace("%2B", "+")
            found.append((match.group(1), version))
    filtered = "|" in (block.block.command or "|") or block.command is None
    return distributions_of(found, complete=header and not filtered)


@check.reader(
    command=r"(?:conda|mamba|micromamba) +list\b",
    starts=r"^# packages in environment at |^# Name +Version +Build",
)
def conda_list(block: FoundBlock) -> Iterator[CondaPackages | Distributions]:
    """``conda list``: four columns, the channel empty for Anaconda's own."""
    lines = [line.text.strip() for line in block.block.lines]
    found = [match for text in lines if not text.startswith("#") and (match := re.match(CONDA, text))]
    filtered = "|" in (block.block.command or "|")
    whole = not filtered and any(text.startswith("# packages in environment") for text in lines)
    yield from _conda(found, complete=whole)


def _conda(found: Iterable[re.Match[str]], *, complete: bool) -> Iterator[CondaPackages | Distributions]:
    packages = tuple(
        CondaPackage(name=name, version=version, build=build, channel=channel or "pkgs/main")
        for name, version, build, channel in (match.groups() for match in found)
    )
    if packages:
        yield CondaPackages(packages=packages, complete=complete, source=Source("text"))
        yield Distributions(
            distributions=tuple(
                Distribution(
                    name=normalised(each.name),
                    version=each.version,
                    installer="pip" if each.channel == "pypi" else "conda",
                )
                for each in packages
            ),
            complete=False,
            source=Source("text"),
        )


@check.reader(starts=rf"^Name: {NAME}$", ends=r"^---$", max_lines=12)
def pip_show(block: FoundBlock) -> Iterator[Distributions]:
    """``pip show``: a name, its version and where it lies."""
    fields = {
        key: value.strip()
        for key, colon, value in (line.text.partition(":") for line in block.block.lines)
        if colon
    }
    if re.fullmatch(VERSION, fields.get("Version", "")):
        one = Distribution(
            name=normalised(fields["Name"]),
            version=fields["Version"],
            location=fields.get("Location", ""),
            installer=fields.get("Installer", ""),
        )
        yield Distributions(distributions=(one,), complete=False, source=Source("text"))


@check.reader(starts=rf"^\[pip3?\] {NAME}==", max_lines=1)
def collect_env_pip(block: FoundBlock) -> Iterator[Distributions]:
    """One ``[pip3] torch==2.8.0`` of collect_env's report, which lists what bears on torch only."""
    match = re.match(PINNED, block.block.lines[0].text.partition("] ")[2].strip())
    return distributions_of([match.groups()] if match else [])  # type: ignore[list-item] # a pair, by the pattern


@check.reader(starts=r"^\[conda\] (?!Could not collect)\S+ +\d", max_lines=1)
def collect_env_conda(block: FoundBlock) -> Iterator[CondaPackages]:
    """One ``[conda] pytorch  2.1.0  py3.10_cuda11.8_cudnn8.7.0_0  pytorch``; ``<pip>`` in old reports."""
    text = block.block.lines[0].text.partition("] ")[2].strip().replace("<pip>", "pypi_0 pypi")
    match = re.match(CONDA, text)
    if match:
        yield from (each for each in _conda([match], complete=False) if isinstance(each, CondaPackages))
