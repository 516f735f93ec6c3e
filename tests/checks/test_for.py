"""GPUs that are not here: what torch, driver, Triton and NVRTC make of them, and a kernel that is really compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from envdoctor.asked import Asked, asked
from envdoctor.facts import CouldNotLook, Fact, Facts, LeftOut, Source
from envdoctor.findings import Finding
from envdoctor.host import Host
from envdoctor.injecting import call_with
from envdoctor.outcomes import Link, Outcome, causes_of
from envdoctor.platform import Platform
from envdoctor.target import Target, TargetPaths
from envdoctor_checks.driver.tables import architectures, cuda_floors
from envdoctor_checks.kernel.facts import PtxAssembler, PtxAssemblers
from envdoctor_checks.kernel.facts_for import CompiledFor, TargetCompile
from envdoctor_checks.kernel.headlines_for import for_rows
from envdoctor_checks.kernel.probe_for import compiled_for
from envdoctor_checks.kernel.reasoning_for import (
    Outlook,
    capability_of,
    driver_needs,
    floor_of,
    outlooks,
    triton_assembler,
)
from envdoctor_checks.kernel.tables import triton
from envdoctor_checks.python.facts import Distribution, Distributions
from envdoctor_checks.torch.advice import advice
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda
from tests.support.cases import judged_facts

SOURCE = Source("file", "/a/case")
CU128 = TorchBuild(version="2.8.0+cu128", torch_cuda="12.8", source=SOURCE)
LINUX = Platform(system="linux", machine="x86_64", source=SOURCE)
REFUSED = "Error: PTXAS error\n`ptxas` stderr:\nptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'"


def question(architectures: str, driver: str | None = None) -> Asked:
    found = asked(deep=False, device="auto", architectures=architectures, driver=driver)
    assert found is not None
    return found


def code(*archs: str) -> TorchCuda:
    return TorchCuda(available=False, arch_list=archs, source=SOURCE)


def packages(**versions: str) -> Distributions:
    found = tuple(Distribution(name=name, version=version) for name, version in versions.items())
    return Distributions(distributions=found, source=SOURCE)


def outlook(architecture: str, build: TorchBuild = CU128, cuda: TorchCuda | None = None) -> Outlook:
    return outlooks(question(architecture), build, cuda, LINUX, advice(), architectures())[0]


def said(rule: str, *facts: Fact) -> list[Finding]:
    return [each.finding for each in judged_facts(Facts.of(*facts)).findings if each.rule == rule]


# What torch has for a GPU.


@pytest.mark.parametrize(
    ("architecture", "capability"),
    [("sm_90", "9.0"), ("sm_90a", "9.0"), ("sm_100f", "10.0"), ("sm_121", "12.1")],
)
def test_an_architecture_names_a_capability(architecture: str, capability: str) -> None:
    assert capability_of(architecture) == capability


@pytest.mark.parametrize(
    ("architecture", "archs", "piece", "how"),
    [
        ("sm_90", ("sm_80", "sm_90", "compute_90"), "sm_90", "machine-code"),
        ("sm_90a", ("sm_80", "sm_90"), "sm_90", "machine-code"),
        ("sm_89", ("sm_80", "sm_86", "sm_90"), "sm_86", "machine-code"),
        ("sm_121", ("sm_100", "sm_120"), "sm_120", "machine-code"),
        ("sm_120", ("sm_90", "compute_80", "compute_90", "compute_100"), "compute_100", "ptx"),
        ("sm_103", ("sm_100a", "sm_120"), None, None),
        ("sm_103", ("sm_100f", "sm_120"), "sm_100f", "machine-code"),
        ("sm_86", ("sm_89", "sm_90"), None, None),
        ("sm_87", ("sm_80", "sm_86"), None, None),
        ("sm_90", ("sm_80", "compute_100"), None, None),
    ],
)
def test_what_a_gpu_runs_of_the_code(
    architecture: str, archs: tuple[str, ...], piece: str | None, how: str | None
) -> None:
    found = outlook(architecture, cuda=code(*archs))
    assert (found.piece, found.how) == (piece, how)


def test_the_code_of_a_published_wheel_is_known_without_asking_it() -> None:
    assert outlook("sm_120").piece == "sm_120"
    assert (
        outlook("sm_120", TorchBuild(version="2.8.0+cu126", torch_cuda="12.6", source=SOURCE)).piece is None
    )
    nightly = TorchBuild(version="2.10.0.dev20251101+cu128", torch_cuda="12.8", source=SOURCE)
    assert outlook("sm_120", nightly).code is None


# What is asked of a driver.


@pytest.mark.parametrize(
    ("architecture", "archs", "floor"),
    [
        ("sm_80", ("sm_80",), "525.60.13"),
        ("sm_120", ("sm_120",), "570.26"),
        ("sm_90", ("compute_80",), "570.26"),
        ("sm_87", ("sm_87",), None),
    ],
)
def test_the_highest_floor_counts(architecture: str, archs: tuple[str, ...], floor: str | None) -> None:
    """Of torch's CUDA, of the GPU, of PTX that must be compiled; JetPack's drivers have other numbers."""
    needs = driver_needs(outlook(architecture, cuda=code(*archs)), "12.8", cuda_floors(), windows=False)
    assert floor_of(needs) == floor


# Triton, ptxas and NVRTC: the signs.


def test_what_fits_is_silent() -> None:
    facts = (question("sm_90,sm_120", "580.65.06"), CU128, packages(torch="2.8.0", triton="3.4.0"), LINUX)
    loud = [each for each in judged_facts(Facts.of(*facts)).findings if each.finding.severity.value != "note"]
    assert loud == []


def test_no_triton_for_the_gpus_asked_about() -> None:
    facts = (CU128, packages(torch="2.8.0"), LINUX)
    alone = said("kernel/triton-missing", *facts)
    assert [each.severity.value for each in alone] == ["note"]
    found = said("kernel/triton-missing", question("sm_90"), *facts)
    assert [each.severity.value for each in found] == ["warning"]


def test_a_gpu_older_than_tritons_first() -> None:
    build = TorchBuild(version="2.7.1+cu126", torch_cuda="12.6", source=SOURCE)
    facts = (question("sm_61,sm_70"), build, packages(torch="2.7.1", triton="3.3.1"))
    assert [each.subject for each in said("kernel/triton-needs-newer-gpu", *facts)] == ["gpu:sm_61"]


def assembler(cuda: str) -> PtxAssemblers:
    row = PtxAssembler("/v/triton/backends/nvidia/bin/ptxas", cuda, "triton")
    return PtxAssemblers(assemblers=(row,), source=SOURCE)


def tried(architecture: str, *, ok: bool, error: str = "") -> CompiledFor:
    row = TargetCompile(architecture, ok=ok, seconds=0.25, ptx_version="8.7", cubin_bytes=5256, error=error)
    return CompiledFor(triton="3.4.0", targets=(row,), source=SOURCE)


def test_ptxas_against_a_gpu_that_is_not_here() -> None:
    facts = (question("sm_90,sm_121"), CU128, packages(torch="2.8.0", triton="3.4.0"))
    rule = "kernel/ptxas-too-old-for-gpu"
    assert said(rule, *facts, assembler("12.9.86")) == []
    assert [each.subject for each in said(rule, *facts, assembler("12.8.93"))] == ["gpu:sm_121"]


def test_what_was_tried_beats_what_the_tables_say() -> None:
    facts = (question("sm_121"), CU128, packages(torch="2.8.0", triton="3.4.0"), assembler("12.8.93"))
    assert said("kernel/ptxas-too-old-for-gpu", *facts, tried("sm_121", ok=True)) == []
    found = said("kernel/ptxas-too-old-for-gpu", *facts, tried("sm_121", ok=False, error=REFUSED))
    assert "sm_121a" in found[0].evidence[0].value
    assert said("kernel/compile-failed", *facts, tried("sm_121", ok=False, error=REFUSED)) == []


def test_a_failure_of_which_nothing_is_known_is_shown_as_it_is() -> None:
    facts = (question("sm_120"), CU128, packages(torch="2.8.0", triton="3.4.0"))
    assert said("kernel/compile-failed", *facts, tried("sm_120", ok=True)) == []
    found = said(
        "kernel/compile-failed", *facts, tried("sm_120", ok=False, error="LLVM ERROR: Cannot select")
    )
    assert [each.subject for each in found] == ["gpu:sm_120"]
    assert "Cannot select" in found[0].detail


def test_the_assembler_of_a_release_that_was_not_asked_is_taken_from_the_table() -> None:
    one = outlook("sm_120")
    known = packages(triton="3.7.0")
    assert triton_assembler(one, question("sm_120"), None, known, triton()) == "13.1"
    assert triton_assembler(one, question("sm_120"), assembler("12.9.86"), known, triton()) == "12.9.86"
    assert triton_assembler(one, question("sm_120"), None, packages(), triton()) is None


def test_a_driver_older_than_the_cubins_of_triton() -> None:
    facts = (CU128, packages(torch="2.8.0", triton="3.7.0"))
    rule = "kernel/triton-needs-newer-driver"
    assert said(rule, question("sm_120", "580.65.06"), *facts) == []
    assert said(rule, question("sm_90", "570.26"), *facts) == []
    assert [each.subject for each in said(rule, question("sm_120", "570.26"), *facts)] == ["gpu:sm_120"]


def test_an_absent_gpu_explains_nothing_that_fails_here() -> None:
    found = said("torch/arch-not-in-build", question("sm_61"), CU128)
    absent = Link(found[0].breaks, found[0].shows, may_explain=True)
    for outcome in ("kernel-on-gpu", "compile", "cuda-available", "collective"):
        here = Link((), (Outcome(outcome),), may_explain=True)
        assert causes_of([absent, here]) == ((), ())


# The row of the summary.


def row(architecture: str, *facts: Fact, driver: str | None = None) -> str:
    rows = list(call_with(for_rows, Facts.of(question(architecture, driver), *facts)))
    assert [each.label for each in rows] == [f"for {architecture}"]
    return str(rows[0].value)


def test_a_yes_says_what_it_rests_on() -> None:
    facts = (CU128, packages(torch="2.8.0", triton="3.4.0"))
    assert row("sm_120", *facts, tried("sm_120", ok=True)) == (
        "runs: sm_120 code in torch 2.8.0+cu128; needs driver 570.26 or later, with the open kernel modules; "
        "Triton 3.4.0 compiled a kernel (PTX 8.7, cubin of 5256 bytes, 0.2 s)"
    )
    told = row("sm_90", *facts, driver="535.104.05")
    assert told.startswith("runs: ")
    assert "minor-version compatibility (it speaks CUDA 12.2, and compiles no PTX of CUDA 12.8)" in told
    assert told.endswith("compiling with Triton 3.4.0 was not tried")


@pytest.mark.parametrize(
    ("architecture", "driver", "facts", "starts"),
    [
        ("sm_90", None, (), "cannot tell: nothing is recorded of torch"),
        ("sm_999", None, (CU128,), "cannot tell: no GPU of that architecture"),
        ("sm_90", None, (TorchBuild(version=None, source=SOURCE),), "does not run: torch is not installed"),
        (
            "sm_90",
            None,
            (TorchBuild(version="2.8.0+cpu", source=SOURCE),),
            "does not run: torch 2.8.0+cpu is not",
        ),
        ("sm_61", None, (CU128,), "does not run: torch 2.8.0+cu128 has code for sm_70 "),
        ("sm_120", "535.104.05", (CU128,), "does not run: driver 535.104.05 is too old, 570.26 or later"),
        ("sm_70", "590.44.01", (CU128,), "does not run: driver 590.44.01 is too new, 580 is the last"),
    ],
)
def test_a_no_says_why(architecture: str, driver: str | None, facts: tuple[Fact, ...], starts: str) -> None:
    assert row(architecture, *facts, driver=driver).startswith(starts)


# Compiling for it. The stand-in for Triton is a program that behaves as one of them does; the child is a real one.

STAND_IN = """
import os, sys, types
__version__ = "3.4.0"
jit = lambda function: function
def module(name, **names):
    made = types.ModuleType(name)
    made.__dict__.update(names)
    sys.modules[name] = made
