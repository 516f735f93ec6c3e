"""A process group on this machine, really run: one child per rank, started as torchrun starts them.

With NCCL where torch has GPUs that work, one rank per GPU, up to two, all of them with --deep; else with Gloo and two
ranks, where that was asked for. The ranks meet on the loopback address, on a free port. The user's own NCCL_* and
GLOO_* variables stay, so that what they name is tried.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from envdoctor.api import (
    Asked,
    Host,
    LeftOut,
    Outcome,
    Printed,
    Source,
    Target,
    TargetPaths,
    Tier,
    Unavailable,
    imports,
)
from envdoctor.probing.child import ChildEnd, ChildRequest, ChildResult, python_request
from envdoctor.target import failure
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts_groups import (
    MEETING,
    GroupBandwidth,
    GroupRun,
    GroupTransports,
    GroupWithoutPeers,
    PeerAccess,
    RankRun,
    WrongResult,
)
from envdoctor_checks.nccl.group_script import script
from envdoctor_checks.nccl.read_groups import read_log
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda, TorchImport

Backend = Literal["nccl", "gloo"]
LONGEST = 45.0
LONGEST_DEEP = 240.0
"""Seconds for one group, its imports of torch included."""
TIMEOUT = 8.0
TIMEOUT_DEEP = 20.0
"""Seconds for each collective; on healthy machines they take milliseconds, and connecting eight GPUs a second or two."""
LEAST = 12.0
"""Seconds without which it is not worth starting: two imports of torch at once take up to ten."""
MEET = 12.0
MEET_DEEP = 40.0
"""Seconds for the ranks to meet, once torch is imported; they start together, and one may import slower than another."""
CLOSING = 4.0
"""Seconds before the end of the run in which children are seen to their end."""
LOOPBACK = "127.0.0.1"
OUTPUT = 2 << 20
JOB = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NCCL_DEBUG_FILE", "NCCL_ASYNC_ERROR_HANDLING")
JOB_PREFIXES = ("LOCAL_", "GROUP_", "ROLE_", "TORCHELASTIC_")
TAKEN = ("out of memory", "busy or unavailable")
"""CUDA's words where other processes hold a GPU: no fault of the machine."""
SOURCE = Source("child", "python -m envdoctor.rendezvous")


class Plan(msgspec.Struct, frozen=True):
    """What is to be run."""

    backend: Backend
    world: int
    timeout: float
    meet: float
    longest: float
    bandwidth: bool


@check.probe(
    tier=Tier.DEFAULT, deadline=2 * LONGEST_DEEP + 12, tries=(Outcome("collective"), imports("torch"))
)
def process_group(
    host: Host,
    target: Target,
    paths: TargetPaths,
    build: TorchBuild | Unavailable,
    imported: TorchImport | Unavailable | None,
    cuda: TorchCuda | Unavailable | None,
    asked: Asked | None,
) -> Iterator[
    GroupRun | GroupTransports | GroupBandwidth | GroupWithoutPeers | PeerAccess | Printed | Unavailable
]:
    """Rendezvous, collectives with known results, an exchange of every pair; each stage of each rank is told."""
    del paths  # asked for so that an interpreter that does not answer is not started again
    if not isinstance(build, TorchBuild) or (build.version is None and build.path is None):
        return
    if isinstance(imported, TorchImport) and not imported.ok:
        raise LeftOut("torch cannot be imported")
    plan = planned(host, cuda, asked)
    runs = started(host, target.python, plan)
    if (why := not_judged(runs)) is not None:
        yield why
        return
    run = as_fact(plan, runs)
    yield run
    yield from _of_nccl(plan, runs)
    yield from _measured(runs)
    if run.well:
        return  # what healthy ranks print is of no concern
    if text := words(runs):
        yield Printed(text, SOURCE)
    if plan.backend == "nccl" and plan.world > 1 and "NCCL_P2P_DISABLE" not in host.environ:
        yield from _without_peers(host, target.python, asked, cuda)


def planned(host: Host, cuda: TorchCuda | Unavailable | None, asked: Asked | None) -> Plan:
    """Which group to run. Raises `LeftOut` where none is, with the flag that would."""
    if not host.live:
        raise LeftOut("these are files of a machine, on which nothing can be started")
    deep, cpu = bool(asked and asked.deep), bool(asked and asked.device == "cpu")
    usable = isinstance(cuda, TorchCuda) and cuda.available and bool(cuda.nccl) and bool(cuda.device_count)
    backend: Backend = "nccl" if usable and not cpu else "gloo"
    if backend == "gloo" and not (deep or cpu):
        raise LeftOut("torch has no GPU to use here; --deep or --device cpu tries a process group over Gloo")
    gpus = (cuda.device_count or 1) if isinstance(cuda, TorchCuda) else 1
    world = 2 if backend == "gloo" else gpus if deep else min(gpus, 2)
    longest = min(LONGEST_DEEP if deep else LONGEST, host.remaining() - CLOSING)
    if longest < LEAST:
        left = max(host.remaining(), 0)
        raise LeftOut(f"{left:.0f} s of the budget were left for a process group; --budget gives more")
    timeout = min(TIMEOUT_DEEP if deep else TIMEOUT, longest / 4)
    meet = min(MEET_DEEP if deep else MEET, longest / 3)
    return Plan(backend, world, timeout, meet, longest, bandwidth=deep)


