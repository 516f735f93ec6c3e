"""The compiled stages of the smoke test: where a GPU works, or where they are asked for.

The eager ones are the last of what the child that imports torch does. These have a child of their own: a compiler
that hangs must not keep anything else from being told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

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
from envdoctor.probing.child import ChildResult, python_request
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import CudaToolkit
from envdoctor_checks.kernel.facts_smoke import (
    AddressSpace,
    SmokeAllocator,
    SmokeCompile,
    SmokeDevice,
    SmokeEnd,
    SmokeGpu,
    SmokeRates,
    SmokeStage,
)
from envdoctor_checks.kernel.smoke_results import common, is_no_torch, of_gpu, printed, times
from envdoctor_checks.kernel.smoke_script import SCRIPT
from envdoctor_checks.torch.facts import TorchCuda, TorchImport

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
    result = _run(host, target, (device, deep, nvcc), COMPILE_SECONDS)
    if is_no_torch(result):
        return
    shared = common(result, device, "torch.compile")
    why = shared if isinstance(shared, str) else _not_compiling(shared["stages"], shared["ended"])
    if isinstance(shared, str) or why:
        yield Unavailable(SmokeCompile.fact_name, str(why))
        return
    told = SmokeCompile(**shared, **times(result))
    yield told
    yield from of_gpu(result, told)
    yield from printed(result, told, space)


def _not_compiling(stages: tuple[SmokeStage, ...], ended: SmokeEnd | None) -> str:
    """Why it never came to compile: the part that runs eager stages says more of that."""
    before = ("import", "allocate", "eager")
    failed = next((each.name for each in stages if each.state == "failed" and each.name in before), None)
    at = ended.stage if ended is not None and ended.stage in before else failed
    return f"it did not come to compile: the stage {at} did not pass" if at else ""
