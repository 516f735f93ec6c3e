"""What programs and the kernel print about users, namespaces, threads, memory and preloaded libraries."""

from __future__ import annotations

import re

from envdoctor_checks.container.check import check
from envdoctor_checks.container.symptoms import (
    Killed,
    OomKilled,
    PreloadSpoke,
    TasksExhausted,
    ThreadPool,
    ThreadRefused,
    UidNotFound,
    UsernsDenied,
    WriteRefused,
)

NOT_OURS = r"^/(?:dev|proc|sys)/"
"""Paths whose refusal is about devices or control groups, which have messages of their own."""


@check.message(
    r"getpwuid\(\): uid not found: (?P<uid>\d+)|No username set in the environment|No user exists for uid (?P<ssh>\d+)"
    r"|unable to look up current user|user: unknown userid (?P<go>\d+)",
    needles=(
        "uid not found",
        "no username set",
        "no user exists for uid",
        "look up current user",
        "unknown userid",
    ),
    sample="KeyError: 'getpwuid(): uid not found: 2001'",
)
def uid_not_found(found: re.Match[str]) -> UidNotFound:
    """Python's getpass and pwd, ssh, Go programs."""
    uid = found["uid"] or found["ssh"] or found["go"]
    return UidNotFound(uid=int(uid) if uid else None, fatal=True)


@check.message(
    r"cannot find name for user ID (?P<uid>\d+)",
    needles="cannot find name for user id",
    sample="whoami: cannot find name for user ID 2001",
)
def name_missing(found: re.Match[str]) -> UidNotFound:
    """id and whoami: telling, and harmless by itself."""
    return UidNotFound(uid=int(found["uid"]), fatal=False)


@check.message(
    r"\[Errno (?P<errno>13|30)\] (?:Permission denied|Read-only file system): b?\\?['\"](?P<path>/[^'\"\n]+?)\\?['\"]",
    needles=("[errno 13]", "[errno 30]"),
    sample="PermissionError: [Errno 13] Permission denied: '/outputs/run1'",
)
def python_write_refused(found: re.Match[str]) -> WriteRefused | None:
    """Python's OSError, wherever it is printed."""
    return _refused(found["path"], read_only=found["errno"] == "30")


@check.message(
    r"(?:cannot (?:create(?: regular file| directory)?|touch|remove|open|mkdir)|can't create(?: directory)?|unable to create(?: directory)?|cannot open)"
    r" [`'\u2018\"]?(?P<path>/[^'\u2019`\"\n:]+)['\u2019`\"]?(?: for writing)?: (?P<why>Permission denied|Read-only file system|Operation not permitted)",
    needles=(": permission denied", ": read-only file system", ": operation not permitted"),
    sample="touch: cannot touch '/outputs/run1': Permission denied",
)
def shell_write_refused(found: re.Match[str]) -> WriteRefused | None:
    """coreutils, busybox and the shells."""
    return _refused(found["path"], read_only=found["why"].startswith("Read-only"))


def _refused(path: str, *, read_only: bool) -> WriteRefused | None:
    if re.match(NOT_OURS, path):
        return None
    return WriteRefused(path=path, why="read-only" if read_only else "permission")


@check.message(
    r"pthread_create failed(?P<which> for thread \d+ of \d+)?: (?P<why>Operation not permitted|Resource temporarily unavailable)"
    r"|(?:libgomp: )?Thread creation failed: (?P<gomp>Operation not permitted|Resource temporarily unavailable)"
    r"|(?:create|spawn|start)\w* (?:\w+ ){0,3}thread\b[^:\n]*: (?P<other>Operation not permitted|Resource temporarily unavailable|operation not permitted)"
    r"|pthread_create: (?P<chrome>Operation not permitted|Resource temporarily unavailable)",
    needles=("pthread_create", "thread"),
    sample="OpenBLAS blas_thread_init: pthread_create failed for thread 3 of 8: Resource temporarily unavailable",
)
def thread_refused(found: re.Match[str]) -> ThreadRefused:
    """OpenBLAS, libgomp, Go, Rust and others name the error."""
    why = next(each for each in found.group("why", "gomp", "other", "chrome") if each)
    return ThreadRefused(error="EPERM" if "not permitted" in why else "EAGAIN")


