"""CUDA_VISIBLE_DEVICES: what it hides, and what it names that is not there."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Outcome,
    Remedy,
    SetVariable,
    Severity,
    UnsetVariable,
    Variables,
)
from envdoctor_checks.driver.facts import CudaInit, MultiGpuLaunch
from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.facts import (
    GpuDevices,
    MigInstances,
)
from envdoctor_checks.gpu.reasoning import CUDA, KERNEL, VISIBLE, quoted, severity, wanted
from envdoctor_checks.gpu.symptoms import (
    NoGpuVisible,
)
from envdoctor_checks.gpu.visible import Resolved, resolve
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda

NAME = "CUDA_VISIBLE_DEVICES"
SUBJECT = f"variable:{NAME}"
UNSET = UnsetVariable(
    NAME, why="then all GPUs are visible", verify='python -c "import torch; print(torch.cuda.device_count())"'
)
DETAIL = (
    "libcuda reads the variable when it is initialised and counts on from there: the devices that are left are cuda:0, cuda:1 "
    "and so on. nvidia-smi does not look at it and shows all GPUs."
)


def _failed(init: CudaInit | None, cuda: TorchCuda | None) -> tuple[Outcome, ...]:
    """Whether it was seen that CUDA gave no device."""
    seen = (init is not None and (init.code == 100 or init.devices == 0)) or (
        cuda is not None and not cuda.available
    )
    return (CUDA,) if seen else ()


@check.rule
def visible_devices_hides_gpu(
    variables: Variables,
    devices: GpuDevices,
    torch: TorchBuild | None,
    init: CudaInit | None,
    cuda: TorchCuda | None,
) -> Findings:
    """CUDA_VISIBLE_DEVICES hides every GPU (it is empty, or -1), or the one that a program asks for."""
    value = variables.get(NAME)
    if value is None or not devices.devices or not variables.complete:
        return
    if resolve(value, devices).hides_on_purpose:
        seen = _failed(init, cuda)
        yield _hidden(
            variables, value, (devices.shows("GPUs", len(devices.devices)),), seen, severity(wanted(torch))
        )


def _hidden(
    variables: Variables,
    value: str,
    evidence: tuple[Evidence, ...],
    seen: tuple[Outcome, ...],
    level: Severity = Severity.ERROR,
) -> Finding:
    return Finding(
        subject=SUBJECT,
        title=f"{NAME}={value!r} hides every GPU"
        if value.strip()
        else f"{NAME} is set and empty, which hides every GPU",
        severity=level,
        detail=f"{DETAIL} An empty value, like -1, leaves none; to leave all of them, it must not be set at all.",
        evidence=(variables.evidence(NAME), *evidence),
        remedies=(UNSET, SetVariable(NAME, "0", why="or name the GPUs that the program shall see")),
        breaks=(VISIBLE,),
        shows=seen,
    )


@visible_devices_hides_gpu.sign
def _none_available(
    said: tuple[NoGpuVisible, ...], variables: Variables, cuda: TorchCuda | None, devices: GpuDevices | None
) -> Findings:
    """A program finds no GPU, and the text shows the variable."""
    value = variables.get(NAME)
    if value is None or variables.complete or not (said or _failed(None, cuda)):
        return
    if resolve(value, devices).hides_on_purpose:
        yield _hidden(variables, value, quoted(*said[:1]), (CUDA,))


@visible_devices_hides_gpu.sign
def _ordinal_hidden(
    said: NoGpuVisible, variables: Variables, devices: GpuDevices, launches: tuple[MultiGpuLaunch, ...]
) -> Findings:
    """``invalid device ordinal`` while the variable leaves fewer GPUs than the machine has."""
    value = variables.get(NAME)
    if not said.ordinal or value is None:
        return
    left = resolve(value, devices).visible
    if not left or len(left) >= len(devices.devices):
        return
    more = [each for each in launches if each.processes > len(left)]
    yield Finding(
        subject=SUBJECT,
        title=f"{NAME}={value} leaves {len(left)} of {len(devices.devices)} GPUs, and the program asks for another",
        confidence=Confidence.CERTAIN if more else Confidence.LIKELY,
        detail=DETAIL,
        evidence=(variables.evidence(NAME), *quoted(said, *more[:1])),
        remedies=(
            UNSET,
            SetVariable(
                NAME,
                ",".join(str(each.index) for each in devices.devices),
                why="or name all that the job needs",
            ),
        ),
        breaks=(VISIBLE,),
        shows=(KERNEL,),
    )


@check.rule
def visible_devices_invalid(
    variables: Variables,
    devices: GpuDevices,
    instances: MigInstances | None,
    torch: TorchBuild | None,
    init: CudaInit | None,
    cuda: TorchCuda | None,
) -> Findings:
    """CUDA_VISIBLE_DEVICES names an index or a UUID that does not exist."""
    value = variables.get(NAME)
    if value is None or not devices.devices or not variables.complete:
        return
    found = resolve(value, devices, instances)
    if not found.why or found.hides_on_purpose:
        return
    level = severity(wanted(torch))
    if found.visible and level is Severity.ERROR:
        level = Severity.WARNING  # fewer devices than were meant
    yield _invalid(variables, value, found, devices, level, _failed(init, cuda))


WHY = {
    "no-such-index": "there is no such GPU",
    "no-such-uuid": "no GPU or MIG instance has this UUID",
    "ambiguous": "several GPUs have UUIDs that begin so",
    "twice": "a device that is named twice leaves none",
    "negative": "a negative number ends the list",
    "empty": "an empty entry ends the list",
}


def _invalid(
    variables: Variables,
    value: str,
    found: Resolved,
    devices: GpuDevices | None,
    level: Severity,
    seen: tuple[Outcome, ...],
    more: tuple[Evidence, ...] = (),
    confidence: Confidence = Confidence.CERTAIN,
) -> Finding:
    left = (
        f"only {len(found.visible)} of {len(found.entries)} devices are left"
        if found.visible
        else "no GPU is left"
    )
    count = len(devices.devices) if devices else 0
    known = f" The GPUs here are {_range(devices)}." if devices else ""
    fixes: tuple[Remedy, ...] = (UNSET,)
    if count:
        fixes = (
            SetVariable(NAME, str(devices.devices[0].index if devices else 0), why="a GPU that exists"),
            UNSET,
        )
    return Finding(
        subject=SUBJECT,
        title=f"{NAME}={value}: {WHY.get(found.why, 'the entry names nothing')} ({found.stopped_at}), so {left}",
        severity=level,
        confidence=confidence,
        detail=f"{DETAIL} The first entry that names nothing ends the list.{known} In a container or a job the GPUs are counted "
        "anew from 0, whatever their number on the host.",
        evidence=(variables.evidence(NAME), *((devices.shows("GPUs", count),) if devices else ()), *more),
        remedies=fixes,
        breaks=() if found.visible else (VISIBLE,),
        shows=seen,
        asks=() if devices else (Ask("nvidia-smi -L", "which indices and UUIDs there are"),),
    )


def _range(devices: GpuDevices) -> str:
    indices = [device.index for device in devices.devices]
    return str(indices[0]) if len(indices) == 1 else f"{indices[0]} to {indices[-1]}"


@visible_devices_invalid.sign
def _said_none(
    said: tuple[NoGpuVisible, ...],
    variables: Variables,
    devices: GpuDevices | None,
    instances: MigInstances | None,
    cuda: TorchCuda | None,
) -> Findings:
    """A program finds no GPU, or not the one it asks for, and the text shows the variable."""
    value = variables.get(NAME)
    if value is None or variables.complete or not (said or _failed(None, cuda)):
        return
    found = resolve(value, devices, instances)
    if found.hides_on_purpose or (not found.why and devices is not None):
        return
    if not found.why:
        if value.strip() == "0" or not said or said[0].ordinal:
            return
        found = Resolved(found.entries, (), found.entries[0], "no-such-index")
        yield _invalid(
            variables,
            value,
            found,
            None,
            Severity.ERROR,
            (CUDA,),
            quoted(*said[:1]),
            confidence=Confidence.POSSIBLE,
        )
        return
    yield _invalid(variables, value, found, devices, Severity.ERROR, (CUDA,), quoted(*said[:1]))
