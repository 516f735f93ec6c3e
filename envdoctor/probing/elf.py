"""What an ELF file says to the dynamic loader, read in a handful of small reads.

Only what the loader itself reads is read (program headers, the dynamic section and what it points to), so a
file stripped of its section headers reads like any other.

A file without a dynamic section (a static executable, a relocatable object, a core, detached debug
information) has nothing to say to the loader and is ``BadElf("no-dynamic-section")``; the loader has the same
words for it. A static PIE has a dynamic section and is an ``Elf`` that needs nothing.

Hostile files cost at most ``READ_LIMIT`` bytes read or decoded, end without recursion, and give a ``BadElf``.
Strings are UTF-8; other bytes are kept as backslash escapes, so every string can be written as JSON.

Sources of the format: the System V ABI's generic ELF chapters ("Object Files", "Program Loading and Dynamic
Linking"), the Linux Standard Base's chapter on symbol versioning, elf(5), and glibc's ``elf/dl-load.c`` and
``elf/dl-lookup.c`` for what is fatal and which definition satisfies a versioned reference.
"""

import os
import stat
from typing import Literal

import msgspec

from envdoctor.probing.elfimage import (
    DT_FLAGS_1,
    DT_RPATH,
    DT_RUNPATH,
    DT_SONAME,
    MAX_STRING,
    PT_INTERP,
    TYPES,
    BadElfError,
    Image,
    ReadAt,
    Reason,
    Source,
)
from envdoctor.probing.elfsymbols import defines_symbol, needs_symbol

__all__ = ["BadElf", "Elf", "ReadAt", "Reason", "defines_symbol", "needs_symbol", "read_elf", "read_elf_file"]

READ_LIMIT = 4 << 20
"""What reading one file may cost: bytes read or decoded, plus a little for each read."""

MACHINES = {
    2: "sparc", 3: "i386", 8: "mips", 15: "parisc", 18: "sparc32plus", 20: "ppc", 21: "ppc64", 22: "s390",
    40: "arm", 42: "sh", 43: "sparcv9", 50: "ia64", 62: "x86_64", 183: "aarch64", 190: "cuda", 224: "amdgpu",
    243: "riscv", 247: "bpf", 258: "loongarch",
}  # fmt: skip
"""e_machine to the name used here; any other number n is ``em-n``."""
_OPENING = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_DF_1_NODEFLIB = 0x800
_DF_1_PIE = 0x08000000


class Elf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An ELF file as the loader sees it. ``None`` means that the file does not say (exceptions are named)."""

    elf_class: Literal[32, 64] = 64
    machine: str
    machine_number: int
    byte_order: Literal["little", "big"] = "little"
    type: str = "dyn"
    """``exec``, ``dyn`` (shared objects and PIE), ``rel``, ``core``, or ``et-n``."""
    soname: str | None = None
    needed: tuple[str, ...] = ()
    """DT_NEEDED in file order, which is load order."""
    rpath: str | None = None
    """DT_RPATH as written: tokens unexpanded, empty elements kept. The loader ignores it beside a runpath."""
    runpath: str | None = None
    nodeflib: bool = False
    """DF_1_NODEFLIB: the default directories are not searched for what this object needs."""
    pie: bool = False
    """DF_1_PIE: an executable, which cannot be loaded as a library."""
    interpreter: str | None = None
    version_needs: tuple[tuple[str, tuple[str, ...]], ...] | None = None
    """(file, versions wanted of it) in file order; ``None`` where versions were not asked for."""
    version_defs: tuple[str, ...] | None = None
    """Versions defined, the base one (usually the soname) included; ``None`` where not asked for."""


class BadElf(msgspec.Struct, frozen=True):
    """Why a file cannot be read as a dynamic ELF object; ``detail`` is for people."""

    reason: Reason
    detail: str


def read_elf(read_at: ReadAt, size: int, *, versions: bool = False) -> Elf | BadElf:
    """Read the dynamic facts of a file of ``size`` bytes; ``versions`` also reads the version tables.

    Raises nothing of its own for any content; what ``read_at`` raises (OSError) goes through.
    """
    try:
        return _describe(Image(Source(read_at, size, READ_LIMIT)), versions)
    except BadElfError as bad:
        return BadElf(bad.reason, bad.detail)


def read_elf_file(path: str, *, versions: bool = False) -> Elf | BadElf:
    """``read_elf`` on a file of this machine. OSError goes through; a pipe or device is not waited for."""
    fd = os.open(path, _OPENING)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return BadElf("not-elf", "not a regular file")
        pread = os.pread
        return read_elf(lambda offset, length: pread(fd, length, offset), status.st_size, versions=versions)
    finally:
        os.close(fd)


def _describe(image: Image, versions: bool) -> Elf:
    tags, layout = image.tags, image.layout
    named = [tags[tag] for tag in (DT_SONAME, DT_RPATH, DT_RUNPATH) if tag in tags]
    text = image.strings([*image.needed, *named])
    return Elf(
        elf_class=layout.bits,
        machine=MACHINES.get(image.machine) or f"em-{image.machine}",
        machine_number=image.machine,
        byte_order=layout.order,
        type=TYPES.get(image.type) or f"et-{image.type}",
        soname=text[tags[DT_SONAME]] if DT_SONAME in tags else None,
        needed=tuple([text[offset] for offset in image.needed]),
        rpath=text[tags[DT_RPATH]] if DT_RPATH in tags else None,
        runpath=text[tags[DT_RUNPATH]] if DT_RUNPATH in tags else None,
        nodeflib=bool(tags.get(DT_FLAGS_1, 0) & _DF_1_NODEFLIB),
        pie=bool(tags.get(DT_FLAGS_1, 0) & _DF_1_PIE),
        interpreter=_interpreter(image),
        version_needs=_version_needs(image) if versions else None,
        version_defs=tuple(name for _, _, name in image.defined_versions()) if versions else None,
    )


def _interpreter(image: Image) -> str | None:
    if PT_INTERP not in image.spans:
        return None
    offset, length = image.spans[PT_INTERP]
    raw = image.source.take(offset, min(length, MAX_STRING))
    return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _version_needs(image: Image) -> tuple[tuple[str, tuple[str, ...]], ...]:
    wanted = image.wanted_versions()
    text = image.strings([offset for file, _, name in wanted for offset in (file, name)])
    files: dict[int, list[str]] = {}
    for file, _, name in wanted:
        files.setdefault(file, []).append(text[name])
    return tuple((text[file], tuple(names)) for file, names in files.items())
