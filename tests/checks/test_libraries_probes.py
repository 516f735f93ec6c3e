"""The probes of the libraries check, on real files: environments, wheels, links, a cache that ldconfig wrote."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from envdoctor.api import Source
from envdoctor.host import Host
from envdoctor.platform import Platform, look_at_platform
from envdoctor.tree import host_tree
from envdoctor_checks.libraries.facts import LibraryCopies, RunPaths, WheelFiles
from envdoctor_checks.libraries.probe import current_directory, library_copies, search_path, stale_cache_lines
from envdoctor_checks.libraries.probe_wheels import run_paths, wheel_files
from envdoctor_checks.python.probe import distributions
from tests.support.libraries import build, install_wheel
from tests.support.torch_env import Environment

if TYPE_CHECKING:
    from pathlib import Path

CUDART = "nvidia/cuda_runtime/lib/libcudart.so.12"
RUNTIME = "nvidia-cuda-runtime-cu12"
LINUX = Platform(system="linux", machine=os.uname().machine, source=Source("file", "/etc/os-release"))
MACHINE = os.uname().machine

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to make libraries with")


@pytest.fixture
def cudart(tmp_path: Path) -> bytes:
    """A library of 64 KiB or so: large enough to be cut in the middle."""
    source = "const char filler[65536] = {1}; int cudaGetDeviceCount(int *n) { *n = 0; return 100; }\n"
    return build(tmp_path / "made" / "libcudart.so.12", source=source).read_bytes()


@pytest.fixture
def environment(tmp_path: Path, cudart: bytes) -> Environment:
    found = Environment(tmp_path / "env")
    install_wheel(found, RUNTIME, "12.8.90", {CUDART: cudart, "nvidia/cuda_runtime/include/cuda.h": b"//\n"})
    return found


def wheels_of(environment: Environment) -> WheelFiles:
    host, _, paths = environment.target()
    return wheel_files(host, distributions(host, paths)[0], LINUX)


def copies_in(environment: Environment, **variables: str) -> LibraryCopies:
    host, _, paths = environment.target(**variables)
    wheels = wheel_files(host, distributions(host, paths)[0], LINUX)
    return library_copies(host, LINUX, paths, wheels)


# What RECORD says.


def test_a_whole_wheel_has_no_problem(environment: Environment) -> None:
    (file,) = wheels_of(environment).files
    assert (file.distribution, file.version, file.problem) == (RUNTIME, "12.8.90", None)
    assert file.path == str(environment.site / CUDART)


def test_a_stripped_library_is_whole(environment: Environment) -> None:
    path = environment.site / CUDART
    before = path.stat().st_size
    subprocess.run(["strip", "--strip-all", str(path)], check=True)
    assert path.stat().st_size < before
    assert wheels_of(environment).files[0].problem is None


def test_a_deleted_library_is_missing(environment: Environment) -> None:
    (environment.site / CUDART).unlink()
    (file,) = wheels_of(environment).files
    assert file.problem == "missing"


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "empty"), (b"\x7fELF\x02\x01", "truncated"), (b"version https://git-lfs\n", "not-elf")],
)
def test_a_damaged_library(environment: Environment, content: bytes, problem: str) -> None:
    (environment.site / CUDART).write_bytes(content)
    assert wheels_of(environment).files[0].problem == problem


def test_a_library_that_was_cut_in_the_middle(environment: Environment, cudart: bytes) -> None:
    (environment.site / CUDART).write_bytes(cudart[: len(cudart) // 2])
    (file,) = wheels_of(environment).files
    assert (file.problem, file.recorded) == ("truncated", len(cudart))


def test_a_wheel_without_a_record_says_nothing(environment: Environment) -> None:
    (environment.site / "nvidia_cuda_runtime_cu12-12.8.90.dist-info" / "RECORD").unlink()
    assert wheels_of(environment).files == ()


# Copies.


def of_cudart(found: LibraryCopies, folder: Path) -> list[tuple[str, str | None, str | None]]:
    """Those below a folder: the machine that runs the tests may have a toolkit of its own."""
    return [
        (each.place, each.owner, each.problem)
        for each in found.of("libcudart")
        if each.path.startswith(str(folder))
    ]


def test_the_wheels_copy_has_an_owner(environment: Environment, tmp_path: Path) -> None:
    assert of_cudart(copies_in(environment), tmp_path) == [("wheel", RUNTIME, None)]


def test_a_copy_on_ld_library_path(environment: Environment, tmp_path: Path, cudart: bytes) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "libcudart.so.12.2.140").write_bytes(cudart)
    (tmp_path / "old" / "libcudart.so.12").symlink_to("libcudart.so.12.2.140")
    (tmp_path / "old" / "libcudart.so.11.0").symlink_to("nowhere")
    found = copies_in(environment, LD_LIBRARY_PATH=f"{tmp_path}/old:{tmp_path}/not-there")
    ours = {each.name: each for each in found.copies if each.place == "ld-library-path"}
    assert ours["libcudart.so.12"].file == str(tmp_path / "old" / "libcudart.so.12.2.140")
    assert ours["libcudart.so.11.0"].file is None


def test_a_wheels_folder_on_ld_library_path_is_still_the_wheels(
    environment: Environment, tmp_path: Path
) -> None:
    folder = environment.site / "nvidia" / "cuda_runtime" / "lib"
    assert of_cudart(copies_in(environment, LD_LIBRARY_PATH=str(folder)), tmp_path) == [
        ("wheel", RUNTIME, None)
    ]


def test_a_library_for_another_processor(environment: Environment, tmp_path: Path, cudart: bytes) -> None:
    other = 183 if MACHINE == "x86_64" else 62
    foreign = cudart[:18] + other.to_bytes(2, "little") + cudart[20:]
    (environment.site / CUDART).write_bytes(foreign)
    assert of_cudart(copies_in(environment), tmp_path) == [("wheel", RUNTIME, "wrong-machine")]


def test_a_linker_script_is_no_damaged_library(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "libcudart.so").write_text("/* GNU ld script */\nINPUT(libcudart.so.12)\n")
    found = of_cudart(copies_in(environment, LD_LIBRARY_PATH=str(tmp_path / "dev")), tmp_path / "dev")
    assert found == [("ld-library-path", None, None)]


# Run paths.


def test_run_paths_of_the_wheels(environment: Environment, tmp_path: Path) -> None:
    made = {
        "nvidia/cublas/lib/libcublas.so.12": ("-Wl,--enable-new-dtags,-rpath,$ORIGIN",),
        "nvidia/cusparselt/lib/libcusparseLt.so.0": ("-Wl,--disable-new-dtags,-rpath,$ORIGIN:",),
    }
    for path, flags in made.items():
        library = build(tmp_path / "made" / path.rpartition("/")[2], flags=flags)
        install_wheel(
            environment, f"nvidia-{path.split('/')[1]}-cu12", "12.8.4.1", {path: library.read_bytes()}
        )
    host, _, paths = environment.target()
    found: RunPaths = run_paths(host, wheel_files(host, distributions(host, paths)[0], LINUX), paths)
    told = {each.path.rpartition("/")[2]: (each.rpath, each.runpath) for each in found.libraries}
    assert told["libcublas.so.12"] == (None, "$ORIGIN")
    assert told["libcusparseLt.so.0"] == ("$ORIGIN:", None)
    assert told["libcudart.so.12"] == (None, None)


# LD_LIBRARY_PATH and the current directory.


def test_ld_library_path_element_by_element(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "file.so").write_text("")
    value = f"{tmp_path}/lib:{tmp_path}/file.so;{tmp_path}/gone:"
    host = Host.here(environ={"LD_LIBRARY_PATH": value})
    assert [each.state for each in search_path(host).entries] == ["directory", "file", "missing", "empty"]


@pytest.mark.parametrize("environ", [{}, {"LD_LIBRARY_PATH": ""}])
def test_an_unset_or_empty_variable_has_no_elements(environ: dict[str, str]) -> None:
    assert search_path(Host.here(environ=environ)).entries == ()


def test_what_lies_in_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").write_text("")
    (tmp_path / "notes.txt").write_text("")
    host = host_tree(tmp_path, cwd="/")
    assert current_directory(host).names == ("libcuda.so.1",)


# The loader's cache, written by the real ldconfig.


def written_cache(root: Path) -> Host:
    tool = shutil.which("ldconfig") or "/sbin/ldconfig"
    subprocess.run([tool, "-r", str(root), "-C", "/etc/ld.so.cache"], check=True, capture_output=True)
    return host_tree(root)


@pytest.mark.skipif(not os.path.exists("/sbin/ldconfig"), reason="no ldconfig")
def test_a_cache_line_whose_file_is_gone(tmp_path: Path, cudart: bytes) -> None:
    folder = tmp_path / "usr" / "local" / "cuda-12.2" / "lib64"
    folder.mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ld.so.conf").write_text("/usr/local/cuda-12.2/lib64\n")
    (folder / "libcudart.so.12").write_bytes(cudart)
    host = written_cache(tmp_path)
    assert stale_cache_lines(host).lines == ()
    (folder / "libcudart.so.12").unlink()
    (line,) = stale_cache_lines(host).lines
    assert (line.name, line.path) == ("libcudart.so.12", "/usr/local/cuda-12.2/lib64/libcudart.so.12")


def test_a_machine_without_a_cache(tmp_path: Path) -> None:
    assert stale_cache_lines(host_tree(tmp_path)).lines == ()


def test_this_machine_can_be_looked_at() -> None:
    host = Host.here()
    found = library_copies(host, look_at_platform(host), None, None)
    assert all(each.path.startswith("/") for each in found.copies)
    assert {each.library for each in found.copies} & {"libstdc++", "libgomp"}
