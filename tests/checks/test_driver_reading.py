"""What is read out of pasted listings, and what a filtered listing proves to be absent."""

from __future__ import annotations

from typing import Any

import pytest

from envdoctor.reading import read_text
from envdoctor_checks.driver.facts import (
    BootTimes,
    CudaFailed,
    DeviceNodes,
    DriverCuda,
    DriverPackages,
    DriverRelease,
    FabricManager,
    KernelModule,
    LoadedModules,
    ModuleOnDisk,
    NvmlFailed,
    PciDevices,
    UserLibraries,
)
from envdoctor_checks.driver.plugin import check
from envdoctor_checks.driver.read_filters import shown_by
from envdoctor_checks.gpu.facts import GpuDevices


def read(text: str, kind: type[Any]) -> Any:
    reading = read_text(text, "-", (check,))
    assert not reading.broken
    return reading.facts.get(kind)


# Filters.


@pytest.mark.parametrize(
    ("command", "shown", "hidden"),
    [
        ("lsmod", "nvidia 1 0", None),
        ("lsmod | grep nvidia", "nvidia_uvm 1 0", "nouveau 1 0"),
        ("lsmod | grep ^nvidia_uvm", "nvidia_uvm 1 0", "nvidia 1 0"),
        (r"lsmod | grep 'nvidia\|nouveau'", "nouveau 1 0", "i915 1 0"),
        ("lsmod | grep -E 'nvidia|nouveau' | grep uvm", "nvidia_uvm 1 0", "nvidia 1 0"),
        ("lsmod | grep -i NVIDIA", "nvidia 1 0", "i915 1 0"),
        ("uname -r; lsmod | awk '/^nvidia/{print $1}'", "nvidia 1 0", "nouveau 1 0"),
    ],
)
def test_what_a_pipeline_lets_through(command: str, shown: str, hidden: str | None) -> None:
    keeps = shown_by(command, r"lsmod\b")
    assert keeps is not None
    assert keeps(shown)
    assert hidden is None or not keeps(hidden)


@pytest.mark.parametrize(
    "command",
    ["lsmod | head -3", "lsmod | grep -c nvidia", "lsmod | wc -l", "ls /sys", "lsmod | grep -v nvidia"],
)
def test_where_nothing_follows_from_a_gap(command: str) -> None:
    assert shown_by(command, r"lsmod\b") is None


def test_lsmod() -> None:
    told = read("$ lsmod | grep nvidia\nnvidia_drm 131072 2\nnvidia 11489280 3 nvidia_drm\n", LoadedModules)
    assert told.loaded == ("nvidia", "nvidia_drm")
    assert told.absent == ("nvidia_uvm", "nvidia_modeset")
    assert read("$ lsmod | grep nvidia\n$ true\n", LoadedModules).loaded == ()
    assert read("$ lsmod | head -2\nModule Size Used by\nnvidia 11489280 3\n", LoadedModules).absent == ()


# nvidia-smi.

TABLE = """
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 570.133.20             Driver Version: 570.133.20     CUDA Version: 12.8     |
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
|=========================================+========================+======================|
|   0  NVIDIA L40S                    On  |   00000000:01:00.0 Off |                    0 |
| N/A   34C    P8             34W /  350W |       1MiB /  46068MiB |      0%      Default |
+-----------------------------------------+------------------------+----------------------+
|   1  NVIDIA RTX 6000 Ada Gene...    Off |   00000000:02:00.0 Off |                  Off |
| 30%   34C    P8             24W /  300W |       1MiB /  49140MiB |      0%      Default |
+-----------------------------------------+------------------------+----------------------+
"""


def test_the_table() -> None:
    assert read(TABLE, DriverRelease).release == "570.133.20"
    assert read(TABLE, DriverCuda).driver_cuda == "12.8"
    gpus = read(TABLE, GpuDevices).devices
    assert [(gpu.index, gpu.name, gpu.memory_total) for gpu in gpus] == [
        (0, "NVIDIA L40S", 46068),
        (1, "NVIDIA RTX 6000 Ada Gene...", 49140),
    ]
    assert [gpu.compute_capability for gpu in gpus] == ["8.9", "8.9"]


