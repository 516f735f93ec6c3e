"""What is known of NCCL: its release and settings, the interfaces, RDMA devices and PCIe paths that it may use."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from envdoctor.api import Fact
from envdoctor_checks.nccl.symptoms import (  # the symptoms are as public as the facts
    CollectiveFailed as CollectiveFailed,
    CollectiveTimedOut as CollectiveTimedOut,
    CollectiveWrong as CollectiveWrong,
    CompletionFailed as CompletionFailed,
    ConnectFailed as ConnectFailed,
    CudaFailed as CudaFailed,
    CumemHostFailed as CumemHostFailed,
    DmaFault as DmaFault,
    DuplicateGpu as DuplicateGpu,
    GdrDisabled as GdrDisabled,
    GlooConnectFailed as GlooConnectFailed,
    GlooDeviceUnsupported as GlooDeviceUnsupported,
    GlooInterfaceMissing as GlooInterfaceMissing,
    GlooLoopback as GlooLoopback,
    InterfacesChosen as InterfacesChosen,
    MemoryPeersMissing as MemoryPeersMissing,
    MnnvlBroken as MnnvlBroken,
    NameNotResolved as NameNotResolved,
    NetworkNotFound as NetworkNotFound,
    NetworkUsed as NetworkUsed,
    NoInterface as NoInterface,
    NoRdmaDevice as NoRdmaDevice,
    PassthroughAdvised as PassthroughAdvised,
    PciPathMissing as PciPathMissing,
    PeerTestFailed as PeerTestFailed,
    PeerToPeerHelped as PeerToPeerHelped,
    PluginNotLoaded as PluginNotLoaded,
    PortListener as PortListener,
    PortTaken as PortTaken,
    RdmaCallFailed as RdmaCallFailed,
    RdmaNodesMissing as RdmaNodesMissing,
    SettingSaid as SettingSaid,
    StoreRefused as StoreRefused,
    StoreUnreachable as StoreUnreachable,
    ValueRefused as ValueRefused,
    VersionSaid as VersionSaid,
    VersionsDiffer as VersionsDiffer,
)


class NcclLibrary(Fact, frozen=True):
    """The libnccl that the target's torch uses, and its release."""

    fact_name: ClassVar[str] = "nccl.library"
    version: str | None
    """``2.27.3``; None where there is no NCCL at all."""
    path: str | None = None
    """None where only the wheel's metadata or a program's word is known."""
    found_via: Literal["library", "torch", "wheel", "text"] = "library"
    """``library``: the release is written in the file itself; ``torch``: torch.cuda.nccl says it."""

    def joined(self, later: NcclLibrary) -> NcclLibrary:
        """Two words on it in one text: the one that is not a package list's."""
        return self if later.found_via == "wheel" and self.version else later


class Setting(msgspec.Struct, frozen=True, omit_defaults=True):
    """One NCCL setting, and where it is made."""

    name: str
    value: str
    file: str | None = None
    """The conf file; None for an environment variable."""
    line: int | None = None


class NcclSettings(Fact, frozen=True):
    """Every NCCL_* setting, in the order in which the first one of a name wins: environment, user's file, /etc."""

    fact_name: ClassVar[str] = "nccl.settings"
    settings: tuple[Setting, ...]
    files: tuple[str, ...] = ()
    """The conf files that were read."""
    missing_file: str | None = None
    """What NCCL_CONF_FILE names, where it is not there."""
    omitted: int = 0
    """Settings beyond the bound, which were not kept."""

    def joined(self, later: NcclSettings) -> NcclSettings:
        """Two files of one text, together."""
        return NcclSettings(
            settings=tuple(dict.fromkeys(self.settings + later.settings)),
            files=tuple(dict.fromkeys(self.files + later.files)),
            missing_file=self.missing_file or later.missing_file,
            omitted=self.omitted + later.omitted,
            source=later.source,
        )

    def effective(self, name: str) -> Setting | None:
        """The one that NCCL takes."""
        return next((each for each in self.settings if each.name == name), None)


