"""What the loader makes of a file by its header, in its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envdoctor.probing.elf import BadElf, Elf

HEADER = 64
"""Bytes of a 64-bit header: what is shorter is no library."""
PHENTSIZE = {64: 56, 32: 32}
HEADER_WORDS = (
    "file too short",
    "invalid ELF header",
    "ELF file data encoding not little-endian",
    "ELF file version ident does not match current one",
    "ELF file OS ABI invalid",
    "ELF file ABI version invalid",
    "nonzero padding in e_ident",
    "ELF file version does not match current one",
    "only ET_DYN and ET_EXEC can be loaded",
    "ELF file's phentsize not the expected size",
    "cannot read file data",
)
"""What is said of a file with which the search ends."""
PT_LOAD = b"\1\0\0\0"
CRASHES = "crash"
"""The loader has no words for it: it reads what is not there, and the process dies (SIGBUS, SIGSEGV)."""


def verify(head: bytes, machine: int, bits: int) -> str:
    """What the loader says to a file's first bytes; empty when it takes them.

    Source: ``open_verify`` in elf/dl-load.c, in its order.
    """
    if len(head) < HEADER:
        return "file too short"
    if head[:4] != b"\x7fELF":
        return "invalid ELF header"
    if head[4] != bits // 32:
        return "other-class"
    if head[5] != 1:
        return "ELF file data encoding not little-endian"
    if head[6] != 1:
        return "ELF file version ident does not match current one"
    if head[7] not in (0, 3):
        return "ELF file OS ABI invalid"
    if head[8] > 3:
        return "ELF file ABI version invalid"
    if any(head[9:16]):
        return "nonzero padding in e_ident"
    if int.from_bytes(head[20:24], "little") != 1:
        return "ELF file version does not match current one"
    if int.from_bytes(head[18:20], "little") != machine:
        return "other-machine"
    if int.from_bytes(head[16:18], "little") not in (2, 3):
        return "only ET_DYN and ET_EXEC can be loaded"
    if int.from_bytes(head[54:56], "little") != PHENTSIZE[bits]:
        return "ELF file's phentsize not the expected size"
    return ""


def segments_at(head: bytes) -> tuple[int, int]:
    """Offset and length of the program headers of a 64-bit file."""
    return int.from_bytes(head[32:40], "little"), PHENTSIZE[64] * int.from_bytes(head[56:58], "little")


def verify_segments(head: bytes, segments: bytes) -> str:
    """What the loader says to program headers, as far as the file has them; empty when it takes them."""
    if len(segments) < segments_at(head)[1]:
        return "cannot read file data"
    kinds = [segments[at : at + 4] for at in range(0, len(segments), PHENTSIZE[64])]
    return "" if PT_LOAD in kinds else "object file has no loadable segments"


def problem_of(bad: BadElf) -> str:
    """What becomes of a file with good headers whose tables cannot be read."""
    return "object file has no dynamic section" if bad.reason == "no-dynamic-section" else CRASHES


def unloadable(elf: Elf | None) -> str:
    """Why a whole file is no library."""
    if elf is not None and elf.type == "exec":
        return "cannot dynamically load executable"
    if elf is not None and elf.pie:
        return "cannot dynamically load position-independent executable"
    return ""
