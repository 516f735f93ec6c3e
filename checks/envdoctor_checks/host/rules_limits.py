"""ulimit -l, ulimit -n and the processors that a process may use."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Finding,
    Findings,
    Reach,
    Relaunch,
    Remedy,
    Run,
    Severity,
    Variables,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.symptoms import ContainerSeen
from envdoctor_checks.host.check import check
from envdoctor_checks.host.facts import (
    CpuAffinity,
    FilesLimit,
    HardLimits,
    MemlockLimit,
    RdmaDevices,
)
from envdoctor_checks.host.reasoning import JOB, RDMA, contained, quoted, several_processes, sized
from envdoctor_checks.host.symptoms import LockRefused, TooManyFiles, WorkersSuggested

ENOUGH_LOCKED = 16 << 30
"""Bytes from which a finite limit is not what a job meets first."""
FEW_FILES = 4096
FILES = 65536
MANY_MORE = 2
"""How many times the soft limit of files the hard one must be for raising it to that to be worth a try."""


def _in_the_shell(letter: str, name: str, value: str) -> Run:
    return Run(
        title=f"raise the limit in the shell that starts the job ({name})",
        commands=(f"ulimit -{letter} {value}",),
        reach=Reach.SHELL,
        needs_restart="process",
        caveat=f"It goes no higher than the hard limit (ulimit -H{letter}).",
        verify=f"ulimit -{letter}",
    )


def _raise(
    letter: str, name: str, value: str, unit: str, around: Surroundings | None, hard: bool | None
) -> tuple[Remedy, ...]:
    """The shell first, where the hard limit lets it; then what sets the hard limit."""
    inside = contained(around)
    number = "-1" if value == "unlimited" else value
    fixes: list[Remedy] = []
    if hard is not True:
        fixes.append(_in_the_shell(letter, name, value))
    if inside is not False:
        fixes.append(
            Relaunch(
                adds=f"--ulimit {name}={number}",
                why="containers get the engine's limits",
                verify=f"ulimit -{letter}",
            )
        )
    if inside is not True:
        fixes.append(
            Run(
                title="raise it for good: for logins, and for what systemd starts (slurmd, sshd, the container engine)",
                commands=(
                    f"printf '* soft {name} {value}\\n* hard {name} {value}\\n' | sudo tee /etc/security/limits.d/90-{name}.conf",
                    f"# in the unit's [Service] section (systemctl edit slurmd): {unit}={'infinity' if value == 'unlimited' else value}",
                ),
                reach=Reach.HOST,
                needs_root=True,
                needs_restart="session",
                caveat="Daemons hand their own limit on to the jobs that they start: restart them, too.",
                verify=f"ulimit -{letter}",
            )
        )
    return tuple(fixes)


MEMLOCK_DETAIL = (
    "RDMA cards read and write memory by themselves, so NCCL, UCX and MPI must lock what they register. Linux lets a process "
    "lock a few MiB by default, which is enough for everything else."
)


@check.rule
def memlock_limit(
    limit: MemlockLimit,
    rdma: RdmaDevices,
    hard: HardLimits | None,
    variables: Variables | None,
    around: Surroundings | None,
) -> Findings:
    """The limit of locked memory (ulimit -l) is too low for RDMA."""
    if limit.soft is None or limit.soft >= ENOUGH_LOCKED or not rdma.names or limit.source.kind == "text":
        return
    if around is not None and around.root and not contained(around):
        return  # root of the machine itself has CAP_IPC_LOCK, and no limit
    used = several_processes(variables)
    yield Finding(
        subject="limit:memlock",
        title=f"ulimit -l is {sized(limit.soft)}, and this machine has RDMA devices",
        severity=Severity.WARNING if used else Severity.NOTE,
        confidence=Confidence.LIKELY,
        detail=MEMLOCK_DETAIL,
        evidence=(
            limit.shows("locked memory", sized(limit.soft)),
            rdma.shows("RDMA devices", ", ".join(rdma.names)),
        ),
        remedies=_memlock(around, _capped(hard, hard.memlock if hard else None, ENOUGH_LOCKED)),
        breaks=(RDMA,) if used else (),
    )


def _memlock(around: Surroundings | None, hard: bool | None) -> tuple[Remedy, ...]:
    return _raise("l", "memlock", "unlimited", "LimitMEMLOCK", around, hard)


def _capped(hard: HardLimits | None, value: int | None, wanted: int) -> bool | None:
    """Whether the hard limit stands in the way; None where it is not known."""
    return None if hard is None else value is not None and value < wanted


@memlock_limit.sign
def _not_locked(
    said: tuple[LockRefused, ...],
    limit: MemlockLimit | None,
    hard: HardLimits | None,
    around: Surroundings | None,
    seen: tuple[ContainerSeen, ...],
) -> Findings:
    """Registering memory was refused."""
    unnamed = not any(each.names_limit for each in said)
    if not said or (limit is None and unnamed and (seen or contained(around))):
        return  # in a container it is nccl/ipc-lock-missing
    known = limit is not None and limit.soft is not None and limit.soft < ENOUGH_LOCKED
    if limit is not None and limit.soft is None and not any(each.names_limit for each in said):
        return  # unlimited: the registration failed for another reason
    certain = known or any(each.names_limit for each in said)
    yield Finding(
        subject="limit:memlock",
        title=f"the limit of locked memory (ulimit -l{f', {sized(limit.soft)}' if known and limit else ''}) is too low to register memory for RDMA",
        confidence=Confidence.CERTAIN if certain else Confidence.LIKELY,
        detail=MEMLOCK_DETAIL + " The machine's memory itself has not run out.",
        evidence=(*quoted(*said[:2]), *((limit.shows("locked memory", sized(limit.soft)),) if limit else ())),
        remedies=_memlock(around, _capped(hard, hard.memlock if hard else None, ENOUGH_LOCKED)),
        breaks=(RDMA,),
        shows=(RDMA,),
        asks=()
        if limit
        else (
            Ask(
                "ulimit -l; ulimit -Hl",
                "the limit where the job runs (in the container, under srun or mpirun)",
            ),
        ),
    )


FILES_DETAIL = (
    "Every worker queue, socket, mapped file and tensor that is passed between processes (sharing strategy file_descriptor) takes "
    "a file descriptor. NCCL opens sockets per communicator and peer, so many process groups need thousands."
)


@check.rule
def fd_limit(limit: FilesLimit, variables: Variables | None, around: Surroundings | None) -> Findings:
    """The limit of open files (ulimit -n) is too low."""
    size = variables.get("WORLD_SIZE") if variables else None
    if (
        limit.soft is None
        or limit.source.kind == "text"
        or limit.soft >= FEW_FILES
        or not size
        or not size.isdigit()
    ):
        return
    if int(size) >= 64:
        yield Finding(
            subject="limit:nofile",
            title=f"ulimit -n is {limit.soft}, and the job has {size} processes",
            severity=Severity.NOTE,
            confidence=Confidence.POSSIBLE,
            detail=FILES_DETAIL,
            evidence=(limit.shows("open files", limit.soft),),
            remedies=_raise("n", "nofile", str(FILES), "LimitNOFILE", around, hard=None),
        )


@fd_limit.sign
def _too_many(
    said: tuple[TooManyFiles, ...],
    limit: FilesLimit | None,
    hard: HardLimits | None,
    around: Surroundings | None,
) -> Findings:
    """Something could not be opened."""
    if not said:
        return
    system = all(each.scope == "system" for each in said)
    shared = Change(
        title="or let torch pass tensors by file name instead of by descriptor",
        reach=Reach.SHELL,
        example=("import torch.multiprocessing; torch.multiprocessing.set_sharing_strategy('file_system')",),
        caveat="It needs room in /dev/shm, and a program that is killed leaves its files there.",
    )
    capped = _capped(hard, hard.files if hard else None, FILES)
    fixes = _raise("n", "nofile", str(FILES), "LimitNOFILE", around, capped)
    if capped and hard and limit and limit.soft and (hard.files or 0) >= MANY_MORE * limit.soft:
        fixes = (_in_the_shell("n", "nofile", str(hard.files)), *fixes)
    whole = Run(
        title="raise the machine's own limit of open files",
        commands=("sysctl fs.file-nr", "sysctl -w fs.file-max=2097152"),
        reach=Reach.HOST,
        needs_root=True,
        caveat="Find out who holds them first: lsof | awk '{print $1}' | sort | uniq -c | sort -n | tail",
    )
    yield Finding(
        subject="limit:nofile",
        title="the machine has too many files open (fs.file-max)"
        if system
        else f"a process has more files open than it may have (ulimit -n{f', {limit.soft}' if limit and limit.soft else ''})",
        confidence=Confidence.CERTAIN,
        detail=FILES_DETAIL,
        evidence=(
            *quoted(*said[:3]),
            *((limit.shows("open files", limit.soft or "unlimited"),) if limit else ()),
        ),
        remedies=(whole,) if system else (*fixes, shared),
        breaks=(JOB,),
        shows=(JOB,),
        asks=() if limit else (Ask("ulimit -n; ulimit -Hn", "the limit where the program runs"),),
    )


@check.rule
def cpu_affinity_narrow(affinity: CpuAffinity, said: tuple[WorkersSuggested, ...]) -> Findings:
    """This process may run on one processor of many, so workers and threads share it."""
    if affinity.usable > 1 or affinity.online < 8:
        return
    yield Finding(
        subject="limit:affinity",
        title=f"this process may use one of {affinity.online} processors",
        severity=Severity.WARNING if said else Severity.NOTE,
        detail="All its threads and DataLoader workers inherit the mask and share that processor. A job without its processors "
        "(srun --cpus-per-task), taskset, a container's cpuset, or a library that binds the main thread (GOMP_CPU_AFFINITY, "
        "KMP_AFFINITY, OMP_PROC_BIND) sets it.",
        evidence=(
            affinity.shows("processors", f"{affinity.usable} of {affinity.online}"),
            *quoted(*said[:1]),
        ),
        remedies=(
            Run(
                title="ask the scheduler for the processors, or give the shell all of them",
                commands=(f"taskset -cp 0-{affinity.online - 1} $$",),
                reach=Reach.SHELL,
                needs_restart="process",
                caveat="A cpuset of a container or job cannot be left so: ask for more there (--cpus-per-task, --cpuset-cpus).",
                verify="nproc",
            ),
        ),
    )
