"""The staged smoke test: eager tensors always, compiled ones where a GPU works or where they are asked for.

Both parts are children of their own, so that a compiler that hangs does not keep the eager stages from being told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from envdoctor.api import (
    Asked,
    CouldNotLook,
    Host,
    LeftOut,
    Outcome,
    Printed,
    Source,
    Target,
    Tier,
    Unavailable,
    imports,
)
from envdoctor.probing.child import ChildEnd, ChildResult, python_request
from envdoctor.target import failure
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import CudaToolkit
from envdoctor_checks.kernel.facts_smoke import (
    NO_MEMORY,
    AddressSpace,
    Smoke,
    SmokeAllocator,
    SmokeCompile,
    SmokeDevice,
    SmokeEager,
    SmokeEnd,
    SmokeGpu,
    SmokeRates,
    SmokeStage,
)
from envdoctor_checks.kernel.smoke_script import SCRIPT
from envdoctor_checks.torch.facts import TorchCuda, TorchImport

EAGER_SECONDS = 25.0
"""It takes two, most of them the import; the first use of a GPU on a machine with many of them ten."""
COMPILE_SECONDS = 240.0
"""Of a whole run with ``--deep``; 20 to 40 on two slow processors."""
MARGIN = 4.0
"""Seconds of the budget that are kept for seeing the child to its end."""
FEWEST = 4.0
"""Seconds below which a child would only be ended in the middle of its import."""
TORCH = imports("torch")


@check.probe(tier=Tier.QUICK, deadline=3.0)
def address_space(host: Host) -> AddressSpace | None:
    """What a child of ours inherits."""
    text = host.text("/proc/self/limits") if host.live else None
    told = re.search(r"(?m)^Max address space\s+(\d+|unlimited)", text or "")
    if told is None:
        return None
    limit = None if told[1] == "unlimited" else int(told[1])
    return AddressSpace(limit=limit, source=Source("file", "/proc/self/limits"))


@check.probe(tier=Tier.DEFAULT, deadline=EAGER_SECONDS + 5, tries=(TORCH,))
def smoke_eager(
    host: Host,
    target: Target,
    imported: TorchImport,
    cuda: TorchCuda | Unavailable | None,
    asked: Asked | None,
    space: AddressSpace | Unavailable | None,
) -> Iterator[SmokeEager | Printed | Unavailable]:
    """Make tensors and multiply them, on the GPU where torch has one."""
    if not host.live:
        return  # a tree of files computes nothing
    device = _device(cuda, asked)
    _only_where_torch_is(imported)
    result = _run(host, target, ("eager", device, "", ""), EAGER_SECONDS)
    if _is_no_torch(result):
        return
    common = _common(result, device, "import torch; torch.matmul")
    if isinstance(common, str):
        yield Unavailable(SmokeEager.fact_name, common)
        return
    told = SmokeEager(**common)
    yield told
    yield from _printed(result, told, space)


@check.probe(tier=Tier.DEFAULT, deadline=COMPILE_SECONDS + 8, tries=(TORCH, Outcome("compile")))
def smoke_compile_gpu(
    host: Host,
    target: Target,
    imported: TorchImport,
    cuda: TorchCuda | Unavailable | None,
    toolkit: CudaToolkit | Unavailable | None,
    asked: Asked | None,
    space: AddressSpace | Unavailable | None,
) -> Iterator[SmokeCompile | SmokeGpu | SmokeRates | SmokeAllocator | Printed | Unavailable]:
    """Compile a kernel for the GPU and run it."""
    if not host.live or _device(cuda, asked) == "cpu":
        return
    nvcc = toolkit.nvcc if isinstance(toolkit, CudaToolkit) and toolkit.nvcc else ""
    yield from _compiled(host, target, imported, "cuda", nvcc, asked, space)


@check.probe(tier=Tier.DEFAULT, deadline=COMPILE_SECONDS + 8, tries=(TORCH, Outcome("compile-toolchain")))
def smoke_compile_cpu(
    host: Host,
    target: Target,
    imported: TorchImport,
    cuda: TorchCuda | Unavailable | None,
    asked: Asked | None,
    space: AddressSpace | Unavailable | None,
) -> Iterator[SmokeCompile | Printed | Unavailable]:
    """Compile a kernel for the processor and run it, where that is asked for."""
    if not host.live or _device(cuda, asked) == "cuda":
        return
    if asked is None or not (asked.deep or asked.device == "cpu"):
        raise LeftOut(
            "torch sees no GPU here, so nothing was compiled for one; --device cpu compiles for the processor"
        )
    for given in _compiled(host, target, imported, "cpu", "", asked, space):
        if not isinstance(given, (SmokeGpu, SmokeRates, SmokeAllocator)):
            yield given


def _device(cuda: TorchCuda | Unavailable | None, asked: Asked | None) -> SmokeDevice:
    wanted = asked is None or asked.device == "auto"
    return "cuda" if wanted and isinstance(cuda, TorchCuda) and cuda.available else "cpu"


def _only_where_torch_is(imported: TorchImport) -> None:
    if not imported.ok:
        raise LeftOut("torch cannot be imported, which --deep does not change")


def _run(host: Host, target: Target, arguments: tuple[str, ...], seconds: float) -> ChildResult:
    left = host.remaining() - MARGIN
    if left < FEWEST:
        raise LeftOut(f"{max(host.remaining(), 0):.0f} s of the budget were left; --budget gives more")
    request = python_request(
        target.python,
        SCRIPT,
        deadline=min(seconds, left),
        env=host.environ,
        args=arguments,
        temporary_directory=True,
    )
    return host.run_child(request)


def _compiled(
    host: Host,
    target: Target,
    imported: TorchImport,
    device: SmokeDevice,
    nvcc: str,
    asked: Asked | None,
    space: AddressSpace | Unavailable | None,
) -> Iterator[SmokeCompile | SmokeGpu | SmokeRates | SmokeAllocator | Printed | Unavailable]:
    if host.system == "windows":
        raise CouldNotLook("compiling is not tried on Windows")
    _only_where_torch_is(imported)
    for name in ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE"):
        if host.environ.get(name) == "1":
            raise LeftOut(f"{name}=1 switches torch.compile off; `env -u {name}` tries it")
    deep = "deep" if asked is not None and asked.deep else ""
    result = _run(host, target, ("compile", device, deep, nvcc), COMPILE_SECONDS)
    if _is_no_torch(result):
        return
    common = _common(result, device, "torch.compile")
    why = common if isinstance(common, str) else _not_compiling(common["stages"], common["ended"])
    if isinstance(common, str) or why:
        yield Unavailable(SmokeCompile.fact_name, str(why))
        return
    told = SmokeCompile(**common, **_times(result))
    yield told
    yield from _of_gpu(result, told)
    yield from _printed(result, told, space)


def _not_compiling(stages: tuple[SmokeStage, ...], ended: SmokeEnd | None) -> str:
    """Why it never came to compile: the part that runs eager stages says more of that."""
    before = ("import", "allocate", "eager")
    failed = next((each.name for each in stages if each.state == "failed" and each.name in before), None)
    at = ended.stage if ended is not None and ended.stage in before else failed
    return f"it did not come to compile: the stage {at} did not pass" if at else ""


def _is_no_torch(result: ChildResult) -> bool:
    return any(each["stage"] == "not-torch" for each in result.stages)


def _common(result: ChildResult, device: SmokeDevice, what: str) -> dict[str, Any] | str:
    """The fields that both parts have, or why there are none."""
    tried = [each for each in result.stages if each["stage"] == "trying"]
    ended = {
        ChildEnd.TIMED_OUT: "timed-out",
        ChildEnd.KILLED: "killed",
        ChildEnd.EXITED: "exited",
    }.get(result.end)
    if not tried or (ended is None and not result.ok):
        return f"the child of the smoke test {failure(result)}"
    stages = tuple(
        _stage(each) for each in result.stages if each["stage"] in ("passed", "failed", "left-out")
    )
    end = None if ended is None or result.done else _end(result, ended, tried[-1])
    return {"device": device, "stages": stages, "ended": end, "source": Source("child", what)}


def _stage(told: dict[str, Any]) -> SmokeStage:
    return SmokeStage(
        name=told["what"],
        state=told["stage"],
        seconds=round(told.get("seconds", 0.0), 3),
        exception=told.get("exception", ""),
        said=told.get("said", ""),
    )


def _end(result: ChildResult, how: str, at: dict[str, Any]) -> SmokeEnd:
    detail = {
        "killed": result.signal or "a signal",
        "exited": f"status {result.exit_code}",
        "timed-out": _line_of(result.stderr.text),
    }[how]
    began = at.get("at", 0.0)
    seconds = round(max(result.seconds - began, 0.0), 1)
    told = {"stage": at["what"], "how": how, "detail": detail, "seconds": seconds}
    return msgspec.convert({**told, "said": _last_words(result.stderr.text)}, SmokeEnd)


def _last_words(stderr: str) -> str:
    """The end of stderr, up to where faulthandler begins."""
    own = re.split(r"(?m)^(?:Fatal Python error:|Thread 0x|Current thread 0x)", stderr)[0]
    return "\n".join(own.strip().splitlines()[-4:])[-600:]


def _line_of(stderr: str) -> str:
    """The innermost Python line that faulthandler dumped, the standard library's waiting aside."""
    frames = re.findall(r'File "([^"]+)", line (\d+) in (\S+)', stderr)
    own = [
        each for each in frames if not re.search(r"/(?:threading|subprocess|selectors|queue)\.py$", each[0])
    ]
    path, line, name = next(iter(own or frames), ("", "", ""))
    return f"{path}, line {line}, in {name}" if path else ""


