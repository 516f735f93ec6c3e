"""What the torch check judges by: releases, builds, architectures, companions, pins, indexes, bugs."""

from typing import ClassVar, Literal

from envdoctor.tables import Row, Table, compare_releases, load, major_minor, release_key

Platform = Literal["linux-x86_64", "linux-aarch64", "windows"]


class TorchRelease(Row, frozen=True, kw_only=True):
    """A minor release of PyTorch."""

    torch: str
    latest: str
    released: str
    requires_python: str
    python_max: str
    """The newest CPython with wheels on PyPI."""
    default_cuda: str
    """The CUDA of the Linux wheel on PyPI."""


class CudaBuild(Row, frozen=True, kw_only=True):
    """One CUDA build of a minor release."""

    torch: str
    cuda: str
    status: Literal["stable", "experimental"]
    cudnn: str | None = None
    nccl: str | None = None


class NumpySupport(Row, frozen=True, kw_only=True):
    """The first release whose wheels work with numpy 2."""

    first: str
    platform: Literal["linux", "windows"]


class TorchReleases(Table, frozen=True, kw_only=True):
    """PyTorch releases and the CUDA builds of each."""

    fact_name: ClassVar[str] = "torch.releases"
    releases: tuple[TorchRelease, ...]
    builds: tuple[CudaBuild, ...]
    numpy: tuple[NumpySupport, ...]

    def release(self, torch: str) -> TorchRelease | None:
        """The minor release that a version such as ``2.9.1+cu128`` belongs to."""
        return next((row for row in self.releases if same_minor(row.torch, torch)), None)

    def builds_of(self, torch: str) -> tuple[CudaBuild, ...]:
        """The CUDA builds of a release, oldest CUDA first."""
        return tuple(row for row in self.builds if same_minor(row.torch, torch))

    def works_with_numpy_2(self, torch: str, platform: Literal["linux", "windows"] = "linux") -> bool:
        """Whether a release's wheels work with numpy 2."""
        return any(row.platform == platform and compare_releases(torch, row.first) >= 0 for row in self.numpy)


class ArchList(Row, frozen=True, kw_only=True):
    """The architectures in one binary of PyTorch."""

    torch: str
    """A release (2.9.1) or a minor (2.9)."""
    cuda: str
    platform: Platform
    package: Literal["wheel", "conda"]
    archs: tuple[str, ...]
    """Machine code: ``sm_86``."""
    ptx: tuple[str, ...]
    """PTX, which newer GPUs can compile: ``compute_120``."""
    how_known: Literal["wheel", "observed", "documented", "build-script", "cuobjdump"]


class ArchLists(Table, frozen=True, kw_only=True):
    """The architectures in PyTorch's binaries."""

    fact_name: ClassVar[str] = "torch.arch-lists"
    arch_lists: tuple[ArchList, ...]

    def find(
        self, torch: str, cuda: str, platform: Platform = "linux-x86_64", package: str = "wheel"
    ) -> ArchList | None:
        """What a build contains: by the release itself, else by its minor. None where nobody said."""
        rows = [
            row
            for row in self.arch_lists
            if same_minor(row.torch, torch)
            and major_minor(row.cuda) == major_minor(cuda)
            and row.platform == platform
            and row.package == package
        ]
        order = ("wheel", "observed", "cuobjdump", "documented", "build-script")
        same = release_key(torch)
        return min(
            rows, key=lambda row: (release_key(row.torch) != same, order.index(row.how_known)), default=None
        )


class Companion(Row, frozen=True, kw_only=True):
    """A release of torchvision or torchaudio."""

    package: Literal["torchvision", "torchaudio"]
    version: str
    torch: str | None = None
    """The version specifier in its metadata; None: it asks for no torch, which is no error."""


class TritonPin(Row, frozen=True, kw_only=True):
    """The Triton that a torch wheel asks for."""

    torch: str
    triton: str
    """A version specifier."""
    python_below: str | None = None
    """Only on Python older than this; None: on every Python."""


