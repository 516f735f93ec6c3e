"""Rules about the staged smoke test: a stage that failed, crashed, hung or computed something else.

They show what failed and leave the cause to the rules that know the messages; only an unknown one is a root.
"""

from __future__ import annotations

import re

import msgspec

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    NoFix,
    Outcome,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
    imports,
)
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts_smoke import (
    NO_MEMORY,
    NO_THREADS,
    AddressSpace,
    Smoke,
    SmokeCompile,
    SmokeEager,
    SmokeEnd,
    SmokeStage,
)
from envdoctor_checks.kernel.reasoning import COMPILE, KERNEL
from envdoctor_checks.kernel.rules_compiling import (
    EAGER,
    compile_failed,
    compiler_words,
    timed_out,
    wrong_result,
)
from envdoctor_checks.torch.facts import TorchImport

MEMORY = Outcome("memory")
WRITE = Outcome("write")
JOB = Outcome("job")
NO_ROOM = r"(?i)no space left on device|disk quota exceeded"
NO_FILES = r"(?i)too many open files"
NO_NAME = r"getpwuid\(\): uid not found|No username set"
PATIENCE = 60.0
"""Seconds at one stage after which it hangs, where it compiles; some compilations take half as long."""
SHORT_PATIENCE = 12.0
"""The same for what takes milliseconds."""
COMPILING = ("import-compiler", "vector-isa", "cold", "backward", "warm", "cuda-graphs", "dynamic-shapes", "max-autotune", "nvcc")  # fmt: skip
AGAIN = Install(
    ("torch",), reinstall=True, why="in case its files are damaged or mixed with another release's"
)
SIGNALS = {
    "SIGKILL": "Nobody but the system, or somebody with its rights, sends it: the kernel does when memory runs out.",
    "SIGILL": "The program has an instruction that this processor does not know: it was built for a newer one, or the "
    "emulator or virtual machine hides what the processor can do.",
    "SIGBUS": "A file that was mapped into memory could not be read or filled: a full tmpfs or /dev/shm, a failing disk.",
    "SIGABRT": "A library ended the program itself; its last words say why.",
    "SIGSEGV": "A library touched memory that is not its own: mostly one of another release or build than its neighbours.",
    "SIGFPE": "A library divided by zero, which is a defect of its own.",
}


def _outcomes(smoke: Smoke, words: str = "") -> tuple[Outcome, ...]:
    """What the failure shows, so that a finding which breaks it comes first.

    Of eager tensors on the processor the nearest outcome is that torch is whole, which its import needs as well.
    """
    if isinstance(smoke, SmokeCompile):
        first: tuple[Outcome, ...] = (COMPILE,)
    else:
        first = (KERNEL,) if smoke.device == "cuda" else (imports("torch"),)
    memory = (MEMORY,) if re.search(NO_MEMORY, words) else ()
    room = (WRITE,) if re.search(NO_ROOM, words) else ()
    job = (JOB,) if any(re.search(each, words) for each in (NO_THREADS, NO_FILES, NO_NAME)) else ()
    return (*first, *memory, *room, *job)


def _where(smoke: Smoke) -> str:
    return "the GPU" if smoke.device == "cuda" else "the processor"


def _plain(smoke: Smoke) -> tuple[SmokeStage, ...]:
    """The stages that failed otherwise than by a wrong result."""
    return tuple(each for each in smoke.failed if each.exception != "WrongResult")


class _Failure(msgspec.Struct, frozen=True):
    """The first stage that failed otherwise than by a wrong result, a signal or the time."""

    stage: str
    words: str
    evidence: Evidence


def _failure(smoke: Smoke) -> _Failure | None:
    for stage in _plain(smoke):
        return _Failure(stage.name, f"{stage.exception}: {stage.said}", smoke.said_by(stage))
    end = smoke.ended
    if end is not None and end.how == "exited":
        words = f"the program left with {end.detail}{': ' if end.said else ''}{end.said}"
        return _Failure(end.stage, words, smoke.shows(f"stage {end.stage}", words))
    return None


@check.rule
def eager_failed(eager: SmokeEager, space: AddressSpace | None) -> Findings:
    """Making or multiplying tensors fails without torch.compile, for a cause that no other rule names."""
    failed = _failure(eager)
    if failed is None or _is_limited(space, failed.words):
        return
    yield Finding(
        title=f"torch is imported, and the stage {failed.stage} of the smoke test fails on {_where(eager)}",
        confidence=Confidence.LIKELY,
        evidence=(failed.evidence,),
        remedies=_eager_remedies(eager),
        shows=_outcomes(eager, failed.words),
    )


