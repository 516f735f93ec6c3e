"""The tables of the driver and gpu checks, against each other and on names as they are printed."""

from __future__ import annotations

import itertools

import pytest

from envdoctor.tables import compare_releases, release_key
from envdoctor_checks.driver import tables as driver
from envdoctor_checks.gpu import tables as gpu
from envdoctor_checks.kernel import tables as kernel

# --- driver

FLOORS = driver.cuda_floors()


def test_floors_rise_with_cuda() -> None:
    floors = [release_key(row.linux) for row in FLOORS.families]
    assert floors == sorted(floors)
    assert [row.cuda_major for row in FLOORS.families] == sorted(row.cuda_major for row in FLOORS.families)


def test_drivers_rise_with_toolkits() -> None:
    by_cuda = sorted(FLOORS.toolkits, key=lambda row: (release_key(row.cuda), row.update))
    drivers = [release_key(row.linux) for row in by_cuda]
    assert drivers == sorted(drivers)


@pytest.mark.parametrize("platform", ["linux", "windows"])
def test_no_toolkit_ships_a_driver_below_its_family_floor(platform: driver.Platform) -> None:
    for row in FLOORS.toolkits:
        floor, shipped = FLOORS.minimum_driver(row.cuda, platform), getattr(row, platform)
        if floor and shipped and row.cuda != "11.0":  # 11.0 came before minor-version compatibility
            assert compare_releases(shipped, floor) >= 0, row


def test_branches_agree_with_the_drivers_of_the_toolkits() -> None:
    for row in FLOORS.toolkits:
        if release_key(row.cuda) >= (9,):
            assert FLOORS.native_cuda(row.linux) == row.cuda, row
    natives = [release_key(row.cuda) for row in FLOORS.branches if row.cuda]
    assert natives == sorted(natives)


@pytest.mark.parametrize(
    ("cuda", "platform", "expected"),
    [
        ("12.8", "linux", "525.60.13"),
        ("12.8.93", "linux", "525.60.13"),
        ("11.8", "windows", "452.39"),
        ("10.2", "linux", "440.33"),
        ("13.2", "linux", "580.65.06"),
        ("13.2", "windows", None),
        ("14.0", "linux", None),
        ("13.0", "linux", "580.65.06"),
    ],
)
def test_minimum_driver(cuda: str, platform: driver.Platform, expected: str | None) -> None:
    assert FLOORS.minimum_driver(cuda, platform) == expected


@pytest.mark.parametrize(
    ("release", "cuda"),
    [
        ("535.183.01", "12.2"),
        ("537.13", "12.2"),
        ("551.61", "12.4"),
        ("580.159.03", "13.0"),
        ("620.10", None),
        ("340.108", None),
    ],
)
def test_native_cuda_of_a_driver(release: str, cuda: str | None) -> None:
    assert FLOORS.native_cuda(release) == cuda


def test_a_driver_that_speaks_a_cuda_runs_its_whole_family() -> None:
    for row in FLOORS.branches:
        if row.cuda and (floor := FLOORS.minimum_driver(row.cuda)) and row.branch >= 525:
            assert compare_releases(f"{row.branch}.999", floor) > 0, row


def test_forward_compatibility_names_every_branch_once_per_package() -> None:
    table = driver.forward_compatibility()
    branches = {row.branch: row.cuda for row in FLOORS.branches}
    for row in table.packages:
        named = row.works_on + row.needless_on + row.refused_on
        assert len(named) == len(set(named)) == 7, row
        assert row.package == f"cuda-compat-{row.cuda.replace('.', '-')}"
        for branch in named:
            native = branches[branch]
            assert native is not None
            assert (compare_releases(native, row.cuda) == 0) == (branch in row.needless_on), (row, branch)
            assert compare_releases(native, row.cuda) < 0 or branch not in row.works_on
    assert table.works("13.0", 535) is True
    assert table.works("12.2", 580) is False
    assert table.works("13.0", 550) is None


def test_architectures_fit_the_toolkits_that_were_read() -> None:
    chains = kernel.toolchains()
    for row in driver.architectures().capabilities:
        for chain in chains.toolchains:
            knows = chains.knows(chain.cuda, row.compute_capability)
            if knows is None:
                continue
            first = compare_releases(row.first_toolkit, chain.cuda) <= 0
            last = row.last_toolkit is None or compare_releases(row.last_toolkit, chain.cuda) >= 0
            assert knows == (first and last), (row.compute_capability, chain.cuda)


def test_architectures_whose_last_branch_is_named_agree_with_the_branches() -> None:
    last = {name: row.branch for row in FLOORS.branches for name in row.last_for}
    for row in driver.architectures().capabilities:
        assert last.get(row.architecture) == row.last_branch, row


def test_kernel_modules_of_a_gpu() -> None:
    table = driver.architectures()
    assert table.kernel_modules("9.0", "NVIDIA H100 80GB HBM3") == "either"
    assert table.kernel_modules("9.0", "NVIDIA GH200 480GB") == "open"
    assert table.kernel_modules("12.0", "NVIDIA GeForce RTX 5090") == "open"
    assert table.kernel_modules("6.1") == "proprietary"
    assert table.kernel_modules("99.0") is None


def test_bad_releases_have_a_cure_and_a_range() -> None:
    table = driver.known_bad_releases()
    assert not table.bugs("535.154.05", "NVIDIA GeForce RTX 4090")
    assert not table.bugs("545.23.08", "NVIDIA H100 80GB HBM3")
    assert not table.bugs("545.23.08", "NVIDIA GeForce RTX 4090", "windows")
    assert [row.id for row in table.bugs("545.23.08", "NVIDIA GeForce RTX 4090")] == ["p2p-geforce-40-r545"]
    for row in table.releases:
        assert compare_releases(row.first, row.last) <= 0
        assert row.fixed_in or row.good
        for good in (*row.good, *([row.fixed_in] if row.fixed_in else [])):
            assert not compare_releases(row.first, good) <= 0 <= compare_releases(row.last, good)


