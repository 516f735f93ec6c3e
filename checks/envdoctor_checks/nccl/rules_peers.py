"""GPUs to each other in one machine, and memory between nodes over NVLink: ACS, IOMMU, IMEX, cuMem, old releases."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    AskAdministrator,
    Change,
    Confidence,
    Evidence,
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
    CudaFailed,
    CumemHostFailed,
    DmaFault,
    ImexChannels,
    IommuState,
    MnnvlBroken,
    NcclLibrary,
    PassthroughAdvised,
    PcieAcs,
    PciPathMissing,
    PeerTestFailed,
    PeerToPeerHelped,
    ProcessRights,
    VersionSaid,
    Virtualized,
)
from envdoctor_checks.nccl.reasoning import COLLECTIVE, PEER, contained, quoted, several_processes, use
from envdoctor_checks.nccl.tables import NcclRequirements

WITHOUT_PEERS = SetVariable(
    name="NCCL_P2P_DISABLE",
    value="1",
    why="until then: GPUs exchange data through the host's memory",
    caveat="Slower where direct access would work.",
)
ACS_DETAIL = (
    "PCIe Access Control Services send what one GPU writes to another up to the root complex instead of straight through the "
    "switch. On bare metal that makes copies between GPUs slow, or hang or corrupt them when an IOMMU is on as well. In a virtual "
    "machine ACS must stay on."
)
ACS_OFF = Run(
    title="switch ACS off on every bridge, until the next restart",
    commands=(
        "for b in $(lspci -D | awk '/PCI bridge/{print $1}'); do sudo setpci -v -s $b ECAP_ACS+0x6.w=0000 2>/dev/null; done",
    ),
    reach=Reach.HOST,
    needs_root=True,
    caveat="Not on a machine that hands devices to virtual machines. To keep it: switch ACS (and VT-d or AMD's IOMMU) off in the firmware.",
    verify="sudo lspci -vvv | grep ACSCtl   # every sign a minus",
)


def _gpus(gpus: GpuDevices | None) -> int:
    return len(gpus.devices) if gpus else 0


def _redirecting(acs: PcieAcs) -> Evidence:
    return acs.shows("ACS redirects", ", ".join(each.address for each in acs.redirecting[:6]))


@check.rule
def pcie_acs(
    acs: PcieAcs, gpus: GpuDevices, virtual: Virtualized | None, variables: Variables | None
) -> Findings:
    """PCIe Access Control Services redirect what GPUs send to each other."""
    if not acs.redirecting or _gpus(gpus) < 2 or (virtual and virtual.guest) or acs.source.kind == "text":
        return
    if not several_processes(variables):
        return  # the default of most desktops and servers, which harms nobody by itself
    yield Finding(
        title=f"PCIe ACS is on at {len(acs.redirecting)} bridges: copies between GPUs take the way through the root complex",
        severity=Severity.WARNING,
        confidence=Confidence.POSSIBLE,
        detail=ACS_DETAIL,
        evidence=(_redirecting(acs), *use(variables)),
        remedies=(ACS_OFF,),
        asks=(Ask("nvidia-smi topo -m; lspci -tv", "whether those bridges lie between GPUs"),),
    )


@pcie_acs.sign
def _acs_and_failure(
    tests: tuple[PeerTestFailed, ...],
    helped: tuple[PeerToPeerHelped, ...],
    acs: PcieAcs,
    virtual: Virtualized | None,
) -> Findings:
    """Copies between GPUs failed, and ACS is on."""
    if not acs.redirecting or not (tests or helped) or (virtual and virtual.guest):
        return
    yield Finding(
        title="copies between GPUs fail, and PCIe ACS redirects them",
        confidence=Confidence.LIKELY,
        detail=ACS_DETAIL,
        evidence=(*quoted(*tests[:1], *helped[:1]), _redirecting(acs)),
        remedies=(ACS_OFF, WITHOUT_PEERS),
        breaks=(PEER,),
        shows=(PEER, COLLECTIVE),
    )


IOMMU_DETAIL = (
    "With the IOMMU translating, a GPU's write to another GPU must be mapped by it. On bare metal it often is not: the write is "
    "refused or ends elsewhere, and programs hang or get wrong data. Pass-through (iommu=pt) or switching the IOMMU off lets "
    "addresses through as they are."
)


def _pass_through(words: tuple[str, ...]) -> tuple[Remedy, ...]:
    amd = any(each.startswith("amd_iommu") for each in words)
    off = "amd_iommu=off" if amd else "intel_iommu=off"
    return (
        Run(
            title="boot with iommu=pt on the kernel's command line",
            commands=(
                "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&iommu=pt /' /etc/default/grub",
                "sudo update-grub   # Fedora, RHEL: sudo grubby --update-kernel=ALL --args=iommu=pt",
            ),
            reach=Reach.HOST,
            needs_root=True,
            needs_restart="machine",
            caveat=f"If that does not help: {off}, or disable VT-d (AMD: IOMMU) in the firmware. Machines that pass devices to virtual machines need it.",
            verify="cat /proc/cmdline; sudo dmesg | grep -i 'iommu: Default domain type'",
        ),
        WITHOUT_PEERS,
    )


def _translates(state: IommuState | None) -> bool:
    """As far as is known: told so, or switched on by hand without pass-through."""
    if state is None:
        return False
    if state.translated is not None:
        return state.translated
    on = any(each in ("intel_iommu=on", "amd_iommu=on", "amd_iommu=force") for each in state.options)
    return on and not any(each in ("iommu=pt", "iommu=off") for each in state.options)


def _state(state: IommuState | None) -> tuple[Evidence, ...]:
    if state is None:
        return ()
    return (state.shows("IOMMU", " ".join(state.options) or ("translated" if state.translated else "on")),)


@check.rule
def iommu_p2p(
    state: IommuState, gpus: GpuDevices, virtual: Virtualized | None, variables: Variables | None
) -> Findings:
    """The IOMMU stands between GPUs that write to each other."""
    if (
        state.translated is not True
        or _gpus(gpus) < 2
        or (virtual and virtual.guest)
        or state.source.kind == "text"
    ):
        return
    if not several_processes(variables):
        return
    yield Finding(
        title="the IOMMU translates what the GPUs of this machine send to each other",
        severity=Severity.WARNING,
        confidence=Confidence.POSSIBLE,
        detail=IOMMU_DETAIL,
        evidence=(*_state(state), *use(variables)),
        remedies=_pass_through(state.options),
        asks=(Ask("NCCL_P2P_DISABLE=1 before the same command", "whether it is peer-to-peer that fails"),),
    )


@iommu_p2p.sign
def _iommu_and_failure(
    faults: tuple[DmaFault, ...],
    tests: tuple[PeerTestFailed, ...],
    helped: tuple[PeerToPeerHelped, ...],
    advised: tuple[PassthroughAdvised, ...],
    state: IommuState | None,
    virtual: Virtualized | None,
) -> Findings:
    """The kernel refused a device's access, or copies between GPUs failed with the IOMMU on."""
    failed = bool(tests or helped)
    if virtual and virtual.guest:
        return
    if (
        not (faults and (failed or _translates(state)))
        and not (failed and _translates(state))
        and not advised
    ):
        return
    yield Finding(
        title="the IOMMU refuses what GPUs write to each other"
        if faults
        else "copies between GPUs fail with the IOMMU translating addresses"
        if failed
        else "RCCL asks for pass-through of the IOMMU (iommu=pt)",
        severity=Severity.ERROR if failed or faults else Severity.WARNING,
        confidence=Confidence.CERTAIN if faults and failed else Confidence.LIKELY,
        detail=IOMMU_DETAIL,
        evidence=(*quoted(*faults[:1], *tests[:1], *helped[:1], *advised[:1]), *_state(state)),
        remedies=_pass_through(state.options if state else ()),
        breaks=(PEER,),
        shows=(PEER, COLLECTIVE) if failed else (PEER,) if faults else (),
    )


