"""What NCCL and its tests, libibverbs' tools and the kernel's IOMMU drivers print."""

from __future__ import annotations

import re
from typing import Literal

from envdoctor_checks.nccl.addresses import plain
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    CollectiveWrong,
    CompletionFailed,
    ConnectFailed,
    CudaFailed,
    CumemHostFailed,
    DmaFault,
    DuplicateGpu,
    GdrDisabled,
    InterfacesChosen,
    MemoryPeersMissing,
    MnnvlBroken,
    NetworkNotFound,
    NetworkUsed,
    NoInterface,
    NoRdmaDevice,
    PassthroughAdvised,
    PciPathMissing,
    PeerTestFailed,
    PeerToPeerHelped,
    PluginNotLoaded,
    RdmaCallFailed,
    RdmaNodesMissing,
    SettingSaid,
    ValueRefused,
    VersionSaid,
    VersionsDiffer,
)

HEAD = r"(?:(?<![\w.-])(?P<host>[A-Za-z0-9][\w.-]{0,252}):\d+:\d+ \[\d+\] (?:\S+:\d+ )?NCCL (?:INFO|WARN) )?"
"""``node1:812:944 [3] bootstrap.cc:45 NCCL WARN``: what NCCL puts before a line; not all wordings have it."""


@check.message(
    HEAD + r"(?:\bNCCL version |vLLM is using nccl==)(?P<version>2\.\d+\.\d+)",
    needles=("nccl version", "using nccl=="),
    sample="NCCL version 2.23.4+cuda12.6",
)
def version_said(match: re.Match[str]) -> VersionSaid:
    """NCCL's own line, the end of torch's errors, and vLLM's: each asks the library that is loaded."""
    return VersionSaid(version=match["version"], host=match["host"])


@check.message(
    r"(?:Mismatched NCCL version detected ?: rank \d+ version (?P<one>\d+) rank \d+ version (?P<other>\d+)"
    r"|NCCL version mismatch with remote peer \S+ \(local: (?P<local>\d+), remote (?P<remote>\d+)\))",
    needles=("mismatched nccl version", "nccl version mismatch"),
    sample="NCCL WARN Mismatched NCCL version detected : rank 3 version 21805 rank 0 version 22005",
)
def versions_differ(match: re.Match[str]) -> VersionsDiffer:
    """NCCL compares the number of its release between ranks; since 2.24 its RAS threads do, too."""
    pair = (match["one"] or match["local"], match["other"] or match["remote"])
    return VersionsDiffer(versions=tuple(_release(int(each)) for each in pair))


def _release(code: int) -> str:
    """NCCL_VERSION: 2804 is 2.8.4; from 2.9 on there is a digit more, 20908."""
    unit = 1000 if code < 10000 else 10000
    return f"{code // unit}.{code % unit // 100}.{code % 100}"


@check.message(
    HEAD + r"(?P<name>NCCL_[A-Z0-9_]+) set (?:by environment )?to (?P<value>\S.*?)\s*$",
    needles="set",
    sample="n7:31:31 [0] NCCL INFO NCCL_IB_TIMEOUT set by environment to 20.",
)
def setting_said(match: re.Match[str]) -> SettingSaid:
    """Numbers come with a full stop, texts without."""
    value = re.sub(r"^(-?\d+)\.$", r"\1", match["value"])
    return SettingSaid(name=match["name"], value=value, host=match["host"])


@check.message(
    r"Invalid value (?P<value>.+?) for (?P<name>NCCL_[A-Z0-9_]+), using default"
    r"|Unrecognized (?:element|prefix) token \"[^\"]*\" when parsing \"(?P<whole>[^\"]*)\"",
    needles=("invalid value", "unrecognized element token", "unrecognized prefix token"),
    sample="n7:31:31 [0] NCCL INFO Invalid value yes for NCCL_P2P_DISABLE, using default 0.",
)
def value_refused(match: re.Match[str]) -> ValueRefused:
    """A number that is none; or a list of algorithms with a word that NCCL does not have, which ends it."""
    if match["name"]:
        return ValueRefused(value=match["value"], name=match["name"])
    return ValueRefused(value=match["whole"], fatal=True)


