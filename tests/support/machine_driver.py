"""GPUs and the driver's parts: on the bus, in the kernel, under /dev, as libraries, in a container."""

from __future__ import annotations

from typing import Literal

import msgspec

from tests.support.fake_driver import SCENARIOS
from tests.support.machine_parts import LIMITS, System
from tests.support.machine_tree import Tree

SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """The GPUs of a machine, all of one model."""

    model: str
    device_id: str
    addresses: tuple[str, ...]
    pci_class: str = "0x030200"
    """``0x030000`` for one with a display."""


H100_SXM = Gpu(
    model="NVIDIA H100 80GB HBM3", device_id="0x2330",
    addresses=tuple(f"0000:{bus}:00.0" for bus in ("1b", "43", "52", "61", "9d", "c3", "d1", "df")),
)  # fmt: skip
H100_PCIE = Gpu(model="NVIDIA H100 PCIe", device_id="0x2331", addresses=("0000:41:00.0",))
A100 = Gpu(model="NVIDIA A100 80GB PCIe", device_id="0x20b5", addresses=("0000:17:00.0",))
T4 = Gpu(model="Tesla T4", device_id="0x1eb8", addresses=("0000:00:1e.0",))
RTX_4090 = Gpu(
    model="NVIDIA GeForce RTX 4090", device_id="0x2684", addresses=("0000:01:00.0",), pci_class="0x030000"
)
GB10 = Gpu(model="NVIDIA GB10", device_id="0x2e12", addresses=("000f:01:00.0",))
GH200 = Gpu(model="NVIDIA GH200 480GB", device_id="0x2342", addresses=("0009:01:00.0",))
NVSWITCHES = ("0000:07:00.0", "0000:08:00.0", "0000:09:00.0", "0000:0a:00.0")


def pci(tree: Tree, address: str, device_id: str, pci_class: str, driver: str | None) -> None:
    """One PCI function of NVIDIA's."""
    folder = f"/sys/bus/pci/devices/{address}"
    tree.file(f"{folder}/vendor", "0x10de\n")
    tree.file(f"{folder}/device", device_id + "\n")
    tree.file(f"{folder}/class", pci_class + "\n")
    if driver:
        tree.folder(f"/sys/bus/pci/drivers/{driver}")
        tree.link(f"{folder}/driver", f"../../../../bus/pci/drivers/{driver}")


def scenario(tree: Tree, base: str, text: str = "") -> None:
    """What the driver's calls answer: a scenario of the fake driver, with lines of its own."""
    path = tree.root.parent / f"{tree.root.name}.conf"
    path.write_text(f"include = {SCENARIOS / base}.conf\n{text}", encoding="utf-8")
    tree.answers.scenario = path


def module(
    tree: Tree, release: str, flavour: Literal["open", "proprietary"], *, switches: bool = False
) -> None:
    """The nvidia kernel module, loaded."""
    words = f"Open Kernel Module for {tree.machine}" if flavour == "open" else f"{tree.machine} Kernel Module"
    tree.file("/sys/module/nvidia/version", release + "\n")
    tree.file("/proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX {words}  {release}  Release Build\n")
    names = ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia")
    tree.more("/proc/modules", "".join(f"{name} 1 1 - Live 0x0\n" for name in names))
    for name in names[:-1]:
        tree.folder(f"/sys/module/{name}")


def gpus(tree: Tree, gpu: Gpu, *, bound: str = "nvidia", told: bool = True) -> None:
    """The GPUs on the bus; `told`: the loaded driver names their model."""
    for address in gpu.addresses:
        pci(tree, address, gpu.device_id, gpu.pci_class, bound)
        if told:
            tree.file(
                f"/proc/driver/nvidia/gpus/{address}/information",
                f"Model: \t\t {gpu.model}\nIRQ:   \t\t 120\n",
            )
    if gpu.pci_class == "0x030000":
        pci(tree, gpu.addresses[0].replace(".0", ".1"), "0x22ba", "0x040300", "snd_hda_intel")


def nodes(tree: Tree, count: int, mode: str = "0666", *, first: int = 0, **state: int) -> None:
    """The device files of `count` GPUs."""
    for minor in range(first, first + count):
        tree.node(f"/dev/nvidia{minor}", 195, minor, mode, **state)
    tree.node("/dev/nvidiactl", 195, 255, mode, **state)
    tree.node("/dev/nvidia-uvm", 509, 0, mode, **state)
    tree.node("/dev/nvidia-uvm-tools", 509, 1, mode, **state)


def libraries(tree: Tree, release: str, folder: str | None = None) -> None:
    """libcuda and libnvidia-ml of a driver, where the loader finds them."""
    where = folder or f"/usr/lib/{tree.triple}"
    for library in ("libcuda", "libnvidia-ml"):
        tree.library(f"{where}/{library}.so.{release}")
        tree.link(f"{where}/{library}.so.1", f"{library}.so.{release}")
        tree.cached(f"{where}/{library}.so.1")
    tree.link(f"{where}/libcuda.so", "libcuda.so.1")
    tree.answers.libcuda = f"{where}/libcuda.so.{release}"


def packages(tree: Tree, *entries: tuple[str, str]) -> None:
    """Installed packages of Debian's family."""
    tree.more(
        "/var/lib/dpkg/status",
        "".join(
            f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n"
            for name, version in entries
        ),
    )


