"""The fake driver, as the real pynvml and plain ctypes see it in children that the real loader starts."""

from __future__ import annotations

import json
import re
import signal
import subprocess

import pytest

from tests.support.ask_driver import CUDA, DEADLINE, NVML, ask, base_environ, child, command, run
from tests.support.fake_driver import SCENARIOS, FakeDriver, build

NAMES = sorted(path.stem for path in SCENARIOS.glob("*.conf"))

HEALTHY = {
    "h100x8": ("NVIDIA H100 80GB HBM3", "(9, 0)", 8),
    "b200x8": ("NVIDIA B200", "(10, 0)", 8),
    "a100": ("NVIDIA A100 80GB PCIe", "(8, 0)", 1),
    "rtx4090": ("NVIDIA GeForce RTX 4090", "(8, 9)", 1),
    "gtx1080ti": ("NVIDIA GeForce GTX 1080 Ti", "(6, 1)", 1),
    "v100": ("Tesla V100-SXM2-16GB", "(7, 0)", 1),
    "gb10": ("NVIDIA GB10", "(12, 1)", 1),
    "wsl2": ("NVIDIA GeForce RTX 4090", "(8, 9)", 1),
    "old-driver-470": ("Tesla T4", "(7, 5)", 1),
    "old-driver-535": ("NVIDIA A100 80GB PCIe", "(8, 0)", 1),
    "seven-of-eight": ("NVIDIA H100 80GB HBM3", "(9, 0)", 7),
}

