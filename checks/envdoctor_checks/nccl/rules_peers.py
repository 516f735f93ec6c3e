"""Direct access of GPUs to each other's memory: ACS, the IOMMU, and tests of it."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
    Variables,
)
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    CudaFailed,
    DmaFault,
    IommuState,
    PassthroughAdvised,
    PcieAcs,
    PeerTestFailed,
    PeerToPeerHelped,
    Virtualized,
)
from envdoctor_checks.nccl.reasoning import COLLECTIVE, PEER, quoted, several_processes, use

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