class Interface(msgspec.Struct, frozen=True, omit_defaults=True):
    """One network interface."""

    name: str
    up: bool | None = None
    """Whether it is up and running, as NCCL asks; None where a text does not tell."""
    addresses: tuple[str, ...] | None = None
    """IPv4 first, then IPv6, without prefix lengths; None where they were not shown."""


class NetworkInterfaces(Fact, frozen=True):
    """The network interfaces in the kernel's order (by index), which is the order in which NCCL looks at them."""

    fact_name: ClassVar[str] = "nccl.interfaces"
    interfaces: tuple[Interface, ...]
    omitted: int = 0
    """Interfaces beyond the bound, which were not looked at."""

    def joined(self, later: NetworkInterfaces) -> NetworkInterfaces:
        """Two listings of one text: by name, what only one of them tells is kept."""
        known = {each.name: each for each in self.interfaces}
        for each in later.interfaces:
            before = known.get(each.name, each)
            known[each.name] = Interface(
                name=each.name,
                up=before.up if each.up is None else each.up,
                addresses=before.addresses if each.addresses is None else each.addresses,
            )
        return NetworkInterfaces(interfaces=tuple(known.values()), source=self.source)

    def named(self, name: str) -> Interface | None:
        """One of them."""
        return next((each for each in self.interfaces if each.name == name), None)


class Gid(msgspec.Struct, frozen=True):
    """One entry of a port's table of addresses."""

    index: int
    gid: str
    """Compressed, as an IPv6 address: ``fe80::...``, ``::ffff:10.0.0.4``; ``::`` for an empty entry."""
    kind: str | None = None
    """``RoCE v1``, ``RoCE v2``, ``IB``; None where it was not shown."""


class RdmaPort(msgspec.Struct, frozen=True, omit_defaults=True):
    """One port of an RDMA device."""

    device: str
    port: int
    active: bool | None = None
    link: Literal["InfiniBand", "Ethernet"] | None = None
    """Ethernet is RoCE."""
    gids: tuple[Gid, ...] | None = None
    """The first entries; None where they were not shown."""


class RdmaDevices(Fact, frozen=True):
    """InfiniBand and RoCE devices, from ``/sys/class/infiniband`` (which a container shows, too) or ibstat."""

    fact_name: ClassVar[str] = "nccl.rdma-devices"
    ports: tuple[RdmaPort, ...]
    """Empty: the machine has none."""

    def joined(self, later: RdmaDevices) -> RdmaDevices:
        """Two listings of one text, by device and port."""
        known = {(each.device, each.port): each for each in self.ports}
        for each in later.ports:
            before = known.get((each.device, each.port), each)
            known[each.device, each.port] = RdmaPort(
                device=each.device,
                port=each.port,
                active=before.active if each.active is None else each.active,
                link=each.link or before.link,
                gids=before.gids if each.gids is None else each.gids,
            )
        return RdmaDevices(ports=tuple(known.values()), source=later.source)

    @property
    def active(self) -> tuple[RdmaPort, ...]:
        """The ports whose link is up."""
        return tuple(each for each in self.ports if each.active)


class RdmaNodes(Fact, frozen=True):
    """The device files in ``/dev/infiniband``, without which no program can use an RDMA device."""

    fact_name: ClassVar[str] = "nccl.rdma-nodes"
    nodes: tuple[str, ...]
    """File names, ``uverbs0``; empty where the directory is missing or empty."""
    openable: bool | None = None
    """Whether this user may open every uverbs node; None where a text does not tell, or there is none."""


class PeerMemory(Fact, frozen=True):
    """What lets a network card read GPU memory."""

    fact_name: ClassVar[str] = "nccl.peer-memory"
    modules: tuple[str, ...]
    """Of ``nvidia_peermem`` and ``nv_peer_mem``, those that are loaded."""
    registered: bool | None
    """Whether ``/sys/kernel/mm/memory_peers`` has NVIDIA's entry, where releases before 2.23.4 look; None in a text."""


class PcieBridge(msgspec.Struct, frozen=True):
    """A PCIe bridge that redirects peer-to-peer traffic to the root complex."""

    address: str
    control: str
    """The switches that are on, as lspci names them: ``SrcValid ReqRedir CmpltRedir``."""


