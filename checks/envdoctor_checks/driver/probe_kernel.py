"""What files tell of the kernel's side: modules, PCI devices, DKMS, Secure Boot. Nothing here starts a program."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Literal

from envdoctor.api import CouldNotLook, Host, Platform, Source, Tier, Unavailable
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    MODULES,
    Dkms,
    DkmsBuild,
    KernelModule,
    LoadedModules,
    ModuleFiles,
    ModuleOnDisk,
    PciDevice,
    PciDevices,
    SecureBoot,
)

VENDOR = "0x10de"
RELEASE = re.compile(r"(?<![\d.])(\d{3}\.\d{1,3}(?:\.\d{1,3})?)(?![\d.])")
"""A driver release: ``580.65.06``, ``550.120``, ``540.4.0``."""
PCI_KINDS: dict[str, Literal["gpu", "nvswitch"]] = {"0x0300": "gpu", "0x0302": "gpu", "0x0680": "nvswitch"}
MODULE_FILES = ("/nvidia.ko", "/nvidia-current.ko")
"""The module as packages name it; Debian's own adds the word and an alias."""


@check.probe(tier=Tier.QUICK)
def kernel_module(host: Host) -> KernelModule:
    """The loaded module's release and flavour."""
    path = "/proc/driver/nvidia/version"
    told = host.text(path)
    loaded = (host.text("/sys/module/nvidia/version", 256) or "").strip() or told or ""
    release = release_in(loaded)
    if release is None and loaded:
        raise CouldNotLook(f"{path} and /sys/module/nvidia/version name no release")
    source = Source("file", path if told else "/sys/module/nvidia/version")
    return KernelModule(release=release, flavour=flavour_in(told), source=source)


def release_in(text: str) -> str | None:
    """The first driver release in a text."""
    found = RELEASE.search(text)
    return found.group(1) if found else None


def flavour_in(version: str | None) -> Literal["open", "proprietary"] | None:
    """Which modules wrote ``/proc/driver/nvidia/version``."""
    if not version:
        return None
    return "open" if "Open Kernel Module" in version else "proprietary"


@check.probe(tier=Tier.QUICK)
def loaded_modules(host: Host) -> LoadedModules:
    """Which of the modules that matter here are loaded, or built into the kernel."""
    listed = host.text("/proc/modules", limit=4 << 20)
    if listed is None and not host.names("/sys/module"):
        raise CouldNotLook("neither /proc/modules nor /sys/module is there")
    names = {line.partition(" ")[0] for line in (listed or "").splitlines()}
    loaded = tuple(name for name in MODULES if name in names or host.exists(f"/sys/module/{name}"))
    absent = tuple(name for name in MODULES if name not in loaded)
    return LoadedModules(loaded=loaded, absent=absent, source=Source("file", "/proc/modules"))


@check.probe(tier=Tier.QUICK)
def pci_devices(host: Host) -> PciDevices:
    """Every PCI function of NVIDIA's and the kernel driver that it is bound to."""
    root = "/sys/bus/pci/devices"
    names = host.names(root)
    if names is None and not host.exists("/sys/bus"):
        raise CouldNotLook("/sys is not mounted here, so no PCI device can be seen")
    ours = [each for each in names or () if (host.text(f"{root}/{each}/vendor") or "").strip() == VENDOR]
    return PciDevices(devices=tuple(_pci_device(host, each) for each in ours), source=Source("file", root))


def _pci_device(host: Host, address: str) -> PciDevice:
    folder = f"/sys/bus/pci/devices/{address}"
    try:
        driver: str | None = os.path.basename(host.readlink(f"{folder}/driver"))
    except OSError:
        driver = None  # no link: no kernel driver is bound
    device_class = (host.text(f"{folder}/class") or "").strip()[:6]
    return PciDevice(
        address=address,
        device_id=_device_id(host.text(f"{folder}/device", 64) or ""),
        kind=PCI_KINDS.get(device_class, "other"),
        kernel_driver=driver,
        name=_model(host, address),
    )


def _device_id(text: str) -> str:
    """``0x2330`` as PCI tables write it; empty where it is none, as of a device that has left the bus."""
    found = re.match(r"0x([\da-fA-F]{4})\s*$", text)
    return found[1].lower() if found else ""


