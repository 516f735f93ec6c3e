"""Which build of torch to install on this machine: one place, so that every rule gives the same advice."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from envdoctor.api import Fact, Install, Platform, Source
from envdoctor.tables import compare_releases, major_minor
from envdoctor_checks.driver.facts import DriverCuda, DriverRelease
from envdoctor_checks.driver.tables import CudaFloors, cuda_floors
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.gpu.tables import ComputeCapabilities, compute_capabilities
from envdoctor_checks.libraries.tables import WheelLibraries, wheel_libraries
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.binaries import kernel_for
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.tables import (
    ArchLists,
    Companions,
    PackageIndex,
    PackageIndexes,
    Platform as WheelPlatform,
    TorchReleases,
    arch_lists,
    companions,
    package_indexes,
    torch_releases,
)
from envdoctor_checks.torch.versions import label_of_cuda

SISTERS = ("torchvision", "torchaudio")
VERIFY = 'python -c "import torch; print(torch.__version__, torch.cuda.is_available(), torch.cuda.get_arch_list())"'


class Needs(msgspec.Struct, frozen=True):
    """What a build must fit. None: not known, and then it does not limit the choice."""

    capabilities: tuple[str, ...] = ()
    """Of the GPUs that it must have kernels for."""
    driver_cuda: str | None = None
    platform: WheelPlatform | None = None
    python: str | None = None
    """``3.11``."""
    sisters: tuple[str, ...] = ()
    """The sister packages that are installed, and must be replaced together with torch."""


class Advice(Fact, frozen=True, kw_only=True):
    """The tables that a recommendation rests on. Loaded when a rule that recommends a build runs."""

    fact_name: ClassVar[str] = "torch.advice"
    source: Source = Source("table", "torch/advice")
    releases: TorchReleases
    indexes: PackageIndexes
    archs: ArchLists
    companions: Companions
    floors: CudaFloors
    names: ComputeCapabilities
    wheels: WheelLibraries

    def capability(self, gpu_name: str) -> str | None:
        """The compute capability of a GPU by its printed name."""
        row = self.names.of(gpu_name)
        return row.compute_capability if row else None

    def capabilities(self, gpus: GpuDevices | None) -> tuple[str, ...]:
        """Those of all GPUs, as far as they are known."""
        known = (
            (each.compute_capability or self.capability(each.name) for each in gpus.devices) if gpus else ()
        )
        return tuple(dict.fromkeys(each for each in known if each))

    def needs(
        self,
        gpus: GpuDevices | None = None,
        packages: Distributions | None = None,
        driver: DriverCuda | DriverRelease | None = None,
        platform: Platform | None = None,
        python: str | None = None,
    ) -> Needs:
        """What the machine asks of a build."""
        spoken = driver.driver_cuda if isinstance(driver, DriverCuda) else None
        if isinstance(driver, DriverRelease):
            spoken = self.floors.native_cuda(driver.release)
        return Needs(
            capabilities=self.capabilities(gpus),
            driver_cuda=spoken,
            platform=wheel_platform(platform),
            python=python,
            sisters=tuple(name for name in SISTERS if packages is not None and packages.named(name)),
        )

    def build_for(self, torch: str, needs: Needs) -> str | None:
        """The CUDA index (``cu128``) whose build of a release fits; None where none is known to.

        The version's own label comes first, then the build that PyPI has, then the newest.
        """
        fitting = [row for row in self.indexes.having(torch) if self._fits(torch, row, needs)]
        if not fitting:
            return None
        release = self.releases.release(torch)
        wanted = [torch.partition("+")[2], label_of_cuda(release.default_cuda) if release else ""]
        fit = [row.index for row in fitting]
        older = [index for index in fit if index.startswith(("cu11", "cu12"))]
        if needs.driver_cuda is None and older and wanted[0] not in fit:
            fit = older  # a driver that nobody told of may be too old for CUDA 13
        return next((index for index in wanted if index in fit), fit[-1])

    def _fits(self, torch: str, index: PackageIndex, needs: Needs) -> bool:
        cuda = index.cuda or ""
        if needs.driver_cuda and major_minor(cuda)[0] > major_minor(needs.driver_cuda)[0]:
            return False  # within a major, minor-version compatibility lets older drivers run newer builds
        code = self.code_in(torch, cuda, needs.platform or "linux-x86_64")
        return not needs.capabilities or all(
            kernel_for(code or (), each, cuda) for each in needs.capabilities
        )

    def code_in(self, torch: str, cuda: str, platform: WheelPlatform) -> tuple[str, ...] | None:
        """Architectures in a wheel: of the release itself, else of the nearest one built for the same CUDA."""
        found = self.archs.find(torch, cuda, platform)
        if found is None:
            rows = [
                row
                for row in self.archs.arch_lists
                if major_minor(row.cuda) == major_minor(cuda)
                and row.platform == platform
                and row.package == "wheel"
            ]
            major, minor = major_minor(torch)
            found = min(rows, key=lambda row: _distance(row.torch, major, minor), default=None)
        if found is None and platform == "windows":  # whose wheels are built for the same list
            return self.code_in(torch, cuda, "linux-x86_64")
        return (*found.archs, *found.ptx) if found else None

    def newest_for(self, needs: Needs) -> tuple[str, str] | None:
        """The newest release with a build that fits, and the build.

        Where the driver is not known, one for CUDA 12 if there is any: it runs on every driver since 525.
        """
        found = [
            (row.latest, build)
            for row in reversed(self.releases.releases)
            if _python_fits(row.requires_python, row.python_max, needs.python)
            and (build := self.build_for(row.latest, needs))
        ]
        if needs.driver_cuda is None:
            found.sort(key=lambda each: not each[1].startswith(("cu11", "cu12")))
        return found[0] if found else None

    def install(self, torch: str | None, needs: Needs, *, why: str = "") -> Install | None:
        """torch and its sisters from the index that fits: this release where it can be kept, else the newest that can.

        The requirement names the build (``torch==2.8.0+cu128``): pip would take ``torch==2.8.0`` for satisfied by the
        build that is there.
        """
        kept = torch if torch and self.releases.release(torch) else None
        build = self.build_for(kept, needs) if kept else None
        if kept and build:
            return self._install(kept.partition("+")[0], build, needs, why)
        newest = self.newest_for(needs)
        return self._install(*newest, needs, why) if newest else None

    def _install(self, torch: str, build: str, needs: Needs, why: str) -> Install:
        sisters = (self.companions.made_for(name, torch) for name in needs.sisters)
        names = (
            f"torch=={torch}+{build}",
            *(f"{row.package}=={row.version}+{build}" for row in sisters if row),
        )
        return Install(requirements=names, build=build, why=why, verify=VERIFY)

    def at_least(self, first: str, label: str, needs: Needs, *, why: str = "") -> Install | None:
        """Any release from `first` on, from the index of the build that is installed where that goes so far."""
        newest = self.newest_for(needs)
        if newest is None or compare_releases(newest[0], first) < 0:
            return None
        index = self.indexes.index(label)
        goes_so_far = index is not None and any(compare_releases(each, first) >= 0 for each in index.torch)
        build = label if label.startswith("cu") and goes_so_far else newest[1]
        return Install(requirements=(f"torch>={first}", *needs.sisters), build=build, why=why, verify=VERIFY)


def wheel_platform(platform: Platform | None) -> WheelPlatform | None:
    """How the tables of wheels name a platform."""
    if platform is None:
        return None
    if platform.system == "windows":
        return "windows"
    return "linux-aarch64" if platform.machine in ("aarch64", "arm64") else "linux-x86_64"


def _distance(torch: str, major: int, minor: int) -> int:
    other_major, other_minor = major_minor(torch)
    return abs(other_major - major) * 100 + abs(other_minor - minor)


def _python_fits(specifier: str, newest: str, python: str | None) -> bool:
    if python is None:
        return True
    return compare_releases(python, specifier.lstrip(">=")) >= 0 and compare_releases(python, newest) <= 0


@check.table
def advice() -> Advice:
    """All of them at once."""
    return Advice(
        releases=torch_releases(),
        indexes=package_indexes(),
        archs=arch_lists(),
        companions=companions(),
        floors=cuda_floors(),
        names=compute_capabilities(),
        wheels=wheel_libraries(),
    )
