"""RDMA between nodes: devices in containers, locked memory, GIDs."""

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
    SetVariable,
    Severity,
    UnsetVariable,
    Variables,
)
from envdoctor.surroundings import Surroundings
from envdoctor.tables import compare_releases
from envdoctor_checks.driver.symptoms import ContainerSeen
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    CompletionFailed,
    LockedMemory,
    NcclLibrary,
    NcclSettings,
    NoRdmaDevice,
    ProcessRights,
    RdmaCallFailed,
    RdmaDevices,
    RdmaNodes,
    RdmaNodesMissing,
    Setting,
    SettingSaid,
)
from envdoctor_checks.nccl.gids import all_empty, at, best_index, is_empty, is_routable
from envdoctor_checks.nccl.reasoning import (
    COLLECTIVE,
    RDMA,
    contained,
    quoted,
    setting_of,
    several_nodes,
    use,
)

WITHOUT_RDMA = SetVariable(
    name="NCCL_IB_DISABLE",
    value="1",
    why="until then: sockets instead of RDMA",
    caveat="Slower by far between nodes.",
)
CONTAINER_DETAIL = (
    "A container shows the machine's RDMA devices in /sys/class/infiniband even where it may not use them. To use one it needs "
    "the files in /dev/infiniband, and for RoCE the network namespace in which the port's addresses are: the host's, or one into "
    "which the device was moved (a device plugin of Kubernetes)."
)


def _let_in(nodes_missing: bool) -> tuple[Remedy, ...]:
    fixes: list[Remedy] = []
    if nodes_missing:
        fixes.append(
            Relaunch(
                adds="--device=/dev/infiniband --cap-add=IPC_LOCK --ulimit memlock=-1",
                why="the device files of the RDMA devices, and the right to lock memory",
                verify="ls /dev/infiniband; ibv_devinfo",
            )
        )
    fixes += [
        Relaunch(
            adds="--network=host",
            why="the network in which the RDMA devices have their addresses (Kubernetes: hostNetwork: true, or an RDMA device plugin)",
            verify="cat /sys/class/infiniband/*/ports/1/gids/0",
        ),
        WITHOUT_RDMA,
    ]
    return tuple(fixes)


def _ports(devices: RdmaDevices) -> str:
    return ", ".join(f"{each.device}:{each.port}" for each in devices.ports[:8]) or "none"


@check.rule
def infiniband_not_in_container(
    devices: RdmaDevices, nodes: RdmaNodes, variables: Variables | None, around: Surroundings | None
) -> Findings:
    """The container shows RDMA devices and may not use them."""
    if nodes.nodes or not devices.active or not contained(around) or devices.source.kind == "text":
        return
    used = several_nodes(variables)
    yield Finding(
        title="the RDMA devices cannot be used in this container: /dev/infiniband is missing",
        severity=Severity.WARNING if used else Severity.NOTE,
        detail=CONTAINER_DETAIL,
        evidence=(
            devices.shows("RDMA ports", _ports(devices)),
            nodes.shows("/dev/infiniband", "empty"),
            *use(variables),
        ),
        remedies=_let_in(nodes_missing=True),
        breaks=(RDMA,) if used else (),
    )


@infiniband_not_in_container.sign
def _no_nodes(
    said: tuple[RdmaNodesMissing, ...],
    none: tuple[NoRdmaDevice, ...],
    devices: RdmaDevices | None,
    nodes: RdmaNodes | None,
) -> Findings:
    """There are devices, and their files are not there."""
    missing = bool(said) or (nodes is not None and not nodes.nodes)
    present = devices is not None and bool(devices.ports)
    if not missing or not (said or none) or not (present or (said and none)):
        return  # most machines have no RDMA device at all
    yield Finding(
        title="the RDMA devices cannot be used here: /dev/infiniband is missing",
        confidence=Confidence.CERTAIN if present else Confidence.LIKELY,
        detail=CONTAINER_DETAIL,
        evidence=(
            *quoted(*said[:1], *none[:1]),
            *((devices.shows("RDMA ports", _ports(devices)),) if devices and devices.ports else ()),
        ),
        remedies=_let_in(nodes_missing=True),
        breaks=(RDMA,),
        shows=(RDMA,),
        asks=()
        if present
        else (Ask("ls /sys/class/infiniband /dev/infiniband", "whether the machine has RDMA devices"),),
    )


@infiniband_not_in_container.sign
def _other_namespace(failed: tuple[RdmaCallFailed, ...], devices: RdmaDevices) -> Findings:
    """The device's addresses are all empty, since they are in another network namespace."""
    if not failed or not all_empty(devices):
        return
    yield Finding(
        title="the RDMA ports have no addresses here: they belong to another network namespace",
        detail=CONTAINER_DETAIL,
        evidence=(*quoted(failed[0]), devices.shows("RDMA ports", f"{_ports(devices)}: every GID is empty")),
        remedies=_let_in(nodes_missing=False),
        breaks=(RDMA,),
        shows=(RDMA, COLLECTIVE),
    )


