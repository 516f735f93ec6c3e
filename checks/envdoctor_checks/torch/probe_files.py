"""What files tell of the installed torch: nothing of it is imported or run here."""

from __future__ import annotations

import re

from envdoctor.api import CouldNotLook, Host, Platform, Source, TargetPaths, Tier
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import (
    Requirement,
    SisterPackage,
    SisterPackages,
    TorchBuild,
    TorchFolder,
    TorchInstalls,
    TorchRequirements,
)
from envdoctor_checks.torch.metadata import environment, holds, requires
from envdoctor_checks.torch.versions import cuda_of_label

SISTERS = ("torchvision", "torchaudio", "torchtext", "torchcodec")
ASSIGNED = r"(?m)^(__version__|cuda|hip)(?::[^=\n]*)?\s*=\s*(?:'([^'\n]*)'|\"([^\"\n]*)\"|None\b)"
DEPTH = 4
"""How far extras lead to extras: torch -> cuda-toolkit -> its own."""


@check.probe(tier=Tier.QUICK)
def build(host: Host, paths: TargetPaths, packages: Distributions) -> tuple[TorchBuild, TorchInstalls]:
    """Every torch on the path: version.py read as text, and the names of its metadata folders."""
    folders: list[TorchFolder] = []
    builds: list[TorchBuild] = []
    for entry in dict.fromkeys(paths.sys_path):
        folder = f"{entry}/torch"
        if not _is_package(host, folder):
            continue
        version, cuda, hip = version_file(_text(host, f"{folder}/version.py"))
        folders.append(TorchFolder(path=folder, version=version))
        if version is not None:
            source = Source("file", f"{folder}/version.py")
            builds.append(TorchBuild(version=version, torch_cuda=cuda, hip=hip, path=folder, source=source))
    metadata = tuple(
        TorchFolder(path=each.location, version=each.version) for each in packages.named("torch")
    )
    installs = TorchInstalls(
        folders=tuple(folders), metadata=metadata, user_site=paths.user_site, source=packages.source
    )
    return (builds[0] if builds else _by_metadata(folders, metadata, packages.source)), installs


def _by_metadata(folders: list[TorchFolder], metadata: tuple[TorchFolder, ...], source: Source) -> TorchBuild:
    """An installation in place has no folder on the path: what its metadata says. None at all: not installed."""
    version = metadata[0].version if metadata and metadata[0].version else None
    label = version.partition("+")[2] if version else ""
    path = folders[0].path if folders else None
    if version is None and path is not None:
        raise CouldNotLook(f"{path} has no version.py that can be read, so its build is not known")
    return TorchBuild(version=version, torch_cuda=cuda_of_label(label), path=path, source=source)


def _is_package(host: Host, folder: str) -> bool:
    """A folder with code: one that an uninstallation left with caches alone is none."""
    return host.status(f"{folder}/__init__.py") is not None or host.status(f"{folder}/version.py") is not None


def _text(host: Host, path: str) -> str:
    try:
        return host.text(path) or ""
    except CouldNotLook:
        return ""


def version_file(text: str) -> tuple[str | None, str | None, str | None]:
    """Version, CUDA and ROCm of a generated ``version.py``, by its assignments of literals."""
    found: dict[str, str | None] = {}
    for name, single, double in re.findall(ASSIGNED, text):
        found.setdefault(name, single or double or None)
    return found.get("__version__"), found.get("cuda"), found.get("hip")


@check.probe(tier=Tier.QUICK)
def requirements(
    host: Host, paths: TargetPaths, packages: Distributions, platform: Platform
) -> tuple[TorchRequirements, SisterPackages]:
    """What torch's METADATA asks for here, extras included, and what its sisters ask of torch."""
    variables = environment(paths, platform.system)
    torch = next(iter(packages.named("torch")), None)
    wanted = requires(host, torch) if torch else None
    found: list[Requirement] = []
    queue = [(each, "torch", 0) for each in wanted or () if holds(each.marker, variables)]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while queue:
        each, by, depth = queue.pop(0)
        found.append(Requirement(name=each.name, specifier=each.specifier, wanted_by=by))
        if not each.extras or depth >= DEPTH or (each.name, each.extras) in seen:
            continue
        seen.add((each.name, each.extras))
        for owner in packages.named(each.name)[:1]:
            for extra in each.extras:
                queue += [
                    (inner, f"{each.name}[{extra}]", depth + 1)
                    for inner in requires(host, owner) or ()
                    if "extra" in inner.marker and holds(inner.marker, variables, (extra,))
                ]
    sisters = tuple(_sisters(host, packages, variables))
    source = Source("file", torch.location) if torch else packages.source
    return (
        TorchRequirements(requirements=tuple(dict.fromkeys(found)), source=source),
        SisterPackages(packages=sisters, source=packages.source),
    )


def _sisters(host: Host, packages: Distributions, variables: dict[str, str]) -> list[SisterPackage]:
    found = []
    for name in SISTERS:
        for each in packages.named(name)[:1]:
            asks = (
                one.specifier
                for one in requires(host, each) or ()
                if one.name == "torch" and "extra" not in one.marker and holds(one.marker, variables)
            )
            found.append(SisterPackage(name=name, version=each.version, torch=next(asks, None) or None))
    return found
