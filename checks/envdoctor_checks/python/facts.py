"""What is known of the target interpreter's packages."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from envdoctor.api import Fact, Symptom


class Distribution(msgspec.Struct, frozen=True, omit_defaults=True):
    """One installed distribution, by its ``*.dist-info`` folder (or conda-meta file)."""

    name: str
    """Normalised: lower case, dashes."""
    version: str
    location: str = ""
    """The directory that holds it; empty when only a text speaks of it."""
    installer: str = ""
    """``pip``, ``uv``, ``conda``; empty when not known."""


class Distributions(Fact, frozen=True):
    """Every distribution on the target's path, in path order: the first of a name is the one that is imported."""

    fact_name: ClassVar[str] = "python.distributions"
    distributions: tuple[Distribution, ...]
    complete: bool = True
    """Whether one that is missing here is not installed; False when we only know what a text listed."""

    def joined(self, later: Distributions) -> Distributions:
        """Two lists of one text, together; the later one's versions win."""
        newer = {each.name for each in later.distributions}
        kept = tuple(each for each in self.distributions if each.name not in newer)
        complete = self.complete or later.complete
        return Distributions(
            distributions=(*kept, *later.distributions), complete=complete, source=self.source
        )

    def version(self, name: str) -> str | None:
        """The version that is imported, or None."""
        return next((each.version for each in self.distributions if each.name == name), None)

    def named(self, name: str) -> tuple[Distribution, ...]:
        """Every installation of one name: more than one where several folders on the path hold it."""
        return tuple(each for each in self.distributions if each.name == name)


class CondaPackage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One package that conda installed, of Python or not."""

    name: str
    """As conda names it: ``pytorch``, not ``torch``."""
    version: str
    build: str = ""
    """The build string, which names CUDA and Python: ``py3.11_cuda12.1_cudnn8.9.2_0``."""
    channel: str = ""
    """``pytorch``, ``conda-forge``, ``pkgs/main``; ``pypi`` for what pip put there; empty when not known."""


class CondaPackages(Fact, frozen=True):
    """What conda installed into the target's environment. From ``conda-meta`` or a pasted ``conda list``."""

    fact_name: ClassVar[str] = "python.conda-packages"
    packages: tuple[CondaPackage, ...]
    complete: bool = True
    """Whether one that is missing here is not installed."""

    def joined(self, later: CondaPackages) -> CondaPackages:
        """Two lists of one text, together; the later one's versions win."""
        newer = {each.name for each in later.packages}
        kept = tuple(each for each in self.packages if each.name not in newer)
        complete = self.complete or later.complete
        return CondaPackages(packages=(*kept, *later.packages), complete=complete, source=self.source)

    def package(self, name: str) -> CondaPackage | None:
        """One of them, by conda's name."""
        return next((each for each in self.packages if each.name == name), None)


class OverwrittenFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file that the RECORDs of several distributions list, with different contents."""

    path: str
    owners: tuple[str, ...]
    """Normalised names of the distributions."""
    kept: str | None = None
    """The one whose file it is, by the size in its RECORD; None where neither's fits, or several have that size."""


class OverwrittenFiles(Fact, frozen=True):
    """Files for which two installed distributions answer, among those that are known to share names. By their RECORDs."""

    fact_name: ClassVar[str] = "python.overwritten-files"
    files: tuple[OverwrittenFile, ...]


class PipCommand(Fact, frozen=True):
    """The pip that a shell starts, by its first line: which interpreter it installs into."""

    fact_name: ClassVar[str] = "python.pip-command"
    path: str | None
    """None where no pip is on PATH."""
    python: str | None = None
    """The interpreter in its first line; None where it is no script."""
    same: bool | None = None
    """Whether that is in the target's environment; None where it is not known."""
    has: tuple[str, ...] = ()
    """Of torch and its sister packages, those that this other interpreter has."""


class ActiveEnvironment(Fact, frozen=True):
    """The virtual environment that the shell has activated, by VIRTUAL_ENV."""

    fact_name: ClassVar[str] = "python.active-environment"
    path: str
    exists: bool
    """Whether the folder is there."""
    python: str
    """Where its ``bin/python`` leads, links resolved."""
    python_exists: bool


class Leftovers(Fact, frozen=True):
    """Folders that an interrupted pip left behind: ``~orch``, which it warns of as an invalid distribution."""

    fact_name: ClassVar[str] = "python.leftovers"
    paths: tuple[str, ...]


class RequirementConflict(Symptom, frozen=True):
    """pip says that an installed distribution asks for another version of one that is installed."""

    symptom_name: ClassVar[str] = "python.requirement-conflict"
    package: str
    """Normalised name of the one that asks."""
    version: str
    requirement: str
    """What it asks for, ``torch==2.3.1``."""
    other: str
    """Normalised name of the one that does not fit."""
    found: str | None
    """Its version; None where it is not installed."""


class ModuleNotFound(Symptom, frozen=True):
    """``No module named X``: the interpreter that ran does not have it."""

    symptom_name: ClassVar[str] = "python.module-not-found"
    module: str
    """As written, ``torch`` or ``torch._C``."""


class LeftoverWarned(Symptom, frozen=True):
    """pip warns of a folder that an interrupted uninstallation left: ``~orch``."""

    symptom_name: ClassVar[str] = "python.leftover-warned"
    name: str
    folder: str | None = None


class SeveralOwners(Symptom, frozen=True):
    """A package says that several distributions of it are installed."""

    symptom_name: ClassVar[str] = "python.several-owners"
    module: str
    distributions: tuple[str, ...]


class ProviderMissing(Symptom, frozen=True):
    """ONNX Runtime does not have the execution provider that a program asks for."""

    symptom_name: ClassVar[str] = "python.provider-missing"
    provider: str


class PackageDenied(Symptom, frozen=True):
    """Python or a program was kept from reading an interpreter or its packages."""

    symptom_name: ClassVar[str] = "python.package-denied"
    path: str


class ExternallyManaged(Symptom, frozen=True):
    """pip or uv refuses to install into a Python that the operating system looks after."""

    symptom_name: ClassVar[str] = "python.externally-managed"
    where: str | None = None
    """The prefix, where it is named, as uv does."""


class InterpreterMissing(Symptom, frozen=True):
    """A script's first line, or a link, leads to an interpreter that is not there."""

    symptom_name: ClassVar[str] = "python.interpreter-missing"
    path: str
    """The interpreter; the script where only that is told."""
    is_script: bool = False


def normalised(name: str) -> str:
    """The name of a distribution as the packaging standard compares it: lower case, dashes."""
    parts = name.lower().replace("_", "-").replace(".", "-").split("-")
    return "-".join(part for part in parts if part)
