"""The parts that machines have in common: a Linux, its network, a driver with its GPUs, a container around it all."""

from __future__ import annotations

from typing import Literal

import msgspec

from tests.support.fake_driver import SCENARIOS
from tests.support.machine_tree import GIB, Tree

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units     
Max processes             {tasks:<20} {tasks:<20} processes 
Max open files            {files:<20} 1048576              files     
Max locked memory         {memlock:<20} {memlock:<20} bytes     
"""  # noqa: W291 - as the kernel writes it
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


class System(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of Linux and the kernel under it."""

    release: str
    """The text of os-release."""
    kernel: str
    glibc: str
    python: str
    """The version of ``/usr/bin/python3``; empty where there is none."""
    libstdcxx: str = "libstdc++.so.6.0.30"
    lib: str = ""
    """Its folder of libraries, where that is not Debian's."""


def os_release(name: str, version: str, identity: str, like: str = "", **more: str) -> str:
    """os-release(5)."""
    told = {"PRETTY_NAME": f"{name} {version}", "NAME": name, "VERSION_ID": version.split(" ")[0], "ID": identity}
    told |= {"ID_LIKE": like} if like else {}
    return "".join(f'{key}="{value}"\n' for key, value in (told | more).items())


UBUNTU_22 = System(
    release=os_release("Ubuntu", "22.04.5 LTS", "ubuntu", "debian", VERSION_ID="22.04"),
    kernel="5.15.0-151-generic", glibc="Ubuntu GLIBC 2.35-0ubuntu3.10", python="3.10.12",
)  # fmt: skip
UBUNTU_24 = System(
    release=os_release("Ubuntu", "24.04.3 LTS", "ubuntu", "debian", VERSION_ID="24.04"),
    kernel="6.8.0-79-generic", glibc="Ubuntu GLIBC 2.39-0ubuntu8.5", python="3.12.3",
    libstdcxx="libstdc++.so.6.0.33",
)  # fmt: skip
DEBIAN_12 = System(
    release=os_release("Debian GNU/Linux", "12 (bookworm)", "debian"),
    kernel="6.1.0-38-amd64", glibc="Debian GLIBC 2.36-9+deb12u10", python="3.11.2",
)  # fmt: skip
FEDORA_42 = System(
    release=os_release("Fedora Linux", "42 (Workstation Edition)", "fedora"),
    kernel="6.15.9-201.fc42.x86_64", glibc="GNU libc", python="3.13.5", libstdcxx="libstdc++.so.6.0.34", lib="/usr/lib64",
)  # fmt: skip


