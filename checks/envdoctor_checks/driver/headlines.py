"""The driver's and the GPUs' rows of the machine's summary, and whether the check has anything to say here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from envdoctor.api import Headline, Platform, Unavailable
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    CudaInit,
    DeviceNodes,
    DriverCuda,
    DriverRelease,
    KernelModule,
    PciDevices,
    UserLibraries,
)
from envdoctor_checks.gpu.facts import GpuDevices


@check.headline
def driver(
    module: KernelModule | None,
    release: DriverRelease | None,
    cuda: DriverCuda | None,
    init: CudaInit | None,
    libraries: UserLibraries | None,
) -> Iterator[Headline]:
    """``580.65.06 (CUDA 13.0), open kernel modules``."""
    number = release.release if release else module.release if module else None
    if number is None:
        yield from _without_module(module, cuda, libraries)
        return
    spoken = f" (CUDA {cuda.driver_cuda})" if cuda else ""
    flavour = f", {module.flavour} kernel modules" if module and module.flavour else ""
    failed = f", cuInit: {init.name}" if init and init.code > 0 else ""
    yield Headline("driver", f"{number}{spoken}{flavour}{failed}", order=20)


def _without_module(
    module: KernelModule | None, cuda: DriverCuda | None, libraries: UserLibraries | None
) -> Iterator[Headline]:
    """The libraries may be there without the module."""
    own = (each.release for each in libraries.libraries if each.kind == "driver") if libraries else ()
    installed = next((each for each in own if each is not None), None)
    if installed is not None and module is not None:
        yield Headline("driver", f"{installed}, kernel module not loaded", order=20)
    elif cuda is not None:
        yield Headline("driver", f"release not known (CUDA {cuda.driver_cuda})", order=20)
    elif module is not None:
        yield Headline("driver", "none", order=20)


@check.headline
def gpus(devices: GpuDevices | None, pci: PciDevices | None) -> Iterator[Headline]:
    """``8 x NVIDIA H100 80GB HBM3``; what the PCI bus shows where the driver tells nothing."""
    if devices is not None and devices.devices:
        names = Counter(device.name for device in devices.devices)
    elif pci is not None:
        names = Counter(device.name or f"10de:{device.device_id}" for device in pci.gpus)
        if not names:
            yield Headline("GPU", "no NVIDIA GPU", order=21)
    else:
        return
    for name, count in names.items():
        yield Headline("GPU", f"{count} x {name}" if count > 1 else name, order=21)


@check.applicable
def applies(
    platform: Platform,
    pci: PciDevices | Unavailable | None,
    nodes: DeviceNodes | Unavailable | None,
    module: KernelModule | Unavailable | None,
    libraries: UserLibraries | Unavailable | None,
) -> str | None:
    """Why there is nothing to check: another system, or a machine that has no NVIDIA GPU and nothing of a driver."""
    if platform.system != "linux":
        return f"NVIDIA's driver on {platform.system} is not looked at"
    if platform.wsl or not isinstance(pci, PciDevices) or not isinstance(nodes, DeviceNodes):
        return None
    if not isinstance(module, KernelModule) or not isinstance(libraries, UserLibraries):
        return None
    if (
        pci.gpus
        or nodes.nodes
        or module.release
        or any(each.kind == "driver" for each in libraries.libraries)
    ):
        return None
    return "no NVIDIA GPU on this machine"
