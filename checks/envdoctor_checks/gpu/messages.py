"""What CUDA, PyTorch, servers and tools print about GPUs that they cannot have, or that fail."""

from __future__ import annotations

import re
from typing import Literal

from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.symptoms import (
    DeviceAssertFailed,
    DeviceBusy,
    EccFailed,
    FreeMemoryTooLow,
    HeldByOther,
    KernelFaulted,
    MpsFailed,
    NoGpuVisible,
    NvlinkFailed,
    OffsetsSet,
    Throttled,
)

UNITS = {"k": 2.0**-10, "m": 1.0, "g": 2.0**10, "t": 2.0**20}


def mebibytes(number: str, unit: str) -> float:
    """``3.2``, ``GiB`` -> 3276.8."""
    return float(number) * UNITS[unit[0].lower()]


@check.message(
    r"uncorrectable ECC error encountered|cudaErrorECCUncorrectable|CUDA_ERROR_ECC_UNCORRECTABLE",
    needles=("uncorrectable ecc error", "eccuncorrectable", "error_ecc_uncorrectable"),
    sample="RuntimeError: CUDA error: uncorrectable ECC error encountered",
)
def ecc_failed(_match: re.Match[str]) -> EccFailed:
    """CUDA error 214."""
    return EccFailed()


@check.message(
    r"uncorrectable NVLink error detected|cudaErrorNvlinkUncorrectable|CUDA_ERROR_NVLINK_UNCORRECTABLE",
    needles=("uncorrectable nvlink error", "nvlinkuncorrectable", "error_nvlink_uncorrectable"),
    sample="CUDA error: uncorrectable NVLink error detected during the execution",
)
def nvlink_failed(_match: re.Match[str]) -> NvlinkFailed:
    """CUDA error 220."""
    return NvlinkFailed()


FAULTS: dict[
    str,
    Literal[
        "illegal-access",
        "illegal-instruction",
        "launch-failure",
        "misaligned",
        "hardware-stack",
        "invalid-pc",
    ],
] = {
    "an illegal memory access was encountered": "illegal-access",
    "cudaerrorillegaladdress": "illegal-access",
    "cuda_error_illegal_address": "illegal-access",
    "an illegal instruction was encountered": "illegal-instruction",
    "cudaerrorillegalinstruction": "illegal-instruction",
    "cuda_error_illegal_instruction": "illegal-instruction",
    "unspecified launch failure": "launch-failure",
    "cudaerrorlaunchfailure": "launch-failure",
    "cuda_error_launch_failed": "launch-failure",
    "misaligned address": "misaligned",
    "hardware stack error": "hardware-stack",
    "invalid program counter": "invalid-pc",
}


@check.message(
    "(?i)" + "|".join(map(re.escape, FAULTS)),
    needles=tuple(FAULTS),
    sample="torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
)
def kernel_faulted(match: re.Match[str]) -> KernelFaulted:
    """CUDA errors 700 and 714 to 719, by text or name."""
    return KernelFaulted(how=FAULTS[match[0].lower()])


@check.message(
    r"all CUDA-capable devices are busy or unavailable|CUDA-capable device\(s\) is/are busy or unavailable"
    r"|cudaErrorDevicesUnavailable|CUDA_ERROR_DEVICE_UNAVAILABLE"
    r"|(?P<exclusive>exclusive \(thread\) device already in use by a different thread|cudaErrorDeviceAlreadyInUse"
    r"|(?:compute mode|device)[^\n]{0,40}\b(?:Exclusive[_ ]Process|Prohibited)\b[^\n]{0,40}(?:in use|not allowed|busy|refus))",
    needles=("busy or unavailable", "devicesunavailable", "device_unavailable", "already in use", "alreadyinuse", "prohibited", "exclusive"),
    sample="RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
)  # fmt: skip
def device_busy(match: re.Match[str]) -> DeviceBusy:
    """CUDA errors 46 and 54."""
    return DeviceBusy(exclusive=match["exclusive"] is not None)


@check.message(
    r"device >= 0 && device < num_gpus(?: INTERNAL ASSERT FAILED)?",
    needles="device < num_gpus",
    sample='RuntimeError: device >= 0 && device < num_gpus INTERNAL ASSERT FAILED at "CUDAContext.cpp":52, please report a bug',
)
def device_assert_failed(_match: re.Match[str]) -> DeviceAssertFailed:
    """torch counts devices by NVML and is given fewer by CUDA."""
    return DeviceAssertFailed()


@check.message(
    r"No CUDA GPUs are available|no CUDA-capable device is detected|cudaErrorNoDevice\b|CUDA_ERROR_NO_DEVICE\b"
    r"|(?P<ordinal>invalid device ordinal|cudaErrorInvalidDevice\b|CUDA_ERROR_INVALID_DEVICE\b)",
    needles=("no cuda gpus are available", "no cuda-capable device", "errornodevice", "error_no_device", "invalid device ordinal", "errorinvaliddevice", "error_invalid_device"),
    sample="RuntimeError: No CUDA GPUs are available",
)  # fmt: skip
def none_visible(match: re.Match[str]) -> NoGpuVisible:
    """torch's words, and CUDA errors 100 and 101."""
    return NoGpuVisible(ordinal=match["ordinal"] is not None)


