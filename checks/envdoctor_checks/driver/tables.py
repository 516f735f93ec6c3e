"""What the driver check judges by: floors, branches, compatibility, architectures, bad releases, codes."""

from typing import ClassVar, Literal

from envdoctor.tables import Row, Table, compare_releases, load, major_minor, release_key

Platform = Literal["linux", "windows"]
KernelModules = Literal["proprietary", "either", "open"]


class CudaFamily(Row, frozen=True, kw_only=True):
    """The oldest driver on which every release of a CUDA major runs (minor-version compatibility)."""

    cuda_major: int
    linux: str
    windows: str | None = None
    """None: NVIDIA states no floor."""


class Toolkit(Row, frozen=True, kw_only=True):
    """A toolkit release and the driver it ships with."""

    cuda: str
    update: int
    """0 for the first release, then the number of the update."""
    linux: str
    windows: str | None = None
    """None: the toolkit brings no driver for Windows."""


class DriverBranch(Row, frozen=True, kw_only=True):
    """A driver branch (R535) and the CUDA release that it speaks natively."""

    branch: int
    cuda: str | None = None
    """None: not stated."""
    kind: Literal["long-term", "production", "new-feature"] | None = None
    end_of_life: str | None = None
    """``YYYY-MM``; None where no source says."""
    last_for: tuple[str, ...] = ()
    """Architectures whose last branch this is."""


class CudaFloors(Table, frozen=True, kw_only=True):
    """CUDA releases against driver releases."""

    fact_name: ClassVar[str] = "driver.cuda-floors"
    families: tuple[CudaFamily, ...]
    toolkits: tuple[Toolkit, ...]
    branches: tuple[DriverBranch, ...]

    def family(self, cuda: str) -> CudaFamily | None:
        """The family of a CUDA release such as ``12.6``, where it has minor-version compatibility."""
        return next((row for row in self.families if row.cuda_major == release_key(cuda)[0]), None)

    def minimum_driver(self, cuda: str, platform: Platform = "linux") -> str | None:
        """The oldest driver on which a program built with that CUDA release starts; None if not known."""
        row = self.family(cuda)
        return getattr(row, platform) if row else self.shipped_driver(cuda, platform)

    def shipped_driver(self, cuda: str, platform: Platform = "linux") -> str | None:
        """The driver of the first toolkit of that release: from it on PTX of that release compiles, too."""
        found = [row for row in self.toolkits if major_minor(row.cuda) == major_minor(cuda)]
        return getattr(min(found, key=lambda row: row.update), platform) if found else None

    def branch(self, driver_release: str) -> DriverBranch | None:
        """The branch of a driver release, on Linux and on Windows; None if older than every branch."""
        number = release_key(driver_release)[0]
        older = [row for row in self.branches if row.branch <= number]
        return max(older, key=lambda row: row.branch) if older else None

    def native_cuda(self, driver_release: str) -> str | None:
        """The CUDA release that a driver speaks (``nvidia-smi`` prints it); None where no source says."""
        row = self.branch(driver_release)
        return row.cuda if row else None


class CompatPackage(Row, frozen=True, kw_only=True):
    """A cuda-compat package against driver branches."""

    package: str
    cuda: str
    works_on: tuple[int, ...]
    needless_on: tuple[int, ...]
    refused_on: tuple[int, ...]


class CompatDevices(Row, frozen=True, kw_only=True):
    """Hardware on which forward compatibility works."""

    devices: Literal["data-centre", "rtx-ngc-ready", "jetson"]
    note: str


class CompatFile(Row, frozen=True, kw_only=True):
    """A library of the cuda-compat packages, by the start of its file name."""

    library: str
    since: str | None = None
    """The CUDA release from which packages have it; None: all."""


class ForwardCompatibility(Table, frozen=True, kw_only=True):
    """The cuda-compat packages."""

    fact_name: ClassVar[str] = "driver.forward-compatibility"
    packages: tuple[CompatPackage, ...]
    devices: tuple[CompatDevices, ...]
    files: tuple[CompatFile, ...]

    def package(self, cuda: str) -> CompatPackage | None:
        """The package for a CUDA release."""
        return next((row for row in self.packages if major_minor(row.cuda) == major_minor(cuda)), None)

    def works(self, cuda: str, branch: int) -> bool | None:
        """Whether that release's package is supported over a driver branch; None where no source says."""
        row = self.package(cuda)
        if row is None:
            return None
        if branch in row.works_on:
            return True
        return False if branch in row.needless_on + row.refused_on else None


class Capability(Row, frozen=True, kw_only=True):
    """A compute capability and what still supports it."""

    compute_capability: str
    architecture: str
    first_toolkit: str
    last_toolkit: str | None = None
    """None: current toolkits build for it."""
    last_branch: int | None = None
    """None: current drivers support it."""
    kernel_modules: KernelModules
    tegra: bool


class ArchitectureModules(Row, frozen=True, kw_only=True):
    """From which driver branch on an architecture has its flavour of kernel modules."""

    architecture: str
    kernel_modules: KernelModules
    since_branch: int


class BoardModules(Row, frozen=True, kw_only=True):
    """A board that departs from its architecture."""

    name: str
    kernel_modules: KernelModules


