"""The ELF reader against pyelftools and readelf on real files, real linkers' output, and hostile bytes."""

import importlib.util
import itertools
import os
import random
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from envdoctor.probing.elf import READ_LIMIT, BadElf, Elf, ReadAt, defines_symbol, needs_symbol, read_elf, read_elf_file

gcc = shutil.which("gcc")
readelf = shutil.which("readelf")
needs_gcc = pytest.mark.skipif(gcc is None, reason="needs gcc")


def reading(data: bytes) -> tuple[ReadAt, int]:
    return (lambda offset, length: data[offset : offset + length]), len(data)


def read_bytes(data: bytes, versions: bool = True) -> Elf | BadElf:
    read_at, size = reading(data)
    return read_elf(read_at, size, versions=versions)


# Agreement with other readers on the files of this machine.


def library_files() -> list[str]:
    roots = ["/usr/lib", "/usr/lib64", "/usr/bin", "/usr/sbin", "/usr/local/lib", sys.prefix, sys.base_prefix]
    torch = importlib.util.find_spec("torch")
    roots += list(torch.submodule_search_locations or []) if torch else []
    roots += os.environ.get("ENVDOCTOR_TEST_ELF_DIRS", "").split(":")
    found = set()
    for folder, _, names in itertools.chain.from_iterable(os.walk(root) for root in roots if root):
        for name in names:
            path = os.path.join(folder, name)
            wanted = ".so" in name or name.endswith((".o", ".a", ".debug")) or folder.endswith("bin")
            if wanted and os.path.isfile(path) and not os.path.islink(path):
                found.add(path)
    return sorted(found)


def theirs(path: str) -> tuple[object, ...] | None:
    """What pyelftools says; None where it sees no dynamic ELF object."""
    with open(path, "rb") as file:
        try:
            elf = ELFFile(file)
        except ELFError:
            return None
        dynamic = next((part for part in elf.iter_segments("PT_DYNAMIC") if part["p_filesz"]), None)
        if dynamic is None:
            return None
        tags = list(dynamic.iter_tags())
        flags = sum(tag.entry.d_val for tag in tags if tag.entry.d_tag == "DT_FLAGS_1")
        interpreter = next((part.get_interp_name() for part in elf.iter_segments("PT_INTERP")), None)
        return (
            elf.elfclass,
            "little" if elf.little_endian else "big",
            elf["e_type"].removeprefix("ET_").lower(),
            tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"),
            next((tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"), None),
            next((tag.rpath for tag in tags if tag.entry.d_tag == "DT_RPATH"), None),
            next((tag.runpath for tag in tags if tag.entry.d_tag == "DT_RUNPATH"), None),
            bool(flags & 0x800),
            interpreter,
            *their_versions(elf),
        )


def their_versions(elf: ELFFile) -> tuple[object, object]:
    needs, defs = (), ()
    for section in elf.iter_sections():
        if section["sh_type"] == "SHT_GNU_verneed":
            needs = tuple((need.name, tuple(aux.name for aux in auxes)) for need, auxes in section.iter_versions())
        elif section["sh_type"] == "SHT_GNU_verdef":
            defs = tuple(next(auxes).name for _, auxes in section.iter_versions())
    return needs, defs


def ours(elf: Elf) -> tuple[object, ...]:
    return (
        *(elf.elf_class, elf.byte_order, elf.type, elf.needed, elf.soname, elf.rpath, elf.runpath, elf.nodeflib),
        *(elf.interpreter, elf.version_needs, elf.version_defs),
    )


def assert_agreement(path: str) -> bool:
    """True where the file is a dynamic ELF object, for both."""
    expected = theirs(path)
    found = read_elf_file(path, versions=True)
    if expected is None:
        assert isinstance(found, BadElf), path
        assert found.reason in ("not-elf", "no-dynamic-section", "too-short"), (path, found)
        return False
    assert isinstance(found, Elf), (path, found)
    assert ours(found) == expected, path
    return True


def build_ids(paths: list[str]) -> dict[str, str | None]:
    """What readelf prints, by path."""
    printed = subprocess.run(["readelf", "-nW", *paths], capture_output=True, text=True, env={"LC_ALL": "C"}).stdout
    parts = re.split(r"^File: (.*)$", printed, flags=re.M)[1:]
    found: dict[str, str | None] = {}
    for path, text in zip(parts[::2], parts[1::2], strict=True):
        match = re.search(r"Build ID: (\w+)", text)
        found[path] = match[1] if match else None
    return found


def dynamic_sample(count: int) -> list[str]:
    paths = library_files()
    random.Random(20260729).shuffle(paths)
    return [path for path in itertools.islice(paths, count) if assert_agreement(path)]


def test_a_sample_of_this_machines_files_reads_as_pyelftools_and_readelf_read_it() -> None:
    dynamic = dynamic_sample(250)
    assert dynamic, "no shared library on this machine?"
    if readelf and len(dynamic) > 1:
        assert {path: read(path).build_id for path in dynamic} == build_ids(dynamic)


@pytest.mark.slow
def test_every_file_of_this_machine_reads_as_pyelftools_and_readelf_read_it() -> None:
    dynamic = dynamic_sample(10**9)
    assert len(dynamic) > 100
    if readelf:
        assert {path: read(path).build_id for path in dynamic} == build_ids(dynamic)


def read(path: str | Path, versions: bool = True) -> Elf:
    found = read_elf_file(str(path), versions=versions)
    assert isinstance(found, Elf), found
    return found
