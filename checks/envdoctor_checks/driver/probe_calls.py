"""What the driver answers when it is called: NVML in one child, libcuda through the loader in another.

Device files are read before, since NVIDIA's libraries may load modules and make nodes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from envdoctor.api import CouldNotLook, Fact, Host, Source, Target, TargetPaths, Tier, Unavailable
from envdoctor.probing.child import ChildEnd, ChildResult, python_request
from envdoctor.target import failure, without_own_stage
from envdoctor_checks.driver import cuda_child, nvml_child
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    CudaInit,
    DeviceNodes,
    DriverCuda,
    DriverRelease,
    NvmlAnswers,
    NvmlInit,
)
from envdoctor_checks.driver.symptoms import CallCrashed, CallHung
from envdoctor_checks.gpu.facts import GpuDevice, GpuDevices

DEADLINE = 10.0
"""Seconds for a call on a machine with one GPU."""
MORE = 2.0
"""Seconds more for each further GPU: without persistence mode, the first call wakes every one of them in turn."""
LONGEST = 24.0


@check.probe(tier=Tier.DEFAULT, deadline=LONGEST + 4)
def nvml(
    host: Host, nodes: DeviceNodes | Unavailable | None
) -> Iterator[NvmlInit | DriverRelease | GpuDevices | NvmlAnswers | CallHung | CallCrashed | Unavailable]:
    """Ask NVML for the driver's release and the devices."""
    request = python_request(
        sys.executable,
        nvml_child.SCRIPT,
        deadline=_deadline(nodes),
        env=dict(host.environ),
        args=(nvml_child.questions_text(),),
        temporary_directory=True,
    )
    return _nvml_facts(host.run_child(request))


def _deadline(nodes: DeviceNodes | Unavailable | None) -> float:
    gpus = len(nodes.gpus) if isinstance(nodes, DeviceNodes) else 1
    return min(DEADLINE + MORE * max(gpus - 1, 0), LONGEST)


def _nvml_facts(result: ChildResult) -> Iterator[Any]:
    failed = _failed_call(result)
    if failed is not None:
        yield failed
    stages = {stage["stage"]: stage for stage in result.stages if stage["stage"] not in ("calling", "device")}
    if "no-pynvml" in stages:
        raise CouldNotLook(
            f"pynvml cannot be imported: {stages['no-pynvml']['error']}",
            "install nvidia-ml-py beside envdoctor",
        )
    init = stages.get("init")
    if init is None:
        why = failed.quote if failed else f"the child that asks NVML {failure(result)}"
        yield from _missing(why, NvmlInit, DriverRelease, GpuDevices, NvmlAnswers)
        return
    yield NvmlInit(code=init["code"], name=init["name"], source=Source("call", "nvmlInit"))
    if init["code"] != 0:
        yield from _missing(f"nvmlInit answered {init['name']}", DriverRelease, GpuDevices, NvmlAnswers)
        return
    yield from _system_facts(stages, result)


def _system_facts(stages: dict[str, dict[str, Any]], result: ChildResult) -> Iterator[Fact | Unavailable]:
    """What came after a successful nvmlInit; a lost GPU is left to the gpu check's own facts."""
    release = stages.get("system", {}).get("release")
    if isinstance(release, str) and release[:1].isdigit() and release.isprintable():
        yield DriverRelease(release=release, source=Source("call", "nvmlSystemGetDriverVersion"))
    else:
        yield from _missing("NVML does not tell the driver's release", DriverRelease)
    if "all-devices" not in stages:
        yield from _missing("NVML did not get through all devices", GpuDevices, NvmlAnswers)
        return
    answers = tuple(without_own_stage(stage) for stage in result.stages if stage["stage"] == "device")
    source = Source("call", "nvmlDeviceGetHandleByIndex")
    yield NvmlAnswers(devices=answers, source=source)
    yield GpuDevices(devices=tuple(_device(each) for each in answers if "error" not in each), source=source)


