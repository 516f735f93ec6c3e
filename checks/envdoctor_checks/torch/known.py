"""What rules ask of facts that may or may not be there: pure functions over facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from envdoctor.api import Evidence, Remedy
from envdoctor_checks.driver.facts import PciDevices
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.advice import Advice
from envdoctor_checks.torch.binaries import kernel_for
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda, TorchDevices
from envdoctor_checks.torch.versions import cuda_of_label, is_official


class Gpu(msgspec.Struct, frozen=True):
    """One GPU with what rules about binaries need of it."""

    index: int
    name: str
    capability: str
    visible: bool
    """Torch itself sees it; False where only the driver was asked, which knows nothing of CUDA_VISIBLE_DEVICES."""


def torch_version(build: TorchBuild | None, packages: Distributions | None) -> str | None:
    """The version of torch by whichever fact tells it."""
    if build is not None and build.version:
        return build.version
    return packages.version("torch") if packages is not None else None


def version_evidence(build: TorchBuild | None, packages: Distributions | None) -> tuple[Evidence, ...]:
    """That version as evidence."""
    if build is not None and build.version:
        return (build.shows("torch", build.version),)
    version = packages.version("torch") if packages is not None else None
    return (packages.shows("torch", version),) if packages is not None and version else ()


def torch_cuda(build: TorchBuild | None, version: str | None) -> str | None:
    """The CUDA that torch was built with, as far as the build or the version's label tell."""
    if build is not None:
        return build.torch_cuda
    return cuda_of_label(version.partition("+")[2]) if version else None


def gpus_seen(devices: TorchDevices | None, gpus: GpuDevices | None, advice: Advice) -> tuple[Gpu, ...]:
    """The GPUs with known capability: torch's own list where there is one, else the driver's."""
    if devices is not None and devices.devices:
        return tuple(Gpu(each.index, each.name, each.compute_capability, True) for each in devices.devices)
    found = []
    for each in gpus.devices if gpus is not None else ():
        capability = each.compute_capability or advice.capability(each.name)
        if capability:
            found.append(Gpu(each.index, each.name, capability, False))
    return tuple(found)


def nvidia_gpu(gpus: GpuDevices | None, pci: PciDevices | None) -> Evidence | None:
    """That an NVIDIA GPU is in the machine, by the driver or on the PCI bus."""
    if gpus is not None and gpus.devices:
        return gpus.shows("GPU", gpus.devices[0].name)
    if pci is not None and pci.gpus:
        first = pci.gpus[0]
        return pci.shows("GPU", f"{first.address} {first.name or f'NVIDIA device {first.device_id}'}")
    return None


def code_of_torch(
    cuda: TorchCuda | None,
    build: TorchBuild | None,
    version: str | None,
    advice: Advice,
    platform: str | None,
) -> tuple[str, ...] | None:
    """The architectures in torch: what it says itself, else what is known of the published wheel."""
    if cuda is not None and cuda.arch_list:
        return cuda.arch_list
    built_for = torch_cuda(build, version)
    if version is None or built_for is None or not is_official(version):
        return None
    found = [
        row
        for package in ("wheel", "conda")
        if (row := advice.archs.find(version, built_for, platform or "linux-x86_64", package))  # type: ignore[arg-type] # one of the table's platforms
    ]
    return tuple(dict.fromkeys(arch for row in found for arch in (*row.archs, *row.ptx))) or None


def runs(code: Iterable[str], capability: str, built_for: str | None) -> bool:
    """Whether a GPU runs a binary with that code."""
    return kernel_for(code, capability, built_for) is not None


def present(*remedies: Remedy | None) -> Iterator[Remedy]:
    """The remedies that there are."""
    return (each for each in remedies if each is not None)
