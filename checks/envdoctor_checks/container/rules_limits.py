"""Limits of control groups: memory, processors, tasks."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Reach,
    Relaunch,
    Run,
    SetVariable,
    Severity,
    Variables,
)
from envdoctor_checks.container.advice import JOB, MEMORY
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import (
    ContainerEngine,
    CpuCount,
    CpuQuota,
    CpuThrottling,
    MemoryLimit,
    OomKills,
    PidsLimit,
    PidsUsage,
)
from envdoctor_checks.container.facts_host import EngineInfo
from envdoctor_checks.container.symptoms import Killed, OomKilled, TasksExhausted, ThreadPool, ThreadRefused

GIB = 1 << 30
THROTTLED = 0.25
"""The share of periods in which the quota ran out, from which on it is felt."""
PERIODS = 100
"""Periods (of 0.1 s) that must have been counted before their share means anything."""
CROWDED = 2
"""Threads per core of the quota from which on they are in one another's way."""
NEARLY = 0.9


@check.rule
def memory_limit(kills: OomKills, limit: MemoryLimit) -> Findings:
    """The cgroup's memory limit kills or will kill the job."""
    if not kills.kills or limit.limit is None:
        return
    yield Finding(
        title=f"the memory limit of {_size(limit.limit)} has killed {kills.kills} process{'es' if kills.kills > 1 else ''} of this container",
        severity=Severity.WARNING,
        evidence=(kills.shows("oom_kill", kills.kills), limit.shows("limit", _size(limit.limit))),
        remedies=_more_memory(),
        breaks=(MEMORY,),
    )


@memory_limit.sign
def _oom_killed(said: OomKilled, limit: MemoryLimit | None, kills: OomKills | None) -> Findings:
    """The kernel, the engine or the scheduler says so."""
    if said.source.kind == "file" and not (kills and kills.kills):
        return  # the machine's own log tells of every group since the start; ours has a count of its own
    known = said.limit or (_size(limit.limit) if limit is not None and limit.limit is not None else None)
    who = f" ({said.process})" if said.process else ""
    yield Finding(
        title=f"the process{who} was killed because the memory limit{f' of {known}' if known else ''} was reached",
        detail="The limit is of the control group (container, pod or job), not of the machine: free memory on the host does not "
        "help. It counts all processes of the group, their page cache under pressure, and files in /dev/shm. The GPU's "
        "memory has no part in it.",
        evidence=(
            said.evidence(),
            *((limit.shows("limit", _size(limit.limit)),) if limit is not None and limit.limit else ()),
        ),
        remedies=_more_memory(slurm=said.told_by == "slurm"),
        breaks=(MEMORY,),
        shows=(MEMORY, JOB),
    )


@memory_limit.sign
def _killed(
    said: Killed, proofs: tuple[OomKilled, ...], limit: MemoryLimit | None, kills: OomKills | None
) -> Findings:
    """Exit status 137 is SIGKILL: mostly for memory, but ``docker stop`` ends like that, too."""
    if proofs:
        return
    sure = kills is not None and kills.kills > 0
    yield Finding(
        title="the process was killed (SIGKILL, exit status 137), as for running out of memory",
        severity=Severity.ERROR if sure else Severity.WARNING,
        confidence=Confidence.LIKELY if sure else Confidence.POSSIBLE,
        evidence=(
            said.evidence(),
            *((limit.shows("limit", _size(limit.limit)),) if limit is not None and limit.limit else ()),
        ),
        remedies=_more_memory(),
        breaks=(MEMORY,),
        shows=(JOB,) if sure else (),
        asks=(
            Ask(
                "docker inspect --format '{{.State.OOMKilled}}' <container>",
                "whether the engine saw a memory kill",
            ),
            Ask(
                "dmesg -T | grep -i 'out of memory\\|oom-kill'",
                "whether the kernel killed it, and for which limit",
            ),
        ),
    )


