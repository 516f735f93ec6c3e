"""Rules about compiling itself: what is said where no narrower rule names the cause."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
)
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import CompileStages
from envdoctor_checks.kernel.reasoning import (
    COMPILE,
    SMOKE,
    TOOLCHAIN,
    at_least_warning,
    said_by,
    seen_failing,
    use_of,
)
from envdoctor_checks.kernel.symptoms import (
    AccuracyWrong,
    CacheEntryBroken,
    CacheFileGone,
    CompileFailed,
    CompilerAtWork,
    CompilerNotFound,
    CudaMismatch,
    ForkedWithThreads,
    GpuNameUnknown,
    HeaderNotFound,
    HeadersDiffer,
    HostCompilerRefused,
    ImageInvalid,
    InstructionUnknown,
    LinkLibraryNotFound,
    NinjaNotFound,
    NvccNotFound,
    OpenmpRefused,
    PtxTooNew,
    SegmentNotMapped,
    ToolkitPartNotFound,
    TritonNameMissing,
    TritonNeedsCapability,
    TritonNotFound,
    WorkerDied,
    WorkerStuck,
)
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild

ONE_THREAD = SetVariable(
    name="TORCHINDUCTOR_COMPILE_THREADS",
    value="1",
    why="compile in the process itself, without a pool of workers",
    caveat="The first compilation takes longer.",
)
EAGER = SetVariable(
    name="TORCHDYNAMO_DISABLE",
    value="1",
    why="run without torch.compile until the cause is found",
    caveat="The program runs more slowly.",
)


@check.rule
def compile_workers_hang(
    stuck: tuple[WorkerStuck, ...], forked: tuple[ForkedWithThreads, ...], build: TorchBuild | None
) -> Findings:
    """The workers that compile kernels were forked from a process with threads, and wait for a lock for ever."""
    clients = [each for each in stuck if each.where == "client"]
    workers = [each for each in stuck if each.where == "worker"]
    if not clients and not (workers and forked):
        return
    sure = bool(workers or forked)
    known = (build.shows("torch", build.version),) if build is not None and build.version else ()
    spawned = SetVariable(
        name="TORCHINDUCTOR_WORKER_START",
        value="spawn",
        why="start the workers anew instead of forking a process that has threads (newer releases of torch start them through a process of their own by themselves)",
    )
    newer = Install(
        ("torch",), why="in newer releases the compile workers are no longer forked from the program"
    )
    ask = Ask(
        command="py-spy dump --native --pid <the worker's pid>",
        decides="a worker that waits for a lock hangs; one that runs ptxas or LLVM only takes long",
    )
    yield Finding(
        title="the workers that compile kernels hang",
        detail="fork() copies a process with its locks as they are at that moment, and only one of its threads: a lock that another thread held is never released in the copy.",
        evidence=tuple(each.evidence() for each in (*clients[:1], *workers[:1], *forked[:1])) + known,
        remedies=(ONE_THREAD, spawned, newer),
        confidence=Confidence.CERTAIN if sure else Confidence.POSSIBLE,
        severity=Severity.ERROR if sure else Severity.WARNING,
        breaks=(COMPILE,),
        shows=(COMPILE,),
        asks=() if sure else (ask,),
    )


@check.rule
def compile_failed(
    stages: CompileStages,
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
) -> Findings:
    """Compiling a kernel failed, and nothing that we know of explains it."""
    use = use_of(work, packages, gpus, build)
    stage = stages.failed("load")
    if stage is None or use is None:
        return
    noexec = "failed to map segment" in stage.output
    yield Finding(
        title="what was compiled here cannot be loaded",
        severity=use.severity if noexec else at_least_warning(use),
        evidence=(said_by(stages, stage), *use.evidence),
        remedies=(compiler_words('python -c "import tempfile; print(tempfile.gettempdir())"'),),
        breaks=() if noexec else (TOOLCHAIN,),
        shows=(TOOLCHAIN,),
    )


def compiler_words(*commands: str) -> Run:
    """The compiler's own log, or what else shows more."""
    return Run(
        title="see what the compiler itself says",
        commands=commands
        or ('TORCH_LOGS="+inductor,output_code" TORCHDYNAMO_VERBOSE=1 python <your program>',),
        reach=Reach.SHELL,
    )


