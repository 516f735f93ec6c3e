"""Whole looks at real environments that were broken in real ways: what the probes saw is what the rules name."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from envdoctor.check import Tier
from envdoctor.session import Doctor
from tests.support.cases import doctor, judged_facts
from tests.support.libraries import build, install_wheel, versioned
from tests.support.torch_env import Environment

if TYPE_CHECKING:
    from pathlib import Path

    from envdoctor.judging import Judged

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to make libraries with")

RUNTIME, CUBLAS = "nvidia-cuda-runtime-cu12", "nvidia-cublas-cu12"
CUDART = "nvidia/cuda_runtime/lib/libcudart.so.12"
LOADS_CUBLAS = """
import ctypes, pathlib
from .version import __version__
folder = pathlib.Path(__file__).resolve().parents[1] / "nvidia" / "cublas" / "lib"
ctypes.CDLL(str(folder / "libcublas.so.12"))
class cuda:
    is_available = staticmethod(lambda: False)
"""


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """A torch of our own making that pins two wheels, both installed: cudart, and cublas with its cublasLt."""
    found = Environment(tmp_path / "env")
    package = found.torch("2.8.0+cu128", "12.8", LOADS_CUBLAS)
    assert package.is_dir()
    found.metadata("torch", "2.8.0+cu128", f"{RUNTIME}==12.8.90", f"{CUBLAS}==12.8.4.1")
    cudart = build(tmp_path / "made" / "libcudart.so.12", source="int cudaMalloc(void) { return 0; }\n")
    install_wheel(found, RUNTIME, "12.8.90", {CUDART: cudart.read_bytes()})
    lt = versioned(tmp_path / "made" / "libcublasLt.so.12", "libcublasLt.so.12", "cublasLtOld", "cublasLtNew")
    source = "int cublasLtNew(void); int cublasCreate(void) { return cublasLtNew(); }\n"
    cublas = build(
        tmp_path / "made" / "libcublas.so.12",
        source=source,
        needs=(lt,),
        flags=("-Wl,-z,now", "-Wl,--enable-new-dtags,-rpath,$ORIGIN"),
    )
    folder = "nvidia/cublas/lib"
    files = {f"{folder}/{each.name}": each.read_bytes() for each in (cublas, lt)}
    install_wheel(found, CUBLAS, "12.8.4.1", files)
    return found


def findings(environment: Environment, tier: Tier, **variables: str) -> list[Judged]:
    host = environment.host(**variables)
    seen = Doctor(doctor().plugins).look(host, tier=tier, python=environment.python)
    assert seen.looked is not None
    assert seen.looked.crashed == {}
    return [each for each in judged_facts(seen.facts).findings if each.check == "libraries"]


def loud(found: list[Judged]) -> list[tuple[str, str, str]]:
    return [
        (each.rule, each.finding.subject, each.finding.severity.value)
        for each in found
        if each.finding.severity.value != "note"
    ]


def test_a_whole_environment_is_left_alone(environment: Environment) -> None:
    assert loud(findings(environment, Tier.QUICK)) == []
    assert loud(findings(environment, Tier.DEFAULT)) == []


def test_folders_that_do_not_exist_are_left_alone(environment: Environment, tmp_path: Path) -> None:
    path = f"/usr/local/nvidia/lib:/usr/local/nvidia/lib64:{tmp_path}/cuda/lib64"
    assert loud(findings(environment, Tier.DEFAULT, LD_LIBRARY_PATH=path)) == []


def test_a_deleted_libcudart(environment: Environment) -> None:
    (environment.site / CUDART).unlink()
    found = next(each for each in findings(environment, Tier.QUICK) if each.finding.severity.value == "error")
    assert loud([found]) == [("libraries/cudart-missing", "library:libcudart.so.12", "error")]
    (remedy,) = found.finding.remedies
    assert getattr(remedy, "requirements", ()) == (f"{RUNTIME}==12.8.90",)


def test_an_empty_libcudart(environment: Environment) -> None:
    (environment.site / CUDART).write_bytes(b"")
    found = findings(environment, Tier.QUICK)
    assert loud(found) == [("libraries/library-corrupt", "library:libcudart.so.12", "error")]


def test_a_wheel_that_is_not_at_its_pin(environment: Environment) -> None:
    old = environment.site / "nvidia_cuda_runtime_cu12-12.8.90.dist-info"
    old.rename(environment.site / "nvidia_cuda_runtime_cu12-12.6.77.dist-info")
    found = findings(environment, Tier.QUICK)
    assert loud(found) == [("libraries/wheel-pins-violated", f"distribution:{RUNTIME}", "warning")]


def test_an_older_copy_on_ld_library_path(environment: Environment, tmp_path: Path) -> None:
    """cublas has DT_RUNPATH, which LD_LIBRARY_PATH beats: the import fails, and the loader's trace shows why."""
    versioned(tmp_path / "cuda-12.1" / "libcublasLt.so.12", "libcublasLt.so.12", "cublasLtOld")
    found = findings(environment, Tier.DEFAULT, LD_LIBRARY_PATH=str(tmp_path / "cuda-12.1"))
    first = next(each for each in found if each.is_root)
    assert first.rule == "libraries/shadowed-by-ld-library-path"
    assert first.finding.severity.value == "error"
    assert any(str(tmp_path) in each.value for each in first.finding.evidence)


def test_a_copy_that_works_is_no_error(environment: Environment, tmp_path: Path) -> None:
    versioned(tmp_path / "cuda" / "libcublasLt.so.12", "libcublasLt.so.12", "cublasLtOld", "cublasLtNew")
    found = loud(findings(environment, Tier.DEFAULT, LD_LIBRARY_PATH=str(tmp_path / "cuda")))
    assert ("libraries/shadowed-by-ld-library-path", "library:libcublasLt.so.12", "warning") in found
    assert all(severity == "warning" for _, _, severity in found)


def test_a_library_that_is_cut_off_is_what_the_import_fails_for(environment: Environment) -> None:
    (environment.site / "nvidia/cublas/lib/libcublasLt.so.12").write_bytes(b"\x7fELF")
    found = findings(environment, Tier.DEFAULT)
    assert found[0].rule == "libraries/library-corrupt"
    assert found[0].finding.subject == "library:libcublasLt.so.12"
