"""Packages that are compiled against torch, and numpy, against the torch that is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import (
    Ask,
    Confidence,
    Finding,
    Findings,
    Install,
    Platform,
    Reach,
    Remedy,
    Run,
    Severity,
    imports,
)
from envdoctor.surroundings import Surroundings
from envdoctor.tables import compare_releases, major_minor
from envdoctor_checks.libraries.facts import LibraryNotFound, UndefinedSymbol
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import CompiledExtensions, TorchBuild
from envdoctor_checks.torch.known import torch_cuda, torch_version, version_evidence
from envdoctor_checks.torch.rules_sisters import SPLIT_LIBRARIES, sister_in
from envdoctor_checks.torch.symptoms import (
    ExtensionBuiltFor,
    ModuleBroke,
    OperatorMissing,
    PackageInTraceback,
)
from envdoctor_checks.torch.tables import Extension, Extensions
from envdoctor_checks.torch.versions import is_official

TORCH_SYMBOL = r"_ZNK?K?(?:St\d+)?(?:2at|3c10|5torch|6caffe2)|_ZT[IVS]N(?:2at|3c10|5torch)|_Z\d+THPVariable|THPVariable|_ZN\w*(?:3c10|2at6Tensor|5torch)"
NEW_ABI_MARK = "St7__cxx1112basic_string"
WHEEL_SOURCES = {
    "flash-attn": "https://github.com/Dao-AILab/flash-attention/releases/download/v{version}/flash_attn-{version}",
    "mamba-ssm": "https://github.com/state-spaces/mamba/releases/download/v{version}/mamba_ssm-{version}",
    "causal-conv1d": "https://github.com/Dao-AILab/causal-conv1d/releases/download/v{version}/causal_conv1d-{version}",
}
"""Projects whose releases have a wheel per torch, C++ ABI and Python, and how their names begin."""


def is_torch_symbol(symbol: str) -> bool:
    """Whether a mangled name belongs to at, c10, torch or the Python bindings."""
    return re.match(TORCH_SYMBOL, symbol) is not None


def extension_of(
    path: str | None,
    broke: tuple[ModuleBroke, ...],
    frames: tuple[PackageInTraceback, ...],
    known: Extensions,
) -> tuple[str | None, Extension | None]:
    """The module that a loader's message is about, and its row where the table has one."""
    if path and "/torch/lib/" not in path:
        inside = path.replace("\\", "/").rpartition("-packages/")[2]
        module = inside.split("/")[0].partition(".")[0]
        return module, known.by_module(module)
    for each in broke:
        if each.module.partition(".")[0] not in ("torch", "ctypes"):
            return each.module, known.by_module(each.module)
    for frame in reversed(frames):
        if row := known.by_module(frame.module):
            return frame.module, row
    return None, None


@check.rule
def extension_built_for_other_torch(
    compiled: CompiledExtensions,
    build: TorchBuild,
    packages: Distributions | None,
    around: Surroundings | None,
    platform: Platform | None,
) -> Findings:
    """A compiled extension was built against another torch ABI."""
    told: set[str] = set()
    for each in compiled.extensions:
        skip = each.distribution in ("torchvision", "torchaudio") or each.distribution in told
        if skip or not each.missing or build.accelerator == "cpu":
            continue
        told.add(each.distribution)
        yield Finding(
            title=f"{each.distribution} {each.version} was built against another torch than {build.version}",
            subject=f"package:{each.distribution}",
            severity=Severity.WARNING,
            detail="Its file asks for symbols that no library of this torch has; importing it raises ImportError (undefined symbol).",
            evidence=(
                compiled.shows("file", each.file),
                *(compiled.shows("missing symbol", symbol) for symbol in each.missing[:2]),
                build.shows("torch", build.version),
            ),
            remedies=tuple(
                _of_this_torch(
                    each.distribution, each.version, build.version, each.missing[0], around, platform
                )
            ),
            breaks=(imports(each.distribution.replace("-", "_")),),
        )


