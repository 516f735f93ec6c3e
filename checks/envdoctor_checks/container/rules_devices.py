"""Why a container that runs may not open its GPUs: device rules, rootless engines, SELinux."""

from __future__ import annotations

from envdoctor.api import Ask, Change, Confidence, Evidence, Finding, Findings, Reach, Relaunch, Run, Severity
from envdoctor_checks.container.advice import NODES, NVML, PROVE, START, USE_CDI
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import (
    NOBODY,
    ContainerEngine,
    DeviceRules,
    Identity,
    ProcessLabel,
    UidMap,
)
from envdoctor_checks.container.facts_host import (
    EngineInfo,
    Engines,
    SelinuxMode,
    ToolkitConfig,
)
from envdoctor_checks.container.symptoms import AvcDenied, DeviceRulesFailed, Entered, Launched, Reloaded
from envdoctor_checks.driver.facts import DeviceNodes, NvmlFailed, NvmlInit

NVIDIA_MAJOR = 195
"""The character devices of the driver itself; nvidia-uvm has a number that changes."""
UNKNOWN, NO_PERMISSION = "NVML_ERROR_UNKNOWN", "NVML_ERROR_NO_PERMISSION"


@check.rule
def devices_lost_after_reload(
    engine: ContainerEngine, nodes: DeviceNodes, init: NvmlInit, rules: DeviceRules | None
) -> Findings:
    """systemd daemon-reload took the GPU devices out of the container's cgroup (NVML: Unknown Error)."""
    if engine.engine is None or init.name != UNKNOWN or not nodes.gpus:
        return
    denied = rules is not None and not rules.allows(NVIDIA_MAJOR)
    if rules is not None and not denied:
        return
    evidence = [
        init.shows("nvmlInit", init.name),
        nodes.shows("device files", ", ".join(each.path for each in nodes.gpus)),
    ]
    if rules is not None:
        evidence.append(rules.shows("device rules", "none for major 195"))
    yield _lost(Confidence.CERTAIN if denied else Confidence.LIKELY, tuple(evidence), seen=True)


@devices_lost_after_reload.sign
def _unknown_error(
    said: NvmlFailed,
    reloads: tuple[Reloaded, ...],
    config: ToolkitConfig | None,
    launches: tuple[Launched, ...],
    inside: tuple[Entered, ...],
    rules: DeviceRules | None,
) -> Findings:
    """On a host NVML hardly ever says so; in a container it means that opening the device was refused."""
    if said.name != UNKNOWN or (config is not None and config.no_cgroups):
        return
    denied = rules is not None and not rules.allows(NVIDIA_MAJOR)
    if not (reloads or launches or inside or denied):
        return
    evidence = [said.evidence(), *(each.evidence("systemd") for each in reloads[:1])]
    if denied and rules is not None:
        evidence.append(rules.shows("device rules", "none for major 195"))
    yield _lost(Confidence.CERTAIN if reloads or denied else Confidence.LIKELY, tuple(evidence), seen=True)


def _lost(confidence: Confidence, evidence: tuple[Evidence, ...], *, seen: bool) -> Finding:
    return Finding(
        title="the container has lost the permission to open its GPUs, as after a systemctl daemon-reload on the host",
        confidence=confidence,
        detail="The toolkit's hook allows the devices in the container's control group behind the engine's back. When systemd "
        "manages the group and reloads its units (a package upgrade does), it writes the rules that it knows, and the "
        "GPUs' are gone. The device files are still there; the host's own nvidia-smi works.",
        evidence=evidence,
        remedies=(
            Run(
                title="restart the container, which gets its devices back until the next reload",
                commands=("docker restart <container>",),
                reach=Reach.CONTAINER,
                needs_restart="container",
            ),
            Relaunch(
                adds="--gpus all --device /dev/nvidia0 --device /dev/nvidiactl --device /dev/nvidia-uvm --device /dev/nvidia-uvm-tools",
                why="so that the engine itself tells systemd of the devices",
            ),
            Run(
                title="make the links by which systemd finds the devices",
                commands=("nvidia-ctk system create-dev-char-symlinks --create-all",),
                reach=Reach.HOST,
                needs_root=True,
            ),
            Change(
                title="or hand out GPUs by CDI, or let docker manage the groups itself",
                reach=Reach.HOST,
                example=(
                    '{"exec-opts": ["native.cgroupdriver=cgroupfs"]}   # /etc/docker/daemon.json, then restart docker',
                ),
                needs_restart="container",
            ),
        ),
        breaks=(NODES,),
        shows=(NVML,) if seen else (),
    )


ALLOW_ROOTLESS = Run(
    title="tell the toolkit to leave control groups alone (no-cgroups = true)",
    commands=("nvidia-ctk config --set nvidia-container-cli.no-cgroups=true --in-place",),
    reach=Reach.HOST,
    needs_root=True,
    caveat="The setting is for the whole host: engines that root runs then give no GPU any more. Point XDG_CONFIG_HOME at a copy of "
    "config.toml to set it for one user.",
    verify=PROVE,
)