class PcieAcs(Fact, frozen=True):
    """PCIe Access Control Services on the bridges of the machine."""

    fact_name: ClassVar[str] = "nccl.pcie-acs"
    redirecting: tuple[PcieBridge, ...]
    looked_at: int
    """Bridges that have the capability."""

    def joined(self, later: PcieAcs) -> PcieAcs:
        """Two listings of one text, together."""
        bridges = tuple(dict.fromkeys(self.redirecting + later.redirecting))
        return PcieAcs(redirecting=bridges, looked_at=self.looked_at + later.looked_at, source=later.source)


class IommuState(Fact, frozen=True):
    """Whether the IOMMU translates the addresses that devices use."""

    fact_name: ClassVar[str] = "nccl.iommu"
    groups: int | None
    """Groups in ``/sys/kernel/iommu_groups``: none where the IOMMU is off; None where a text does not tell."""
    translated: bool | None
    """Whether GPUs are in a translated domain (not passthrough); None where nothing tells."""
    options: tuple[str, ...] = ()
    """Its words on the kernel's command line: ``intel_iommu=on``, ``iommu=pt``."""

    def joined(self, later: IommuState) -> IommuState:
        """What two blocks of one text tell, together."""
        return IommuState(
            groups=self.groups if later.groups is None else later.groups,
            translated=self.translated if later.translated is None else later.translated,
            options=tuple(dict.fromkeys(self.options + later.options)),
            source=later.source,
        )


class Virtualized(Fact, frozen=True):
    """Whether the machine is a virtual one, where ACS must stay on."""

    fact_name: ClassVar[str] = "nccl.virtualized"
    guest: bool


class ImexChannels(Fact, frozen=True):
    """The channel files through which nodes share memory over NVLink."""

    fact_name: ClassVar[str] = "nccl.imex-channels"
    supported: bool
    """Whether the driver made the device class (it is in ``/proc/devices``)."""
    channels: tuple[str, ...]
    """``channel0`` ..."""


class ProcessRights(Fact, frozen=True):
    """The capabilities of the looking process that matter to NCCL, of ``IPC_LOCK`` and ``SYS_NICE``."""

    fact_name: ClassVar[str] = "nccl.process-rights"
    capabilities: tuple[str, ...]


class LockedMemory(Fact, frozen=True):
    """How much memory a process may lock; RDMA locks all that it registers."""

    fact_name: ClassVar[str] = "nccl.locked-memory"
    limit: int | None
    """Bytes of the soft limit; None: unlimited."""


class HostsEntry(Fact, frozen=True):
    """What ``/etc/hosts`` says of the machine's own name."""

    fact_name: ClassVar[str] = "nccl.hosts-entry"
    name: str
    addresses: tuple[str, ...]
    """Empty where the file does not have the name, which another name service may know."""


class HostNameAddresses(Fact, frozen=True):
    """What name resolution (getaddrinfo) answers for the machine's own name."""

    fact_name: ClassVar[str] = "nccl.host-name-addresses"
    name: str
    addresses: tuple[str, ...]
    error: str | None = None
    """Why there are none: ``Name or service not known``."""


class MasterAddresses(Fact, frozen=True):
    """What MASTER_ADDR leads to."""

    fact_name: ClassVar[str] = "nccl.master-addresses"
    name: str
    """As written."""
    addresses: tuple[str, ...]
    error: str | None = None
    local: bool = False
    """Whether one of the addresses is this machine's own."""


class MasterPortListener(Fact, frozen=True):
    """Whether something listens on MASTER_PORT on this machine now."""

    fact_name: ClassVar[str] = "nccl.master-port-listener"
    port: int
    listening: bool


class NetPlugin(Fact, frozen=True):
    """The network plugin that a setting names."""

    fact_name: ClassVar[str] = "nccl.net-plugin"
    name: str
    """As written in NCCL_NET_PLUGIN."""
    path: str | None
    """The file that it leads to; None where there is none in the places that were looked at."""
    missing: tuple[str, ...] = ()
    """Libraries in its DT_NEEDED that are nowhere the loader looks."""
