"""Several copies of torch, several channels, and releases whose packages are broken."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    Outcome,
    Reach,
    Run,
    Severity,
    Uninstall,
    imports,
)
from envdoctor.surroundings import Surroundings
from envdoctor.tables import compare_releases
from envdoctor_checks.libraries.facts import LibraryNotFound
from envdoctor_checks.python.facts import (
    CondaPackages,
    Distributions,
    Leftovers,
    LeftoverWarned,
)
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda, TorchInstalls
from envdoctor_checks.torch.known import torch_cuda, torch_version, version_evidence
from envdoctor_checks.torch.symptoms import (
    Convolution3d,
    DllNotLoaded,
    OutOfMemory,
    RegisteredTwice,
    SisterBroken,
)
from envdoctor_checks.torch.tables import BrokenRelease, BrokenReleases

INSTALLED = Outcome("install")
TORCH = imports("torch")
OLD_INDEXES = ("cu75", "cu80", "cu90", "cu91", "cu92", "cu100", "cu101", "cu102")
"""Builds of releases before the table's first."""
CONDA_FAMILY = (
    "pytorch",
    "pytorch-cuda",
    "pytorch-gpu",
    "torchvision",
    "torchaudio",
    "torchtriton",
    "libtorch",
)
WHERE_FROM = 'python -c "import torch; print(torch.__version__, torch.__file__)"'


@check.rule
def duplicate_install(installs: TorchInstalls, left: Leftovers | None) -> Findings:
    """Two torch installations in one environment."""
    folders = [each.path for each in installs.folders]
    versions = {each.version for each in installs.metadata}
    if len(folders) < 2 and len(versions) < 2:
        return
    differ = len({each.version for each in installs.folders}) > 1 or len(versions) > 1
    shadowed = (
        f"Python imports {folders[0]}" if folders else "Which one is imported the metadata does not tell"
    )
    yield Finding(
        title=f"torch is installed {max(len(folders), len(installs.metadata))} times on this interpreter's path",
        severity=Severity.WARNING if differ else Severity.NOTE,
        detail=f"{shadowed}; pip upgrades or removes whichever it finds first, and files of the two may mix.",
        evidence=(
            *(installs.shows("package", f"{each.path} ({each.version})") for each in installs.folders),
            *(
                installs.shows("metadata", f"{each.path}/torch-{each.version}.dist-info")
                for each in installs.metadata
            ),
        ),
        remedies=_remove_second(installs),
    )


def _remove_second(installs: TorchInstalls) -> tuple[Run | Install | Uninstall, ...]:
    keep = next((each.version for each in installs.folders if each.version), None)
    label = keep.partition("+")[2] if keep else ""
    in_user_site = any(
        installs.user_site and each.path.startswith(installs.user_site) for each in installs.folders
    )
    first: Run | Uninstall = Uninstall(
        distributions=("torch",), why="repeat until pip says that it is not installed"
    )
    if in_user_site:
        first = Run(
            title="remove the copy in the user's own site-packages",
            commands=(
                "python -m pip uninstall -y torch",
                "# or keep it out of sight: export PYTHONNOUSERSITE=1",
            ),
            reach=Reach.ENVIRONMENT,
        )
    again = Install(
        requirements=(f"torch=={keep}" if keep else "torch",),
        build=label if label.startswith("cu") else "",
        verify=WHERE_FROM,
    )
    return (first, again)


@duplicate_install.sign
def _registered_twice(said: RegisteredTwice) -> Findings:
    yield Finding(
        title="a second copy of torch was loaded into one process",
        confidence=Confidence.LIKELY,
        detail="torch's compiled part registers itself once per process. A second registration comes from another copy on the path, "
        "or from a module that was removed from sys.modules and imported again.",
        evidence=(said.evidence(),),
        remedies=(
            Uninstall(distributions=("torch",), why="repeat until pip says that it is not installed"),
            Install(requirements=("torch",), verify=WHERE_FROM),
        ),
        breaks=(TORCH,),
        shows=(TORCH,),
        asks=(Ask("python -m pip list -v | grep -i '^torch'", "how many copies there are, and where"),),
    )


@duplicate_install.sign
def _half_removed(said: LeftoverWarned) -> Findings:
    if not said.name.lstrip("~-").startswith(("orch", "rch")):
        return
    where = said.folder or "the folder that the warning names"
    yield Finding(
        title=f"an interrupted pip left {said.name} in {where}",
        severity=Severity.NOTE,
        detail="pip renames a package before it removes it. The rest is not imported; it takes space and makes pip warn.",
        evidence=(said.evidence(),),
        remedies=(
            Run(
                title="remove it",
                commands=(
                    f"rm -r {where}/{said.name}*" if said.folder else f"rm -r SITE_PACKAGES/{said.name}*",
                ),
                reach=Reach.ENVIRONMENT,
            ),
        ),
    )


@duplicate_install.sign
def _conda_and_pip(conda: CondaPackages, packages: Distributions | None) -> Findings:
    own = conda.package("pytorch")
    by_pip = conda.package("torch")
    version = (
        by_pip.version
        if by_pip and by_pip.channel == "pypi"
        else packages.version("torch")
        if packages
        else None
    )
    if own is None or version is None or compare_releases(version, own.version) == 0:
        return
    yield Finding(
        title=f"conda installed pytorch {own.version} and pip torch {version} into one environment",
        severity=Severity.WARNING,
        detail="Both write to the same folder, so files of two releases lie side by side; the one that came last is imported.",
        evidence=(
            conda.shows("conda", f"pytorch {own.version} {own.build} ({own.channel})"),
            (packages or conda).shows("pip", f"torch {version}"),
        ),
        remedies=(
            Run(
                title="keep one of them: remove both, then install once",
                commands=(
                    "conda remove --force pytorch torchvision torchaudio",
                    "python -m pip uninstall -y torch torchvision torchaudio",
                    f"python -m pip install torch=={version}",
                ),
                reach=Reach.ENVIRONMENT,
            ),
        ),
    )