def started(
    host: Host, python: str, plan: Plan, more: Mapping[str, str] | None = None
) -> tuple[ChildResult, ...]:
    """What became of every rank, in their order. A port that somebody took in the meantime is tried once more."""
    runs = _started(host, python, plan, more or {}, free_port())
    if "EADDRINUSE" in str(_stages(runs[0]).get("failed")):
        runs = _started(host, python, plan, more or {}, free_port())
    return runs


def _started(
    host: Host, python: str, plan: Plan, more: Mapping[str, str], port: int
) -> tuple[ChildResult, ...]:
    results: list[ChildResult | None] = [None] * plan.world

    def run(rank: int) -> None:
        results[rank] = host.run_child(_request(host, python, plan, more, rank, port))

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(plan.world)]
    for each in threads:
        each.start()
    end = time.monotonic() + plan.longest + CLOSING
    for each in threads:
        each.join(max(end - time.monotonic(), 0))
    lost = ChildResult(end=ChildEnd.INTERRUPTED, argv=(python,), error="its thread did not come back")
    return tuple(each or lost for each in results)


def _request(
    host: Host, python: str, plan: Plan, more: Mapping[str, str], rank: int, port: int
) -> ChildRequest:
    """As torchrun starts a rank, with NCCL's log on stdout."""
    kept = {
        name: value
        for name, value in host.environ.items()
        if name not in JOB and not name.startswith(JOB_PREFIXES)
    }
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": plan.world, "LOCAL_WORLD_SIZE": plan.world}
    env = {
        "OMP_NUM_THREADS": "1",
        **kept,
        **{name: str(value) for name, value in place.items()},
        "MASTER_ADDR": LOOPBACK,
        "MASTER_PORT": str(port),
        "NCCL_DEBUG": "INFO",
        "NCCL_DEBUG_SUBSYS": "INIT,BOOTSTRAP,ENV,NET,P2P,SHM",
        **more,
    }
    options = ["--backend", plan.backend, "--timeout", f"{plan.timeout:g}", "--meet", f"{plan.meet:g}"]
    options += ["--bandwidth"] if plan.bandwidth else []
    request = python_request(
        python, script(), deadline=plan.longest, args=tuple(options), env=env, temporary_directory=True
    )
    return msgspec.structs.replace(request, max_output=OUTPUT)


def free_port() -> int:
    """A port that is free now, on the loopback address."""
    with socket.socket() as one:
        try:
            one.bind((LOOPBACK, 0))
        except OSError:
            return 29500  # without a loopback address the ranks themselves tell what they meet
        return int(one.getsockname()[1])


def _stages(result: ChildResult) -> dict[str, dict[str, Any]]:
    return {str(stage["stage"]): stage for stage in result.stages}


def not_judged(runs: tuple[ChildResult, ...]) -> Unavailable | None:
    """Why these ranks tell nothing of process groups: no torch, no time, or GPUs that others use up."""
    told = [_stages(result) for result in runs]
    for rank, (result, stages) in enumerate(zip(runs, told, strict=True)):
        if stages.get("entering", {}).get("what", "import") == "import":
            failed = stages.get("failed")
            why = f"{failed['exception']}: {failed['message']}" if failed else failure(result)
            reason = f"rank {rank}, importing torch beside the others: {why}"[:400]
            return Unavailable(GroupRun.fact_name, reason, "" if failed else "--budget gives it more time")
    said = [str(stages["failed"]["message"]) for stages in told if "failed" in stages]
    if any(words in each for each in said for words in TAKEN):
        reason = "the memory of a GPU, or the GPU itself, is in use by others"
        return Unavailable(GroupRun.fact_name, reason, "check again when the GPUs are free")
    ended = any({"failed", "late"} & stages.keys() for stages in told)
    if ended or any(each.end in (ChildEnd.KILLED, ChildEnd.EXITED) for each in runs):
        return None
    for rank, (result, stages) in enumerate(zip(runs, told, strict=True)):
        at = stages["entering"]
        if result.end is ChildEnd.TIMED_OUT and result.seconds - at["at"] < at["limit"]:
            reason = f"the time was over when rank {rank} was at {at['what']}"
            return Unavailable(GroupRun.fact_name, reason, "--budget gives it more time")
    return None