PAIR = r"(?:\[\d+\])?(?P<name>[^\s:\[\]]+):(?P<address>[0-9A-Fa-f:.]+)(?:%[^\s<]+)?<\d+>"
PURPOSES: dict[str, Literal["bootstrap", "socket", "out-of-band"]] = {
    "Bootstrap": "bootstrap",
    "NET/Socket": "socket",
    "OOB": "out-of-band",
}


@check.message(
    HEAD
    + r"(?:(?P<purpose>Bootstrap|NET/Socket) ?: Using (?=\S+<\d)|NET/IB ?: Using .*?(?P<oob>OOB) )(?P<pairs>\S.*)",
    needles=("using ",),
    sample="n7:31:31 [0] NCCL INFO Bootstrap : Using [0]ens3:192.0.2.7<0> [1]ens4:198.51.100.7<0>",
)
def interfaces_chosen(match: re.Match[str]) -> InterfacesChosen | None:
    """One interface since 2.8, all that match before; NET/IB tells the one it exchanges addresses over."""
    pairs = tuple((each["name"], each["address"]) for each in re.finditer(PAIR, match["pairs"]))
    purpose = PURPOSES[match["purpose"] or match["oob"]]
    return InterfacesChosen(interfaces=pairs, purpose=purpose, host=match["host"]) if pairs else None


@check.message(
    HEAD
    + r"(?:Bootstrap ?: no socket interface found|NET/Socket ?: no interface found|NET/IB ?: No IP interface found)",
    needles="interface found",
    sample="n7:31:31 [0] bootstrap.cc:48 NCCL WARN Bootstrap : no socket interface found",
)
def no_interface(match: re.Match[str]) -> NoInterface:
    """None that is up, has an address and passes NCCL_SOCKET_IFNAME."""
    return NoInterface(host=match["host"])


@check.message(
    HEAD
    + r"(?:.{0,40}?[Cc]onnect to (?P<address>[^\s<]+)<\d+>(?: on \S+)? (?:failed|returned)(?: with error)? ?:? ?(?:\d+ ?\()?(?P<error>[A-Z][a-z][A-Za-z ]+?)"
    r"|Call to connect (?:returned|failed ?:) (?P<plain>[A-Z][a-z][A-Za-z ]+?))(?=[,.)(]|$| after | errno)",
    needles=("connect to", "call to connect"),
    sample="n8:44:61 [1] misc/socket.cc:50 NCCL WARN Net : Connect to 192.0.2.7<41234> failed : No route to host",
)
def connect_failed(match: re.Match[str]) -> ConnectFailed:
    """Every release has its own wording; the port in angle brackets is NCCL's."""
    address = match["address"]
    return ConnectFailed(
        error=match["error"] or match["plain"],
        address=plain(address.partition("%")[0]) if address else None,
        host=match["host"],
    )


@check.message(
    r"Duplicate GPU detected ?: rank \d+ and rank \d+ both on CUDA device (?P<device>[0-9a-fA-F]+)",
    needles="duplicate gpu detected",
    sample="init.cc:943 NCCL WARN Duplicate GPU detected : rank 5 and rank 4 both on CUDA device 8a000",
)
def duplicate_gpu(match: re.Match[str]) -> DuplicateGpu:
    """Two ranks of one communicator on one GPU."""
    return DuplicateGpu(device=match["device"])


@check.message(
    HEAD + r"(?:Using network (?P<network>\S.*?)|Assigned NET plugin (?P<assigned>\S.*?) to comm)\s*$",
    needles=("using network ", "assigned net plugin"),
    sample="n7:31:31 [0] NCCL INFO Using network AWS Libfabric",
)
def network_used(match: re.Match[str]) -> NetworkUsed:
    """The network of the communicator."""
    return NetworkUsed(network=match["network"] or match["assigned"])


@check.message(
    r"NCCL WARN Error: network (?P<network>\S.*?) not found|Failed to initialize any NET plugin",
    needles=("error: network", "initialize any net plugin"),
    sample="net.cc:720 NCCL WARN Error: network UCX not found.",
)
def network_not_found(match: re.Match[str]) -> NetworkNotFound:
    """What NCCL_NET names; releases since 2.27 do not repeat it."""
    return NetworkNotFound(network=match["network"])


