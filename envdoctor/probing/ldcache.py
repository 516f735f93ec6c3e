"""The file that ldconfig writes and the loader searches (/etc/ld.so.cache), as its bytes say it.

Three forms exist: the old one (``ld.so-1.7.0``, libc5 to glibc 2.1), the new one (``glibc-ld.so.cache1.1``,
the only one written since glibc 2.32 unless asked otherwise), and the old one with the new one behind it,
which glibc from 2.2 on writes for both readers and reads as the new one. Since 2.33 the new form may carry an
extension directory with the names of the glibc-hwcaps subdirectories, to which entries refer by index.

Entries stay in file order: names descending, and within one name those of glibc-hwcaps subdirectories first,
then those with legacy hardware bits, then the plain ones in the order of the directories in ld.so.conf. Of
the first kind the loader takes the subdirectory that suits the CPU best, wherever it stands; else the first.

Sources of the format: glibc ``sysdeps/generic/dl-cache.h`` (structures, flags, extension tags),
``elf/cache.c`` (writing; the wording of the ABI column), ``elf/dl-cache.c`` (what the loader accepts).
"""

import struct
from typing import Literal

import msgspec

_OLD_MAGIC = b"ld.so-1.7.0"
_NEW_MAGIC = b"glibc-ld.so.cache1.1"
_OLD_HEADER, _OLD_ENTRY = 16, 12  # magic and a padding byte, then the number of entries
_NEW_HEADER, _NEW_ENTRY = 48, 24
_EXTENSION_MAGIC = 0xEAA42174
_GENERATOR, _HWCAPS = 0, 1  # tags of extension sections
_HWCAP_IS_INDEX = 1 << 62
_ISA_LEVELS = ((1 << 10) - 1) << 32  # bits beside the index that state the x86 ISA level
_BIG_ENDIAN = 3
_MAX_PATH = 4096

_KINDS = {0: "libc4", 1: "ELF", 2: "libc5", 3: "libc6"}
_ABIS = {
    0x0000: "", 0x0100: "64bit", 0x0200: "IA-64", 0x0300: "x86-64", 0x0400: "64bit", 0x0500: "64bit",
    0x0600: "N32", 0x0700: "64bit", 0x0800: "x32", 0x0900: "hard-float", 0x0A00: "AArch64",
    0x0B00: "soft-float", 0x0C00: "nan2008", 0x0D00: "N32,nan2008", 0x0E00: "64bit,nan2008",
    0x0F00: "soft-float", 0x1000: "double-float", 0x1100: "soft-float", 0x1200: "double-float",
}  # fmt: skip
_SYSTEMS = {0: "Linux", 1: "Hurd", 2: "Solaris", 3: "FreeBSD", 4: "kNetBSD", 5: "Syllable"}


class CacheEntry(msgspec.Struct, frozen=True):
    """One library name of the cache and the file that it stands for."""

    soname: str
    path: str
    flags: int
    abi: str
    """The flags in ``ldconfig -p``'s words: ``libc6,x86-64``, ``libc6,AArch64``, ``ELF``."""
    hwcap: str | None
    """The glibc-hwcaps subdirectory (``x86-64-v3``), or legacy bits as ``0x...``; ``None`` for any CPU."""
    osversion: str | None
    """The oldest kernel that the library states (``Linux 3.2.0``); newer ldconfig leaves it out."""


class Cache(msgspec.Struct, frozen=True):
    """A whole cache file."""

    layout: Literal["new", "old", "old-with-new"]
    byte_order: Literal["little", "big"]
    entries: tuple[CacheEntry, ...]
    hwcaps: tuple[str, ...]
    """The names of glibc-hwcaps subdirectories in the extension, sorted as the file has them."""
    generator: str | None
    """Who wrote it ("ldconfig (GNU libc) stable release version 2.36"), from glibc 2.33 on."""


class BadCache(msgspec.Struct, frozen=True):
    """Why a file is not a usable cache; the loader then goes on as if there were none."""

    reason: Literal["empty", "not-a-cache", "truncated", "malformed"]
    detail: str


def parse(data: bytes) -> Cache | BadCache:
    """Read the bytes of a cache file; raises nothing, whatever they are."""
    if not data:
        return BadCache("empty", "0 bytes")
    try:
        if data.startswith(_NEW_MAGIC):
            return _parse_new(data, 0, "new")
        if data.startswith(_OLD_MAGIC):
            return _parse_old(data)
    except _BadCacheError as bad:
        return BadCache("truncated" if bad.truncated else "malformed", str(bad))
    return BadCache("not-a-cache", f"it starts with {data[:20]!r}")


class _BadCacheError(Exception):
    def __init__(self, detail: str, truncated: bool = False) -> None:
        super().__init__(detail)
        self.truncated = truncated


class _Strings:
    """The strings of a cache file. Names overlap (a soname is often the tail of its path), but no real file
    says more than a few times its own length, so damage cannot make a small file cost much."""

    def __init__(self, data: bytes, base: int) -> None:
        self._data = data
        self._base = base
        self._left = 8 * len(data) + _MAX_PATH
        self._known: dict[int, str] = {}

    def at(self, offset: int) -> str:
        known = self._known.get(offset)
        if known is None:
            known = self._known[offset] = self._read(self._base + offset)
        return known

    def _read(self, start: int) -> str:
        end = self._data.find(b"\0", start, start + _MAX_PATH)
        self._left -= end - start
        if end < 0 or self._left < 0:
            raise _BadCacheError(f"no string at byte {start}")
        return self._data[start:end].decode("utf-8", "backslashreplace")


