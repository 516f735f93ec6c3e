"""What is installed, from the names of folders and files alone: the contents of METADATA are not read here.

A version in a folder's name is what uv and the installers go by, and reading 300 names costs less than a millisecond,
reading 300 METADATA files a hundred times as much.
"""

from __future__ import annotations

from envdoctor.api import CouldNotLook, Host, Source, TargetPaths, Tier
from envdoctor_checks.python.check import check
from envdoctor_checks.python.facts import (
    CondaPackage,
    CondaPackages,
    Distribution,
    Distributions,
    Leftovers,
    normalised,
)

CHANNEL_MATTERS = (
    "pytorch", "torch", "libtorch", "cuda", "cudnn", "nccl", "magma", "mkl", "numpy", "libcublas", "nvidia", "triton",
)  # fmt: skip
"""Starts of the names of conda packages whose channel is read: each costs a read of its record."""
HEAD = 1 << 14
"""Bytes of a conda record: its keys are sorted, so ``channel`` stands near the start."""


@check.probe(tier=Tier.QUICK)
def distributions(host: Host, paths: TargetPaths) -> tuple[Distributions, CondaPackages, Leftovers]:
    """Look through every folder on the target's path, and through conda's records."""
    found: list[Distribution] = []
    left: list[str] = []
    for folder in dict.fromkeys(paths.sys_path):
        for name in _names(host, folder, owed=folder in paths.site_packages):
            if name.startswith("~"):
                left.append(f"{folder}/{name}")
            elif one := _distribution(host, folder, name):
                found.append(one)
    conda = _conda(host, paths.prefix) if paths.conda else ()
    source = Source("file", paths.site_packages[0] if paths.site_packages else paths.prefix)
    return (
        Distributions(distributions=(*found, *_only_conda(conda, found, paths.prefix)), source=source),
        CondaPackages(packages=conda, source=Source("file", f"{paths.prefix}/conda-meta")),
        Leftovers(paths=tuple(left), source=source),
    )


def _names(host: Host, folder: str, *, owed: bool) -> tuple[str, ...]:
    """The names in one entry of sys.path; a zip file or a missing folder has none.

    Raises `CouldNotLook` for a folder of packages that may not be read; another entry (the standard library,
    a folder of PYTHONPATH) is passed over, as the interpreter does.
    """
    try:
        return host.names(folder) or ()
    except CouldNotLook:
        if owed:
            raise
        return ()


def _distribution(host: Host, folder: str, name: str) -> Distribution | None:
    stem, dot, ending = name.rpartition(".")
    if not dot or ending not in ("dist-info", "egg-info"):
        return None
    own, dash, version = stem.partition("-")
    if ending == "egg-info":
        version = version.partition("-py")[0]
        if not dash:
            version = _develop_version(host, f"{folder}/{name}")
    else:
        own, _, version = stem.rpartition("-")
    if not own or not version:
        return None
    return Distribution(name=normalised(own), version=version, location=folder)


def _develop_version(host: Host, folder: str) -> str:
    """The version of a package installed in place, whose folder's name has none."""
    try:
        text = host.text(f"{folder}/PKG-INFO", HEAD) or ""
    except CouldNotLook:
        return ""
    return next((line[8:].strip() for line in text.splitlines() if line.startswith("Version:")), "")


def _conda(host: Host, prefix: str) -> tuple[CondaPackage, ...]:
    """conda's records: ``name-version-build.json``."""
    found = []
    for file in host.names(f"{prefix}/conda-meta") or ():
        parts = file.removesuffix(".json").rsplit("-", 2)
        if not file.endswith(".json") or len(parts) != 3:
            continue
        name, version, build = parts
        channel = _channel(host, f"{prefix}/conda-meta/{file}") if name.startswith(CHANNEL_MATTERS) else ""
        found.append(CondaPackage(name=name, version=version, build=build, channel=channel))
    return tuple(found)


def _channel(host: Host, path: str) -> str:
    """The short name in a record's ``"channel": "https://conda.anaconda.org/conda-forge/linux-64"``."""
    _, key, rest = (host.text(path, HEAD) or "").partition('"channel":')
    if not key:
        return ""
    value = rest.split('"', 2)[1] if rest.count('"') >= 2 else ""
    return channel_name(value)


def channel_name(url: str) -> str:
    """``https://conda.anaconda.org/pytorch/linux-64`` -> ``pytorch``; Anaconda's own -> ``pkgs/main``."""
    path = url.partition("://")[2].partition("/")[2] if "://" in url else url
    parts = [each for each in path.split("/") if each]
    if parts and parts[-1].startswith(("linux-", "osx-", "win-", "noarch")):
        parts.pop()
    return "/".join(parts)


def _only_conda(
    conda: tuple[CondaPackage, ...], found: list[Distribution], prefix: str
) -> list[Distribution]:
    """What conda installed and no folder on the path says: libraries, tools, and packages without metadata."""
    known = {each.name for each in found}
    return [
        Distribution(name=name, version=each.version, location=f"{prefix}/conda-meta", installer="conda")
        for each in conda
        if (name := normalised(each.name)) not in known
    ]
