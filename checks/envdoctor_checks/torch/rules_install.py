"""How torch came into the environment: indexes, installers, channels, and what they left behind."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import (
    Ask,
    Confidence,
    Finding,
    Findings,
    Install,
    NoFix,
    Outcome,
    Platform,
    Reach,
    Run,
    imports,
)
from envdoctor.surroundings import Surroundings
from envdoctor.tables import compare_releases
from envdoctor_checks.driver.facts import DriverCuda
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.python.facts import (
    Distributions,
)
from envdoctor_checks.torch.advice import Advice
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import TorchCuda
from envdoctor_checks.torch.known import present, torch_version
from envdoctor_checks.torch.symptoms import (
    IndexNamed,
    RequirementNotFound,
    WheelTaken,
)
from envdoctor_checks.torch.versions import cuda_of_label

INSTALLED = Outcome("install")
TORCH = imports("torch")
OLD_INDEXES = ("cu75", "cu80", "cu90", "cu91", "cu92", "cu100", "cu101", "cu102")
"""Builds of releases before the table's first."""
CONDA_FAMILY = (
    "pytorch",
    "pytorch-cuda",
    "pytorch-gpu",
    "pytorch-mutex",
    "torchvision",
    "torchaudio",
    "torchtriton",
    "libtorch",
)
WHERE_FROM = 'python -c "import torch; print(torch.__version__, torch.__file__)"'


@check.rule
def wheel_index_wrong(
    named: IndexNamed,
    cuda: TorchCuda | None,
    packages: Distributions | None,
    taken: WheelTaken | None,
    gpus: GpuDevices | None,
    driver: DriverCuda | None,
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
) -> Findings:
    """The package index or the local version that was asked for does not exist, so pip takes another build or none."""
    index = named.index.rpartition("/")[2]
    if not index.startswith("cu") or advice.indexes.index(index) is not None or index in OLD_INDEXES:
        return
    if "/" in named.index and not _older_than_known(index, advice):
        return  # nightlies come for CUDA releases before the stable ones do
    version = taken.version if taken else torch_version(None, packages)
    needs = advice.needs(gpus, packages, driver, platform, around.python_version if around else None)
    had = ", ".join(
        row.index
        for row in (advice.indexes.having(version) if version else advice.indexes.indexes)
        if row.cuda
    )
    failed = (Outcome("cuda-available"),) if cuda is not None and not cuda.available else ()
    yield Finding(
        title=f"PyTorch has no wheel index {named.index}",
        subject=f"index:{named.index}",
        confidence=Confidence.CERTAIN if _older_than_known(index, advice) else Confidence.LIKELY,
        detail=f"pip passes over an index that answers nothing, and takes torch from the next one: PyPI's build, or none. Builds{' of this release' if version else ''} "
        f"exist for {had}. The index need not be the toolkit's CUDA: the wheels bring their own, and the driver decides what runs.",
        evidence=(named.evidence("index"), *((taken.evidence("installed instead"),) if taken else ())),
        remedies=tuple(present(advice.install(version, needs)))
        or (NoFix(reason="no build is known to fit"),),
        breaks=(INSTALLED, *failed),
        shows=failed,
    )


def _older_than_known(index: str, advice: Advice) -> bool:
    """Whether the CUDA release is not newer than the newest with an index, so that its absence is no news."""
    asked = cuda_of_label(index)
    known = [row.cuda for row in advice.indexes.indexes if row.cuda]
    return asked is not None and any(compare_releases(each, asked) > 0 for each in known)


