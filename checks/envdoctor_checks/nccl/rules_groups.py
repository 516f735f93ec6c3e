"""What is concluded from process groups that really ran: one finding of a failed run leads, the one nearest to its cause.

A rank that crashed explains the others that waited for it; so does one that failed; wrong results are told apart.
"""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    NoFix,
    Outcome,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
    Variables,
)
from envdoctor_checks.nccl.addresses import is_loopback
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import NetworkInterfaces
from envdoctor_checks.nccl.facts_groups import (
    MEETING,
    GroupRun,
    GroupTransports,
    GroupWithoutPeers,
    PeerAccess,
    RankRun,
)
from envdoctor_checks.nccl.reasoning import (
    COLLECTIVE,
    PEER,
    RENDEZVOUS,
    choose_interface,
    several_nodes,
    use,
)
from envdoctor_checks.nccl.rules_collective import (
    collective_failed,
    collective_timed_out,
    collective_wrong_result,
)
from envdoctor_checks.nccl.rules_network import no_ip_interface
from envdoctor_checks.nccl.rules_peers import p2p_failed
from envdoctor_checks.nccl.rules_rendezvous import GLOO, GLOO_SUBJECT, HOSTNAME_DETAIL, hostname_loopback
from envdoctor_checks.nccl.selecting import in_order

SHARED = Outcome("shared-memory")
DETAIL = (
    "envdoctor started one process per rank on this machine, as torchrun does, and had them meet on 127.0.0.1, connect, and "
    "compute collectives whose results are known. Each rank tells every stage before it enters it."
)
AGAIN = Run(
    title="run the same test in your own launcher, with the transport's own log",
    commands=(
        "NCCL_DEBUG=INFO TORCH_CPP_LOG_LEVEL=INFO torchrun --standalone --nproc-per-node=2 -m envdoctor.rendezvous",
    ),
    reach=Reach.SHELL,
    caveat="envdoctor/rendezvous.py may be copied: it needs torch and nothing else.",
    verify="it ends with: all 2 ranks are well",
)


def _names(ranks: tuple[RankRun, ...]) -> str:
    numbers = ", ".join(str(each.rank) for each in ranks)
    return f"rank {numbers}" if len(ranks) == 1 else f"ranks {numbers}"


def _rows(run: GroupRun) -> tuple[Evidence, ...]:
    """One line per rank, the unfinished first."""
    ranks = sorted(run.ranks, key=lambda each: (each.end == "finished", each.place, each.rank))
    return tuple(run.shows(f"rank {each.rank}", in_words(each)) for each in ranks[:6])


def in_words(rank: RankRun) -> str:
    """What became of a rank, in one line."""
    ending = {
        "finished": "finished",
        "failed": f"failed at {rank.stage}",
        "late": f"{rank.stage} did not end in its time",
        "crashed": f"killed by {rank.signal} at {rank.stage}",
    }[rank.end]
    return ": ".join(each for each in (ending, rank.error or (rank.where and f"at {rank.where}")) if each)


def _outcomes(stage: str) -> tuple[Outcome, ...]:
    """What was seen to fail with a stage."""
    if stage == "shared-memory":
        return (SHARED,)
    if stage == "device":
        return (Outcome("kernel-on-gpu"), COLLECTIVE)
    return (RENDEZVOUS, COLLECTIVE) if stage in MEETING else (COLLECTIVE,)


@check.rule
def rank_crashed(run: GroupRun) -> Findings:
    """A process of the test group was killed by a signal."""
    crashed = run.ended("crashed")
    if not crashed:
        return
    first = crashed[0]
    signals = ", ".join(dict.fromkeys(each.signal or "a signal" for each in crashed))
    yield Finding(
        title=f"{_names(crashed)} died of {signals} at {first.stage}",
        confidence=Confidence.LIKELY,
        detail=DETAIL,
        evidence=_rows(run),
        remedies=_after_crash(first),
        shows=_outcomes(first.stage),
        asks=(Ask("sudo dmesg -T | tail -n 50", "whether the kernel killed it, and for what"),),
    )