def _parse_old(data: bytes) -> Cache:
    """The old form: entries, padding, then the new form (if it is there) or the strings of the old one."""
    order = _order_by_count(data, len(_OLD_MAGIC) + 1, (len(data) - _OLD_HEADER) // _OLD_ENTRY)
    mark = "<" if order == "little" else ">"
    count = struct.unpack_from(mark + "I", data, len(_OLD_MAGIC) + 1)[0]
    end = _OLD_HEADER + count * _OLD_ENTRY
    for start in (end + 7 & ~7, end + 3 & ~3):  # aligned for the machine's 64-bit numbers: 8, or 4 on i386
        if data.startswith(_NEW_MAGIC, start):
            return _parse_new(data, start, "old-with-new")
    strings = _Strings(data, end)
    entries = struct.iter_unpack(mark + "III", data[_OLD_HEADER:end])
    found = tuple(
        CacheEntry(strings.at(key), strings.at(value), flags, _abi(flags), None, None)
        for flags, key, value in entries
    )
    return Cache("old", order, found, (), None)


def _order_by_count(data: bytes, at: int, room: int) -> Literal["little", "big"]:
    """The byte order in which the count at ``at`` fits into the file; a file without room for it is cut."""
    for order in ("little", "big"):
        if len(data) >= at + 4 and int.from_bytes(data[at : at + 4], order) <= room:
            return order
    raise _BadCacheError("the header promises more entries than the file has", truncated=True)


def _parse_new(data: bytes, start: int, layout: Literal["new", "old-with-new"]) -> Cache:
    """The new form at byte ``start``, from which its string offsets count."""
    room = (len(data) - start - _NEW_HEADER) // _NEW_ENTRY
    order = _order_by_count(data, start + 20, room)
    if room >= 0 and data[start + 28]:  # 0: written before glibc 2.33, which left the byte order unsaid
        order = "big" if data[start + 28] & 3 == _BIG_ENDIAN else "little"
    mark = "<" if order == "little" else ">"
    count, extension = struct.unpack_from(mark + "I8xI", data, start + 20)
    if count > room:
        raise _BadCacheError(f"{count} entries, room for {room}", truncated=True)
    strings = _Strings(data, start)
    generator, hwcaps = _extensions(data, extension, mark, strings) if extension else (None, ())
    first = start + _NEW_HEADER
    entries = struct.iter_unpack(mark + "IIIIQ", data[first : first + count * _NEW_ENTRY])
    found = tuple(
        CacheEntry(
            strings.at(key), strings.at(value), flags, _abi(flags), _hwcap(bits, hwcaps), _system(version)
        )
        for flags, key, value, version, bits in entries
    )
    return Cache(layout, order, found, hwcaps, generator)


def _extensions(data: bytes, at: int, mark: str, strings: _Strings) -> tuple[str | None, tuple[str, ...]]:
    """The generator and the subdirectory names. Offsets count from the start of the file, which is where the
    new form begins in every file that has extensions; unknown sections are for newer readers."""
    header = data[at : at + 8]
    magic, count = struct.unpack(mark + "II", header) if len(header) == 8 else (0, 0)
    table = data[at + 8 : at + 8 + 16 * count]
    if magic != _EXTENSION_MAGIC or len(table) != 16 * count:
        raise _BadCacheError(f"no extension directory at byte {at}", truncated=len(table) != 16 * count)
    generator: str | None = None
    hwcaps: tuple[str, ...] = ()
    for tag, _, offset, size in struct.iter_unpack(mark + "4I", table):
        body = data[offset : offset + size]
        if len(body) != size:
            raise _BadCacheError(f"extension {tag} reaches past the end of the file", truncated=True)
        if tag == _GENERATOR:
            generator = body.decode("utf-8", "backslashreplace")
        elif tag == _HWCAPS:
            hwcaps = tuple(strings.at(name) for (name,) in struct.iter_unpack(mark + "I", body[: size & ~3]))
    return generator, hwcaps


def _abi(flags: int) -> str:
    kind = _KINDS.get(flags & 0xFF, "unknown")
    required = _ABIS.get(flags & 0xFF00, str(flags & 0xFF00))
    return f"{kind},{required}" if required else kind


def _hwcap(bits: int, names: tuple[str, ...]) -> str | None:
    if bits & ~(_ISA_LEVELS | 0xFFFFFFFF) == _HWCAP_IS_INDEX:
        index = bits & 0xFFFFFFFF
        if index >= len(names):
            raise _BadCacheError(f"subdirectory {index} of {len(names)}")
        return names[index]
    return f"{bits:#018x}" if bits else None


def _system(version: int) -> str | None:
    if not version:
        return None
    system = _SYSTEMS.get(version >> 24, "unknown")
    return f"{system} {version >> 16 & 0xFF}.{version >> 8 & 0xFF}.{version & 0xFF}"
