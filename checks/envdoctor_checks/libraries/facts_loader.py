"""How the loader of the examined interpreter resolves names: its settings, the files it would meet, what comes of it."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from envdoctor.api import Fact
from envdoctor.loader.lookups import Lookup
from envdoctor.loader.recorded import TreeRecord
from envdoctor.loader.settings import LoaderSettings


class LoaderSetup(Fact, frozen=True):
    """What the interpreter's loader goes by, in its own words (``ld.so --list-diagnostics``) and the environment's."""

    fact_name: ClassVar[str] = "libraries.loader-setup"
    loader: str
    """The loader's file, as the interpreter names it."""
    ctypes: str | None
    """The extension module whose code opens libraries for ctypes; None where it is built into the interpreter."""
    settings: LoaderSettings


class Preload(msgspec.Struct, frozen=True):
    """One library that torch's own start-up code opens by its path."""

    pattern: str
    """As torch has it: ``libcublas.so.*[0-9]``."""
    path: str | None
    """The first file on sys.path that fits; None where there is none, at which torch gives up."""


class TorchLoading(Fact, frozen=True):
    """What ``import torch`` opens, in order, as the installed package's ``__init__.py`` has it."""

    fact_name: ClassVar[str] = "libraries.torch-loading"
    dependencies: str
    """``torch/lib/libtorch_global_deps.so``, which is opened first."""
    needs_in_maps: str
    """What /proc/self/maps must hold after that for the preloads to happen."""
    after_success: tuple[Preload, ...]
    """Opened next; the first that is missing ends it, silently."""
    after_failure: tuple[Preload, ...]
    """Opened when the first failed for want of one of them, before it is tried again."""
    extension: str
    """``torch/_C.cpython-311-x86_64-linux-gnu.so``."""

    def after_failure_stems(self) -> tuple[str, ...]:
        """The libraries whose names in an error make torch preload them: ``libcublas``."""
        return tuple(each.pattern.partition(".")[0] for each in self.after_failure)


class LoaderTree(Fact, frozen=True):
    """Every file and directory that the loader would look at for the questions that were asked, and what is there."""

    fact_name: ClassVar[str] = "libraries.loader-tree"
    record: TreeRecord


class Opened(msgspec.Struct, frozen=True, omit_defaults=True):
    """What would come of opening one file or name after ``import torch``."""

    name: str
    failure: str | None = None
    """The loader's words; None where it works."""
    path: str = ""
    """The file that it would be."""


class Scenario(msgspec.Struct, frozen=True):
    """What the loader would do, as things are or with something changed. A model's answer: it was not tried."""

    dropped: tuple[str, ...]
    """The elements of LD_LIBRARY_PATH that are left out; none: as it is."""
    failure: str | None
    """Why ``import torch`` would fail, in the loader's words; None where the loader has no reason to."""
    lookups: tuple[Lookup, ...]
    """Of watched libraries, and those that fail."""
    extensions: tuple[Opened, ...] = ()
    """Compiled extensions of other packages, after torch."""
    by_name: tuple[Opened, ...] = ()
    """The driver's libraries, as programs without torch ask for them through ctypes; only where something is left out."""

    def found(self, name: str) -> str | None:
        """The file that torch's process has for a name; None where nothing asked for it or it was not found."""
        return next((each.found for each in self.lookups if each.name == name and each.found), None)

    def extension(self, path: str) -> Opened | None:
        """What would become of one extension."""
        return next((each for each in self.extensions if each.name == path), None)


class LibraryOpened(Fact, frozen=True):
    """What the real loader did when a process of its own was told to open the library that was asked about."""

    fact_name: ClassVar[str] = "libraries.library-opened"
    name: str
    path: str | None
    """The file, as the loader names it."""
    failure: str | None
    """Its words, or how the process ended."""


class LoaderPredictions(Fact, frozen=True):
    """What a model of the loader says of ``import torch``, as things are and without parts of LD_LIBRARY_PATH."""

    fact_name: ClassVar[str] = "libraries.loader-predictions"
    scenarios: tuple[Scenario, ...]
    """The first is as things are."""
    by_name: tuple[Opened, ...]
    """Names that a program without torch would ask for through ctypes, as things are."""

    @property
    def actual(self) -> Scenario:
        """As things are."""
        return self.scenarios[0]

    def without(self, dropped: frozenset[str]) -> Scenario | None:
        """The scenario in which these elements of LD_LIBRARY_PATH are left out, where it was asked."""
        return next((each for each in self.scenarios[1:] if frozenset(each.dropped) == dropped), None)
