"""Packages that come from outside of the environment: the user's own folder, and what PYTHONPATH names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import (
    Confidence,
    DropPathEntry,
    Evidence,
    Finding,
    Findings,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
    TargetPaths,
    UnsetVariable,
    Variables,
    imports,
)
from envdoctor_checks.python.check import check
from envdoctor_checks.python.facts import Distribution, Distributions
from envdoctor_checks.torch.facts import TorchImport

FAMILY = frozenset({
    "torch", "torchvision", "torchaudio", "triton", "pytorch-triton", "numpy", "xformers", "flash-attn", "bitsandbytes",
})  # fmt: skip
"""What must fit together for torch to work, beside NVIDIA's wheels."""
VARIABLE = "PYTHONPATH"
OF_PYTHON = r"/python(\d\.\d+)/"
"""In the name of a folder of packages: the Python that they were installed for."""
WHERE = 'python -c "import torch, numpy; print(torch.__file__, numpy.__file__)"'

Pair = tuple[Distribution, Distribution | None]
"""The package that is imported, and the one of its name that it hides, if any."""


def _firsts(packages: Distributions) -> Iterator[Pair]:
    """What is imported of torch's family, and the one of the same name that it hides, if any."""
    told: set[str] = set()
    for each in packages.distributions:
        if each.name in told or not (each.name in FAMILY or each.name.startswith("nvidia-")):
            continue
        told.add(each.name)
        named = packages.named(each.name)
        yield named[0], next((other for other in named[1:] if other.location != named[0].location), None)


@check.rule
def user_site_leaks(packages: Distributions, paths: TargetPaths) -> Findings:
    """Packages in the user's own folder (~/.local) come before those of the environment, or stand in for them."""
    site = paths.user_site
    if site is None or not (paths.conda or paths.is_venv):
        return  # a Python of the system is meant to see that folder
    leaks = [pair for pair in _firsts(packages) if pair[0].location == site]
    differ = [
        pair for pair in leaks if _differ(*pair) and pair[0].name != "torch"
    ]  # which duplicate-install judges
    shown = differ or [pair for pair in leaks if pair[1] is None]
    if not shown:
        return
    names = ", ".join(f"{each.name} {each.version}" for each, _ in shown[:3])
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    yield Finding(
        title=f"{names}{more} in {site} {'hide those' if differ else 'are used in place of any'} of this environment",
        subject=f"path:{site}",
        severity=Severity.WARNING if differ else Severity.NOTE,
        confidence=Confidence.CERTAIN,
        detail="pip install --user put them there. Every conda environment of the same Python version sees that folder "
        "ahead of its own packages, until PYTHONNOUSERSITE is set; a virtual environment only where it was made to see the system's.",
        evidence=_evidence(packages, shown),
        remedies=_without_user_site(tuple(each.name for each, _ in shown)),
    )


def _evidence(packages: Distributions, found: list[Pair]) -> tuple[Evidence, ...]:
    return tuple(
        packages.shows(each.name, f"{each.version} in {each.location}")
        if hidden is None
        else packages.shows(
            each.name, f"{each.version} in {each.location}, before {hidden.version} in {hidden.location}"
        )
        for each, hidden in found[:5]
    )


def _without_user_site(names: tuple[str, ...]) -> tuple[Remedy, ...]:
    return (
        SetVariable(
            "PYTHONNOUSERSITE", "1", why="then this Python does not look into that folder", verify=WHERE
        ),
        Run(
            title="or remove them from the user's own folder",
            commands=(f"python -m pip uninstall -y {' '.join(names)}",),
            reach=Reach.ENVIRONMENT,
            caveat="Other Pythons of the same version that used them lose them too.",
            verify=WHERE,
        ),
    )


@check.rule
def pythonpath_leaks(
    packages: Distributions, paths: TargetPaths, variables: Variables, imported: TorchImport | None
) -> Findings:
    """PYTHONPATH puts packages of another environment before those of this one."""
    entries = [each.rstrip("/") for each in (variables.get(VARIABLE) or "").split(":") if each.rstrip("/")]
    here = ".".join(paths.version.split(".")[:2])
    for entry in dict.fromkeys(entries):
        if entry in paths.site_packages:
            continue
        leaks = [pair for pair in _firsts(packages) if pair[0].location == entry]
        built_for = re.search(OF_PYTHON, f"{entry}/")
        foreign = built_for is not None and built_for[1] != here
        shown = leaks if foreign else [pair for pair in leaks if _differ(*pair)]
        if not shown:
            continue
        failed = imported is not None and not imported.ok
        first = shown[0][0]
        why = f", which was installed for Python {built_for[1]}" if foreign and built_for else ""
        yield Finding(
            title=f"PYTHONPATH puts {first.name} {first.version} of {entry}{why}, before this environment's packages",
            subject=f"path:{entry}",
            severity=Severity.ERROR if failed and foreign else Severity.WARNING,
            confidence=Confidence.CERTAIN if foreign else Confidence.LIKELY,
            detail="Python looks through the folders of PYTHONPATH before its own folder of packages. "
            + (
                f"Compiled modules for Python {built_for[1]} cannot be imported by Python {here}."
                if foreign and built_for
                else "Packages of two environments then meet in one process."
            ),
            evidence=(variables.evidence(VARIABLE), *_evidence(packages, shown)),
            remedies=(_without(entry, entries),),
            breaks=(imports("torch"),) if foreign else (),
        )


def _differ(first: Distribution, hidden: Distribution | None) -> bool:
    return hidden is not None and hidden.version != first.version


def _without(entry: str, entries: list[str]) -> Remedy:
    why = "then this environment's own packages are imported"
    if len(entries) == 1:
        return UnsetVariable(VARIABLE, why=why, verify=WHERE)
    return DropPathEntry(VARIABLE, entry, why=why, verify=WHERE)