def _eager_remedies(eager: SmokeEager) -> tuple[Remedy, ...]:
    device = "cuda" if eager.device == "cuda" else "cpu"
    alone = Run(
        title="see the whole error, the failing call first",
        commands=(
            f"{'CUDA_LAUNCH_BLOCKING=1 ' if device == 'cuda' else ''}python -c \"import torch; x = torch.ones(256, 256, device='{device}'); print((x @ x).sum())\"",
        ),
        reach=Reach.SHELL,
    )
    return (alone, AGAIN)


@compile_failed.sign
def _smoke_compile_failed(compiled: SmokeCompile, space: AddressSpace | None) -> Findings:
    failed = _failure(compiled)
    if failed is None or _is_limited(space, failed.words):
        return
    yield Finding(
        title=f"the smoke test fails on {_where(compiled)} at the stage {failed.stage}",
        confidence=Confidence.LIKELY,
        evidence=(failed.evidence,),
        remedies=(compiler_words(), EAGER),
        shows=_outcomes(compiled, failed.words),
    )


@check.rule
def smoke_test_crashed(eager: SmokeEager) -> Findings:
    """A program that only makes and multiplies tensors, or compiles a kernel, is ended by a signal."""
    if eager.ended is not None and eager.ended.how == "killed":
        yield _crash(eager, eager.ended)


@smoke_test_crashed.sign
def _compile_crashed(compiled: SmokeCompile) -> Findings:
    if compiled.ended is not None and compiled.ended.how == "killed":
        yield _crash(compiled, compiled.ended)


def _crash(smoke: Smoke, end: SmokeEnd) -> Finding:
    more = {"SIGKILL": (MEMORY,), "SIGBUS": (WRITE, MEMORY)}.get(end.detail, ())
    kind = "compiled" if isinstance(smoke, SmokeCompile) else "eager"
    return Finding(
        title=f"{end.detail} ended the smoke test on {_where(smoke)} at its {kind} stage {end.stage}",
        detail=SIGNALS.get(end.detail, ""),
        evidence=(
            smoke.shows(
                f"stage {end.stage}",
                f"{end.detail} after {end.seconds:g} s{': ' if end.said else ''}{end.said}",
            ),
        ),
        remedies=_crash_remedies(smoke, end),
        shows=tuple(dict.fromkeys((*_outcomes(smoke, end.said), *more))),
    )


def _crash_remedies(smoke: Smoke, end: SmokeEnd) -> tuple[Remedy, ...]:
    dump = Run(
        title="see at which line it is, and in which library",
        commands=(
            "python -X faulthandler <your program>",
            "gdb -batch -ex run -ex bt --args python <your program>",
        ),
        reach=Reach.SHELL,
    )
    if end.detail == "SIGKILL":
        memory = Run(
            title="see whether the kernel ended it for want of memory",
            commands=('dmesg | grep -i "killed process"', "cat /sys/fs/cgroup/memory.events"),
            reach=Reach.HOST,
            needs_root=True,
        )
        return (memory, dump)
    if end.detail == "SIGILL":
        fewer = SetVariable(
            name="ATEN_CPU_CAPABILITY",
            value="default",
            why="torch's own kernels then use only what every processor has; its libraries may still use more",
        )
        return (fewer, dump, AGAIN)
    if isinstance(smoke, SmokeCompile):
        return (EAGER, dump, AGAIN)
    return (AGAIN, dump)


@wrong_result.sign
def _smoke_compile_wrong(compiled: SmokeCompile) -> Findings:
    for stage in (each for each in compiled.failed if each.exception == "WrongResult"):
        yield _wrong(
            compiled, stage, "what was compiled gives another result than the same code without torch.compile"
        )
        return


@wrong_result.sign
def _smoke_eager_wrong(eager: SmokeEager) -> Findings:
    for stage in (each for each in eager.failed if each.exception == "WrongResult"):
        yield _wrong(eager, stage, f"{_where(eager)} computes wrongly, without torch.compile")
        return


