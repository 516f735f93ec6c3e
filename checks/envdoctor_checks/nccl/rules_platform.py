"""What NCCL needs of the platform: IMEX channels, host memory through cuMem, WSL."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    AskAdministrator,
    Change,
    Confidence,
    Finding,
    Findings,
    Install,
    Platform,
    Reach,
    Relaunch,
    Remedy,
    Run,
    SetVariable,
    Severity,
    Variables,
)
from envdoctor.surroundings import Surroundings
from envdoctor.tables import compare_releases
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    CumemHostFailed,
    ImexChannels,
    MnnvlBroken,
    NcclLibrary,
    PciPathMissing,
    ProcessRights,
    VersionSaid,
)
from envdoctor_checks.nccl.reasoning import COLLECTIVE, PEER, contained, quoted, several_processes, use
from envdoctor_checks.nccl.tables import NcclRequirements

IMEX_DETAIL = (
    "On GB200 and GB300 racks NVLink joins GPUs of several nodes. To share memory that way a process needs a channel, "
    "/dev/nvidia-caps-imex-channels/channel0, and the nvidia-imex service running on every node of the domain."
)


def _channel(around: Surroundings | None) -> tuple[Remedy, ...]:
    without = SetVariable(
        name="NCCL_MNNVL_ENABLE",
        value="0",
        why="until then: the network instead of NVLink between nodes",
        caveat="Slower between nodes.",
    )
    commands = (
        "major=$(awk '/nvidia-caps-imex-channels/{print $1}' /proc/devices)",
        "sudo mkdir -p /dev/nvidia-caps-imex-channels",
        "sudo mknod -m 666 /dev/nvidia-caps-imex-channels/channel0 c $major 0",
        "sudo systemctl enable --now nvidia-imex",
    )
    verify = "ls -l /dev/nvidia-caps-imex-channels; nvidia-imex-ctl -N"
    if contained(around):
        return (
            Relaunch(
                adds="--device=/dev/nvidia-caps-imex-channels/channel0",
                why="the channel in the container (Kubernetes: a ComputeDomain of NVIDIA's DRA driver)",
                verify=verify,
            ),
            AskAdministrator(
                what="make IMEX channel 0 on the host and start nvidia-imex", commands=commands, verify=verify
            ),
            without,
        )
    return (
        Run(
            title="make channel 0 and start the service, on every node",
            commands=commands,
            reach=Reach.HOST,
            needs_root=True,
            caveat="/etc/nvidia-imex/nodes_config.cfg must list all nodes. In a container: --device=/dev/nvidia-caps-imex-channels/channel0.",
            verify=verify,
        ),
        without,
    )


@check.rule
def imex_channel_missing(
    channels: ImexChannels, gpus: GpuDevices, variables: Variables | None, around: Surroundings | None
) -> Findings:
    """There is no IMEX channel, so nodes cannot share memory over NVLink."""
    if not channels.supported or channels.channels:
        return
    if not any(word in each.name for each in gpus.devices for word in ("GB200", "GB300")):
        return
    used = several_processes(variables)
    yield Finding(
        title="no IMEX channel: NVLink between nodes cannot be used",
        severity=Severity.WARNING if used else Severity.NOTE,
        confidence=Confidence.LIKELY,
        detail=IMEX_DETAIL,
        evidence=(channels.shows("/dev/nvidia-caps-imex-channels", "no channel"), *use(variables)),
        remedies=_channel(around),
        breaks=(PEER,) if used else (),
    )


@imex_channel_missing.sign
def _mnnvl(
    said: tuple[MnnvlBroken, ...], channels: ImexChannels | None, around: Surroundings | None
) -> Findings:
    """NCCL said that memory cannot be shared over NVLink."""
    if said:
        empty = channels is not None and not channels.channels
        yield Finding(
            title="memory cannot be shared over NVLink between nodes: no usable IMEX channel",
            confidence=Confidence.CERTAIN if empty else Confidence.LIKELY,
            detail=IMEX_DETAIL,
            evidence=quoted(said[0]),
            remedies=_channel(around),
            breaks=(PEER,),
            shows=(PEER, COLLECTIVE),
            asks=(
                Ask(
                    "ls -l /dev/nvidia-caps-imex-channels; nvidia-imex-ctl -N",
                    "the channels, and the state of the domain",
                ),
            ),
        )


CUMEM_DETAIL = (
    "Since 2.24 NCCL takes its shared buffers in host memory through the driver (cuMem), bound to a NUMA node. Containers' "
    "default seccomp profile forbids that without SYS_NICE, and some drivers before 595 crash where a GPU's NUMA node has no "
    "memory. From 2.26.5 on NCCL tries it once and falls back to /dev/shm by itself, each rank on its own."
)
CUMEM_FIXES: tuple[Remedy, ...] = (
    SetVariable(name="NCCL_CUMEM_HOST_ENABLE", value="0", why="host buffers in /dev/shm, as before 2.24"),
    Relaunch(adds="--cap-add=SYS_NICE", why="or the right to bind memory to NUMA nodes"),
)


@check.rule
def cumem_host(
    library: NcclLibrary,
    rights: ProcessRights,
    needs: NcclRequirements,
    variables: Variables,
    around: Surroundings | None,
) -> Findings:
    """This NCCL takes host memory through cuMem, which the container does not permit."""
    if library.version is None or not needs.applies("cumem-host-off", library.version):
        return
    if (
        "SYS_NICE" in rights.capabilities
        or not contained(around)
        or variables.get("NCCL_CUMEM_HOST_ENABLE") == "0"
    ):
        return
    if not several_processes(variables):
        return
    yield Finding(
        title=f"NCCL {library.version} may fail to take host memory in this container, which lacks SYS_NICE",
        severity=Severity.WARNING,
        confidence=Confidence.POSSIBLE,
        detail=CUMEM_DETAIL,
        evidence=(
            library.shows("NCCL", library.version),
            rights.shows("SYS_NICE", "missing"),
            *use(variables),
        ),
        remedies=CUMEM_FIXES,
    )


@cumem_host.sign
def _cumem_failed(said: tuple[CumemHostFailed, ...]) -> Findings:
    """NCCL said that its host memory failed."""
    fatal = [each for each in said if each.fatal]
    if said:
        yield Finding(
            title="NCCL could not take host memory through cuMem"
            + ("" if fatal else ", and falls back to /dev/shm"),
            severity=Severity.ERROR if fatal else Severity.NOTE,
            confidence=Confidence.LIKELY,
            detail=CUMEM_DETAIL,
            evidence=quoted((fatal or said)[0]),
            remedies=CUMEM_FIXES,
            breaks=(COLLECTIVE,) if fatal else (),
            shows=(COLLECTIVE,) if fatal else (),
        )


WSL_SINCE = "2.11.4"
WSL_DETAIL = (
    "NCCL reads the PCI tree in /sys to learn how GPUs are connected. Under WSL 2 the GPU is not in that tree, which releases "
    "before 2.11.4 take for an error. Sandboxes that hide /sys (gVisor, some containers) look the same."
)
WSL_FIXES: tuple[Remedy, ...] = (
    Install(
        requirements=("torch>=1.13",),
        why="upgrade torch: from 1.13 on it brings NCCL 2.14 or newer",
        verify="python -c 'import torch; print(torch.cuda.nccl.version())'",
    ),
    Change(
        title="or with one GPU: the gloo backend, or no process group at all",
        reach=Reach.SHELL,
        example=('torch.distributed.init_process_group("gloo")',),
    ),
)


@check.rule
def too_old_for_platform(library: NcclLibrary, platform: Platform, variables: Variables | None) -> Findings:
    """This NCCL does not know WSL 2."""
    if not platform.wsl or library.version is None or compare_releases(library.version, WSL_SINCE) >= 0:
        return
    used = several_processes(variables)
    yield Finding(
        title=f"NCCL {library.version} does not work under WSL 2",
        severity=Severity.ERROR if used else Severity.NOTE,
        detail=WSL_DETAIL,
        evidence=(library.shows("NCCL", library.version), *use(variables)),
        remedies=WSL_FIXES,
        breaks=(COLLECTIVE,),
    )


@too_old_for_platform.sign
def _no_pci_tree(
    said: PciPathMissing,
    versions: tuple[VersionSaid, ...],
    library: NcclLibrary | None,
    platform: Platform | None,
    around: Surroundings | None,
) -> Findings:
    """NCCL did not find a GPU in the PCI tree."""
    version = versions[0].version if versions else library.version if library else None
    old = version is not None and compare_releases(version.partition("+")[0], WSL_SINCE) < 0
    wsl = bool((platform and platform.wsl) or (around and around.wsl))
    hidden = Relaunch(
        adds="-v /sys:/sys:ro", why="in a container: the machine's real /sys", verify="ls /sys/class/pci_bus"
    )
    yield Finding(
        title=f"NCCL {version} does not know WSL 2, where GPUs are not in the PCI tree"
        if wsl and old
        else "NCCL does not find the GPU in /sys: "
        + (f"{version} is too old for WSL 2" if old else "the PCI tree is hidden"),
        confidence=Confidence.CERTAIN
        if wsl and old
        else Confidence.LIKELY
        if old or not version
        else Confidence.POSSIBLE,
        detail=WSL_DETAIL,
        evidence=quoted(said, *versions[:1]),
        remedies=WSL_FIXES if wsl else (*WSL_FIXES, hidden) if old or not version else (hidden,),
        breaks=(COLLECTIVE,),
        shows=(COLLECTIVE,),
        asks=()
        if wsl
        else (
            Ask(
                "uname -r; ls /sys/class/pci_bus",
                "whether this is WSL 2, and what of the PCI tree is visible",
            ),
        ),
    )