def test_windows_and_old_tables() -> None:
    text = "| NVIDIA-SMI 560.94   Driver Version: 560.94   CUDA Version: 12.6 |\n|   0  NVIDIA GeForce RTX 3060      WDDM  |   00000000:01:00.0  On |"
    assert read(text, DriverRelease).release == "560.94"
    assert read(text, GpuDevices).devices[0].name == "NVIDIA GeForce RTX 3060"
    old = "| NVIDIA-SMI 418.87.00    Driver Version: 418.87.00    CUDA Version: 10.1     |\n|   0  Tesla V100-SXM2...  On   | 00000000:00:1E.0 Off |                    0 |"
    assert read(old, GpuDevices).devices[0].compute_capability == "7.0"


def test_lists_and_queries() -> None:
    text = "$ nvidia-smi -L\nGPU 0: NVIDIA B200 (UUID: GPU-aa11)\nGPU 1: NVIDIA B200 (UUID: GPU-bb22)\n"
    assert [gpu.uuid for gpu in read(text, GpuDevices).devices] == ["GPU-aa11", "GPU-bb22"]
    query = (
        "$ nvidia-smi --query-gpu=index,name,driver_version,memory.total --format=csv\n"
        "index, name, driver_version, memory.total [MiB]\n3, NVIDIA A10, 535.161.08, 23028 MiB\n"
    )
    device = read(query, GpuDevices).devices[0]
    assert (device.index, device.name, device.memory_total) == (3, "NVIDIA A10", 23028)
    assert read(query, DriverRelease).release == "535.161.08"
    counted = "$ nvidia-smi --query-gpu=name --format=csv,noheader | sort | uniq -c\n      4 NVIDIA H200\n"
    assert len(read(counted, GpuDevices).devices) == 4


def test_collect_env() -> None:
    text = (
        "GPU models and configuration: \nGPU 0: NVIDIA A100-SXM4-80GB\nGPU 1: NVIDIA A100-SXM4-80GB\n\n"
        "Nvidia driver version: 550.90.07\n"
    )
    assert len(read(text, GpuDevices).devices) == 2
    assert read(text, DriverRelease).release == "550.90.07"
    assert read("GPU models and configuration: No CUDA\nNvidia driver version: No CUDA\n", GpuDevices) is None


# The kernel's side.


def test_module_versions() -> None:
    line = "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.95.05  Release Build  (x@y)"
    module = read(line, KernelModule)
    assert (module.release, module.flavour) == ("580.95.05", "open")
    assert read("$ cat /sys/module/nvidia/version\n550.120\n", KernelModule).release == "550.120"
    gone = "$ cat /sys/module/nvidia/version\ncat: /sys/module/nvidia/version: No such file or directory\n"
    assert read(gone, KernelModule).release is None
    assert read("$ modinfo -F version nvidia\n550.144.03\n", ModuleOnDisk).release == "550.144.03"


def test_lspci_without_drivers_says_nothing_of_them() -> None:
    text = "$ lspci | grep -i nvidia\n3b:00.0 3D controller: NVIDIA Corporation GA100 [A100 PCIe 80GB] (rev a1)\n"
    pci = read(text, PciDevices)
    assert [gpu.address for gpu in pci.gpus] == ["0000:3b:00.0"]
    assert not pci.drivers_known
    switches = "05:00.0 Bridge [0680]: NVIDIA Corporation GH100 [H100 NVSwitch] [10de:22a3] (rev a1)\n"
    assert read(switches, PciDevices).devices[0].kind == "nvswitch"
    assert read("$ lspci | grep -i nvidia\n$ true\n", PciDevices).devices == ()


# The machine.


def test_device_nodes() -> None:
    text = (
        "$ ls -l /dev/nvidia*\n"
        "crw-rw---- 1 root video 195,   2 Jan  7 08:31 /dev/nvidia2\n"
        "crw-rw---- 1 root video 195, 255 Jan  7 08:31 /dev/nvidiactl\n"
    )
    nodes = read(text, DeviceNodes)
    assert nodes.absent == ("/dev/nvidia-uvm",)
    assert (nodes.gpus[0].path, nodes.gpus[0].group, nodes.gpus[0].openable) == (
        "/dev/nvidia2",
        "video",
        None,
    )
    none = "$ ls /dev/nvidia*\nls: cannot access '/dev/nvidia*': No such file or directory\n"
    assert read(none, DeviceNodes).absent == ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm")
    one = "$ ls -l /dev/nvidia0\ncrw-rw-rw- 1 root root 195, 0 Jan  7 08:31 /dev/nvidia0\n"
    assert read(one, DeviceNodes).absent == ()