@check.rule
def rootless_needs_no_cgroups(
    said: DeviceRulesFailed,
    config: ToolkitConfig | None,
    info: EngineInfo | None,
    launches: tuple[Launched, ...],
) -> Findings:
    """Rootless engine and no-cgroups is not true."""
    if said.why != "permission" or (config is not None and config.no_cgroups):
        return
    rootless = (info is not None and info.rootless) or "user.slice" in said.quote
    evidence = [said.evidence()]
    if config is not None and "no-cgroups" in config.settings:
        evidence.append(config.shows("no-cgroups", config.settings["no-cgroups"]))
    if info is not None and info.rootless:
        evidence.append(info.shows("rootless", "true"))
    yield Finding(
        title="the toolkit may not change device rules here: the engine is rootless, and no-cgroups is not true",
        confidence=Confidence.CERTAIN if rootless else Confidence.LIKELY,
        detail="An ordinary user (or root of an unprivileged LXC container) may not change control groups, and need not: the "
        "device files' own permissions decide. The toolkit must be told so.",
        evidence=tuple(evidence),
        remedies=(ALLOW_ROOTLESS, USE_CDI),
        breaks=(START,),
        shows=(START,),
    )


ALLOW_ROOTFUL = Run(
    title="set no-cgroups = false",
    commands=(
        "nvidia-ctk config --set nvidia-container-cli.no-cgroups=false --in-place",
        "systemctl restart docker",
    ),
    reach=Reach.HOST,
    needs_root=True,
    caveat="Rootless engines of this host then need CDI, or a configuration of their own.",
    verify=PROVE,
)


@check.rule
def no_cgroups_on_rootful(config: ToolkitConfig, engines: Engines) -> Findings:
    """no-cgroups = true on a rootful engine."""
    docker = [each for each in engines.engines if each.name == "docker"]
    if config.no_cgroups and docker:
        yield _permissions_left_out(config, (), Severity.NOTE)


@no_cgroups_on_rootful.sign
def _unknown_error_without_cgroups(
    said: NvmlFailed, config: ToolkitConfig, info: EngineInfo | None
) -> Findings:
    """The files are mounted, and nobody allowed the devices."""
    if said.name == UNKNOWN and config.no_cgroups and not (info is not None and info.rootless):
        yield _permissions_left_out(config, (said.evidence(),), Severity.ERROR)


@no_cgroups_on_rootful.sign
def _never_allowed(
    said: NvmlFailed,
    launches: tuple[Launched, ...],
    config: ToolkitConfig | None,
    reloads: tuple[Reloaded, ...],
) -> Findings:
    """The first command of a new container fails: nobody reloaded anything in between."""
    fresh = [each for each in launches if "nvidia-smi" in each.quote]
    if said.name != UNKNOWN or config is not None or reloads or not fresh:
        return
    yield Finding(
        title="the new container was never allowed to open the GPUs, as with no-cgroups = true",
        confidence=Confidence.POSSIBLE,
        evidence=(said.evidence(), fresh[0].evidence("as started")),
        remedies=(ALLOW_ROOTFUL, USE_CDI),
        breaks=(NODES,),
        shows=(NVML,),
        asks=(
            Ask(
                "grep no-cgroups /etc/nvidia-container-runtime/config.toml",
                "whether the toolkit leaves permissions out",
            ),
        ),
    )


def _permissions_left_out(
    config: ToolkitConfig, evidence: tuple[Evidence, ...], severity: Severity
) -> Finding:
    seen = severity is Severity.ERROR
    return Finding(
        title="no-cgroups = true: containers of an engine that root runs are not allowed to open the GPUs",
        severity=severity,
        detail="The setting is for rootless engines. With it the toolkit mounts the device files and does not allow them in the "
        "container's control group, which denies devices by default.",
        evidence=(*evidence, config.shows("no-cgroups", "true")),
        remedies=(
            ALLOW_ROOTFUL,
            USE_CDI,
        ),
        breaks=(NODES,) if seen else (),
        shows=(NVML,) if seen else (),
    )


KEEP_GROUPS = Relaunch(
    adds="--group-add keep-groups",
    why="so that the group that may open the GPU stays with the process",
    caveat="It needs crun as the runtime (podman --runtime crun). Rootless docker has no such option: chmod 0666 by a udev rule, or "
    "nvidia-modprobe's default mode, then opens the devices to all.",
)