@infiniband_not_in_container.sign
def _no_address_here(failed: tuple[RdmaCallFailed, ...], devices: RdmaDevices | None) -> Findings:
    """The kernel knows no network interface for the address that a connection was to use."""
    unknown = [
        each
        for each in failed
        if each.call.startswith("ibv_modify_qp")
        and "no such device" in each.error.lower()
        and (each.local_gid is None or is_empty(each.local_gid))
    ]
    if not unknown or (devices is not None and any(each.gids for each in devices.ports)):
        return  # where the addresses are shown, they decide
    yield Finding(
        title="the RDMA port has no address in this network namespace",
        confidence=Confidence.LIKELY,
        detail=CONTAINER_DETAIL,
        evidence=quoted(unknown[0]),
        remedies=_let_in(nodes_missing=False),
        breaks=(RDMA,),
        shows=(RDMA, COLLECTIVE),
        asks=(
            Ask(
                "cat /sys/class/infiniband/*/ports/1/gids/[0-3]", "whether every address is empty (all zeros)"
            ),
        ),
    )


LOCK_DETAIL = (
    "RDMA registers memory, which locks it. A process without the capability IPC_LOCK may lock no more than ulimit -l, which "
    "containers set to 64 KiB or 8 MiB; the call then says that it cannot allocate memory, with plenty of it free."
)
ENOUGH_LOCKED = 16 << 30


def _may_lock(around: Surroundings | None) -> tuple[Remedy, ...]:
    relaunch = Relaunch(
        adds="--cap-add=IPC_LOCK --ulimit memlock=-1",
        why="the right to lock memory (Kubernetes: securityContext.capabilities.add: [IPC_LOCK])",
        verify="ulimit -l; grep CapEff /proc/self/status",
    )
    shell = Run(
        title="outside a container: no limit in the shell that starts the job",
        commands=("ulimit -l unlimited",),
        reach=Reach.SHELL,
        needs_restart="process",
        caveat="The hard limit must allow it (/etc/security/limits.d, LimitMEMLOCK=infinity of slurmd or sshd).",
        verify="ulimit -l",
    )
    inside = contained(around)
    return (relaunch,) if inside else (shell,) if inside is False else (relaunch, shell)


@check.rule
def ipc_lock_missing(
    locked: LockedMemory,
    rights: ProcessRights,
    devices: RdmaDevices,
    nodes: RdmaNodes,
    variables: Variables | None,
    around: Surroundings | None,
) -> Findings:
    """The container may not lock the memory that RDMA registers."""
    if locked.limit is None or locked.limit >= ENOUGH_LOCKED or "IPC_LOCK" in rights.capabilities:
        return
    if not contained(around) or not devices.active or not nodes.nodes:
        return
    used = several_nodes(variables)
    yield Finding(
        title="this container may lock little memory and lacks IPC_LOCK, which RDMA needs",
        severity=Severity.WARNING if used else Severity.NOTE,
        confidence=Confidence.LIKELY,
        detail=LOCK_DETAIL,
        evidence=(
            locked.shows("ulimit -l", f"{locked.limit} bytes"),
            rights.shows("capabilities", ", ".join(rights.capabilities) or "no IPC_LOCK"),
            *use(variables),
        ),
        remedies=_may_lock(around),
        breaks=(RDMA,) if used else (),
    )


REGISTERING = ("ibv_reg_", "ibv_create_cq", "ibv_create_qp", "ibv_open_device", "ibv_alloc_pd")


@ipc_lock_missing.sign
def _could_not_register(
    failed: tuple[RdmaCallFailed, ...],
    locked: LockedMemory | None,
    around: Surroundings | None,
    seen: tuple[ContainerSeen, ...],
) -> Findings:
    """Registering memory failed for want of memory, in a container; elsewhere host/memlock-limit says it."""
    if not (locked or seen or contained(around)):
        return
    refused = [
        each
        for each in failed
        if each.call.startswith(REGISTERING) and "cannot allocate memory" in each.error.lower()
    ]
    if not refused or (locked is not None and locked.limit is None):
        return
    yield Finding(
        title="RDMA may not lock the memory that it registers",
        confidence=Confidence.CERTAIN if locked else Confidence.LIKELY,
        detail=LOCK_DETAIL,
        evidence=(
            *quoted(refused[0]),
            *((locked.shows("ulimit -l", f"{locked.limit} bytes"),) if locked else ()),
        ),
        remedies=_may_lock(around),
        breaks=(RDMA,),
        shows=(RDMA, COLLECTIVE),
        asks=()
        if locked
        else (Ask("ulimit -l; grep CapEff /proc/self/status", "what the process may lock"),),
    )