@wheel_index_wrong.sign
def _nothing_found(
    said: RequirementNotFound,
    gpus: GpuDevices | None,
    driver: DriverCuda | None,
    packages: Distributions | None,
    indexes: tuple[IndexNamed, ...],
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
) -> Findings:
    name, version = _asked(said.requirement)
    why = _why_none(said, name, version, advice, around, indexes)
    python = around.python_version if around else None
    needs = advice.needs(gpus, packages, driver, platform, python)
    torch = version if name in ("torch", "pytorch") else None
    yield Finding(
        title=f"no index that was asked has {said.requirement} for this Python and platform",
        subject=f"requirement:{name}",
        confidence=Confidence.CERTAIN if why else Confidence.LIKELY,
        detail=why or "Either the release, the build or the Python does not exist there.",
        evidence=(said.evidence(), *(each.evidence("index") for each in indexes[:1])),
        remedies=tuple(_instead(said, torch, indexes, advice.install(torch, needs), advice)),
        breaks=(INSTALLED,),
        shows=(INSTALLED,),
        asks=(
            Ask(
                'python -c "import sys, platform; print(sys.version, platform.machine(), platform.system())"',
                "whether wheels exist for this Python",
            ),
        ),
    )


def _asked(requirement: str) -> tuple[str, str | None]:
    match = re.match(r"([\w-]+)(?:\[[^\]]*\])?(?:===?|=)(\d[\w.+]*)", requirement)
    return (match[1], match[2]) if match else (re.split(r"[=<>!~\[]", requirement)[0], None)


def _why_none(
    said: RequirementNotFound,
    name: str,
    version: str | None,
    advice: Advice,
    around: Surroundings | None,
    indexes: tuple[IndexNamed, ...],
) -> str:
    if name == "pytorch-cuda" or (name == "pytorch" and version and compare_releases(version, "2.6") >= 0):
        return "PyTorch's own conda channel ended with 2.5 and CUDA 12.4; later releases are on conda-forge and as wheels."
    if said.python:
        return f"The release has no wheels for {said.python}."
    release = advice.releases.release(version) if version and name == "torch" else None
    label = version.partition("+")[2] if version else ""
    if (
        release
        and label.startswith("cu")
        and label not in {row.index for row in advice.indexes.having(version or "")}
    ):
        builds = ", ".join(row.index for row in advice.indexes.having(version or ""))
        return f"torch {release.torch} was never built as +{label}; its builds are {builds}."
    python = around.python_version if around else None
    if release and python and compare_releases(python, release.python_max) > 0:
        return f"torch {release.torch} has wheels up to Python {release.python_max}, and this is {python}."
    if label and not indexes and not said.versions:
        return f"Local versions such as +{label} are not on PyPI: they need --index-url https://download.pytorch.org/whl/{label}."
    if said.versions == ():
        return "Not one release fits: this Python is newer or older than every release's, it is a 32-bit one, or the platform (musl, an Intel Mac) has no wheels."
    newer = [each for each in said.versions or () if version and _later(each, version)]
    if said.versions and len(newer) == len(said.versions) and release:
        return f"Only later releases fit this Python: torch {release.torch} has wheels up to Python {release.python_max}."
    return ""


def _later(one: str, other: str) -> bool:
    try:
        return compare_releases(one, other) > 0
    except ValueError:
        return False


def _instead(
    said: RequirementNotFound,
    version: str | None,
    indexes: tuple[IndexNamed, ...],
    install: Install | None,
    advice: Advice,
) -> Iterator[Install | Run | NoFix]:
    """The index that has what was asked for; else a Python that has wheels; else a build that fits."""
    label = version.partition("+")[2] if version else ""
    exists = version is not None and label in {row.index for row in advice.indexes.having(version)}
    if exists and said.python is None and not any(each.index == label for each in indexes):
        yield Install(requirements=(said.requirement,), build=label, why="the index that has this build")
        return
    only_newer = bool(said.versions) and version is not None
    only_newer = only_newer and all(_later(each, version or "0") for each in said.versions or ())
    if said.python or said.versions == () or only_newer:
        release = advice.releases.release(version) if version else None
        python = release.python_max if release else advice.releases.releases[-1].python_max
        yield Run(
            title=f"make an environment of Python {python}, which has wheels",
            commands=(f"uv venv --python {python} .venv", f"# or: conda create -n torch python={python}"),
            reach=Reach.ENVIRONMENT,
        )
    yield install or NoFix(reason="no build is known that fits this Python, platform and driver")
