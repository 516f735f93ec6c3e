"""The system's own libraries: glibc, libstdc++, libGL, MKL and OpenMP."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import (
    Change,
    Confidence,
    DropPathEntry,
    Finding,
    Findings,
    Install,
    InstallSystem,
    Outcome,
    Platform,
    Reach,
    Remedy,
    Run,
    Variables,
    imports,
    library,
)
from envdoctor.text.late import Late
from envdoctor_checks.libraries.advice import VARIABLE
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.clues import Entries, entries_of, normal
from envdoctor_checks.libraries.facts import LibraryNotFound, SearchPath, VersionNotFound
from envdoctor_checks.libraries.facts_loader import LoaderPredictions
from envdoctor_checks.libraries.owners import failed
from envdoctor_checks.libraries.tables import Runtimes
from envdoctor_checks.libraries.what_if import proven

IN_CONDA = Late(r"(?P<prefix>/\S*?(?:conda|mamba|miniforge)[^/]*(?:/envs/[^/]+|/[^/]+)?)/lib/")
GL = {
    "libGL.so.1": ("libgl1", "mesa-libGL"),
    "libgthread-2.0.so.0": ("libglib2.0-0", "glib2"),
    "libglib-2.0.so.0": ("libglib2.0-0", "glib2"),
    "libSM.so.6": ("libsm6", "libSM"),
    "libXext.so.6": ("libxext6", "libXext"),
    "libXrender.so.1": ("libxrender1", "libXrender"),
}
"""What opencv's build with windows needs, with the packages of apt and dnf."""


@check.rule
def glibc_too_old(said: VersionNotFound, table: Runtimes, platform: Platform | None) -> Findings:
    """A binary needs a newer glibc than the system's."""
    yield from needing_glibc(said, table, platform)


def needing_glibc(said: VersionNotFound, table: Runtimes, platform: Platform | None) -> Findings:
    """What the loader's words about a version of glibc mean."""
    needed = re.fullmatch(r"GLIBC_(\d+\.\d+)", said.version)
    if needed is None or (said.wanted_by or "").startswith("/.singularity.d/"):
        return  # the host's driver in an older image: container/apptainer-host-libs-newer
    have = f", this system has {platform.libc_version}" if platform and platform.libc_version else ""
    whose = (said.wanted_by or "a binary").rpartition("/")[2]
    systems = ", ".join(row.system for row in table.systems_for(needed[1])[:3])
    yield Finding(
        title=f"{whose} needs glibc {needed[1]}{have}",
        subject="library:libc.so.6",
        detail="Binaries run with the glibc that they were built against and with newer ones, never with older ones. "
        f"glibc cannot be replaced below a running system; systems that have {needed[1]}: {systems or 'newer ones only'}.",
        evidence=(
            said.evidence(),
            *(
                (platform.shows("glibc", platform.libc_version),)
                if platform and platform.libc_version
                else ()
            ),
        ),
        remedies=(*_older_binary(said, needed[1]), _newer_system(systems, needed[1])),
        breaks=(library("libc.so.6"), *failed(said.quote, "libc.so.6")),
        shows=(library("libc.so.6"), *failed(said.quote, "libc.so.6")),
    )


def _older_binary(said: VersionNotFound, glibc: str) -> Iterator[Remedy]:
    package = re.search(r"(?:site|dist)-packages/([A-Za-z]\w*)", said.wanted_by or "")
    if package is not None:
        yield Run(
            f"install a release of {package[1]} that was built for this glibc, or build it here",
            (f"python -m pip install --force-reinstall --no-binary {package[1]} {package[1]}",),
            Reach.ENVIRONMENT,
        )


def _newer_system(systems: str, glibc: str) -> Change:
    return Change(
        f"run it on a system or in a container image with glibc >= {glibc} ({systems or 'a newer base image'}), or in a conda"
        " environment whose packages are built for older systems",
        Reach.CONTAINER,
    )


@check.rule
def libstdcxx_too_old(
    said: VersionNotFound,
    table: Runtimes,
    variables: Variables | None,
    path: SearchPath | None,
    predicted: LoaderPredictions | None,
) -> Findings:
    """The libstdc++ that is found lacks a version that a binary needs."""
    left_out = proven(predicted, "libstdc++.so.6", said, said.library)
    yield from lacking_version(said, table, entries_of(variables, path), left_out)