GID = "NCCL_IB_GID_INDEX"
GID_DETAIL = (
    "A RoCE port has a table of addresses (GIDs). Those that begin with fe80 are valid on one wire only, and RoCE v1 is not "
    "routed, so nodes behind another switch or subnet do not answer. NCCL_IB_GID_INDEX picks the entry; it must be a RoCE v2 one "
    "made of a routable address. Since 2.21 NCCL picks a fitting one by itself if the variable is not set."
)
GID_ASK = Ask(
    "for g in /sys/class/infiniband/*/ports/1/gids/{0..7}; do echo $g $(cat $g) $(cat ${g/gids/gid_attrs/types}); done",
    "which entry is RoCE v2 with a routable address",
)


def _pick(best: int | None, setting: Setting | None, version: str | None) -> tuple[Remedy, ...]:
    verify = "show_gids   # or: cat /sys/class/infiniband/*/ports/1/gid_attrs/types/3"
    fixes: list[Remedy] = [
        SetVariable(
            name=GID,
            value=str(3 if best is None else best),
            why="RoCE v2 with a routable address"
            + (" (mostly entry 3: see show_gids)" if best is None else ""),
            caveat="The entry may have another number on other nodes.",
            verify=verify,
        )
    ]
    if setting is not None and (version is None or compare_releases(version, "2.21") >= 0):
        fixes.append(
            UnsetVariable(name=GID, why="NCCL 2.21 and newer pick the entry themselves", verify=verify)
        )
    return tuple(fixes)


def _best(devices: RdmaDevices | None) -> int | None:
    ports = [each for each in devices.ports if each.gids] if devices else []
    return next((found for each in ports if (found := best_index(each.gids or ())) is not None), None)


@check.rule
def roce_gid_index(devices: RdmaDevices, settings: NcclSettings, variables: Variables | None) -> Findings:
    """NCCL_IB_GID_INDEX picks an address that other nodes cannot reach."""
    setting = settings.effective(GID)
    ports = [each for each in devices.active if each.link == "Ethernet" and each.gids]
    if setting is None or not ports or not setting.value.strip().isdigit():
        return
    picked = at(ports, int(setting.value))
    if picked is None or (is_routable(picked.gid) and picked.kind in (None, "RoCE v2")):
        return
    best = _best(devices)
    used = several_nodes(variables)
    yield Finding(
        subject=f"variable:{GID}",
        title=f"{GID}={setting.value} is {picked.gid if not is_empty(picked.gid) else 'an empty entry'}"
        + (f" ({picked.kind})" if picked.kind else "")
        + ", which is not routed",
        severity=Severity.NOTE if not used else Severity.ERROR if is_empty(picked.gid) else Severity.WARNING,
        detail=GID_DETAIL,
        evidence=(
            settings.shows(setting.file or GID, f"{GID}={setting.value}"),
            devices.shows(f"GID {picked.index}", picked.gid),
            *use(variables),
        ),
        remedies=_pick(best, setting, None),
        breaks=(RDMA,) if used else (),
    )


@roce_gid_index.sign
def _not_answered(
    completions: tuple[CompletionFailed, ...],
    calls: tuple[RdmaCallFailed, ...],
    told: tuple[SettingSaid, ...],
    settings: NcclSettings | None,
    devices: RdmaDevices | None,
    library: NcclLibrary | None,
) -> Findings:
    """A packet of RoCE went unanswered, and its address is not routable."""
    if devices is not None and (
        all_empty(devices) or any(each.link == "InfiniBand" for each in devices.active)
    ):
        return
    lost = [each for each in completions if each.status == 12]
    modify = [
        each
        for each in calls
        if each.call.startswith("ibv_modify_qp") and "allocate" not in each.error.lower()
    ]
    everything: tuple[CompletionFailed | RdmaCallFailed, ...] = (*lost, *modify)
    local = [each for each in everything if each.local_gid and not is_routable(each.local_gid)]
    setting = setting_of(GID, settings, told)
    ports = [each for each in devices.ports if each.gids] if devices else []
    picked = at(ports, int(setting.value)) if setting and setting.value.strip().isdigit() else None
    bad = picked is not None and not (is_routable(picked.gid) and picked.kind in (None, "RoCE v2"))
    timed_out = [
        each for each in modify if "timed out" in each.error.lower() or "unreachable" in each.error.lower()
    ]
    if not local and not ((lost or modify) and bad) and not timed_out:
        return
    seen = (*local, *timed_out, *everything)[0]
    certain = bad or bool(local and setting)
    yield Finding(
        subject=f"variable:{GID}",
        title="RoCE uses an address that the other node cannot reach"
        + (f" ({GID}={setting.value})" if setting else f" ({seen.local_gid})" if seen.local_gid else ""),
        confidence=Confidence.CERTAIN if certain else Confidence.LIKELY,
        detail=GID_DETAIL,
        evidence=(
            *quoted(seen),
            *((devices.shows(f"GID {picked.index}", picked.gid),) if devices and picked else ()),
        ),
        remedies=_pick(_best(devices), setting, library.version if library else None),
        breaks=(RDMA,),
        shows=(RDMA, COLLECTIVE),
        asks=() if ports else (GID_ASK,),
    )
