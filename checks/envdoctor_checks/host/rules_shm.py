"""/dev/shm: too small, full, or not this user's to write."""

# ruff: noqa: S108 - /dev/shm and /tmp are what is looked at, not where we write

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
    Remedy,
    Run,
    Severity,
    Variables,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.host.check import check
from envdoctor_checks.host.facts import SharedMemory, SharedMemoryAccess
from envdoctor_checks.host.reasoning import SHARED, contained, quoted, several_processes, sized
from envdoctor_checks.host.symptoms import ShmDenied, ShmExhausted, TooManyFiles

SUBJECT = "path:/dev/shm"
SMALL = 256 << 20
"""Bytes: container engines give 64 MiB, and a machine of its own half of its memory."""
FULL = 16 << 20
AMPLE = 4 << 30
"""Bytes free, with which a program that ran out of shared memory must have met something else."""
DETAIL = (
    "DataLoader workers hand batches over through /dev/shm, NCCL exchanges data between processes of a machine there, Ray keeps "
    "its objects in it. Container engines make it 64 MiB unless they are told otherwise, whatever memory the machine has; on "
    "Linux itself it is half of the memory."
)
WORDS = {
    "dataloader": "DataLoader workers died because /dev/shm was full",
    "torch": "torch could not put a tensor into /dev/shm",
    "nccl": "NCCL could not make its segments in /dev/shm",
    "multiprocessing": "Python's multiprocessing found no room in /dev/shm",
    "ray": "Ray does not use /dev/shm because it is too small",
    "unknown": "a program was ended by a bus error, mostly the sign of a full /dev/shm",
}


def _remedies(around: Surroundings | None, who: str) -> tuple[Remedy, ...]:
    inside = contained(around)
    fixes: list[Remedy] = []
    if who in ("dataloader", "torch"):
        fixes.append(
            Change(
                title="until then: no workers, and batches stay in one process (slower)",
                reach=Reach.SHELL,
                example=("DataLoader(..., num_workers=0)",),
            )
        )
    if inside is not False:
        fixes.append(
            Relaunch(
                adds="--shm-size=8g", why="/dev/shm of a size that fits the job", verify="df -h /dev/shm"
            )
        )
        fixes.append(
            Relaunch(
                adds="--ipc=host",
                why="or the host's own /dev/shm",
                caveat="It shares all of the host's interprocess communication with the container.",
                verify="df -h /dev/shm",
            )
        )
    if inside is not True:
        fixes.append(
            Run(
                title="on a host (no container): enlarge it, until the next restart",
                commands=("mount -o remount,size=50% /dev/shm",),
                reach=Reach.HOST,
                needs_root=True,
                caveat="To keep it, write the size into /etc/fstab.",
                verify="df -h /dev/shm",
            )
        )
    return tuple(fixes)


CLEAN = Run(
    title="remove what ended programs have left there",
    commands=("ls -l /dev/shm", "rm -i /dev/shm/torch_* /dev/shm/nccl-* /dev/shm/psm_*"),
    reach=Reach.SHELL,
    caveat="Files of programs that still run must stay: fuser -v /dev/shm/* shows them.",
    verify="df -h /dev/shm",
)


@check.rule
def shm_too_small(shm: SharedMemory, variables: Variables | None, around: Surroundings | None) -> Findings:
    """/dev/shm is too small for DataLoader workers, NCCL or Ray, or it is full."""
    if shm.source.kind == "text" or not several_processes(variables):
        return  # 64 MiB harm nobody who does not share memory
    full = shm.free < FULL
    if shm.total > SMALL and not full:
        return
    yield Finding(
        subject=SUBJECT,
        title=f"/dev/shm is full ({sized(shm.free)} of {sized(shm.total)} left)"
        if full and shm.total > SMALL
        else f"/dev/shm has {sized(shm.total)}, and this job has several processes",
        severity=Severity.WARNING,
        confidence=Confidence.LIKELY,
        detail=DETAIL,
        evidence=(shm.shows("/dev/shm", f"{sized(shm.total)}, {sized(shm.free)} free"), *_world(variables)),
        remedies=(CLEAN,) if full and shm.total > SMALL else _remedies(around, "nccl"),
        breaks=(SHARED,),
    )


def _world(variables: Variables | None) -> tuple[Evidence, ...]:
    return (variables.evidence("WORLD_SIZE"),) if variables else ()