def _fields(result: ChildResult) -> dict[str, dict[str, Any]]:
    return {each["what"]: each["fields"] for each in result.stages if each["stage"] == "passed"}


def _times(result: ChildResult) -> dict[str, Any]:
    seconds = {each["what"]: each["seconds"] for each in result.stages if each["stage"] == "passed"}
    fields = _fields(result)
    speed = fields.get("speed")
    cold = "cold" in seconds
    parts = _parts(seconds, fields.get("cold", {}).get("spent", {})) if cold else {}
    before = seconds.get("import-compiler", 0.0) + seconds.get("vector-isa", 0.0)
    return {
        "cold": round(before + seconds["cold"], 2) if cold else None,
        "warm": round(seconds["warm"], 3) if "warm" in seconds else None,
        "cached": fields.get("warm", {}).get("cached"),
        "speedup": round(speed["eager"] / speed["compiled"], 2) if speed else None,
        "parts": tuple(sorted(parts.items(), key=lambda each: -each[1])),
    }


def _parts(seconds: dict[str, float], spent: dict[str, float]) -> dict[str, float]:
    """What a cold compilation went into: the names that people look for."""
    compilers = spent.get("compile_file", 0.0)
    hashing = spent.get("inductor_codecache_torch_key", 0.0)
    rest = max(seconds["cold"] - compilers - hashing, 0.0)
    told = {
        "importing the compiler": seconds.get("import-compiler", 0.0),
        "trying the processor's vector instructions": seconds.get("vector-isa", 0.0),
        "the C++ compiler": compilers,
        "reading torch's own files for the cache's key": hashing,
        "tracing, lowering and the rest": rest,
    }
    return {name: round(value, 2) for name, value in told.items() if value >= 0.05}