def driver(
    tree: Tree, release: str, gpu: Gpu, system: System, *, flavour: Literal["open", "proprietary"] = "open"
) -> None:
    """A driver on a host, installed by Debian's packages and built by DKMS for the running kernel."""
    module(tree, release, flavour)
    gpus(tree, gpu)
    nodes(tree, len(gpu.addresses))
    libraries(tree, release)
    branch, suffix = release.partition(".")[0], "-open" if flavour == "open" else ""
    number = f"{release}-0ubuntu1"
    names = (
        f"nvidia-driver-{branch}{suffix}",
        f"nvidia-dkms-{branch}{suffix}",
        f"libnvidia-compute-{branch}",
    )
    packages(tree, *((name, number) for name in names))
    kernel = system.kernel
    tree.file(
        f"/usr/lib/modules/{kernel}/modules.dep",
        "updates/dkms/nvidia.ko.zst: kernel/drivers/acpi/video.ko.zst\n",
    )
    tree.folder(f"/usr/lib/modules/{kernel}/build")
    tree.file(f"/var/lib/dkms/nvidia/{release}/{kernel}/{tree.machine}/log/make.log")
    tree.file(SECURE_BOOT, b"\x06\x00\x00\x00\x00")


def nvswitches(tree: Tree, release: str, *, running: bool = True) -> None:
    """The NVSwitches of an HGX board and the fabric manager that routes through them."""
    for index, address in enumerate(NVSWITCHES):
        pci(tree, address, "0x22a3", "0x068000", "nvidia-nvswitch")
        tree.node(f"/dev/nvidia-nvswitch{index}", 508, index, "0666")
    tree.node("/dev/nvidia-nvswitchctl", 508, 255)
    for cap, mode in ((1, "0400"), (2, "0444")):
        tree.node(f"/dev/nvidia-caps/nvidia-cap{cap}", 236, cap, mode)
    tree.program("/usr/bin/nv-fabricmanager")
    packages(tree, (f"nvidia-fabricmanager-{release.partition('.')[0]}", f"{release}-0ubuntu1"))
    if running:
        tree.file("/proc/2210/comm", "nv-fabricmanager"[:15] + "\n")
        tree.file("/proc/2210/stat", "2210 (nv-fabricmanage) S 1 " + "0 " * 17 + "4200 1 1\n")


def rdma(tree: Tree, count: int) -> None:
    """Active InfiniBand ports, as many as asked for, that everybody may open."""
    for index in range(count):
        folder = f"/sys/class/infiniband/mlx5_{index}/ports/1"
        tree.file(f"{folder}/link_layer", "InfiniBand\n")
        tree.file(f"{folder}/state", "4: ACTIVE\n")
        tree.file(f"{folder}/gids/0", f"fe80:0000:0000:0000:a088:c203:00f0:1a{index:02x}\n")
        tree.file(f"{folder}/gid_attrs/types/0", "IB/RoCE v1\n")
        tree.node(f"/dev/infiniband/uverbs{index}", 231, 192 + index)
    tree.node("/dev/infiniband/rdma_cm", 10, 122)
    tree.folder("/sys/module/nvidia_peermem")
    tree.file("/proc/self/limits", LIMITS.format(tasks=256000, files=1024, memlock="unlimited"))


def jetson(tree: Tree, release: str) -> None:
    """The driver of a Jetson: libraries below ``nvidia``, nvgpu, and PCI bridges but no GPU on the bus."""
    module(tree, release, "open")
    tree.remove("/sys/module/nvidia_uvm")
    tree.file(
        "/proc/modules", "nvgpu 2654208 20 - Live 0x0\nnvidia_modeset 1 1 - Live 0x0\nnvidia 1 1 - Live 0x0\n"
    )
    tree.file(SECURE_BOOT, b"\x06\x00\x00\x00\x00")
    tree.file(
        "/etc/nv_tegra_release",
        "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64\n",
    )
    pci(tree, "0004:00:00.0", "0x229c", "0x060400", "pcieport")
    folder = f"/usr/lib/{tree.triple}/nvidia"
    for name in ("libcuda.so.1.1", f"libnvidia-ml.so.{release}"):
        tree.library(f"{folder}/{name}")
    tree.link(f"{folder}/libcuda.so.1", "libcuda.so.1.1")
    tree.link(f"{folder}/libcuda.so", "libcuda.so.1")
    tree.link(f"{folder}/libnvidia-ml.so.1", f"libnvidia-ml.so.{release}")
    tree.cached(f"{folder}/libcuda.so.1", f"{folder}/libcuda.so", f"{folder}/libnvidia-ml.so.1")
    tree.answers.libcuda = f"{folder}/libcuda.so.1.1"
    for path, minor in (("/dev/nvidia0", 0), ("/dev/nvidiactl", 255), ("/dev/nvidia-modeset", 254)):
        tree.node(path, 195, minor, "0660", gid=44)
    tree.node("/dev/nvgpu/igpu0/ctrl", 480, 3, "0660", gid=44)
    scenario(
        tree, "gb10",
        f"driver_release = {release}\ndriver_branch =\ndriver_cuda = 12060\nname = Orin (nvgpu)\ncompute_capability = 8.7\n"
        "architecture = 7\npci.bus_id =\npci.device_id =\npcie.gen =\npcie.gen_max =\npcie.width =\npcie.width_max =\n"
        "temperature.gpu =\npower.usage_mw =\nrecovery_action =\nclocks.reasons =\nutilization.gpu =\ngsp.version =\n",
    )  # fmt: skip


def mounted_driver(tree: Tree, release: str, gpu: Gpu, *, mine: int | None = None) -> None:
    """What the NVIDIA container toolkit mounts of the host's driver; `mine`: how many of its GPUs."""
    count = len(gpu.addresses) if mine is None else mine
    module(tree, release, "open")
    gpus(tree, gpu, told=False)
    for address in gpu.addresses[:count]:
        tree.file(f"/proc/driver/nvidia/gpus/{address}/information", f"Model: \t\t {gpu.model}\n")
    nodes(tree, count)
    libraries(tree, release)
