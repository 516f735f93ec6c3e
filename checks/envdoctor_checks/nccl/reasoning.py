"""What several rules of the nccl check share: outcomes, uses, settings wherever they are told."""

from __future__ import annotations

from collections.abc import Iterable

from envdoctor.api import Change, Evidence, Outcome, Reach, Remedy, SetVariable, Symptom, Variables
from envdoctor.surroundings import Surroundings
from envdoctor_checks.nccl.addresses import is_loopback
from envdoctor_checks.nccl.facts import (
    Interface,
    InterfacesChosen,
    NcclSettings,
    NetworkInterfaces,
    Setting,
    SettingSaid,
)
from envdoctor_checks.nccl.selecting import suggestion

INTERFACE = Outcome("interface")
RENDEZVOUS = Outcome("rendezvous")
PEER = Outcome("peer-to-peer")
RDMA = Outcome("rdma")
COLLECTIVE = Outcome("collective")
IFNAME = "NCCL_SOCKET_IFNAME"


def number(variables: Variables | None, name: str) -> int | None:
    """A variable that holds a number."""
    value = (variables.get(name) or "").strip() if variables else ""
    return int(value) if value.isdigit() else None


def several_processes(variables: Variables | None) -> bool:
    """Whether the variables of a job of several processes are set."""
    return (number(variables, "WORLD_SIZE") or 0) > 1


def several_nodes(variables: Variables | None) -> bool:
    """Whether the variables are those of a job on several machines."""
    here, world = number(variables, "LOCAL_WORLD_SIZE"), number(variables, "WORLD_SIZE") or 0
    if here is not None and world > here:
        return True
    return any(
        (number(variables, name) or 0) > 1 for name in ("NNODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")
    )


def use(variables: Variables | None) -> tuple[Evidence, ...]:
    """The job's variables as evidence."""
    names = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "NNODES")
    return tuple(variables.evidence(name) for name in names if variables.get(name)) if variables else ()


def contained(around: Surroundings | None) -> bool | None:
    """Whether this is a container; None where it is not known."""
    return None if around is None or around.engine is None else around.engine != "none"


def quoted(*said: Symptom | None, label: str = "message") -> tuple[Evidence, ...]:
    """The printed lines of symptoms, as evidence, at most four."""
    return tuple(each.evidence(label) for each in said if each is not None)[:4]


def setting_of(
    name: str, settings: NcclSettings | None, said: Iterable[SettingSaid] = (), host: str | None = None
) -> Setting | None:
    """What a job used: what NCCL itself printed (on that host) before what is set here."""
    for each in said:
        if each.name == name and (host is None or each.host in (None, host)):
            return Setting(name, each.value)
    return settings.effective(name) if settings else None


def family_of(settings: NcclSettings | None) -> str | None:
    """NCCL_SOCKET_FAMILY: which addresses NCCL takes."""
    found = settings.effective("NCCL_SOCKET_FAMILY") if settings else None
    return found.value if found else None


def seen_interfaces(
    interfaces: NetworkInterfaces | None, said: tuple[InterfacesChosen, ...]
) -> NetworkInterfaces | None:
    """The interfaces that are known, or else those of the one host that NCCL printed."""
    if interfaces is not None or not said:
        return interfaces
    pairs = {name: address for each in said if each.host == said[0].host for name, address in each.interfaces}
    return NetworkInterfaces(
        interfaces=tuple(Interface(name=name, addresses=(address,)) for name, address in pairs.items()),
        source=said[0].source,
    )


def choose_interface(
    interfaces: NetworkInterfaces | None,
    setting: Setting | None,
    name: str = IFNAME,
    fallback: str = "^lo,docker",
) -> tuple[Remedy, ...]:
    """Set the variable that names the interface, or the line of the file that does."""
    best = suggestion(interfaces)
    value = f"={best}" if best and name == IFNAME else best or fallback
    why = "the interface through which the nodes reach each other"
    check = "ip -br -4 addr"
    if setting is not None and setting.file:
        return (
            Change(
                title=f"set {name} in {setting.file}" + (f", line {setting.line}" if setting.line else ""),
                reach=Reach.HOST if setting.file.startswith("/etc") else Reach.ENVIRONMENT,
                example=(f"{name}={value}",),
                needs_restart="process",
                verify=check,
            ),
            SetVariable(
                name=name, value=value, why="or for one job: the environment wins over the file", verify=check
            ),
        )
    return (
        SetVariable(
            name=name,
            value=value,
            why=why,
            caveat="Interfaces may have other names on other nodes: each node needs a value that fits it.",
            verify=check,
        ),
    )


def loops(address: str | None) -> bool:
    """Whether an address that is known is a loopback one."""
    return address is not None and is_loopback(address)
