"""Machines as trees: PCIe access control, the IOMMU, virtual machines, IMEX channels, RDMA devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envdoctor.facts import CouldNotLook, Source
from envdoctor_checks.nccl import probe_pci, probe_rdma
from envdoctor_checks.nccl.facts import (
    Gid,
    ImexChannels,
    IommuState,
    NcclLibrary,
    NcclSettings,
    PcieBridge,
    PeerMemory,
    RdmaNodes,
    RdmaPort,
    Setting,
    Virtualized,
)
from envdoctor_checks.nccl.headlines import nccl_interfaces, nccl_row
from envdoctor_checks.nccl.probe_network import network_interfaces
from tests.support.nccl_tree import BRIDGE, ROCE, Tree, config, interfaces, rdma, two_gpus

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


# PCIe: access control, the IOMMU, virtual machines, IMEX.


@pytest.mark.parametrize(
    ("bridge", "redirecting", "looked_at"),
    [
        (config(None), (), 0),
        (config(0), (), 1),
        (config(0b1), (), 1),
        (config(0b11101), ("SrcValid ReqRedir CmpltRedir UpstreamFwd",), 1),
        (config(None, ring=True), (), 0),
        (b"\xff" * 4096, (), 0),
    ],
    ids=["no capability", "all off", "source validation", "redirecting", "a ring", "a device that has gone"],
)
def test_access_control(tree: Tree, bridge: bytes, redirecting: tuple[str, ...], looked_at: int) -> None:
    two_gpus(tree, bridge)
    seen = probe_pci.pcie_acs(tree.host())
    assert seen.redirecting == tuple(PcieBridge(BRIDGE, each) for each in redirecting)
    assert seen.looked_at == looked_at


def test_access_control_that_only_root_may_see(tree: Tree) -> None:
    two_gpus(tree, config(0b1100)[:64])
    with pytest.raises(CouldNotLook, match="root"):
        probe_pci.pcie_acs(tree.host())


@pytest.mark.parametrize(
    ("groups", "domain", "cmdline", "translated"),
    [
        (0, "", "ro quiet", False),
        (9, "identity", "ro iommu=pt", False),
        (9, "DMA-FQ", "ro intel_iommu=on", True),
        (9, "", "ro", None),
    ],
)
def test_the_iommu(tree: Tree, groups: int, domain: str, cmdline: str, translated: bool | None) -> None:
    two_gpus(tree, config(0), domain=domain)
    tree["/proc/cmdline"] = cmdline
    for number in range(groups):
        tree[f"/sys/kernel/iommu_groups/{number}/type"] = domain or "DMA"
    seen = probe_pci.iommu_state(tree.host())
    assert isinstance(seen, IommuState)
    assert (seen.groups, seen.translated) == (groups, translated)
    assert seen.options == tuple(each for each in cmdline.split() if "iommu" in each)


def test_virtual_machines(tree: Tree) -> None:
    tree["/sys/class/dmi/id/sys_vendor"] = "Amazon EC2\n"
    tree["/sys/class/dmi/id/product_name"] = "p5.48xlarge\n"
    assert probe_pci.virtualized(tree.host()).guest
    tree["/sys/class/dmi/id/product_name"] = "g5g.metal\n"
    assert not probe_pci.virtualized(tree.host()).guest
    tree["/proc/cpuinfo"] = "processor : 0\nflags\t\t: fpu vme hypervisor lahf_lm\n"
    assert probe_pci.virtualized(tree.host()) == Virtualized(
        guest=True, source=Source("file", "/proc/cpuinfo")
    )


def test_imex_channels(tree: Tree) -> None:
    def seen() -> ImexChannels:
        (fact,) = probe_pci.imex_channels(tree.host())
        return fact

    assert (seen().supported, seen().channels) == (False, ())
    tree["/proc/devices"] = "Character devices:\n195 nvidia\n234 nvidia-caps-imex-channels\n"
    assert (seen().supported, seen().channels) == (True, ())
    tree["/dev/nvidia-caps-imex-channels/channel0"] = ""
    assert seen().channels == ("channel0",)


# RDMA.


def test_ports_and_addresses(tree: Tree) -> None:
    assert probe_rdma.rdma_devices(tree.host()).ports == ()
    rdma(tree, gids=ROCE)
    tree["/sys/class/infiniband/mlx5_1/ports/1/state"] = "1: DOWN\n"
    tree["/sys/class/infiniband/mlx5_1/ports/1/link_layer"] = "InfiniBand\n"
    first, second = probe_rdma.rdma_devices(tree.host()).ports
    assert second == RdmaPort("mlx5_1", 1, active=False, link="InfiniBand")
    assert (first.active, first.link) == (True, "Ethernet")
    assert first.gids is not None
    assert first.gids[1] == Gid(1, "fe80::aa3:aff:fe00:7", "RoCE v2")
    assert first.gids[2] == Gid(2, "::ffff:10.0.0.7", "RoCE v1")


def test_nodes_and_who_may_open_them(tree: Tree) -> None:
    assert probe_rdma.rdma_nodes(tree.host()) == RdmaNodes(nodes=(), source=Source("file", "/dev/infiniband"))
    tree.toml('[paths."/dev/infiniband/uverbs0"]\nkind = "char"\ndevice = [231, 192]\nmode = "0666"')
    assert probe_rdma.rdma_nodes(tree.host()).openable is True
    tree.toml('[paths."/dev/infiniband/uverbs1"]\nkind = "char"\ndevice = [231, 193]\nmode = "0600"')
    seen = probe_rdma.rdma_nodes(tree.host())
    assert (seen.nodes, seen.openable) == (("uverbs0", "uverbs1"), False)


def test_peer_memory(tree: Tree) -> None:
    def seen() -> PeerMemory:
        return probe_rdma.peer_memory(tree.host())

    assert (seen().modules, seen().registered) == ((), False)
    tree["/sys/module/nvidia_peermem/version"] = "580.65.06\n"
    assert (seen().modules, seen().registered) == (("nvidia_peermem",), False)
    tree["/sys/kernel/mm/memory_peers/nv_mem/version"] = "1.0\n"
    assert seen().registered is True


# The machine's summary, and the table of interfaces.


def test_the_summary_tells_the_release_and_where_ranks_meet(tree: Tree) -> None:
    interfaces(tree, lo="127.0.0.1", ens3="10.0.0.7", docker0="172.17.0.1", ib0="10.1.0.7")
    seen = network_interfaces(tree.host())
    library = NcclLibrary(version="2.27.3", source=Source("file", "/x"))
    none = NcclSettings(settings=(), source=Source("env"))
    (row,) = nccl_row(library, seen, none)
    assert (row.label, row.value) == ("NCCL", "2.27.3, would meet through ib0 10.1.0.7")
    own = NcclSettings(settings=(Setting("NCCL_SOCKET_IFNAME", "ens,docker"),), source=Source("env"))
    (row,) = nccl_row(library, seen, own)
    assert row.value == "2.27.3, would meet through ens3 10.0.0.7 and 1 more"
    assert list(nccl_row(NcclLibrary(version=None, source=Source("file", "/x")), seen, none)) == []
    (row,) = nccl_row(library, None, none)
    assert row.value == "2.27.3"


def test_every_interface_has_its_reason(tree: Tree) -> None:
    interfaces(tree, lo="127.0.0.1", ens3="10.0.0.7", docker0="172.17.0.1", ens4="10.2.0.7")
    tree["/sys/class/net/ens5/flags"] = "0x1003\n"
    tree["/sys/class/net/ens5/operstate"] = "down\n"
    tree["/sys/class/net/ens6/flags"] = "0x1043\n"
    tree["/sys/class/net/ens6/operstate"] = "up\n"
    own = NcclSettings(settings=(Setting("NCCL_SOCKET_IFNAME", "ens"),), source=Source("env"))
    shown = nccl_interfaces(network_interfaces(tree.host()), own)
    assert {row[0]: row[3] for row in shown.rows} == {
        "lo": "left out by NCCL_SOCKET_IFNAME=ens",
        "ens3": "first: the ranks meet here",
        "docker0": "left out by NCCL_SOCKET_IFNAME=ens",
        "ens4": "taken, number 2",
        "ens5": "not usable: down",
        "ens6": "not usable: no address",
    }
