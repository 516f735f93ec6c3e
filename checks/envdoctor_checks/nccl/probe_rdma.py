"""RDMA devices, their device files, and what a process needs to use them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal

from envdoctor.api import CouldNotLook, Host, Source, Tier
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    Gid,
    LockedMemory,
    PeerMemory,
    ProcessRights,
    RdmaDevices,
    RdmaNodes,
    RdmaPort,
)
from envdoctor_checks.nccl.gids import short_gid

CLASS = "/sys/class/infiniband"
NODES = "/dev/infiniband"
MAX_PORTS = 64
MAX_GIDS = 16
"""A port has up to 256 entries; addresses are at its beginning."""
RIGHTS = {14: "IPC_LOCK", 23: "SYS_NICE"}
"""Bits of CapEff, by capabilities(7)."""


@check.probe(tier=Tier.QUICK)
def rdma_devices(host: Host) -> RdmaDevices:
    """Every port of every device in sysfs."""
    ports: list[RdmaPort] = []
    for device in host.names(CLASS, MAX_PORTS) or ():
        for port in host.names(f"{CLASS}/{device}/ports") or ():
            if port.isdigit() and len(ports) < MAX_PORTS:
                ports.append(_port(host, device, port))
    return RdmaDevices(ports=tuple(ports), source=Source("file", CLASS))


def _port(host: Host, device: str, port: str) -> RdmaPort:
    folder = f"{CLASS}/{device}/ports/{port}"
    link = _word(host, f"{folder}/link_layer")
    return RdmaPort(
        device=device,
        port=int(port),
        active=_word(host, f"{folder}/state").endswith("ACTIVE"),
        link=_link(link),
        gids=tuple(_gids(host, folder)) if link == "Ethernet" else None,
    )


def _link(text: str) -> Literal["InfiniBand", "Ethernet"] | None:
    return "Ethernet" if text == "Ethernet" else "InfiniBand" if text == "InfiniBand" else None


def _word(host: Host, path: str) -> str:
    """A file of one word. sysfs answers EINVAL for an entry without content."""
    try:
        return host.read(path, 256).decode("ascii", "replace").strip()
    except OSError:
        return ""


def _gids(host: Host, folder: str) -> Iterator[Gid]:
    for index in range(MAX_GIDS):
        gid = _word(host, f"{folder}/gids/{index}")
        if not gid:
            return
        kind = _word(host, f"{folder}/gid_attrs/types/{index}")
        yield Gid(index, short_gid(gid), kind.replace("IB/RoCE v1", "RoCE v1") or None)


@check.probe(tier=Tier.QUICK)
def rdma_nodes(host: Host) -> RdmaNodes:
    """What is in /dev/infiniband, and whether this user may open it."""
    names = host.names(NODES) or ()
    verbs = [name for name in names if name.startswith("uverbs")]
    may = all(host.may(f"{NODES}/{name}", os.R_OK | os.W_OK) for name in verbs) if verbs else None
    return RdmaNodes(nodes=names, openable=may, source=Source("file", NODES))


@check.probe(tier=Tier.QUICK)
def peer_memory(host: Host) -> PeerMemory:
    """The modules through which a network card reads GPU memory, and where they are registered."""
    loaded = tuple(name for name in ("nvidia_peermem", "nv_peer_mem") if host.exists(f"/sys/module/{name}"))
    peers = host.names("/sys/kernel/mm/memory_peers") or ()
    return PeerMemory(
        modules=loaded,
        registered=any(name in ("nv_mem", "nv_mem_nc") for name in peers),
        source=Source("file", "/sys/module"),
    )


@check.probe(tier=Tier.QUICK)
def process_rights(host: Host) -> Iterator[ProcessRights | LockedMemory]:
    """Capabilities and the limit of locked memory, from /proc/self."""
    mask = _field(host.text("/proc/self/status"), "CapEff:")
    if mask is None:
        raise CouldNotLook("/proc/self/status does not tell")
    have = tuple(name for bit, name in RIGHTS.items() if int(mask, 16) >> bit & 1)
    yield ProcessRights(capabilities=have, source=Source("file", "/proc/self/status"))
    limit = _field(host.text("/proc/self/limits"), "Max locked memory")
    if limit is None:
        raise CouldNotLook("/proc/self/limits does not tell")
    bytes_ = int(limit) if limit.isdigit() else None
    yield LockedMemory(limit=bytes_, source=Source("file", "/proc/self/limits"))


def _field(text: str | None, label: str) -> str | None:
    """The first word behind a label."""
    for line in (text or "").splitlines():
        if line.startswith(label):
            return next(iter(line[len(label) :].split()), None)
    return None