@check.rule
def rootless_group_dropped(identity: Identity, ids: UidMap, nodes: DeviceNodes) -> Findings:
    """The group that may open the GPU is dropped in the user namespace.

    A group that is kept shows as nobody's among the process's own, and opens the files all the same.
    """
    foreign = [
        each
        for each in nodes.nodes
        if each.openable is False
        and each.mode is not None
        and int(each.mode, 8) & 0o066 == 0o060
        and each.group in (str(NOBODY), "nobody", "nogroup")
    ]
    if ids.identity or not foreign:
        return
    node = foreign[0]
    yield Finding(
        title=f"{node.path} is for a group that this user namespace does not map",
        subject=f"file:{node.path}",
        detail="The user is in that group on the host; the engine let go of it when it entered the container.",
        evidence=(
            nodes.shows(node.path, f"{node.mode} {node.owner}:{node.group}"),
            identity.shows("groups", ", ".join(str(each) for each in identity.groups) or "none"),
            ids.shows(
                "uid_map", "; ".join(f"{each.inside} {each.outside} {each.count}" for each in ids.ranges[:4])
            ),
        ),
        remedies=(KEEP_GROUPS,),
        breaks=(NODES,),
    )


@rootless_group_dropped.sign
def _group_devices_from_rootless(
    said: NvmlFailed, nodes: DeviceNodes, info: EngineInfo | None, launches: tuple[Launched, ...]
) -> Findings:
    """Insufficient Permissions in a rootless container, and device files for a group only."""
    if said.name != NO_PERMISSION:
        return
    grouped = [each for each in nodes.nodes if each.mode is not None and int(each.mode, 8) & 0o066 == 0o060]
    rootless = (info is not None and info.rootless) or any(
        each.engine == "podman" and not each.root for each in launches
    )
    if not grouped or not rootless:
        return
    yield Finding(
        title=f"{grouped[0].path} is for the group {grouped[0].group} only, which a rootless container loses",
        subject=f"file:{grouped[0].path}",
        confidence=Confidence.LIKELY,
        evidence=(
            said.evidence(),
            nodes.shows(grouped[0].path, f"{grouped[0].mode} {grouped[0].owner}:{grouped[0].group}"),
        ),
        remedies=(KEEP_GROUPS,),
        breaks=(NODES,),
        shows=(NVML,),
    )


ALLOW_DEVICES = Run(
    title="let containers use devices, on the whole host",
    commands=("setsebool -P container_use_devices 1",),
    reach=Reach.HOST,
    needs_root=True,
    caveat="All containers may then use all devices that they are given.",
)
WITHOUT_LABEL = Relaunch(
    adds="--security-opt label=disable", why="SELinux's separation is off for this container alone"
)


@check.rule
def selinux_denies_devices(label: ProcessLabel, nodes: DeviceNodes) -> Findings:
    """SELinux keeps the container from the GPU devices."""
    if label.label is None or ":container" not in label.label:
        return
    closed = [
        each
        for each in nodes.nodes
        if each.openable is False and each.mode is not None and int(each.mode, 8) & 0o006 == 0o006
    ]
    if closed:
        node = closed[0]
        evidence = (
            label.shows("label", label.label),
            nodes.shows(node.path, f"mode {node.mode}, cannot be opened"),
        )
        yield _denied(
            Confidence.CERTAIN,
            f"{node.path} is open to all, and this container's label may not use it",
            evidence,
            seen=False,
        )


@selinux_denies_devices.sign
def _avc(said: AvcDenied) -> Findings:
    """The audit log says what was denied to a container's domain."""
    device = said.what.startswith("chr_file") or said.target_type in (
        "xserver_misc_device_t",
        "device_t",
        "dri_device_t",
    )
    if device:
        title = f"SELinux denied {said.what} to a container ({said.source_type} on {said.target_type})"
        yield _denied(Confidence.CERTAIN, title, (said.evidence("audit log"),), seen=True)


@selinux_denies_devices.sign
def _permission_while_enforcing(
    said: NvmlFailed, mode: SelinuxMode, launches: tuple[Launched, ...], nodes: DeviceNodes | None
) -> Findings:
    """Insufficient Permissions in a container of an enforcing host whose device files are open to all."""
    if (
        said.name != NO_PERMISSION
        or mode.mode != "enforcing"
        or not launches
        or any(each.selinux_relabel for each in launches)
    ):
        return
    if nodes is not None and any(
        each.mode is not None and int(each.mode, 8) & 0o006 != 0o006 for each in nodes.nodes
    ):
        return
    title = "SELinux is enforcing, and the container may not open the GPU"
    yield _denied(Confidence.LIKELY, title, (said.evidence(), mode.shows("SELinux", mode.mode)), seen=True)


def _denied(confidence: Confidence, title: str, evidence: tuple[Evidence, ...], *, seen: bool) -> Finding:
    return Finding(
        title=title,
        confidence=confidence,
        detail="A container's processes run in the domain container_t, which may not use the GPU's device files unless the policy "
        "or the launch says so. The files' owner and mode have no part in it.",
        evidence=evidence,
        remedies=(WITHOUT_LABEL, ALLOW_DEVICES),
        breaks=(NODES,),
        shows=(NVML,) if seen else (),
        asks=()
        if confidence is Confidence.CERTAIN
        else (Ask("ausearch -m AVC -ts recent", "what SELinux denied"),),
    )
