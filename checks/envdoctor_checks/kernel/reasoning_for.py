"""Can what is installed here run on a GPU that is not here, under a driver that is not here? Arithmetic over facts and tables."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from envdoctor.api import Asked, Outcome, Platform
from envdoctor.tables import compare_releases, major_minor, release_key
from envdoctor_checks.driver.tables import Architectures, Capability, CudaFloors
from envdoctor_checks.gpu.facts import GpuDevice, GpuDevices
from envdoctor_checks.kernel.facts import PtxAssemblers
from envdoctor_checks.kernel.rules_driver import used_for
from envdoctor_checks.kernel.rules_triton import installed_triton
from envdoctor_checks.kernel.tables import Triton
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.advice import Advice, wheel_platform
from envdoctor_checks.torch.binaries import kernel_for
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda
from envdoctor_checks.torch.known import code_of_torch


class Outlook(msgspec.Struct, frozen=True):
    """What is known of one architecture of ``--for``, and of the code that torch has for it."""

    architecture: str
    """As asked for: ``sm_120``, ``sm_90a``."""
    capability: str
    """``12.0``. The letter asks for the features of that one capability, which every GPU of it has."""
    chip: Capability | None
    """None: the tables know no such GPU."""
    code: tuple[str, ...] | None
    """The architectures in torch; None where they are not known."""
    piece: str | None
    """The one of them that this GPU runs; None: none of them, or not known."""
    how: Literal["machine-code", "ptx"] | None

    @property
    def job(self) -> Outcome:
        """What the user wants: to run there. It is downstream of all else, so it explains no failure seen here."""
        return Outcome("job", self.architecture)

    @property
    def subject(self) -> str:
        """``gpu:sm_120``: no GPU of this machine has such a number."""
        return f"gpu:{self.architecture}"


def capability_of(architecture: str) -> str:
    """``sm_90a`` -> ``9.0``, ``sm_120`` -> ``12.0``."""
    digits = re.sub(r"\D", "", architecture)
    return f"{digits[:-1]}.{digits[-1]}"


def wanted_gpus(asked: Asked) -> GpuDevices:
    """The GPUs that were asked about as a driver would list them, for what judges GPUs that are there."""
    devices = tuple(
        GpuDevice(index=index, name=each, compute_capability=capability_of(each))
        for index, each in enumerate(asked.architectures)
    )
    return GpuDevices(devices=devices, source=asked.source)


def outlooks(
    asked: Asked,
    build: TorchBuild,
    cuda: TorchCuda | None,
    platform: Platform | None,
    advice: Advice,
    architectures: Architectures,
) -> tuple[Outlook, ...]:
    """One for each architecture, in the order of asking."""
    code = code_of_torch(cuda, build, build.version, advice, wheel_platform(platform))
    found = []
    for each in asked.architectures:
        capability = capability_of(each)
        chip = architectures.capability(capability)
        how = kernel_for(code, capability, build.torch_cuda) if code and chip else None
        fits = [one for one in code or () if how and kernel_for((one,), capability, build.torch_cuda) == how]
        piece = max(fits, key=lambda one: int(re.sub(r"\D", "", one)), default=None)
        found.append(Outlook(each, capability, chip, code, piece, how))
    return tuple(found)


class DriverNeed(msgspec.Struct, frozen=True):
    """One thing that asks for a driver of at least `floor`."""

    why: Literal["torch", "gpu", "ptx"]
    """The CUDA of torch (minor-version compatibility); the GPU's architecture; PTX that the driver must compile."""
    floor: str


def driver_needs(
    outlook: Outlook, torch_cuda: str | None, floors: CudaFloors, windows: bool
) -> tuple[DriverNeed, ...]:
    """What is asked of the driver there. Nothing of Jetson's, whose drivers come with JetPack under numbers of their own."""
    if outlook.chip is None or outlook.chip.tegra:
        return ()
    system: Literal["linux", "windows"] = "windows" if windows else "linux"
    needs: list[tuple[Literal["torch", "gpu", "ptx"], str | None]] = [
        ("torch", floors.minimum_driver(torch_cuda, system) if torch_cuda else None),
        ("gpu", floors.shipped_driver(outlook.chip.first_toolkit, system)),
        ("ptx", floors.shipped_driver(torch_cuda, system) if torch_cuda and outlook.how == "ptx" else None),
    ]
    return tuple(DriverNeed(why, floor) for why, floor in needs if floor)


def unmet(needs: tuple[DriverNeed, ...], driver: str | None) -> tuple[DriverNeed, ...]:
    """Those that a driver does not meet; none where it is not known."""
    return tuple(each for each in needs if driver and compare_releases(driver, each.floor) < 0)


def floor_of(needs: tuple[DriverNeed, ...]) -> str | None:
    """The oldest driver that meets them all."""
    return max((each.floor for each in needs), key=release_key, default=None)


def dropped_by(outlook: Outlook, driver: str | None) -> int | None:
    """The GPU's last driver branch, where the driver is newer than that."""
    last = outlook.chip.last_branch if outlook.chip is not None else None
    return last if last is not None and driver and release_key(driver)[0] > last else None


def triton_assembler(
    outlook: Outlook,
    asked: Asked,
    assemblers: PtxAssemblers | None,
    packages: Distributions | None,
    table: Triton,
) -> str | None:
    """The CUDA release of the ptxas that Triton would start for it, as it was asked, else by the table; None: not known."""
    if assemblers is not None:
        devices = tuple(
            each for each in wanted_gpus(asked).devices if each.compute_capability == outlook.capability
        )
        for of in ("variable", "triton"):
            row = next((row for row, _ in used_for(assemblers, devices, of)), None)
            if row is not None:
                return row.ptxas_cuda
    release = installed_triton(packages)
    known = table.assembler(release, outlook.capability) if release else None
    return known.cuda if known is not None else None


def minor_compatible(torch_cuda: str, driver_cuda: str | None) -> bool:
    """Whether torch runs on a driver of an older CUDA of its major: no PTX of torch's release compiles there."""
    if driver_cuda is None:
        return False
    return major_minor(driver_cuda) < major_minor(torch_cuda)
