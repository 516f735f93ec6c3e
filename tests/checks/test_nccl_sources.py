"""One cause, one name: what is seen live, what was recorded, and what its user pastes are judged alike."""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING

import pytest

from envdoctor import snapshot
from envdoctor.engine import flatten
from envdoctor.facts import Facts, Source
from envdoctor.host import Host
from envdoctor.platform import Platform
from envdoctor.surroundings import Surroundings
from envdoctor.testing import read
from envdoctor_checks.gpu.facts import GpuDevice, GpuDevices
from envdoctor_checks.nccl.facts import NcclLibrary, NcclSettings, PcieAcs, RdmaDevices
from envdoctor_checks.nccl.probe_settings import nccl_settings, net_plugin
from envdoctor_checks.python.facts import Distribution, Distributions
from envdoctor_checks.torch.facts import TorchBuild
from tests.support.cases import doctor, judged_facts
from tests.support.libraries import build
from tests.support.nccl_tree import ROCE, Tree, config, interfaces, look, rdma, together, two_gpus

if TYPE_CHECKING:
    from pathlib import Path

HERE = Source("file", "/a/test")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def rules(facts: Facts) -> set[str]:
    return {each.rule for each in judged_facts(facts).findings if each.check == "nccl"}


def same_from_all(rule: str, facts: Facts, text: str) -> None:
    """The rule speaks of the facts, of their recording, and of the text."""
    live = [each for each in judged_facts(facts).findings if each.rule == rule]
    assert live, f"live: {rules(facts)}"
    data = snapshot.encode(snapshot.to_document(facts, "2026-11-20T00:00:00Z"))
    _, again = snapshot.decode(data, "facts.json", doctor().checks)
    assert [each.finding for each in judged_facts(again).findings if each.rule == rule] == [
        each.finding for each in live
    ]
    assert rule in rules(read(doctor().checks, text)), f"pasted: {rules(read(doctor().checks, text))}"


