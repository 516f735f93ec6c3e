"""A writer of small ELF files that the real loader maps, and of files that it refuses in each of its ways.

A library is one page: headers, `via`, one string table, an empty hash table, a dynamic section. It needs no C library
and has no constructors, so loading it is search and nothing else.
"""

from __future__ import annotations

import struct
from typing import Literal, get_args

import msgspec

VIA = 0x180
"""Where `via` lies in every library: ``via(name, mode, &dlopen)`` calls dlopen with a return address in the library."""
VIA_CODE = bytes.fromhex("4883ec08 ffd2 4883c408 c3")
PAGE = 0x1000
X86_64, AARCH64 = 62, 183
ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
PT_LOAD, PT_DYNAMIC, PT_NOTE = 1, 2, 4
DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_SONAME = 1, 4, 5, 6, 10, 11, 14
DT_RPATH, DT_RUNPATH, DT_VERSYM, DT_FLAGS_1, DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM = (
    15, 29, 0x6FFFFFF0, 0x6FFFFFFB, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF,
)  # fmt: skip
DF_1_NODEFLIB, DF_1_PIE = 0x800, 0x08000000

Flaw = Literal[
    "empty",  # no byte at all
    "short",  # less than a header
    "text",  # a linker script, longer than a header
    "short-text",  # a linker script, shorter than a header
    "class",  # ELFCLASS32
    "machine",  # another processor's
    "big-endian",
    "version",  # EI_VERSION is not 1
    "os-abi",
    "relocatable",
    "executable",  # ET_EXEC
    "pie",  # marked as a position-independent executable
    "phentsize",
    "cut",  # ends within its program headers
    "no-load",  # no segment to map
    "no-dynamic",
]
FLAWS: tuple[Flaw, ...] = get_args(Flaw)