def _more_memory(*, slurm: bool = False) -> tuple[Change | Relaunch, ...]:
    lines = ("resources: {limits: {memory: 64Gi}, requests: {memory: 64Gi}}   # in the pod's container spec",)
    less = Change(
        title="need less: fewer DataLoader workers, no pinned copies of the data set, safetensors with mmap instead of torch.load",
        reach=Reach.ENVIRONMENT,
        example=(
            "DataLoader(..., num_workers=2, persistent_workers=True)",
            "torch.load(path, mmap=True, map_location='cpu')",
        ),
    )
    if slurm:
        more = Change(
            title="ask for more memory",
            reach=Reach.CONTAINER,
            example=("#SBATCH --mem=64G",),
            needs_restart="container",
        )
        return less, more
    return (
        less,
        Relaunch(adds="--memory=64g", why="raise the limit above what the job needs"),
        Change(
            title="in Kubernetes, raise the pod's limit",
            reach=Reach.CONTAINER,
            example=lines,
            needs_restart="container",
        ),
    )


@check.rule
def cpu_quota_oversubscribed(
    quota: CpuQuota, throttling: CpuThrottling, count: CpuCount, variables: Variables, engine: ContainerEngine
) -> Findings:
    """Thread pools are sized from the host's cores while the cgroup's quota is small."""
    if (
        engine.engine is None
        or not quota.cores
        or count.usable < CROWDED * quota.cores
        or variables.get("OMP_NUM_THREADS")
    ):
        return
    share = throttling.throttled / throttling.periods if throttling.periods >= PERIODS else 0.0
    if share >= THROTTLED:
        yield _crowded(
            quota, count.usable, throttling, (count.shows("processors that programs see", count.usable),)
        )


@cpu_quota_oversubscribed.sign
def _more_threads_than_quota(
    quota: CpuQuota, pools: tuple[ThreadPool, ...], throttling: CpuThrottling | None, count: CpuCount | None
) -> Findings:
    """A text that shows the quota, and how many threads or processors programs go by."""
    pool = max((each.threads for each in pools), default=None)
    throttled = (
        throttling is not None
        and throttling.periods >= PERIODS
        and throttling.throttled / throttling.periods >= THROTTLED
    )
    if not quota.cores or quota.source.kind != "text" or not (pool or throttled):
        return
    threads = pool or (count.usable if count else 0)
    if threads < CROWDED * quota.cores:
        return
    evidence: list[Evidence] = [each.evidence("threads") for each in pools[:1]]
    if count is not None:
        evidence.append(count.shows("processors that programs see", count.usable))
    yield _crowded(quota, threads, throttling, tuple(evidence))


def _crowded(
    quota: CpuQuota, threads: int, throttling: CpuThrottling | None, evidence: tuple[Evidence, ...]
) -> Finding:
    cores = quota.cores or 0.0
    share = (
        f", and it ran out in {throttling.throttled / throttling.periods:.0%} of the periods"
        if throttling and throttling.periods
        else ""
    )
    fitting = str(max(1, int(cores)))
    return Finding(
        title=f"{threads} threads share a quota of {cores:g} cores{share}",
        severity=Severity.WARNING,
        detail="PyTorch, OpenMP and NumPy size their pools by the processors that they may run on, and a quota does not show there. "
        "When it is used up, all threads stand still until the next period, locks in hand.",
        evidence=(quota.shows("quota", f"{cores:g} cores"), *evidence),
        remedies=(
            SetVariable(
                name="OMP_NUM_THREADS",
                value=fitting,
                why="as many as the quota has cores; also MKL_NUM_THREADS, OPENBLAS_NUM_THREADS",
            ),
            Change(
                title="or in the program",
                reach=Reach.ENVIRONMENT,
                example=(f"torch.set_num_threads({fitting})",),
            ),
            Relaunch(
                adds="--cpuset-cpus=0-7",
                why="pins the container to cores, which programs do see; in Kubernetes the static CPU manager does it",
            ),
        ),
    )


@check.rule
def pids_limit(limit: PidsLimit, usage: PidsUsage, engine: ContainerEngine | None) -> Findings:
    """The cgroup's pids.max is exhausted."""
    if limit.limit is None:
        return
    refused = bool(usage.refused)
    if refused or usage.current >= NEARLY * limit.limit:
        yield _no_more_tasks(
            (limit.shows("pids.max", limit.limit), usage.shows("pids.current", usage.current)),
            limit.limit,
            Severity.WARNING,
            Confidence.CERTAIN,
            seen=False,
        )


