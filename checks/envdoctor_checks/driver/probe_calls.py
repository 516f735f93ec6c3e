"""What the driver answers when it is called: NVML in one child, libcuda through the loader in another.

Device files are read before, since NVIDIA's libraries may load modules and make nodes.
"""

from __future__ import annotations

import sys
from typing import Any

from envdoctor.api import CouldNotLook, Host, Source, Symptom, Target, TargetPaths, Tier, Unavailable
from envdoctor.probing.child import ChildEnd, ChildRequest, ChildResult, python_request
from envdoctor.target import failure
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    CallCrashed,
    CallHung,
    CudaInit,
    DeviceNodes,
    DriverCuda,
    DriverRelease,
    NvmlInit,
)
from envdoctor_checks.driver.nvml_script import CUDA_SCRIPT, SCRIPT
from envdoctor_checks.gpu.facts import GpuDevice, GpuDevices

DEADLINE = 10.0
"""Seconds. Without persistence mode a healthy driver takes one to three per GPU for the first call."""


@check.probe(tier=Tier.DEFAULT, deadline=DEADLINE + 4)
def nvml(
    host: Host, nodes: DeviceNodes | Unavailable | None
) -> tuple[NvmlInit, DriverRelease, DriverCuda, GpuDevices, Symptom]:
    """Ask NVML for the driver's release, its CUDA and the devices."""
    del nodes  # asked for only so that the device files are read first
    request = python_request(sys.executable, SCRIPT, deadline=DEADLINE, env=dict(host.environ), temporary_directory=True)
    result = host.run_child(request)
    return tuple(_nvml_facts(result))  # type: ignore[return-value] # an iterable of those; absent ones were not told


def _nvml_facts(result: ChildResult) -> list[Any]:
    given: list[Any] = list(_failed_call(result, "NVML"))
    stages = {stage["stage"]: stage for stage in result.stages if stage["stage"] not in ("calling", "device")}
    if "no-pynvml" in stages:
        raise CouldNotLook(f"pynvml cannot be imported: {stages['no-pynvml']['error']}", "install nvidia-ml-py beside envdoctor")
    init = stages.get("init")
    if init is None:
        why = "no answer from NVML" if given else failure(result)
        return [*given, *_missing(f"NVML: {why}", NvmlInit, DriverRelease, DriverCuda, GpuDevices)]
    source = Source("call", "nvmlInit_v2")
    given.append(NvmlInit(code=init["code"], name=init["name"], source=source))
    if init["code"] != 0:
        return [*given, *_missing(f"nvmlInit answered {init['name']}", DriverRelease, GpuDevices)]
    system = stages.get("system", {})
    if isinstance(system.get("release"), str) and system["release"].isprintable():
        given.append(DriverRelease(release=system["release"], source=Source("call", "nvmlSystemGetDriverVersion")))
    if isinstance(system.get("cuda"), int) and 1000 <= system["cuda"] < 100_000:
        given.append(
            DriverCuda(driver_cuda=dotted(system["cuda"]), source=Source("call", "nvmlSystemGetCudaDriverVersion_v2"))
        )
    if "all-devices" in stages:
        given.append(_devices(result, source))
    else:
        given += _missing("NVML did not get through all devices", GpuDevices)
    return given


def _devices(result: ChildResult, source: Source) -> GpuDevices:
    """Devices that NVML gave a handle for; a lost one is a matter of the gpu check's own facts."""
    return GpuDevices(
        devices=tuple(
            GpuDevice(
                index=stage["index"],
                name=str(stage.get("name", "unknown")),
                uuid=stage.get("uuid"),
                compute_capability=stage.get("compute_capability"),
                memory_total=stage.get("memory_total"),
                pci_address=stage.get("pci_address"),
            )
            for stage in result.stages
            if stage["stage"] == "device" and "error" not in stage
        ),
        source=Source("call", "nvmlDeviceGetHandleByIndex_v2"),
    )


@check.probe(tier=Tier.DEFAULT, deadline=DEADLINE + 4)
def cuda_init(
    host: Host, nodes: DeviceNodes | Unavailable | None, target: Target, paths: TargetPaths | None
) -> tuple[CudaInit, DriverCuda, Symptom]:
    """Load libcuda as a program would and initialise it, in the target interpreter where that works."""
    del nodes  # as above
    python = target.python if paths is not None else sys.executable
    request: ChildRequest = python_request(
        python, CUDA_SCRIPT, deadline=DEADLINE, env=dict(host.environ), temporary_directory=True
    )
    return tuple(_cuda_facts(host.run_child(request)))  # type: ignore[return-value] # as above


def _cuda_facts(result: ChildResult) -> list[Any]:
    given: list[Any] = list(_failed_call(result, "libcuda"))
    stages = {stage["stage"]: stage for stage in result.stages if stage["stage"] != "calling"}
    loaded, missing = stages.get("loaded"), stages.get("not-loaded")
    if "version" in stages:
        given.append(
            DriverCuda(driver_cuda=dotted(stages["version"]["value"]), source=Source("call", "cuDriverGetVersion"))
        )
    if missing is not None:
        source = Source("call", "dlopen libcuda.so.1")
        given.append(CudaInit(code=-1, name="not loaded", load_error=missing["error"], source=source))
    elif "init" in stages:
        init = stages["init"]
        given.append(
            CudaInit(
                code=init["code"],
                name=init["name"],
                library=loaded["library"] if loaded else None,
                devices=init.get("devices"),
                source=Source("call", "cuInit"),
            )
        )
    else:
        why = "no answer from libcuda" if given else failure(result)
        given += _missing(why, CudaInit)
    return given


def _failed_call(result: ChildResult, library: str) -> list[Symptom]:
    """The call that hung or killed the child, by the last one that it announced."""
    calls = [stage["call"] for stage in result.stages if stage["stage"] == "calling"]
    call = calls[-1] if calls else f"loading {library}"
    source = Source("child", call)
    if result.end is ChildEnd.TIMED_OUT and calls:
        stuck = result.stuck
        return [
            CallHung(
                call=call,
                seconds=int(result.seconds),
                state=stuck.state if stuck else None,
                wchan=stuck.wchan if stuck else None,
                quote=f"{call} did not return within {result.seconds:.0f} s",
                source=source,
            )
        ]
    if result.end is ChildEnd.KILLED and result.signal and calls:
        return [CallCrashed(call=call, signal=result.signal, quote=f"{call} ended in {result.signal}", source=source)]
    return []


def _missing(reason: str, *kinds: type[Any]) -> list[Unavailable]:
    return [Unavailable(kind.fact_name, reason) for kind in kinds]


def dotted(number: int) -> str:
    """``12040`` -> ``12.4``, as cuDriverGetVersion encodes a CUDA version."""
    return f"{number // 1000}.{number % 1000 // 10}"
