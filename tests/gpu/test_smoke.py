"""The smoke test on a real GPU: every stage passes, and nothing is found. Needs a torch that can use the GPU."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

from envdoctor.asked import Asked
from envdoctor.check import Tier
from envdoctor.facts import Source
from envdoctor.host import Host
from envdoctor.report import Selection
from envdoctor.session import Seen
from envdoctor_checks.kernel.facts_smoke import (
    SmokeAllocator,
    SmokeCompile,
    SmokeEager,
    SmokeGpu,
    SmokeRates,
)
from tests.support.cases import doctor


def python() -> str:
    """The interpreter that ENVDOCTOR_TEST_TORCH names, or the one that runs the tests."""
    return os.environ.get("ENVDOCTOR_TEST_TORCH") or sys.executable


@functools.cache
def why_not() -> str:
    """Why there is no GPU to be tried; empty where there is one."""
    ask = "import torch; raise SystemExit(0 if torch.cuda.is_available() else 'torch sees no GPU')"
    done = subprocess.run([python(), "-c", ask], capture_output=True, text=True, timeout=120)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no answer"])[-1]


@pytest.fixture(autouse=True)
def gpu() -> None:
    if why_not():
        pytest.skip(f"no GPU is tried: {why_not()}")


@functools.cache
def looked(deep: bool) -> Seen:
    asked = Asked(deep=True, source=Source("call", "the test")) if deep else None
    tier = Tier.DEEP if deep else Tier.DEFAULT
    return doctor().look(Host.here(), tier=tier, python=python(), asked=asked, budget=540 if deep else 120)


def bad(seen: Seen) -> list[str]:
    report = doctor().report(seen, Selection())
    return [
        f"{each.id}: {each.title}"
        for each in report.findings
        if each.severity != "note" and each.id.startswith(("kernel/", "torch/"))
    ]


def test_the_default_run_compiles_on_the_gpu() -> None:
    seen = looked(deep=False)
    eager, compiled, gpu = (seen.facts.get(kind) for kind in (SmokeEager, SmokeCompile, SmokeGpu))
    assert isinstance(eager, SmokeEager)
    assert [each.name for each in eager.stages] == ["import", "allocate", "matmul", "copy"]
    assert eager.well, eager
    assert isinstance(compiled, SmokeCompile)
    assert compiled.device == "cuda"
    assert compiled.well, compiled
    assert compiled.cold is not None
    assert compiled.warm is not None
    assert compiled.warm < compiled.cold
    for name in ("triton", "cold", "compare", "backward", "warm", "speed", "cuda-graphs"):
        stage = compiled.stage(name)
        assert stage is not None, name
        assert stage.state == "passed", stage
    assert isinstance(gpu, SmokeGpu)
    assert gpu.triton
    assert gpu.ptxas
    assert gpu.ptxas_cuda
    assert bad(seen) == []


def test_the_formats_that_the_gpu_has_pass_and_the_others_say_why() -> None:
    compiled, gpu = (looked(deep=False).facts.get(kind) for kind in (SmokeCompile, SmokeGpu))
    assert isinstance(compiled, SmokeCompile)
    assert isinstance(gpu, SmokeGpu)
    major, minor = map(int, gpu.compute_capability.split("."))
    for name, since in (("bfloat16", (8, 0)), ("float8", (8, 9))):
        stage = compiled.stage(name)
        assert stage is not None
        assert stage.state == ("passed" if (major, minor) >= since else "left-out"), stage
        assert stage.state == "passed" or stage.said


def test_a_deep_run_measures_and_tries_the_rest() -> None:
    seen = looked(deep=True)
    compiled, rates, allocator = (seen.facts.get(kind) for kind in (SmokeCompile, SmokeRates, SmokeAllocator))
    assert isinstance(compiled, SmokeCompile)
    assert compiled.well, compiled
    for name in ("dynamic-shapes", "max-autotune", "bandwidth", "matmul-rate", "allocator"):
        stage = compiled.stage(name)
        assert stage is not None, name
        assert stage.state == "passed", stage
    nvcc = compiled.stage("nvcc")
    assert nvcc is not None
    assert nvcc.state in ("passed", "left-out")
    assert isinstance(rates, SmokeRates)
    for value in (rates.host_to_device, rates.device_to_host, rates.device_memory, rates.matmul):
        assert value is not None
        assert value > 1
    assert isinstance(allocator, SmokeAllocator)
    assert 0 <= allocator.fragmented <= 1
    assert bad(seen) == []


def test_the_processor_is_tried_where_it_is_asked_for() -> None:
    asked = Asked(device="cpu", source=Source("call", "the test"))
    seen = doctor().look(Host.here(), tier=Tier.DEFAULT, python=python(), asked=asked, budget=200)
    eager, compiled = seen.facts.get(SmokeEager), seen.facts.get(SmokeCompile)
    assert isinstance(eager, SmokeEager)
    assert eager.device == "cpu"
    assert compiled is None or (isinstance(compiled, SmokeCompile) and compiled.device == "cpu")
