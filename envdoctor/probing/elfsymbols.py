"""What an ELF file defines for others and wants from others, by the loader's own tables and rules.

The number of dynamic symbols is stated by DT_HASH or, where a file has only the newer hash, by the section
headers; the loader never needs it, so a file without both is not walked.
"""

from collections.abc import Iterator

from envdoctor.probing.elfimage import (
    DT_GNU_HASH,
    DT_HASH,
    DT_SYMTAB,
    DT_VERSYM,
    BadElfError,
    Image,
    ReadAt,
    Source,
)

SYMBOL_READ_LIMIT = 32 << 20
"""Bytes that one question about a symbol may cost: libtorch_cpu's dynamic symbols alone are 5 MB."""

_SHT_DYNSYM = 11
_STB_LOCAL, _STB_GLOBAL = 0, 1
_VER_FLG_BASE = 1


def defines_symbol(read_at: ReadAt, size: int, name: str, version: str | None = None) -> bool | None:
    """Whether the file would satisfy a reference to ``name``, or to ``name`` at ``version``.

    A versioned reference takes the definition with that version. It takes one without a version too, where
    the file has a version table that does not leave the wanted version out; a file without such a table ends
    the program with an assertion of the loader's, so the answer is False. Without
    ``version`` any definition counts. ``None``: the file cannot be read, or its tables are broken.
    """
    try:
        symbols = _Symbols(Source(read_at, size, SYMBOL_READ_LIMIT))
        return any(
            symbols.satisfies(index, version)
            for index in symbols.definitions(name.encode("utf-8", "surrogateescape"))
        )
    except BadElfError:
        return None


def needs_symbol(read_at: ReadAt, size: int, name: str, version: str | None = None) -> bool | None:
    """Whether the file has a strong undefined reference to ``name`` (at ``version``, where given).

    ``None``: the file cannot be read, its tables are broken, or nothing states the number of its symbols.
    """
    try:
        symbols = _Symbols(Source(read_at, size, SYMBOL_READ_LIMIT))
        return symbols.refers_to(name.encode("utf-8", "surrogateescape"), version)
    except BadElfError:
        return None


class _Symbols(Image):
    """An image together with its dynamic symbols."""

    def _version_index(self, symbol: int) -> int:
        return int.from_bytes(self.source.take(self.table(DT_VERSYM) + 2 * symbol, 2), self.layout.order)

    def definitions(self, name: bytes) -> list[int]:
        """Indexes of the symbols that define ``name`` for others."""
        return [
            index
            for index, at, info, section in self._definition_candidates(name)
            if section and info >> 4 != _STB_LOCAL and self._is_named(at, name)
        ]

    def _definition_candidates(self, name: bytes) -> Iterator[tuple[int, int, int, int]]:
        if DT_GNU_HASH not in self.tags and DT_HASH not in self.tags:
            yield from self._symbols(1, self._symbol_count())
            return
        for index in self._gnu_chain(name) if DT_GNU_HASH in self.tags else self._sysv_chain(name):
            yield from self._symbols(index, index + 1)

    def satisfies(self, symbol: int, version: str | None) -> bool:
        """The rule of ``check_match`` in glibc's dl-lookup.c, and of dl-version.c before it."""
        if version is None:
            return True
        if DT_VERSYM not in self.tags:
            return False
        defined = self.defined_versions()
        if defined and all(name != version for _, _, name in defined):
            return False
        entry = self._version_index(symbol)
        mine = [(flags, name) for flags, index, name in defined if index == entry & 0x7FFF]
        own = [name for flags, name in mine if not flags & _VER_FLG_BASE]
        return version in own or not (own or entry & 0x8000)

    def refers_to(self, name: bytes, version: str | None) -> bool:
        """Whether a global symbol of that name (and version) is left for others to define."""
        wanted: set[int] = set()
        if version is not None:
            entries = self.wanted_versions()
            text = self.strings([at for _, _, at in entries])
            wanted = {index & 0x7FFF for _, index, at in entries if text[at] == version}
        for index, at, info, section in self._undefined_candidates(name):
            if section or info >> 4 != _STB_GLOBAL or not self._is_named(at, name):
                continue
            if version is None or (DT_VERSYM in self.tags and self._version_index(index) & 0x7FFF in wanted):
                return True
        return False

    def _undefined_candidates(self, name: bytes) -> Iterator[tuple[int, int, int, int]]:
        """(index, name offset, info, section) of every symbol that may be an undefined ``name``.

        Undefined symbols come before the first one in the GNU hash, except that GNU ld hashes those whose
        address an executable takes.
        """
        first = self.word(self.table(DT_GNU_HASH) + 4) if DT_GNU_HASH in self.tags else 0
        if first > 1:
            yield from self._symbols(1, first)
            for index in self._gnu_chain(name):
                yield from self._symbols(index, index + 1)
        else:  # no such hash, or the 1 that GNU ld writes into the hash of a file that defines nothing
            yield from self._symbols(1, self._symbol_count())

    def _symbol_count(self) -> int:
        if DT_HASH in self.tags:
            return self.word(self.table(DT_HASH) + 4)
        at, (entry, count) = self.header[4], self.header[7:]
        section = self.layout.section
        if entry == section.size:
            for kind, size in section.iter_unpack(self.source.take(at, count * entry)):
                if kind == _SHT_DYNSYM:
                    return int(size // self.layout.symbol.size)
        raise BadElfError("malformed", "nothing states the number of its dynamic symbols")

    def _symbols(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(index, name offset, info, section) of these symbols."""
        entry = self.layout.symbol
        table = self.table(DT_SYMTAB) if DT_SYMTAB in self.tags else 0
        while table and start < end:
            count = min(end - start, 1024)
            block = self.source.take(table + start * entry.size, count * entry.size)
            for index, (name, info, section) in enumerate(entry.iter_unpack(block), start):
                yield index, name, info, section
            start += count

    def _is_named(self, at: int, name: bytes) -> bool:
        start, room = self.string_table()
        return at + len(name) < room and self.source.take(start + at, len(name) + 1) == name + b"\0"

    def _gnu_chain(self, name: bytes) -> Iterator[int]:
        table = self.table(DT_GNU_HASH)
        buckets, first, bloom, _ = self.layout.words4.unpack(self.source.take(table, 16))
        if not buckets:
            return
        hashed = 5381
        for byte in name:
            hashed = hashed * 33 + byte & 0xFFFFFFFF
        start = table + 16 + bloom * (self.layout.bits // 8)
        index = self.word(start + 4 * (hashed % buckets))
        while index >= max(first, 1):  # an empty bucket holds 0
            value = self.word(start + 4 * (buckets + index - first))
            if value | 1 == hashed | 1:
                yield index
            if value & 1:
                return
            index += 1

    def _sysv_chain(self, name: bytes) -> Iterator[int]:
        table = self.table(DT_HASH)
        buckets = self.word(table)
        if not buckets:
            return
        hashed = 0
        for byte in name:
            hashed = (hashed << 4) + byte
            hashed = (hashed ^ (hashed & 0xF0000000) >> 24) & 0x0FFFFFFF
        index = self.word(table + 8 + 4 * (hashed % buckets))
        for _ in range(self.word(table + 4)):  # as many links as there are symbols: a loop ends as well
            if not index:
                return
            yield index
            index = self.word(table + 8 + 4 * (buckets + index))
