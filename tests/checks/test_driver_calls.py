"""NVML and libcuda asked in real children, of the fake driver: healthy, refusing, senseless, hung and crashing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from envdoctor.engine import flatten, gathered
from envdoctor.facts import Facts, Source
from envdoctor.host import Host
from envdoctor.judging import bind, judge
from envdoctor.target import Target
from envdoctor_checks.driver import probe_calls
from envdoctor_checks.driver.facts import (
    CallCrashed,
    CallHung,
    CudaInit,
    DeviceNode,
    DeviceNodes,
    DriverCuda,
    DriverRelease,
    NvmlAnswers,
    NvmlInit,
)
from envdoctor_checks.driver.plugin import check
from envdoctor_checks.gpu.facts import GpuDevices
from tests.support.ask_driver import base_environ
from tests.support.fake_driver import FakeDriver

TARGET = Target(python=sys.executable, why="a test", named=True, source=Source("env", "--python"))


def host(environ: dict[str, str]) -> Host:
    told = Host.here()
    told.environ = environ
    return told


def nvml(driver: FakeDriver, scenario: str) -> Facts:
    return gathered(flatten(probe_calls.nvml(host(driver.environ(scenario, base_environ())), None)))


def cuda(driver: FakeDriver, scenario: str, **more: str) -> Facts:
    environ = {**driver.environ(scenario, base_environ()), **more}
    return gathered(flatten(probe_calls.cuda_init(host(environ), None, TARGET, None)))


def known(facts: Facts, kind: type[Any]) -> Any:
    fact = facts.get(kind)
    assert isinstance(fact, kind), fact
    return fact


# Healthy drivers.


def test_eight_gpus(fake_driver: FakeDriver) -> None:
    facts = nvml(fake_driver, "h100x8")
    assert known(facts, NvmlInit).name == "NVML_SUCCESS"
    assert known(facts, DriverRelease).release == "580.65.06"
    devices = known(facts, GpuDevices).devices
    assert [device.index for device in devices] == list(range(8))
    first = devices[0]
    assert (first.name, first.compute_capability, first.memory_total) == (
        "NVIDIA H100 80GB HBM3",
        "9.0",
        81559,
    )
    assert (first.pci_address, first.uuid[:4]) == ("0000:1b:00.0", "GPU-")
    assert not facts.all_symptoms()


def test_the_answers_are_there_for_the_gpu_check(fake_driver: FakeDriver) -> None:
    answers = known(nvml(fake_driver, "h100x8"), NvmlAnswers).devices
    assert len(answers) == 8
    gpu = answers[3]
    assert gpu["ecc_mode"] == [1, 1]
    assert gpu["remapped_rows"] == [0, 0, 0, 0]
    assert gpu["recovery_action"] == 0
    assert gpu["nvlinks"] == [1] * 18
    assert gpu["fabric"]["state"] == 3
    assert "stage" not in gpu
    msgspec.json.encode(answers)


@pytest.mark.parametrize(
    "scenario", ["a100", "rtx4090", "gtx1080ti", "v100", "gb10", "b200x8", "old-driver-470", "wsl2"]
)
def test_every_healthy_machine_is_read_to_its_end(fake_driver: FakeDriver, scenario: str) -> None:
    facts = nvml(fake_driver, scenario)
    assert known(facts, GpuDevices).devices
    assert not facts.unavailable()
    assert not facts.all_symptoms()
    assert known(cuda(fake_driver, scenario), CudaInit).name == "CUDA_SUCCESS"


def test_what_a_gpu_or_an_old_driver_lacks_is_named(fake_driver: FakeDriver) -> None:
    spark = known(nvml(fake_driver, "gb10"), NvmlAnswers).devices[0]
    assert spark["errors"]["memory"] == "NVML_ERROR_NOT_SUPPORTED"
    assert known(nvml(fake_driver, "gb10"), GpuDevices).devices[0].memory_total is None
    old = known(nvml(fake_driver, "old-driver-470"), NvmlAnswers).devices[0]
    assert old["errors"]["processes"] == "NVML_ERROR_FUNCTION_NOT_FOUND"


def test_libcuda_tells_its_cuda_and_its_file(fake_driver: FakeDriver) -> None:
    facts = cuda(fake_driver, "old-driver-470")
    assert known(facts, DriverCuda).driver_cuda == "11.4"
    init = known(facts, CudaInit)
    assert (init.code, init.devices) == (0, 1)
    assert init.library == str(fake_driver.lib_dir / "libcuda.so.580.65.06")


def test_hidden_gpus_are_no_devices(fake_driver: FakeDriver) -> None:
    assert known(cuda(fake_driver, "h100x8", CUDA_VISIBLE_DEVICES="2,3"), CudaInit).devices == 2
    assert (
        known(cuda(fake_driver, "h100x8", CUDA_VISIBLE_DEVICES=""), CudaInit).name == "CUDA_ERROR_NO_DEVICE"
    )


# Drivers that refuse.

REFUSED = {
    "mismatch": ("NVML_ERROR_LIB_RM_VERSION_MISMATCH", 803),
    "not-loaded": ("NVML_ERROR_DRIVER_NOT_LOADED", 100),
    "no-permission": ("NVML_ERROR_NO_PERMISSION", 100),
    "nvml-unknown-error": ("NVML_ERROR_UNKNOWN", 100),
}


@pytest.mark.parametrize("scenario", REFUSED)
def test_a_refusal_is_a_fact_and_the_rest_could_not_be_looked_at(
    fake_driver: FakeDriver, scenario: str
) -> None:
    name, code = REFUSED[scenario]
    facts = nvml(fake_driver, scenario)
    assert known(facts, NvmlInit).name == name
    assert set(facts.unavailable()) == {DriverRelease, GpuDevices, NvmlAnswers}
    assert all(name in why.reason for why in facts.unavailable().values())
    answer = cuda(fake_driver, scenario)
    assert known(answer, CudaInit).code == code
    assert known(answer, DriverCuda).driver_cuda  # asked before cuInit, which needs no working module


def test_other_errors_of_cuinit(fake_driver: FakeDriver) -> None:
    assert known(cuda(fake_driver, "fabric-not-started"), CudaInit).code == 802
    assert known(cuda(fake_driver, "unknown-error-999"), CudaInit).name == "CUDA_ERROR_UNKNOWN"


def test_a_gpu_that_is_lost_hides_no_other(fake_driver: FakeDriver) -> None:
    facts = nvml(fake_driver, "gpu-lost")
    answers = known(facts, NvmlAnswers).devices
    lost = [
        each
        for each in answers
        if "error" in each or "NVML_ERROR_GPU_IS_LOST" in each.get("errors", {}).values()
    ]
    assert lost
    assert len(answers) > len(lost)


def test_answers_without_sense_are_not_believed(fake_driver: FakeDriver) -> None:
    facts = nvml(fake_driver, "garbage")
    assert known(facts, NvmlInit).code == 0
    assert DriverRelease in facts.unavailable()
    device = known(facts, GpuDevices).devices[0]
    assert (device.name, device.compute_capability, device.memory_total) == ("unknown", None, None)
    assert DriverCuda in cuda(fake_driver, "garbage").unavailable()


def test_no_library_at_all() -> None:
    empty = host({**base_environ(), "LD_LIBRARY_PATH": ""})
    facts = gathered(flatten(probe_calls.nvml(empty, None)))
    told = facts.get(NvmlInit)
    if not isinstance(told, NvmlInit) or told.code == 0:
        pytest.skip("this machine has a driver of its own")
    assert told.name == "NVML_ERROR_LIBRARY_NOT_FOUND"
    init = known(gathered(flatten(probe_calls.cuda_init(empty, None, TARGET, None))), CudaInit)
    assert init.load_error is not None
    assert "libcuda.so.1" in init.load_error


# Drivers that do not come back.


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_calls, "DEADLINE", 1.5)


@pytest.mark.usefixtures("impatient")
def test_a_hung_call_is_named(fake_driver: FakeDriver) -> None:
    facts = nvml(fake_driver, "nvml-hangs")
    hung = facts.symptoms(CallHung)[0]
    assert (hung.call, hung.state) == ("nvmlInit", None)
    assert hung.quote in facts.unavailable()[NvmlInit].reason
    facts = cuda(fake_driver, "cuinit-hangs")
    assert facts.symptoms(CallHung)[0].call == "cuInit"
    assert known(facts, DriverCuda).driver_cuda == "12.4"
    found = judge(bind((check,), facts)).findings
    assert [each.rule for each in found] == ["driver/call-hung"]


def test_a_crash_is_named(fake_driver: FakeDriver) -> None:
    crashed = nvml(fake_driver, "nvml-crashes").symptoms(CallCrashed)[0]
    assert (crashed.call, crashed.signal) == ("nvmlDeviceGetHandleByIndex", "SIGSEGV")
    facts = cuda(fake_driver, "cuinit-crashes")
    assert facts.symptoms(CallCrashed)[0].call == "cuInit"
    assert [each.rule for each in judge(bind((check,), facts)).findings] == ["driver/call-crashed"]


def test_more_gpus_get_more_time() -> None:
    nodes = DeviceNodes(
        nodes=tuple(DeviceNode(f"/dev/nvidia{i}") for i in range(8)), source=Source("file", "/dev")
    )
    assert probe_calls._deadline(None) == probe_calls.DEADLINE
    assert probe_calls._deadline(nodes) == probe_calls.LONGEST


# A stub: a real library without content, as toolkits have it.

STUB = "int cuInit(unsigned flags) { (void)flags; return 34; }\nint cuDriverGetVersion(int *v) { *v = 12040; return 34; }\n"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_a_stub_is_known_by_its_folder_and_its_error(tmp_path: Path) -> None:
    stubs = tmp_path / "cuda" / "lib64" / "stubs"
    stubs.mkdir(parents=True)
    source = tmp_path / "stub.c"
    source.write_text(STUB)
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-Wl,-soname,libcuda.so.1",
        "-o",
        str(stubs / "libcuda.so"),
        str(source),
    ]
    subprocess.run(command, check=True)
    (stubs / "libcuda.so.1").symlink_to("libcuda.so")
    environ = {**base_environ(), "LD_LIBRARY_PATH": str(stubs)}
    facts = gathered(flatten(probe_calls.cuda_init(host(environ), None, TARGET, None)))
    init = known(facts, CudaInit)
    assert (init.code, init.name) == (34, "CUDA_ERROR_34")  # it has no cuGetErrorName either
    assert init.library == str(stubs / "libcuda.so")
    assert [each.rule for each in judge(bind((check,), facts)).findings] == ["driver/libcuda-stub-loaded"]