@pids_limit.sign
def _fork_refused(
    forks: tuple[TasksExhausted, ...],
    threads: tuple[ThreadRefused, ...],
    limit: PidsLimit | None,
    usage: PidsUsage | None,
    info: EngineInfo | None,
) -> Findings:
    """A process or a thread could not be started for want of slots.

    Where no reason is told, an old engine's seccomp profile may be it, so what was told of the engine decides.
    """
    if not (usage and usage.refused):  # else the machine's own log tells of other groups
        forks = tuple(each for each in forks if each.source.kind != "file")
    refused = [each for each in threads if each.error == "EAGAIN"]
    unnamed = [each for each in threads if each.error is None]
    by_group = any(each.by_group for each in forks)
    unlimited = limit is not None and limit.limit is None and not by_group
    if any(each.error == "EPERM" for each in threads) or (unlimited and not (forks or refused)):
        return
    full = (
        limit is not None
        and limit.limit is not None
        and usage is not None
        and usage.current >= NEARLY * limit.limit
    )
    told = full or forks or refused
    said = [*forks, *refused, *(unnamed if told or not (info and info.release) else ())]
    if not said:
        return
    confidence = Confidence.LIKELY if told else Confidence.POSSIBLE
    if full or by_group:
        confidence = Confidence.CERTAIN
    evidence: list[Evidence] = [each.evidence() for each in said[:2]]
    if limit is not None and usage is not None:
        most = "no limit" if limit.limit is None else limit.limit
        evidence += [limit.shows("pids.max", most), usage.shows("pids.current", usage.current)]
    number = limit.limit if limit else None
    yield _no_more_tasks(tuple(evidence), number, Severity.ERROR, confidence, seen=True, users=unlimited)


OWN_LIMIT = Run(
    title="raise the user's own limit of processes and threads, in the shell that starts the program, if that is the one",
    commands=("ulimit -S -u hard",),
    reach=Reach.SHELL,
    needs_restart="process",
    caveat="No higher than the hard limit (ulimit -Hu), which /etc/security/limits.conf or the batch system sets (`nproc`).",
    verify="ulimit -u",
)
"""bash knows the word; a number would have to be asked for in a process of its own, which may not be had."""


UNLIMITED = Relaunch(
    adds="--pids-limit=-1", why="no limit of tasks; in Kubernetes it is the kubelet's podPidsLimit"
)


def _no_more_tasks(
    evidence: tuple[Evidence, ...],
    limit: int | None,
    severity: Severity,
    confidence: Confidence,
    *,
    seen: bool,
    users: bool = False,
) -> Finding:
    """`users`: that the group has no limit is known, so it is the user's own."""
    return Finding(
        title="no more processes or threads may be started: the user's own limit (ulimit -u) is reached"
        if users
        else f"the container may have {limit} tasks, and that is used up"
        if limit
        else "no more processes or threads may be started: the limit of tasks is reached"
        if confidence is not Confidence.POSSIBLE
        else "a thread could not be started: most often a limit of tasks is reached",
        severity=severity,
        confidence=confidence,
        detail="Every thread counts. DataLoader workers times OpenMP threads times processes per GPU come to thousands.",
        evidence=evidence,
        remedies=(
            SetVariable(
                name="OMP_NUM_THREADS",
                value="4",
                why="fewer threads per process; also fewer DataLoader workers",
            ),
            *(() if confidence is Confidence.CERTAIN else (OWN_LIMIT,)),
            *(() if users else (UNLIMITED,)),
        ),
        breaks=(JOB,) if seen else (),
        shows=(JOB,) if seen else (),
        asks=()
        if confidence is Confidence.CERTAIN
        else (
            Ask(
                "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids.current; ulimit -u",
                "which limit it is: the group's, or the user's",
            ),
            *(
                (Ask("docker version", "whether the engine is so old that its profile refuses threads"),)
                if confidence is Confidence.POSSIBLE
                else ()
            ),
        ),
    )


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count >> 20} MiB"