P2P_DETAIL = (
    "NCCL lets GPUs of one machine read and write each other's memory where the driver says that they can. Chipsets, the IOMMU, "
    "PCIe ACS and virtualisation may break it all the same: it hangs, fails, or data is wrong."
)


@check.rule
def p2p_failed(
    tests: tuple[PeerTestFailed, ...],
    helped: tuple[PeerToPeerHelped, ...],
    failed: tuple[CudaFailed, ...],
    faults: tuple[DmaFault, ...],
    acs: PcieAcs | None,
    state: IommuState | None,
) -> Findings:
    """Direct access of GPUs to each other's memory does not work on this machine."""
    transport = [each for each in failed if each.file and each.file.endswith("p2p.cc")]
    if not (tests or helped or transport):
        return
    specific = bool(faults) or _translates(state) or bool(acs and acs.redirecting)
    sure = tests or helped
    yield Finding(
        title="direct copies between GPUs give wrong data"
        if any(each.wrong_data for each in tests)
        else "it works without direct access between GPUs (NCCL_P2P_DISABLE=1)"
        if helped
        else "direct access between GPUs failed",
        confidence=Confidence.POSSIBLE if specific or not sure else Confidence.LIKELY,
        detail=P2P_DETAIL,
        evidence=quoted(*tests[:1], *helped[:1], *transport[:1]),
        remedies=(WITHOUT_PEERS,),
        breaks=(PEER,),
        shows=(PEER, COLLECTIVE),
        asks=(
            Ask("cat /proc/cmdline; ls /sys/kernel/iommu_groups | wc -l", "whether an IOMMU translates"),
            Ask("sudo lspci -vvv | grep ACSCtl", "whether PCIe ACS is on (SrcValid+ ReqRedir+)"),
        ),
    )


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
    "default seccomp profile forbids that without SYS_NICE. From 2.26.5 on NCCL falls back to /dev/shm by itself."
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
