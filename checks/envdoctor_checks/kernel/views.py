"""The smoke test's row of the machine's summary, and its tables."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.api import Headline, View
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts_smoke import (
    Smoke,
    SmokeAllocator,
    SmokeCompile,
    SmokeEager,
    SmokeGpu,
    SmokeRates,
)
from envdoctor_checks.kernel.rules_rates import NAMES, UNITS
from envdoctor_checks.kernel.tables import ExpectedRates, expected_rates


@check.headline
def smoke_row(eager: SmokeEager | None, compiled: SmokeCompile | None) -> Iterator[Headline]:
    """``eager ok; compiled on the CPU in 14.2 s cold, 0.4 s warm, 1.8x eager; no GPU was tried``."""
    parts = [f"eager {_outcome(eager)}"] if eager is not None else []
    if compiled is not None:
        parts.append(_compiled(compiled))
    if not parts:
        return
    if all(each is None or each.device == "cpu" for each in (eager, compiled)):
        parts.append("no GPU was tried")
    yield Headline("smoke test", "; ".join(parts), 45)


def _on(smoke: Smoke) -> str:
    return "the GPU" if smoke.device == "cuda" else "the CPU"


def _outcome(smoke: Smoke) -> str:
    """``ok on the GPU``, ``failed at matmul``."""
    if smoke.ended is not None:
        how = {"timed-out": "did not end", "killed": f"ended by {smoke.ended.detail}", "exited": "left"}
        return f"{how[smoke.ended.how]} at {smoke.ended.stage} on {_on(smoke)}"
    if smoke.failed:
        return f"failed at {', '.join(each.name for each in smoke.failed)} on {_on(smoke)}"
    return f"ok on {_on(smoke)}"


def _compiled(compiled: SmokeCompile) -> str:
    if compiled.cold is None:
        return f"compiling {_outcome(compiled)}"
    figures = [f"in {compiled.cold:.1f} s cold"]
    if compiled.warm is not None:
        figures.append(f"{compiled.warm:.1f} s warm")
    if compiled.speedup is not None:
        figures.append(f"{compiled.speedup:.1f}x eager")
    told = f"compiled on {_on(compiled)} {', '.join(figures)}"
    return told if compiled.well else f"{told}, then {_outcome(compiled)}"


@check.view
def stages(eager: SmokeEager | None, compiled: SmokeCompile | None) -> View | None:
    """Every stage of both parts, in order."""
    rows: list[tuple[str, ...]] = [
        (
            part,
            stage.name,
            stage.state,
            f"{stage.seconds:.2f}" if stage.state != "left-out" else "",
            stage.said[:200],
        )
        for part, smoke in (("eager", eager), ("compiled", compiled))
        if smoke is not None
        for stage in smoke.stages
    ]
    rows += [
        (part, smoke.ended.stage, smoke.ended.how, f"{smoke.ended.seconds:.2f}", smoke.ended.detail)
        for part, smoke in (("eager", eager), ("compiled", compiled))
        if smoke is not None and smoke.ended is not None
    ]
    return (
        View("smoke test, stage by stage", ("part", "stage", "state", "seconds", "said"), tuple(rows))
        if rows
        else None
    )


@check.view
def cold_parts(compiled: SmokeCompile) -> View | None:
    """What the cold compilation took its time for."""
    if not compiled.parts:
        return None
    rows = tuple((name, f"{seconds:.1f}") for name, seconds in compiled.parts)
    return View("what the cold compilation took its time for", ("part", "seconds"), rows)


@check.view
def compiled_with(gpu: SmokeGpu) -> View:
    """The GPU and what compiled for it."""
    rows = (
        ("GPU", f"{gpu.name}, compute capability {gpu.compute_capability}"),
        ("Triton", gpu.triton or "none"),
        ("ptxas", f"{gpu.ptxas} (CUDA {gpu.ptxas_cuda or 'unknown'})" if gpu.ptxas else "not found"),
    )
    return View("what the smoke test compiled for and with", ("what", "value"), rows)


@check.view
def rates(measured: SmokeRates) -> View:
    """What was measured beside what is known of this model; measured and claimed stay apart."""
    table: ExpectedRates = expected_rates()
    rows = []
    for metric, name in NAMES.items():
        value = getattr(measured, metric)
        if value is None:
            continue
        known = {row.kind: f"{row.value:g}" for row in table.of(measured.gpu, metric)}
        rows.append(
            (
                name,
                UNITS[metric],
                f"{value:.1f}",
                *(known.get(kind, "") for kind in ("least", "measured", "claimed")),
            )
        )
    if measured.device_to_host is not None:
        rows.append(("copies to pinned host memory", "GB/s", f"{measured.device_to_host:.1f}", "", "", ""))
    columns = ("rate", "unit", "here", "least to expect", "measured elsewhere", "claimed by its maker")
    return View(f"rates of {measured.gpu}", columns, tuple(rows))


@check.view
def allocator(seen: SmokeAllocator) -> View:
    """The caching allocator."""
    segments = {True: "work", False: f"do not work: {seen.expandable_error}", None: "this torch has none"}
    rows = (
        ("reserved memory left in splits", f"{seen.fragmented:.0%}"),
        ("expandable segments", segments[seen.expandable]),
    )
    return View("torch's caching allocator", ("what", "value"), rows)