def lacking_version(
    said: VersionNotFound, table: Runtimes, entries: Entries, left_out: tuple[str, ...] | None
) -> Findings:
    """What the loader's words about a version of libstdc++ mean."""
    if not said.version.startswith(("GLIBCXX_", "CXXABI_")):
        return
    gcc = table.gcc_for(said.version)
    entry = entries.supplying(said.library) if "/" in said.library else None
    whose = (said.wanted_by or "a binary").rpartition("/")[2]
    yield Finding(
        title=f"{said.library} lacks {said.version}, which {whose} needs"
        + (
            f": LD_LIBRARY_PATH puts {entry} first"
            if entry
            else f": it is older than GCC {gcc}"
            if gcc
            else ""
        ),
        subject="library:libstdc++.so.6",
        detail=f"{said.library} was found first. "
        + (f"{said.version} came with GCC {gcc}. " if gcc else "")
        + "libstdc++ is compatible with older programs, so the newest one on the machine serves all; conda "
        "environments bring their own, which must come before the system's.",
        evidence=(said.evidence(), *((entries.evidence(),) if entries.entries else ())),
        remedies=tuple(_newer_libstdcxx(said, entry, gcc, left_out)),
        breaks=(library("libstdc++.so.6"), *failed(said.quote, "libstdc++.so.6")),
        shows=(library("libstdc++.so.6"), *failed(said.quote, "libstdc++.so.6")),
    )


@libstdcxx_too_old.sign
def _no_libstdcxx(said: LibraryNotFound) -> Findings:
    """None at all: a minimal image, or a system that keeps its libraries elsewhere (NixOS)."""
    if said.library != "libstdc++.so.6":
        return
    yield Finding(
        title="libstdc++.so.6 is not installed, or not where the loader looks",
        subject="library:libstdc++.so.6",
        confidence=Confidence.LIKELY,
        detail="Every program in C++ needs it. Minimal images leave it out; NixOS and Guix keep it in their stores, "
        "where only their own programs look.",
        evidence=(said.evidence(),),
        remedies=(
            InstallSystem("libstdcxx", why="it brings libstdc++.so.6"),
            Change(
                "on NixOS, run Python through nix-ld or an FHS environment, or put the library's folder on LD_LIBRARY_PATH",
                Reach.ENVIRONMENT,
                example=('export LD_LIBRARY_PATH="$(dirname "$(gcc -print-file-name=libstdc++.so.6)")"',),
            ),
        ),
        breaks=(library("libstdc++.so.6"), *failed(said.quote, "libstdc++.so.6")),
        shows=(library("libstdc++.so.6"), *failed(said.quote, "libstdc++.so.6")),
    )


def _newer_libstdcxx(
    said: VersionNotFound, entry: str | None, gcc: str | None, left_out: tuple[str, ...] | None
) -> Iterator[Remedy]:
    drop = ((entry,) if entry is not None else ()) if left_out is None else left_out
    for each in drop:
        why = "the environment's or the program's own libstdc++ is then found"
        yield DropPathEntry(VARIABLE, each, why=why)
    conda = IN_CONDA.search(normal(said.wanted_by or "")) or IN_CONDA.search(said.quote)
    floor = f">={gcc}" if gcc else ""
    if conda is not None:
        prefix = conda["prefix"]
        yield Run(
            "put the conda environment's own libstdc++ first",
            (f"export LD_LIBRARY_PATH={prefix}/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}",),
            Reach.SHELL,
            needs_restart="process",
        )
        yield Run(
            "bring the environment's libstdc++ up to date",
            (f"conda install -p {prefix} -c conda-forge 'libstdcxx-ng{floor}'",),
            Reach.ENVIRONMENT,
        )
        return
    yield InstallSystem(
        "libstdcxx",
        why="a newer one, where the system's repositories have it",
        caveat=f"On an old release of the system a newer base image, or a conda environment with libstdcxx-ng{floor}, is the way.",
    )


@check.rule
def libgl_missing(said: LibraryNotFound) -> Findings:
    """libGL.so.1 or a window library that opencv's desktop build needs is not installed."""
    packages = GL.get(said.library)
    opencv = "cv2" in said.quote or said.wanted_by is None
    if packages is None:
        return
    apt, dnf = packages
    remedies: tuple[Remedy, ...] = (
        Install(
            ("opencv-python-headless",),
            reinstall=True,
            why="the build without windows needs none of these libraries",
            caveat="Uninstall opencv-python and opencv-contrib-python first: all own the folder cv2.",
        ),
    )
    system: Remedy = InstallSystem("libgl", why="it brings libGL.so.1")
    if said.library != "libGL.so.1":
        system = Run(
            f"install the system's package that brings {said.library}",
            (f"apt-get install -y {apt}", f"dnf install -y {dnf}"),
            Reach.CONTAINER,
            needs_root=True,
        )
    yield Finding(
        title=f"{said.library} is not installed" + (": opencv's desktop build needs it" if opencv else ""),
        subject=f"library:{said.library}",
        confidence=Confidence.CERTAIN if said.library == "libGL.so.1" else Confidence.LIKELY,
        detail="opencv-python draws windows and links to the libraries of a desktop. Slim images and servers have "
        "none; the headless build of opencv does without.",
        evidence=(said.evidence(),),
        remedies=(*remedies, system),
        breaks=(library(said.library), imports("cv2"), Outcome("import")),
        shows=(library(said.library), Outcome("import")),
    )
