"""From what a child of the smoke test answered to facts: stages, how it ended, times, and its own words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from envdoctor.api import Printed, Source, Unavailable
from envdoctor.probing.child import ChildEnd, ChildResult
from envdoctor.target import failure
from envdoctor_checks.kernel.facts_smoke import (
    NO_MEMORY,
    SMOKE_TEST,
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


def eager_facts(
    result: ChildResult, space: AddressSpace | Unavailable | None
) -> Iterator[SmokeEager | Printed | Unavailable]:
    """What the eager stages of the child that imported torch came to; nothing where it did not come to them."""
    begun = next((each for each in result.stages if each["stage"] == "smoke"), None)
    if begun is None:
        return
    told = common(result, begun["device"], "import torch; torch.matmul")
    if isinstance(told, str):
        yield Unavailable(SmokeEager.fact_name, told)
        return
    eager = SmokeEager(**told)
    yield eager
    yield from printed(result, eager, space)


def is_no_torch(result: ChildResult) -> bool:
    """Whether something else is imported under torch's name."""
    return any(each["stage"] == "not-torch" for each in result.stages)


def common(result: ChildResult, device: SmokeDevice, what: str) -> dict[str, Any] | str:
    """The fields that eager and compiled stages have, or why there are none."""
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


PRIVATE = r"/envdoctor-[0-9a-f]{12}\b"
"""The child's own folders, which are gone when somebody reads of them: what matters is where they lay."""


def _stage(told: dict[str, Any]) -> SmokeStage:
    return SmokeStage(
        name=told["what"],
        state=told["stage"],
        seconds=round(told.get("seconds", 0.0), 3),
        exception=told.get("exception", ""),
        said=re.sub(PRIVATE, "", told.get("said", "")),
    )


def _end(result: ChildResult, how: str, at: dict[str, Any]) -> SmokeEnd:
    detail = {
        "killed": result.signal or "a signal",
        "exited": f"status {result.exit_code}",
        "timed-out": "; ".join(
            filter(None, (_line_of(result.stderr.text), result.stuck.told if result.stuck else ""))
        ),
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


def times(result: ChildResult) -> dict[str, Any]:
    """What compiling took: the fields of `SmokeCompile` beside those of all stages."""
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


def of_gpu(result: ChildResult, told: SmokeCompile) -> Iterator[SmokeGpu | SmokeRates | SmokeAllocator]:
    """What was learnt about the GPU on the way."""
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


def printed(result: ChildResult, told: Smoke, space: AddressSpace | Unavailable | None) -> Iterator[Printed]:
    """Its own words, where something failed: of a run that went well, warnings are no symptoms."""
    if told.well:
        return
    texts = [each.get("traceback", "") for each in result.stages if each["stage"] == "failed"]
    text = "\n".join(dict.fromkeys([*texts, result.stderr.text.strip()])).strip()
    text = re.sub(PRIVATE, "", text)
    limited = isinstance(space, AddressSpace) and space.limit is not None and re.search(NO_MEMORY, text)
    if text and not limited:  # else `ulimit -v` says why, and words about the machine's memory mislead
        yield Printed(text, SMOKE_TEST)