def _wrong(smoke: Smoke, stage: SmokeStage, title: str) -> Finding:
    machine = Change(
        title="if a new environment with the same torch gives the same wrong result, the GPU or the processor is at fault: test it"
        if smoke.device == "cuda"
        else "if a new environment with the same torch gives the same wrong result, the processor or its memory is at fault: test them",
        reach=Reach.HOST,
        example=("dcgmi diag -r 3",) if smoke.device == "cuda" else ("memtester 1G 1",),
    )
    return Finding(
        title=title,
        evidence=(smoke.said_by(stage),),
        remedies=(EAGER, AGAIN, machine) if isinstance(smoke, SmokeCompile) else (AGAIN, machine),
        shows=_outcomes(smoke),
    )


@timed_out.sign
def _smoke_eager_late(eager: SmokeEager) -> Findings:
    if eager.ended is not None and eager.ended.how == "timed-out":
        yield _late(eager, eager.ended)


@timed_out.sign
def _smoke_compile_late(compiled: SmokeCompile) -> Findings:
    if compiled.ended is not None and compiled.ended.how == "timed-out":
        yield _late(compiled, compiled.ended)


def _late(smoke: Smoke, end: SmokeEnd) -> Finding:
    """Time that was cut short by the budget proves nothing: a note, and what would decide."""
    hangs = end.seconds >= (PATIENCE if end.stage in COMPILING else SHORT_PATIENCE)
    at = (smoke.shows("it was at", end.detail),) if end.detail else ()
    look = Run(
        title="see where it waits: the Python lines and the calls below them",
        commands=("py-spy dump --native --pid <its process>", "cat /proc/<its process>/wchan"),
        reach=Reach.SHELL,
    )
    kind = "compiled" if isinstance(smoke, SmokeCompile) else "eager"
    return Finding(
        title=f"the {kind} stage {end.stage} of the smoke test did not end on {_where(smoke)}"
        if hangs
        else f"the {kind} stage {end.stage} of the smoke test was not over when the time was up",
        severity=Severity.ERROR if hangs else Severity.NOTE,
        confidence=Confidence.LIKELY if hangs else Confidence.POSSIBLE,
        evidence=(smoke.shows(f"stage {end.stage}", f"no end after {end.seconds:g} s"), *at),
        remedies=((look, EAGER) if isinstance(smoke, SmokeCompile) else (look,))
        if hangs
        else (NoFix("its time was cut short, which proves nothing"),),
        shows=_outcomes(smoke) if hangs else (),
        asks=()
        if hangs
        else (Ask("envdoctor check --deep --budget 600", "whether it hangs or only takes long"),),
    )


@check.rule
def address_space_limit(
    space: AddressSpace, imported: TorchImport | None, eager: SmokeEager | None, compiled: SmokeCompile | None
) -> Findings:
    """`ulimit -v` leaves programs too little address space, of which torch and CUDA reserve more than they use."""
    if space.limit is None:
        return
    smokes = [each for each in (eager, compiled) if each is not None]
    said = [
        (smoke, stage)
        for smoke in smokes
        for stage in _plain(smoke)
        if _is_limited(space, f"{stage.exception}: {stage.said}")
    ]
    failed_import = (
        imported is not None
        and not imported.ok
        and _is_limited(space, f"{imported.exception}: {imported.message}")
    )
    if not said and not failed_import:
        return
    evidence = [space.shows("limit of the address space", f"{space.limit / 2**30:.2f} GiB")]
    if imported is not None and failed_import:
        evidence.append(imported.shows("import torch", f"{imported.exception}: {imported.message}"))
    evidence += [smoke.said_by(stage) for smoke, stage in said[:1]]
    lift = Run(
        title="lift the limit in the shell that starts the program; the batch system or /etc/security/limits.conf sets it (`as`)",
        commands=("ulimit -v unlimited",),
        reach=Reach.SHELL,
        needs_restart="process",
        caveat="Above the hard limit (`ulimit -Hv`) only an administrator may go.",
        verify="ulimit -v",
    )
    shown = [outcome for smoke, _ in said for outcome in _outcomes(smoke)]
    yield Finding(
        title="the limit of the address space (ulimit -v) is too small",
        detail="What counts is what is reserved, not what is used: torch's libraries take most of a gigabyte, and CUDA reserves room for all "
        "the memory of host and GPUs together.",
        confidence=Confidence.LIKELY,
        evidence=tuple(evidence),
        remedies=(lift,),
        breaks=(MEMORY, *((imports("torch"),) if failed_import else ()), *shown),
        shows=(*((imports("torch"),) if failed_import else ()), *shown),
    )


def _is_limited(space: AddressSpace | None, words: str) -> bool:
    """Whether there is a limit and the words are those of a program that met it."""
    return space is not None and space.limit is not None and re.search(NO_MEMORY, words) is not None