@check.message(
    r"can't start new thread|std::system_error'?\n?.*what\(\):\s+(?P<what>Resource temporarily unavailable|Operation not permitted)",
    needles=("can't start new thread", "what():"),
    sample="RuntimeError: can't start new thread",
)
def thread_not_started(found: re.Match[str]) -> ThreadRefused:
    """Python does not name the error; C++ does."""
    why = found["what"] or ""
    return ThreadRefused(error="EPERM" if "not permitted" in why else "EAGAIN" if why else None)


@check.message(
    r"cgroup: fork rejected by pids controller",
    needles="fork rejected by pids",
    sample="cgroup: fork rejected by pids controller in /docker/4f1e",
)
def fork_rejected(_found: re.Match[str]) -> TasksExhausted:
    """The kernel's own word."""
    return TasksExhausted(by_group=True)


@check.message(
    r"fork: (?:retry: )?(?:Resource temporarily unavailable|Cannot allocate memory)|BlockingIOError: \[Errno 11\] Resource temporarily unavailable"
    r"|[Cc]an(?:not|'t) fork(?::|\b).*Resource temporarily unavailable",
    needles=("fork", "[errno 11]"),
    sample="bash: fork: retry: Resource temporarily unavailable",
)
def fork_refused(found: re.Match[str]) -> TasksExhausted | None:
    """Shells and Python's subprocess."""
    return None if "Cannot allocate" in found[0] else TasksExhausted(by_group=False)


@check.message(
    r"Could not write info to setgroups: Permission denied|setting up uid map: Permission denied|write failed /proc/self/uid_map: (?:Operation not|Permission)"
    r"|unshare(?: failed)?: (?:unshare failed: )?(?:Operation not permitted|Permission denied)|[Cc]reating new namespace failed: (?:Permission denied|Operation not permitted)"
    r"|[Ff]ailed to create user namespace: \S+|cannot clone: (?:Permission denied|Operation not permitted)|fork/exec /proc/self/exe: (?:operation not permitted|permission denied)"
    r"|No permissions to create(?: a)? new namespace|newuidmap: write to uid_map failed: Operation not permitted",
    needles=(
        "setgroups",
        "uid map",
        "uid_map",
        "unshare",
        "namespace",
        "cannot clone",
        "fork/exec /proc/self/exe",
    ),
    sample="bwrap: setting up uid map: Permission denied",
)
def userns_denied(found: re.Match[str]) -> UsernsDenied | None:
    """apptainer, bubblewrap, unshare, enroot, podman, rootlesskit."""
    namespace = found[0].lower()
    if "user namespace" in namespace and not re.search(r"permi", namespace):
        return None
    return UsernsDenied(created=any(word in namespace for word in ("setgroups", "uid map", "uid_map")))


@check.message(
    r"apparmor=\"DENIED\".*profile=\"unprivileged_userns\"|apparmor=\"(?:DENIED|AUDIT)\" operation=\"userns_create\""
    r"|might have happened because /proc/sys/kernel/apparmor_restrict_unprivileged_userns is set to 1",
    needles=("apparmor=", "apparmor_restrict_unprivileged_userns"),
    sample='audit: apparmor="DENIED" operation="capable" class="cap" profile="unprivileged_userns" comm="starter" capname="sys_admin"',
)
def userns_denied_by_apparmor(_found: re.Match[str]) -> UsernsDenied:
    """The audit log of Ubuntu's kernel, and rootlesskit's hint."""
    return UsernsDenied(by_apparmor=True)


@check.message(
    r"Memory cgroup out of memory: (?:Killed|Kill) process \d+ \((?P<process>[^)]+)\)|oom-kill:constraint=CONSTRAINT_MEMCG.*task=(?P<task>[^,]+)"
    r"|memory: usage \d+kB, limit (?P<limit>\d+kB), failcnt",
    needles=("memory cgroup out of memory", "constraint_memcg", "failcnt"),
    sample="Memory cgroup out of memory: Killed process 4121 (python) total-vm:98304000kB",
)
def memory_group_full(found: re.Match[str]) -> OomKilled:
    """The kernel log."""
    return OomKilled(told_by="kernel", process=found["process"] or found["task"], limit=found["limit"])


