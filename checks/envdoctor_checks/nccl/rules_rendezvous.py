"""Gloo's interface, and where the ranks meet: MASTER_ADDR and MASTER_PORT."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Finding,
    Findings,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
    UnsetVariable,
    Variables,
)
from envdoctor_checks.nccl.addresses import is_loopback, is_nonsense
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    CollectiveFailed,
    CollectiveTimedOut,
    GlooConnectFailed,
    GlooDeviceUnsupported,
    GlooInterfaceMissing,
    GlooLoopback,
    HostNameAddresses,
    MasterAddresses,
    MasterPortListener,
    NameNotResolved,
    NetworkInterfaces,
    PortListener,
    PortTaken,
    StoreRefused,
    StoreUnreachable,
)
from envdoctor_checks.nccl.reasoning import (
    COLLECTIVE,
    INTERFACE,
    RENDEZVOUS,
    choose_interface,
    loops,
    number,
    quoted,
    several_nodes,
    several_processes,
    use,
)

GLOO = "GLOO_SOCKET_IFNAME"
GLOO_SUBJECT = f"variable:{GLOO}"
HOSTNAME_DETAIL = (
    "Without GLOO_SOCKET_IFNAME Gloo listens on the address that the machine's own host name resolves to. If that is 127.0.0.1 "
    "or 127.0.1.1 (Debian's default in /etc/hosts), or nothing, the ranks of other nodes are given an address that means "
    "themselves. On a single node it does no harm."
)


def _gloo_interface(interfaces: NetworkInterfaces | None) -> tuple[Remedy, ...]:
    return (
        *choose_interface(interfaces, None, GLOO, "eth0"),
        Change(
            title="or let the host name resolve to the address that other nodes use: in /etc/hosts",
            reach=Reach.HOST,
            example=("10.0.0.4  this-host-name   # this node's own address",),
            needs_restart="process",
            verify="getent ahosts $(hostname)",
        ),
    )


@check.rule
def hostname_loopback(
    name: HostNameAddresses, variables: Variables, interfaces: NetworkInterfaces | None
) -> Findings:
    """The machine's own name leads to the loopback address, which Gloo then gives to other nodes."""
    if variables.get(GLOO) or not several_nodes(variables) or name.source.kind == "text":
        return
    if any(not is_loopback(each) for each in name.addresses):
        return
    told = ", ".join(name.addresses) or name.error or "nothing"
    yield Finding(
        subject=GLOO_SUBJECT,
        title=f"the host name {name.name} leads to {told}, and the job spans several nodes",
        severity=Severity.WARNING,
        confidence=Confidence.LIKELY,
        detail=HOSTNAME_DETAIL,
        evidence=(name.shows(name.name, told), *use(variables)),
        remedies=_gloo_interface(interfaces),
        breaks=(RENDEZVOUS,),
    )


@hostname_loopback.sign
def _gloo_took_loopback(
    said: tuple[GlooLoopback, ...],
    failed: tuple[GlooConnectFailed, ...],
    unsupported: tuple[GlooDeviceUnsupported, ...],
    broken: tuple[CollectiveFailed, ...],
    stuck: tuple[CollectiveTimedOut, ...],
    name: HostNameAddresses | None,
    interfaces: NetworkInterfaces | None,
) -> Findings:
    """Gloo said that it takes the loopback address, or connected to it in vain."""
    refused = [each for each in failed if loops(each.remote)]
    nameless = [each for each in unsupported if each.by_hostname]
    if not (said or refused or nameless):
        return
    wrong = refused or nameless or broken or stuck
    yield Finding(
        subject=GLOO_SUBJECT,
        title="Gloo cannot make an address of the host name"
        if nameless
        else "Gloo uses the loopback address because the host name has no other, and other nodes cannot reach it",
        severity=Severity.ERROR if wrong else Severity.NOTE,
        confidence=Confidence.CERTAIN
        if (said and refused)
        else Confidence.LIKELY
        if wrong
        else Confidence.POSSIBLE,
        detail=HOSTNAME_DETAIL,
        evidence=(
            *quoted(*said[:1], *refused[:1], *nameless[:1]),
            *((name.shows(name.name, ", ".join(name.addresses) or "no address"),) if name else ()),
        ),
        remedies=_gloo_interface(interfaces),
        breaks=(RENDEZVOUS,) if wrong else (),
        shows=(RENDEZVOUS, COLLECTIVE) if wrong else (),
        asks=()
        if name
        else (Ask("getent ahosts $(hostname); ip -br addr", "what the host name leads to, on each node"),),
    )


GLOO_DETAIL = (
    "Gloo takes GLOO_SOCKET_IFNAME literally: a comma-separated list of whole interface names, without the prefixes, = and ^ "
    "of NCCL_SOCKET_IFNAME. The interface must have an address on this node."
)


def _name_it(interfaces: NetworkInterfaces | None) -> tuple[Remedy, ...]:
    return (
        *choose_interface(interfaces, None, GLOO, "eth0"),
        UnsetVariable(name=GLOO, why="or let Gloo take the address of the host name"),
    )


