"""What several rules of the driver check share: outcomes, uses, the loader's choice, remedies."""

from __future__ import annotations

from typing import TypeVar

from envdoctor.api import Ask, AskAdministrator, Evidence, Outcome, Reach, Remedy, Run, Severity, Symptom
from envdoctor.surroundings import Surroundings
from envdoctor.tables import release_key
from envdoctor_checks.driver.facts import (
    DriverPackages,
    LoadedModules,
    Package,
    PciDevice,
    PciDevices,
    UserLibraries,
    UserLibrary,
)
from envdoctor_checks.driver.probe_kernel import release_in
from envdoctor_checks.torch.facts import TorchBuild

Said = TypeVar("Said", bound=Symptom)

LOADED = Outcome("driver-loaded")
NODES = Outcome("device-nodes")
NVML = Outcome("nvml")
LIBCUDA = Outcome("libcuda-loadable")
CUDA = Outcome("cuda-available")
TOOLCHAIN = Outcome("compile-toolchain")
COLLECTIVE = Outcome("collective")
PEER = Outcome("peer-to-peer")

REBOOT = Run(
    title="restart the machine",
    commands=("reboot",),
    reach=Reach.HOST,
    needs_root=True,
    needs_restart="machine",
    caveat="Running jobs end with it.",
    verify="nvidia-smi",
)
FOREIGN = ("nouveau", "nova_core", "nova", "NovaCore", "nvidiafb", "vfio-pci", "pci-stub", "xen-pciback")
"""Kernel drivers that may have a GPU of NVIDIA's in place of its own."""
WHY_NOT = Ask("sudo modprobe nvidia; sudo dmesg | tail -20", "why the kernel does not load the module")


def wanted(torch: TorchBuild | None) -> bool:
    """Whether the target has a PyTorch that was built for CUDA: that is a use of the driver."""
    return torch is not None and torch.torch_cuda is not None


def severity(used: bool) -> Severity:
    """An error where CUDA is wanted, a note on a machine that merely has such a GPU."""
    return Severity.ERROR if used else Severity.NOTE


def contained(around: Surroundings | None) -> bool:
    """Whether we are known to be in a container, whose driver is its host's."""
    return around is not None and around.engine not in (None, "none")


def on_host(around: Surroundings | None, what: str, fix: Remedy, *commands: str) -> Remedy:
    """`fix` on the host; inside a container, a request to whoever runs it."""
    return AskAdministrator(what=what, commands=commands) if contained(around) else fix


def with_driver(gpus: tuple[PciDevice, ...], *names: str) -> tuple[PciDevice, ...]:
    """The GPUs that one of these kernel drivers has, by names as sysfs or lspci spell them."""
    wanted_names = {name.lower().replace("_", "").replace("-", "") for name in names}
    return tuple(
        gpu
        for gpu in gpus
        if (gpu.kernel_driver or "").lower().replace("_", "").replace("-", "") in wanted_names
    )


def described(pci: PciDevices) -> str:
    """The GPUs in words: by model, or by PCI id."""
    return ", ".join(gpu.name or f"10de:{gpu.device_id}" for gpu in pci.gpus)


def is_loaded(modules: LoadedModules | None, name: str) -> bool:
    """Whether a kernel module is known to be loaded."""
    return modules is not None and name in modules.loaded


def is_absent(modules: LoadedModules | None, name: str) -> bool:
    """Whether a kernel module is known not to be loaded."""
    return modules is not None and name in modules.absent


def loaders_choice(libraries: UserLibraries, soname: str = "libcuda.so.1") -> UserLibrary | None:
    """The file that a program without paths of its own gets: LD_LIBRARY_PATH first, then the cache."""
    candidates = [each for each in libraries.of(soname) if each.file is not None]
    for via in ("ld-library-path", "cache"):
        for library in candidates:
            if library.found_via == via:
                return library
    return None


def elsewhere(libraries: UserLibraries, soname: str = "libcuda.so.1") -> tuple[UserLibrary, ...]:
    """A driver's own copies in places where the loader does not look."""
    if loaders_choice(libraries, soname) is not None:
        return ()
    return tuple(
        each
        for each in libraries.of(soname)
        if each.file is not None and each.kind in ("driver", "wsl") and each.found_via == "directory"
    )


def has_driver_library(libraries: UserLibraries | None) -> bool:
    """Whether any of a driver's own libraries is on the machine."""
    return libraries is not None and any(each.kind in ("driver", "wsl") for each in libraries.libraries)


INSTALLED = ("ii", "hi", "iU", "iF", "iW", "it", "installed")
KERNEL_SIDE = (
    "nvidia-dkms", "nvidia-kernel-dkms", "nvidia-open-kernel-dkms", "nvidia-kernel-open-dkms", "kmod-nvidia",
    "akmod-nvidia", "nvidia-open-driver", "dkms-nvidia", "nvidia-kmod", "nvidia-kernel-open", "kmod-nvidia-open-dkms",
)  # fmt: skip
USER_SIDE = (
    "libnvidia-compute", "libnvidia-cfg1", "libnvidia-ml1", "libcuda1", "nvidia-utils", "nvidia-compute-utils",
    "nvidia-compute-G0", "nvidia-driver-cuda", "nvidia-driver-libs", "xorg-x11-drv-nvidia", "libnvidia-gl",
)  # fmt: skip


def of_side(packages: DriverPackages | None, prefixes: tuple[str, ...]) -> tuple[tuple[Package, str], ...]:
    """The installed packages of one half of the driver that carry a driver release, with that release."""
    found = []
    for package in packages.packages if packages else ():
        release = release_in(package.version)
        if release and package.state.startswith(INSTALLED) and package.name.startswith(prefixes):
            found.append((package, release))
    return tuple(found)


def two_releases(packages: DriverPackages | None) -> tuple[tuple[Package, str], tuple[Package, str]] | None:
    """A package of the kernel's half and one of the user's whose releases differ; None where they agree."""
    for kernel in of_side(packages, KERNEL_SIDE):
        for user in of_side(packages, USER_SIDE):
            if release_key(kernel[1]) != release_key(user[1]):
                return kernel, user
    return None


def same_release(one: str, other: str) -> bool:
    """Whether two releases agree; nvidia-smi cuts the last component off at times (``550.127``)."""
    first, second = release_key(one), release_key(other)
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter] and shorter >= 2


def current(said: tuple[Said, ...], *, over: bool) -> tuple[Said, ...]:
    """Without what the machine's own kernel log tells of an earlier moment, where what it tells of is `over`."""
    return tuple(each for each in said if not (over and each.source.kind == "file"))


def quoted(*said: Symptom | None, label: str = "message") -> tuple[Evidence, ...]:
    """The printed lines of symptoms, as evidence."""
    return tuple(each.evidence(label) for each in said if each is not None)