def _device(answers: dict[str, Any]) -> GpuDevice:
    memory, pci = answers.get("memory"), answers.get("pci_address")
    return GpuDevice(
        index=answers["index"],
        name=answers.get("name") or "unknown",
        uuid=answers.get("uuid"),
        compute_capability=_capability(answers.get("compute_capability")),
        memory_total=memory["total"] >> 20 if memory and memory["total"] < 1 << 50 else None,
        pci_address=pci_address(pci["busId"]) if pci else None,
    )


def _capability(told: object) -> str | None:
    """``[9, 0]`` as ``9.0``; None where it is none: a driver in a bad state may answer with anything."""
    match told:
        case [int(major), int(minor)] if 0 < major < 100 and 0 <= minor < 10:
            return f"{major}.{minor}"
    return None


def pci_address(bus_id: str) -> str:
    """NVML's ``00000000:1B:00.0`` as the kernel writes it: ``0000:1b:00.0``."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{domain[-4:]}:{rest}"


@check.probe(tier=Tier.DEFAULT, deadline=LONGEST + 4)
def cuda_init(
    host: Host, nodes: DeviceNodes | Unavailable | None, target: Target, paths: TargetPaths | None
) -> Iterator[CudaInit | DriverCuda | CallHung | CallCrashed | Unavailable]:
    """Load libcuda as a program would and initialise it, in the target interpreter where that works."""
    request = python_request(
        target.python if paths is not None else sys.executable,
        cuda_child.SCRIPT,
        deadline=_deadline(nodes),
        env=dict(host.environ),
        temporary_directory=True,
    )
    return _cuda_facts(host.run_child(request))


def _cuda_facts(result: ChildResult) -> Iterator[Any]:
    failed = _failed_call(result)
    if failed is not None:
        yield failed
    stages = {stage["stage"]: stage for stage in result.stages if stage["stage"] != "calling"}
    yield from _driver_cuda(stages)
    if "not-loaded" in stages:
        error = stages["not-loaded"]["error"]
        source = Source("call", "dlopen libcuda.so.1")
        yield CudaInit(code=-1, name="not loaded", load_error=error, source=source)
    elif "init" in stages:
        init, loaded = stages["init"], stages.get("loaded", {})
        yield CudaInit(
            code=init["code"],
            name=init["name"],
            library=loaded.get("library"),
            devices=init.get("devices"),
            source=Source("call", "cuInit"),
        )
    else:
        yield from _missing(
            failed.quote if failed else f"the child that calls cuInit {failure(result)}", CudaInit
        )


def _driver_cuda(stages: dict[str, dict[str, Any]]) -> Iterator[DriverCuda | Unavailable]:
    number = stages.get("version", {}).get("value", 0)
    if 1000 <= number < 100_000:
        yield DriverCuda(driver_cuda=dotted(number), source=Source("call", "cuDriverGetVersion"))
    elif "not-loaded" not in stages:  # where there is no libcuda, there is no version that could be missed
        yield from _missing("libcuda does not tell its CUDA version", DriverCuda)


def _failed_call(result: ChildResult) -> CallHung | CallCrashed | None:
    """The call that hung or killed the child, by the last one that it announced."""
    calls = [stage["call"] for stage in result.stages if stage["stage"] == "calling"]
    if not calls or result.done:
        return None
    call, source = calls[-1], Source("child", calls[-1])
    if result.end is ChildEnd.TIMED_OUT:
        stuck = result.stuck
        return CallHung(
            call=call,
            seconds=round(result.seconds),
            state=stuck.state if stuck else None,
            wchan=(stuck.wchan or None) if stuck else None,
            quote=f"{call} did not return within {result.seconds:.0f} s",
            source=source,
        )
    if result.end is ChildEnd.KILLED and result.signal:
        quote = f"{call} ended in {result.signal}"
        return CallCrashed(call=call, signal=result.signal, quote=quote, source=source)
    return None


def _missing(reason: str, *kinds: type[Fact]) -> Iterator[Unavailable]:
    return (Unavailable(kind.fact_name, reason) for kind in kinds)


def dotted(number: int) -> str:
    """``12040`` -> ``12.4``, as cuDriverGetVersion encodes a CUDA version."""
    return f"{number // 1000}.{number % 1000 // 10}"
