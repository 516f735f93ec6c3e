"""The parts that machines have in common: a Linux, its network, a driver with its GPUs, a container around it all."""

from __future__ import annotations

import msgspec

from tests.support.machine_tree import GIB, LOADERS, Tree

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
    told = {
        "PRETTY_NAME": f"{name} {version}",
        "NAME": name,
        "VERSION_ID": version.split(" ")[0],
        "ID": identity,
    }
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


def linux(
    tree: Tree, system: System, *, memory: int = 64, cores: int = 16, cgroup: str | None = None
) -> None:
    """Files of a booted Linux; `memory` in GiB. `cgroup` is this process's control group."""
    folder = system.lib or f"/usr/lib/{tree.triple}"
    banner = system.glibc if "GLIBC" in system.glibc else "GNU libc"
    version = system.glibc.split("GLIBC ")[1].split("-")[0] if "GLIBC" in system.glibc else "2.41"
    tree.file("/etc/os-release", system.release)
    tree.file("/proc/sys/kernel/osrelease", system.kernel + "\n")
    words = f"GNU C Library ({banner}) stable release version {version}.\n"
    tree.library(f"{folder}/libc.so.6", more=words.encode())
    loader = LOADERS[tree.machine]
    tree.library(f"/usr{loader}")
    tree.answers.diagnostics = diagnostics(tree, system, version)
    tree.library(f"{folder}/{system.libstdcxx}")
    tree.link(f"{folder}/libstdc++.so.6", system.libstdcxx)
    for link, target in (
        ("/lib", "usr/lib"),
        ("/lib64", "usr/lib64"),
        ("/bin", "usr/bin"),
        ("/sbin", "usr/sbin"),
    ):
        tree.link(link, target)
    tree.folder("/usr/lib64")
    tree.file("/etc/passwd", PASSWD)
    tree.file("/etc/group", "root:x:0:\nadm:x:4:\nvideo:x:44:\nrender:x:110:\n")
    tree.file("/etc/nsswitch.conf", "passwd:         files systemd\nhosts:          files dns\n")
    if system.python:
        minor = system.python.rpartition(".")[0]
        tree.interpreter(f"/usr/bin/python{minor}")
        tree.link("/usr/bin/python3", f"python{minor}")
    _kernel_side(tree, memory, cores)
    _groups(tree, cgroup or "/user.slice/user-1000.slice/session-3.scope")
    tree.folder("/tmp", mode="1777")
    tree.environ |= {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
    }


def diagnostics(tree: Tree, system: System, version: str) -> str:
    """What this machine's loader says of itself."""
    wide = system.lib == "/usr/lib64"
    library = "lib64" if wide else f"lib/{tree.triple}"
    folders = (
        ("/lib64", "/usr/lib64")
        if wide
        else (f"/lib/{tree.triple}", f"/usr/lib/{tree.triple}", "/lib", "/usr/lib")
    )
    intel = tree.machine == "x86_64"
    told = {
        "dl_dst_lib": library,
        "dl_hwcaps_subdirs": "x86-64-v4:x86-64-v3:x86-64-v2" if intel else "",
        "dl_platform": "haswell" if intel else "aarch64",
        "version.version": version,
    } | {f"path.system_dirs[{place:#x}]": f"{each}/" for place, each in enumerate(folders)}
    numbers = {"dl_hwcap": 2, "dl_hwcap_important": 6, "dl_hwcaps_subdirs_active": 6} if intel else {}
    lines = [f'{name}="{value}"\n' for name, value in told.items()]
    return "".join([*lines, *(f"{name}={value:#x}\n" for name, value in numbers.items())])


