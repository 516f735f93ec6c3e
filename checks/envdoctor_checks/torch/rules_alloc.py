"""The caching allocator's settings: unknown, ignored, unsupported."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from envdoctor.api import (
    Change,
    Confidence,
    Finding,
    Findings,
    Outcome,
    Platform,
    Reach,
    Remedy,
    SetVariable,
    Severity,
    UnsetVariable,
    Variables,
)
from envdoctor.tables import compare_releases
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import TorchBuild, TorchDevices
from envdoctor_checks.torch.known import torch_version, version_evidence
from envdoctor_checks.torch.symptoms import (
    AllocOptionUnknown,
    AllocSettingInactive,
    AllocUnsupported,
    MallocAsyncInUse,
    NotSupported,
    OutOfMemory,
)
from envdoctor_checks.torch.tables import AllocConf, AllocOption

MEMORY = Outcome("memory")
CUDA = Outcome("cuda-available")
NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
UNIFIED_SINCE = "2.9"
"""The first release that looks at PYTORCH_ALLOC_CONF at all."""
UNIFIED_FOR_CUDA = "2.10"
"""The first release in which it reaches the CUDA allocator's expandable segments."""


class Setting(msgspec.Struct, frozen=True):
    """One option of an allocator variable."""

    variable: str
    option: str
    value: str


def settings(variable: str, text: str) -> Iterator[Setting]:
    """``max_split_size_mb:128,expandable_segments:True``; a value in brackets may hold commas."""
    for part in re.split(r",(?![^\[]*\])", text.replace(" ", "")):
        option, colon, value = part.partition(":")
        if option or colon:
            yield Setting(variable, option, value)


def settings_of(variables: Variables | None, *names: str) -> tuple[Setting, ...]:
    """The settings in these variables."""
    found: list[Setting] = []
    for name in names or NAMES:
        text = variables.get(name) if variables is not None else None
        found += settings(name, text) if text else []
    return tuple(found)


def read_by(version: str | None, variable: str, *, rocm: bool) -> bool:
    """Whether a torch release reads a variable. One whose release is not known is taken to."""
    if variable == "PYTORCH_HIP_ALLOC_CONF":
        return rocm
    if variable == "PYTORCH_ALLOC_CONF":
        return version is None or compare_releases(version, UNIFIED_FOR_CUDA) >= 0
    return True


def problem_with(setting: Setting, version: str | None, table: AllocConf) -> str | None:
    """What torch would refuse in a setting; None where nothing is known to be wrong."""
    row = table.option(setting.option)
    if row is None:
        newest = max(
            (each for option in table.options for each in option.known_in),
            key=lambda each: tuple(map(int, each.split("."))),
        )
        if version is not None and compare_releases(version, newest) > 0:
            return None
        from difflib import get_close_matches  # here: few have a misspelt option

        near = get_close_matches(setting.option, [option.option for option in table.options], n=1)
        return f"{setting.option!r} is no option" + (f"; did you mean {near[0]!r}?" if near else "")
    if version is not None and _absent(row, version):
        return f"torch {version} does not know {setting.option!r}"
    return _bad_value(row, setting.value)


def _absent(row: AllocOption, version: str) -> bool:
    """Whether a release lies on the side of those that surely lack the option."""
    before = [
        each for each in row.absent_in if all(compare_releases(each, known) < 0 for known in row.known_in)
    ]
    after = [
        each for each in row.absent_in if all(compare_releases(each, known) > 0 for known in row.known_in)
    ]
    return any(compare_releases(version, each) <= 0 for each in before) or any(
        compare_releases(version, each) >= 0 for each in after
    )


def _bad_value(row: AllocOption, value: str) -> str | None:
    if row.kind == "bool" and value not in ("True", "False"):
        return f"{row.option} takes True or False, spelt so, not {value!r}"
    if row.kind == "enum" and value not in row.allowed:
        return f"{row.option} takes one of {', '.join(row.allowed)}, not {value!r}"
    if row.kind == "int" and not value.isdigit():
        return f"{row.option} takes a whole number, not {value!r}"
    if row.kind == "float" and re.fullmatch(r"\d*\.?\d+", value) is None:
        return f"{row.option} takes a number between 0 and 1, not {value!r}"
    if row.option == "max_split_size_mb" and int(value) <= 20:
        return f"max_split_size_mb must be more than 20, not {value}"
    return None


