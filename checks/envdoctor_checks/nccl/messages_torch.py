"""What torch.distributed (c10d), Gloo, the TCPStore and listings of ports print."""

from __future__ import annotations

import re
from typing import Literal

from envdoctor_checks.nccl.addresses import plain
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    CollectiveFailed,
    CollectiveTimedOut,
    GlooConnectFailed,
    GlooDeviceUnsupported,
    GlooInterfaceMissing,
    GlooLoopback,
    NameNotResolved,
    PortListener,
    PortTaken,
    StoreRefused,
    StoreUnreachable,
)

CLASSES: dict[str, Literal["system", "internal", "cuda", "usage", "argument", "remote"]] = {
    "unhandled system error": "system",
    "unhandled cuda error": "cuda",
    "unhandled hip error": "cuda",
    "internal error": "internal",
    "invalid usage": "usage",
    "invalid argument": "argument",
    "remote process exited or there was a network error": "remote",
    "ncclsystemerror": "system",
    "ncclunhandledcudaerror": "cuda",
    "ncclinternalerror": "internal",
    "ncclinvalidusage": "usage",
    "ncclinvalidargument": "argument",
    "ncclremoteerror": "remote",
}
"""ncclGetErrorString's texts and the names of the codes, in lower case."""


@check.message(
    r"\b(?:(?P<code>nccl(?:System|UnhandledCuda|Internal|Remote)Error|ncclInvalid(?:Usage|Argument))\b(?=:|$|[ (,])"
    r"|(?P<own>unhandled (?:system|cuda|hip) error|remote process exited or there was a network error)"
    r"|NCCL (?:[Ee]rror|failure|ERROR)\b.{0,300}?\b(?P<words>internal error|invalid usage|invalid argument)\b)",
    needles=(
        "nccl",
        "unhandled system error",
        "unhandled cuda error",
        "unhandled hip error",
        "remote process exited",
    ),
    sample="torch.distributed.DistBackendError: NCCL error in: NCCLUtils.cpp:93, internal error, NCCL version 2.26.2",
)
def collective_failed(match: re.Match[str]) -> CollectiveFailed:
    """The error code as torch, nccl-tests and others repeat it."""
    words = match["code"] or match["own"] or match["words"]
    return CollectiveFailed(error_class=CLASSES[words.lower()])


@check.message(
    r"Watchdog caught collective operation timeout: \w+\((?:[^)]*?\bOpType=(?P<operation>\w+))?"
    r"|Some NCCL operations have failed or timed out"
    r"|Timed out waiting \d+ ?ms for (?P<gloo>recv|send) operation to complete"
    r"|failed to pass (?P<barrier>monitoredBarrier) in \d+ ms",
    needles=("operation timeout", "or timed out", "timed out waiting", "monitoredbarrier"),
    sample="Watchdog caught collective operation timeout: WorkNCCL(SeqNum=8, OpType=BROADCAST, NumelIn=4, Timeout(ms)=600)",
)
def collective_timed_out(match: re.Match[str]) -> CollectiveTimedOut:
    """ProcessGroupNCCL's watchdog, and Gloo."""
    return CollectiveTimedOut(operation=match["operation"] or match["gloo"] or match["barrier"])


@check.message(
    r"Unable to resolve hostname to a \(local\) address\. Using the loopback address as fallback",
    needles="using the loopback address",
    sample="[W ProcessGroupGloo.cpp:684] Warning: Unable to resolve hostname to a (local) address. "
    "Using the loopback address as fallback. Manually set the network interface",
)
def gloo_loopback(_match: re.Match[str]) -> GlooLoopback:
    """ProcessGroupGloo's warning."""
    return GlooLoopback()


@check.message(
    r"Gloo connectFullMesh failed with (?:\[\S+:\d+\] )?(?:timed out connecting: )?(?P<mesh>.+?)(?:, remote=(?P<mesh_to>\S+))?$"
    r"|\bERROR failed to connect, willRetry=.*?\bremote=(?P<logged_to>[^\s,]+), error=(?P<logged>[^,]+)"
    r"|gloo/transport/tcp/\w+\.cc:\d+\] connect (?P<old_to>\[[^\]]+\]:\d+): (?P<old>[A-Z][A-Za-z ]+)",
    needles=("gloo",),
    sample="RuntimeError: Gloo connectFullMesh failed with [/src/third_party/gloo/gloo/transport/tcp/pair.cc:152] "
    "timed out connecting: SO_ERROR: No route to host, remote=[10.4.0.9]:31999$0",
)
def gloo_connect_failed(match: re.Match[str]) -> GlooConnectFailed:
    """Gloo's pairs of sockets, with the operating system's words."""
    remote = match["mesh_to"] or match["logged_to"] or match["old_to"]
    error = match["mesh"] or match["logged"] or match["old"]
    return GlooConnectFailed(remote=_without_port(remote) if remote else None, error=_plain_error(error))


def _plain_error(text: str) -> str:
    return text.replace("SO_ERROR: ", "").strip().rstrip(".")


def _without_port(text: str) -> str:
    """``[10.0.0.4]:29500$1``, ``[::ffff:10.0.0.4]:1``, ``node1:29500`` without port and brackets."""
    found = re.match(r"\[(?P<inner>[^\]]+)\]", text)
    return plain(found["inner"] if found else re.sub(r":\d+(?:\$\d+)?$", "", text))