class GPUTarget:
    def __init__(self, backend, arch, warp):
        self.arch = arch
class ASTSource:
    def __init__(self, fn, signature):
        pass
class Compiled:
    def __init__(self, arch):
        self.asm = {"ptx": ".version 8.7\\n.target sm_%da\\n" % arch, "cubin": b"x" * arch}
def compile(source, target):
    assert os.environ["TRITON_CACHE_DIR"].startswith(os.environ["TMPDIR"])
    if target.arch == 61:
        os.abort()
    if target.arch == 121:
        raise RuntimeError("ptxas fatal : Value 'sm_121a' is not defined")
    return Compiled(target.arch)
module("triton.language", constexpr=int)
module("triton.backends")
module("triton.backends.compiler", GPUTarget=GPUTarget)
module("triton.compiler", ASTSource=ASTSource)
language = sys.modules["triton.language"]
"""


def interpreter(python: str = sys.executable) -> Target:
    return Target(python=python, why="", named=True, source=SOURCE)


PATHS = TargetPaths(
    version="3.11.7", implementation="CPython", prefix="/v", base_prefix="/b", executable="/v/bin/python", sys_path=(),
    site_packages=(), user_site=None, include="/none", soabi="", machine="x86_64", conda=False, externally_managed=False,
    source=SOURCE,
)  # fmt: skip


@pytest.fixture
def stand_in(tmp_path: Path) -> Host:
    (tmp_path / "triton.py").write_text(STAND_IN)
    return Host.here(environ={**os.environ, "PYTHONPATH": str(tmp_path)})


def test_nothing_is_compiled_unless_asked_for(stand_in: Host) -> None:
    deep = asked(deep=True, device="auto", architectures=None, driver=None)
    assert deep is not None
    assert compiled_for(stand_in, interpreter(), PATHS, deep, packages(triton="3.4.0")) is None
    with pytest.raises(LeftOut, match="Triton is not installed"):
        compiled_for(stand_in, interpreter(), PATHS, question("sm_90"), packages(torch="2.8.0"))


def test_each_target_is_told_and_a_crash_costs_only_its_own(stand_in: Host) -> None:
    found = compiled_for(stand_in, interpreter(), PATHS, question("sm_90,sm_61,sm_121,sm_120"), None)
    assert found is not None
    assert [(each.architecture, each.ok) for each in found.targets] == [
        ("sm_90", True), ("sm_61", False), ("sm_121", False), ("sm_120", True),
    ]  # fmt: skip
    first, crashed, refused, _ = found.targets
    assert (first.ptx_version, first.ptx_target, first.cubin_bytes) == ("8.7", "sm_90a", 90)
    assert "SIGABRT" in crashed.error
    assert "sm_121a" in refused.error


def test_triton_that_cannot_be_imported_is_a_gap(tmp_path: Path) -> None:
    (tmp_path / "triton.py").write_text("raise ImportError('libtriton.so: undefined symbol')")
    host = Host.here(environ={**os.environ, "PYTHONPATH": str(tmp_path)})
    with pytest.raises(CouldNotLook, match="undefined symbol"):
        compiled_for(host, interpreter(), PATHS, question("sm_90"), None)


@pytest.fixture(scope="module")
def with_triton(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with the real Triton: its wheel brings ptxas, and needs neither torch nor a GPU."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("the wheel of Triton 3.4.0 is for Linux on x86-64")
    folder = tmp_path_factory.mktemp("triton")
    if shutil.disk_usage(folder).free < 2 << 30:
        pytest.skip("Triton takes a GiB of disk")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    install = (python, "-m", "pip", "install", "-q", "triton==3.4.0", "setuptools")
    told = subprocess.run(install, capture_output=True, text=True, timeout=600)
    if told.returncode != 0:
        pytest.skip(f"Triton could not be installed: {told.stderr[-200:]}")
    return python


@pytest.mark.slow
def test_triton_really_compiles_for_gpus_that_are_not_here(with_triton: str) -> None:
    found = compiled_for(Host.here(), interpreter(with_triton), PATHS, question("sm_90,sm_120,sm_121"), None)
    assert found is not None
    assert found.triton == "3.4.0"
    hopper, blackwell, spark = found.targets
    assert (hopper.ok, hopper.ptx_target) == (True, "sm_90a")
    assert (blackwell.ok, blackwell.ptx_target) == (True, "sm_120a")
    assert all(each.cubin_bytes and each.cubin_bytes > 1000 for each in (hopper, blackwell))
    assert "is not defined for option 'gpu-name'" in spark.error
