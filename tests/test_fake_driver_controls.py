"""What a scenario can have the fake driver do, what CUDA_VISIBLE_DEVICES does to it, and its files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tests.support.ask_driver import CUDA, DEADLINE, NVML, ask, base_environ, child, command
from tests.support.fake_driver import SCENARIOS, SOURCES, FakeDriver, build

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> FakeDriver:
    return FakeDriver(build(tmp_path_factory.mktemp("driver")))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.conf"
    path.write_text(text, encoding="utf-8")
    return path


# What a scenario can have a function do.


def test_trouble_can_come_late_and_to_one_gpu(driver: FakeDriver, tmp_path: Path) -> None:
    late = "[gpu 1]\nfail.nvmlDeviceGetName = 15\nafter.nvmlDeviceGetName = 2\n"
    own = write(tmp_path, f"include = {SCENARIOS}/h100x8.conf\ngpus = 2\n{late}")
    program = """
import json, pynvml as n
n.nvmlInit()
def name(i):
    try:
        return n.nvmlDeviceGetName(n.nvmlDeviceGetHandleByIndex(i))
    except n.NVMLError as error:
        return error.value
print(json.dumps([name(i) for i in (0, 1, 0, 1, 0, 1, 1)]))
"""
    h100 = "NVIDIA H100 80GB HBM3"
    assert json.loads(child(driver, own, program).stdout) == [h100, h100, h100, h100, h100, 15, 15]


def test_a_deaf_hang_outlives_sigterm(driver: FakeDriver, tmp_path: Path) -> None:
    own = write(tmp_path, "gpus = 1\nprint.cuInit = here\nhang.cuInit = deaf\n")
    program = "import ctypes; ctypes.CDLL('libcuda.so.1').cuInit(0)"
    deaf = subprocess.Popen(
        command(program),
        env=driver.environ(own, base_environ()),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert deaf.stdout
    try:
        assert deaf.stdout.readline() == "here\n"
        while "SigBlk:\t0000000000000000" in _status(deaf.pid):  # it says "here" just before it goes deaf
            time.sleep(0.01)
        deaf.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            deaf.wait(0.3)
    finally:
        deaf.kill()
        deaf.stdout.close()
        assert deaf.wait(DEADLINE) == -signal.SIGKILL


def _status(pid: int) -> str:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return file.read()


def test_a_sleep_ends(driver: FakeDriver, tmp_path: Path) -> None:
    own = write(tmp_path, f"include = {SCENARIOS}/a100.conf\nsleep.cuInit = 0.3\n")
    before = time.monotonic()
    assert ask(driver, own, CUDA)["init"] == "CUDA_SUCCESS"
    assert time.monotonic() - before >= 0.3


@pytest.mark.parametrize("line", ["no equals sign", "[gpu x]", "gpus = many", "include = nowhere.conf"])
def test_a_scenario_that_makes_no_sense_is_loud(driver: FakeDriver, tmp_path: Path, line: str) -> None:
    done = child(driver, write(tmp_path, line + "\n"), NVML)
    assert done.returncode == -signal.SIGABRT
    assert "fake driver: " in done.stderr


# CUDA_VISIBLE_DEVICES: the indices that are left, of four GPUs.

UUID = "GPU-5f1c3a70-9b2e-4d61-8c47-3e0a91b7d20"
VISIBLE = [
    ("0,1,2,3", [0, 1, 2, 3]),
    ("2,0", [2, 0]),
    (" 1, 3", [1, 3]),
    ("1gpu", [1]),
    ("", []),
    ("-1", []),
    ("-1,0", []),
    ("1,-1,0", [1]),
    ("0,9,1", [0]),
    ("none", []),
    ("1,1", []),
    (f"{UUID}3,{UUID}1", [3, 1]),
    (UUID, []),
    (f"{UUID}2,0", [2]),
    (f"0,{UUID}2", [0]),
    ("GPU-00000000", []),
]


@pytest.mark.parametrize(("value", "left"), VISIBLE)
def test_cuda_visible_devices(driver: FakeDriver, tmp_path: Path, value: str, left: list[int]) -> None:
    own = write(tmp_path, f"include = {SCENARIOS}/h100x8.conf\ngpus = 4\n")
    answer = ask(driver, own, CUDA, CUDA_VISIBLE_DEVICES=value)
    assert answer["init"] == ("CUDA_SUCCESS" if left else "CUDA_ERROR_NO_DEVICE")
    assert [int(d["uuid"][-1]) for d in answer.get("devices", [])] == left


# The files.

VERBS = "(?:fail|hang|sleep|crash|garbage|print|after)"

PROC = r"""
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
def find(symbol, version):
    function, status = ctypes.c_void_p(), ctypes.c_int(-1)
    flags = ctypes.c_uint64(0)
    code = cuda.cuGetProcAddress_v2(symbol, ctypes.byref(function), version, flags, ctypes.byref(status))
    own = [n for n in ("cuInit", "cuDeviceGetUuid", "cuDeviceGetUuid_v2")
           if ctypes.cast(getattr(cuda, n), ctypes.c_void_p).value == function.value]
    return [code, status.value, own]