def test_codes_agree_with_the_management_library() -> None:
    pynvml = pytest.importorskip("pynvml")
    codes = driver.codes()
    theirs = {name: value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}
    for row in codes.nvml:
        if row.name in theirs:
            assert theirs[row.name] == row.code
    for action in codes.recovery_actions:
        assert getattr(pynvml, action.name, action.value) == action.value
    for state in codes.fabric_states:
        assert getattr(pynvml, state.name, state.value) == state.value
    for reason in codes.clock_reasons:
        value = getattr(pynvml, f"nvmlClocksEventReason{reason.name}", None)
        assert value in (None, reason.bit), reason


def test_codes_are_found_by_number_and_by_name() -> None:
    codes = driver.codes()
    for found in (802, "CUDA_ERROR_SYSTEM_NOT_READY", "cudaErrorSystemNotReady"):
        row = codes.cuda_error(found)
        assert row is not None
        assert row.code == 802
    assert codes.cuda_error(12345) is None
    assert codes.cuda_error("") is None
    assert codes.smi_exit(9) is not None
    assert [row.name for row in codes.clocks_held_by(0x48)] == ["HwSlowdown", "HwThermalSlowdown"]
    for row in codes.cuda:
        assert row.driver_name or row.runtime_name


# --- gpu


@pytest.mark.parametrize(
    ("printed", "capability"),
    [
        ("NVIDIA GeForce RTX 4090", "8.9"),
        ("NVIDIA H100 80GB HBM3", "9.0"),
        ("NVIDIA H100 PCIe", "9.0"),
        ("Tesla V100-SXM2-16GB", "7.0"),
        ("NVIDIA GB10", "12.1"),
        ("Quadro RTX 5000", "7.5"),
        ("NVIDIA RTX 5000 Ada Generation", "8.9"),
        ("NVIDIA A100-SXM4-40GB", "8.0"),
        ("NVIDIA A10", "8.6"),
        ("Tesla K40m", "3.5"),
        ("TITAN RTX", "7.5"),
        ("NVIDIA TITAN X (Pascal)", "6.1"),
        ("GeForce GTX TITAN X", "5.2"),
        ("NVIDIA GeForce RTX 3080 Ti Laptop GPU", "8.6"),
        ("NVIDIA GeForce RTX 2050", "8.6"),
        ("GeForce MX450", "7.5"),
        ("Tesla T4", "7.5"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "12.0"),
        ("NVIDIA RTX PRO 6000 Blac...", "12.0"),
        ("Tesla V100-SXM2...", "7.0"),
        ("GeForce RTX 208...", "7.5"),
        ("NVIDIA A100-SXM...", "8.0"),
        ("NVIDIA GH200 480GB", "9.0"),
        ("GRID T4-16Q", "7.5"),
        ("Orin", "8.7"),
        ("NVIDIA GeForce ...", None),
        ("NVIDIA", None),
        ("", None),
        ("...", None),
        ("AMD Instinct MI300X", None),
        ("NVIDIA GeForce RTX 9090", None),
    ],
)
def test_capability_of_a_printed_name(printed: str, capability: str | None) -> None:
    row = gpu.compute_capabilities().of(printed)
    assert (row.compute_capability if row else None) == capability


def test_every_gpu_has_a_known_architecture() -> None:
    known = {row.compute_capability: row.architecture for row in driver.architectures().capabilities}
    named = [(row.compute_capability, row.architecture) for row in gpu.compute_capabilities().gpus]
    chips = [(row.compute_capability, row.architecture) for row in gpu.pci_ids().devices]
    for capability, architecture in (*named, *chips):
        assert known[capability] == architecture, capability


def test_every_gpu_is_found_by_its_own_name() -> None:
    table = gpu.compute_capabilities()
    for row in table.gpus:
        assert table.of(row.name) == row
        assert table.of(f"NVIDIA {row.name}") == row


def test_pci_ranges_do_not_overlap() -> None:
    table = gpu.pci_ids()
    for before, after in itertools.pairwise(table.devices):
        assert before.first <= before.last < after.first <= after.last


@pytest.mark.parametrize(
    ("device_id", "chip"), [(0x2684, "AD102"), (0x2330, "GH100"), (0x2B85, "GB202"), (0x0001, None)]
)
def test_chip_of_a_pci_device(device_id: int, chip: str | None) -> None:
    row = gpu.pci_ids().chip(device_id)
    assert (row.chip if row else None) == chip


def test_xids_and_unused_numbers_do_not_mix() -> None:
    table = gpu.xids()
    numbers = [row.number for row in table.xids]
    assert numbers == sorted(numbers)
    assert not set(numbers) & set(table.unused)
    assert set(range(1, 174)) == set(numbers) | set(table.unused)


def test_xid_policy() -> None:
    table = gpu.xids()
    known = {row.number: row for row in table.xids}
    assert {known[number].blame for number in (13, 31, 43, 45)} == {"application"}
    assert {known[number].fatal_for for number in (79, 62, 64, 95, 119, 120, 140, 143)} == {"gpu"}
    assert (known[79].action, known[54].action) == ("restart-machine", "check-mechanics")
    assert (table.xid(31), table.xid(1)) == (known[31], None)
    for row in table.xids:
        assert row.action != "ignore" or row.fatal_for in ("nothing", "process"), row
        assert row.action not in ("reset", "restart-machine") or row.fatal_for == "gpu", row