@check.message(
    r"Reason:\s+OOMKilled|\breason\"?: \"?OOMKilled|\s\d+/\d+\s+OOMKilled\b|Last State:.*OOMKilled",
    needles="oomkilled",
    sample="      Reason:       OOMKilled",
)
def pod_killed(_found: re.Match[str]) -> OomKilled:
    """kubectl describe, get and JSON."""
    return OomKilled(told_by="kubernetes")


@check.message(
    r"\"?OOMKilled\"?[:=] ?\"?true",
    needles="oomkilled",
    sample='            "OOMKilled": true,',
)
def container_killed(_found: re.Match[str]) -> OomKilled:
    """docker inspect."""
    return OomKilled(told_by="docker")


@check.message(
    r"Detected \d+ oom[_-]kill event|oom-kill event\(s\) in (?:StepId|step)|slurmstepd: error: .*(?:exceeded (?:job|step) memory limit|oom.kill)|\bOUT_OF_MEMORY\b",
    needles=("oom-kill", "oom_kill", "memory limit", "out_of_memory"),
    sample="slurmstepd: error: Detected 1 oom_kill event in StepId=77.batch. Some of the step tasks have been OOM Killed.",
)
def step_killed(found: re.Match[str]) -> OomKilled | None:
    """Slurm; CUDA's own OUT_OF_MEMORY is another matter."""
    return None if "CUDA" in found.string.upper() else OomKilled(told_by="slurm")


@check.message(
    r"exited with code 137\b|[Ee]xit [Cc]ode:?\s+137\b|^Killed$|is killed by signal: Killed|line \d+:\s+\d+ Killed\b|: \d+ Killed\s+python|exited? (?:with )?(?:status|code) 137\b|Signal 9 \(SIGKILL\) received|killed by (?:the )?(?:signal 9|SIGKILL)|exitcode *: -9\b",
    needles=("137", "killed", "sigkill", "exitcode"),
    sample="trainer-1 exited with code 137",
)
def killed(_found: re.Match[str]) -> Killed:
    """A process that was killed from outside, and nothing that says by whom."""
    return Killed()


@check.message(
    r"at::get_num_threads\(\) : (?P<threads>\d+)",
    needles="at::get_num_threads()",
    sample="        at::get_num_threads() : 64",
)
def thread_pool(found: re.Match[str]) -> ThreadPool:
    """torch.__config__.parallel_info()."""
    return ThreadPool(threads=int(found["threads"]))


VGPU = r"(?:libvgpu|libcuda-control|libgemhook|libnvshare|libsoftmig|libcudaforward)[\w.-]*\.so[\w.]*"


@check.message(
    rf"object '(?P<object>[^']*{VGPU})' from (?:LD_PRELOAD|/etc/ld\.so\.preload) cannot be preloaded|symbol lookup error: (?P<lookup>\S*{VGPU})"
    rf"|(?P<crash>\S*{VGPU})(?:\(|\+0x)|\[HAMI-core (?P<level>Msg|Warn|Info|Debug|ERROR|Error)\b|\[4pdvGPU (?P<old>Msg|Warn|Info|ERROR|Error)\b",
    needles=(
        "libvgpu",
        "libcuda-control",
        "libgemhook",
        "libnvshare",
        "libsoftmig",
        "libcudaforward",
        "[hami-core",
        "[4pdvgpu",
    ),
    sample="[HAMI-core ERROR (pid:71 thread=1 allocator.c:49)]: Device 0 OOM 8589934592 / 8388608000",
)
def preload_spoke(found: re.Match[str]) -> PreloadSpoke:
    """HAMi's library and its kind, and the loader about them."""
    library = found["object"] or found["lookup"] or found["crash"] or "libvgpu.so"
    level = found["level"] or found["old"] or ""
    return PreloadSpoke(library=library, failed=level.upper() in ("", "ERROR"))
