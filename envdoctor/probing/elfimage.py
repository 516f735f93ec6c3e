"""The loader's view of an ELF file: program headers, dynamic section, string and version tables.

This is the machinery under ``elf`` (what a file says) and ``elfsymbols`` (what it defines and wants); both
hand out results instead of the ``BadElfError`` that is raised here.
"""

import struct
from collections.abc import Callable
from typing import Literal

ReadAt = Callable[[int, int], bytes]
"""``read_at(offset, length)``: the bytes there, fewer only at the end of the file."""

Reason = Literal["too-short", "not-elf", "truncated", "no-dynamic-section", "unsupported-class", "malformed"]

_HEAD = 4096  # one page holds the header, the program headers and, in most files, the interpreter
MAX_STRING = 64 << 10
"""Longer strings are taken for damage."""
_GAP = 512  # strings closer to each other than this come with one read
_READ_COST = 32  # what a read costs beside its bytes, so that tables of tiny reads end as well
_FEW = 64  # so many strings, no farther from each other than the gap, come to two megabytes at the most
_TAIL = 160  # most names and run paths end within this many bytes

TYPES = {1: "rel", 2: "exec", 3: "dyn", 4: "core"}
"""e_type to the name used here; any other number n is ``et-n``."""

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NULL, DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ = 0, 1, 4, 5, 6, 10
DT_SONAME, DT_RPATH, DT_RUNPATH = 14, 15, 29
DT_GNU_HASH, DT_FLAGS_1, DT_VERSYM = 0x6FFFFEF5, 0x6FFFFFFB, 0x6FFFFFF0
DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF


_TOO_MUCH = "its tables are larger than any real file's"


class BadElfError(Exception):
    """The file cannot be read; ``reason`` is for programs, ``detail`` for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


class Layout:
    """The struct formats of one class and byte order; only the fields that are used, the rest is padding."""

    def __init__(self, bits: Literal[32, 64], order: Literal["little", "big"]) -> None:
        mark = "<" if order == "little" else ">"
        wide = bits == 64
        self.bits: Literal[32, 64] = bits
        self.order: Literal["little", "big"] = order
        # type, machine, version | phoff, shoff | phentsize, phnum, shentsize, shnum
        self.header = struct.Struct(mark + ("HHI8xQQ6xHHHH" if wide else "HHI4xII6xHHHH"))
        # type, offset, vaddr, filesz
        self.segment = struct.Struct(mark + ("I4xQQ8xQ16x" if wide else "III4xI12x"))
        self.dynamic_size, self.dynamic_words = (16, mark + "%dQ") if wide else (8, mark + "%dI")
        # name, info, section index
        self.symbol = struct.Struct(mark + ("IBxH16x" if wide else "I8xBxH"))
        # type, size
        self.section = struct.Struct(mark + ("4xI24xQ24x" if wide else "4xI12xI16x"))
        self.words4 = struct.Struct(mark + "4I")
        # verneed: count, file, aux, next; vernaux: other, name, next
        self.verneed, self.vernaux = struct.Struct(mark + "2xHIII"), struct.Struct(mark + "6xHII")
        # verdef: flags, index, aux, next
        self.verdef = struct.Struct(mark + "2xHH6xII")


_LAYOUTS = {
    (1, 1): Layout(32, "little"),
    (1, 2): Layout(32, "big"),
    (2, 1): Layout(64, "little"),
    (2, 2): Layout(64, "big"),
}
"""By the header's class and data encoding."""