def test_packages_of_every_manager() -> None:
    def packages(text: str) -> dict[str, str]:
        return {each.name: each.version for each in read(text, DriverPackages).packages}

    assert packages("$ dpkg -l | grep nvidia-dk\nii  nvidia-dkms-570  570.133.20-0ubuntu1  amd64  x\n") == {
        "nvidia-dkms-570": "570.133.20-0ubuntu1"
    }
    rpms = "$ rpm -qa | grep nvidia\nkmod-nvidia-6.12.9-200.fc41.x86_64-565.77-1.fc41.x86_64\nnvidia-driver-cuda-libs-565.77-1.fc41.x86_64\n"
    assert packages(rpms) == {"kmod-nvidia": "565.77-1.fc41", "nvidia-driver-cuda-libs": "565.77-1.fc41"}
    apt = "$ apt list --installed | grep nvidia\nnvidia-utils-535/jammy,now 535.183.01-0ubuntu1 amd64 [installed]\n"
    assert packages(apt) == {"nvidia-utils-535": "535.183.01-0ubuntu1"}
    assert packages("$ pacman -Q | grep nvidia\nnvidia-utils 565.77-3\n") == {"nvidia-utils": "565.77-3"}


def test_libraries() -> None:
    cache = (
        "$ ldconfig -p | grep libcuda\n\tlibcuda.so.1 (libc6,x86-64) => /usr/lib64/libcuda.so.1\n"
        "\tlibcuda.so.1 (libc6) => /usr/lib/libcuda.so.1\n"
    )
    told = read(cache, UserLibraries)
    assert [each.path for each in told.libraries] == ["/usr/lib64/libcuda.so.1"]
    assert told.absent == ("libcuda.so",)
    found = "$ find / -name 'libcuda.so*' 2>/dev/null\n/opt/x/libcuda.so.550.54.15\n"
    assert read(found, UserLibraries).absent == ("libcuda.so.1", "libcuda.so")


def test_fabric_manager() -> None:
    status = (
        "● nvidia-fabricmanager.service - NVIDIA fabric manager service\n"
        "     Active: active (running) since Tue 2025-04-01 06:31:47 UTC; 3h ago\n"
    )
    assert read(status, FabricManager).running is True
    assert read(status, BootTimes).fabric_manager == 1743489060.0
    words = "$ systemctl is-active nvidia-persistenced nvidia-fabricmanager\nactive\ninactive\n"
    assert read(words, FabricManager).running is False


# Messages.


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("CudaAPIError: [34] Call to cuInit results in UNKNOWN_CUDA_ERROR", 34),
        ("CUDA error 803: system has unsupported display driver / cuda driver combination", 803),
        ("cuInit(0) returned 999", 999),
        ("cuInit failed with error code 100", 100),
        ("hipErrorNoDevice 100 of 802 items", None),
        ("step 999 of 1000 on CUDA", None),
        ("[802] tokens per second on cuda:0", None),
    ],
)
def test_cuda_errors_by_number(text: str, code: int | None) -> None:
    said = read_text(text, "-", (check,)).facts.symptoms(CudaFailed)
    assert [each.code for each in said] == ([] if code is None else [code])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Failed to initialize NVML: Unknown Error", "NVML_ERROR_UNKNOWN"),
        (
            "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown",
            "NVML_ERROR_DRIVER_NOT_LOADED",
        ),
        ("could not initialize NVML: Insufficient Permissions", "NVML_ERROR_NO_PERMISSION"),
        ("pynvml.NVMLError_LibraryNotFound: NVML Shared Library Not Found", "NVML_ERROR_LIBRARY_NOT_FOUND"),
        ("NVML: all well", None),
    ],
)
def test_nvml_errors_by_text(text: str, name: str | None) -> None:
    said = read_text(text, "-", (check,)).facts.symptoms(NvmlFailed)
    assert {each.name for each in said} == ({name} if name else set())
