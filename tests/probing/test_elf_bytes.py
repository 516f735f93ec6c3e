"""The ELF reader on files written byte by byte: every class and byte order, and lies of every kind."""

import os
import struct
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, strategies as st

from envdoctor.probing.elf import (
    READ_LIMIT,
    BadElf,
    Elf,
    ReadAt,
    defines_symbol,
    needs_symbol,
    read_elf,
    read_elf_file,
)


def reading(data: bytes) -> tuple[ReadAt, int]:
    return (lambda offset, length: data[offset : offset + length]), len(data)


def read_bytes(data: bytes, versions: bool = True) -> Elf | BadElf:
    read_at, size = reading(data)
    return read_elf(read_at, size, versions=versions)


# Every class and byte order, from files written here and checked by pyelftools as well.


def build(
    bits: int = 64, order: str = "<", tags: list[tuple[int, int]] | None = None, strings: bytes | None = None
) -> bytes:
    """A shared object of one segment: header, program headers, dynamic section, string table."""
    text = b"\0liba.so.1\0libb.so\0$ORIGIN/../x:\0self.so.3\0" if strings is None else strings
    entries = [(1, 1), (1, 11), (15, 19), (14, 33), (0x6FFFFFFB, 0x800)] if tags is None else tags
    wide = bits == 64
    header_size, segment_size = (64, 56) if wide else (52, 32)
    dynamic = header_size + 2 * segment_size
    number = "Q" if wide else "I"
    strtab = dynamic + (len(entries) + 3) * struct.calcsize("=2" + number)
    size = strtab + len(text)
    base = 0x10000
    table = [*entries, (5, base + strtab), (10, len(text)), (0, 0)]
    body = b"".join(struct.pack(order + "2" + number, *entry) for entry in table)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    shape = (header_size, segment_size, 2, 0, 0, 0)
    header = struct.pack(order + "HHI3" + number + "I6H", 3, 22, 1, 0, header_size, 0, 0, *shape)

    def segment(kind: int, at: int, length: int) -> bytes:
        if wide:
            return struct.pack(order + "2I6Q", kind, 6, at, base + at, base + at, length, length, 8)
        return struct.pack(order + "8I", kind, at, base + at, base + at, length, length, 6, 4)

    return ident + header + segment(1, 0, size) + segment(2, dynamic, len(body)) + body + text


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_each_class_and_byte_order_is_read(bits: int, order: str, tmp_path: Path) -> None:
    path = tmp_path / "built.so"
    path.write_bytes(build(bits, order))
    elf = read_elf_file(str(path))
    assert isinstance(elf, Elf)
    assert (elf.elf_class, elf.byte_order, elf.machine) == (bits, {"<": "little", ">": "big"}[order], "s390")
    assert (elf.needed, elf.soname) == (("liba.so.1", "libb.so"), "self.so.3")
    assert (elf.rpath, elf.runpath, elf.nodeflib) == ("$ORIGIN/../x:", None, True)
    with path.open("rb") as file:
        other: Any = ELFFile(file)  # its types know no tags
        tags = list(next(other.iter_segments("PT_DYNAMIC")).iter_tags())
    assert tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED") == elf.needed
    assert [tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"] == [elf.soname]


def test_versions_not_asked_for_differ_from_versions_not_there() -> None:
    asked, unasked = read_bytes(build()), read_bytes(build(), versions=False)
    assert isinstance(asked, Elf)
    assert isinstance(unasked, Elf)
    assert (asked.version_needs, asked.version_defs) == ((), ())
    assert (unasked.version_needs, unasked.version_defs) == (None, None)


def test_names_that_are_not_utf8_stay_writable_as_json() -> None:
    elf = read_bytes(build(tags=[(14, 0)], strings=b"lib\xff.so\0"))
    assert isinstance(elf, Elf)
    assert elf.soname == "lib\\xff.so"


# Hostile files.


def test_a_text_file_a_directory_and_a_pipe_are_not_elf(tmp_path: Path) -> None:
    script = tmp_path / "libx.so"
    script.write_text("/* GNU ld script */ INPUT(-lm)" + " " * 60)
    os.mkfifo(tmp_path / "pipe")
    for path in (script, tmp_path, tmp_path / "pipe"):
        found = read_elf_file(str(path))
        assert isinstance(found, BadElf)
        assert found.reason == "not-elf"


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_elf_file(str(tmp_path / "no.so"))


@pytest.mark.parametrize(
    ("position", "byte", "reason"),
    [
        (0, 0, "not-elf"),
        (4, 3, "unsupported-class"),
        (5, 9, "malformed"),
        (20, 7, "malformed"),
        (54, 1, "malformed"),
    ],
)
def test_a_header_that_the_loader_refuses_is_named(position: int, byte: int, reason: str) -> None:
    data = bytearray(build())
    data[position] = byte
    found = read_bytes(bytes(data))
    assert isinstance(found, BadElf)
    assert found.reason == reason


def test_a_cut_file_is_too_short_or_truncated_wherever_it_is_cut() -> None:
    whole = build()
    for length in range(len(whole)):
        found = read_bytes(whole[:length])
        assert isinstance(found, BadElf), length
        assert found.reason == ("too-short" if length < 64 else "truncated"), length


def test_a_file_that_shrinks_while_it_is_read_is_truncated() -> None:
    read_at, _ = reading(build())
    found = read_elf(read_at, 1 << 40)
    assert isinstance(found, Elf), "the file is longer than what is looked at"
    found = read_elf(lambda offset, length: read_at(offset, length)[:70], len(build()))
    assert isinstance(found, BadElf)
    assert found.reason == "truncated"


@pytest.mark.parametrize(
    ("tags", "strings"),
    [
        ([(1, 10**6)], b"\0a\0"),  # outside the table
        ([(1, 0)], b"never ends"),
        ([(0x6FFFFFFE, 0x10000), (0x6FFFFFFF, 2**64 - 1)], b"x\0"),  # the header is no version table
        ([(0x6FFFFFFE, 0x10000 + 256), (0x6FFFFFFF, 2**64 - 1)], struct.pack("<I", 4) * 100_000),  # endless
        ([(0x6FFFFFFE, 0), (0x6FFFFFFF, 1)], b"x\0"),  # a table nowhere
        ([(0x6FFFFFFC, 0x10000 + 256), (0x6FFFFFFD, 2**64 - 1)], struct.pack("<I", 4) * 100_000),
        ([(1, number) for number in range(4000)], b"x" * 60_000 + b"\0"),  # overlapping strings
    ],
)
def test_tables_that_lie_are_malformed_at_a_bounded_cost(tags: list[tuple[int, int]], strings: bytes) -> None:
    data = build(tags=tags, strings=strings)
    spent = 0

    def read_at(offset: int, length: int) -> bytes:
        nonlocal spent
        spent += length
        return data[offset : offset + length]

    found = read_elf(read_at, len(data), versions=True)
    assert isinstance(found, BadElf)
    assert found.reason in ("malformed", "truncated")
    assert spent <= READ_LIMIT


def test_a_hash_chain_that_loops_ends() -> None:
    loop = struct.pack("<5I", 1, 2, 1, 0, 1)  # one bucket that begins at symbol 1, which symbol 1 follows
    data = build(tags=[(4, 0x10000 + 256), (6, 0x10000)], strings=loop + b"\0")
    assert data.index(loop) == 256
    assert defines_symbol(*reading(data), "f") is False


def test_a_count_of_symbols_without_symbols_costs_nothing() -> None:
    data = bytearray(build() + struct.pack("<2I6Q", 0, 11, 0, 0, 0, 2**60, 0, 24) + bytes(8))
    data[40:48] = struct.pack(
        "<Q", len(data) - 64
    )  # one section: a dynamic symbol table that no tag points to
    data[58:62] = struct.pack("<2H", 64, 1)
    assert defines_symbol(*reading(bytes(data)), "f") is False
    assert needs_symbol(*reading(bytes(data)), "f") is False


elf_bytes = st.builds(
    build,
    st.sampled_from([32, 64]),
    st.sampled_from(["<", ">"]),
    st.lists(
        st.tuples(
            st.sampled_from(
                [1, 4, 6, 14, 15, 29, 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF]
            ),
            st.one_of(st.integers(0, 70), st.integers(0x10000, 0x10200), st.integers(0, 2**32 - 1)),
        ),
        max_size=8,
    ),
    st.binary(max_size=80),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(elf_bytes))
    for _ in range(draw(st.integers(0, 6))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(len(data) - 40, len(data)))])


@given(st.one_of(damaged(), st.binary(max_size=200)))
def test_any_bytes_give_an_answer(data: bytes) -> None:
    assert isinstance(read_bytes(data), Elf | BadElf)
    for answer in (defines_symbol(*reading(data), "f", "V"), needs_symbol(*reading(data), "f", "V")):
        assert answer in (True, False, None)


def test_few_bytes_are_read_of_a_big_file(tmp_path: Path) -> None:
    data = build()
    reads: list[int] = []

    def read_at(offset: int, length: int) -> bytes:
        reads.append(length)
        return data[offset : offset + length]

    read_elf(read_at, 1 << 32)
    assert sum(reads) <= 8192
    assert len(reads) <= 3