REFUSED = {
    "mismatch": ("NVMLError_LibRmVersionMismatch", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
    "not-loaded": ("NVMLError_DriverNotLoaded", "CUDA_ERROR_NO_DEVICE"),
    "no-permission": ("NVMLError_NoPermission", "CUDA_ERROR_NO_DEVICE"),
    "nvml-unknown-error": ("NVMLError_Unknown", "CUDA_ERROR_NO_DEVICE"),
    "unknown-error-999": ("well", "CUDA_ERROR_UNKNOWN"),
    "fabric-not-started": ("well", "CUDA_ERROR_SYSTEM_NOT_READY"),
}

TROUBLE = {
    "nvml-hangs": (NVML, None),
    "cuinit-hangs": (CUDA, None),
    "nvml-crashes": (NVML, signal.SIGSEGV),
    "cuinit-crashes": (CUDA, signal.SIGSEGV),
}
"""Scenario: the program that meets the trouble, the signal that ends it (None: it never ends)."""


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> FakeDriver:
    return FakeDriver(build(tmp_path_factory.mktemp("driver")))


# Healthy machines: every figure is the scenario's.


@pytest.mark.parametrize("scenario", HEALTHY)
def test_a_healthy_machine_reads_as_what_it_is(driver: FakeDriver, scenario: str) -> None:
    name, capability, count = HEALTHY[scenario]
    seen = ask(driver, scenario)
    assert seen["init"] == "well"
    assert [(gpu["Name"], gpu["CudaComputeCapability"]) for gpu in seen["gpus"]] == [
        (name, capability)
    ] * count
    cuda = ask(driver, scenario, CUDA)
    assert cuda["init"] == "CUDA_SUCCESS"
    assert [device["name"] for device in cuda["devices"]] == [name] * count
    assert {str(tuple(device["capability"])) for device in cuda["devices"]} == {capability}
    assert {device["context"] for device in cuda["devices"]} == {0}


def test_both_libraries_speak_of_the_same_gpus(driver: FakeDriver) -> None:
    gpus = ask(driver, "h100x8")["gpus"]
    devices = ask(driver, "h100x8", CUDA)["devices"]
    assert [gpu["UUID"].removeprefix("GPU-").replace("-", "") for gpu in gpus] == [d["uuid"] for d in devices]
    buses = [re.search(r"busId: (\S+)\)", gpu["PciInfo"]) for gpu in gpus]
    assert [bus and bus[1][4:].lower() for bus in buses] == [d["bus"] for d in devices]
    assert len({gpu["UUID"] for gpu in gpus}) == 8


def test_the_h100s_figures(driver: FakeDriver) -> None:
    seen = ask(driver, "h100x8")
    assert seen["system"]["DriverVersion"] == "580.65.06"
    assert seen["system"]["NVMLVersion"] == "13.580.65.06"
    assert seen["system"]["CudaDriverVersion_v2"] == "13000"
    assert "branch: r580_65" in seen["system"]["DriverBranch"]
    gpu = seen["gpus"][7]
    assert f"total: {81559 << 20} B" in gpu["MemoryInfo"]
    assert f"used: {552 << 20} B" in gpu["MemoryInfo"]
    assert f"used: {1 << 20} B" in gpu["Memory2"]
    assert gpu["EccMode"] == ["1", "1"]
    assert gpu["RemappedRows"] == "(0, 0, 0, 0)"
    assert gpu["Links"] == ["1"] * 18
    assert gpu["Fabric"] == ["0", 3, 1]
    assert seen["pairs"] == ["40"] * 3 + ["50"] * 4
    assert gpu["fields"] == {"recovery": 0, "links": 18, "pending_rows": 0, "memory_temperature": 40}
    assert (gpu["Temperature"], gpu["MaxSm"], gpu["Uncorrected"], gpu["Dram"]) == ("31", "1980", "0", "0")
    assert gpu["ComputeRunningProcesses"] == []
    assert gpu["AddressingMode"] == "1"


def test_what_a_gpu_lacks_is_not_supported(driver: FakeDriver) -> None:
    spark = ask(driver, "gb10")["gpus"][0]
    assert spark["MemoryInfo"] == "NVMLError_NotSupported"
    assert spark["EnforcedPowerLimit"] == "NVMLError_NotSupported"
    assert spark["Links"] == ["NVMLError_NotSupported"] * 18
    assert spark["fields"]["pending_rows"] == -3
    assert ask(driver, "gb10", CUDA)["devices"][0]["mib"] == 122548


def test_an_old_driver_lacks_the_new_functions(driver: FakeDriver) -> None:
    seen = ask(driver, "old-driver-470")
    assert seen["system"]["CudaDriverVersion_v2"] == "11040"
    assert seen["system"]["DriverBranch"] == "NVMLError_FunctionNotFound"
    gpu = seen["gpus"][0]
    assert gpu["Memory2"] == gpu["AddressingMode"] == gpu["Fabric"][0] == "NVMLError_FunctionNotFound"
    assert gpu["ComputeRunningProcesses"] == "NVMLLibraryMismatchError"  # of pynvml's own, and no NVMLError
    assert gpu["fields"]["recovery"] == -2


# Broken machines.


@pytest.mark.parametrize("scenario", REFUSED)
def test_a_refusal_has_its_code(driver: FakeDriver, scenario: str) -> None:
    nvml, cuda = REFUSED[scenario]
    assert ask(driver, scenario)["init"] == nvml
    answer = ask(driver, scenario, CUDA)
    assert (answer["init"], answer["count_code"]) == (cuda, 3)
    assert answer["version"] >= 12040


def test_no_scenario_is_no_driver(driver: FakeDriver) -> None:
    environ = {**base_environ(), "LD_LIBRARY_PATH": str(driver.lib_dir)}
    nvml, cuda = (json.loads(run(program, environ).stdout.splitlines()[-1]) for program in (NVML, CUDA))
    assert nvml == {"init": "NVMLError_DriverNotLoaded", "text": "Driver Not Loaded"}
    assert (cuda["init"], cuda["version"]) == ("CUDA_ERROR_NO_DEVICE", 13000)


ONE_BAD_GPU = [
    ("ecc", 2, "Uncorrected", "3"),
    ("row-remap-pending", 4, "RemappedRows", "(0, 1, 1, 0)"),
    ("row-remap-failed", 6, "RemappedRows", "(0, 8, 0, 1)"),
    ("throttling-thermal", 1, "CurrentClocksEventReasons", str(0x68)),
    ("throttling-power-brake", 0, "CurrentClocksThrottleReasons", str(0x88)),
    ("pcie-downgraded", 6, "CurrPcieLinkWidth", "4"),
    ("pcie-downgraded", 6, "CurrPcieLinkGeneration", "1"),
    ("nvlink-down", 5, "Links", ["1"] * 7 + ["0", "0"] + ["1"] * 9),
]


@pytest.mark.parametrize(("scenario", "bad", "question", "answer"), ONE_BAD_GPU)
def test_one_gpu_of_eight_is_bad(
    driver: FakeDriver, scenario: str, bad: int, question: str, answer: object
) -> None:
    gpus = ask(driver, scenario)["gpus"]
    healthy = ask(driver, "h100x8")["gpus"]
    assert gpus[bad][question] == answer != healthy[bad][question]
    assert [gpu for gpu in gpus if gpu is not gpus[bad]] == [gpu for i, gpu in enumerate(healthy) if i != bad]


def test_a_lost_gpu_gives_no_handle(driver: FakeDriver) -> None:
    gpus = ask(driver, "gpu-lost")["gpus"]
    assert [i for i, gpu in enumerate(gpus) if gpu == "NVMLError_GpuIsLost"] == [3]
    assert len(ask(driver, "gpu-lost", CUDA)["devices"]) == 7


def test_fabric_and_exclusive_process(driver: FakeDriver) -> None:
    assert {tuple(gpu["Fabric"]) for gpu in ask(driver, "fabric-not-started")["gpus"]} == {("0", 1, 0)}
    gpu = ask(driver, "exclusive-process")["gpus"][0]
    assert gpu["ComputeMode"] == "3"
    assert [
        re.search(r"'pid': (\d+)", process) is not None for process in gpu["ComputeRunningProcesses"]
    ] == [True]
    assert ask(driver, "exclusive-process", CUDA)["devices"][0]["context"] == 46


MIG = r"""
import json, pynvml as n
n.nvmlInit()
gpu = n.nvmlDeviceGetHandleByIndex(0)
found = []
for index in range(n.nvmlDeviceGetMaxMigDeviceCount(gpu)):
    try:
        mig = n.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
    except n.NVMLError_NotFound:
        break
    parent = n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)
    found.append([n.nvmlDeviceGetName(mig), n.nvmlDeviceGetUUID(mig), n.nvmlDeviceGetGpuInstanceId(mig),
                  n.nvmlDeviceGetAttributes(mig).memorySizeMB, n.nvmlDeviceGetIndex(parent)])
print(json.dumps({"mode": n.nvmlDeviceGetMigMode(gpu), "found": found}))
"""


def test_mig_instances(driver: FakeDriver) -> None:
    seen = ask(driver, "h100-mig", MIG)
    assert seen["mode"] == [1, 1]
    assert [row[2:] for row in seen["found"]] == [[1, 40448, 0], [2, 40448, 0]]
    assert {row[0] for row in seen["found"]} == {"NVIDIA H100 80GB HBM3 MIG 3g.40gb"}
    assert [d["mib"] for d in ask(driver, "h100-mig", CUDA)["devices"]] == [40448]
    second = ask(driver, "h100-mig", CUDA, CUDA_VISIBLE_DEVICES=seen["found"][1][1])["devices"]
    assert [d["uuid"] for d in second] == [seen["found"][1][1].removeprefix("MIG-").replace("-", "")]


@pytest.mark.parametrize("scenario", TROUBLE)
def test_a_hang_or_a_crash_is_a_real_one(driver: FakeDriver, scenario: str) -> None:
    program, ended_by = TROUBLE[scenario]
    if ended_by:
        assert child(driver, scenario, program).returncode == -ended_by
        return
    hung = subprocess.Popen(
        command(program),
        env=driver.environ(scenario, base_environ()),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert hung.stdout
    try:
        assert hung.stdout.readline() == "calling\n"
        with pytest.raises(subprocess.TimeoutExpired):
            hung.wait(0.3)
    finally:
        hung.terminate()
        hung.stdout.close()
        assert hung.wait(DEADLINE) == -signal.SIGTERM


def test_garbage_is_never_more_than_undecodable(driver: FakeDriver) -> None:
    """pynvml decodes texts as UTF-8 and lets UnicodeDecodeError through; nothing else is no NVMLError."""
    seen = ask(driver, "garbage")
    assert seen["system"]["DriverVersion"] == "undecodable"
    assert seen["system"]["CudaDriverVersion"] == "-1"
    gpu = seen["gpus"][0]
    assert gpu["Name"] == gpu["UUID"] == gpu["PciInfo"] == "undecodable"
    assert gpu["Temperature"] == str(2**32 - 1)
    assert len(gpu["ComputeRunningProcesses"]) == 1
    assert set(ask(driver, "garbage", CUDA)["devices"][0]["name"]) == {"\ufffd"}


@pytest.mark.parametrize("scenario", sorted(set(NAMES) - set(TROUBLE)))
def test_every_scenario_can_be_read_to_the_end(driver: FakeDriver, scenario: str) -> None:
    assert ask(driver, scenario)["init"]
    assert ask(driver, scenario, CUDA)["init"]
