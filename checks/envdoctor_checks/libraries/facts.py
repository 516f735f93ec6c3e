"""What is known of the libraries that a CUDA program loads, and what the loader says of them."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from envdoctor.api import Fact, Symptom


class LibraryNotFound(Symptom, frozen=True):
    """``libX.so.N: cannot open shared object file: No such file or directory``, in any of its wordings."""

    symptom_name: ClassVar[str] = "libraries.library-not-found"
    library: str
    """The SONAME that was looked for."""
    wanted_by: str | None = None
    """The file or program that needed it, where the message tells."""


class UndefinedSymbol(Symptom, frozen=True):
    """``libY.so: undefined symbol: S, version V``."""

    symptom_name: ClassVar[str] = "libraries.undefined-symbol"
    symbol: str
    wanted_by: str | None = None
    version: str | None = None
    """The version, which names the library that should have had it: ``libcudart.so.12``."""


class VersionNotFound(Symptom, frozen=True):
    """``libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by ...)``."""

    symptom_name: ClassVar[str] = "libraries.version-not-found"
    library: str
    """The file that lacks it, as printed."""
    version: str
    wanted_by: str | None = None


class BadLibraryFile(Symptom, frozen=True):
    """A file that the loader found and could not use: too short, invalid ELF header, wrong ELF class, file data."""

    symptom_name: ClassVar[str] = "libraries.bad-library-file"
    path: str
    problem: str
    """The loader's words: ``file too short``, ``invalid ELF header`` ..."""


class LoadedFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One library that is mapped into a process."""

    path: str
    """As the kernel names it in /proc/self/maps: links resolved."""
    library: str
    """Its stem: ``libcudart``, ``libcudnn_ops``."""
    owner: str | None = None
    """The distribution whose folder holds it, ``nvidia-cuda-runtime-cu12``; None outside site-packages."""


class LoadedLibraries(Fact, frozen=True):
    """The libraries of the CUDA family, libstdc++ and libgomp that are mapped after ``import torch``. The truth."""

    fact_name: ClassVar[str] = "libraries.loaded"
    files: tuple[LoadedFile, ...]

    def of(self, library: str) -> tuple[LoadedFile, ...]:
        """Every mapped file of one stem."""
        return tuple(each for each in self.files if each.library == library)


class Lookup(msgspec.Struct, frozen=True, omit_defaults=True):
    """One search of the loader, in its own words (LD_DEBUG=libs,files)."""

    name: str
    """What was asked for: a SONAME."""
    wanted_by: str | None
    found: str | None
    """The file it took; None when the search failed."""
    rule: str | None = None
    """What supplied it: ``rpath``, ``ld-library-path``, ``runpath``, ``cache``, ``default``."""
    tried: tuple[str, ...] = ()
    """Files that were tried before, in order."""


class LoaderTrace(Fact, frozen=True):
    """The loader's searches for libraries of the CUDA family while torch was imported."""

    fact_name: ClassVar[str] = "libraries.loader-trace"
    lookups: tuple[Lookup, ...]

    def of(self, name: str) -> tuple[Lookup, ...]:
        """The searches for one SONAME."""
        return tuple(each for each in self.lookups if each.name == name)


class LibraryCopy(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of a watched library on the machine."""

    library: str
    """Its stem, ``libcudart``."""
    name: str
    """The file's name, ``libcudart.so.12``."""
    path: str
    file: str | None
    """The file behind links; None when the link dangles."""
    place: Literal["wheel", "conda", "toolkit", "system", "ld-library-path"]
    owner: str | None = None
    """For a wheel: the distribution whose folder holds it."""
    problem: str | None = None
    """Why the loader could not use it: ``empty``, ``too-short``, ``not-elf``, ``wrong-machine``; None when it can."""


class LibraryCopies(Fact, frozen=True):
    """Every copy of the watched libraries in the places where wheels, conda, toolkits and distributions put them."""

    fact_name: ClassVar[str] = "libraries.copies"
    copies: tuple[LibraryCopy, ...]

    def of(self, library: str) -> tuple[LibraryCopy, ...]:
        """The copies of one stem."""
        return tuple(each for each in self.copies if each.library == library)


class SearchEntry(msgspec.Struct, frozen=True):
    """One element of LD_LIBRARY_PATH."""

    entry: str
    """As written; empty for an empty element, which the loader reads as the current directory."""
    state: Literal["directory", "missing", "file", "empty", "unreadable"]


class SearchPath(Fact, frozen=True):
    """LD_LIBRARY_PATH, element by element. No elements when it is not set."""

    fact_name: ClassVar[str] = "libraries.search-path"
    entries: tuple[SearchEntry, ...]


class StaleLine(msgspec.Struct, frozen=True):
    """One line of ld.so.cache whose file is gone."""

    name: str
    path: str


class StaleCacheLines(Fact, frozen=True):
    """Lines of ``/etc/ld.so.cache`` for watched libraries that name a file which is not there."""

    fact_name: ClassVar[str] = "libraries.stale-cache-lines"
    lines: tuple[StaleLine, ...]


class SubLibraryMismatch(Symptom, frozen=True):
    """cuDNN says that its own parts are of different releases (CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH and kin)."""

    symptom_name: ClassVar[str] = "libraries.sublibrary-mismatch"
    compiled: str | None = None
    """The cuDNN that the program was built with, ``9.8.0``, where the message tells."""
    found: str | None = None
    """The one that was loaded."""


class NoEngine(Symptom, frozen=True):
    """cuDNN could not find an engine for an operation: an old copy of it, or a workload it cannot do."""

    symptom_name: ClassVar[str] = "libraries.no-engine"


class BuiltinsNotOpened(Symptom, frozen=True):
    """``nvrtc: error: failed to open libnvrtc-builtins.so.X``."""

    symptom_name: ClassVar[str] = "libraries.builtins-not-opened"
    library: str


class NvrtcArchUnknown(Symptom, frozen=True):
    """``nvrtc: error: invalid value for --gpu-architecture (-arch)``."""

    symptom_name: ClassVar[str] = "libraries.nvrtc-arch-unknown"


class LibraryNotLoadable(Symptom, frozen=True):
    """A program's own words for a CUDA library that it could not load or find: jax, tensorflow, onnxruntime, bitsandbytes."""

    symptom_name: ClassVar[str] = "libraries.not-loadable"
    library: str
    """What it calls it: a SONAME, or a name such as ``cuSPARSE``."""


class WrongMkl(Symptom, frozen=True):
    """MKL or an OpenMP runtime that does not fit: ``iJIT_NotifyEvent``, ``libmkl_intel_thread``, ``OMP: Error #15``."""

    symptom_name: ClassVar[str] = "libraries.wrong-mkl"
    problem: str