def _of_gpu(result: ChildResult, told: SmokeCompile) -> Iterator[SmokeGpu | SmokeRates | SmokeAllocator]:
    fields = _fields(result)
    gpu = next((each for each in result.stages if each["stage"] == "gpu"), None)
    if gpu is None or told.device == "cpu":
        return
    used = fields.get("triton", {})
    yield SmokeGpu(
        name=gpu["name"],
        compute_capability=gpu["compute_capability"],
        triton=used.get("triton"),
        ptxas=used.get("ptxas"),
        ptxas_cuda=used.get("ptxas_cuda"),
        source=Source("child", "triton"),
    )
    measured = {**fields.get("bandwidth", {}), **fields.get("matmul-rate", {})}
    if measured:
        yield msgspec.convert(
            {"gpu": gpu["name"], **measured, "source": {"kind": "child", "where": "CUDA events"}}, SmokeRates
        )
    if "allocator" in fields:
        yield SmokeAllocator(**fields["allocator"], source=Source("child", "torch.cuda.memory_stats"))


def _printed(result: ChildResult, told: Smoke, space: AddressSpace | Unavailable | None) -> Iterator[Printed]:
    """Its own words, where something failed: of a run that went well, warnings are no symptoms."""
    if told.well:
        return
    texts = [each.get("traceback", "") for each in result.stages if each["stage"] == "failed"]
    text = "\n".join(dict.fromkeys([*texts, result.stderr.text.strip()])).strip()
    limited = isinstance(space, AddressSpace) and space.limit is not None and re.search(NO_MEMORY, text)
    if text and not limited:  # else `ulimit -v` says why, and words about the machine's memory mislead
        yield Printed(text, Source("child", "smoke test"))
