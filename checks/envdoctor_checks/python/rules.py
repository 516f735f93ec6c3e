"""Which Python a package is in, and what packages do to one another."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    Reach,
    Remedy,
    Run,
    Severity,
    Unavailable,
    Uninstall,
    imports,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.libraries.facts import UndefinedSymbol
from envdoctor_checks.python.check import check
from envdoctor_checks.python.facts import (
    Distribution,
    Distributions,
    ModuleNotFound,
    PackageDenied,
    SeveralOwners,
    normalised,
)
from envdoctor_checks.python.shared import SharedFiles
from envdoctor_checks.torch.facts import TorchBuild
from envdoctor_checks.torch.symptoms import BuildIsolated

DISTRIBUTION_OF = {
    "cv2": ("opencv-python", "opencv-python-headless"),
    "PIL": ("pillow",),
    "yaml": ("pyyaml",),
    "sklearn": ("scikit-learn",),
}
"""Modules that are named otherwise than their distribution."""
SYMBOL_FAMILIES = {"nccl": "nccl", "cudnn": "cudnn", "nvshmem": "nvshmem", "cusparseLt": "cusparselt"}
"""How the symbols of a library begin, and the word in the names of its wheels."""
WHICH = 'python -c "import sys; print(sys.executable)"; python -m pip --version'


class Clash(msgspec.Struct, frozen=True):
    """Installed distributions that own the same files."""

    what: str
    """The file or the module that they share."""
    owners: tuple[Distribution, ...]


def clashes(packages: Distributions, shared: SharedFiles) -> Iterator[Clash]:
    """Every group of installed distributions of which one overwrote the other's files."""
    told: set[tuple[str, ...]] = set()
    for what, names in shared.groups:
        owners = tuple(each for name in names for each in packages.named(name)[:1] if _has_file(each, what))
        key = tuple(each.name for each in owners)
        if len(owners) > 1 and key not in told:
            told.add(key)
            yield Clash(what, owners)


def _has_file(owner: Distribution, what: str) -> bool:
    """cuDNN's file names carry its own major, so 8 and 9 lie side by side in one folder."""
    _, so, major = what.rpartition("/libcudnn")[2].partition(".so.")
    return "libcudnn" not in what or not so or owner.version.startswith(f"{major}.")


@check.rule
def two_wheels_one_path(packages: Distributions, build: TorchBuild | None, shared: SharedFiles) -> Findings:
    """Two distributions own the same files, and one overwrote the other."""
    for clash in clashes(packages, shared):
        if len({each.version for each in clash.owners}) < 2 and clash.owners[0].name.startswith("nvidia"):
            continue  # the same release for two CUDA majors: either file serves
        wanted = wanted_of(clash, build)
        yield _finding(
            clash,
            wanted,
            packages,
            Severity.WARNING if _of_torch(clash) else Severity.NOTE,
            Confidence.LIKELY,
        )


def _of_torch(clash: Clash) -> bool:
    return clash.owners[0].name.startswith("nvidia-")


def wanted_of(clash: Clash, build: TorchBuild | None) -> Distribution:
    """The one to keep: of torch's CUDA major where that is known, else of the newest."""
    if build is not None and build.torch_cuda:
        major = build.torch_cuda.partition(".")[0]
        for each in clash.owners:
            if each.name.endswith(f"-cu{major}"):
                return each
    return max(clash.owners, key=lambda each: each.name)


def _finding(
    clash: Clash, wanted: Distribution, packages: Distributions, severity: Severity, confidence: Confidence
) -> Finding:
    listed = " and ".join(f"{each.name} {each.version}" for each in clash.owners)
    return Finding(
        title=f"{listed} both bring {clash.what}",
        subject=f"file:{clash.what}",
        severity=severity,
        confidence=confidence,
        detail="The one that was installed last overwrote the other's files; removing either takes the files of both away.",
        evidence=tuple(packages.shows(each.name, each.version) for each in clash.owners),
        remedies=remove_others(clash, wanted),
    )


def remove_others(clash: Clash, wanted: Distribution) -> tuple[Remedy, ...]:
    """All but one away, and that one put back whole."""
    others = tuple(each.name for each in clash.owners if each.name != wanted.name)
    keep = f"{wanted.name}=={wanted.version}" if wanted.version else wanted.name
    return (
        Run(
            title=f"uninstall {', '.join(others)}, then put back what {wanted.name} lost with it",
            commands=(
                f"python -m pip uninstall -y {' '.join(others)}",
                f"python -m pip install --force-reinstall --no-deps {keep}",
            ),
            reach=Reach.ENVIRONMENT,
            caveat="What asked for the removed one will ask for it again at the next installation.",
        ),
    )


