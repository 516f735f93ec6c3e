"""What the smoke test's child answers on a GPU, made into facts, rows and tables: no GPU is needed to read it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from envdoctor.asked import Asked
from envdoctor.engine import flatten, gathered
from envdoctor.facts import Facts, Printed, Source
from envdoctor.host import Host
from envdoctor.probing.child import Captured, ChildEnd, ChildRequest, ChildResult
from envdoctor.report import Report, Selection
from envdoctor.session import Seen
from envdoctor.target import Target
from envdoctor_checks.kernel.facts import CudaToolkit
from envdoctor_checks.kernel.facts_smoke import (
    SmokeAllocator,
    SmokeCompile,
    SmokeEager,
    SmokeGpu,
    SmokeRates,
)
from envdoctor_checks.kernel.probe_smoke import smoke_compile_cpu, smoke_compile_gpu
from envdoctor_checks.kernel.smoke_results import eager_facts
from envdoctor_checks.torch.facts import TorchCuda, TorchImport
from tests.support.cases import doctor

SOURCE = Source("call", "the test")
TARGET = Target(python="/venv/bin/python", why="the test's own", named=True, source=SOURCE)
IMPORTED = TorchImport(ok=True, source=SOURCE)
CUDA = TorchCuda(available=True, device_count=1, source=SOURCE)
DEEP = Asked(deep=True, source=SOURCE)
H100 = "NVIDIA H100 80GB HBM3"
GPU = {"stage": "gpu", "name": H100, "compute_capability": "9.0"}
PTXAS = "/venv/triton/backends/nvidia/bin/ptxas"


def trying(name: str, at: float = 0.0) -> dict[str, Any]:
    return {"stage": "trying", "what": name, "at": at}


def ok(name: str, seconds: float = 0.1, **fields: Any) -> tuple[dict[str, Any], ...]:
    return trying(name), {"stage": "passed", "what": name, "seconds": seconds, "fields": fields}


WHOLE = (
    *ok("import"),
    trying("allocate"),
    GPU,
    *ok("allocate")[1:],
    *ok("eager"),
    *ok("import-compiler", 3.0),
    *ok("triton", triton="3.4.0", ptxas=PTXAS, ptxas_cuda="12.8"),
    *ok("cold", 5.0, spent={"compile_file": 0.0, "inductor_codecache_torch_key": 0.4}),
    *ok("warm", 0.2, cached=True),
    *ok("speed", eager=0.002, compiled=0.001),
    trying("float8"),
    {"stage": "left-out", "what": "float8", "said": "the GPU is below compute capability 8.9"},
    *ok("bandwidth", device_memory=2890.0, host_to_device=12.5, device_to_host=47.0),
    *ok("matmul-rate", matmul=640.0, matmul_type="bfloat16"),
    *ok("allocator", fragmented=0.5, expandable=True),
)


class Machine:
    """One whose child answers this; it keeps what was asked."""

    def __init__(self, *stages: dict[str, Any], **ends: Any) -> None:
        fields = {"end": ChildEnd.ANSWERED, "exit_code": 0, "done": True, **ends}
        self.result = ChildResult(argv=("python",), stages=stages, **fields)
        self.requests: list[ChildRequest] = []
        self.host = Host(environ={"PATH": os.defpath}, uid=0, gid=0, groups=(), run=self.run)

    def run(self, request: ChildRequest) -> ChildResult:
        self.requests.append(request)
        return self.result


def compiled(machine: Machine, asked: Asked | None = None) -> Facts:
    toolkit = CudaToolkit(root="/cuda", found_via="CUDA_HOME", nvcc="/cuda/bin/nvcc", source=SOURCE)
    return gathered(flatten(smoke_compile_gpu(machine.host, TARGET, IMPORTED, CUDA, toolkit, asked, None)))


def report(facts: Facts) -> Report:
    return doctor().report(Seen(facts, doctor().recorded([]).target), Selection())


def test_everything_that_a_gpu_tells_becomes_facts() -> None:
    machine = Machine(*WHOLE)
    facts = compiled(machine, DEEP)
    assert machine.requests[0].argv[-3:] == ("cuda", "deep", "/cuda/bin/nvcc")
    told, gpu, rates, allocator = (
        facts.get(kind) for kind in (SmokeCompile, SmokeGpu, SmokeRates, SmokeAllocator)
    )
    assert isinstance(told, SmokeCompile)
    assert told.well
    assert (told.cold, told.warm, told.cached, told.speedup) == (8.0, 0.2, True, 2.0)
    assert dict(told.parts)["importing the compiler"] == 3.0
    assert isinstance(gpu, SmokeGpu)
    assert (gpu.triton, gpu.ptxas, gpu.ptxas_cuda) == ("3.4.0", PTXAS, "12.8")
    assert isinstance(rates, SmokeRates)
    assert (rates.matmul, rates.host_to_device) == (640.0, 12.5)
    assert isinstance(allocator, SmokeAllocator)
    assert allocator.expandable


def test_it_is_shown_and_a_slow_link_is_named() -> None:
    told = report(compiled(Machine(*WHOLE)))
    row = next(each.value for each in told.machine if each.label == "smoke test")
    assert row == "compiled on the GPU in 8.0 s cold, 0.2 s warm, 2.0x eager"
    tables = {view.title: view for view in told.views}
    assert f"rates of {H100}" in tables
    link = next(row for row in tables[f"rates of {H100}"].rows if "pinned host" in row[0])
    assert link[2:] == ("12.5", "48", "54.8", "")
    left_out = next(row for row in tables["smoke test, stage by stage"].rows if row[1] == "float8")
    assert left_out[2:] == ("left-out", "", "the GPU is below compute capability 8.9")
    assert [each.id for each in told.findings] == ["kernel/slower-than-expected"]


def test_a_hang_in_a_copy_is_an_error_about_the_gpu() -> None:
    dump = 'Thread 0x1 (most recent call first):\n  File "<envdoctor>", line 77 in copy\n'
    smoke = {"stage": "smoke", "device": "cuda"}
    stages = (smoke, *ok("allocate"), *ok("matmul"), trying("copy", at=3.0))
    ends: dict[str, Any] = {"end": ChildEnd.TIMED_OUT, "exit_code": None, "done": False, "seconds": 25.0}
    result = Machine(*stages, **ends, stderr=Captured(text=dump)).result
    facts = gathered(each for each in eager_facts(result, None) if not isinstance(each, Printed))
    eager = facts.get(SmokeEager)
    assert isinstance(eager, SmokeEager)
    assert eager.device == "cuda"
    assert eager.ended is not None
    assert (eager.ended.stage, eager.ended.seconds) == ("copy", 22.0)
    assert eager.ended.detail == "<envdoctor>, line 77, in copy"
    found = report(facts).findings
    assert [(each.id, each.severity) for each in found] == [("kernel/timed-out", "error")]


def test_the_gpu_is_left_alone_where_the_processor_is_asked_for() -> None:
    machine = Machine(*WHOLE)
    asked = Asked(device="cpu", source=SOURCE)
    assert compiled(machine, asked).get(SmokeCompile) is None
    assert machine.requests == []
    given = gathered(smoke_compile_cpu(machine.host, TARGET, IMPORTED, CUDA, asked, None))
    assert machine.requests[0].argv[-3:] == ("cpu", "", "")
    assert given.get(SmokeGpu) is None


@pytest.mark.parametrize("stage", ["import", "allocate", "eager"])
def test_what_never_came_to_compile_is_no_failure_of_the_compiler(stage: str) -> None:
    failed = {
        "stage": "failed",
        "what": stage,
        "seconds": 0.1,
        "exception": "RuntimeError",
        "said": "x",
        "traceback": "x",
    }
    facts = compiled(Machine(trying(stage), failed))
    assert SmokeCompile in facts.unavailable()