def as_fact(plan: Plan, runs: tuple[ChildResult, ...]) -> GroupRun:
    """All ranks."""
    wrong = [
        WrongResult(rank, each["what"], each["elements"], each["of"], each.get("peer"))
        for rank, result in enumerate(runs)
        for each in result.stages
        if each["stage"] == "wrong"
    ]
    return GroupRun(
        backend=plan.backend,
        ranks=tuple(_rank(rank, result) for rank, result in enumerate(runs)),
        wrong=tuple(wrong[:16]),
        timeout=plan.timeout,
        meet=plan.meet,
        seconds=round(max(each.seconds for each in runs), 3),
        source=SOURCE,
    )


def _rank(rank: int, result: ChildResult) -> RankRun:
    stages = _stages(result)
    entered = stages["entering"]
    about = stages.get("device", {})
    device = about.get("device")
    name = about.get("name")
    failed, late = stages.get("failed"), stages.get("late")
    error = where = None
    end: Literal["finished", "failed", "late", "crashed"] = "finished"
    if result.end is ChildEnd.KILLED:
        end, where = "crashed", _frame(result.stderr.text)
    elif result.end is ChildEnd.TIMED_OUT or late is not None:
        line = late["where"] if late else _frame(result.stderr.text)
        end, where = (
            "late",
            "; ".join(filter(None, (line, result.stuck.told if result.stuck else ""))) or None,
        )
    elif failed is not None:
        end = "late" if failed["timed_out"] else "failed"
        error = f"{failed['exception']}: {failed['message'].strip().partition(chr(10))[0]}"[:500]
        entered = failed if failed["what"] == "shared-memory" and result.done else entered
    elif not result.done:
        end, error = "failed", f"it {failure(result)}"[:500]
    return RankRun(
        rank=rank,
        end=end,
        stage=entered["what"],
        place=entered.get("place", 0),
        error=error,
        signal=result.signal if end == "crashed" else None,
        where=where,
        device=f"{device} ({name})" if name else device,
        addresses=tuple(stages.get("group", {}).get("addresses", ())),
    )


def _frame(text: str) -> str | None:
    """The innermost line of Python in faulthandler's dump."""
    import re

    found = re.search(r'File "([^"]+)", line (\d+) in (\S+)', text)
    return f"{found[1]}, line {found[2]}, in {found[3]}" if found else None


def _of_nccl(plan: Plan, runs: tuple[ChildResult, ...]) -> Iterator[GroupTransports | PeerAccess]:
    if plan.backend != "nccl":
        return
    log = "\n".join(each.stdout.text for each in runs)
    if "NCCL" in log:
        yield read_log(log)
    told = {rank: _stages(each).get("device", {}).get("peers") for rank, each in enumerate(runs)}
    if all(peers is not None for peers in told.values()):
        pairs = ((rank, peer) for rank, peers in told.items() for peer in peers or () if peer < plan.world)
        yield PeerAccess(pairs=tuple(pairs), source=Source("call", "torch.cuda.can_device_access_peer"))


def _measured(runs: tuple[ChildResult, ...]) -> Iterator[GroupBandwidth]:
    """The slowest rank's word: all wait for it."""
    told = [stage for each in runs if (stage := _stages(each).get("bandwidth"))]
    if len(told) == len(runs) and told:
        slowest = min(told, key=lambda each: each["bus"])
        if math.isfinite(slowest["bus"]):
            yield GroupBandwidth(
                size=slowest["bytes"], seconds=slowest["each"], bus=slowest["bus"], source=SOURCE
            )


def words(runs: tuple[ChildResult, ...]) -> str:
    """What messages are read from, where something went wrong once the ranks had met.

    Before that they speak of the address and the port that we chose, and not of the user's.
    """
    texts: list[str] = []
    for result in runs:
        failed = [each for each in result.stages if each["stage"] == "failed" and each["what"] not in MEETING]
        texts += [each["traceback"] for each in failed]
        if _stages(result)["entering"]["what"] not in MEETING:
            texts += [result.stderr.text, result.stdout.text]
    return "\n".join(each for each in dict.fromkeys(texts) if each.strip())


def _without_peers(
    host: Host, python: str, asked: Asked | None, cuda: TorchCuda | Unavailable | None
) -> Iterator[GroupWithoutPeers]:
    """The what-if: the same group without direct access between GPUs, as far as the time allows."""
    try:
        plan = planned(host, cuda, asked)
    except LeftOut:
        return
    runs = started(host, python, plan, {"NCCL_P2P_DISABLE": "1"})
    if not_judged(runs) is None:
        yield GroupWithoutPeers(
            well=as_fact(plan, runs).well, source=Source("child", "NCCL_P2P_DISABLE=1 " + SOURCE.where)
        )