MPS_WORDS = {
    "mps client failed to connect to the mps control daemon or the mps server": 805,
    "mps_connection_failed": 805,
    "mpsconnectionfailed": 805,
    "the remote procedural call between the mps server and the mps client failed": 806,
    "mps_rpc_failure": 806,
    "mpsrpcfailure": 806,
    "mps server is not ready to accept new mps client requests": 807,
    "mps_server_not_ready": 807,
    "mpsservernotready": 807,
    "the hardware resources required to create mps client have been exhausted": 808,
    "mps_max_clients_reached": 808,
    "mpsmaxclientsreached": 808,
    "the hardware resources required to support device connections have been exhausted": 809,
    "mps_max_connections_reached": 809,
    "mpsmaxconnectionsreached": 809,
    "the mps client has been terminated by the server": 810,
    "mps_client_terminated": 810,
    "mpsclientterminated": 810,
}
"""cudaGetErrorString's texts, and the ends of the names, in lower case."""


@check.message(
    r"(?i)(?:CUDA_ERROR_|cudaError)?(?:" + "|".join(map(re.escape, MPS_WORDS)) + ")",
    needles=tuple(MPS_WORDS),
    sample="Error 805: MPS client failed to connect to the MPS control daemon or the MPS server",
)
def mps_failed(match: re.Match[str]) -> MpsFailed:
    """CUDA errors 805 to 810."""
    words = match[0].lower().removeprefix("cuda_error_").removeprefix("cudaerror")
    return MpsFailed(code=MPS_WORDS[words])


@check.message(
    r"Process (?P<pid>\d+) has (?P<size>[\d.]+) (?P<unit>[KMGT]i?B) memory in use",
    needles="memory in use",
    sample="Process 31337 has 19.50 GiB memory in use. Including non-PyTorch memory, this process has 3.10 GiB memory in use.",
)
def held_by_other(match: re.Match[str]) -> HeldByOther:
    """torch, in its message of memory that ran out."""
    return HeldByOther(pid=int(match["pid"]), memory=mebibytes(match["size"], match["unit"]))


@check.message(
    r"Free memory on device(?: \S+)? \((?P<free>[\d.]+)/(?P<total>[\d.]+) (?P<unit>GiB|MiB)\) on startup is less than desired"
    r" GPU memory utilization \([\d.]+, (?P<wanted>[\d.]+) (?:GiB|MiB)\)",
    needles="free memory on device",
    sample="ValueError: Free memory on device (3.21/79.10 GiB) on startup is less than desired GPU memory utilization (0.9, 71.19 GiB).",
)
def free_memory_too_low(match: re.Match[str]) -> FreeMemoryTooLow:
    """vLLM, before it takes its share of the GPU."""
    unit = match["unit"]
    return FreeMemoryTooLow(
        free=mebibytes(match["free"], unit),
        total=mebibytes(match["total"], unit),
        wanted=mebibytes(match["wanted"], unit),
    )


REASONS: dict[str, Literal["hw-slowdown", "sw-thermal", "hw-thermal", "power-brake"]] = {
    "hw_slowdown": "hw-slowdown",
    "sw_thermal_slowdown": "sw-thermal",
    "hw_thermal_slowdown": "hw-thermal",
    "hw_power_brake": "power-brake",
    "hw_power_brake_slowdown": "power-brake",
}


@check.message(
    r"(?:GPU (?P<gpu>\d+)[^\n]*)?clocks_(?:throttle|event)_reason_(?P<reason>hw_slowdown|[sh]w_thermal_slowdown|hw_power_brake(?:_slowdown)?)\b",
    needles=("clocks_throttle_reason_", "clocks_event_reason_"),
    sample="Clocks are being optimized for GPU 2 because of clocks_throttle_reason_hw_thermal_slowdown: the GPU is too hot.",
)
def throttled(match: re.Match[str]) -> Throttled:
    """DCGM's diagnostics."""
    return Throttled(reason=REASONS[match["reason"]], gpu=match["gpu"])


@check.message(
    r"GPU(?P<which>GraphicsClock|MemoryTransferRate|GraphicsMemoryOffset)Offset\w*(?:\[\d\])?[\"']?\s*[=:]\s*[\"']?(?P<value>[+-]?[1-9]\d*)"
    r"|nvmlDeviceSet(?P<nvml>Gpc|Mem)ClkVfOffset|\b(?P<tool>GreenWithEnvy|gwe\b|MSI Afterburner|Afterburner|EVGA Precision|nvidia_oc|nvoc)\b"
    r"|(?i:(?P<words>(?:core|gpu|mem(?:ory)?) (?:clock )?offset[:= ]+[+-]?[1-9]\d*(?: ?MHz)?|overclock(?:ed|ing)?\b|undervolt(?:ed|ing)?\b))",
    needles=("clockoffset", "transferrateoffset", "clkvfoffset", "greenwithenvy", "gwe", "afterburner", "evga precision", "nvidia_oc", "nvoc", "offset", "overclock", "undervolt"),
    sample='nvidia-settings -a "[gpu:0]/GPUGraphicsClockOffsetAllPerformanceLevels=180"',
)  # fmt: skip
def offsets_set(match: re.Match[str]) -> OffsetsSet:
    """nvidia-settings, NVML, the well-known tools, and people's own words beside a failure."""
    if match["which"]:
        kind = "core" if match["which"] == "GraphicsClock" else "memory"
        return OffsetsSet(what=f"{kind} {int(match['value']):+d}")
    if match["nvml"]:
        return OffsetsSet(what="core offset" if match["nvml"] == "Gpc" else "memory offset")
    return OffsetsSet(what=match["tool"] or match["words"])
