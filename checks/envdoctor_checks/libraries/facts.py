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
    state: Literal["directory", "missing", "file", "empty", "unreadable"] | None = None
    """None where only a text shows the element, and not what is there."""


class SearchPath(Fact, frozen=True):
    """LD_LIBRARY_PATH, element by element. No elements when it is not set."""

    fact_name: ClassVar[str] = "libraries.search-path"
    entries: tuple[SearchEntry, ...]

    def joined(self, later: SearchPath) -> SearchPath:
        """What two places of a text show, together."""
        known = {each.entry for each in self.entries}
        new = tuple(each for each in later.entries if each.entry not in known)
        return SearchPath(entries=self.entries + new, source=self.source)


class CurrentDirectory(Fact, frozen=True):
    """The watched libraries that lie in the current directory, which an empty element of a path makes loadable."""

    fact_name: ClassVar[str] = "libraries.current-directory"
    path: str
    names: tuple[str, ...]


class WheelFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One library that a wheel's RECORD lists."""

    path: str
    distribution: str
    """Normalised name of the wheel."""
    version: str
    problem: Literal["missing", "empty", "truncated", "not-elf", "wrong-machine"] | None = None
    """None: it is there, and as large as RECORD says (or larger parts of it can be read than the loader needs)."""
    size: int | None = None
    """Bytes it has, where that is not what RECORD says."""
    recorded: int | None = None
    """Bytes it should have."""


class WheelFiles(Fact, frozen=True):
    """The libraries that NVIDIA's wheels brought, by their RECORDs, and whether each is still there and whole."""

    fact_name: ClassVar[str] = "libraries.wheel-files"
    files: tuple[WheelFile, ...]

    def owner(self, path: str) -> WheelFile | None:
        """The wheel's entry for one path; the last one where two wheels claim it."""
        return next((each for each in reversed(self.files) if each.path == path), None)


class RunPath(msgspec.Struct, frozen=True):
    """What one library of the environment tells the loader about where its needs lie."""

    path: str
    rpath: str | None
    runpath: str | None


class RunPaths(Fact, frozen=True):
    """DT_RPATH and DT_RUNPATH of torch's own libraries and of the CUDA libraries that its wheels brought."""

    fact_name: ClassVar[str] = "libraries.run-paths"
    libraries: tuple[RunPath, ...]


class SystemPackage(msgspec.Struct, frozen=True):
    """One package of the operating system."""

    name: str
    version: str


class SystemPackages(Fact, frozen=True):
    """Packages of the operating system that hold CUDA libraries, as far as a text lists them."""

    fact_name: ClassVar[str] = "libraries.system-packages"
    packages: tuple[SystemPackage, ...]

    def joined(self, later: SystemPackages) -> SystemPackages:
        """Two lists of one text, together."""
        names = {each.name for each in later.packages}
        kept = tuple(each for each in self.packages if each.name not in names)
        return SystemPackages(packages=(*kept, *later.packages), source=self.source)


class LibrarySeen(Symptom, frozen=True):
    """A text shows a watched library's file."""

    symptom_name: ClassVar[str] = "libraries.seen"
    path: str
    """As printed; the folder is taken from the command that listed it, where it has one."""
    how: Literal["mapped", "resolved", "cached", "listed"]
    """A process has it; ldd found it; ldconfig's cache names it; it is on disk."""
    wanted_by: str | None = None
    """The file that ldd was asked about."""
    target: str | None = None
    """What it links to, as printed."""


class FileGone(Symptom, frozen=True):
    """A program says that a library's file is not there: ``ls: cannot access '...'``."""

    symptom_name: ClassVar[str] = "libraries.file-gone"
    path: str


class RunPathSeen(Symptom, frozen=True):
    """A line of ``readelf -d`` with a run path."""

    symptom_name: ClassVar[str] = "libraries.run-path-seen"
    tag: Literal["rpath", "runpath"]
    value: str


class StaleLine(msgspec.Struct, frozen=True):
    """One line of ld.so.cache whose file is gone."""

    name: str
    path: str


class StaleCacheLines(Fact, frozen=True):
    """Lines of ``/etc/ld.so.cache`` for watched libraries that name a file which is not there."""

    fact_name: ClassVar[str] = "libraries.stale-cache-lines"
    lines: tuple[StaleLine, ...]


class SubLibraryMismatch(Symptom, frozen=True):
    """A program says that a library's release is not the one it was built for, or its parts do not belong together.

    ``CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH``, torch's and JAX's comparison of releases.
    """

    symptom_name: ClassVar[str] = "libraries.sublibrary-mismatch"
    library: str = "libcudnn"
    """The stem of the library."""
    compiled: str | None = None
    """The release that the program was built with, ``9.8.0``, where the message tells."""
    found: str | None = None
    """The one that was loaded."""
    blames_search_path: bool = False
    """Whether the program itself saw LD_LIBRARY_PATH supply the wrong one."""


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
    """A program's own words for a CUDA library that it could not load, without the loader's reason."""

    symptom_name: ClassVar[str] = "libraries.not-loadable"
    library: str
    """A SONAME, a DLL, or a stem where the program gives only a name such as ``cuSPARSE``."""
    program: str | None = None
    """Who says so: ``jax``, ``ctranslate2``, ``bitsandbytes``, ``cudnn``, ``tensorflow``."""


class StaticTlsExhausted(Symptom, frozen=True):
    """``libgomp.so.1: cannot allocate memory in static TLS block``."""

    symptom_name: ClassVar[str] = "libraries.static-tls-exhausted"
    path: str


class WrongMkl(Symptom, frozen=True):
    """MKL or an OpenMP runtime that does not fit."""

    symptom_name: ClassVar[str] = "libraries.wrong-mkl"
    problem: Literal["profiler-hook", "threading-layer", "kernels-missing", "openmp-twice", "symbol"]
    """MKL without ``iJIT_*``; Intel's threading beside GNU's; MKL's own parts missing; two runtimes; other symbols."""
    name: str = ""
    """The symbol or the library."""