class Dynamic(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the dynamic section says to the loader's search. None: the tag is not there."""

    soname: str | None = None
    needed: tuple[str, ...] = ()
    rpath: str | None = None
    runpath: str | None = None
    nodeflib: bool = False
    defines: tuple[str, ...] = ()
    """Version names, below the base version that is the SONAME."""
    requires: tuple[tuple[str, str], ...] = ()
    """(file, version) pairs; the file is one of `needed`."""


class _Strings:
    def __init__(self, start: bytes = b"\0") -> None:
        self.data = bytearray(start)

    def add(self, text: str) -> int:
        at = len(self.data)
        self.data += text.encode() + b"\0"
        return at


def write_library(dynamic: Dynamic, flaw: Flaw | None = None) -> bytes:
    """The bytes of a shared library, or of a file that has one flaw."""
    if flaw == "empty":
        return b""
    if flaw == "short-text":
        return b"INPUT(-lm)\n"
    if flaw == "text":
        return b"/* GNU ld script */\nINPUT(-lm)\n" + b" " * 80
    if flaw == "class":
        return _elf32()
    data = bytearray(_elf64(dynamic, pie=flaw == "pie"))
    if flaw == "short":
        return bytes(data[:40])
    if flaw == "cut":
        return bytes(data[:100])
    if flaw:
        _spoil(data, flaw)
    return bytes(data)


def _elf64(dynamic: Dynamic, *, pie: bool = False) -> bytes:
    strings = _Strings()
    tags = _tags(dynamic, strings, flags=DF_1_PIE if pie else 0)
    versions_at = VIA + 0x28  # after `via` and the version of the null symbol
    versions, version_tags = _versions(dynamic, strings, versions_at)
    if version_tags:
        version_tags.append((DT_VERSYM, VIA + 0x20))
    hash_at = versions_at + len(versions)
    symtab_at = hash_at + 24  # a symbol hash table of one empty bucket, then the null symbol
    dynamic_at = symtab_at + 24
    count = len(tags) + len(version_tags) + 6
    strtab_at = dynamic_at + 16 * count
    tags += [*version_tags, (DT_HASH, hash_at), (DT_SYMTAB, symtab_at), (DT_SYMENT, 24)]
    tags += [(DT_STRTAB, strtab_at), (DT_STRSZ, len(strings.data)), (0, 0)]
    size = strtab_at + len(strings.data)
    phdrs = struct.pack("<2I6Q", PT_LOAD, 7, 0, 0, 0, size, size, PAGE)
    phdrs += struct.pack("<2I6Q", PT_DYNAMIC, 6, *[dynamic_at] * 3, *[16 * count] * 2, 8)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHI3QI6H", ET_DYN, X86_64, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    head = (header + phdrs).ljust(VIA, b"\0") + VIA_CODE.ljust(0x28, b"\0")
    table = struct.pack("<5I", 1, 1, 0, 0, 0).ljust(24, b"\0") + bytes(24)
    return head + versions + table + b"".join(struct.pack("<2Q", *tag) for tag in tags) + bytes(strings.data)


def _tags(dynamic: Dynamic, strings: _Strings, flags: int = 0) -> list[tuple[int, int]]:
    tags = [(DT_NEEDED, strings.add(name)) for name in dynamic.needed]
    for tag, text in (
        (DT_SONAME, dynamic.soname),
        (DT_RPATH, dynamic.rpath),
        (DT_RUNPATH, dynamic.runpath),
    ):
        if text is not None:
            tags.append((tag, strings.add(text)))
    flags |= DF_1_NODEFLIB if dynamic.nodeflib else 0
    return [*tags, (DT_FLAGS_1, flags)] if flags else tags


def _versions(dynamic: Dynamic, strings: _Strings, at: int) -> tuple[bytes, list[tuple[int, int]]]:
    """Version definitions and needs, at address `at`, and the tags that lead to them."""
    defined, tags = b"", []
    names = (dynamic.soname or "", *dynamic.defines) if dynamic.defines else ()
    for index, name in enumerate(names):
        following = 28 if index + 1 < len(names) else 0
        base = 0 if index else 1
        defined += struct.pack("<4H3I", 1, base, index + 1, 1, _hash(name), 20, following)
        defined += struct.pack("<2I", strings.add(name), 0)
    if names:
        tags += [(DT_VERDEF, at), (DT_VERDEFNUM, len(names))]
    needs = b""
    for index, (file, version) in enumerate(dynamic.requires):
        following = 32 if index + 1 < len(dynamic.requires) else 0
        needs += struct.pack("<2H3I", 1, 1, strings.add(file), 16, following)
        needs += struct.pack("<I2H2I", _hash(version), 0, index + 2 + len(names), strings.add(version), 0)
    if needs:
        tags += [(DT_VERNEED, at + len(defined)), (DT_VERNEEDNUM, len(dynamic.requires))]
    both = defined + needs
    return both.ljust(-(-len(both) // 8) * 8, b"\0"), tags


def _hash(name: str) -> int:
    """The System V ABI's hash of a name."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value


def _elf32() -> bytes:
    """A library of i386: enough of it to be told apart by its header."""
    ident = b"\x7fELF\x01\x01\x01" + bytes(9)
    return (ident + struct.pack("<HHI3II6H", ET_DYN, 3, 1, 0, 52, 0, 0, 52, 32, 0, 40, 0, 0)).ljust(
        256, b"\0"
    )


def _spoil(data: bytearray, flaw: Flaw) -> None:
    places: dict[Flaw, tuple[str, int, int]] = {
        "big-endian": ("<B", 5, 2),
        "version": ("<B", 6, 7),
        "os-abi": ("<B", 7, 0x40),
        "relocatable": ("<H", 16, ET_REL),
        "executable": ("<H", 16, ET_EXEC),
        "machine": ("<H", 18, AARCH64),
        "phentsize": ("<H", 54, 57),
        "no-load": ("<I", 64, PT_NOTE),
        "no-dynamic": ("<I", 64 + 56, PT_NOTE),
    }
    if flaw in places:
        form, at, value = places[flaw]
        struct.pack_into(form, data, at, value)


def retag(program: bytes, dynamic: Dynamic) -> bytes:
    """A linked program with another search: NEEDED, RPATH, RUNPATH and DF_1_NODEFLIB replaced.

    The program has an unneeded PT_NOTE, which becomes the segment of the longer string table, and enough empty
    entries in its dynamic section (``-Wl,--spare-dynamic-tags``). `dynamic.soname` and the versions are not used.
    """
    data = bytearray(program)
    start, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    phdrs = [
        (start + 56 * index, *struct.unpack_from("<2I6Q", data, start + 56 * index)) for index in range(count)
    ]
    loads = [phdr for phdr in phdrs if phdr[1] == PT_LOAD]
    section = next(phdr for phdr in phdrs if phdr[1] == PT_DYNAMIC)
    places = range(section[3], section[3] + section[6], 16)
    old = [struct.unpack_from("<2Q", data, place) for place in places]
    tags = {tag: value for tag, value in old if tag}
    low = next(load for load in loads if load[4] <= tags[DT_STRTAB] < load[4] + load[6])
    strtab_at = tags[DT_STRTAB] - low[4] + low[3]
    strings = _Strings(bytes(data[strtab_at : strtab_at + tags[DT_STRSZ]]))
    new = _tags(dynamic, strings, flags=tags.get(DT_FLAGS_1, 0))
    address = -(-max(load[4] + load[7] for load in loads) // PAGE) * PAGE
    replaced = {DT_NEEDED: None, DT_FLAGS_1: None, DT_RPATH: None, DT_RUNPATH: None, 0: None}
    moved = {DT_STRTAB: address, DT_STRSZ: len(strings.data)}
    new += [(tag, moved.get(tag, value)) for tag, value in old if tag not in replaced]
    if len(new) >= len(old):
        raise ValueError(f"{len(new)} dynamic entries do not fit into {len(old)}")
    for place, entry in zip(places, [*new, *[(0, 0)] * (len(old) - len(new))], strict=True):
        struct.pack_into("<2Q", data, place, *entry)
    data += bytes(-len(data) % PAGE)
    note = [phdr[0] for phdr in phdrs if phdr[1] == PT_NOTE][-1]
    size = len(strings.data)
    struct.pack_into("<2I6Q", data, note, PT_LOAD, 4, len(data), address, address, size, size, PAGE)
    return bytes(data + strings.data)