@compile_failed.sign
def _said(
    failed: tuple[CompileFailed, ...],
    died: tuple[WorkerDied, ...],
    compilers: tuple[CompilerNotFound, ...],
    headers: tuple[HeaderNotFound, ...],
    linked: tuple[LinkLibraryNotFound, ...],
    openmp: tuple[OpenmpRefused, ...],
    instructions: tuple[InstructionUnknown, ...],
    ninjas: tuple[NinjaNotFound, ...],
    nvccs: tuple[NvccNotFound, ...],
    parts: tuple[ToolkitPartNotFound, ...],
    mismatches: tuple[CudaMismatch, ...],
    differ: tuple[HeadersDiffer, ...],
    refused: tuple[HostCompilerRefused, ...],
    names: tuple[GpuNameUnknown, ...],
    ptx: tuple[PtxTooNew, ...],
    images: tuple[ImageInvalid, ...],
    tritons: tuple[TritonNotFound, ...],
    apis: tuple[TritonNameMissing, ...],
    capabilities: tuple[TritonNeedsCapability, ...],
    segments: tuple[SegmentNotMapped, ...],
    gone: tuple[CacheFileGone, ...],
    broken: tuple[CacheEntryBroken, ...],
) -> Findings:
    """The outcome is only shown, so that a rule which names its cause comes first."""
    specific = (
        compilers, headers, linked, openmp, instructions, nvccs, parts, mismatches, differ, refused, names, ptx, images,
        tritons, apis, capabilities, segments, gone, broken, tuple(each for each in ninjas if each.fatal),
    )  # fmt: skip
    if any(specific) or not (failed or died):
        return
    last: Evidence = failed[0].evidence() if failed else died[0].evidence()
    extension = bool(failed) and all(each.what == "extension" for each in failed)
    remedies: tuple[Remedy, ...]
    if extension:
        title = "building an extension failed"
        one = SetVariable(
            name="MAX_JOBS", value="1", why="the first error then stands alone, and less memory is needed"
        )
        remedies = (one,)
    elif died and not failed:
        title = "a worker that compiled a kernel died"
        remedies = (ONE_THREAD, EAGER)
    else:
        title = "compiling a kernel failed"
        remedies = (compiler_words(), EAGER)
    yield Finding(
        title=title,
        detail="The compiler's own words stand above this line; none of them is a cause that we know.",
        evidence=(last,),
        remedies=remedies,
        confidence=Confidence.POSSIBLE,
        shows=seen_failing(failed),
        asks=(Ask(command=SMOKE, decides="whether compiling fails for every program, or for this one"),)
        if not extension
        else (),
    )


@check.rule
def wrong_result(said: AccuracyWrong, build: TorchBuild | None) -> Findings:
    """A compiled kernel computes something else than the same code without torch.compile."""
    known = (build.shows("torch", build.version),) if build is not None and build.version else ()
    exact = Change(
        title="round as eager code does, to tell rounding from a wrong kernel",
        reach=Reach.SHELL,
        example=(
            "export TORCHINDUCTOR_EMULATE_PRECISION_CASTS=1",
            "torch.backends.cuda.matmul.allow_tf32 = False",
        ),
    )
    smaller = Run(
        title="let PyTorch find the smallest graph that differs",
        commands=("TORCHDYNAMO_REPRO_AFTER=aot TORCHDYNAMO_REPRO_LEVEL=4 python <your program>",),
        reach=Reach.SHELL,
    )
    fresh = SetVariable(
        name="TORCHINDUCTOR_FORCE_DISABLE_CACHES",
        value="1",
        why="compile everything anew, in case an old entry is at fault",
    )
    yield Finding(
        title="the compiled result differs from the eager one",
        evidence=(said.evidence(), *known),
        remedies=(fresh, exact, smaller, EAGER),
        confidence=Confidence.LIKELY,
        shows=(COMPILE,),
    )


@check.rule
def timed_out(
    stages: CompileStages,
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
) -> Findings:
    """Compiling three lines did not end in time: a slow or hanging compiler, file system or licence."""
    use = use_of(work, packages, gpus, build)
    if stages.timed_out is None or use is None:
        return
    what = {"c": "the C compiler", "cxx": "the C++ compiler", "load": "loading what was compiled"}
    local = Run(
        title="compile on a local disk, if the temporary folder or the compiler lies on a network",
        commands=(
            'export TMPDIR="/var/tmp/$(id -u)"',
            'mkdir -p "$TMPDIR"',
            'time g++ -x c++ -c -o "$TMPDIR/x.o" /dev/null',
        ),
        reach=Reach.SHELL,
    )
    yield Finding(
        title=f"{what.get(stages.timed_out, f'the step {stages.timed_out}')} did not end in time",
        severity=at_least_warning(use),
        confidence=Confidence.LIKELY,
        evidence=(stages.shows("timed out at", stages.timed_out), *use.evidence),
        remedies=(local,),
        shows=(TOOLCHAIN,),
    )
