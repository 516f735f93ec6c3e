"""torchvision and torchaudio against torch."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.api import (
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    Remedy,
    Severity,
    Uninstall,
    imports,
)
from envdoctor.tables import major_minor
from envdoctor_checks.libraries.facts import LibraryNotFound, UndefinedSymbol
from envdoctor_checks.python.facts import Distributions, RequirementConflict
from envdoctor_checks.torch.advice import Advice
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import CompiledExtensions, SisterPackages, TorchBuild
from envdoctor_checks.torch.known import torch_version
from envdoctor_checks.torch.symptoms import FeatureMissing, ModuleBroke, PackageInTraceback, SisterBroken
from envdoctor_checks.torch.versions import cuda_of_label, satisfies

SPLIT_LIBRARIES = ("libtorch_cuda_cu.so", "libtorch_cuda_cpp.so")
"""Halves of libtorch_cuda.so that torch had from 1.9 to 1.13."""
NEW_API = ("register_fake", "impl_abstract", "custom_op")
"""Names in torch.library that torchvision uses when it is imported."""


def _mismatched(
    name: str,
    build: TorchBuild | None,
    sisters: SisterPackages | None,
    packages: Distributions | None,
    advice: Advice,
) -> Findings:
    """The installed sister's own metadata beats the table; of a text there is only the table."""
    version = torch_version(build, packages)
    own = (
        next((each for each in sisters.packages if each.name == name), None) if sisters is not None else None
    )
    installed = own.version if own else packages.version(name) if packages is not None else None
    if version is None or installed is None:
        return
    row = advice.companions.companion(name, installed) if _has_number(installed) else None
    specifier = own.torch if own and own.torch else row.torch if row else None
    source = sisters.source if own and sisters else packages.source if packages else None
    evidence = (
        Evidence("torch", version, build.source if build else source),
        Evidence(name, installed, source),
    )
    if specifier is not None and satisfies(version, specifier) is False:
        yield Finding(
            title=f"{name} {installed} belongs to torch {specifier.lstrip('=')}, and {version} is installed",
            subject=f"package:{name}",
            severity=Severity.WARNING,
            detail="Its compiled part is linked to the interface of that one torch release.",
            evidence=(*evidence, Evidence(f"{name} asks for", f"torch{specifier}", source)),
            remedies=tuple(_matching(name, installed, version, specifier, packages, advice)),
            breaks=(imports(name),),
        )
    elif differ := _other_cuda(version, installed, build):
        yield Finding(
            title=f"{name} {installed} is built {differ}, unlike torch {version}",
            subject=f"package:{name}",
            severity=Severity.WARNING,
            detail="Its operators for the GPU are missing, or it refuses to be imported.",
            evidence=evidence,
            remedies=tuple(_matching(name, installed, version, None, packages, advice)),
            breaks=(imports(name),),
        )


def _has_number(version: str) -> bool:
    return version[:1].isdigit()


def _other_cuda(torch: str, sister: str, build: TorchBuild | None) -> str | None:
    """How the sister's build differs where both labels tell: without CUDA, or for another major."""
    torch_cuda = build.torch_cuda if build is not None else cuda_of_label(torch.partition("+")[2])
    label = sister.partition("+")[2]
    if not torch_cuda or not label:
        return None
    if label.startswith("cpu"):
        return "for the CPU only"
    own = cuda_of_label(label)
    if own and major_minor(own)[0] != major_minor(torch_cuda)[0]:
        return f"for CUDA {own}"
    return None


def _matching(
    name: str,
    installed: str | None,
    torch: str | None,
    specifier: str | None,
    packages: Distributions | None,
    advice: Advice,
) -> Iterator[Remedy]:
    """The sister that fits the installed torch; or the torch that fits the installed sister."""
    label = torch.partition("+")[2] if torch else ""
    build = label if label.startswith(("cu", "cpu")) else ""
    row = advice.companions.made_for(name, torch) if torch else None
    suffix = f"+{label}" if build else ""
    if row is not None:
        yield Install(
            requirements=(f"{name}=={row.version}{suffix}",),
            build=build,
            why=f"the release made for torch {torch.partition('+')[0] if torch else ''}",
            verify=f'python -c "import torch, {name}; print(torch.__version__, {name}.__version__)"',
        )
    else:
        yield Install(
            requirements=("torch", name),
            build=build,
            reinstall=False,
            why="let the installer choose two that belong together",
        )
    if installed and specifier and specifier.startswith("=="):
        others = (
            each
            for each in ("torchvision", "torchaudio")
            if each != name and packages is not None and packages.named(each)
        )
        wanted = [advice.companions.made_for(other, specifier[2:]) for other in others]
        yield Install(
            requirements=(
                f"torch{specifier}",
                *(f"{each.package}=={each.version}" for each in wanted if each),
            ),
            build=build if build in {index.index for index in advice.indexes.having(specifier[2:])} else "",
            why=f"or the torch that {name} {installed} was made for",
        )
    if name == "torchaudio":
        yield Uninstall(distributions=(name,), why="if nothing needs it")


