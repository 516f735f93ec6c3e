"""The child that asks NVML, and what it asks: pynvml is imported nowhere else.

A question is data: the answer's key, the function of pynvml, its arguments after the device (numbers, or names of
pynvml's constants), and, where the answer is a structure, the fields of it to tell. Every call is announced before it
is made, so that one which hangs or crashes is known by name. An answer that this driver or GPU does not have is told
as its error's name.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

Question: TypeAlias = tuple[str, str, tuple[str | int, ...], tuple[str, ...]]
"""(key, function without ``nvmlDevice``, arguments, fields)."""

IDENTITY: tuple[Question, ...] = (
    ("name", "GetName", (), ()),
    ("uuid", "GetUUID", (), ()),
    ("pci_address", "GetPciInfo", (), ("busId",)),
    ("compute_capability", "GetCudaComputeCapability", (), ()),
    ("memory", "GetMemoryInfo", (), ("total", "used")),
    ("compute_mode", "GetComputeMode", (), ()),
    ("persistence_mode", "GetPersistenceMode", (), ()),
    ("mig_mode", "GetMigMode", (), ()),
)

HEALTH: tuple[Question, ...] = (
    ("ecc_mode", "GetEccMode", (), ()),
    ("ecc_volatile", "GetTotalEccErrors", ("NVML_MEMORY_ERROR_TYPE_UNCORRECTED", "NVML_VOLATILE_ECC"), ()),
    ("ecc_aggregate", "GetTotalEccErrors", ("NVML_MEMORY_ERROR_TYPE_UNCORRECTED", "NVML_AGGREGATE_ECC"), ()),
    ("retired_pages", "GetRetiredPages", ("NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR",), ()),
    ("retired_pending", "GetRetiredPagesPendingStatus", (), ()),
    ("remapped_rows", "GetRemappedRows", (), ()),
    ("temperature", "GetTemperature", ("NVML_TEMPERATURE_GPU",), ()),
    ("slowdown_at", "GetTemperatureThreshold", ("NVML_TEMPERATURE_THRESHOLD_SLOWDOWN",), ()),
    ("clock_reasons", "GetCurrentClocksThrottleReasons", (), ()),
    ("sm_clock", "GetClockInfo", ("NVML_CLOCK_SM",), ()),
    ("sm_clock_max", "GetMaxClockInfo", ("NVML_CLOCK_SM",), ()),
    ("power", "GetPowerUsage", (), ()),
    ("power_limit", "GetEnforcedPowerLimit", (), ()),
    ("power_default", "GetPowerManagementDefaultLimit", (), ()),
    ("utilization", "GetUtilizationRates", (), ("gpu", "memory")),
    ("pstate", "GetPerformanceState", (), ()),
    ("processes", "GetComputeRunningProcesses", (), ("pid", "usedGpuMemory")),
    ("graphics_processes", "GetGraphicsRunningProcesses", (), ("pid", "usedGpuMemory")),
    ("core_offset", "GetGpcClkVfOffset", (), ()),
    ("memory_offset", "GetMemClkVfOffset", (), ()),
    ("recovery_action", "GetFieldValues", (("NVML_FI_DEV_GET_GPU_RECOVERY_ACTION"),), ()),
)

LINKS: tuple[Question, ...] = (
    ("pcie_generation", "GetCurrPcieLinkGeneration", (), ()),
    ("pcie_generation_max", "GetMaxPcieLinkGeneration", (), ()),
    ("pcie_width", "GetCurrPcieLinkWidth", (), ()),
    ("pcie_width_max", "GetMaxPcieLinkWidth", (), ()),
    ("pcie_replays", "GetPcieReplayCounter", (), ()),
)

QUESTIONS: tuple[Question, ...] = (*IDENTITY, *HEALTH, *LINKS)


def questions_text() -> str:
    """The script's argument: the questions as JSON."""
    return msgspec.json.encode(QUESTIONS).decode()