class Source:
    """A file to read from, with the first page kept and a limit on what may be asked of it."""

    __slots__ = ("_at_hand", "_head", "_left", "_read_at", "size")

    def __init__(self, read_at: ReadAt, size: int, limit: int) -> None:
        self._read_at = read_at
        self._left = limit
        self.size = size
        self._head = read_at(0, min(size, _HEAD)) if size > 0 else b""
        self._at_hand = len(self._head)

    def take(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes at ``offset``, or BadElfError."""
        end = offset + length
        self._left -= length + _READ_COST
        if self._left < 0 and end <= self.size:
            raise BadElfError("malformed", _TOO_MUCH)
        if end <= self._at_hand:
            return self._head[offset:end]
        if end > self.size:
            raise BadElfError("truncated", f"bytes {offset} to {end} are wanted, the file has {self.size}")
        data = self._read_at(offset, length)
        if len(data) != length:
            raise BadElfError("truncated", f"the file ended while bytes {offset} to {end} were read")
        return data

    def charge(self, cost: int) -> None:
        """Count work against the limit, so that overlapping tables cannot cost more than their bytes."""
        self._left -= cost
        if self._left < 0:
            raise BadElfError("malformed", _TOO_MUCH)


class Image:
    """The program headers and the dynamic section of one file; raises BadElfError."""

    __slots__ = (
        "_end",
        "_loads",
        "header",
        "layout",
        "machine",
        "needed",
        "source",
        "spans",
        "tags",
        "type",
    )

    def __init__(self, source: Source) -> None:
        self.source = source
        self.layout = _layout(source)
        self._loads: list[tuple[int, int, int]] = []
        self._end = 0
        self.spans: dict[int, tuple[int, int]] = {}
        self._read_segments()
        self._read_dynamic()

    def _read_segments(self) -> None:
        layout, source = self.layout, self.source
        self.header = header = layout.header.unpack(source.take(16, layout.header.size))
        self.type, self.machine, version, start, _, entry, count = header[:7]
        if version != 1:
            raise BadElfError("malformed", f"ELF version {version}")
        if count and entry != layout.segment.size:
            raise BadElfError("malformed", f"program headers of {entry} bytes")
        for kind, offset, address, length in layout.segment.iter_unpack(source.take(start, count * entry)):
            if kind == PT_LOAD:
                self._loads.append((address, offset, length))
                if offset + length > self._end:
                    self._end = offset + length
            elif kind in (PT_DYNAMIC, PT_INTERP):
                self.spans[kind] = (offset, length)

    def _read_dynamic(self) -> None:
        offset, length = self.spans.get(PT_DYNAMIC, (0, 0))
        if length == 0:
            kind = TYPES.get(self.type, f"et-{self.type}")
            raise BadElfError("no-dynamic-section", f"{kind} file without a dynamic section")
        size = self.layout.dynamic_size
        words = struct.unpack(
            self.layout.dynamic_words % (length // size * 2), self.source.take(offset, length - length % size)
        )
        tags, values = words[::2], words[1::2]
        if DT_NULL in tags:
            tags = tags[: tags.index(DT_NULL)]
        self.tags = dict(zip(tags, values))  # noqa: B905 # up to the end; of a repeated tag the last counts
        self.needed: list[int] = []
        place = -1
        for _ in range(tags.count(DT_NEEDED)):
            place = tags.index(DT_NEEDED, place + 1)
            self.needed.append(values[place])
        if self._end > self.source.size:
            raise BadElfError(
                "truncated", f"its segments end at byte {self._end}, the file has {self.source.size}"
            )

    def table(self, tag: int) -> int:
        """File offset of the table whose address a dynamic tag gives."""
        return self._locate(self.tags[tag])[0]

    def _locate(self, address: int) -> tuple[int, int]:
        for start, offset, length in self._loads:
            if start <= address < start + length:
                return offset + address - start, length - (address - start)
        raise BadElfError("malformed", f"address {address:#x} lies in no loaded segment")

    def string_table(self) -> tuple[int, int]:
        """(file offset, bytes) of the dynamic string table."""
        if DT_STRTAB not in self.tags:
            raise BadElfError("malformed", "strings without a string table")
        start, room = self._locate(self.tags[DT_STRTAB])
        return start, min(room, self.tags.get(DT_STRSZ, room))

    def strings(self, offsets: list[int]) -> dict[int, str]:
        """The strings at these offsets of the string table; neighbours come with one read."""
        texts: dict[int, str] = {}
        if not offsets:
            return texts
        start, room = self.string_table()
        wanted = sorted(set(offsets))
        if wanted[-1] >= room:
            raise BadElfError("malformed", f"string {wanted[-1]} lies outside a table of {room} bytes")
        source, position, cost = self.source, 0, 0
        many = len(wanted) > _FEW
        while position < len(wanted):
            first, end = wanted[position], position + 1
            while end < len(wanted) and wanted[end] - wanted[end - 1] <= _GAP:
                end += 1
            chunk = source.take(start + first, min(wanted[end - 1] + _TAIL, room) - first)
            text = chunk.decode("latin-1")  # a byte is a letter, so that one decoding serves all
            for offset in wanted[position:end]:
                stop = text.find("\0", offset - first)
                if stop < 0:
                    known = self._long_string(start + offset, room - offset).decode("latin-1")
                else:
                    known = text[offset - first : stop]
                if many:
                    cost += len(known)
                    if cost > MAX_STRING:  # told in portions, since telling costs more than a short string
                        source.charge(cost)
                        cost = 0
                texts[offset] = known if known.isascii() else _utf8(known)
            position = end
        source.charge(cost)
        return texts

    def _long_string(self, at: int, room: int) -> bytes:
        length = _TAIL
        while length < min(room, MAX_STRING):
            length *= 8
            data = self.source.take(at, min(length, room))
            if b"\0" in data:
                return data[: data.index(b"\0")]
        raise BadElfError("malformed", "a string without an end")

    def word(self, at: int) -> int:
        """The 32-bit number at a file offset."""
        return int.from_bytes(self.source.take(at, 4), self.layout.order)

    def wanted_versions(self) -> list[tuple[int, int, int]]:
        """(file, version index, version) of every version wanted; file and version are string offsets."""
        found: list[tuple[int, int, int]] = []
        if DT_VERNEED not in self.tags:
            return found
        at = self.table(DT_VERNEED)
        for _ in range(self.tags.get(DT_VERNEEDNUM, 0)):
            count, file, aux, following = self.layout.verneed.unpack(self.source.take(at, 16))
            aux_at = at + aux
            for _ in range(count):
                index, name, next_aux = self.layout.vernaux.unpack(self.source.take(aux_at, 16))
                found.append((file, index, name))
                aux_at += next_aux
                if not next_aux:
                    break
            at += following
            if not following:
                break
        return found

    def defined_versions(self) -> list[tuple[int, int, str]]:
        """(flags, version index, name) of every version that the file defines."""
        found: list[tuple[int, int, int]] = []
        if DT_VERDEF not in self.tags:
            return []
        at = self.table(DT_VERDEF)
        for _ in range(self.tags.get(DT_VERDEFNUM, 0)):
            flags, index, aux, following = self.layout.verdef.unpack(self.source.take(at, 20))
            found.append((flags, index, self.word(at + aux)))
            at += following
            if not following:
                break
        text = self.strings([name for _, _, name in found])
        return [(flags, index, text[name]) for flags, index, name in found]


def _utf8(text: str) -> str:
    """What bytes that were taken for letters say."""
    return text.encode("latin-1").decode("utf-8", "backslashreplace")


def _layout(source: Source) -> Layout:
    """The layout that the first bytes ask for; in the order and the words of the loader's own complaints."""
    if source.size < 52:
        raise BadElfError("too-short", f"{source.size} bytes, less than an ELF header")
    head = source.take(0, 16)
    if head[:4] != b"\x7fELF":
        raise BadElfError("not-elf", f"it starts with {head[:4]!r}")
    if head[4] not in (1, 2):
        raise BadElfError("unsupported-class", f"ELF class {head[4]}")
    if head[5] not in (1, 2):
        raise BadElfError("malformed", f"data encoding {head[5]}")
    if head[4] == 2 and source.size < 64:
        raise BadElfError("too-short", f"{source.size} bytes, less than a 64-bit ELF header")
    return _LAYOUTS[head[4], head[5]]
