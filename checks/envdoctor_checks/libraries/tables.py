"""What the libraries check judges by: which package owns which library of the CUDA family."""

import re
from typing import ClassVar

from envdoctor.tables import Row, Table, compare_releases, load


class WheelLibrary(Row, frozen=True, kw_only=True):
    """One library in one CUDA major."""

    library: str
    """The start of the file name, such as ``libcublasLt``."""
    family: str
    """Libraries of one family must come from one install."""
    cuda_major: int
    soname: str
    """``{}`` stands for the CUDA release's minor."""
    distribution: str
    """The package on PyPI that brings it."""
    folder: str
    """Where it lies inside site-packages."""
    conda: str
    apt: str
    """``*`` stands for the release."""


class OldFolder(Row, frozen=True, kw_only=True):
    """Where older wheels of a distribution put their libraries."""

    distribution: str
    folder: str


class WheelLibraries(Table, frozen=True, kw_only=True):
    """The libraries of the CUDA family and who owns them."""

    fact_name: ClassVar[str] = "libraries.wheel-libraries"
    libraries: tuple[WheelLibrary, ...]
    old_folders: tuple[OldFolder, ...]

    def owners(self, soname: str) -> tuple[WheelLibrary, ...]:
        """Every row whose SONAME is that file name (``libcufft.so.11`` is CUDA 12's). Empty: not of CUDA's.

        A full file name (``libcudart.so.12.8.90``) is found by the SONAME that it begins with.
        """
        stem = soname.partition(".so.")[0]
        rows = [row for row in self.libraries if row.library == stem]
        exact = [row for row in rows if re.fullmatch(_pattern(row.soname), soname)]
        return tuple(exact or [row for row in rows if re.match(_pattern(row.soname) + r"\.", soname)])

    def library(self, stem: str, cuda_major: int) -> WheelLibrary | None:
        """The newest row of a library (``libcudnn``) in a CUDA major."""
        rows = [row for row in self.libraries if row.library == stem and row.cuda_major == cuda_major]
        return rows[-1] if rows else None

    def of_distribution(self, distribution: str) -> tuple[WheelLibrary, ...]:
        """The libraries that a package on PyPI brings."""
        return tuple(row for row in self.libraries if row.distribution == distribution)


def _pattern(soname: str) -> str:
    return re.escape(soname).replace(r"\{\}", r"\d+")


def wheel_libraries() -> WheelLibraries:
    """The libraries of the CUDA family and who owns them."""
    return load(__package__, "wheels", WheelLibraries)


class LibstdcxxVersion(Row, frozen=True, kw_only=True):
    """A version in libstdc++ and the first GCC that has it."""

    symbol: str
    """``GLIBCXX_3.4.30`` or ``CXXABI_1.3.13``."""
    gcc: str


class SystemGlibc(Row, frozen=True, kw_only=True):
    """A base system and its glibc."""

    system: str
    glibc: str


class Runtimes(Table, frozen=True, kw_only=True):
    """What brings which libstdc++ and glibc."""

    fact_name: ClassVar[str] = "libraries.runtimes"
    libstdcxx: tuple[LibstdcxxVersion, ...]
    systems: tuple[SystemGlibc, ...]
    """Oldest glibc first."""

    def gcc_for(self, symbol: str) -> str | None:
        """The first GCC whose libstdc++ has a version; None for one that the table does not know."""
        return next((row.gcc for row in self.libstdcxx if row.symbol == symbol), None)

    def systems_for(self, glibc: str) -> tuple[SystemGlibc, ...]:
        """The systems whose glibc is at least this one, the oldest first."""
        return tuple(row for row in self.systems if compare_releases(row.glibc, glibc) >= 0)


class CudnnUser(Row, frozen=True, kw_only=True):
    """A package and the first of its releases that looks for cuDNN 9."""

    distribution: str
    module: str
    cudnn9_from: str

    def major(self, version: str) -> int:
        """The cuDNN major that a release looks for."""
        return 9 if compare_releases(version, self.cudnn9_from) >= 0 else 8


class Through(Row, frozen=True, kw_only=True):
    """A package that uses another one of the table."""

    distribution: str
    user: str


class CudnnUsers(Table, frozen=True, kw_only=True):
    """Packages that look for cuDNN by its name."""

    fact_name: ClassVar[str] = "libraries.cudnn-users"
    users: tuple[CudnnUser, ...]
    through: tuple[Through, ...]

    def of(self, distribution: str) -> CudnnUser | None:
        """The row of a package, or of what it uses."""
        name = next((row.user for row in self.through if row.distribution == distribution), distribution)
        return next((row for row in self.users if row.distribution == name), None)


def runtimes() -> Runtimes:
    """What brings which libstdc++ and glibc."""
    return load(__package__, "runtimes", Runtimes)


def cudnn_users() -> CudnnUsers:
    """Packages that look for cuDNN by its name."""
    return load(__package__, "cudnn_users", CudnnUsers)
