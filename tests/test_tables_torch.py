"""The tables of the torch check, against each other and against those that they rest on."""

from __future__ import annotations

import re

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from envdoctor.tables import compare_releases, major_minor, release_key
from envdoctor_checks.driver import tables as driver
from envdoctor_checks.gpu import tables as gpu
from envdoctor_checks.libraries import tables as libraries
from envdoctor_checks.torch import tables as torch
from envdoctor_checks.torch.binaries import kernel_for

FLOORS = driver.cuda_floors()
# --- torch

RELEASES, ARCHS, PINS = torch.torch_releases(), torch.arch_lists(), torch.wheel_pins()


def test_every_build_of_torch_has_a_driver_floor() -> None:
    for row in RELEASES.builds:
        assert FLOORS.minimum_driver(row.cuda), row


def test_every_release_offers_its_default_cuda() -> None:
    for row in RELEASES.releases:
        assert row.default_cuda in {build.cuda for build in RELEASES.builds_of(row.torch)}, row
        assert major_minor(row.latest) == major_minor(row.torch)
        assert SpecifierSet(row.requires_python).contains(f"{row.python_max}.0")


def test_releases_are_in_order() -> None:
    assert [row.torch for row in RELEASES.releases] == sorted(
        (row.torch for row in RELEASES.releases), key=release_key
    )
    dates = [row.released[:7] for row in RELEASES.releases]
    assert dates == sorted(dates)
    assert {row.torch for row in RELEASES.builds} == {row.torch for row in RELEASES.releases}


def test_numpy_2() -> None:
    assert not RELEASES.works_with_numpy_2("2.2.2")
    assert RELEASES.works_with_numpy_2("2.3.0")
    assert not RELEASES.works_with_numpy_2("2.3.0", "windows")


def test_every_architecture_in_torch_exists_and_fits_its_cuda() -> None:
    capabilities = {row.compute_capability: row for row in driver.architectures().capabilities}
    for row in ARCHS.arch_lists:
        for arch in (*row.archs, *row.ptx):
            digits = re.fullmatch(r"(?:sm|compute)_(\d+)a?", arch)
            assert digits, row
            known = capabilities[f"{digits[1][:-1]}.{digits[1][-1]}"]
            assert compare_releases(known.first_toolkit, row.cuda) <= 0, (row, arch)
            assert known.last_toolkit is None or compare_releases(known.last_toolkit, row.cuda) >= 0, (
                row,
                arch,
            )
        assert list(row.archs) == sorted(row.archs, key=lambda arch: (int(re.findall(r"\d+", arch)[0]), arch))


def test_every_arch_list_belongs_to_a_build() -> None:
    builds = {(row.torch, row.cuda) for row in RELEASES.builds}
    first = RELEASES.releases[0].torch
    for row in ARCHS.arch_lists:
        if row.package == "wheel":
            assert ".".join(row.torch.split(".")[:2]) == first or any(
                torch.same_minor(row.torch, each) and row.cuda == cuda for each, cuda in builds
            ), row


def test_arch_lists_that_are_known_twice_agree() -> None:
    for row in ARCHS.arch_lists:
        best = ARCHS.find(row.torch, row.cuda, row.platform, row.package)
        assert best is not None
        assert set(row.archs) == set(best.archs), (row, best)


def test_the_surer_and_nearer_arch_list_is_found() -> None:
    found = ARCHS.find("2.9.1+cu128", "12.8")
    assert found is not None
    assert (found.torch, found.how_known) == ("2.9.1", "wheel")
    near = ARCHS.find("2.12.0", "13.0")
    assert near is not None
    assert near.how_known == "wheel"
    assert ARCHS.find("2.9.1", "11.8") is None
    assert ARCHS.find("2.13.0", "13.0", "linux-aarch64") is not None


@pytest.mark.parametrize(
    ("archs", "capability", "cuda", "how"),
    [
        ("sm_80 sm_86", "8.9", None, "machine-code"),
        ("sm_120", "12.1", None, "machine-code"),
        ("sm_60", "6.1", None, "machine-code"),
        ("sm_86", "8.0", None, None),
        ("sm_75 sm_80", "7.0", None, None),
        ("sm_90", "12.0", None, None),
        ("sm_90 compute_90", "12.0", None, "ptx"),
        ("compute_120", "9.0", None, None),
        ("sm_90a", "9.0", None, "machine-code"),
        ("sm_100a", "10.3", None, None),
        ("sm_100f", "10.3", None, "machine-code"),
        ("sm_80 sm_86", "8.7", None, None),
        ("sm_80", "8.7", "13.2", "machine-code"),
        ("sm_87", "8.7", None, "machine-code"),
        ("sm_87", "8.9", None, None),
        ("sm_110", "11.0", None, "machine-code"),
        ("sm_101", "11.0", None, "machine-code"),
        ("", "8.0", None, None),
        ("gfx90a", "9.0", None, None),
    ],
)
def test_binary_compatibility(archs: str, capability: str, cuda: str | None, how: str | None) -> None:
    assert kernel_for(archs.split(), capability, cuda) == how


def test_the_gpus_of_the_healthy_machines_run_the_default_torch() -> None:
    for name, release, platform in (
        ("NVIDIA H100 80GB HBM3", "2.13.0", "linux-x86_64"),
        ("NVIDIA A100-SXM4-80GB", "2.9.1", "linux-x86_64"),
        ("NVIDIA GeForce RTX 4090", "2.5.1", "linux-x86_64"),
        ("NVIDIA GB10", "2.13.0", "linux-aarch64"),
    ):
        known = gpu.compute_capabilities().of(name)
        build = RELEASES.release(release)
        assert known is not None
        assert build is not None
        row = ARCHS.find(release, build.default_cuda, platform)  # type: ignore[arg-type] # the literals above
        assert row is not None
        assert kernel_for((*row.archs, *row.ptx), known.compute_capability, build.default_cuda), name