def _of_this_torch(
    package: str,
    version: str | None,
    torch: str | None,
    symbol: str | None,
    around: Surroundings | None,
    platform: Platform | None,
) -> Iterator[Remedy]:
    """A wheel that was built for exactly this torch where the project publishes such, else a build on this machine."""
    plain = version.partition("+")[0] if version else None
    wheel = _wheel(package, plain, torch, symbol, around, platform)
    if wheel is not None:
        yield Run(
            title=f"install the wheel of {package} {plain} that was built for this torch",
            commands=(f"python -m pip install --force-reinstall --no-deps {wheel}",),
            reach=Reach.ENVIRONMENT,
            caveat="Not every combination is published: the project's release page lists them.",
        )
    requirement = f"{package}=={plain}" if plain else package
    yield Run(
        title=f"rebuild {package} from source against the installed torch",
        commands=(
            f"python -m pip uninstall -y {package}",
            f"python -m pip install --no-cache-dir --no-deps --no-build-isolation --no-binary {package} {requirement}",
        ),
        reach=Reach.ENVIRONMENT,
        caveat="Needs nvcc of torch's CUDA release and can take long. --no-cache-dir keeps pip from taking its old wheel again.",
    )
    if package == "vllm" or (torch is not None and not is_official(torch)):
        yield Run(
            title=f"or give {package} an environment of its own, with the torch from PyPI that its wheel was built for",
            commands=("python -m venv ~/envs/" + package, f"~/envs/{package}/bin/pip install {requirement}"),
            reach=Reach.ENVIRONMENT,
        )


def _wheel(
    package: str,
    version: str | None,
    torch: str | None,
    symbol: str | None,
    around: Surroundings | None,
    platform: Platform | None,
) -> str | None:
    python = around.python_version if around else None
    if (
        package not in WHEEL_SOURCES
        or not (version and torch and python and symbol)
        or not is_official(torch)
    ):
        return None
    machine = platform.machine if platform else "x86_64"
    if machine not in ("x86_64", "aarch64") or (platform is not None and not platform.is_linux):
        return None
    cuda = torch_cuda(None, torch)
    major = major_minor(cuda)[0] if cuda else 11 if compare_releases(torch, "2.1") < 0 else 12
    tag = "cp" + python.replace(".", "")
    torch_minor = ".".join(torch.split(".")[:2])
    abi = "TRUE" if _new_abi(torch, machine, symbol) else "FALSE"
    stem = WHEEL_SOURCES[package].format(version=version)
    return f"{stem}+cu{major}torch{torch_minor}cxx11abi{abi}-{tag}-{tag}-linux_{machine}.whl"


def _new_abi(torch: str, machine: str, symbol: str) -> bool:
    """Which C++ ABI this torch has: the other one than the symbol it lacks, where the symbol takes a string.

    PyTorch's own x86-64 wheels changed to the new one with 2.6 (its cu126 build) and 2.7 (all).
    """
    if NEW_ABI_MARK in symbol and "3c105ErrorC" in symbol:
        return False
    if re.search(r"SourceLocationESs|RKSs", symbol):
        return True
    if machine == "aarch64" or compare_releases(torch, "2.7") >= 0:
        return True
    return compare_releases(torch, "2.6") >= 0 and torch.endswith("+cu126")


@extension_built_for_other_torch.sign
def _undefined(
    said: UndefinedSymbol,
    frames: tuple[PackageInTraceback, ...],
    broke: tuple[ModuleBroke, ...],
    build: TorchBuild | None,
    packages: Distributions | None,
    around: Surroundings | None,
    platform: Platform | None,
    known: Extensions,
) -> Findings:
    in_torch = said.wanted_by is not None and re.search(r"/torch/(?:lib|_C)", said.wanted_by) is not None
    if in_torch or not is_torch_symbol(said.symbol) or sister_in(said.wanted_by, frames, broke):
        return
    module, row = extension_of(said.wanted_by, broke, frames, known)
    name = row.distribution if row else (module or "an extension")
    version = packages.version(name) if packages is not None and row else None
    torch = torch_version(build, packages)
    abi = ""
    if NEW_ABI_MARK in said.symbol and "3c105ErrorC" in said.symbol:
        abi = " The missing name has a string of the new C++ ABI (cxx11abiTRUE): this torch uses the old one, or another release."
    elif said.symbol.endswith("ESs"):
        abi = " The missing name has a string of the old C++ ABI (cxx11abiFALSE): this torch uses the new one (cxx11abiTRUE)."
    shown = imports(row.module if row else module or "extension")
    yield Finding(
        title=f"{name}{f' {version}' if version else ''} was built against another torch{f' than {torch}' if torch else ''}",
        subject=f"package:{name}" if row else "",
        detail=f"Its compiled part asks torch for a symbol that the installed torch does not have.{abi}",
        evidence=(
            said.evidence(),
            *version_evidence(build, packages),
            *((packages.shows(name, version),) if packages and version else ()),
        ),
        remedies=tuple(
            _of_this_torch(name if row else "PACKAGE", version, torch, said.symbol, around, platform)
        ),
        breaks=(shown,),
        shows=(shown,),
    )