def _kernel_side(tree: Tree, memory: int, cores: int) -> None:
    kib = memory << 20
    tree.file(
        "/proc/meminfo",
        f"MemTotal: {kib:>14} kB\nMemFree: {kib // 2:>15} kB\nMemAvailable: {kib * 3 // 4:>10} kB\n",
    )
    tree.more("/proc/meminfo", "SwapTotal:      8388604 kB\nSwapFree:       8388604 kB\n")
    tree.file("/sys/devices/system/cpu/online", f"0-{cores - 1}\n")
    tree.file("/sys/firmware/acpi/pm_profile", "4\n")
    tree.file(
        "/proc/cpuinfo",
        "".join(f"processor\t: {each}\nflags\t\t: fpu sse4_2 avx2\n\n" for each in range(cores)),
    )
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
    tree.disk("/dev/shm", memory * GIB // 2, memory * GIB // 2)
    tree.folder("/dev/shm", mode="1777")


def kernel_log(tree: Tree, *lines: str) -> None:
    """What a logger wrote of this boot, readable for the group adm."""
    start = "Nov 20 08:00:01 host kernel: [    0.000000] Linux version 5.15.0 (buildd@lcy02)\n"
    told = (part for line in lines for part in line.split("\n"))
    later = "".join(
        f"Nov 20 09:{number:02d}:07 host kernel: [{4000 + 60 * number:5d}.118001] {part}\n"
        for number, part in enumerate(told)
    )
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


def person(
    tree: Tree, name: str, uid: int = 1000, groups: tuple[int, ...] = (), cwd: str | None = None
) -> str:
    """An ordinary user with a home, who looks; returns the home."""
    home = f"/home/{name}"
    tree.more("/etc/passwd", f"{name}:x:{uid}:{uid}:{name}:{home}:/bin/bash\n")
    tree.folder(home, uid, uid, "0750")
    tree.environ |= {"HOME": home, "USER": name, "LOGNAME": name}
    tree.runs_as(uid, uid, groups, cwd or home)
    return home


def network(
    tree: Tree, hostname: str, address: str, interface: str = "eno1", more: tuple[str, ...] = ()
) -> None:
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
    leaves = "".join(
        f"           |-- {each}\n              /32 host LOCAL\n" for each in ("127.0.0.1", address)
    )
    tree.file("/proc/net/fib_trie", f"Local:\n  +-- 0.0.0.0/0 3 0 5\n{leaves}")
    tree.file("/proc/net/if_inet6", "00000000000000000000000000000001 01 80 10 80       lo\n")
    tree.file("/proc/net/tcp", "  sl  local_address rem_address   st tx_queue rx_queue\n")
    tree.answers.names = {hostname: ("127.0.1.1",), "localhost": ("127.0.0.1",)}


def _word(octets: list[int]) -> str:
    """As /proc/net/route writes an address: little-endian."""
    return bytes(reversed(octets)).hex().upper()


def toolchain(tree: Tree, gcc: str = "13.3.0", python: str = "3.12") -> None:
    """GCC, and the headers of the distribution's Python."""
    tree.program("/usr/bin/gcc", f"gcc (Ubuntu {gcc}) {gcc}\n")
    tree.program("/usr/bin/g++", f"g++ (Ubuntu {gcc}) {gcc}\n")
    tree.file(f"/usr/include/python{python}/Python.h")


def toolkit(tree: Tree, release: str, update: str, folder: str = "/usr/local") -> None:
    """A CUDA toolkit with nvcc, headers and libraries, and ``/usr/local/cuda`` leading to it."""
    root = f"{folder}/cuda-{release}"
    target = f"{root}/targets/{'sbsa' if tree.machine == 'aarch64' else tree.machine}-linux"
    tree.program(
        f"{root}/bin/nvcc",
        f"nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release {release}, V{update}\n",
    )
    tree.program(
        f"{root}/bin/ptxas",
        f"ptxas: NVIDIA (R) Ptx optimizing assembler\nCuda compilation tools, release {release}, V{update}\n",
    )
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


def toolkit_libraries(
    tree: Tree, release: str, target: str, names: tuple[str, ...] = ("libcudart", "libcublas", "libcublasLt")
) -> None:
    """Libraries of a toolkit, which ldconfig knows."""
    major = release.partition(".")[0]
    for name in names:
        tree.library(f"{target}/lib/{name}.so.{release}.90")
        tree.link(f"{target}/lib/{name}.so.{major}", f"{name}.so.{release}.90")
        tree.cached(f"{target}/lib/{name}.so.{major}")