def linux(tree: Tree, system: System, *, memory: int = 64, cores: int = 16, cgroup: str | None = None) -> None:
    """Files of a booted Linux; `memory` in GiB. `cgroup` is this process's control group."""
    folder = system.lib or f"/usr/lib/{tree.triple}"
    banner = system.glibc if "GLIBC" in system.glibc else "GNU libc"
    version = system.glibc.split("GLIBC ")[1].split("-")[0] if "GLIBC" in system.glibc else "2.41"
    tree.file("/etc/os-release", system.release)
    tree.file("/proc/sys/kernel/osrelease", system.kernel + "\n")
    tree.file(f"{folder}/libc.so.6", f"\x7fELF GNU C Library ({banner}) stable release version {version}.\n")
    tree.library(f"{folder}/{system.libstdcxx}")
    tree.link(f"{folder}/libstdc++.so.6", system.libstdcxx)
    for link, target in (("/lib", "usr/lib"), ("/lib64", "usr/lib64"), ("/bin", "usr/bin"), ("/sbin", "usr/sbin")):
        tree.link(link, target)
    tree.folder("/usr/lib64")
    tree.file("/etc/passwd", PASSWD)
    tree.file("/etc/group", "root:x:0:\nadm:x:4:\nvideo:x:44:\nrender:x:110:\n")
    tree.file("/etc/nsswitch.conf", "passwd:         files systemd\nhosts:          files dns\n")
    if system.python:
        minor = system.python.rpartition(".")[0]
        tree.program(f"/usr/bin/python{minor}")
        tree.link("/usr/bin/python3", f"python{minor}")
    _kernel_side(tree, memory, cores)
    _groups(tree, cgroup or "/user.slice/user-1000.slice/session-3.scope")
    tree.folder("/tmp", mode="1777")  # noqa: S108 - a folder of the machine that is built
    tree.environ |= {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def _kernel_side(tree: Tree, memory: int, cores: int) -> None:
    kib = memory << 20
    tree.file("/proc/meminfo", f"MemTotal: {kib:>14} kB\nMemFree: {kib // 2:>15} kB\nMemAvailable: {kib * 3 // 4:>10} kB\n")
    tree.more("/proc/meminfo", "SwapTotal:      8388604 kB\nSwapFree:       8388604 kB\n")
    tree.file("/sys/devices/system/cpu/online", f"0-{cores - 1}\n")
    tree.file("/sys/firmware/acpi/pm_profile", "4\n")
    tree.file("/proc/cpuinfo", "".join(f"processor\t: {each}\nflags\t\t: fpu sse4_2 avx2\n\n" for each in range(cores)))
    tree.file("/proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz root=/dev/sda1 ro quiet\n")
    tree.file("/proc/stat", "cpu  1 2 3 4\nbtime 1779990000\n")
    tree.file("/proc/1/comm", "systemd\n")
    tree.file("/proc/modules", "ext4 1 1 - Live 0x0\n")
    tree.file("/proc/devices", "Character devices:\n  1 mem\n")
    tree.file("/proc/self/limits", LIMITS.format(tasks=256000, files=1024, memlock=8388608))
    status = f"Name:\tpython\nCapEff:\t0000000000000000\nSeccomp:\t0\nCpus_allowed_list:\t0-{cores - 1}\n"
    tree.file("/proc/self/status", status)
    for name in ("uid_map", "gid_map"):
        tree.file(f"/proc/self/{name}", "         0          0 4294967295\n")
    tree.file("/proc/self/attr/current", "unconfined\n")
    tree.file("/proc/sys/kernel/dmesg_restrict", "1\n")
    tree.entry("/dev/kmsg", errno="EPERM")
    tree.folder("/sys/bus/pci/devices")
    tree.folder("/sys/module/kernel")
    tree.disk("/", 900 * GIB, 400 * GIB)
    tree.disk("/dev/shm", memory * GIB // 2, memory * GIB // 2)  # noqa: S108 - as above
    tree.folder("/dev/shm", mode="1777")  # noqa: S108 - as above


def kernel_log(tree: Tree, *lines: str) -> None:
    """What a logger wrote of this boot, readable for the group adm."""
    start = "Nov 20 08:00:01 host kernel: [    0.000000] Linux version 5.15.0 (buildd@lcy02)\n"
    later = "".join(f"Nov 20 09:1{number}:07 host kernel: [ 4{number}02.118001] {line}\n" for number, line in enumerate(lines))
    tree.file("/var/log/kern.log", start + later, mode="0640", uid=104, gid=4)


def _groups(tree: Tree, path: str) -> None:
    """Control groups of version 2, without limits."""
    tree.file("/proc/self/cgroup", f"0::{path}\n")
    tree.file(
        "/proc/self/mountinfo",
        "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
        "23 22 0:21 / /proc rw,nosuid,nodev,noexec - proc proc rw\n"
        "24 22 0:22 / /sys rw,nosuid,nodev,noexec - sysfs sysfs rw\n"
        "25 22 0:5 / /dev rw,nosuid - devtmpfs udev rw\n"
        "26 25 0:24 / /dev/shm rw,nosuid,nodev - tmpfs tmpfs rw\n"
        "27 24 0:25 / /sys/fs/cgroup rw,nosuid,nodev,noexec - cgroup2 cgroup2 rw\n",
    )
    limits(tree, "/sys/fs/cgroup" + path)


def limits(tree: Tree, folder: str, memory: int | None = None, cores: float | None = None) -> None:
    """The files of one control group of version 2; `memory` in bytes."""
    tree.file(f"{folder}/memory.max", f"{memory or 'max'}\n")
    tree.file(f"{folder}/memory.current", "734003200\n")
    tree.file(f"{folder}/memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n")
    tree.file(f"{folder}/cpu.max", f"{round(cores * 100000) if cores else 'max'} 100000\n")
    tree.file(f"{folder}/cpu.stat", "usage_usec 91\nnr_periods 0\nnr_throttled 0\n")
    tree.file(f"{folder}/pids.max", "max\n")
    tree.file(f"{folder}/pids.current", "41\n")
    tree.file(f"{folder}/pids.events", "max 0\n")


def person(tree: Tree, name: str, uid: int = 1000, groups: tuple[int, ...] = (), cwd: str | None = None) -> str:
    """An ordinary user with a home, who looks; returns the home."""
    home = f"/home/{name}"
    tree.more("/etc/passwd", f"{name}:x:{uid}:{uid}:{name}:{home}:/bin/bash\n")
    tree.folder(home, uid, uid, "0750")
    tree.environ |= {"HOME": home, "USER": name, "LOGNAME": name}
    tree.runs_as(uid, uid, groups, cwd or home)
    return home


def network(tree: Tree, hostname: str, address: str, interface: str = "eno1", more: tuple[str, ...] = ()) -> None:
    """A loopback and one wired interface with an IPv4 address in a /24; `more` are up and have no address."""
    tree.file("/proc/sys/kernel/hostname", hostname + "\n")
    tree.file("/etc/hostname", hostname + "\n")
    tree.file("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {hostname}\n")
    for index, name in enumerate(("lo", interface, *more), 1):
        folder = f"/sys/class/net/{name}"
        tree.file(f"{folder}/ifindex", f"{index}\n")
        tree.file(f"{folder}/flags", "0x9\n" if name == "lo" else "0x1003\n")
        tree.file(f"{folder}/operstate", "unknown\n" if name == "lo" else "up\n")
        tree.file(f"{folder}/mtu", "65536\n" if name == "lo" else "1500\n")
    octets = [int(part) for part in address.split(".")]
    wire, gateway = (_word([*octets[:3], last]) for last in (0, 1))
    tree.file(
        "/proc/net/route",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        f"{interface}\t00000000\t{gateway}\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        f"{interface}\t{wire}\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n",
    )
    leaves = "".join(f"           |-- {each}\n              /32 host LOCAL\n" for each in ("127.0.0.1", address))
    tree.file("/proc/net/fib_trie", f"Local:\n  +-- 0.0.0.0/0 3 0 5\n{leaves}")
    tree.file("/proc/net/if_inet6", "00000000000000000000000000000001 01 80 10 80       lo\n")
    tree.file("/proc/net/tcp", "  sl  local_address rem_address   st tx_queue rx_queue\n")
    tree.answers.names = {hostname: ("127.0.1.1",), "localhost": ("127.0.0.1",)}


def _word(octets: list[int]) -> str:
    """As /proc/net/route writes an address: little-endian."""
    return bytes(reversed(octets)).hex().upper()


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
RTX_4090 = Gpu(model="NVIDIA GeForce RTX 4090", device_id="0x2684", addresses=("0000:01:00.0",), pci_class="0x030000")
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


def module(tree: Tree, release: str, flavour: Literal["open", "proprietary"], *, switches: bool = False) -> None:
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
            tree.file(f"/proc/driver/nvidia/gpus/{address}/information", f"Model: \t\t {gpu.model}\nIRQ:   \t\t 120\n")
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


def driver(tree: Tree, release: str, gpu: Gpu, system: System, *, flavour: Literal["open", "proprietary"] = "open") -> None:
    """A driver on a host, installed by Debian's packages and built by DKMS for the running kernel."""
    module(tree, release, flavour)
    gpus(tree, gpu)
    nodes(tree, len(gpu.addresses))
    libraries(tree, release)
    branch, suffix = release.partition(".")[0], "-open" if flavour == "open" else ""
    number = f"{release}-0ubuntu1"
    names = (f"nvidia-driver-{branch}{suffix}", f"nvidia-dkms-{branch}{suffix}", f"libnvidia-compute-{branch}")
    packages(tree, *((name, number) for name in names))
    kernel = system.kernel
    tree.file(f"/usr/lib/modules/{kernel}/modules.dep", "updates/dkms/nvidia.ko.zst: kernel/drivers/acpi/video.ko.zst\n")
    tree.folder(f"/usr/lib/modules/{kernel}/build")
    tree.file(f"/var/lib/dkms/nvidia/{release}/{kernel}/{tree.machine}/log/make.log")
    tree.file(SECURE_BOOT, b"\x06\x00\x00\x00\x00")


def toolchain(tree: Tree, gcc: str = "13.3.0", python: str = "3.12") -> None:
    """GCC, and the headers of the distribution's Python."""
    tree.program("/usr/bin/gcc", f"gcc (Ubuntu {gcc}) {gcc}\n")
    tree.program("/usr/bin/g++", f"g++ (Ubuntu {gcc}) {gcc}\n")
    tree.file(f"/usr/include/python{python}/Python.h")


def toolkit(tree: Tree, release: str, update: str, folder: str = "/usr/local") -> None:
    """A CUDA toolkit with nvcc, headers and libraries, and ``/usr/local/cuda`` leading to it."""
    root = f"{folder}/cuda-{release}"
    target = f"{root}/targets/{'sbsa' if tree.machine == 'aarch64' else tree.machine}-linux"
    tree.program(f"{root}/bin/nvcc", f"nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release {release}, V{update}\n")
    tree.program(f"{root}/bin/ptxas", f"ptxas: NVIDIA (R) Ptx optimizing assembler\nCuda compilation tools, release {release}, V{update}\n")
    tree.program(f"{root}/nvvm/bin/cicc")
    tree.file(f"{root}/nvvm/libdevice/libdevice.10.bc")
    major, minor = release.split(".")
    tree.file(f"{target}/include/cuda_runtime_api.h", f"#define CUDART_VERSION  {major}0{minor}0\n")
    for header in (
        "cuda.h", "cuda_runtime.h", "crt/host_config.h", "nv/target", "cusparse.h", "cublas_v2.h", "cusolverDn.h",
        "thrust/complex.h",
    ):  # fmt: skip
        tree.file(f"{target}/include/{header}")
    tree.file(f"{root}/version.json", f'{{"cuda" : {{"name" : "CUDA SDK", "version" : "{release}.1"}}}}\n')
    tree.link(f"{root}/include", target.removeprefix(f"{root}/") + "/include")
    tree.link(f"{root}/lib64", target.removeprefix(f"{root}/") + "/lib")
    tree.link("/usr/local/cuda", f"cuda-{release}")
    toolkit_libraries(tree, release, target)


def toolkit_libraries(tree: Tree, release: str, target: str, names: tuple[str, ...] = ("libcudart", "libcublas", "libcublasLt")) -> None:
    """Libraries of a toolkit, which ldconfig knows."""
    major = release.partition(".")[0]
    for name in names:
        tree.library(f"{target}/lib/{name}.so.{release}.90")
        tree.link(f"{target}/lib/{name}.so.{major}", f"{name}.so.{release}.90")
        tree.cached(f"{target}/lib/{name}.so.{major}")


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
    tree.file("/proc/modules", "nvgpu 2654208 20 - Live 0x0\nnvidia_modeset 1 1 - Live 0x0\nnvidia 1 1 - Live 0x0\n")
    tree.file(SECURE_BOOT, b"\x06\x00\x00\x00\x00")
    tree.file("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64\n")
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


CONTAINER_MOUNTS = """\
512 480 0:61 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/ABC,upperdir=/var/lib/docker/overlay2/1/diff
513 512 0:64 / /proc rw,nosuid,nodev,noexec - proc proc rw
514 512 0:65 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
515 512 0:66 / /sys ro,nosuid,nodev,noexec - sysfs sysfs ro
516 515 0:30 / /sys/fs/cgroup ro,nosuid,nodev,noexec - cgroup2 cgroup rw
517 514 0:67 / /dev/shm rw,nosuid,nodev,noexec - tmpfs shm rw,size=65536k
518 512 8:1 /var/lib/docker/containers/{id}/hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw
"""
CAPABILITIES = "00000000a80425fb"
"""What docker leaves to root in a container."""


def docker(tree: Tree, identity: str, *, shm: int = 64 << 20) -> None:
    """Around `linux`: a container of docker's, as root; /dev/shm has docker's 64 MiB unless another size is given."""
    tree.file("/.dockerenv")
    tree.file("/proc/self/mountinfo", CONTAINER_MOUNTS.format(id=identity))
    tree.file("/proc/1/comm", "bash\n")
    tree.file("/proc/self/attr/current", "docker-default (enforce)\n")
    status = (tree.root / "proc/self/status").read_text()
    status = status.replace("CapEff:\t0000000000000000", f"CapEff:\t{CAPABILITIES}").replace("Seccomp:\t0", "Seccomp:\t2")
    tree.file("/proc/self/status", status)
    tree.remove("/dev/kmsg")
    tree.remove("/sys/firmware")
    tree.folder("/sys/firmware")
    limits(tree, "/sys/fs/cgroup")
    network(tree, identity, "172.17.0.2", "eth0")
    tree.file("/etc/hosts", f"127.0.0.1\tlocalhost\n172.17.0.2\t{identity}\n")
    tree.answers.names = {identity: ("172.17.0.2",)}
    tree.disk("/dev/shm", shm, shm)  # noqa: S108 - a folder of the machine that is built
    tree.folder("/root", mode="0700")
    tree.environ |= {"HOSTNAME": identity, "HOME": "/root"}


def kubernetes(tree: Tree, pod: str, memory: int, cores: float) -> None:
    """Around `linux`: a pod of containerd's, as root, with its limits."""
    docker(tree, pod)
    tree.remove("/.dockerenv")
    mounts = CONTAINER_MOUNTS.format(id=pod).replace("/var/lib/docker/overlay2", "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs")
    kubelet = f"/var/lib/kubelet/pods/8c2f11aa-5d0e-4bb1-9a51-6f0f2f3c1e77/etc-hosts /etc/hosts"
    mounts = mounts.replace(f"/var/lib/docker/containers/{pod}/hosts /etc/hosts", kubelet)
    tree.file("/proc/self/mountinfo", mounts)
    tree.file("/proc/self/attr/current", "cri-containerd.apparmor.d (enforce)\n")
    tree.file("/var/run/secrets/kubernetes.io/serviceaccount/namespace", "ml\n")
    tree.file("/etc/hosts", f"127.0.0.1\tlocalhost\n10.244.3.7\t{pod}\n")
    limits(tree, "/sys/fs/cgroup", memory, cores)
    tree.environ["KUBERNETES_SERVICE_HOST"] = "10.96.0.1"


def cuda_image(tree: Tree, flavour: str) -> None:
    """What nvidia/cuda:12.8.1-FLAVOUR-ubuntu22.04 brings: variables, some of the toolkit, forward compatibility."""
    root = "/usr/local/cuda-12.8"
    target = f"{root}/targets/x86_64-linux"
    tree.environ |= {
        "NVARCH": "x86_64", "CUDA_VERSION": "12.8.1", "NV_CUDA_CUDART_VERSION": "12.8.90-1",
        "NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "NVIDIA_REQUIRE_CUDA": "cuda>=12.8 brand=unknown,driver>=470,driver<471 brand=tesla,driver>=535,driver<536",
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib:/usr/local/nvidia/lib64",
    }  # fmt: skip
    tree.environ["PATH"] = "/usr/local/nvidia/bin:/usr/local/cuda/bin:" + tree.environ["PATH"]
    for name in ("libcuda", "libnvidia-ptxjitcompiler"):
        tree.library(f"{root}/compat/{name}.so.570.124.06")
        tree.link(f"{root}/compat/{name}.so.1", f"{name}.so.570.124.06")
    tree.link(f"{root}/compat/libcuda.so", "libcuda.so.1")
    names: tuple[str, ...] = ("libcudart",)
    if flavour != "base":
        names += ("libcublas", "libcublasLt", "libnvrtc", "libnccl")
    if flavour == "devel":
        toolkit(tree, "12.8", "12.8.93")
        for name in ("libcuda.so", "libnvidia-ml.so"):
            tree.library(f"{target}/lib/stubs/{name}")
        tree.environ["LIBRARY_PATH"] = "/usr/local/cuda/lib64/stubs"
    else:
        tree.link("/usr/local/cuda", "cuda-12.8")
        tree.link(f"{root}/lib64", "targets/x86_64-linux/lib")
        toolkit_libraries(tree, "12.8", target, tuple(each for each in names if each != "libnccl"))
    if flavour != "base":
        tree.file(f"/usr/lib/{tree.triple}/libnccl.so.2.25.1", tree.parts.library(tree.machine) + b"NCCL version 2.25.1+cuda12.8")
        tree.link(f"/usr/lib/{tree.triple}/libnccl.so.2", "libnccl.so.2.25.1")
        tree.cached(f"/usr/lib/{tree.triple}/libnccl.so.2")


def mounted_driver(tree: Tree, release: str, gpu: Gpu, *, mine: int | None = None) -> None:
    """What the NVIDIA container toolkit mounts of the host's driver; `mine`: how many of its GPUs."""
    count = len(gpu.addresses) if mine is None else mine
    module(tree, release, "open")
    gpus(tree, gpu, told=False)
    for address in gpu.addresses[:count]:
        tree.file(f"/proc/driver/nvidia/gpus/{address}/information", f"Model: \t\t {gpu.model}\n")
    nodes(tree, count)
    libraries(tree, release)