def test_companions_ask_for_a_torch_that_exists() -> None:
    table = torch.companions()
    minors = {row.torch for row in RELEASES.releases}
    for row in table.companions:
        if row.torch:
            (specifier,) = SpecifierSet(row.torch)
            assert ".".join(specifier.version.split(".")[:2]) in minors, row
    for pin in table.triton:
        SpecifierSet(pin.triton)
        assert RELEASES.release(pin.torch), pin


@pytest.mark.parametrize(
    ("package", "release", "version"),
    [
        ("torchvision", "2.9.1+cu128", "0.24.1"),
        ("torchvision", "2.14.0", "0.29.0"),
        ("torchvision", "2.14.1", "0.29.2"),
        ("torchaudio", "2.0.1", "2.0.2"),
        ("torchaudio", "2.13.0", "2.11.0"),
        ("torchvision", "1.9.0", None),
    ],
)
def test_the_sister_package_for_a_torch(package: str, release: str, version: str | None) -> None:
    row = torch.companions().made_for(package, release)
    assert (row.version if row else None) == version


@pytest.mark.parametrize(
    ("release", "triton"),
    [
        ("2.9.0", "==3.5.0"),
        ("2.9.1", "==3.5.1"),
        ("2.0.1+cu117", "==2.0.0"),
        ("1.13.1", None),
        ("2.9.7", None),
    ],
)
def test_triton_of_a_torch(release: str, triton: str | None) -> None:
    pin = torch.companions().triton_for(release)
    assert (pin.triton if pin else None) == triton


def test_every_pinned_wheel_is_known_to_the_libraries_check() -> None:
    known = {row.distribution for row in libraries.wheel_libraries().libraries}
    for row in PINS.torch:
        wanted = PINS.requirements(row.torch)
        assert wanted
        assert set(wanted) <= known, row.torch
        for specifier in wanted.values():
            SpecifierSet(specifier)


def test_pins_agree_with_the_builds() -> None:
    for row in PINS.torch:
        release = RELEASES.release(row.torch)
        assert release is not None
        if row.torch != release.latest:
            continue
        build = next(each for each in RELEASES.builds_of(row.torch) if each.cuda == release.default_cuda)
        major = build.cuda.partition(".")[0]
        assert row.pins[f"nvidia-cudnn-cu{major}"] == f"=={build.cudnn}", row.torch
        assert row.pins.get(f"nvidia-nccl-cu{major}", "==None") == f"=={build.nccl}", row.torch
        assert bool(row.toolkit) == bool(row.extras)
        if row.toolkit:
            assert major_minor(row.toolkit) == major_minor(build.cuda)
            known = {extra.extra for extra in PINS.toolkits if extra.toolkit == row.toolkit}
            assert set(row.extras) <= known


def test_extras_of_the_toolkit_are_resolved() -> None:
    wanted = PINS.requirements("2.15.0")
    assert wanted is not None
    assert Version("13.4.1.3") in SpecifierSet(wanted["nvidia-cublas"])
    assert Version("13.0.0.1") not in SpecifierSet(wanted["nvidia-cublas"])
    assert PINS.requirements("2.99.0") is None


def test_indexes_hold_the_builds_of_the_releases() -> None:
    table = torch.package_indexes()
    for row in RELEASES.builds:
        index = table.index(f"cu{row.cuda.replace('.', '')}")
        assert index is not None
        assert row.torch in index.torch, row
    for index in table.indexes:
        assert index.url == f"https://download.pytorch.org/whl/{index.index}"
        assert index.cuda is None or index.index == f"cu{index.cuda.replace('.', '')}"
    assert table.index("cu112") is None
    assert [row.index for row in table.having("2.6.0+cu124")] == ["cu118", "cu124", "cu126"]


@pytest.mark.parametrize(
    ("module", "distribution"),
    [
        ("flash_attn_2_cuda", "flash-attn"),
        ("flash_attn.ops", "flash-attn"),
        ("selective_scan_cuda", "mamba-ssm"),
        ("vllm._C", "vllm"),
        ("torch_scatter._scatter_cuda", "torch-scatter"),
        ("exllamav2_kernels", "auto-gptq"),
        ("numpy", None),
        ("torch._C", None),
    ],
)
def test_the_package_of_a_compiled_module(module: str, distribution: str | None) -> None:
    row = torch.extensions().by_module(module)
    assert (row.distribution if row else None) == distribution


def test_broken_releases_are_named_by_release_and_platform() -> None:
    table = torch.broken_releases()
    assert not table.bugs("2.4.1", "windows")
    assert not table.bugs("2.4.0", "linux")
    assert not table.bugs("2.6.0+cu124", "linux", "12.4")
    assert [row.id for row in table.bugs("2.4.0+cpu", "windows")] == ["fbgemm-libomp-2.4.0"]
    assert table.bugs("2.6.0+cu126", "linux", "12.6")
    for row in table.releases:
        assert row.fixed_in is None or all(compare_releases(row.fixed_in, each) > 0 for each in row.torch)


def test_allocator_options() -> None:
    table = torch.alloc_conf()
    assert table.option("expandable_segment") is None
    row = table.option("expandable_segments")
    assert row is not None
    assert (row.kind, row.absent_in) == ("bool", ("2.0.1",))
    for option in table.options:
        assert not set(option.known_in) & set(option.absent_in)
    for variable in table.variables:
        assert not set(variable.known_in) & set(variable.absent_in)