@extension_built_for_other_torch.sign
def _split_library(
    said: LibraryNotFound,
    frames: tuple[PackageInTraceback, ...],
    broke: tuple[ModuleBroke, ...],
    build: TorchBuild | None,
    packages: Distributions | None,
    around: Surroundings | None,
    platform: Platform | None,
    known: Extensions,
) -> Findings:
    if said.library not in SPLIT_LIBRARIES or sister_in(said.wanted_by, frames, broke):
        return
    module, row = extension_of(said.wanted_by, broke, frames, known)
    name = row.distribution if row else (module or "an extension")
    torch = torch_version(build, packages)
    shown = imports(row.module if row else module or "extension")
    yield Finding(
        title=f"{name} was built against torch 1.9 to 1.13",
        subject=f"package:{name}" if row else "",
        confidence=Confidence.LIKELY,
        detail=f"Only those releases had {said.library}.",
        evidence=(said.evidence(), *version_evidence(build, packages)),
        remedies=tuple(_of_this_torch(name if row else "PACKAGE", None, torch, None, around, platform)),
        breaks=(shown,),
        shows=(shown,),
    )


@extension_built_for_other_torch.sign
def _built_for(said: ExtensionBuiltFor, around: Surroundings | None, platform: Platform | None) -> Findings:
    if said.found.endswith("+cpu"):
        return
    shown = imports(said.package)
    yield Finding(
        title=f"{said.package} was built for torch {said.built_for}, and {said.found} is installed",
        subject=f"package:{said.package}",
        evidence=(said.evidence(),),
        remedies=(
            Install(
                requirements=(said.package,),
                build=_label(said.found),
                reinstall=True,
                why=f"the release that was built for torch {said.found}; its notes say which",
            ),
            Install(
                requirements=(f"torch=={said.built_for}",),
                build=_label(said.built_for),
                why=f"or the torch that {said.package} was built for",
            ),
        ),
        breaks=(shown,),
        shows=(shown,),
    )


def _label(version: str) -> str:
    label = version.partition("+")[2]
    return label if label.startswith("cu") else ""


@extension_built_for_other_torch.sign
def _not_registered(
    said: OperatorMissing,
    undefined: tuple[UndefinedSymbol, ...],
    missing: tuple[LibraryNotFound, ...],
    frames: tuple[PackageInTraceback, ...],
    build: TorchBuild | None,
    packages: Distributions | None,
    around: Surroundings | None,
    platform: Platform | None,
    known: Extensions,
) -> Findings:
    """Operators that are not there follow from an extension that did not load; often the reason stands above."""
    _, row = extension_of(None, (), frames, known)
    row = known.by_module(said.namespace) or row
    name = row.distribution if row else "an extension"
    shown = imports(row.module if row else "extension")
    if undefined or missing:
        yield Finding(
            title=f"{name}'s operators are not there, because its compiled part did not load",
            subject=f"package:{name}" if row else "",
            confidence=Confidence.POSSIBLE,
            evidence=(said.evidence(),),
            remedies=tuple(_of_this_torch(name, None, torch_version(build, packages), None, around, platform))
            if row
            else (),
            shows=(shown,),
        )
        return
    yield Finding(
        title=f"{name}'s compiled part did not load: it has no operator {said.operator}",
        subject=f"package:{name}" if row else "",
        confidence=Confidence.LIKELY,
        detail="Its Python part is there and its library was not loaded, most often because it was built against another torch.",
        evidence=(said.evidence(), *version_evidence(build, packages)),
        remedies=tuple(
            _of_this_torch(
                name if row else "PACKAGE", None, torch_version(build, packages), None, around, platform
            )
        ),
        breaks=(shown,),
        shows=(shown,),
        asks=(
            Ask(
                f"python -c 'import torch, {row.module if row else 'PACKAGE'}.{said.namespace}'",
                "why the library does not load",
            ),
        ),
    )