class Architectures(Table, frozen=True, kw_only=True):
    """Compute capabilities against toolkits, drivers and kernel modules."""

    fact_name: ClassVar[str] = "driver.architectures"
    capabilities: tuple[Capability, ...]
    modules: tuple[ArchitectureModules, ...]
    exceptions: tuple[BoardModules, ...]

    def capability(self, compute_capability: str) -> Capability | None:
        """What is known of a capability such as ``8.9``."""
        return next((row for row in self.capabilities if row.compute_capability == compute_capability), None)

    def kernel_modules(self, compute_capability: str, gpu_name: str = "") -> KernelModules | None:
        """Which flavour of kernel modules a GPU works with; None for a capability that is not known."""
        for board in self.exceptions:
            if board.name in gpu_name.split():
                return board.kernel_modules
        row = self.capability(compute_capability)
        return row.kernel_modules if row else None


class BadRelease(Row, frozen=True, kw_only=True):
    """A bug of some driver releases, and what cures it."""

    id: str
    platform: Platform
    first: str
    last: str
    gpus: tuple[str, ...]
    """Prefixes of GPU names without ``NVIDIA``; none: every GPU."""
    needs: Literal["multi-gpu"]
    """The use without which the bug does not bite."""
    bug: str
    good: tuple[str, ...]
    """Releases that the source found free of it."""
    fixed_in: str | None = None
    workaround: str


class KnownBadReleases(Table, frozen=True, kw_only=True):
    """Driver releases to avoid."""

    fact_name: ClassVar[str] = "driver.known-bad-releases"
    releases: tuple[BadRelease, ...]

    def bugs(
        self, driver_release: str, gpu_name: str, platform: Platform = "linux"
    ) -> tuple[BadRelease, ...]:
        """The bugs of a release that concern a GPU of that name (as NVML prints it)."""
        name = gpu_name.removeprefix("NVIDIA ")
        return tuple(
            row
            for row in self.releases
            if row.platform == platform
            and compare_releases(row.first, driver_release) <= 0 <= compare_releases(row.last, driver_release)
            and (not row.gpus or name.startswith(row.gpus))
        )


class CudaCode(Row, frozen=True, kw_only=True):
    """A CUDA error number."""

    code: int
    driver_name: str | None = None
    runtime_name: str | None = None
    reading: str


class NvmlCode(Row, frozen=True, kw_only=True):
    """An NVML return code."""

    code: int
    name: str
    reading: str


class ExitCode(Row, frozen=True, kw_only=True):
    """An exit status of nvidia-smi."""

    code: int
    reading: str


class ClockReason(Row, frozen=True, kw_only=True):
    """One bit of NVML's clock event reasons."""

    bit: int
    name: str
    reading: str
    slowdown: bool


class RecoveryAction(Row, frozen=True, kw_only=True):
    """What the driver asks to be done with a GPU."""

    value: int
    name: str
    action: Literal["none", "reset", "restart-machine", "drain", "drain-and-reset", "recover-imex"]
    reading: str


class FabricState(Row, frozen=True, kw_only=True):
    """The state of a GPU in the NVLink fabric."""

    value: int
    name: str
    reading: str
    waiting: bool


class Codes(Table, frozen=True, kw_only=True):
    """Return codes and enumerations of CUDA, NVML and nvidia-smi."""

    fact_name: ClassVar[str] = "driver.codes"
    cuda: tuple[CudaCode, ...]
    nvml: tuple[NvmlCode, ...]
    nvidia_smi: tuple[ExitCode, ...]
    clock_reasons: tuple[ClockReason, ...]
    recovery_actions: tuple[RecoveryAction, ...]
    fabric_states: tuple[FabricState, ...]

    def cuda_error(self, code_or_name: int | str) -> CudaCode | None:
        """A CUDA error by its number or by either of its names."""
        return next(
            (row for row in self.cuda if code_or_name in (row.code, row.driver_name, row.runtime_name)), None
        )

    def nvml_error(self, code_or_name: int | str) -> NvmlCode | None:
        """An NVML return code by its number or name."""
        return next((row for row in self.nvml if code_or_name in (row.code, row.name)), None)

    def smi_exit(self, status: int) -> str | None:
        """What an exit status of nvidia-smi says; None for one that is not known."""
        return next((row.reading for row in self.nvidia_smi if row.code == status), None)

    def clocks_held_by(self, bits: int) -> tuple[ClockReason, ...]:
        """The reasons that are set in a bit mask."""
        return tuple(row for row in self.clock_reasons if row.bit & bits)


def cuda_floors() -> CudaFloors:
    """CUDA releases against driver releases."""
    return load(__package__, "cuda_floors", CudaFloors)


def forward_compatibility() -> ForwardCompatibility:
    """The cuda-compat packages."""
    return load(__package__, "forward_compatibility", ForwardCompatibility)


def architectures() -> Architectures:
    """Compute capabilities against toolkits, drivers and kernel modules."""
    return load(__package__, "architectures", Architectures)


def known_bad_releases() -> KnownBadReleases:
    """Driver releases to avoid."""
    return load(__package__, "known_bad_releases", KnownBadReleases)


def codes() -> Codes:
    """Return codes and enumerations of CUDA, NVML and nvidia-smi."""
    return load(__package__, "codes", Codes)