def _after_crash(rank: RankRun) -> tuple[Remedy, ...]:
    if rank.signal == "SIGBUS":
        return (
            Run(
                title="make room in /dev/shm: a mapped file that cannot grow ends in SIGBUS",
                commands=("df -h /dev/shm; ls -lS /dev/shm | head",),
                reach=Reach.SHELL,
                caveat="In a container start it with --shm-size=8g or --ipc=host.",
            ),
            AGAIN,
        )
    if rank.signal == "SIGKILL":
        return (
            Run(
                title="see whether memory ran out: mostly it is the kernel that kills so",
                commands=("sudo dmesg -T | grep -i -E 'out of memory|oom-kill'; free -h",),
                reach=Reach.SHELL,
            ),
            AGAIN,
        )
    return (
        Run(
            title="get the place of the crash",
            commands=(
                "TORCH_SHOW_CPP_STACKTRACES=1 NCCL_DEBUG=INFO torchrun --standalone --nproc-per-node=2 -m envdoctor.rendezvous",
            ),
            reach=Reach.SHELL,
            caveat="A crash inside libnccl or libgloo mostly means that it is of another release than torch was built with.",
        ),
    )


@collective_timed_out.sign
def _ranks_were_late(run: GroupRun) -> Findings:
    """A stage of the group did not end, and no rank failed otherwise."""
    late = run.ended("late")
    if not late or run.ended("crashed") or run.ended("failed"):
        return
    behind = tuple(each for each in late if each.place == late[0].place)
    waiting = tuple(each for each in run.ranks if each.place > late[0].place)
    stage = behind[0].stage
    if waiting:
        title = f"{_names(behind)} did not come past {stage}; the others waited for it"
    else:
        title = f"no rank came past {stage} within {run.meet if stage in MEETING else run.timeout:g} s"
    yield Finding(
        title=title,
        confidence=Confidence.LIKELY,
        detail=DETAIL,
        evidence=_rows(run),
        remedies=(*_to_try(run), AGAIN),
        shows=_outcomes(stage),
        asks=(Ask("py-spy dump --pid PID, on each rank", "where each rank waits"),),
    )


def _to_try(run: GroupRun) -> tuple[Remedy, ...]:
    if run.backend != "nccl":
        return ()
    return (
        SetVariable(name="NCCL_P2P_DISABLE", value="1", why="whether it is the direct access between GPUs"),
        SetVariable(name="NCCL_SHM_DISABLE", value="1", why="whether it is the shared memory between ranks"),
    )


@collective_failed.sign
def _a_rank_failed(run: GroupRun) -> Findings:
    """A rank raised an exception, or left."""
    failed = run.ended("failed")
    if not failed or run.ended("crashed"):
        return
    first = failed[0]
    yield Finding(
        title=f"a group of {len(run.ranks)} ranks over {run.backend.upper() if run.backend == 'nccl' else 'Gloo'} "
        f"failed at {first.stage} ({_names(failed)})",
        confidence=Confidence.POSSIBLE,
        detail=DETAIL,
        evidence=_rows(run),
        remedies=(AGAIN,),
        shows=_outcomes(first.stage),
    )


@collective_wrong_result.sign
def _known_values_came_out_wrong(run: GroupRun, transports: GroupTransports | None) -> Findings:
    """What the ranks computed is not what it must be."""
    if not run.wrong:
        return
    first = run.wrong[0]
    what = first.operation + (f" with rank {first.peer}" if first.peer is not None else "")
    rows = [
        run.shows(f"rank {each.rank}", f"{each.operation}: {each.elements} of {each.of} elements are wrong")
        for each in run.wrong[:4]
    ]
    how = (transports.shows("transports", ", ".join(transports.via())),) if transports else ()
    peers = SetVariable(
        name="NCCL_P2P_DISABLE", value="1", why="whether it is the direct access between GPUs"
    )
    yield Finding(
        title=f"{what} gave wrong values on rank {first.rank}",
        confidence=Confidence.LIKELY,
        detail=DETAIL,
        evidence=(*rows, *how),
        remedies=(peers, AGAIN)
        if run.backend == "nccl"
        else (NoFix(reason="no variable of Gloo changes what it computes: test the machine's memory"),),
        shows=(COLLECTIVE,),
    )


@p2p_failed.sign
def _it_went_without(
    run: GroupRun,
    without: GroupWithoutPeers,
    transports: GroupTransports | None,
    promised: PeerAccess | None,
) -> Findings:
    """The group failed, and the same group was well with NCCL_P2P_DISABLE=1."""
    if run.well or not without.well:
        return
    direct = [each for each in transports.links if each.via.startswith("P2P")] if transports else []
    pairs = ", ".join(f"{a}-{b}" for a, b in promised.pairs[:8]) if promised else ""
    yield Finding(
        title="the GPUs' direct access to each other fails: the same ranks are well with NCCL_P2P_DISABLE=1",
        confidence=Confidence.CERTAIN if direct else Confidence.LIKELY,
        detail=DETAIL,
        evidence=(
            *_rows(run)[:3],
            without.shows("with NCCL_P2P_DISABLE=1", "all well"),
            *((promised.shows("the driver promises access", pairs),) if promised and pairs else ()),
            *((transports.shows("transports", ", ".join(transports.via())),) if transports else ()),
        ),
        remedies=(
            SetVariable(
                name="NCCL_P2P_DISABLE",
                value="1",
                why="do without it until it is mended: with it the ranks were well",
                caveat="Slower: the data goes through the host's memory.",
            ),
        ),
        breaks=(PEER,),
        shows=(PEER, COLLECTIVE),
        asks=(
            Ask("cat /proc/cmdline; sudo lspci -vvv | grep ACSCtl", "whether the IOMMU or PCIe ACS is why"),
        ),
    )