class Companions(Table, frozen=True, kw_only=True):
    """torch and its sister packages."""

    fact_name: ClassVar[str] = "torch.companions"
    companions: tuple[Companion, ...]
    triton: tuple[TritonPin, ...]

    def companion(self, package: str, version: str) -> Companion | None:
        """The row of a sister package's release; None where its metadata was not read."""
        key = release_key(version)
        return next(
            (row for row in self.companions if row.package == package and release_key(row.version) == key),
            None,
        )

    def made_for(self, package: str, torch: str) -> Companion | None:
        """The newest release of a sister package that asks for exactly this torch, else for any such torch."""
        rows = [row for row in self.companions if row.package == package]
        exact = [row for row in rows if row.torch == f"=={_plain(torch)}"]
        open_ended = [row for row in rows if _allows(row, torch)]
        return max(exact or open_ended, key=lambda row: release_key(row.version), default=None)

    def triton_for(self, torch: str) -> TritonPin | None:
        """What a release of torch asks of Triton; None where its metadata was not read, or asks for none."""
        return next((row for row in self.triton if compare_releases(row.torch, torch) == 0), None)


def _plain(version: str) -> str:
    return version.partition("+")[0]


def _allows(row: Companion, torch: str) -> bool:
    """Whether a row without an exact pin works with a torch: from its bound on, or from its own version on."""
    if row.torch is None:
        return compare_releases(torch, row.version) >= 0
    return row.torch.startswith(">=") and compare_releases(torch, row.torch[2:]) >= 0


class TorchPins(Row, frozen=True, kw_only=True):
    """The NVIDIA wheels that one torch wheel pins."""

    torch: str
    pins: dict[str, str]
    """Distribution -> version specifier."""
    toolkit: str | None = None
    """The release of cuda-toolkit that it asks for; None: it asks for each wheel by name."""
    extras: tuple[str, ...] = ()


class ToolkitExtra(Row, frozen=True, kw_only=True):
    """What an extra of cuda-toolkit asks for."""

    toolkit: str
    extra: str
    requires: dict[str, str]
    """Distribution -> version specifier."""


class WheelPins(Table, frozen=True, kw_only=True):
    """The NVIDIA wheels that torch pins."""

    fact_name: ClassVar[str] = "torch.wheel-pins"
    torch: tuple[TorchPins, ...]
    toolkits: tuple[ToolkitExtra, ...]

    def requirements(self, torch: str) -> dict[str, str] | None:
        """Distribution -> version specifier of a release, extras resolved; None where it was not read."""
        row = next((row for row in self.torch if release_key(row.torch) == release_key(torch)), None)
        if row is None:
            return None
        wanted = dict(row.pins)
        for extra in self.toolkits:
            if extra.toolkit == row.toolkit and extra.extra in row.extras:
                wanted.update(extra.requires)
        return wanted


class Extension(Row, frozen=True, kw_only=True):
    """A package with code compiled against torch."""

    distribution: str
    module: str
    compiled: tuple[str, ...]
    """Patterns relative to site-packages; ``**`` stands for any folders."""
    built_for: Literal["torch", "torch-stable", "cuda", "jit"]
    note: str | None = None


class Extensions(Table, frozen=True, kw_only=True):
    """Packages with code compiled against torch."""

    fact_name: ClassVar[str] = "torch.extensions"
    extensions: tuple[Extension, ...]

    def by_module(self, module: str) -> Extension | None:
        """The package that a module or one of its compiled modules belongs to."""
        top = module.partition(".")[0]
        for row in self.extensions:
            modules = [pattern.partition("*")[0] for pattern in row.compiled if "/" not in pattern]
            if top == row.module or any(top.startswith(each) for each in modules):
                return row
        return None


class BrokenRelease(Row, frozen=True, kw_only=True):
    """A bug in torch's packages."""

    id: str
    torch: tuple[str, ...]
    cuda: str | None = None
    """Only this build; None: all."""
    platform: Literal["linux", "windows"]
    installers: tuple[str, ...]
    """Only with these; none: with every one."""
    bug: str
    shows: str
    fixed_in: str | None = None
    cure: str


