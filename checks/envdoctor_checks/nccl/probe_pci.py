"""What stands between GPUs on PCIe: access control, the IOMMU, a hypervisor; and the channels of NVLink between nodes."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.api import CouldNotLook, Host, Source, Tier
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import ImexChannels, IommuState, PcieAcs, PcieBridge, Virtualized

DEVICES = "/sys/bus/pci/devices"
IMEX = "/dev/nvidia-caps-imex-channels"
CONFIG_SIZE = 4096
CONFIG_OPEN = 64
"""Bytes of the configuration space that any user may read."""
ACS = 0x000D
"""The extended capability Access Control Services."""
SWITCHES = ("SrcValid", "TransBlk", "ReqRedir", "CmpltRedir", "UpstreamFwd", "EgressCtrl", "DirectTrans")
"""Bits of the ACS control register, from the lowest, as lspci names them."""
REDIRECT = ("ReqRedir", "CmpltRedir")
OPTIONS = ("iommu", "intel_iommu", "amd_iommu", "iommu.passthrough", "pcie_acs_override", "pci")
GUESTS = (
    "qemu",
    "kvm",
    "vmware",
    "virtualbox",
    "xen",
    "amazon ec2",
    "google",
    "bochs",
    "openstack",
    "virtual machine",
)
MAX_CHANNELS = 64


@check.probe(tier=Tier.QUICK)
def pcie_acs(host: Host) -> PcieAcs:
    """The ACS switches of the bridges above the GPUs; of all bridges where sysfs does not tell which those are."""
    gpus = _gpus(host)
    above = _above(host, gpus)
    redirecting = []
    seen = closed = 0
    for address in sorted(above):
        config = _config(host, address)
        if len(config) <= CONFIG_OPEN:
            closed += 1
            continue
        control = _acs_control(config)
        if control is None:
            continue
        seen += 1
        on = [name for bit, name in enumerate(SWITCHES) if control >> bit & 1]
        if any(name in REDIRECT for name in on):
            redirecting.append(PcieBridge(address, " ".join(on)))
    if closed and not seen:
        raise CouldNotLook("only root may read the PCIe configuration of bridges", "run as root")
    return PcieAcs(redirecting=tuple(redirecting), looked_at=seen, source=Source("file", DEVICES))


def _gpus(host: Host) -> tuple[str, ...]:
    """PCI addresses of NVIDIA's GPUs."""
    names = host.names(DEVICES) or ()
    return tuple(name for name in names if _is_gpu(host, name))


def _is_gpu(host: Host, address: str) -> bool:
    vendor = (host.text(f"{DEVICES}/{address}/vendor", 16) or "").strip()
    return vendor == "0x10de" and (host.text(f"{DEVICES}/{address}/class", 16) or "").startswith("0x03")


def _above(host: Host, gpus: tuple[str, ...]) -> set[str]:
    """The bridges on the way to each GPU: the folders that its own is in."""
    found: set[str] = set()
    for gpu in gpus:
        try:
            parts = host.readlink(f"{DEVICES}/{gpu}").split("/")
        except OSError:
            continue
        found.update(part for part in parts if part.count(":") == 2 and part != gpu)
    return found


def _config(host: Host, address: str) -> bytes:
    try:
        return host.read(f"{DEVICES}/{address}/config", CONFIG_SIZE)
    except OSError:
        return b""


def _acs_control(config: bytes) -> int | None:
    """The control register, by the list of extended capabilities, which begins at 0x100; None without ACS."""
    at = 0x100
    for _ in range(64):  # a broken list may be a ring
        if not 0x100 <= at <= len(config) - 8:
            return None
        head = int.from_bytes(config[at : at + 4], "little")
        if head & 0xFFFF == ACS:
            return int.from_bytes(config[at + 6 : at + 8], "little")
        at = head >> 20
    return None


@check.probe(tier=Tier.QUICK)
def iommu_state(host: Host) -> IommuState:
    """Groups, the kernel's options, and the kind of domain that GPUs are in."""
    groups = host.names("/sys/kernel/iommu_groups") or ()
    options = iommu_options(host.text("/proc/cmdline") or "")
    kinds = {_domain(host, gpu) for gpu in _gpus(host)} - {""}
    if not groups:
        translated: bool | None = False
    elif kinds:
        translated = any(kind.startswith("DMA") for kind in kinds)
    else:
        translated = None
    return IommuState(
        groups=len(groups),
        translated=translated,
        options=options,
        source=Source("file", "/sys/kernel/iommu_groups"),
    )


def _domain(host: Host, gpu: str) -> str:
    """``DMA``, ``DMA-FQ`` or ``identity``; empty on kernels before 5.11."""
    try:
        return host.read(f"{DEVICES}/{gpu}/iommu_group/type", 32).decode("ascii", "replace").strip()
    except OSError:
        return ""


def iommu_options(cmdline: str) -> tuple[str, ...]:
    """The words of a kernel command line that bear on the IOMMU and on ACS."""
    found = []
    for word in cmdline.split():
        name, _, value = word.partition("=")
        if name in OPTIONS and (name != "pci" or "acs" in value):
            found.append(word)
    return tuple(found)


@check.probe(tier=Tier.QUICK)
def virtualized(host: Host) -> Virtualized:
    """Whether there is a hypervisor below: by the processor's flags, or by what the firmware calls itself."""
    for line in (host.text("/proc/cpuinfo", 16384) or "").splitlines():
        if line.startswith("flags"):
            return Virtualized(guest=" hypervisor" in line, source=Source("file", "/proc/cpuinfo"))
    names = [host.text(f"/sys/class/dmi/id/{each}", 256) for each in ("sys_vendor", "product_name")]
    if names == [None, None]:
        raise CouldNotLook("neither /proc/cpuinfo nor the firmware's tables tell")
    words = " ".join(each for each in names if each).lower()
    return Virtualized(
        guest=any(each in words for each in GUESTS) and "metal" not in words,
        source=Source("file", "/sys/class/dmi/id"),
    )


@check.probe(tier=Tier.QUICK)
def imex_channels(host: Host) -> Iterator[ImexChannels]:
    """The device class in /proc/devices and the channel files."""
    supported = "nvidia-caps-imex-channels" in (host.text("/proc/devices") or "")
    channels = tuple(name for name in host.names(IMEX, MAX_CHANNELS) or () if name.startswith("channel"))
    yield ImexChannels(supported=supported, channels=channels, source=Source("file", IMEX))