@check.message(
    r"Unable to find address for: (?P<interface>[\w.@-]+)",
    needles="unable to find address for",
    sample="[enforce fail at gloo/transport/tcp/device.cc:84] ifa != nullptr. Unable to find address for: ens7",
)
def gloo_interface_missing(match: re.Match[str]) -> GlooInterfaceMissing:
    """Gloo looked for the interface that GLOO_SOCKET_IFNAME names."""
    return GlooInterfaceMissing(interface=match["interface"].rstrip("."))


@check.message(
    r"makeDeviceFor(?P<way>Hostname|Interface)\(\): unsupported gloo device",
    needles="unsupported gloo device",
    sample="RuntimeError: makeDeviceForHostname(): unsupported gloo device",
)
def gloo_device_unsupported(match: re.Match[str]) -> GlooDeviceUnsupported:
    """Gloo has no transport for what it was given, or on this system."""
    return GlooDeviceUnsupported(by_hostname=match["way"] == "Hostname")


@check.message(
    r"The client socket has (?:timed out after \d+ ?(?:ms|s|seconds)\b while trying to connect to"
    r"|failed to connect to any network address of) \((?P<host>[^,()]+), ?(?P<port>\d+)\)"
    r"|connect\(\) timed out\. Original timeout was \d+ ms"
    r"|The connection to the C10d store has failed",
    needles=("the client socket has", "original timeout was", "c10d store has failed"),
    sample="torch.distributed.DistNetworkError: The client socket has timed out after 600000ms "
    "while trying to connect to (node-a, 29400).",
)
def store_unreachable(match: re.Match[str]) -> StoreUnreachable:
    """The TCPStore's client, and torchrun's rendezvous."""
    return StoreUnreachable(host=match["host"], port=int(match["port"]) if match["port"] else None)


@check.message(
    r"The client socket (?:has failed to connect|cannot be initialized to connect) to (?P<address>\[[^\]]+\]:\d+|[^\s:()]+:\d+)"
    r" \(errno: \d+ - (?P<error>[^)]+)\)",
    needles="the client socket",
    sample="[W socket.cpp:663] [c10d] The client socket has failed to connect to [node-a]:29400 (errno: 113 - No route to host).",
)
def store_refused(match: re.Match[str]) -> StoreRefused:
    """One attempt of the TCPStore's client."""
    return StoreRefused(address=_without_port(match["address"]), error=match["error"])


@check.message(
    r"The (?P<family>IPv4 |IPv6 )?network addresses of \((?P<name>[^,()]+), ?\d+\) cannot be retrieved \(gai error",
    needles="cannot be retrieved",
    sample="[c10d] The IPv6 network addresses of (head-node, 29400) cannot be retrieved (gai error: -3 - Temporary failure).",
)
def name_not_resolved(match: re.Match[str]) -> NameNotResolved:
    """getaddrinfo's refusal, by the address family that was asked for."""
    family = (match["family"] or "").strip()
    return NameNotResolved(
        name=match["name"], family="IPv4" if family == "IPv4" else "IPv6" if family == "IPv6" else "any"
    )


@check.message(
    r"The server socket has failed to (?:bind to|listen on) (?:\[[^\]]*\]|[^\s:]+):(?P<bound>\d+) \(errno: (?:98|48|10048) "
    r"|The server socket has failed to listen on any local network address\.(?: port: (?P<port>\d+),"
    r"| The server socket has failed to bind to \S+:(?P<within>\d+) )?.*?"
    r"(?:EADDRINUSE|[Aa]ddress already in use)"
    r"|^(?:.*\s)?RuntimeError: Address already in use",
    needles=("the server socket has failed", "address already in use"),
    sample="[W socket.cpp:436] [c10d] The server socket has failed to bind to [::]:29400 (errno: 98 - Address already in use).",
)
def port_taken(match: re.Match[str]) -> PortTaken:
    """The TCPStore's server, in its ways since torch 1.0."""
    port = match["bound"] or match["port"] or match["within"]
    return PortTaken(port=int(port) if port else None)


@check.message(
    r"^\s*(?:tcp6?\s+)?LISTEN\s+\d+\s+\d+\s+\S+:(?P<ss_port>\d+)\s+\S+:\*(?:\s+users:\(\(\"(?P<ss_program>[^\"]+)\",pid=(?P<ss_pid>\d+))?"
    r"|^\s*tcp6?\s+\d+\s+\d+\s+\S+:(?P<ns_port>\d+)\s+\S+:\*\s+LISTEN(?:\s+(?P<ns_pid>\d+)/(?P<ns_program>[^\s:]+))?"
    r"|^(?P<lsof_program>\S+)\s+(?P<lsof_pid>\d+)\s.*\bTCP \S+:(?P<lsof_port>\d+) \(LISTEN\)",
    needles="listen",
    sample='LISTEN 0      4096         0.0.0.0:29400      0.0.0.0:*    users:(("python3",pid=7712,fd=9))',
)
def port_listener(match: re.Match[str]) -> PortListener:
    """A line of ss, netstat or lsof."""
    way = next(each for each in ("ss", "ns", "lsof") if match[f"{each}_port"])
    pid = match[f"{way}_pid"]
    return PortListener(
        port=int(match[f"{way}_port"]), program=match[f"{way}_program"], pid=int(pid) if pid else None
    )