UP = Run(
    title="bring the loopback interface up",
    commands=("ip link set lo up",),
    reach=Reach.CONTAINER,
    needs_root=True,
    caveat="In a container made with --network=none or unshare --net it is the network namespace that lacks it.",
    verify="ip -br addr show lo   # 127.0.0.1/8",
)
LOOPBACK_DETAIL = (
    "The processes of one machine meet on 127.0.0.1: torchrun --standalone, the store of rank 0, Gloo and NCCL's own "
    "threads. Without a loopback interface that is up they cannot reach each other."
)


def _has_loopback(interfaces: NetworkInterfaces) -> bool:
    return any(
        is_loopback(address) for each in in_order(interfaces.interfaces) for address in each.addresses or ()
    )


@check.rule
def loopback_down(run: GroupRun, interfaces: NetworkInterfaces) -> Findings:
    """The loopback interface is down, over which the ranks of one machine meet."""
    if interfaces.omitted or _has_loopback(interfaces) or not in_order(interfaces.interfaces):
        return
    stuck = [each for each in run.ranks if each.end in ("failed", "late") and each.stage in MEETING]
    if not stuck:
        return
    shown = ", ".join(each.name for each in interfaces.interfaces[:8])
    yield Finding(
        title="no interface has the loopback address, and ranks of one machine cannot meet on 127.0.0.1",
        confidence=Confidence.CERTAIN,
        detail=LOOPBACK_DETAIL,
        evidence=(
            run.shows(f"rank {stuck[0].rank}", in_words(stuck[0])),
            interfaces.shows("interfaces", shown),
        ),
        remedies=(UP,),
        breaks=(RENDEZVOUS,),
        shows=(RENDEZVOUS, COLLECTIVE),
    )


@no_ip_interface.sign
def _ranks_could_not_meet(run: GroupRun, interfaces: NetworkInterfaces) -> Findings:
    """A group was tried and could not meet, where no interface has an address."""
    stuck = [each for each in run.ranks if each.end != "finished" and each.stage in MEETING]
    if not stuck or interfaces.omitted or in_order(interfaces.interfaces):
        return
    yield Finding(
        title="no network interface is up with an IP address, and two ranks cannot even meet on this machine",
        confidence=Confidence.CERTAIN,
        detail=LOOPBACK_DETAIL,
        evidence=(
            run.shows(f"rank {stuck[0].rank}", in_words(stuck[0])),
            interfaces.shows("interfaces", ", ".join(each.name for each in interfaces.interfaces) or "none"),
        ),
        remedies=(UP,),
        breaks=(Outcome("interface"),),
        shows=(RENDEZVOUS, COLLECTIVE),
    )


@hostname_loopback.sign
def _gloo_listens_on_loopback(
    run: GroupRun, variables: Variables, interfaces: NetworkInterfaces | None
) -> Findings:
    """Gloo, really started, gives the loopback address to the other ranks of a job on several nodes."""
    addresses = tuple(dict.fromkeys(address for each in run.ranks for address in each.addresses))
    if run.backend != "gloo" or not addresses or not several_nodes(variables) or variables.get(GLOO):
        return
    if not all(is_loopback(each) for each in addresses):
        return
    yield Finding(
        subject=GLOO_SUBJECT,
        title=f"Gloo gives the other ranks {addresses[0]}, and the job spans several nodes",
        severity=Severity.WARNING,
        confidence=Confidence.CERTAIN,
        detail=HOSTNAME_DETAIL,
        evidence=(run.shows("Gloo listens on", ", ".join(addresses)), *use(variables)),
        remedies=(
            *choose_interface(interfaces, None, GLOO, "eth0"),
            Change(
                title="or let the host name resolve to the address that other nodes use: in /etc/hosts",
                reach=Reach.HOST,
                example=("10.0.0.4  this-host-name   # this node's own address",),
                needs_restart="process",
                verify="getent ahosts $(hostname)",
            ),
        ),
        breaks=(RENDEZVOUS,),
    )