SCRIPT = r"""
import json
import sys

try:
    import pynvml
except ImportError as error:
    answer("no-pynvml", error=str(error))
    done()
    raise SystemExit

CODES = {getattr(pynvml, name): name for name in dir(pynvml) if name.startswith("NVML_ERROR_")}
REFUSALS = (UnicodeDecodeError, AttributeError, TypeError, ValueError)

def code_of(error):
    value = getattr(error, "value", None)
    return CODES.get(value, "NVML_ERROR_%s" % value)

def call(name, *arguments):
    answer("calling", call=name)
    return getattr(pynvml, name)(*arguments)

def plain(value, fields):
    if isinstance(value, (list, tuple)):
        return [plain(each, fields) for each in value]
    if fields:
        return {field: plain(getattr(value, field), ()) for field in fields}
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return getattr(value, "value", value)

def ask(record, key, name, arguments=(), fields=()):
    try:
        if name == "nvmlDeviceGetFieldValues":
            record[key] = field_value(*arguments)
        else:
            record[key] = plain(call(name, *arguments), fields)
    except pynvml.NVMLError as error:
        record.setdefault("errors", {})[key] = code_of(error)
    except pynvml.NVMLLibraryMismatchError as error:
        record.setdefault("errors", {})[key] = "NVML_ERROR_FUNCTION_NOT_FOUND"
    except REFUSALS as error:
        record.setdefault("errors", {})[key] = "%s: %s" % (type(error).__name__, str(error)[:100])

def field_value(handle, field):
    value = call("nvmlDeviceGetFieldValues", handle, [field])[0]
    if value.nvmlReturn:
        raise pynvml.NVMLError(value.nvmlReturn)
    return value.value.uiVal

def constant(word):
    return getattr(pynvml, word) if isinstance(word, str) else word

def fabric(record, handle):
    try:
        info = pynvml.c_nvmlGpuFabricInfo_v2_t()
        call("nvmlDeviceGetGpuFabricInfoV", handle, pynvml.byref(info))
        record["fabric"] = {"state": info.state, "status": info.status, "health_mask": info.healthMask}
    except pynvml.NVMLError as error:
        record.setdefault("errors", {})["fabric"] = code_of(error)
    except REFUSALS as error:
        record.setdefault("errors", {})["fabric"] = "%s: %s" % (type(error).__name__, str(error)[:100])

def links(record, handle):
    states = []
    for link in range(getattr(pynvml, "NVML_NVLINK_MAX_LINKS", 18)):
        try:
            states.append(plain(call("nvmlDeviceGetNvLinkState", handle, link), ()))
        except pynvml.NVMLError as error:
            if not states:
                record.setdefault("errors", {})["nvlinks"] = code_of(error)
            break
    if states:
        record["nvlinks"] = states

def instances(record, handle):
    # on a GPU that is not in MIG mode there is nothing to ask
    if (record.get("mig_mode") or [0])[0] != 1:
        return
    record["mig_instances"] = found = []
    ask(record, "mig_max", "nvmlDeviceGetMaxMigDeviceCount", (handle,))
    for index in range(min(record.get("mig_max", 0), 16)):
        try:
            instance = call("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        except pynvml.NVMLError:
            continue
        told = {}
        ask(told, "name", "nvmlDeviceGetName", (instance,))
        ask(told, "uuid", "nvmlDeviceGetUUID", (instance,))
        ask(told, "memory", "nvmlDeviceGetMemoryInfo", (instance,), ("total", "used"))
        found.append(told)

def process_names(record):
    for process in (record.get("processes") or []) + (record.get("graphics_processes") or []):
        ask(process, "name", "nvmlSystemGetProcessName", (process["pid"],))

def device(index):
    try:
        handle = call("nvmlDeviceGetHandleByIndex", index)
    except pynvml.NVMLError as error:
        answer("device", index=index, error=code_of(error))
        return
    record = {"index": index}
    for key, name, arguments, fields in json.loads(sys.argv[1]):
        try:
            words = [constant(word) for word in arguments]
        except AttributeError:
            record.setdefault("errors", {})[key] = "NVML_ERROR_FUNCTION_NOT_FOUND"
            continue
        ask(record, key, "nvmlDevice" + name, [handle] + words, fields)
    fabric(record, handle)
    links(record, handle)
    instances(record, handle)
    process_names(record)
    answer("device", **record)

def main():
    try:
        call("nvmlInit")
    except pynvml.NVMLError as error:
        answer("init", code=getattr(error, "value", -1), name=code_of(error))
        return
    answer("init", code=0, name="NVML_SUCCESS")
    system = {}
    ask(system, "release", "nvmlSystemGetDriverVersion")
    ask(system, "count", "nvmlDeviceGetCount")
    answer("system", **system)
    count = system.get("count")
    for index in range(min(count, 64) if isinstance(count, int) else 0):
        device(index)
    answer("all-devices")

main()
done()
"""