class BrokenReleases(Table, frozen=True, kw_only=True):
    """Releases of torch with a bug in their packages."""

    fact_name: ClassVar[str] = "torch.broken-releases"
    releases: tuple[BrokenRelease, ...]

    def bugs(self, torch: str, platform: str, cuda: str | None = None) -> tuple[BrokenRelease, ...]:
        """The bugs of a release on a platform; `cuda` is the build's, where it is known."""
        key = release_key(torch)
        return tuple(
            row
            for row in self.releases
            if row.platform == platform
            and any(release_key(each) == key for each in row.torch)
            and (row.cuda is None or row.cuda == cuda)
        )


class PackageIndex(Row, frozen=True, kw_only=True):
    """A package index of download.pytorch.org."""

    index: str
    url: str
    cuda: str | None = None
    """None: the builds for the CPU."""
    torch: tuple[str, ...]
    """Minor releases that it has."""
    complete: bool
    """False: it may have others, too."""


class PackageIndexes(Table, frozen=True, kw_only=True):
    """The package indexes of download.pytorch.org."""

    fact_name: ClassVar[str] = "torch.package-indexes"
    indexes: tuple[PackageIndex, ...]

    def index(self, name: str) -> PackageIndex | None:
        """The index of a name such as ``cu126``."""
        return next((row for row in self.indexes if row.index == name), None)

    def having(self, torch: str) -> tuple[PackageIndex, ...]:
        """The CUDA indexes that have a release, oldest CUDA first."""
        return tuple(
            row for row in self.indexes if row.cuda and any(same_minor(each, torch) for each in row.torch)
        )


class AllocOption(Row, frozen=True, kw_only=True):
    """An option of the CUDA allocator's settings."""

    option: str
    kind: Literal["bool", "int", "float", "enum", "string", "map"]
    allowed: tuple[str, ...] = ()
    known_in: tuple[str, ...]
    absent_in: tuple[str, ...] = ()


class AllocVariable(Row, frozen=True, kw_only=True):
    """A variable that holds the CUDA allocator's settings."""

    name: str
    known_in: tuple[str, ...]
    absent_in: tuple[str, ...] = ()


class AllocConf(Table, frozen=True, kw_only=True):
    """The CUDA allocator's settings."""

    fact_name: ClassVar[str] = "torch.alloc-conf"
    options: tuple[AllocOption, ...]
    variables: tuple[AllocVariable, ...]

    def option(self, name: str) -> AllocOption | None:
        """The row of an option; None: misspelt, or newer than the table."""
        return next((row for row in self.options if row.option == name), None)


def same_minor(one: str, other: str) -> bool:
    """Whether two versions of torch belong to one minor release."""
    return major_minor(one) == major_minor(other)


def torch_releases() -> TorchReleases:
    """PyTorch releases and the CUDA builds of each."""
    return load(__package__, "releases", TorchReleases)


def arch_lists() -> ArchLists:
    """The architectures in PyTorch's binaries."""
    return load(__package__, "arch_lists", ArchLists)


def companions() -> Companions:
    """torch and its sister packages."""
    return load(__package__, "companions", Companions)


def wheel_pins() -> WheelPins:
    """The NVIDIA wheels that torch pins."""
    return load(__package__, "wheel_pins", WheelPins)


def extensions() -> Extensions:
    """Packages with code compiled against torch."""
    return load(__package__, "extensions", Extensions)


def broken_releases() -> BrokenReleases:
    """Releases of torch with a bug in their packages."""
    return load(__package__, "broken_releases", BrokenReleases)


def package_indexes() -> PackageIndexes:
    """The package indexes of download.pytorch.org."""
    return load(__package__, "indexes", PackageIndexes)


def alloc_conf() -> AllocConf:
    """The CUDA allocator's settings."""
    return load(__package__, "alloc_conf", AllocConf)