@check.message(
    r"NET/Plugin ?: ?(?P<plugin>[^\s:]+\.so[.\d]*): (?P<reason>\S.*?)\s*$"
    r"|NET/Plugin ?: ?dlerror=(?P<told>.+?) No plugin found \((?P<named>[^)]+)\)"
    r"|NET/Plugin ?: ?Plugin load (?:\((?P<loaded>[^)]+)\) )?returned \d+ ?: (?P<returned>\S.*?)\s*$"
    r"|Failed to initialize NET plugin (?P<started>\S.*?)\s*$"
    r"|NET/(?P<ofi>OFI) (?:aws-ofi-nccl )?[Ii]nitialization failed",
    needles=("net/plugin", "initialize net plugin", "net/ofi"),
    sample="NCCL INFO NET/Plugin: /opt/net/libnccl-net-x.so: libfabric.so.1: cannot open shared object file: No such file",
)
def plugin_not_loaded(match: re.Match[str]) -> PluginNotLoaded | None:
    """The loader's words; a plugin that is not there at all, or NCCL's own networks, are no failure."""
    if match["ofi"]:
        return PluginNotLoaded(plugin="OFI", reason="its initialization failed")
    if match["started"]:
        own = match["started"] in ("IB", "Socket")
        return None if own else PluginNotLoaded(plugin=match["started"], reason="its initialization failed")
    plugin = match["plugin"] or match["named"] or match["loaded"] or "libnccl-net.so"
    reason = match["reason"] or match["told"] or match["returned"]
    if plugin.rpartition("/")[2] in reason.partition(": cannot open")[0].rpartition("/")[2]:
        return None
    if match["plugin"] and reason.startswith("cannot open shared object file"):
        return None
    missing = re.search(r"(?P<library>[^\s:/]+\.so[.\d]*): cannot open shared object file", reason)
    return PluginNotLoaded(plugin=plugin, reason=reason, library=missing["library"] if missing else None)


@check.message(
    r"Could not find real path of (?P<path>/sys/class/pci_bus/\S+)",
    needles="could not find real path",
    sample="graph/xml.cc:332 NCCL WARN Could not find real path of /sys/class/pci_bus/0000:3b/../../0000:3b:00.0",
)
def pci_path_missing(match: re.Match[str]) -> PciPathMissing:
    """NCCL looked for a GPU's place in the PCI tree."""
    return PciPathMissing(path=match["path"])


@check.message(
    r"MNNVL \(cliqueSize \d+\) is available but not working on this system",
    needles="mnnvl",
    sample="n7:31:31 [0] mnnvl.cc:68 NCCL WARN MNNVL (cliqueSize 8) is available but not working on this system.",
)
def mnnvl_broken(_match: re.Match[str]) -> MnnvlBroken:
    """NCCL tried to share memory between nodes."""
    return MnnvlBroken()


@check.message(
    r"(?:(?P<file>[\w/]+\.(?:cc|h|cu)):\d+ NCCL WARN )?(?:\bCuda|\bHIP) failure(?: \d+)? '(?P<error>[^']+)'",
    needles=("cuda failure", "hip failure"),
    sample="n7:31:40 [2] transport/shm.cc:590 NCCL WARN Cuda failure 217 'peer access is not supported'",
)
def cuda_failed(match: re.Match[str]) -> CudaFailed:
    """NCCL's CUDA calls; torch repeats the last one without the place."""
    return CudaFailed(error=match["error"], file=match["file"])


@check.message(
    r"Call to (?P<call>ibv_\w+) failed with (?:error |\d+ )(?P<error>[A-Z][A-Za-z ]+?)(?= errno \d|[,.(]|\s*$)"
    r"(?:.*?local GID index (?P<index>\d+))?(?:.*?local ?G[Ii][Dd]:? (?P<gid>[0-9a-fA-F:.]*:[0-9a-fA-F:.]+))?",
    needles="call to ibv_",
    sample="misc/ibvwrap.cc:262 NCCL WARN Call to ibv_modify_qp failed with 110 Connection timed out, on dev mlx5_2:1, "
    "curr state INIT, next state RTR, local GID index 1, local GID fe80::2, remote GID fe80::3",
)
def rdma_call_failed(match: re.Match[str]) -> RdmaCallFailed:
    """A function of libibverbs; releases since 2.21 tell the state of the queue pair."""
    return RdmaCallFailed(
        call=match["call"],
        error=match["error"],
        gid_index=int(match["index"]) if match["index"] else None,
        local_gid=match["gid"],
    )


