"""Interfaces that NCCL takes and that other nodes cannot reach: bridges of containers, link-local addresses."""

from __future__ import annotations

from envdoctor.api import Ask, Confidence, Finding, Findings, Severity, Variables
from envdoctor_checks.nccl.addresses import is_bridge, is_docker_default, is_link_local, is_loopback
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    CollectiveFailed,
    CollectiveTimedOut,
    ConnectFailed,
    GlooConnectFailed,
    InterfacesChosen,
    NcclSettings,
    NetworkInterfaces,
    SettingSaid,
)
from envdoctor_checks.nccl.reasoning import (
    COLLECTIVE,
    IFNAME,
    INTERFACE,
    choose_interface,
    family_of,
    loops,
    quoted,
    seen_interfaces,
    setting_of,
    several_nodes,
    use,
)
from envdoctor_checks.nccl.selecting import address_of, chosen

SUBJECT = f"variable:{IFNAME}"
UNROUTABLE_DETAIL = (
    "Bridges and veth pairs of containers (docker0, veth..., cni0) and link-local addresses (fe80::, 169.254.) lead nowhere "
    "beyond their own machine or wire, and every node has its own. NCCL takes every interface that is up and not called "
    "docker, lo or virbr, and hands their addresses to the other nodes."
)


def _dead_end(name: str, addresses: tuple[str, ...]) -> bool:
    if is_bridge(name):
        return True
    return bool(addresses) and all(is_link_local(each) for each in addresses)


@check.rule
def unroutable_interface(
    settings: NcclSettings, interfaces: NetworkInterfaces, variables: Variables | None
) -> Findings:
    """NCCL takes an interface that other nodes cannot reach: a container bridge or a link-local address."""
    if not several_nodes(variables) or interfaces.omitted:
        return
    setting = settings.effective(IFNAME)
    taken = chosen(interfaces.interfaces, setting.value if setting else None, family_of(settings))
    dead = [each for each in taken if each.name != "lo" and _dead_end(each.name, each.addresses or ())]
    if not dead:
        return
    first = dead[0] is taken[0]
    yield Finding(
        subject=SUBJECT,
        title=f"NCCL takes {dead[0].name} ({address_of(dead[0]) or 'no address known'}), which other nodes cannot reach",
        severity=Severity.ERROR if first else Severity.WARNING,
        confidence=Confidence.LIKELY,
        detail=UNROUTABLE_DETAIL,
        evidence=(interfaces.shows("NCCL takes", ", ".join(each.name for each in taken)), *use(variables)),
        remedies=choose_interface(interfaces, setting),
        breaks=(INTERFACE,),
    )


UNREACHABLE = ("no route to host", "network is unreachable", "timed out", "invalid argument")


@unroutable_interface.sign
def _could_not_connect(
    failed: ConnectFailed,
    said: tuple[InterfacesChosen, ...],
    told: tuple[SettingSaid, ...],
    settings: NcclSettings | None,
    interfaces: NetworkInterfaces | None,
) -> Findings:
    """A rank could not connect to an address that leads nowhere."""
    if loops(failed.address):
        return
    dead = [
        each
        for each in said
        if any(not is_loopback(address) and _dead_end(name, (address,)) for name, address in each.interfaces)
    ]
    address = failed.address
    telling = address is not None and (is_link_local(address) or is_docker_default(address))
    far = any(word in failed.error.lower() for word in UNREACHABLE)
    if not telling and not dead and not (far and address):
        return
    yield Finding(
        subject=SUBJECT,
        title=f"a rank gave out {address}, which other nodes cannot reach"
        if telling
        else "NCCL also took an interface of this machine's containers, which other nodes cannot reach"
        if dead
        else f"{address} cannot be reached from another node",
        confidence=Confidence.CERTAIN if telling else Confidence.LIKELY if dead else Confidence.POSSIBLE,
        detail=UNROUTABLE_DETAIL,
        evidence=quoted(failed, *dead[:2]),
        remedies=choose_interface(
            _routable(interfaces, said), setting_of(IFNAME, settings, told, failed.host)
        ),
        breaks=(INTERFACE,),
        shows=(INTERFACE, COLLECTIVE),
        asks=()
        if telling
        else (Ask("ip -br addr; ip route", "which interface leads to the other nodes (on each node)"),),
    )


def _routable(
    interfaces: NetworkInterfaces | None, said: tuple[InterfacesChosen, ...]
) -> NetworkInterfaces | None:
    known = seen_interfaces(interfaces, said)
    return known if known and any(not is_bridge(each.name) for each in known.interfaces) else None


@unroutable_interface.sign
def _took_a_dead_end(
    said: tuple[InterfacesChosen, ...],
    failed: tuple[ConnectFailed, ...],
    stuck: tuple[CollectiveTimedOut, ...],
    broken: tuple[CollectiveFailed, ...],
    told: tuple[SettingSaid, ...],
    settings: NcclSettings | None,
    interfaces: NetworkInterfaces | None,
) -> Findings:
    """NCCL began with a bridge, several nodes took part, and it failed."""
    first = [
        each
        for each in said
        if each.interfaces and _dead_end(each.interfaces[0][0], (each.interfaces[0][1],))
    ]
    hosts = {each.host for each in said if each.host}
    if failed or not first or len(hosts) < 2 or not (stuck or broken):
        return
    yield Finding(
        subject=SUBJECT,
        title=f"NCCL took {first[0].interfaces[0][0]}, which other nodes cannot reach",
        confidence=Confidence.LIKELY,
        detail=UNROUTABLE_DETAIL,
        evidence=quoted(first[0], *stuck[:1], *broken[:1]),
        remedies=choose_interface(_routable(interfaces, said), setting_of(IFNAME, settings, told)),
        breaks=(INTERFACE,),
        shows=(INTERFACE, COLLECTIVE),
    )


@unroutable_interface.sign
def _gloo_could_not_connect(failed: GlooConnectFailed, interfaces: NetworkInterfaces | None) -> Findings:
    """Gloo tried an address that leads nowhere."""
    remote = failed.remote
    if remote is None or not (is_link_local(remote) or is_docker_default(remote)):
        return
    yield Finding(
        subject="variable:GLOO_SOCKET_IFNAME",
        title=f"Gloo's rank gave out {remote}, which other nodes cannot reach",
        confidence=Confidence.LIKELY,
        detail=UNROUTABLE_DETAIL,
        evidence=quoted(failed),
        remedies=choose_interface(interfaces, None, "GLOO_SOCKET_IFNAME", "eth0"),
        breaks=(INTERFACE,),
        shows=(INTERFACE, COLLECTIVE),
    )
