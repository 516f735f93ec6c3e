"""What is known of the libraries that a CUDA program loads, and what the loader says of them."""

from __future__ import annotations

from typing import ClassVar

from envdoctor.api import Symptom


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