@shm_too_small.sign
def _ran_out(
    said: tuple[ShmExhausted, ...],
    files: tuple[TooManyFiles, ...],
    shm: SharedMemory | None,
    around: Surroundings | None,
) -> Findings:
    """A program could not share memory."""
    telling = [each for each in said if each.certain]
    first = next(iter(telling or said), None)
    if first is None or (files and not telling):
        return  # the limit of open files makes the same message
    ample = shm is not None and shm.free > max(AMPLE, 2 * (first.size or 0))
    if ample and not telling:
        return
    small = shm is not None and shm.total <= SMALL
    confidence = (
        Confidence.CERTAIN
        if telling and not ample
        else Confidence.LIKELY
        if telling or small
        else Confidence.POSSIBLE
    )
    yield Finding(
        subject=SUBJECT,
        title=WORDS[first.who] + (f": it has {sized(shm.total)}" if small and shm else ""),
        severity=Severity.WARNING if first.who == "ray" and len(said) == 1 else Severity.ERROR,
        confidence=confidence,
        detail=DETAIL,
        evidence=(
            *quoted(*(telling or said)[:3]),
            *((shm.shows("/dev/shm", f"{sized(shm.total)}, {sized(shm.free)} free"),) if shm else ()),
        ),
        remedies=_remedies(around, first.who),
        breaks=(SHARED,),
        shows=(SHARED,),
        asks=()
        if shm
        else (Ask("df -h /dev/shm", "how large it is where the program runs (in the container)"),),
    )


DENIED = {
    "permission": "/dev/shm may not be written by this user",
    "read-only": "/dev/shm is mounted read-only",
    "absent": "there is no usable /dev/shm",
}


def _open_it(around: Surroundings | None, why: str) -> tuple[Remedy, ...]:
    if contained(around):
        fixes: tuple[Remedy, ...] = (
            Relaunch(
                adds="--tmpfs /dev/shm:rw,mode=1777,size=8g",
                why="a /dev/shm that everybody may write",
                verify="ls -ld /dev/shm",
            ),
        )
        return fixes
    command = (
        "chmod 1777 /dev/shm"
        if why == "permission"
        else "mount -t tmpfs -o mode=1777,size=50% tmpfs /dev/shm"
    )
    return (
        Run(
            title="give /dev/shm its usual mode, drwxrwxrwt (1777)"
            if why == "permission"
            else "mount a writable /dev/shm",
            commands=(command,),
            reach=Reach.HOST,
            needs_root=True,
            caveat="A line in /etc/fstab, a hardening script or the container's definition may set it back.",
            verify="ls -ld /dev/shm",
        ),
    )


@check.rule
def shm_not_writable(
    access: SharedMemoryAccess, variables: Variables | None, around: Surroundings | None
) -> Findings:
    """/dev/shm cannot be written by this user, so processes cannot share memory."""
    if access.writable:
        return
    why = "permission" if access.exists else "absent"
    yield Finding(
        subject=SUBJECT,
        title=DENIED[why] + (f" (mode {access.mode}, owner {access.owner})" if access.exists else ""),
        severity=Severity.ERROR if several_processes(variables) else Severity.WARNING,
        detail=DENIED_DETAIL,
        evidence=(
            access.shows(
                "/dev/shm", f"mode {access.mode}, owner {access.owner}" if access.exists else "not there"
            ),
        ),
        remedies=_open_it(around, why),
        breaks=(SHARED,),
    )


DENIED_DETAIL = (
    "Locks and queues of Python's multiprocessing, DataLoader workers and NCCL make their files in /dev/shm. Its usual mode is "
    "1777, like that of /tmp."
)


@shm_not_writable.sign
def _refused(
    said: tuple[ShmDenied, ...], access: SharedMemoryAccess | None, around: Surroundings | None
) -> Findings:
    """A program was not let in."""
    if said:
        yield Finding(
            subject=SUBJECT,
            title=DENIED[said[0].why],
            detail=DENIED_DETAIL,
            evidence=(
                *quoted(*said[:2]),
                *((access.shows("/dev/shm", f"mode {access.mode}"),) if access else ()),
            ),
            remedies=_open_it(around, said[0].why),
            breaks=(SHARED,),
            shows=(SHARED,),
            asks=(
                Ask(
                    "ls -ld /dev/shm; mount | grep /dev/shm; id",
                    "its mode, and whether it is mounted read-only",
                ),
            ),
        )