JOB = {"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}
GPUS = GpuDevices(devices=(GpuDevice(0, "NVIDIA A100"), GpuDevice(1, "NVIDIA A100")), source=HERE)
DOCKER = Surroundings(engine="docker", source=HERE)


def nccl(version: str) -> NcclLibrary:
    return NcclLibrary(version=version, path="/x/libnccl.so.2", source=HERE)


def test_access_control_from_all_sources(tree: Tree) -> None:
    two_gpus(tree, config(0b11101))
    text = (
        "# lspci -vvv -s c0:01.1 | grep ACSCtl\n"
        "\t\tACSCtl:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-\n"
        "# ./simpleP2P\nVerification error @ element 1: val = 0.000000, ref = 4.000000\n"
    )
    same_from_all("nccl/pcie-acs", together(look(tree.host(**JOB)), GPUS), text)


def test_the_iommu_from_all_sources(tree: Tree) -> None:
    two_gpus(tree, config(0), domain="DMA")
    tree["/sys/kernel/iommu_groups/0/type"] = "DMA\n"
    text = (
        "Verification error @ element 1: val = 0.000000, ref = 4.000000\n"
        "[   77.1] DMAR: [DMA Write] Request device [c1:00.0] fault addr 387fe0000000 [fault reason 05] PTE Write access\n"
    )
    same_from_all("nccl/iommu-p2p", together(look(tree.host(**JOB)), GPUS), text)


def test_imex_from_all_sources(tree: Tree) -> None:
    tree["/proc/devices"] = "Character devices:\n234 nvidia-caps-imex-channels\n"
    gpus = GpuDevices(devices=(GpuDevice(0, "NVIDIA GB200"),), source=HERE)
    text = "t7:9:9 [0] mnnvl.cc:62 NCCL WARN MNNVL (cliqueSize 8) is available but not working on this system. Check\n"
    same_from_all("nccl/imex-channel-missing", together(look(tree.host(**JOB)), gpus), text)


def test_cumem_from_all_sources(tree: Tree) -> None:
    tree["/proc/self/status"] = "CapEff:\t00000000a80425fb\n"
    tree["/proc/self/limits"] = "Max locked memory         65536                65536                bytes\n"
    text = '  File "misc/cudawrap.cc", line 92, in ncclCuMemHostEnable()\n'
    same_from_all("nccl/cumem-host", together(look(tree.host(**JOB)), nccl("2.26.2"), DOCKER), text)


def test_peermem_from_all_sources(tree: Tree) -> None:
    rdma(tree, link="InfiniBand")
    tree["/sys/module/nvidia_peermem/version"] = "580.65.06\n"
    text = (
        "NCCL version 2.21.5+cuda12.4\nn1:4:4 [0] NCCL INFO NET/IB : GPU Direct RDMA Disabled for HCA 0 'mlx5_0'\n"
        "$ ls /sys/kernel/mm/memory_peers\nls: cannot access '/sys/kernel/mm/memory_peers': No such file or directory\n"
    )
    torch = TorchBuild(version="2.6.0+cu124", torch_cuda="12.4", source=HERE)
    facts = together(look(tree.host(**JOB)), nccl("2.21.5"), torch)
    same_from_all("nccl/too-old-for-peermem", facts, text)


def test_a_container_without_the_nodes_from_all_sources(tree: Tree) -> None:
    rdma(tree, link="InfiniBand")
    text = "ls: cannot access '/dev/infiniband': No such file or directory\np1:7:7 [0] NCCL INFO NET/IB : No device found.\n"
    same_from_all("nccl/infiniband-not-in-container", together(look(tree.host(**JOB)), DOCKER), text)


def test_locked_memory_from_all_sources(tree: Tree) -> None:
    rdma(tree, link="InfiniBand")
    tree["/dev/infiniband/uverbs0"] = ""
    tree["/proc/self/status"] = "CapEff:\t00000000a80425fb\n"
    tree["/proc/self/limits"] = "Max locked memory         65536                65536                bytes\n"
    text = (
        "$ docker run --rm --gpus all --network host --device /dev/infiniband acme/train torchrun train.py\n"
        "p1:7:7 [0] misc/ibvwrap.cc:190 NCCL WARN Call to ibv_create_cq failed with error Cannot allocate memory\n"
    )
    same_from_all("nccl/ipc-lock-missing", together(look(tree.host(**JOB)), DOCKER), text)


def test_a_gid_that_is_not_routed_from_all_sources(tree: Tree) -> None:
    rdma(tree, gids=ROCE)
    text = (
        "p1:7:7 [0] NCCL INFO NCCL_IB_GID_INDEX set by environment to 1.\n"
        "p1:7:99 [0] transport/net_ib.cc:2150 NCCL WARN NET/IB: Got completion from peer 10.0.0.8<40111> with status=12 "
        "opcode=32600 len=0 vendor err 129 (Recv) localGid fe80::aa3:aff:fe00:7 remoteGidsfe80::8 hca mlx5_0\n"
    )
    same_from_all("nccl/roce-gid-index", look(tree.host(**JOB, NCCL_IB_GID_INDEX="1")), text)


def test_a_setting_that_selects_loopback_from_all_sources(tree: Tree) -> None:
    interfaces(tree, lo="127.0.0.1", ens3="10.0.0.7")
    tree["/etc/nccl.conf"] = "# from the image\nNCCL_SOCKET_IFNAME=^docker0,ens\n"
    text = (
        "p1:7:7 [0] NCCL INFO NCCL_SOCKET_IFNAME set by environment to ^docker0,ens\n"
        "p1:7:7 [0] NCCL INFO Bootstrap: Using lo:127.0.0.1<0>\n"
        "p2:8:8 [0] NCCL INFO Bootstrap: Using ens3:10.0.0.8<0>\n"
        "p2:8:8 [0] misc/socket.cc:569 NCCL WARN socketPollConnect: connect to 127.0.0.1<41967> failed : Connection refused\n"
    )
    same_from_all("nccl/conf-selects-loopback", look(tree.host(**JOB)), text)


def test_a_bridge_from_all_sources(tree: Tree) -> None:
    interfaces(tree, br0="10.0.0.7", cni0="10.244.0.1")
    text = (
        "p1:7:7 [0] NCCL INFO NET/Socket : Using [0]br0:10.0.0.7<0> [1]cni0:10.244.0.1<0>\n"
        "p2:8:8 [0] NCCL WARN socketPollConnect: connect to 10.244.0.1<41967> returned No route to host, exceeded error "
        "retry count after 34 attempts\n"
    )
    same_from_all("nccl/unroutable-interface", look(tree.host(**JOB)), text)


def test_settings_from_all_sources(tree: Tree) -> None:
    tree["/etc/nccl.conf"] = "NCCL_P2P_DISABLE=yes\n"
    text = "p1:7:7 [0] NCCL INFO Invalid value yes for NCCL_P2P_DISABLE, using default 0.\n"
    facts = look(tree.host(**JOB))
    assert isinstance(facts.get(NcclSettings), NcclSettings)
    same_from_all("nccl/env-unknown", facts, text)


def test_an_old_nccl_under_wsl_from_all_sources(tree: Tree) -> None:
    wsl = Platform(system="linux", machine="x86_64", wsl=True, source=HERE)
    text = (
        "box:9:30 [0] NCCL INFO NCCL version 2.7.8+cuda11.0\n"
        "box:9:30 [0] graph/xml.cc:332 NCCL WARN Could not find real path of /sys/class/pci_bus/0000:01/../../0000:01:00.0\n"
    )
    same_from_all("nccl/too-old-for-platform", together(look(tree.host(**JOB)), nccl("2.7.8"), wsl), text)


def test_another_library_than_torchs_own_from_all_sources(tree: Tree) -> None:
    wheel = Distribution(name="nvidia-nccl-cu12", version="2.27.3", location="/v/site-packages")
    facts = together(
        look(tree.host(LD_LIBRARY_PATH="/x")),
        nccl("2.18.1"),
        Distributions(distributions=(wheel,), source=HERE),
    )
    text = "ImportError: /v/site-packages/torch/lib/libtorch_cuda.so: undefined symbol: ncclCommRegister\n"
    same_from_all("nccl/older-library", facts, text)


def test_a_port_that_somebody_listens_on_from_all_sources() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        facts = look(Host.here(environ={"WORLD_SIZE": "2", "MASTER_PORT": str(port)}))
    text = (
        f"[W socket.cpp:436] [c10d] The server socket has failed to bind to [::]:{port} (errno: 98 - Address already in use).\n"
        "RuntimeError: The server socket has failed to listen on any local network address. "
        f"The server socket has failed to bind to ?UNKNOWN? (errno: 98 - Address already in use).\n"
    )
    same_from_all("nccl/master-port-in-use", facts, text)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to make a plugin with")
def test_a_plugin_that_misses_a_library_from_all_sources(tmp_path: Path) -> None:
    gone = build(tmp_path / "fabric" / "libfabricgone.so.1", source="int fabric(void) { return 0; }\n")
    source = "int fabric(void); int ncclNetPlugin_v8(void) { return fabric(); }\n"
    plugin = build(tmp_path / "made" / "libnccl-net-own.so", source=source, needs=(gone,))
    host = Host.here(
        environ={**JOB, "NCCL_NET_PLUGIN": str(plugin), "LD_LIBRARY_PATH": str(tmp_path / "fabric")}
    )
    (settings,) = flatten(nccl_settings(host))
    whole = net_plugin(host, settings)
    assert whole is not None
    assert (whole.path, whole.missing) == (str(plugin), ())
    gone.unlink()
    broken = net_plugin(host, settings)
    assert broken is not None
    assert broken.missing == ("libfabricgone.so.1",)
    text = (
        f"p1:7:7 [0] NCCL INFO NCCL_NET_PLUGIN set by environment to {plugin}\n"
        f"p1:7:7 [0] NCCL INFO NET/Plugin: {plugin}: libfabricgone.so.1: cannot open shared object file: No such file or directory\n"
    )
    same_from_all("nccl/net-plugin-broken", together(look(host), broken), text)


def test_nothing_is_said_of_a_healthy_cluster_node(tree: Tree) -> None:
    """All of it is there, and as it should be: eight ranks of sixteen, RoCE v2, pass-through, ACS off."""
    two_gpus(tree, config(0), domain="identity")
    tree["/sys/kernel/iommu_groups/0/type"] = "identity\n"
    rdma(tree, gids=ROCE)
    tree["/dev/infiniband/uverbs0"] = ""
    tree["/sys/module/nvidia_peermem/version"] = "580.65.06\n"
    tree["/proc/self/status"] = "CapEff:\t00000000a80465fb\n"
    tree["/proc/self/limits"] = "Max locked memory         unlimited            unlimited            bytes\n"
    interfaces(tree, lo="127.0.0.1", ens3="10.0.0.7", docker0="172.17.0.1")
    facts = look(tree.host(**JOB, NCCL_IB_GID_INDEX="3", NCCL_SOCKET_IFNAME="=ens3"))
    assert {RdmaDevices, PcieAcs} <= {type(each) for each in facts}
    assert rules(together(facts, GPUS, nccl("2.27.3"), DOCKER)) == set()