@two_wheels_one_path.sign
def _symbol_of_overwritten(
    said: UndefinedSymbol, packages: Distributions, build: TorchBuild | None, shared: SharedFiles
) -> Findings:
    """A symbol that one of the two has and the other, which lies there, has not."""
    family = next((word for start, word in SYMBOL_FAMILIES.items() if said.symbol.startswith(start)), None)
    for clash in clashes(packages, shared):
        if family is None or not clash.owners[0].name.startswith(f"nvidia-{family}"):
            continue
        in_torch = said.wanted_by is None or "/torch/" in said.wanted_by
        broken = (imports("torch"),) if in_torch else ()
        finding = _finding(clash, wanted_of(clash, build), packages, Severity.ERROR, Confidence.CERTAIN)
        yield msgspec.structs.replace(
            finding, evidence=(said.evidence(), *finding.evidence), breaks=broken, shows=broken
        )


@two_wheels_one_path.sign
def _says_so(said: SeveralOwners) -> Findings:
    """CuPy looks for its own doubles."""
    names = said.distributions
    yield Finding(
        title=f"{len(names) or 'several'} distributions bring {said.module}: {', '.join(names)}",
        subject=f"file:{said.module}",
        detail="The one that was installed last overwrote the other's files, so parts of different CUDA releases lie side by side.",
        evidence=(said.evidence(),),
        remedies=(
            Uninstall(
                distributions=names or (said.module,), why="all of them, since each took files of the other"
            ),
            Install(
                requirements=(names[-1] if names else said.module,),
                why="the one for the CUDA that is used here",
            ),
        ),
        breaks=(imports(said.module),),
        shows=(imports(said.module),),
    )


@check.rule
def package_in_other_interpreter(
    said: ModuleNotFound,
    packages: Distributions,
    isolated: tuple[BuildIsolated, ...],
    around: Surroundings | None,
) -> Findings:
    """The package was installed into another Python than the one that runs."""
    top = said.module.partition(".")[0]
    names = DISTRIBUTION_OF.get(top, (normalised(top),))
    found = next((each for name in names for each in packages.named(name)), None)
    if found is None or isolated or "." in said.module:
        return
    where = f" ({found.location})" if found.location else ""
    yield Finding(
        title=f"{found.name} {found.version} is installed{where}, and not in the Python that ran this",
        subject=f"package:{found.name}",
        confidence=Confidence.LIKELY,
        detail="pip installs into the interpreter that it belongs to. A pip, uv or notebook of another environment filled another one.",
        evidence=(said.evidence(), packages.shows(found.name, found.version)),
        remedies=(
            Install(requirements=(found.name,), why="with the pip of the interpreter that runs the program"),
            Change(
                title="or run the program with the interpreter that has it",
                reach=Reach.SHELL,
                example=(
                    "source .venv/bin/activate",
                    "# in a notebook: %pip install, and the kernel of that environment",
                ),
            ),
        ),
        breaks=(imports(top),),
        shows=(imports(top),),
        asks=(Ask(WHICH, "whether python and pip belong together"),),
    )


@check.rule
def interpreter_unreadable(packages: Distributions | Unavailable) -> Findings:
    """This user may not read the interpreter or its packages (installed under /root, say)."""
    if not isinstance(packages, Unavailable) or "ermission denied" not in packages.reason:
        return
    path = packages.reason.partition(":")[0]
    yield _unreadable(path, (Evidence("could not look", packages.reason),))


def _unreadable(path: str, evidence: tuple[Evidence, ...]) -> Finding:
    home = path.startswith("/root/")
    return Finding(
        title=f"this user may not read {path}",
        subject=f"path:{path}",
        detail="The environment was made by another user, in a folder that is closed to all others."
        + (" uv and pip put interpreters and packages under /root when root runs them." if home else ""),
        evidence=evidence,
        remedies=(
            Run(
                title="make the environment where every user may read it, as the user who runs the program",
                commands=(
                    "python -m venv /opt/venv",
                    "# uv: UV_PYTHON_INSTALL_DIR=/opt/python uv venv /opt/venv",
                ),
                reach=Reach.CONTAINER if home else Reach.ENVIRONMENT,
            ),
            Run(
                title="or open the folder for reading",
                commands=(f"chmod -R a+rX {'/root' if home else path}",),
                reach=Reach.CONTAINER if home else Reach.HOST,
                needs_root=True,
                caveat="Others can then read what else lies there.",
            ),
        ),
        breaks=(imports("torch"),),
        shows=(imports("torch"),),
    )


@interpreter_unreadable.sign
def _denied(said: PackageDenied) -> Findings:
    yield _unreadable(said.path, (said.evidence(),))
