"""What NCCL, Gloo, torch.distributed and the tools around them print."""

from __future__ import annotations

from typing import ClassVar, Literal

from envdoctor.api import Symptom


class VersionSaid(Symptom, frozen=True):
    """``NCCL version 2.27.3+cuda12.9``: rank 0 says it, newer releases say it on every node."""

    symptom_name: ClassVar[str] = "nccl.version-said"
    version: str
    host: str | None = None
    """The node, where the line names it."""


class VersionsDiffer(Symptom, frozen=True):
    """``Mismatched NCCL version detected``: NCCL itself compared the ranks' releases."""

    symptom_name: ClassVar[str] = "nccl.versions-differ"
    versions: tuple[str, ...]


class SettingSaid(Symptom, frozen=True):
    """``NCCL_X set by environment to Y``: what a process of a job really used, conf files included."""

    symptom_name: ClassVar[str] = "nccl.setting-said"
    name: str
    value: str
    host: str | None = None


class ValueRefused(Symptom, frozen=True):
    """NCCL could not make sense of a value."""

    symptom_name: ClassVar[str] = "nccl.value-refused"
    value: str
    """The whole value, as it was set."""
    name: str | None = None
    fatal: bool = False
    """Whether NCCL gave up over it; else it took its default."""


class InterfacesChosen(Symptom, frozen=True):
    """``Bootstrap : Using eth0:10.0.0.4<0>``: the interfaces that a process took, the first one first."""

    symptom_name: ClassVar[str] = "nccl.interfaces-chosen"
    interfaces: tuple[tuple[str, str], ...]
    """(name, address) pairs."""
    purpose: Literal["bootstrap", "socket", "out-of-band"]
    host: str | None = None


class NoInterface(Symptom, frozen=True):
    """NCCL found no network interface that it may use."""

    symptom_name: ClassVar[str] = "nccl.no-interface"
    host: str | None = None


class ConnectFailed(Symptom, frozen=True):
    """NCCL could not connect to another rank."""

    symptom_name: ClassVar[str] = "nccl.connect-failed"
    error: str
    """The operating system's words: ``Connection refused``."""
    address: str | None = None
    """Without the port; None in the wording that does not tell."""
    host: str | None = None


class DuplicateGpu(Symptom, frozen=True):
    """``Duplicate GPU detected : rank 0 and rank 1 both on CUDA device 1000``."""

    symptom_name: ClassVar[str] = "nccl.duplicate-gpu"
    device: str
    """The bus part of the PCI address as NCCL prints it: ``19000``."""


class RdmaCallFailed(Symptom, frozen=True):
    """``Call to ibv_modify_qp failed with error Connection timed out``."""

    symptom_name: ClassVar[str] = "nccl.rdma-call-failed"
    call: str
    error: str
    gid_index: int | None = None
    local_gid: str | None = None


class CompletionFailed(Symptom, frozen=True):
    """``NET/IB : Got completion from peer ... with status=12``: a packet was not acknowledged, or refused."""

    symptom_name: ClassVar[str] = "nccl.completion-failed"
    status: int
    """``IBV_WC_*``: 12 is a retry count exceeded."""
    local_gid: str | None = None


class NoRdmaDevice(Symptom, frozen=True):
    """``NET/IB : No device found``, or a tool of libibverbs that found none."""

    symptom_name: ClassVar[str] = "nccl.no-rdma-device"


class RdmaNodesMissing(Symptom, frozen=True):
    """A program says that ``/dev/infiniband`` is not there."""

    symptom_name: ClassVar[str] = "nccl.rdma-nodes-missing"


class GdrDisabled(Symptom, frozen=True):
    """``GPU Direct RDMA Disabled for HCA 0 'mlx5_0'``."""

    symptom_name: ClassVar[str] = "nccl.gdr-disabled"
    device: str


class MemoryPeersMissing(Symptom, frozen=True):
    """A program says that ``/sys/kernel/mm/memory_peers`` is not there."""

    symptom_name: ClassVar[str] = "nccl.memory-peers-missing"


class NetworkUsed(Symptom, frozen=True):
    """``Using network IB``: the transport between nodes."""

    symptom_name: ClassVar[str] = "nccl.network-used"
    network: str


class NetworkNotFound(Symptom, frozen=True):
    """``network OFI not found``: NCCL_NET names a network that no plugin brought."""

    symptom_name: ClassVar[str] = "nccl.network-not-found"
    network: str | None = None
    """None in the wording that does not tell."""


class PluginNotLoaded(Symptom, frozen=True):
    """A network plugin is there and could not be loaded, or loaded and could not start."""

    symptom_name: ClassVar[str] = "nccl.plugin-not-loaded"
    plugin: str
    reason: str
    library: str | None = None
    """The library that the plugin needs and the loader did not find."""


