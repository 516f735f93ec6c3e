"""What the file probes see in recorded machines, and what the rules make of it: healthy ones first."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from envdoctor import core_check
from envdoctor.check import Tier
from envdoctor.engine import Look, Looked
from envdoctor.facts import Facts, Source
from envdoctor.injecting import call_with
from envdoctor.judging import Judgement, bind, judge
from envdoctor.target import Target
from envdoctor.tree import host_tree
from envdoctor_checks.driver.facts import (
    AdapterFailed,
    ApiMismatch,
    BarInvalid,
    BootTimes,
    DeviceNodes,
    Dkms,
    DriverPackages,
    FabricManager,
    GpuClaimed,
    KernelModule,
    LoadedModules,
    ModuleFiles,
    ModuleOnDisk,
    ModuleRefused,
    NvmlInit,
    PciDevices,
    SecureBoot,
    UserLibraries,
)
from envdoctor_checks.driver.headlines import applies
from envdoctor_checks.driver.plugin import check
from envdoctor_checks.gpu.facts import GpuDevice, GpuDevices
from envdoctor_checks.torch.facts import TorchBuild

HOSTS = Path(__file__).resolve().parents[2] / "fixtures" / "hosts"
HERE = Source("file", "/a/venv")
TORCH = TorchBuild(version="2.8.0+cu128", torch_cuda="12.8", path="/a/venv", source=HERE)
TARGET = Target(python="/usr/bin/python3", why="a test", named=False, source=HERE)


@cache
def look(name: str) -> Looked:
    """A quick look at one of the trees."""
    probing = Look(
        (core_check.check, check), host_tree(HOSTS / f"driver-{name}"), tier=Tier.QUICK, seed=Facts.of(TARGET)
    )
    for _ in probing:
        pass
    assert not probing.result.crashed, probing.result.crashed
    return probing.result


def judged(name: str, *more: TorchBuild) -> Judgement:
    judgement = judge(bind((core_check.check, check), look(name).facts.merged(Facts.of(*more))))
    assert not judgement.crashed
    return judgement


def ids(name: str, *more: TorchBuild) -> list[str]:
    """Rules that say more than a note, the first one first."""
    return [each.rule for each in judged(name, *more).findings if each.finding.severity.value != "note"]


@pytest.mark.parametrize("name", ["h100-server", "container", "jetson", "wsl2", "cpu-laptop"])
def test_a_healthy_machine_gets_no_word(name: str) -> None:
    assert not judged(name, TORCH).findings


def test_nouveau_on_a_desktop_without_torch_is_a_note_at_most() -> None:
    assert ids("nouveau-desktop") == []


def test_a_container_without_gpus_is_not_the_drivers_fault() -> None:
    assert ids("container-without-gpu", TORCH) == []


BROKEN = {
    "kernel-upgraded": "driver/module-missing-for-kernel",
    "half-upgraded": "driver/packages-half-upgraded",
    "library-upgraded": "driver/library-mismatch",
    "nouveau-desktop": "driver/not-installed",
    "secure-boot": "driver/secure-boot-blocks-module",
    "group-video": "driver/device-nodes-permission",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_machine_gets_one_cause(name: str) -> None:
    assert ids(name, TORCH) == [BROKEN[name]]


def test_only_a_machine_without_any_sign_of_nvidia_is_not_applicable() -> None:
    reasons = {
        name: call_with(applies, look(name).facts) for name in (*BROKEN, "cpu-laptop", "wsl2", "container")
    }
    assert {name for name, reason in reasons.items() if reason} == {"cpu-laptop"}
    assert reasons["cpu-laptop"] == "no NVIDIA GPU on this machine"


def test_the_servers_facts() -> None:
    facts = look("h100-server").facts
    module = facts.get(KernelModule)
    assert isinstance(module, KernelModule)
    assert (module.release, module.flavour) == ("580.65.06", "open")
    pci = facts.get(PciDevices)
    assert isinstance(pci, PciDevices)
    assert [gpu.kernel_driver for gpu in pci.gpus] == ["nvidia"] * 8
    assert [each.kind for each in pci.devices].count("nvswitch") == 4
    dkms, on_disk = facts.get(Dkms), facts.get(ModuleOnDisk)
    assert isinstance(dkms, Dkms)
    assert isinstance(on_disk, ModuleOnDisk)
    assert [each.state for each in dkms.builds] == ["installed"]
    assert on_disk.release == "580.65.06"
    manager, times = facts.get(FabricManager), facts.get(BootTimes)
    assert isinstance(manager, FabricManager)
    assert isinstance(times, BootTimes)
    assert (manager.release, manager.running) == ("580.65.06", True)
    assert (times.machine, times.fabric_manager) == (1750000000.0, 1750000042.0)
    packages = facts.get(DriverPackages)
    assert isinstance(packages, DriverPackages)
    assert [each.name for each in packages.packages][-1] == "nvidia-fabricmanager-580"


def test_what_an_upgraded_kernel_lacks() -> None:
    facts = look("kernel-upgraded").facts
    files, modules = facts.get(ModuleFiles), facts.get(LoadedModules)
    assert isinstance(files, ModuleFiles)
    assert isinstance(modules, LoadedModules)
    assert files.kernels_with_module == ("6.8.0-51-generic",)
    assert (files.running_kernel, files.modules_directory, files.headers) == ("6.8.0-52-generic", True, False)
    assert "nvidia" in modules.absent
    assert modules.loaded == ()


def test_a_device_file_names_its_group() -> None:
    nodes = look("group-video").facts.get(DeviceNodes)
    assert isinstance(nodes, DeviceNodes)
    first = nodes.gpus[0]
    assert (first.mode, first.owner, first.group, first.openable) == ("0660", "root", "video", False)
    assert first.device == (195, 0)
    fixes = judged("group-video", TORCH).findings[0].finding.remedies
    assert any("usermod -aG video" in str(fix) for fix in fixes)


def test_wsl_and_jetson_libraries_are_found_where_they_are() -> None:
    wsl, jetson = look("wsl2").facts.get(UserLibraries), look("jetson").facts.get(UserLibraries)
    assert isinstance(wsl, UserLibraries)
    assert isinstance(jetson, UserLibraries)
    assert {(each.kind, each.found_via) for each in wsl.of("libcuda.so.1")} == {("wsl", "directory")}
    assert jetson.of("libcuda.so.1")[0].found_via == "cache"
    assert "libcuda.so.1" not in wsl.absent + jetson.absent


def test_hidden_firmware_is_not_a_machine_without_it() -> None:
    container = look("container").facts  # the module is loaded: nothing kept it out
    assert container.get(SecureBoot) is None
    assert SecureBoot not in container.unavailable()
    told = look("secure-boot").facts.get(SecureBoot)
    assert isinstance(told, SecureBoot)
    assert told.enabled


def test_a_machine_without_a_gpu_costs_no_look_at_packages_and_modules() -> None:
    facts = look("cpu-laptop").facts
    assert (
        facts.get(DriverPackages)
        is facts.get(ModuleFiles)
        is facts.get(Dkms)
        is facts.get(FabricManager)
        is None
    )


# What a machine's own kernel log tells of an earlier moment of the same boot.

LOG = Source("file", "/var/log/kern.log")
PAST = (
    ModuleRefused(module="", why="key-rejected", source=LOG),
    GpuClaimed(by="nouveau", address="0000:1b:00.0", source=LOG),
    ApiMismatch(client="580.65.06", module="575.57.08", source=LOG),
    AdapterFailed(address="0000:1b:00.0", source=LOG),
    BarInvalid(address="0000:1b:00.0", source=LOG),
)


def test_a_log_of_what_is_over_accuses_nobody() -> None:
    works = NvmlInit(code=0, name="NVML_SUCCESS", source=Source("call", "nvmlInit"))
    gpus = GpuDevices(
        devices=(GpuDevice(index=0, name="NVIDIA H100 80GB HBM3", pci_address="0000:1b:00.0"),),
        source=Source("call", "nvmlInit"),
    )
    facts = look("h100-server").facts.merged(Facts.of(TORCH, works, gpus, *PAST))
    assert not judge(bind((core_check.check, check), facts)).findings


def test_the_same_log_explains_a_machine_that_does_not_work() -> None:
    facts = look("secure-boot").facts.merged(Facts.of(TORCH, PAST[0]))
    first = judge(bind((core_check.check, check), facts)).findings[0]
    assert first.rule == "driver/secure-boot-blocks-module"
    assert any(each.source == LOG for each in first.finding.evidence)
