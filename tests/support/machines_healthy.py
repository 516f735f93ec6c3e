"""Machines on which nothing is wrong. Each is built as such machines are, odd looks and all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from tests.support import machine_driver as gpu, machine_parts as parts
from tests.support.machine_torch import (
    TORCH_2_8,
    TORCH_2_12_ARM,
    TORCH_CPU,
    Environment,
    Torch,
    imports,
    install_torch,
    system_python,
    venv,
)
from tests.support.machine_tree import Tree

HEALTHY: dict[str, Healthy] = {}
Build = TypeVar("Build", bound=Callable[[Tree], object])
H100, A100 = ("NVIDIA H100 80GB HBM3", "9.0"), ("NVIDIA A100 80GB PCIe", "8.0")
RTX_4090 = ("NVIDIA GeForce RTX 4090", "8.9")
CUDA_IMAGE = "12.8"


class Healthy(msgspec.Struct, frozen=True):
    """One machine: how it is built, and on which processor."""

    build: Callable[[Tree], object]
    processor: str
    about: str


def healthy(processor: str = "x86_64") -> Callable[[Build], Build]:
    """Register a machine under its function's name; the docstring says what it is."""

    def register(build: Build) -> Build:
        HEALTHY[build.__name__.replace("_", "-")] = Healthy(build, processor, (build.__doc__ or "").strip())
        return build

    return register


def training_server(tree: Tree, hostname: str, *, torch: Torch = TORCH_2_8) -> Environment:
    """Ubuntu 22.04 on a server, a user's venv with torch, and a compiler; the driver and GPUs are not in it."""
    parts.linux(tree, parts.UBUNTU_22, memory=2048, cores=112)
    home = parts.person(tree, "alice", 1001, groups=(44, 110))
    parts.network(tree, hostname, "10.11.4.21")
    parts.toolchain(tree, "11.4.0", "3.10")
    made = venv(tree, f"{home}/train/.venv", "3.10.12", owner=1001)
    tree.environ["VIRTUAL_ENV"] = made.prefix
    install_torch(tree, made, torch)
    return made


@healthy()
def h100x8(tree: Tree) -> Environment:
    """HGX H100: eight SXM GPUs, NVSwitches, the fabric manager at work, driver 580 and torch 2.8.0+cu128."""
    made = training_server(tree, "hgx-07")
    gpu.driver(tree, "580.65.06", gpu.H100_SXM, parts.UBUNTU_22)
    gpu.nvswitches(tree, "580.65.06")
    gpu.scenario(tree, "h100x8")
    gpu.rdma(tree, 4)
    imports(tree, made, TORCH_2_8, (H100,) * 8)
    return made