@check.rule
def alloc_conf_unknown_option(
    variables: Variables,
    build: TorchBuild | None,
    packages: Distributions | None,
    gpus: GpuDevices | None,
    table: AllocConf,
) -> Findings:
    """PYTORCH_CUDA_ALLOC_CONF holds an option or value that this torch does not know."""
    version = torch_version(build, packages)
    for setting in settings_of(variables, "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        problem = problem_with(setting, version, table)
        if problem is None or not read_by(version, setting.variable, rocm=False):
            continue
        yield Finding(
            title=f"{setting.variable}: {problem}",
            subject=f"variable:{setting.variable}",
            severity=Severity.ERROR if gpus is not None and gpus.devices else Severity.WARNING,
            detail="torch reads the variable when it first uses the GPU, and raises.",
            evidence=(variables.evidence(setting.variable), *version_evidence(build, packages)),
            remedies=_without(variables, setting),
            breaks=(CUDA,),
        )


def _without(variables: Variables, setting: Setting) -> tuple[Remedy, ...]:
    rest = [each for each in settings_of(variables, setting.variable) if each.option != setting.option]
    if not rest:
        return (UnsetVariable(name=setting.variable),)
    value = ",".join(f"{each.option}:{each.value}" for each in rest)
    return (SetVariable(name=setting.variable, value=value, why=f"without {setting.option}"),)


@alloc_conf_unknown_option.sign
def _refused(
    said: AllocOptionUnknown,
    variables: Variables | None,
    build: TorchBuild | None,
    packages: Distributions | None,
    table: AllocConf,
) -> Findings:
    where = next((each for each in settings_of(variables) if each.option == said.option), None)
    name = where.variable if where else "PYTORCH_CUDA_ALLOC_CONF"
    row = table.option(said.option) if said.option else None
    newer = (
        f" {said.option} came with a later release of torch."
        if row is not None and "Unrecognized" in said.quote
        else ""
    )
    remedies = _without(variables, where) if variables is not None and where else (UnsetVariable(name=name),)
    yield Finding(
        title=f"torch does not understand {said.option or 'a value'} in its allocator's settings",
        subject=f"variable:{name}",
        detail=f"The settings come from {name}, or from the program itself.{newer}",
        evidence=(
            said.evidence(),
            *((variables.evidence(name),) if variables is not None and variables.get(name) else ()),
            *version_evidence(build, packages),
        ),
        remedies=remedies,
        breaks=(CUDA,),
        shows=(CUDA,),
    )


@check.rule
def alloc_conf_ignored(
    variables: Variables,
    build: TorchBuild | None,
    packages: Distributions | None,
    oom: tuple[OutOfMemory, ...],
    inactive: tuple[AllocSettingInactive, ...],
) -> Findings:
    """The allocator setting is under a variable name that this torch does not read."""
    version = torch_version(build, packages)
    rocm = build is not None and build.hip is not None
    known = version is not None or bool(inactive)
    for name in NAMES:
        value = variables.get(name)
        ignored = (
            value
            and known
            and (not read_by(version, name, rocm=rocm) or (inactive and name != "PYTORCH_CUDA_ALLOC_CONF"))
        )
        if not value or not ignored or (name == "PYTORCH_HIP_ALLOC_CONF" and build is None):
            continue
        right = "PYTORCH_CUDA_ALLOC_CONF"
        if variables.get(right):
            continue
        hurt = bool(oom) or bool(inactive)
        yield Finding(
            title=f"torch {version or ''} does not apply {name}".replace("  ", " "),
            subject=f"variable:{name}",
            severity=Severity.ERROR if oom else Severity.WARNING if hurt else Severity.NOTE,
            detail=_why_ignored(name, version),
            evidence=(
                variables.evidence(name),
                *version_evidence(build, packages),
                *(each.evidence("setting") for each in inactive[:1]),
                *(each.evidence() for each in oom[:1]),
            ),
            remedies=(SetVariable(name=right, value=value, why="the name that this release reads"),),
            breaks=(MEMORY,) if oom else (),
            shows=(MEMORY,) if oom else (),
        )


def _why_ignored(name: str, version: str | None) -> str:
    if name == "PYTORCH_HIP_ALLOC_CONF":
        return "Only builds for ROCm read it."
    if version is not None and compare_releases(version, UNIFIED_SINCE) < 0:
        return f"The name without CUDA in it came with torch {UNIFIED_SINCE}; earlier releases do not look at it."
    return "In torch 2.9 this name does not reach the CUDA allocator: its warning asks for it, and the setting stays off. torch 2.10 and newer read it."


@check.rule
def alloc_conf_unsupported(
    said: AllocUnsupported, variables: Variables | None, platform: Platform | None
) -> Findings:
    """The allocator backend or feature that was asked for does not work on this GPU, driver or platform."""
    where = next((each for each in settings_of(variables) if said.feature in (each.option, each.value)), None)
    name = where.variable if where else "PYTORCH_CUDA_ALLOC_CONF"
    only_warns = "not supported on this platform" in said.quote
    yield Finding(
        title=f"{said.feature} does not work here",
        subject=f"variable:{name}",
        severity=Severity.WARNING if only_warns else Severity.ERROR,
        detail="torch goes on without it." if only_warns else "",
        evidence=(said.evidence(), *((variables.evidence(name),) if variables is not None and where else ())),
        remedies=_native(variables, where, name),
        breaks=() if only_warns else (CUDA,),
        shows=() if only_warns else (CUDA,),
    )


def _native(variables: Variables | None, where: Setting | None, name: str) -> tuple[Remedy, ...]:
    if variables is not None and where is not None:
        return _without(variables, where)
    return (UnsetVariable(name=name, why="so that torch's native allocator is used without it"),)


@alloc_conf_unsupported.sign
def _operation_not_supported(
    said: NotSupported,
    in_use: tuple[MallocAsyncInUse, ...],
    variables: Variables | None,
    devices: TorchDevices | None,
) -> Findings:
    settings = settings_of(variables)
    chosen = next((each for each in settings if each.value == "cudaMallocAsync"), None)
    expandable = next(
        (each for each in settings if (each.option, each.value) == ("expandable_segments", "True")), None
    )
    if in_use or chosen:
        yield _no_pools(said, in_use, variables, chosen, devices)
    elif expandable or said.driver_api:
        yield _no_virtual_memory(said, variables, expandable)


def _no_pools(
    said: NotSupported,
    in_use: tuple[MallocAsyncInUse, ...],
    variables: Variables | None,
    chosen: Setting | None,
    devices: TorchDevices | None,
) -> Finding:
    named = next((each.gpu for each in in_use if each.gpu), None)
    gpu = named or (devices.devices[0].name if devices and devices.devices else "this GPU")
    switch = Change(
        title="start the program without cudaMallocAsync",
        reach=Reach.SHELL,
        example=("python main.py --disable-cuda-malloc",),
        needs_restart="process",
    )
    return Finding(
        title=f"the cudaMallocAsync allocator does not work on {gpu}",
        confidence=Confidence.CERTAIN if chosen or named else Confidence.LIKELY,
        detail="It needs memory pools, which this GPU or its driver model does not offer: many GPUs before Pascal, vGPUs and some Windows set-ups.",
        evidence=(
            said.evidence(),
            *(each.evidence("backend") for each in in_use[:1]),
            *((variables.evidence(chosen.variable),) if variables and chosen else ()),
        ),
        remedies=(
            *((switch,) if in_use else ()),
            SetVariable(name="PYTORCH_CUDA_ALLOC_CONF", value="backend:native"),
        ),
        breaks=(CUDA,),
        shows=(CUDA,),
    )


def _no_virtual_memory(
    said: NotSupported, variables: Variables | None, expandable: Setting | None
) -> Finding:
    return Finding(
        title="expandable segments need the driver's virtual memory, which this GPU or driver does not offer",
        subject=f"variable:{expandable.variable}" if expandable else "",
        confidence=Confidence.CERTAIN if expandable and said.driver_api else Confidence.LIKELY,
        detail="A vGPU without unified memory, some Jetson and WSL2 set-ups refuse cuMemCreate and its kin. Libraries such as unsloth switch expandable segments on by themselves.",
        evidence=(
            said.evidence(),
            *((variables.evidence(expandable.variable),) if variables and expandable else ()),
        ),
        remedies=_native(variables, expandable, "PYTORCH_CUDA_ALLOC_CONF")
        if expandable
        else (SetVariable(name="PYTORCH_CUDA_ALLOC_CONF", value="expandable_segments:False"),),
        breaks=(CUDA,),
        shows=(CUDA,),
    )