@check.rule
def torchvision_mismatch(
    build: TorchBuild | None, sisters: SisterPackages | None, packages: Distributions | None, advice: Advice
) -> Findings:
    """torchvision belongs to another torch release."""
    yield from _mismatched("torchvision", build, sisters, packages, advice)


@check.rule
def torchaudio_mismatch(
    build: TorchBuild | None, sisters: SisterPackages | None, packages: Distributions | None, advice: Advice
) -> Findings:
    """torchaudio belongs to another torch release."""
    yield from _mismatched("torchaudio", build, sisters, packages, advice)


def _conflict(
    name: str, said: RequirementConflict, packages: Distributions | None, advice: Advice
) -> Findings:
    if said.package != name or said.other != "torch" or said.found is None:
        return
    specifier = said.requirement.removeprefix("torch")
    yield Finding(
        title=f"{name} {said.version} asks for {said.requirement}, and torch {said.found} is installed",
        subject=f"package:{name}",
        severity=Severity.ERROR,
        detail="Its compiled part is linked to the interface of that one torch release. pip warns of it and goes on.",
        evidence=(said.evidence("pip says"),),
        remedies=tuple(_matching(name, said.version, said.found, specifier, packages, advice)),
        breaks=(imports(name),),
    )


@torchvision_mismatch.sign
def _vision_conflict(said: RequirementConflict, packages: Distributions | None, advice: Advice) -> Findings:
    yield from _conflict("torchvision", said, packages, advice)


@torchaudio_mismatch.sign
def _audio_conflict(said: RequirementConflict, packages: Distributions | None, advice: Advice) -> Findings:
    yield from _conflict("torchaudio", said, packages, advice)


def _broken(
    name: str, said: SisterBroken, build: TorchBuild | None, packages: Distributions | None, advice: Advice
) -> Findings:
    if said.package != name:
        return
    version = torch_version(build, packages)
    installed = packages.version(name) if packages is not None else None
    whys = {
        "operators": "Its compiled part did not load, so its operators are unknown to torch.",
        "cuda-release": f"It was built for CUDA {said.own_cuda}, torch for {said.torch_cuda}.",
        "no-cuda": "It was built without CUDA, so its operators run on the CPU only.",
        "api": "It uses parts of torch's interface that this release does not have.",
    }
    if version is None and said.torch_cuda:
        version = f"2+cu{said.torch_cuda.replace('.', '')}"
    yield Finding(
        title=f"{name}{f' {installed}' if installed else ''} does not belong to the installed torch{f' {torch_version(build, packages)}' if torch_version(build, packages) else ''}",
        subject=f"package:{name}",
        confidence=Confidence.LIKELY,
        detail=whys[said.why],
        evidence=(
            said.evidence(),
            *((packages.shows(name, installed),) if packages is not None and installed else ()),
        ),
        remedies=tuple(_matching(name, installed, version, None, packages, advice)),
        breaks=(imports(name),),
        shows=(imports(name),),
    )


@torchvision_mismatch.sign
def _vision_broken(
    said: SisterBroken, build: TorchBuild | None, packages: Distributions | None, advice: Advice
) -> Findings:
    yield from _broken("torchvision", said, build, packages, advice)


@torchaudio_mismatch.sign
def _audio_broken(
    said: SisterBroken, build: TorchBuild | None, packages: Distributions | None, advice: Advice
) -> Findings:
    yield from _broken("torchaudio", said, build, packages, advice)


