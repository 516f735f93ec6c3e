"""What is printed where Triton is missing, is not torch's, or does not fit the GPU or the driver."""

from __future__ import annotations

import re

from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.symptoms import (
    AccuracyWrong,
    ForkedWithThreads,
    TritonNameMissing,
    TritonNeedsCapability,
    TritonNotFound,
    WorkerDied,
    WorkerStuck,
)


@check.message(
    r"Cannot find a working triton installation|\bTritonMissing\b|(?P<soft>A matching Triton is not available|Error caught was: No module named 'triton'|"
    r"Triton is not (?:supported|available|installed) (?:on current platform|on this platform|, some optimizations))|"
    r"No module named '?triton'?(?![\w.])",
    needles=(
        "working triton",
        "tritonmissing",
        "matching triton",
        "error caught was",
        "triton is not",
        "no module named",
    ),
    sample="RuntimeError: Cannot find a working triton installation. More information on installing Triton can be found at a site",
)
def triton_not_found(match: re.Match[str]) -> TritonNotFound:
    """Inductor's words, Python's, and warnings of packages that go on without it."""
    return TritonNotFound(fatal=match["soft"] is None)


@check.message(
    r"cannot import name '(?P<name>\w+)' from '(?P<module>triton(?:\.[\w.]+)?)'|module '(?P<of>triton(?:\.[\w.]+)?)' has no attribute '(?P<attribute>\w+)'|"
    r"No module named '(?P<missing>triton\.[\w.]+)'",
    needles=("cannot import name", "module 'triton", "no module named 'triton."),
    sample="ImportError: cannot import name 'some_key' from 'triton.compiler.compiler' (/x/triton/compiler/compiler.py)",
)
def triton_name_missing(match: re.Match[str]) -> TritonNameMissing:
    """torch, and packages with kernels, import names that come and go between releases."""
    return TritonNameMissing(
        module=match["module"] or match["of"] or match["missing"],
        name=match["name"] or match["attribute"] or "",
    )


@check.message(
    r"Found (?P<gpu>[\w .()/-]+?) which is too old to be supported by the triton GPU compiler(?:[\s\S]*?CUDA Capability >= (?P<needs>[\d.]+), but your device is of CUDA capability (?P<have>[\d.]*\d))?|"
    r"GPUTooOldForTriton|Triton only supports devices of CUDA Capability|Cannot select: intrinsic %llvm\.nvvm\.(?:shfl|redux|barrier)",
    needles=("triton gpu compiler", "gputoooldfortriton", "triton only supports", "cannot select: intrinsic"),
    sample="Found Some GPU which is too old to be supported by the triton GPU compiler, which is used as the backend. "
    "Triton only supports devices of CUDA Capability >= 7.0, but your device is of CUDA capability 5.2",
)
def gpu_too_old(match: re.Match[str]) -> TritonNeedsCapability:
    """Inductor's check, and LLVM where nobody checked."""
    return TritonNeedsCapability(
        gpu=match["gpu"], compute_capability=match["have"], needs=match["needs"] or "7.0"
    )


@check.message(
    r"error\s*:? *(?:Feature|Instruction|Modifier|Type)? ?'[^']+'(?: with [^\n]*?)? requires \.target sm_(?P<needs>\d+) or higher",
    needles="requires .target sm_",
    sample="ptxas /tmp/x.ptx, line 99; error   : Feature '.bf16' requires .target sm_80 or higher",
)
def feature_of_newer_gpu(match: re.Match[str]) -> TritonNeedsCapability:
    """A kernel that was written for a newer GPU."""
    number = match["needs"]
    return TritonNeedsCapability(needs=f"{number[:-1]}.{number[-1]}")


@check.message(
    r"^\s*(?:wait|result|_?wait_future|get_result) \([^)]*torch/_inductor/(?:async_compile|codecache)\.py:\d+\)|"
    r"^\s*(?P<worker>_worker_compile_triton|_worker_compile_cpp|_process_worker|do_job|worker_compile) \([^)]*(?:torch/_inductor/|concurrent/futures/process)[^)]*\)",
    needles=("torch/_inductor/", "concurrent/futures/process"),
    sample="    wait (torch/_inductor/async_compile.py:1)",
)
def worker_stuck(match: re.Match[str]) -> WorkerStuck | None:
    """Frames as py-spy prints them: ``function (file:line)``."""
    if match["worker"]:
        return WorkerStuck(where="worker") if match["worker"] != "_process_worker" else None
    return WorkerStuck(where="client")


@check.message(
    r"A compilation subprocess exited unexpectedly|BrokenProcessPool: A process in the process pool was terminated abruptly",
    needles=("compilation subprocess exited", "brokenprocesspool"),
    sample="RuntimeError: A compilation subprocess exited unexpectedly. This is likely due to a crash.",
)
def worker_died(match: re.Match[str]) -> WorkerDied:
    """Inductor's own words, and the standard library's where an older release passes them on."""
    return WorkerDied()


@check.message(
    r"is multi-threaded, use of fork\(\) may lead to deadlocks in the child",
    needles="may lead to deadlocks in the child",
    sample="DeprecationWarning: This process (pid=1) is multi-threaded, use of fork() may lead to deadlocks in the child.",
)
def forked_with_threads(match: re.Match[str]) -> ForkedWithThreads:
    """Python 3.12 and later."""
    return ForkedWithThreads()


@check.message(
    r"AccuracyError: Bad accuracy detected|Accuracy failed for key name|Accuracy minification",
    needles=("bad accuracy detected", "accuracy failed"),
    sample="torch._dynamo.repro.after_aot.AccuracyError: Bad accuracy detected.",
)
def accuracy(match: re.Match[str]) -> AccuracyWrong:
    """The minifier's comparison (TORCHDYNAMO_REPRO_LEVEL=4) and the benchmarks'."""
    return AccuracyWrong()