@check.message(
    r"Got completion (?:from peer \S+ )?with (?:status=|error )(?:IBV_WC_\w+\()?(?P<status>\d+)"
    r"(?:.*?\blocalGid:? ?(?P<gid>[0-9a-fA-F:.]*:[0-9a-fA-F:.]+))?",
    needles="got completion",
    sample="net_ib.cc:1295 NCCL WARN NET/IB : Got completion from peer 192.0.2.9<4711> with status=12 opcode=0 len=0 "
    "vendor err 129 (Recv) localGid fe80::7 remoteGidsfe80::8",
)
def completion_failed(match: re.Match[str]) -> CompletionFailed:
    """``with error 12`` before 2.18, ``status=IBV_WC_RETRY_EXC_ERR(12)`` in the newest."""
    return CompletionFailed(status=int(match["status"]), local_gid=match["gid"])


@check.message(
    r"NET/IB ?: No device found|^No IB devices found|^Failed to get IB devices list\b",
    needles=("no device found", "ib devices"),
    sample="n7:31:31 [0] NCCL INFO NET/IB : No device found.",
)
def no_rdma_device(_match: re.Match[str]) -> NoRdmaDevice:
    """NCCL, ibv_devinfo, perftest."""
    return NoRdmaDevice()


@check.message(
    r"/dev/infiniband(?:/\w*)?['\"]?: [Nn]o such file or directory|[Nn]o such file or directory:? ['\"]?/dev/infiniband\b",
    needles="/dev/infiniband",
    sample="ls: cannot access '/dev/infiniband': No such file or directory",
)
def rdma_nodes_missing(_match: re.Match[str]) -> RdmaNodesMissing:
    """ls, docker, Python."""
    return RdmaNodesMissing()


@check.message(
    r"GPU Direct RDMA Disabled for HCA \d+ '(?P<device>[^']+)'",
    needles="gpu direct rdma disabled",
    sample="n7:31:31 [0] NCCL INFO NET/IB : GPU Direct RDMA Disabled for HCA 1 'mlx5_6'",
)
def gdr_disabled(match: re.Match[str]) -> GdrDisabled:
    """The network card goes through host memory."""
    return GdrDisabled(device=match["device"])


@check.message(
    r"/sys/kernel/mm/memory_peers(?:/[\w/]*)?['\"]?: [Nn]o such file or directory"
    r"|[Nn]o such file or directory:? ['\"]?/sys/kernel/mm/memory_peers\b",
    needles="memory_peers",
    sample="ls: cannot access '/sys/kernel/mm/memory_peers/nv_mem/version': No such file or directory",
)
def memory_peers_missing(_match: re.Match[str]) -> MemoryPeersMissing:
    """ls and cat."""
    return MemoryPeersMissing()


@check.message(
    r"(?P<falls>cuMem host allocations do not appear to be working)"
    r"|(?:^|\s)ncclCuMemHostEnable ?\(\)"
    r"|Error while attaching to shared memory segment /dev/shm/nccl-\S* \(size 0\)",
    needles=("cumem host allocations", "ncclcumemhostenable", "attaching to shared memory"),
    sample="n7:31:31 [0] NCCL INFO cuMem host allocations do not appear to be working; falling back to a /dev/shm/ based",
)
def cumem_host_failed(match: re.Match[str]) -> CumemHostFailed:
    """It falls back; or it crashed while trying; or one rank fell back alone and takes its peer's buffer for a file."""
    return CumemHostFailed(fatal=not match["falls"])