print(json.dumps([find(b"cuInit", 12000), find(b"cuDeviceGetUuid", 11000), find(b"cuDeviceGetUuid", 12000),
                  find(b"cuDeviceGetUuid", 9000), find(b"cuNothing", 12000)]))
"""


def test_functions_are_found_by_name_and_version(driver: FakeDriver) -> None:
    assert json.loads(child(driver, "h100x8", PROC).stdout) == [
        [0, 0, ["cuInit"]],
        [0, 0, ["cuDeviceGetUuid"]],
        [0, 0, ["cuDeviceGetUuid_v2"]],
        [500, 2, []],
        [500, 1, []],
    ]


def symbols(library: Path) -> set[str]:
    with library.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".dynsym")
        assert isinstance(section, SymbolTableSection)
        return {symbol.name for symbol in section.iter_symbols() if symbol["st_shndx"] != "SHN_UNDEF"}


def soname(library: Path) -> str:
    with library.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".dynamic")
        assert isinstance(section, DynamicSection)
        (tag,) = section.iter_tags("DT_SONAME")
        return str(vars(tag)["soname"])


def test_an_installed_driver_has_the_names_of_a_package(driver: FakeDriver, tmp_path: Path) -> None:
    target = driver.install(tmp_path, release="535.183.01", libdir="usr/lib64")
    assert target == tmp_path / "usr/lib64"
    for library in ("libcuda.so", "libnvidia-ml.so"):
        assert (target / library).resolve() == target / f"{library}.535.183.01"
        assert os.readlink(target / library) == f"{library}.1"
        assert soname(target / library) == f"{library}.1"
    assert len(list(target.iterdir())) == 6
    assert driver.install(tmp_path, libdir="usr/lib64") == target


def test_scenarios_name_only_functions_that_exist(driver: FakeDriver) -> None:
    known = symbols(driver.lib_dir / "libcuda.so.1") | symbols(driver.lib_dir / "libnvidia-ml.so.1")
    assert {"nvmlInit_v2", "cuInit", "cuGetProcAddress_v2"} <= known
    for path in SCENARIOS.glob("*.conf"):
        for pattern in re.findall(rf"^{VERBS}\.(\S+) *=", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert any(fnmatch(name, pattern) for name in known), (path.name, pattern)


def test_scenarios_use_only_keys_that_the_sources_read() -> None:
    """A misspelt key would be read as one that is missing: "Not Supported"."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES.glob("*.c"))
    words = set(re.findall(r'"([a-z0-9_.]+)"', source)) | {"include"}
    for path in SCENARIOS.glob("*.conf"):
        for key in re.findall(r"^([a-z][\w.]*) *=", path.read_text(encoding="utf-8"), re.MULTILINE):
            bare = re.sub(r"^mig\.\d+\.|\.\d+$", "", key)  # of a MIG instance, of one link
            prefix, _, last = bare.rpartition(
                "."
            )  # the sources put some keys together from two or more words
            built = last in words and (prefix in words or set(prefix.split(".")) <= words)
            assert bare in words or built or re.match(rf"{VERBS}\.|process\.\d+\.name$", key), (
                path.name,
                key,
            )