@check.rule
def gloo_ifname_invalid(variables: Variables, interfaces: NetworkInterfaces) -> Findings:
    """GLOO_SOCKET_IFNAME names an interface that is not there."""
    value = (variables.get(GLOO) or "").strip()
    unknown = [each for each in value.split(",") if each and interfaces.named(each) is None]
    if not unknown or interfaces.omitted:
        return
    yield Finding(
        subject=GLOO_SUBJECT,
        title=f"{GLOO} names {unknown[0]}, and there is no such interface",
        severity=Severity.ERROR if several_processes(variables) else Severity.NOTE,
        confidence=Confidence.LIKELY if interfaces.source.kind == "text" else Confidence.CERTAIN,
        detail=GLOO_DETAIL,
        evidence=(
            variables.evidence(GLOO),
            interfaces.shows("interfaces", ", ".join(each.name for each in interfaces.interfaces[:8])),
        ),
        remedies=_name_it(interfaces),
        breaks=(INTERFACE,),
    )


@gloo_ifname_invalid.sign
def _gloo_did_not_find_it(said: GlooInterfaceMissing, interfaces: NetworkInterfaces | None) -> Findings:
    """Gloo found no address for an interface."""
    yield Finding(
        subject=GLOO_SUBJECT,
        title=f"Gloo finds no address for the interface {said.interface}",
        detail=GLOO_DETAIL,
        evidence=quoted(said),
        remedies=_name_it(interfaces),
        breaks=(INTERFACE,),
        shows=(INTERFACE, COLLECTIVE),
    )


@gloo_ifname_invalid.sign
def _gloo_could_not_make_it(
    said: tuple[GlooDeviceUnsupported, ...],
    missing: tuple[GlooInterfaceMissing, ...],
    interfaces: NetworkInterfaces | None,
) -> Findings:
    """Gloo could not use an interface by its name."""
    told = [each for each in said if not each.by_hostname]
    if told and not missing:
        yield Finding(
            subject=GLOO_SUBJECT,
            title=f"Gloo cannot use the interface that {GLOO} names",
            confidence=Confidence.LIKELY,
            detail=GLOO_DETAIL,
            evidence=quoted(told[0]),
            remedies=_name_it(interfaces),
            breaks=(INTERFACE,),
            shows=(INTERFACE, COLLECTIVE),
        )


MASTER = "MASTER_ADDR"
MASTER_SUBJECT = f"variable:{MASTER}"
MASTER_DETAIL = (
    "All ranks meet at rank 0: it listens on MASTER_PORT, and every other rank connects to MASTER_ADDR. On all nodes MASTER_ADDR "
    "must be a name or address of the node of rank 0 (torchrun: --master_addr or --rdzv_endpoint) that the others reach; "
    "localhost is right on a single node only."
)


def _meet(port: int | None) -> tuple[Remedy, ...]:
    where = port or "$MASTER_PORT"
    return (
        Run(
            title="on every node: the address of the node of rank 0 (what hostname -I prints there)",
            commands=("export MASTER_ADDR=ADDRESS_OF_RANK_0",),
            reach=Reach.SHELL,
            needs_restart="process",
            caveat="With torchrun give it as --master_addr, or --rdzv_endpoint=ADDRESS:PORT, the same on all nodes.",
            verify=f"nc -zv $MASTER_ADDR {where}   # while rank 0 waits; no answer: a firewall, or rank 0 did not start",
        ),
    )


@check.rule
def master_addr_wrong(master: MasterAddresses, variables: Variables) -> Findings:
    """MASTER_ADDR does not lead to the node of rank 0."""
    if not several_processes(variables):
        return
    problem = None
    severity = Severity.ERROR
    rank = number(variables, "RANK")
    if not master.addresses:
        problem = f"{master.name} cannot be resolved ({master.error or 'no address'})"
    elif any(is_nonsense(each) for each in master.addresses):
        problem = f"{master.name} is {master.addresses[0]}, which no machine has"
    elif several_nodes(variables) and all(is_loopback(each) for each in master.addresses):
        here = number(variables, "LOCAL_WORLD_SIZE")
        if rank is not None and here is not None and rank < here:
            severity = Severity.WARNING  # right for this node, and wrong for the others if they have it, too
        problem = f"{master.name} is this machine on every node, and the job spans several"
    elif rank == 0 and not master.local and master.source.kind != "text":
        problem, severity = f"{master.name} is not this machine, which holds rank 0", Severity.WARNING
    if problem is None:
        return
    yield Finding(
        subject=MASTER_SUBJECT,
        title=f"{MASTER}: {problem}",
        severity=severity,
        confidence=Confidence.LIKELY if severity is Severity.WARNING else Confidence.CERTAIN,
        detail=MASTER_DETAIL,
        evidence=(
            master.shows(MASTER, ", ".join(master.addresses) or master.error or "no address"),
            *use(variables),
        ),
        remedies=_meet(number(variables, "MASTER_PORT")),
        breaks=(RENDEZVOUS,),
    )


