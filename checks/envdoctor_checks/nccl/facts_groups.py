"""What came of process groups that really ran on this machine."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from envdoctor.api import Fact

MEETING = ("store", "roll-call")
"""The stages of the rendezvous."""


class RankRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far one rank came."""

    rank: int
    end: Literal["finished", "failed", "late", "crashed"]
    """``late``: its last stage did not end in its time; ``crashed``: a signal ended it; ``failed``: an exception, or it left."""
    stage: str
    """The last stage that it entered."""
    place: int
    """The number of that stage, by which ranks compare."""
    error: str | None = None
    """The exception with its message, or how the process left."""
    signal: str | None = None
    where: str | None = None
    """The innermost line of Python at which it was when it was late or crashed."""
    device: str | None = None
    """``cuda:0 (NVIDIA H100)``, ``cpu``; None where it did not come so far."""
    addresses: tuple[str, ...] = ()
    """Those on which Gloo listens for the other ranks."""


class WrongResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operation that gave other values than it must."""

    rank: int
    operation: str
    elements: int
    """How many of them are wrong."""
    of: int
    peer: int | None = None
    """The other rank, where it was an exchange of two."""


class GroupRun(Fact, frozen=True):
    """One process group on this machine: started as torchrun does, meeting on the loopback address."""

    fact_name: ClassVar[str] = "nccl.group-run"
    backend: Literal["nccl", "gloo"]
    ranks: tuple[RankRun, ...]
    wrong: tuple[WrongResult, ...]
    timeout: float
    """Seconds that each collective had."""
    meet: float
    """Seconds that the ranks had to meet."""
    seconds: float
    """From the start of the ranks to the end of the last one."""

    @property
    def well(self) -> bool:
        """Whether every rank finished, with the right results."""
        return not self.wrong and all(each.end == "finished" for each in self.ranks)

    def ended(self, end: str) -> tuple[RankRun, ...]:
        """The ranks that ended so, the one that came least far first."""
        return tuple(sorted((each for each in self.ranks if each.end == end), key=lambda each: each.place))


class GroupWithoutPeers(Fact, frozen=True):
    """The same group again with NCCL_P2P_DISABLE=1, tried where the first one was not well."""

    fact_name: ClassVar[str] = "nccl.group-without-peers"
    well: bool


class Link(msgspec.Struct, frozen=True):
    """How NCCL sends from one rank to another."""

    sender: int
    receiver: int
    via: str
    """As NCCL prints it: ``P2P/CUMEM``, ``SHM/direct/direct``, ``NET/Socket/0``."""
    channels: int


class GroupTransports(Fact, frozen=True):
    """What NCCL said of itself while the group ran, from its log (NCCL_DEBUG=INFO)."""

    fact_name: ClassVar[str] = "nccl.group-transports"
    version: str | None
    """``2.27.3+cuda12.9``."""
    interface: str | None
    """Where its ranks met: ``eth0:10.0.0.4``."""
    network: str | None
    """What it would take between nodes: ``IB``, ``Socket``."""
    rings: int | None
    """Channels, each of which is a ring through all ranks."""
    links: tuple[Link, ...]
    warnings: tuple[str, ...]
    """Its NCCL WARN lines, the first ones."""

    def via(self) -> tuple[str, ...]:
        """The kinds of transport: ``P2P``, ``SHM``, ``NET``."""
        return tuple(dict.fromkeys(each.via.partition("/")[0] for each in self.links))


class GroupBandwidth(Fact, frozen=True):
    """How fast all_reduce was over all ranks."""

    fact_name: ClassVar[str] = "nccl.group-bandwidth"
    size: int
    """Bytes on each rank."""
    seconds: float
    """For one all_reduce."""
    bus: float
    """Bytes per second on the bus, as nccl-tests define it: size / seconds * 2 (n - 1) / n."""


class PeerAccess(Fact, frozen=True):
    """What the driver promises between GPUs, as torch.cuda.can_device_access_peer tells each rank."""

    fact_name: ClassVar[str] = "nccl.peer-access"
    pairs: tuple[tuple[int, int], ...]
    """(a, b): a can read b's memory directly. Of the GPUs in the group only."""
