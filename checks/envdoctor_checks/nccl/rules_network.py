"""The interfaces of NCCL's sockets: whether there are any, whether its settings fit them, and the loopback one."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Confidence,
    Finding,
    Findings,
    Reach,
    Relaunch,
    Remedy,
    Run,
    Severity,
    UnsetVariable,
    Variables,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.nccl.addresses import is_loopback
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    ConnectFailed,
    InterfacesChosen,
    NcclSettings,
    NetworkInterfaces,
    NoInterface,
    Setting,
    SettingSaid,
)
from envdoctor_checks.nccl.reasoning import (
    COLLECTIVE,
    IFNAME,
    INTERFACE,
    choose_interface,
    contained,
    family_of,
    quoted,
    seen_interfaces,
    setting_of,
    several_nodes,
    several_processes,
    use,
)
from envdoctor_checks.nccl.selecting import chosen, in_order

SUBJECT = f"variable:{IFNAME}"
NO_MATCH_DETAIL = (
    "NCCL takes the interfaces whose names begin with a word of NCCL_SOCKET_IFNAME (with = in front: whole names; with ^: all "
    "others), if they are up and have an address. With none left it cannot start. Names differ between machines, so a value "
    "copied from another node, or a conf file copied there, often fits one node only."
)
LIST_INTERFACES = Ask(
    "ip -br addr; env | grep NCCL_; cat /etc/nccl.conf", "the interfaces, and what NCCL is told to take"
)


def _names(interfaces: NetworkInterfaces) -> str:
    return ", ".join(each.name for each in interfaces.interfaces[:8])


def _fitting(interfaces: NetworkInterfaces | None, setting: Setting | None) -> tuple[Remedy, ...]:
    fixes = choose_interface(interfaces, setting)
    if setting is None or setting.file is None:
        fixes += (UnsetVariable(name=IFNAME, why="NCCL then chooses by itself: neither docker0 nor lo"),)
    return fixes


@check.rule
def socket_ifname_no_match(
    settings: NcclSettings, interfaces: NetworkInterfaces, variables: Variables | None
) -> Findings:
    """NCCL_SOCKET_IFNAME names no network interface of this machine."""
    setting = settings.effective(IFNAME)
    if setting is None or len(setting.value) < 2 or interfaces.omitted or not in_order(interfaces.interfaces):
        return
    if chosen(interfaces.interfaces, setting.value, family_of(settings)):
        return
    text = "text" in (settings.source.kind, interfaces.source.kind)
    severity = Severity.ERROR if several_processes(variables) else Severity.WARNING if text else Severity.NOTE
    yield Finding(
        subject=SUBJECT,
        title=f"no usable interface fits {IFNAME}={setting.value}",
        severity=severity,
        confidence=Confidence.LIKELY if text else Confidence.CERTAIN,
        detail=NO_MATCH_DETAIL,
        evidence=(
            settings.shows(setting.file or IFNAME, f"{IFNAME}={setting.value}"),
            interfaces.shows("interfaces", _names(interfaces)),
            *use(variables),
        ),
        remedies=_fitting(interfaces, setting),
        breaks=(INTERFACE,),
    )


@socket_ifname_no_match.sign
def _none_fits(
    said: NoInterface,
    told: tuple[SettingSaid, ...],
    settings: NcclSettings | None,
    interfaces: NetworkInterfaces | None,
    variables: Variables | None,
) -> Findings:
    """NCCL found no interface, and it was told which to take."""
    setting = setting_of(IFNAME, settings, told, said.host)
    if setting is None and variables is not None and variables.get(IFNAME):
        setting = Setting(IFNAME, variables.get(IFNAME) or "")
    value = setting.value if setting else None
    if value is None and interfaces is not None and not in_order(interfaces.interfaces):
        return  # there is nothing that any value could fit
    printed = [each for each in told if each.name == IFNAME][:1]
    yield Finding(
        subject=SUBJECT,
        title=f"no usable interface fits {IFNAME}={value}" + (f" on {said.host}" if said.host else "")
        if value
        else f"NCCL found no interface: most often because {IFNAME} (or a conf file) names one that is not there",
        confidence=Confidence.CERTAIN if value else Confidence.LIKELY,
        detail=NO_MATCH_DETAIL,
        evidence=(
            *quoted(said, *printed),
            *((interfaces.shows("interfaces", _names(interfaces)),) if interfaces else ()),
        ),
        remedies=_fitting(interfaces, setting),
        breaks=(INTERFACE,),
        shows=(INTERFACE, COLLECTIVE),
        asks=() if value and interfaces else (LIST_INTERFACES,),
    )


NO_IP_DETAIL = (
    "Even on one machine NCCL's processes meet over a socket first. It needs one interface that is up and has an IPv4 or IPv6 "
    "address; the loopback interface will do for a single node. A new network namespace begins with lo down."
)


def _bring_up(around: Surroundings | None) -> tuple[Remedy, ...]:
    fixes: list[Remedy] = [
        Run(
            title="bring the loopback interface up (enough for one node)",
            commands=("ip link set lo up",),
            reach=Reach.HOST if contained(around) is not True else Reach.CONTAINER,
            needs_root=True,
            caveat="In a network namespace, run it inside: ip netns exec NAME ip link set lo up. For several nodes an interface with an address is needed, or run outside the namespace.",
            verify="ip -br addr",
        )
    ]
    if contained(around):
        fixes.append(Relaunch(adds="--network=host", why="the host's interfaces", verify="ip -br addr"))
    return tuple(fixes)


@check.rule
def no_ip_interface(
    interfaces: NetworkInterfaces, variables: Variables | None, around: Surroundings | None
) -> Findings:
    """No network interface is up and has an address, not even the loopback one."""
    if interfaces.source.kind == "text" or interfaces.omitted or in_order(interfaces.interfaces):
        return
    yield Finding(
        title="no network interface is up with an IP address",
        severity=Severity.ERROR if several_processes(variables) else Severity.NOTE,
        detail=NO_IP_DETAIL,
        evidence=(interfaces.shows("interfaces", _names(interfaces) or "none"), *use(variables)),
        remedies=_bring_up(around),
        breaks=(INTERFACE,),
    )


@no_ip_interface.sign
def _nothing_up(
    said: NoInterface,
    told: tuple[SettingSaid, ...],
    settings: NcclSettings | None,
    interfaces: NetworkInterfaces | None,
    around: Surroundings | None,
) -> Findings:
    """NCCL found no interface, and there is none."""
    if setting_of(IFNAME, settings, told, said.host):
        return
    usable = in_order(interfaces.interfaces) if interfaces else ()
    if usable:
        return
    yield Finding(
        title="NCCL found no network interface that is up with an IP address",
        confidence=Confidence.CERTAIN if interfaces else Confidence.POSSIBLE,
        detail=NO_IP_DETAIL,
        evidence=(
            *quoted(said),
            *((interfaces.shows("interfaces", _names(interfaces) or "none"),) if interfaces else ()),
        ),
        remedies=_bring_up(around),
        breaks=(INTERFACE,),
        shows=(INTERFACE, COLLECTIVE),
        asks=() if interfaces else (LIST_INTERFACES,),
    )


LOOPBACK_DETAIL = (
    "The first interface that NCCL takes is the one whose address it gives to the other ranks. 127.0.0.1 means a different "
    "machine to each of them, so they knock at their own door. By default NCCL leaves lo out; a setting that begins with ^ "
    "replaces that default, so ^docker0 lets lo in."
)


@check.rule
def conf_selects_loopback(
    settings: NcclSettings, interfaces: NetworkInterfaces, variables: Variables | None
) -> Findings:
    """A setting makes NCCL take the loopback interface, which no other node can reach."""
    setting = settings.effective(IFNAME)
    if setting is None or not several_nodes(variables) or interfaces.omitted:
        return
    taken = chosen(interfaces.interfaces, setting.value, family_of(settings))
    usual = chosen(interfaces.interfaces, None, family_of(settings))
    if not taken or taken[0].name != "lo" or (usual and usual[0].name == "lo"):
        return
    yield Finding(
        subject=SUBJECT,
        title=f"{IFNAME}={setting.value} selects the loopback interface, and the job spans several nodes",
        detail=LOOPBACK_DETAIL,
        evidence=(settings.shows(setting.file or IFNAME, f"{IFNAME}={setting.value}"), *use(variables)),
        remedies=choose_interface(interfaces, setting),
        breaks=(INTERFACE,),
    )


@conf_selects_loopback.sign
def _took_loopback(
    said: tuple[InterfacesChosen, ...],
    failed: tuple[ConnectFailed, ...],
    told: tuple[SettingSaid, ...],
    settings: NcclSettings | None,
    interfaces: NetworkInterfaces | None,
    variables: Variables | None,
) -> Findings:
    """NCCL printed that it took lo, and another rank could not connect."""
    took = [each for each in said if each.interfaces and is_loopback(each.interfaces[0][1])]
    if not took:
        return
    setting = setting_of(IFNAME, settings, told, took[0].host)
    selected = setting is not None or any(len(each.interfaces) > 1 for each in took)
    hosts = {each.host for each in said if each.host}
    refused = [each for each in failed if each.address is None or is_loopback(each.address)]
    if not selected or not (len(hosts) > 1 or refused or several_nodes(variables)):
        return  # one node with its loopback interface works
    yield Finding(
        subject=SUBJECT,
        title="NCCL took the loopback interface, which other nodes cannot reach"
        + (f" ({IFNAME}={setting.value})" if setting else ""),
        confidence=Confidence.CERTAIN if refused and len(hosts) > 1 else Confidence.LIKELY,
        detail=LOOPBACK_DETAIL,
        evidence=quoted(took[0], *refused[:1], *[each for each in told if each.name == IFNAME][:1]),
        remedies=choose_interface(seen_interfaces(interfaces, said), setting),
        breaks=(INTERFACE,),
        shows=(INTERFACE, COLLECTIVE) if refused else (INTERFACE,),
    )