class PciPathMissing(Symptom, frozen=True):
    """``Could not find real path of /sys/class/pci_bus/...``: the PCI tree is not in sysfs."""

    symptom_name: ClassVar[str] = "nccl.pci-path-missing"
    path: str


class MnnvlBroken(Symptom, frozen=True):
    """NVLink between nodes is there and its memory cannot be shared: no IMEX channel."""

    symptom_name: ClassVar[str] = "nccl.mnnvl-broken"


class CumemHostFailed(Symptom, frozen=True):
    """NCCL's host memory through cuMem does not work; `fatal` where NCCL did not fall back."""

    symptom_name: ClassVar[str] = "nccl.cumem-host-failed"
    fatal: bool


class CudaFailed(Symptom, frozen=True):
    """``transport/p2p.cc:256 NCCL WARN Cuda failure 'invalid argument'``."""

    symptom_name: ClassVar[str] = "nccl.cuda-failed"
    error: str
    file: str | None = None
    """NCCL's source file: ``transport/shm.cc``."""


class PeerTestFailed(Symptom, frozen=True):
    """Direct access between GPUs was tried in vain, by a test of it or by NCCL, or brought wrong data."""

    symptom_name: ClassVar[str] = "nccl.peer-test-failed"
    wrong_data: bool


class PeerToPeerHelped(Symptom, frozen=True):
    """The same program ran through when NCCL_P2P_DISABLE=1 was set for it."""

    symptom_name: ClassVar[str] = "nccl.without-peer-to-peer"


class PassthroughAdvised(Symptom, frozen=True):
    """RCCL's ``Missing "iommu=pt" from kernel command line``."""

    symptom_name: ClassVar[str] = "nccl.passthrough-advised"


class DmaFault(Symptom, frozen=True):
    """The kernel's IOMMU driver refused an access of a device to memory."""

    symptom_name: ClassVar[str] = "nccl.dma-fault"
    device: str
    """PCI address, ``b3:00.0``."""


class CollectiveFailed(Symptom, frozen=True):
    """NCCL's own error codes, which tell that it failed and not why."""

    symptom_name: ClassVar[str] = "nccl.collective-failed"
    error_class: Literal["system", "internal", "cuda", "usage", "argument", "remote"]


class CollectiveTimedOut(Symptom, frozen=True):
    """The watchdog of torch.distributed, or Gloo, gave up waiting for an operation."""

    symptom_name: ClassVar[str] = "nccl.collective-timed-out"
    operation: str | None = None


class CollectiveWrong(Symptom, frozen=True):
    """A test of collectives compared the result with what it should be."""

    symptom_name: ClassVar[str] = "nccl.collective-wrong"


class GlooLoopback(Symptom, frozen=True):
    """Gloo takes the loopback address, since the host name has no other."""

    symptom_name: ClassVar[str] = "nccl.gloo-loopback"


class GlooConnectFailed(Symptom, frozen=True):
    """Gloo's ranks could not connect to each other."""

    symptom_name: ClassVar[str] = "nccl.gloo-connect-failed"
    remote: str | None
    """The address that was tried, without its port."""
    error: str


class GlooInterfaceMissing(Symptom, frozen=True):
    """``Unable to find address for: eth0``: Gloo's interface is not there or has no address."""

    symptom_name: ClassVar[str] = "nccl.gloo-interface-missing"
    interface: str


class GlooDeviceUnsupported(Symptom, frozen=True):
    """``makeDeviceForHostname(): unsupported gloo device``, or ``...ForInterface()``."""

    symptom_name: ClassVar[str] = "nccl.gloo-device-unsupported"
    by_hostname: bool


class StoreUnreachable(Symptom, frozen=True):
    """The store of rank 0 could not be reached, and torch gave up."""

    symptom_name: ClassVar[str] = "nccl.store-unreachable"
    host: str | None = None
    port: int | None = None


class StoreRefused(Symptom, frozen=True):
    """One attempt to reach the store of rank 0 failed; torch goes on trying."""

    symptom_name: ClassVar[str] = "nccl.store-refused"
    address: str
    error: str


class NameNotResolved(Symptom, frozen=True):
    """``The IPv4 network addresses of (host, 29500) cannot be retrieved (gai error: -2 ...)``."""

    symptom_name: ClassVar[str] = "nccl.name-not-resolved"
    name: str
    family: Literal["IPv4", "IPv6", "any"]


class PortTaken(Symptom, frozen=True):
    """The port of the rendezvous is in use."""

    symptom_name: ClassVar[str] = "nccl.port-taken"
    port: int | None


class PortListener(Symptom, frozen=True):
    """A listing shows who listens on a port."""

    symptom_name: ClassVar[str] = "nccl.port-listener"
    port: int
    program: str | None = None
    pid: int | None = None
