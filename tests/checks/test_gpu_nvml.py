"""The GPUs' facts out of NVML's answers: asked of the fake driver in a real child, converted, judged."""

from __future__ import annotations

from typing import Any

import pytest

from envdoctor.engine import flatten, gathered
from envdoctor.facts import Facts, Source, Symptom
from envdoctor.host import Host
from envdoctor.judging import bind, judge
from envdoctor.session import Doctor
from envdoctor_checks.driver import probe_calls
from envdoctor_checks.driver.facts import NvmlAnswers
from envdoctor_checks.gpu import probe
from envdoctor_checks.gpu.facts import (
    GpuEcc,
    GpuMemory,
    GpuModes,
    GpuPersistence,
    GpuProcesses,
    GpuRecovery,
    GpuRowRemapping,
    MigInstances,
    UnreachableGpus,
)
from envdoctor_checks.gpu.figures import (
    GpuClockOffsets,
    GpuClockReasons,
    GpuClocks,
    GpuLoad,
    GpuNvlinks,
    GpuPcieLinks,
    GpuPower,
    GpuTemperatures,
)
from envdoctor_checks.gpu.symptoms import Xid
from envdoctor_checks.torch.facts import TorchBuild
from tests.support.ask_driver import base_environ
from tests.support.fake_driver import FakeDriver

PROBES = (probe.health, probe.activity, probe.modes)
TORCH = TorchBuild(version="2.8.0+cu128", torch_cuda="12.8", source=Source("file", "/v/torch/version.py"))


def looked(fake_driver: FakeDriver, scenario: str) -> Facts:
    """What the driver's probe and ours give on a machine in that state."""
    host = Host.here(environ=fake_driver.environ(scenario, base_environ()))
    asked = gathered(flatten(probe_calls.nvml(host, None)))
    answers = asked.get(NvmlAnswers)
    assert isinstance(answers, NvmlAnswers)
    return asked.merged(gathered(flatten([each(answers) for each in PROBES])))


def known(facts: Facts, kind: type[Any]) -> Any:
    fact = facts.get(kind)
    assert isinstance(fact, kind), fact
    return fact


def said(facts: Facts, *more: Any) -> dict[str, str]:
    """Rule and subject -> severity, of our own findings."""
    both = facts.merged(gathered(more))
    found = judge(bind(Doctor().checks, both))
    assert not found.crashed
    return {
        f"{each.rule} {each.finding.subject}".strip(): each.finding.severity.value
        for each in found.findings
        if each.rule.startswith("gpu/")
    }


HEALTHY = (
    "h100x8",
    "b200x8",
    "a100",
    "rtx4090",
    "gtx1080ti",
    "v100",
    "gb10",
    "wsl2",
    "old-driver-470",
    "h100-mig",
)


@pytest.mark.parametrize("scenario", HEALTHY)
def test_a_healthy_machine_is_left_alone(fake_driver: FakeDriver, scenario: str) -> None:
    assert said(looked(fake_driver, scenario), TORCH) == {}


def test_every_figure_is_the_drivers(fake_driver: FakeDriver) -> None:
    facts = looked(fake_driver, "throttling-thermal")
    assert known(facts, GpuTemperatures).gpus[1].celsius == 90
    assert known(facts, GpuLoad).gpus[1].percent == 100
    clocks = known(facts, GpuClocks).gpus[1]
    assert (clocks.sm, clocks.sm_max) == (1095, 1980)
    assert known(facts, GpuClockReasons).gpus[1].reasons == ("hw-slowdown", "sw-thermal", "hw-thermal")
    assert known(facts, GpuPower).gpus[1].drawn == pytest.approx(402.11)
    assert [each.total for each in known(facts, GpuMemory).gpus] == [81559] * 8
    assert known(facts, GpuNvlinks).gpus[0].active == 18
    link = known(facts, GpuPcieLinks).gpus[0]
    assert (link.width, link.width_max, link.generation_max) == (16, 16, 5)
    assert known(facts, GpuPersistence).on == tuple("01234567")
    assert known(facts, GpuRecovery).gpus[0].action == "none"
    assert known(facts, UnreachableGpus).gpus == ()


def test_what_a_gpu_does_not_have_has_no_row(fake_driver: FakeDriver) -> None:
    facts = looked(fake_driver, "gb10")
    assert known(facts, GpuMemory).gpus == ()
    facts = looked(fake_driver, "gtx1080ti")
    assert known(facts, GpuEcc).gpus == ()
    assert known(facts, GpuRowRemapping).gpus == ()
    assert known(facts, GpuNvlinks).gpus == ()


def test_senseless_answers_become_no_facts(fake_driver: FakeDriver) -> None:
    facts = looked(fake_driver, "garbage")
    for kind in (GpuMemory, GpuTemperatures, GpuLoad, GpuClocks, GpuModes, GpuPcieLinks):
        assert known(facts, kind).gpus == ()
    assert said(facts, TORCH) == {}


def test_mig_instances_have_their_names_and_uuids(fake_driver: FakeDriver) -> None:
    facts = looked(fake_driver, "h100-mig")
    instances = known(facts, MigInstances).instances
    assert [(each.gpu, each.name, each.memory) for each in instances] == [("0", "3g.40gb", 40448)] * 2
    assert instances[1].uuid == "MIG-e8f41a97-6c03-52db-b7d5-0a19c3e58264"
    assert known(facts, GpuModes).in_mig == ("0",)


def test_processes_have_names(fake_driver: FakeDriver) -> None:
    process = known(looked(fake_driver, "exclusive-process"), GpuProcesses).processes[0]
    assert (process.pid, process.memory, process.graphics) == (4242, 40296, False)
    assert process.name == "/opt/serving/bin/python"


FAULTS = {
    "gpu-lost": {"gpu/fallen-off-bus gpu:3": "error"},
    "ecc": {"gpu/ecc-uncorrectable gpu:2": "warning"},
    "row-remap-failed": {"gpu/ecc-uncorrectable gpu:6": "error"},
    "row-remap-pending": {"gpu/ecc-uncorrectable gpu:4": "warning"},
    "throttling-thermal": {"gpu/thermal-throttling gpu:1": "warning"},
    "throttling-power-brake": {"gpu/thermal-throttling gpu:0": "warning"},
    "pcie-downgraded": {"gpu/pcie-link-degraded gpu:6": "warning"},
    "nvlink-down": {"gpu/nvlink-down gpu:5": "note"},
    "exclusive-process": {"gpu/compute-mode-exclusive gpu:0": "error"},
}


@pytest.mark.parametrize("scenario", FAULTS)
def test_a_fault_is_named_and_nothing_else(fake_driver: FakeDriver, scenario: str) -> None:
    assert said(looked(fake_driver, scenario), TORCH) == FAULTS[scenario]


def test_an_overclocked_gpu_is_named_once_it_fails(fake_driver: FakeDriver) -> None:
    facts = looked(fake_driver, "overclocked")
    offset = known(facts, GpuClockOffsets).gpus[0]
    assert (offset.core, offset.memory) == (180, 1200)
    assert said(facts, TORCH) == {}
    xid: Symptom = Xid(number=109, address="0000:01:00.0", source=Source("file", "/dev/kmsg"))
    assert said(facts, TORCH, xid)["gpu/unstable-overclock gpu:0"] == "warning"