@check.message(
    r"^\s*(?P<data>Verification error @ element \d+: val = )"
    r"|NCCL WARN (?:failed to peer with device \d+\(|P2P is disabled between NVLINK connected GPUs)",
    needles=("verification error @", "failed to peer with", "between nvlink connected"),
    sample="Verification error @ element 3: val = 0.000000, ref = 12.000000",
)
def peer_test_failed(match: re.Match[str]) -> PeerTestFailed:
    """CUDA's sample simpleP2P compares what arrived; NCCL asks the driver, and then tries."""
    return PeerTestFailed(wrong_data=bool(match["data"]))


RAN = re.compile(
    r"Avg bus bandwidth|Out of bounds values : 0 OK|100%|\b(?:rc|exit)[ =]0\b|\bloss\b|\b(?:OK|ok|PASS(?:ED)?|passed|success\w*"
    r"|[Ff]inished|[Dd]one|[Cc]ompleted?)\b|^\s*\d+(?:\.\d+)?\s*$|\bit/s\b",
    re.MULTILINE,
)
FAILED = re.compile(
    r"[Ee]rror|ERROR|[Ff]ail|FAIL|NCCL WARN|Traceback|Killed|[Tt]imed out|[Tt]imeout:|core dumped|\b(?:rc|exit)[ =][1-9]|\bnan\b"
)
PROMPT = re.compile(r"^(?:\([^)]*\) )*(?:\[?[\w.-]+@[\w.-]+.{0,80}?[$#%>]|[$%]) ")


@check.message(
    r"^(?:\S.{0,120}?)?[$#%>] (?:env |sudo |export |[A-Z]\w*=\S* )*NCCL_P2P_DISABLE=1\b.*(?P<output>(?:\n.*){1,7})"
    r"|(?P<said>(?i:\b(?:works|runs|fine|succeeds|passes)\b[^.\n]{0,40}\b(?:with|after|when|if)\b[^.\n]{0,30}))NCCL_P2P_DISABLE=1",
    needles="nccl_p2p_disable=1",
    sample="$ NCCL_P2P_DISABLE=1 ./build/all_gather_perf -g 2\n# Out of bounds values : 0 OK\n# Avg bus bandwidth    : 6.2",
    span=8,
)
def without_peer_to_peer(match: re.Match[str]) -> PeerToPeerHelped | None:
    """The command with the variable, and output up to the next prompt that tells of an end and of no failure."""
    if match["said"]:
        return PeerToPeerHelped()
    lines = []
    for line in match["output"].split("\n")[1:]:
        if PROMPT.match(line):
            break
        lines.append(line)
    output = "\n".join(lines)
    return PeerToPeerHelped() if RAN.search(output) and not FAILED.search(output) else None


@check.message(
    r"Missing \"iommu=pt\" from kernel command line",
    needles="iommu=pt",
    sample='NCCL WARN Missing "iommu=pt" from kernel command line which can lead to system instablity or hang!',
)
def passthrough_advised(_match: re.Match[str]) -> PassthroughAdvised:
    """RCCL reads the kernel's command line."""
    return PassthroughAdvised()


ADDRESS = r"(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"


@check.message(
    rf"DMAR: \[DMA (?:Read|Write)[^\]]*\] Request device \[?(?P<intel>{ADDRESS})"
    rf"|\b(?P<amd>{ADDRESS}): AMD-Vi: Event logged \[IO_PAGE_FAULT"
    rf"|AMD-Vi: Event logged \[IO_PAGE_FAULT device=(?P<old>{ADDRESS})",
    needles=("dmar:", "io_page_fault"),
    sample="[  812.220071] DMAR: [DMA Read NO_PASID] Request device [5e:00.0] fault addr 0x2fe00000000 [fault reason 0x06]",
)
def dma_fault(match: re.Match[str]) -> DmaFault:
    """Intel's and AMD's lines; the usual domain 0000 is left out."""
    device = match["intel"] or match["amd"] or match["old"]
    return DmaFault(device=device.removeprefix("0000:"))


@check.message(
    r"^# Out of bounds values ?: [1-9]\d* FAILED",
    needles="out of bounds values",
    sample="# Out of bounds values : 64 FAILED",
)
def collective_wrong(_match: re.Match[str]) -> CollectiveWrong:
    """nccl-tests count the elements that differ from what they should be."""
    return CollectiveWrong()
