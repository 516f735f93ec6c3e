"""What the facts and a text together say of library files: which copies there are, and which LD_LIBRARY_PATH supplies."""

from __future__ import annotations

import re

import msgspec

from envdoctor.api import Evidence, Fact, Source, Variables
from envdoctor.text.late import Late
from envdoctor_checks.libraries.facts import LibraryCopies, LibrarySeen, LoadedLibraries, SearchPath
from envdoctor_checks.libraries.names import family_of, file_version, soname_major, stem_of

TARGETS = Late(r"/targets/[\w-]+/lib(?=/|$)")
CUDA_FOLDER = Late(r"(?i)cuda|cudnn|nccl|cublas|cutensor|tensorrt|nvjitlink|hpc_sdk|nvhpc")
DRIVER_FOLDER = Late(
    r"^/usr/local/nvidia/lib(?:64)?$|^/usr/lib/wsl/lib|^/\.singularity\.d/libs|/stubs$|/compat$|lib64-nvidia$"
)
WHEEL = Late(r"(?P<site>.*/(?:site|dist)-packages)/(?:nvidia/|torch/lib|[\w.-]+\.libs/|cusparselt/|\w+/)")
TOOLKIT = Late(r"(?i)^(?P<root>.*?/(?:cuda|cudnn|nccl|cudatoolkit)[\w.-]*(?:/\d[\w.-]*)?)(?:/|$)")


class Copy(msgspec.Struct, frozen=True):
    """One file of a watched library, and how it is known."""

    path: str
    """Normalised: without ``..``, a toolkit's ``targets/<triple>/lib`` as ``lib64``."""
    file: str
    """The name behind a link where that is known, else the path's own."""
    mapped: bool
    """Whether a process really has it."""
    evidence: Evidence | None = None

    @property
    def library(self) -> str:
        """Its stem."""
        return stem_of(self.path) or ""

    @property
    def folder(self) -> str:
        """The folder that holds it."""
        return self.path.rpartition("/")[0]

    @property
    def version(self) -> str | None:
        """The release in the file's name, ``9.10.2``."""
        return file_version(self.file)

    @property
    def install(self) -> str:
        """What it was installed with: a site-packages, a toolkit's root, else its folder."""
        return install_of(self.path)


def normal(path: str) -> str:
    """A path without ``..`` and ``//``, with a toolkit's real folder under the name that people use for it."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] not in ("", ".."):
            parts.pop()
        elif part not in ("", ".") or not parts:
            parts.append(part)
    return TARGETS.sub("/lib64", "/".join(parts)) or "/"


def install_of(path: str) -> str:
    """Two files of one install have the same: site-packages for wheels, the root of a toolkit, else the folder."""
    path = normal(path)
    wheel = WHEEL.match(path)
    if wheel:
        return wheel["site"]
    toolkit = TOOLKIT.match(path.rpartition("/")[0])
    return toolkit["root"] if toolkit else path.rpartition("/")[0]


def in_wheel(path: str) -> bool:
    """Whether a file lies in site-packages, as what pip installs does."""
    return WHEEL.match(normal(path)) is not None


def copies_of(
    seen: tuple[LibrarySeen, ...], copies: LibraryCopies | None = None, loaded: LoadedLibraries | None = None
) -> tuple[Copy, ...]:
    """Every file that is known, the mapped ones first."""
    found: dict[str, Copy] = {}
    if loaded is not None:
        for each in loaded.files:
            path = normal(each.path)
            found[path] = Copy(path, each.path, True, loaded.shows("mapped", each.path))
    for one in sorted(seen, key=lambda one: one.how != "mapped"):
        path = normal(one.path)
        if path not in found:
            found[path] = Copy(path, one.target or one.path, one.how == "mapped", one.evidence(one.how))
    if copies is not None:
        for copy in copies.copies:
            if copy.file is not None:
                path = normal(copy.path)
                found.setdefault(path, Copy(path, copy.file, False, copies.shows("on disk", copy.path)))
    return tuple(found.values())


class Entries(msgspec.Struct, frozen=True):
    """The elements of LD_LIBRARY_PATH, as far as they are known."""

    entries: tuple[str, ...]
    known: bool
    """Whether we know the variable at all: no elements then means that it is not set."""
    fact: Fact | None = None

    def supplying(self, path: str) -> str | None:
        """The element whose folder holds a file, by its name: links such as /usr/local/cuda are taken for equal."""
        folder = normal(path).rpartition("/")[0]
        return next((each for each in self.entries if _same_folder(normal(each), folder)), None)

    def of_cuda(self) -> tuple[str, ...]:
        """The elements whose names say that they hold libraries of CUDA's, and not the driver's."""
        return tuple(
            each
            for each in self.entries
            if CUDA_FOLDER.search(each)
            and not DRIVER_FOLDER.search(each.rstrip("/"))
            and not in_wheel(f"{each}/x")
        )

    def evidence(self) -> Evidence:
        """The variable as it is known."""
        source = self.fact.source if self.fact else Source("env", "LD_LIBRARY_PATH")
        return Evidence("LD_LIBRARY_PATH", ":".join(self.entries) or "not set", source)


def entries_of(variables: Variables | None, path: SearchPath | None) -> Entries:
    """LD_LIBRARY_PATH from either fact; the folder-by-folder one is the better known."""
    value = variables.get("LD_LIBRARY_PATH") if variables else None
    if path is not None and (path.entries or value is None):
        return Entries(tuple(each.entry for each in path.entries if each.entry), True, path)
    if value is None:
        return Entries((), variables is not None and variables.complete, variables)
    entries = tuple(each for each in re.split("[:;]", value) if each and "$" not in each)
    return Entries(entries, True, variables)


def _same_folder(entry: str, folder: str) -> bool:
    if entry == folder:
        return True
    return re.sub(r"/cuda(?=/)", "/cuda-*", entry, count=1) == re.sub(
        r"/cuda-[\d.]+(?=/)", "/cuda-*", folder, count=1
    )


def same_library(copy: Copy, soname: str) -> bool:
    """Whether a file can stand for a SONAME: its stem, and its major where both have one."""
    if copy.library != stem_of(soname):
        return False
    own, wanted = soname_major(copy.path) or soname_major(copy.file), soname_major(soname)
    return own is None or wanted is None or own == wanted


def of_family(copies: tuple[Copy, ...], stem: str) -> tuple[Copy, ...]:
    """The copies of libraries that must come from one install with this one."""
    return tuple(copy for copy in copies if family_of(copy.library) == family_of(stem))