@master_addr_wrong.sign
def _rank_0_not_reached(
    unreachable: tuple[StoreUnreachable, ...],
    names: tuple[NameNotResolved, ...],
    refused: tuple[StoreRefused, ...],
    taken: tuple[PortTaken, ...],
) -> Findings:
    """The store of rank 0 could not be reached, or its name not resolved."""
    families = {each.family for each in names}
    nameless = bool(names) and (bool(unreachable) or "any" in families or {"IPv4", "IPv6"} <= families)
    if taken or not (unreachable or nameless):
        return  # a first refusal while rank 0 starts, or one family without an address, is normal
    name = names[0].name if names else next((each.host for each in unreachable if each.host), None)
    port = next((each.port for each in unreachable if each.port), None)
    odd = name is not None and is_nonsense(name)
    if nameless:
        title = f"{MASTER}: {name} cannot be resolved on this node"
    elif odd:
        title = f"{MASTER}: {name} is an address that no machine has"
    elif loops(name):
        title = f"{MASTER} is {name}, and no rank 0 answers there: it is another node, or it did not start"
    else:
        title = f"rank 0 cannot be reached at {name or MASTER}" + (f", port {port}" if port else "")
    yield Finding(
        subject=MASTER_SUBJECT,
        title=title,
        confidence=Confidence.CERTAIN if nameless or odd else Confidence.LIKELY,
        detail=MASTER_DETAIL,
        evidence=quoted(*names[:1], *unreachable[:1], *refused[:1]),
        remedies=_meet(port),
        breaks=(RENDEZVOUS,),
        shows=(RENDEZVOUS, COLLECTIVE),
        asks=(
            Ask(
                "getent ahosts $MASTER_ADDR; nc -zv $MASTER_ADDR $MASTER_PORT",
                "whether this node finds and reaches rank 0",
            ),
        ),
    )


PORT = "MASTER_PORT"
PORT_DETAIL = (
    "Rank 0 of every job listens on its MASTER_PORT (torchrun: --master_port, 29500 unless told otherwise), so two jobs on one "
    "machine need two ports. Processes left over from an ended job keep theirs."
)


def _another_port(port: int | None, listener: PortListener | None) -> tuple[Remedy, ...]:
    fixes: list[Remedy] = [
        SetVariable(
            name=PORT,
            value=str(port + 1 if port and port < 65000 else 29501),
            why="another port, the same on all nodes (torchrun: --master_port, or --rdzv_endpoint=HOST:PORT)",
        ),
        Change(
            title="on one node: let torchrun find a free port",
            reach=Reach.SHELL,
            example=("torchrun --standalone --nproc_per_node=gpu train.py",),
        ),
    ]
    if listener is None or listener.pid is None:
        commands: tuple[str, ...] = (f"ss -ltnp 'sport = :{port or 29500}'",)
    else:
        commands = (f"ps -o pid,lstart,cmd -p {listener.pid}", f"kill {listener.pid}")
    fixes.append(
        Run(
            title="or end what holds the port, if it is left over",
            commands=commands,
            reach=Reach.SHELL,
            caveat="It may be another job that is running.",
        )
    )
    return tuple(fixes)


@check.rule
def master_port_in_use(
    listener: MasterPortListener, variables: Variables, master: MasterAddresses | None
) -> Findings:
    """The port on which rank 0 would listen is in use."""
    rank = number(variables, "RANK") or number(variables, "NODE_RANK") or 0
    if not listener.listening or rank or (master is not None and not master.local):
        return
    if variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return  # torchrun started this process, and itself listens there
    yield Finding(
        subject=f"variable:{PORT}",
        title=f"something listens on port {listener.port}, which {PORT} names",
        severity=Severity.WARNING if several_processes(variables) else Severity.NOTE,
        confidence=Confidence.LIKELY,
        detail=PORT_DETAIL,
        evidence=(listener.shows(PORT, f"{listener.port}, taken"), *use(variables)),
        remedies=_another_port(listener.port, None),
        breaks=(RENDEZVOUS,),
    )


@master_port_in_use.sign
def _port_taken(
    said: tuple[PortTaken, ...], listeners: tuple[PortListener, ...], variables: Variables | None
) -> Findings:
    """Rank 0 could not listen."""
    if not said:
        return
    port = next((each.port for each in said if each.port), None) or number(variables, PORT)
    if port is None and len(listeners) == 1:
        port = listeners[0].port
    listener = next((each for each in listeners if each.port == port), None)
    yield Finding(
        subject=f"variable:{PORT}",
        title=(f"port {port}" if port else "the port of the rendezvous")
        + " is in use"
        + (
            f" by {listener.program} ({listener.pid})"
            if listener and listener.program and listener.pid
            else ""
        ),
        detail=PORT_DETAIL,
        evidence=quoted(said[0], listener),
        remedies=_another_port(port, listener),
        breaks=(RENDEZVOUS,),
        shows=(RENDEZVOUS, COLLECTIVE),
    )