def _model(host: Host, address: str) -> str | None:
    """The model's name, which the loaded driver tells per GPU."""
    text = host.text(f"/proc/driver/nvidia/gpus/{address}/information") or ""
    return next(
        (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("Model:")), None
    )


def without_gpu(pci: PciDevices | Unavailable | None) -> bool:
    """Whether it is known that this machine has no NVIDIA GPU on PCI, so that the costly files need no look."""
    return isinstance(pci, PciDevices) and not pci.gpus


@check.probe(tier=Tier.QUICK)
def module_files(host: Host, platform: Platform, pci: PciDevices | Unavailable | None) -> ModuleFiles | None:
    """Which kernels have an nvidia module on disk."""
    if without_gpu(pci):
        return None
    if platform.kernel is None:
        raise CouldNotLook("the kernel's release is not known")
    kernels = host.names("/lib/modules") or ()
    return ModuleFiles(
        running_kernel=platform.kernel,
        kernels_with_module=tuple(kernel for kernel in kernels if _has_module(host, kernel)),
        modules_directory=platform.kernel in kernels,
        headers=host.exists(f"/lib/modules/{platform.kernel}/build") if platform.kernel in kernels else None,
        source=Source("file", "/lib/modules"),
    )


def _has_module(host: Host, kernel: str) -> bool:
    """Whether modprobe would find the module: depmod's index names every file it knows."""
    index = host.text(f"/lib/modules/{kernel}/modules.dep", limit=8 << 20) or ""
    return any(name in index for name in MODULE_FILES)


@check.probe(tier=Tier.QUICK)
def dkms(
    host: Host, platform: Platform, pci: PciDevices | Unavailable | None
) -> Iterator[Dkms | ModuleOnDisk]:
    """The DKMS tree: one folder per release, in it one per kernel that was built for."""
    if without_gpu(pci):
        return
    builds: list[DkmsBuild] = []
    for module in host.names("/var/lib/dkms") or ():
        if module.startswith("nvidia"):
            for release in host.names(f"/var/lib/dkms/{module}") or ():
                if RELEASE.fullmatch(release):
                    builds.extend(_dkms_builds(host, module, release))
    source = Source("file", "/var/lib/dkms")
    yield Dkms(builds=tuple(builds), source=source)
    here = [each for each in builds if each.kernel == platform.kernel and each.state == "installed"]
    if here:
        yield ModuleOnDisk(release=here[-1].release, source=source)


def _dkms_builds(host: Host, module: str, release: str) -> list[DkmsBuild]:
    folder = f"/var/lib/dkms/{module}/{release}"
    kernels = [name for name in host.names(folder) or () if name not in ("build", "source")]
    if not kernels:
        return [DkmsBuild(module, release, None, "added")]
    return [
        DkmsBuild(module, release, kernel, "installed" if _has_module(host, kernel) else "built")
        for kernel in kernels
    ]


@check.probe(tier=Tier.QUICK)
def secure_boot(
    host: Host, pci: PciDevices | Unavailable | None, module: KernelModule | Unavailable | None
) -> SecureBoot | None:
    """The EFI variable: four bytes of attributes, then one that says whether Secure Boot is on."""
    loaded = isinstance(module, KernelModule) and module.release is not None
    folder = "/sys/firmware/efi/efivars"
    path = f"{folder}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    if not host.names("/sys/firmware"):
        if loaded or without_gpu(pci):
            return None  # then it keeps no module out
        raise CouldNotLook(
            "/sys/firmware is hidden here, as in most containers", "mokutil --sb-state, on the host"
        )
    if not host.exists("/sys/firmware/efi"):
        return SecureBoot(enabled=None, source=Source("file", "/sys/firmware/efi"))
    if not host.names(folder):
        raise CouldNotLook("the EFI variables are not mounted here", "mokutil --sb-state, on the host")
    try:
        value = host.read(path, 5)
    except FileNotFoundError:
        return SecureBoot(enabled=False, source=Source("file", path))
    except OSError as error:
        raise CouldNotLook(f"{path}: {error.strerror}", "mokutil --sb-state") from error
    return SecureBoot(enabled=len(value) == 5 and value[4] == 1, source=Source("file", path))