@check.rule
def conda_channel_mix(
    conda: CondaPackages, broken: tuple[SisterBroken, ...], cuda: TorchCuda | None
) -> Findings:
    """torch and its sister packages come from different conda channels."""
    family = [
        each for each in conda.packages if each.name in CONDA_FAMILY and each.channel not in ("", "pypi")
    ]
    channels = {each.channel for each in family}
    if len(channels) < 2 or not any(each.name == "pytorch" for each in family):
        return
    hurts = bool(broken) or (cuda is not None and not cuda.available)
    listed = ", ".join(f"{each.name} from {each.channel}" for each in family)
    yield Finding(
        title=f"torch's packages come from {len(channels)} conda channels",
        severity=Severity.ERROR if broken else Severity.WARNING,
        confidence=Confidence.CERTAIN if hurts else Confidence.LIKELY,
        detail="Channels compile their packages with their own compilers and against their own builds of torch; mixed, they do not "
        f"fit together, or conda settles on a build for the CPU. Here: {listed}.",
        evidence=tuple(
            conda.shows(each.name, f"{each.version} {each.build} ({each.channel})") for each in family
        ),
        remedies=(
            Run(
                title="make a new environment from one channel",
                commands=(
                    "conda create -n torch --override-channels -c conda-forge python=3.12 pytorch-gpu torchvision torchaudio",
                ),
                reach=Reach.ENVIRONMENT,
                caveat="PyTorch's own channel ended with 2.5; conda-forge goes on.",
            ),
            Change(
                title="or let conda never mix channels",
                reach=Reach.ENVIRONMENT,
                example=("conda config --set channel_priority strict",),
            ),
        ),
        breaks=tuple(imports(each.package) for each in broken),
        shows=tuple(imports(each.package) for each in broken),
    )


@check.rule
def broken_release(
    missing: LibraryNotFound,
    build: TorchBuild | None,
    packages: Distributions | None,
    around: Surroundings | None,
    bugs: BrokenReleases,
) -> Findings:
    """This torch release has a known packaging bug that bites here."""
    version = torch_version(build, packages)
    if (
        version is None
        or missing.library.startswith("libcuda.so")
        or around is None
        or around.python_manager is None
    ):
        return
    for row in bugs.bugs(version, "linux", torch_cuda(build, version)):
        if row.id.startswith("no-cuda-dependencies") and around.python_manager in row.installers:
            evidence = (
                missing.evidence(),
                *version_evidence(build, packages),
                around.shows("installer", around.python_manager),
            )
            yield _known_bug(row, version, evidence, Confidence.CERTAIN)


def _known_bug(
    row: BrokenRelease, version: str, evidence: tuple[Evidence, ...], confidence: Confidence
) -> Finding:
    newer = row.fixed_in or f"{row.torch[-1]} or newer"
    label = version.partition("+")[2]
    requirement = f"torch>={row.fixed_in}" if row.fixed_in else "torch"
    failed = TORCH if row.id != "conv3d-bf16-2.9" else Outcome("memory")
    return Finding(
        title=f"torch {version} has a known bug: {row.bug}",
        confidence=confidence,
        detail=f"What helps without another release: {row.cure}. Fixed in {newer}."
        if row.fixed_in
        else f"What helps: {row.cure}.",
        evidence=evidence,
        remedies=(
            Install(
                requirements=(requirement,),
                build=label if label.startswith("cu") and not row.fixed_in else "",
                why=f"without the bug ({newer})",
            ),
            Change(title=row.cure, reach=Reach.ENVIRONMENT, example=_cure_commands(row)),
        ),
        breaks=(failed,),
        shows=(failed,),
    )


def _cure_commands(row: BrokenRelease) -> tuple[str, ...]:
    if row.id == "conv3d-bf16-2.9":
        return ("python -m pip install 'nvidia-cudnn-cu12>=9.15'",)
    if row.id.startswith("no-cuda-dependencies"):
        return (f"python -m pip install --force-reinstall torch=={row.torch[0]}",)
    return ()


@broken_release.sign
def _windows_dll(
    said: DllNotLoaded, build: TorchBuild | None, packages: Distributions | None, bugs: BrokenReleases
) -> Findings:
    version = torch_version(build, packages)
    for row in bugs.releases:
        fits = version is None or any(compare_releases(version, each) == 0 for each in row.torch)
        if row.platform == "windows" and said.dll.removesuffix(".dll") in row.shows and fits:
            evidence = (said.evidence(), *version_evidence(build, packages))
            yield _known_bug(
                row, version or row.torch[0], evidence, Confidence.CERTAIN if version else Confidence.LIKELY
            )


@broken_release.sign
def _convolution(
    called: Convolution3d,
    oom: OutOfMemory,
    build: TorchBuild | None,
    packages: Distributions | None,
    bugs: BrokenReleases,
) -> Findings:
    version = torch_version(build, packages)
    for row in bugs.bugs(version, "linux") if version else ():
        if row.id == "conv3d-bf16-2.9":
            evidence = (oom.evidence(), called.evidence("in"), *version_evidence(build, packages))
            yield _known_bug(row, version or "", evidence, Confidence.LIKELY)