@torchvision_mismatch.sign
def _vision_api(
    said: FeatureMissing,
    frames: tuple[PackageInTraceback, ...],
    build: TorchBuild | None,
    packages: Distributions | None,
    advice: Advice,
) -> Findings:
    if said.name in NEW_API and any(each.module == "torchvision" for each in frames):
        broken = SisterBroken(package="torchvision", why="api", quote=said.quote, source=said.source)
        yield from _broken("torchvision", broken, build, packages, advice)


def sister_in(
    path: str | None, frames: tuple[PackageInTraceback, ...], broke: tuple[ModuleBroke, ...]
) -> str | None:
    """Which sister a loader's message is about: by the file it names, the import that broke, or the traceback."""
    for name in ("torchvision", "torchaudio"):
        if path and name in path.replace("\\", "/"):
            return name
    if path:
        return None
    for each in broke:
        if each.module.partition(".")[0] in ("torchvision", "torchaudio"):
            return each.module.partition(".")[0]
    last = frames[-1].module if frames else None
    return last if last in ("torchvision", "torchaudio") else None


def _symbol(
    name: str,
    said: UndefinedSymbol | LibraryNotFound,
    frames: tuple[PackageInTraceback, ...],
    broke: tuple[ModuleBroke, ...],
    build: TorchBuild | None,
    packages: Distributions | None,
    advice: Advice,
) -> Findings:
    from envdoctor_checks.torch.rules_extensions import is_torch_symbol

    if isinstance(said, UndefinedSymbol):
        fits = is_torch_symbol(said.symbol)
    else:
        fits = said.library in SPLIT_LIBRARIES
    if fits and sister_in(said.wanted_by, frames, broke) == name:
        broken = SisterBroken(package=name, why="operators", quote=said.quote, source=said.source)
        yield from _broken(name, broken, build, packages, advice)


@torchvision_mismatch.sign
def _vision_symbol(
    said: UndefinedSymbol,
    frames: tuple[PackageInTraceback, ...],
    broke: tuple[ModuleBroke, ...],
    build: TorchBuild | None,
    packages: Distributions | None,
    advice: Advice,
) -> Findings:
    yield from _symbol("torchvision", said, frames, broke, build, packages, advice)


@torchaudio_mismatch.sign
def _audio_symbol(
    said: UndefinedSymbol,
    frames: tuple[PackageInTraceback, ...],
    broke: tuple[ModuleBroke, ...],
    build: TorchBuild | None,
    packages: Distributions | None,
    advice: Advice,
) -> Findings:
    yield from _symbol("torchaudio", said, frames, broke, build, packages, advice)


@torchvision_mismatch.sign
def _vision_library(
    said: LibraryNotFound,
    frames: tuple[PackageInTraceback, ...],
    broke: tuple[ModuleBroke, ...],
    build: TorchBuild | None,
    packages: Distributions | None,
    advice: Advice,
) -> Findings:
    yield from _symbol("torchvision", said, frames, broke, build, packages, advice)


@torchaudio_mismatch.sign
def _audio_library(
    said: LibraryNotFound,
    frames: tuple[PackageInTraceback, ...],
    broke: tuple[ModuleBroke, ...],
    build: TorchBuild | None,
    packages: Distributions | None,
    advice: Advice,
) -> Findings:
    yield from _symbol("torchaudio", said, frames, broke, build, packages, advice)


def _files(name: str, compiled: CompiledExtensions, build: TorchBuild, advice: Advice) -> Findings:
    for each in compiled.extensions:
        if each.distribution == name and each.missing and build.accelerator != "cpu":
            yield Finding(
                title=f"{name} {each.version} asks for {len(each.missing)} symbols that torch {build.version} does not have",
                subject=f"package:{name}",
                severity=Severity.WARNING,
                evidence=(
                    compiled.shows("file", each.file),
                    compiled.shows("missing", each.missing[0]),
                    build.shows("torch", build.version),
                ),
                remedies=tuple(_matching(name, each.version, build.version, None, None, advice)),
                breaks=(imports(name),),
            )
            return


@torchvision_mismatch.sign
def _vision_files(compiled: CompiledExtensions, build: TorchBuild, advice: Advice) -> Findings:
    yield from _files("torchvision", compiled, build, advice)


@torchaudio_mismatch.sign
def _audio_files(compiled: CompiledExtensions, build: TorchBuild, advice: Advice) -> Findings:
    yield from _files("torchaudio", compiled, build, advice)
