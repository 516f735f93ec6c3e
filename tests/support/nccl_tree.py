"""Machines as trees for the nccl check: GPUs below a bridge, RDMA ports, network interfaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from envdoctor.engine import flatten, gathered
from envdoctor.facts import CouldNotLook, Facts, Source
from envdoctor.host import Host
from envdoctor.tree import host_tree
from envdoctor.variables import Variables
from envdoctor_checks.nccl import probe_network, probe_pci, probe_rdma, probe_settings

PROBES = (
    probe_network.network_interfaces, probe_network.hosts_entry, probe_network.master_port,
    probe_pci.pcie_acs, probe_pci.iommu_state, probe_pci.virtualized, probe_pci.imex_channels,
    probe_rdma.rdma_devices, probe_rdma.rdma_nodes, probe_rdma.peer_memory, probe_rdma.process_rights,
    probe_settings.nccl_settings,
)  # fmt: skip
GPU, BRIDGE = "0000:c1:00.0", "0000:c0:01.1"
PCI = "/sys/bus/pci/devices"
PLACE = f"/sys/devices/pci0000:c0/{BRIDGE}/{GPU}"


class Tree:
    """A machine that is made file by file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._more = ""

    def __setitem__(self, path: str, content: str | bytes) -> None:
        place = self._root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)

    def link(self, path: str, to: str) -> None:
        place = self._root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(to)

    def toml(self, text: str) -> None:
        """More lines of its host.toml."""
        self._more += text + "\n"

    def host(self, **environ: str) -> Host:
        lines = "".join(
            f"{name} = {msgspec.json.encode(value).decode()}\n" for name, value in environ.items()
        )
        (self._root / "host.toml").write_text(f"[process]\nuid = 1000\n[environ]\n{lines}{self._more}")
        return host_tree(self._root)


def look(host: Host) -> Facts:
    """What the probes give, and the job's variables."""
    things: list[Any] = [Variables(values=dict(host.environ), source=Source("env"))]
    for probe in PROBES:
        try:
            things += flatten(probe(host))
        except CouldNotLook:
            continue
    return gathered(things)


def together(facts: Facts, *more: Any) -> Facts:
    return gathered([*facts, *more])


def config(control: int | None, *, ring: bool = False) -> bytes:
    """A configuration space with error reporting at 0x100 and, where `control` is given, ACS at 0x148."""
    space = bytearray(4096)
    follows = 0x100 if ring else 0x148 if control is not None else 0
    space[0x100:0x104] = (0x0001 | 1 << 16 | follows << 20).to_bytes(4, "little")
    if control is not None:
        space[0x148:0x14C] = (0x000D | 1 << 16).to_bytes(4, "little")
        space[0x14E:0x150] = control.to_bytes(2, "little")
    return bytes(space)


def two_gpus(tree: Tree, bridge: bytes, *, domain: str = "") -> None:
    """GPUs at c1:00.0 below a bridge, and at c1:00.1; `domain`: the type of their IOMMU group."""
    for address in (GPU, GPU.replace("0.0", "0.1")):
        folder = f"{PLACE.removesuffix(GPU)}{address}"
        tree[f"{folder}/vendor"] = "0x10de\n"
        tree[f"{folder}/class"] = "0x030200\n"
        if domain:
            tree[f"{folder}/iommu_group/type"] = f"{domain}\n"
        tree.link(f"{PCI}/{address}", f"../../../devices/pci0000:c0/{BRIDGE}/{address}")
    tree[f"{PLACE.removesuffix(GPU)}config"] = bridge
    tree[f"{PLACE.removesuffix(GPU)}vendor"] = "0x1022\n"
    tree[f"{PLACE.removesuffix(GPU)}class"] = "0x060400\n"
    tree.link(f"{PCI}/{BRIDGE}", f"../../../devices/pci0000:c0/{BRIDGE}")


def rdma(tree: Tree, link: str = "Ethernet", state: str = "4: ACTIVE", gids: tuple[str, ...] = ()) -> None:
    folder = "/sys/class/infiniband/mlx5_0/ports/1"
    tree[f"{folder}/state"] = f"{state}\n"
    tree[f"{folder}/link_layer"] = f"{link}\n"
    for index, gid in enumerate(gids):
        tree[f"{folder}/gids/{index}"] = f"{gid}\n"
        tree[f"{folder}/gid_attrs/types/{index}"] = "IB/RoCE v1\n" if index % 2 == 0 else "RoCE v2\n"


LOCAL = "fe80:0000:0000:0000:0aa3:0aff:fe00:0007"
MAPPED = "0000:0000:0000:0000:0000:ffff:0a00:0007"
ROCE = (LOCAL, LOCAL, MAPPED, MAPPED)


def interfaces(tree: Tree, **by_name: str) -> None:
    """Interfaces that are up, each with an address of its own network, in this order."""
    trie = route = ""
    for index, (name, address) in enumerate(by_name.items(), 1):
        tree[f"/sys/class/net/{name}/flags"] = "0x1043\n"
        tree[f"/sys/class/net/{name}/operstate"] = "up\n"
        tree[f"/sys/class/net/{name}/ifindex"] = f"{index}\n"
        trie += f"           |-- {address}\n              /32 host LOCAL\n"
        octets = [int(part) for part in address.split(".")]
        network = f"00{octets[2]:02X}{octets[1]:02X}{octets[0]:02X}"
        route += f"{name}\t{network}\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    tree["/proc/net/fib_trie"] = f"Local:\n{trie}"
    tree["/proc/net/route"] = f"Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n{route}"