@healthy()
def h100x8_at_work(tree: Tree) -> Environment:
    """The same in the middle of a job on two nodes: memory full, clocks held by the power limit, the store's port open."""
    made = h100x8(tree)
    gpu.scenario(
        tree,
        "h100x8",
        "memory.used_mib = 71204\nutilization.gpu = 99\nutilization.memory = 61\ntemperature.gpu = 64\npower.usage_mw = 691200\n"
        "clock.sm = 1755\nclock.graphics = 1755\nclocks.reasons = 0x4\nprocesses.compute = 40000:71000\nprocess.40000.name = python\n",
    )
    tree.environ |= {
        "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8", "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0",
        "MASTER_ADDR": "10.11.4.21", "MASTER_PORT": "29500", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7",
        "NCCL_SOCKET_IFNAME": "eno1", "GLOO_SOCKET_IFNAME": "eno1", "NCCL_IB_HCA": "mlx5_0,mlx5_1,mlx5_2,mlx5_3", "NCCL_DEBUG": "WARN",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    tree.answers.names["10.11.4.21"] = ("10.11.4.21",)
    tree.file(
        "/proc/net/tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue\n"
        "   0: 15040B0A:733C 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 88112\n",
    )
    return made


@healthy()
def a100(tree: Tree) -> Environment:
    """A virtual server with one A100, driver 550: CUDA 12.4 spoken, CUDA 12.8 wheels."""
    made = training_server(tree, "gpu-vm-1")
    gpu.driver(tree, "550.144.03", gpu.A100, parts.UBUNTU_22, flavour="proprietary")
    gpu.scenario(tree, "a100")
    tree.file("/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse4_2 avx2 hypervisor\n\n")
    imports(tree, made, TORCH_2_8, (A100,))
    return made


@healthy()
def h100_pcie(tree: Tree) -> Environment:
    """One H100 on a PCIe card: no NVSwitch, so no fabric manager."""
    made = training_server(tree, "gpu-pcie-3")
    gpu.driver(tree, "570.133.20", gpu.H100_PCIE, parts.UBUNTU_22)
    gpu.scenario(
        tree,
        "h100x8",
        "gpus = 1\ndriver_release = 570.133.20\ndriver_branch = r570_00\ndriver_cuda = 12080\ngsp.version = 570.133.20\n"
        "name = NVIDIA H100 PCIe\npci.device_id = 0x233110de\nnvlink.count =\nfabric.state = 0\nfabric.status = 0\n"
        "fabric.health_mask =\nfabric.health_summary =\npower.limit_mw = 350000\n[gpu 0]\npci.bus_id = 00000000:41:00.0\n",
    )
    imports(tree, made, TORCH_2_8, (("NVIDIA H100 PCIe", "9.0"),))
    return made


def desktop(tree: Tree, *, torch: Torch = TORCH_2_8) -> Environment:
    """Ubuntu 24.04 on a desk, with a venv made by uv in the user's project."""
    parts.linux(tree, parts.UBUNTU_24, memory=64, cores=24)
    home = parts.person(tree, "bob", groups=(4, 27, 44), cwd="/home/bob/project")
    parts.kernel_log(tree, "usb 1-2: new high-speed USB device number 4 using xhci_hcd")
    parts.network(tree, "workstation", "192.168.178.34", "enp6s0", ("docker0",))
    parts.toolchain(tree)
    made = venv(tree, f"{home}/project/.venv", "3.12.3", made_by="uv = 0.8.13\n")
    install_torch(tree, made, torch)
    return made


@healthy()
def rtx4090(tree: Tree) -> Environment:
    """A desktop with an RTX 4090 under driver 535: minor-version compatibility carries CUDA 12.8 wheels."""
    made = desktop(tree)
    gpu.driver(tree, "535.104.05", gpu.RTX_4090, parts.UBUNTU_24, flavour="proprietary")
    old = "driver_release = 535.104.05\ndriver_branch = r535_00\ndriver_cuda = 12020\n"
    gpu.scenario(tree, "rtx4090", old)
    imports(tree, made, TORCH_2_8, (RTX_4090,))
    return made


@healthy()
def rtx4090_with_toolkits(tree: Tree) -> Environment:
    """The same desk, LD_LIBRARY_PATH leading to an older toolkit: torch's DT_RPATH comes first, so nothing of it is used."""
    made = rtx4090(tree)
    parts.toolkit(tree, "12.1", "12.1.105")
    tree.environ["LD_LIBRARY_PATH"] = "/usr/local/cuda-12.1/lib64"
    tree.environ["PATH"] = "/usr/local/cuda-12.1/bin:" + tree.environ["PATH"]
    return made


@healthy()
def rtx4090_with_history(tree: Tree) -> Environment:
    """The same desk after three weeks: what the kernel has logged of other containers, of buggy programs and of an
    upgrade that was carried through is past.
    """
    made = rtx4090(tree)
    parts.kernel_log(
        tree,
        "nvidia: loading out-of-tree module taints kernel.",
        "nvidia: module verification failed: signature and/or required key missing - tainting kernel",
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  535.86.10  Wed Jul 26 23:20:03 UTC 2023",
        "NVRM: API mismatch: the client has the version 535.104.05, but\nNVRM: this kernel module has the version 535.86.10.  Please\n"
        "NVRM: make sure that this kernel module and all NVIDIA driver\nNVRM: components have the same version.",
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023",
        "NVRM: Xid (PCI:0000:01:00): 13, pid=4242, name=python, Graphics SM Warp Exception on (GPC 0, TPC 0, SM 0): Out Of Range Address",
        "NVRM: Xid (PCI:0000:01:00): 43, pid=4242, name=python, Ch 00000008",
        "memory: usage 8388608kB, limit 8388608kB, failcnt 311",
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=docker-1f2e.scope,mems_allowed=0,"
        "oom_memcg=/system.slice/docker-1f2e.scope,task_memcg=/system.slice/docker-1f2e.scope,task=java,pid=9113,uid=0",
        "Memory cgroup out of memory: Killed process 9113 (java) total-vm:10485760kB, anon-rss:8380000kB",
        "cgroup: fork rejected by pids controller in /system.slice/docker-1f2e.scope",
        "python[5120]: segfault at 0 ip 00007f2b8c2 sp 00007ffd error 4 in libc.so.6[7f2b8c00+195000]",
        "pcieport 0000:00:01.1: AER: Corrected error received: 0000:01:00.0",
    )
    return made


@healthy("aarch64")
def gb10(tree: Tree) -> Environment:
    """DGX Spark: a GB10 on 64-bit ARM, whose compute capability 12.1 runs code for 12.0."""
    parts.linux(
        tree, msgspec.structs.replace(parts.UBUNTU_24, kernel="6.11.0-1016-nvidia"), memory=120, cores=20
    )
    home = parts.person(tree, "eve", groups=(4, 27, 44))
    parts.kernel_log(tree, "r8127 0007:01:00.0 enP7s7: link up")
    parts.network(tree, "spark-4a1f", "192.168.1.50", "enP7s7")
    parts.toolchain(tree)
    gpu.driver(
        tree, "580.95.05", gpu.GB10, msgspec.structs.replace(parts.UBUNTU_24, kernel="6.11.0-1016-nvidia")
    )
    gpu.scenario(tree, "gb10")
    made = venv(tree, f"{home}/llm/.venv", "3.12.3")
    tree.environ["VIRTUAL_ENV"] = made.prefix
    install_torch(tree, made, TORCH_2_12_ARM)
    imports(tree, made, TORCH_2_12_ARM, (("NVIDIA GB10", "12.1"),))
    return made


@healthy("aarch64")
def gh200(tree: Tree) -> Environment:
    """A Grace Hopper node: a GPU whose memory the kernel shows as a NUMA node, and pages of 64 KiB."""
    system = msgspec.structs.replace(parts.UBUNTU_22, kernel="6.8.0-1025-nvidia-64k")
    parts.linux(tree, system, memory=480, cores=72)
    home = parts.person(tree, "alice", 1001)
    parts.network(tree, "gh-node-2", "10.40.0.12")
    parts.toolchain(tree, "11.4.0", "3.10")
    gpu.driver(tree, "580.65.06", gpu.GH200, system)
    gpu.scenario(
        tree,
        "h100x8",
        "gpus = 1\nname = NVIDIA GH200 480GB\npci.device_id = 0x234210de\nmemory.total_mib = 97871\ncuda.total_mib = 97280\n"
        "nvlink.count =\nfabric.state = 0\nfabric.status = 0\nfabric.health_mask =\nfabric.health_summary =\n"
        "addressing_mode = 2\n[gpu 0]\npci.bus_id = 00000009:01:00.0\n",
    )
    made = venv(tree, f"{home}/train/.venv", "3.10.12", owner=1001)
    tree.environ["VIRTUAL_ENV"] = made.prefix
    install_torch(tree, made, TORCH_2_12_ARM)
    imports(tree, made, TORCH_2_12_ARM, (("NVIDIA GH200 480GB", "9.0"),))
    return made


@healthy()
def laptop_cpu(tree: Tree) -> Environment:
    """A laptop without an NVIDIA GPU, Fedora, and a torch for the CPU."""
    parts.linux(tree, parts.FEDORA_42, memory=16, cores=8)
    home = parts.person(tree, "carol")
    parts.network(tree, "fedora", "192.168.0.17", "wlp2s0")
    made = venv(tree, f"{home}/notes/.venv", "3.13.5")
    tree.environ["VIRTUAL_ENV"] = made.prefix
    install_torch(tree, made, TORCH_CPU)
    imports(tree, made, TORCH_CPU)
    return made


@healthy()
def wsl2(tree: Tree) -> Environment:
    """Ubuntu 22.04 in WSL2 with the desktop's RTX 4090: no kernel module, no nodes but /dev/dxg, Windows' libcuda."""
    system = msgspec.structs.replace(parts.UBUNTU_22, kernel="6.6.87.2-microsoft-standard-WSL2")
    parts.linux(tree, system, memory=32, cores=24)
    home = parts.person(tree, "dave", groups=(4, 27))
    parts.network(tree, "DESKTOP-8K2J", "172.28.96.14", "eth0")
    parts.toolchain(tree, "11.4.0", "3.10")
    tree.environ |= {"WSL_DISTRO_NAME": "Ubuntu-22.04", "WSL_INTEROP": "/run/WSL/9_interop"}
    tree.environ["PATH"] += ":/usr/lib/wsl/lib:/mnt/c/Windows/system32"
    tree.node("/dev/dxg", 10, 125)
    for name in ("libcuda.so", "libcuda.so.1", "libcuda.so.1.1", "libnvidia-ml.so.1", "libdxcore.so"):
        tree.library(f"/usr/lib/wsl/lib/{name}")
    tree.cached("/usr/lib/wsl/lib/libcuda.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1")
    tree.answers.libcuda = "/usr/lib/wsl/lib/libcuda.so.1.1"
    gpu.scenario(tree, "wsl2")
    made = venv(tree, f"{home}/sd/.venv", "3.10.12")
    tree.environ["VIRTUAL_ENV"] = made.prefix
    install_torch(tree, made, TORCH_2_8)
    imports(tree, made, TORCH_2_8, (RTX_4090,))
    return made


@healthy()
def ubuntu_desktop(tree: Tree) -> None:
    """An Ubuntu desktop as it is installed: nouveau drives the card, and nobody has asked for torch."""
    parts.linux(tree, parts.UBUNTU_24, memory=32, cores=12)
    parts.person(tree, "frank", groups=(4, 27))
    parts.kernel_log(tree, "nouveau 0000:01:00.0: NVIDIA AD102 (192000a1)")
    parts.network(tree, "frank-desktop", "192.168.2.40", "enp3s0")
    gpu.gpus(tree, gpu.RTX_4090, bound="nouveau", told=False)
    tree.more("/proc/modules", "nouveau 3096576 4 - Live 0x0\n")
    tree.file(gpu.SECURE_BOOT, b"\x06\x00\x00\x00\x01")
    tree.file(
        f"/usr/lib/modules/{parts.UBUNTU_24.kernel}/modules.dep",
        "kernel/drivers/gpu/drm/nouveau/nouveau.ko.zst:\n",
    )
    system_python(tree, "/usr", "3.12.3", managed=True)


@healthy("aarch64")
def jetson_orin(tree: Tree) -> Environment:
    """A Jetson AGX Orin with JetPack 6: nvgpu on the chip, no GPU on PCI, torch built against the system's CUDA."""
    system = msgspec.structs.replace(parts.UBUNTU_22, kernel="5.15.148-tegra")
    parts.linux(tree, system, memory=61, cores=12)
    home = parts.person(tree, "nvidia", groups=(4, 27, 44, 110))
    parts.kernel_log(tree, "nvgpu: 17000000.gpu gk20a_scale_init:541 [INFO] enable scaling")
    parts.network(tree, "orin", "192.168.55.10", "eth0")
    parts.toolchain(tree, "11.4.0", "3.10")
    parts.toolkit(tree, "12.6", "12.6.68")
    gpu.jetson(tree, "540.4.0")
    torch = Torch(release="2.8.0", cuda="12.6", label="", cudnn="9.3.0", nccl="2.27.3", archs=("sm_87",))
    made = venv(tree, f"{home}/robot/.venv", "3.10.12")
    tree.environ["VIRTUAL_ENV"] = made.prefix
    install_torch(tree, made, msgspec.structs.replace(torch, cuda=None))
    tree.file(
        f"{made.site}/torch/version.py",
        "__version__ = '2.8.0'\ncuda: Optional[str] = '12.6'\nhip: Optional[str] = None\n",
    )
    imports(tree, made, torch, (("Orin", "8.7"),))
    return made
