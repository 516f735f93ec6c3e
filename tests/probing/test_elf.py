"""The ELF reader against pyelftools and readelf on real files, real linkers' output, and hostile bytes."""

import importlib.util
import os
import random
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from envdoctor.probing.elf import (
    BadElf,
    Elf,
    ReadAt,
    defines_symbol,
    needs_symbol,
    read_elf,
    read_elf_file,
)

gcc = shutil.which("gcc")
readelf = shutil.which("readelf")
needs_gcc = pytest.mark.skipif(gcc is None, reason="needs gcc")


def reading(data: bytes) -> tuple[ReadAt, int]:
    return (lambda offset, length: data[offset : offset + length]), len(data)


def read_bytes(data: bytes, versions: bool = True) -> Elf | BadElf:
    read_at, size = reading(data)
    return read_elf(read_at, size, versions=versions)


# Agreement with other readers on the files of this machine.


def some_folders() -> list[str]:
    """Folders with many libraries and programs, not what lies below them."""
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    return [
        f"/usr/lib/{multiarch}",
        "/usr/lib64",
        "/usr/bin",
        sysconfig.get_path("platstdlib") + "/lib-dynload",
    ]


def every_folder() -> list[str]:
    roots = ["/usr/lib", "/usr/lib64", "/usr/bin", "/usr/sbin", "/usr/local/lib", sys.prefix, sys.base_prefix]
    torch = importlib.util.find_spec("torch")
    roots += list(torch.submodule_search_locations or []) if torch else []
    roots += [root for root in os.environ.get("ENVDOCTOR_TEST_ELF_DIRS", "").split(":") if root]
    return [folder for root in roots for folder, _, _ in os.walk(root)]


def library_files(folders: list[str]) -> list[str]:
    found = set()
    for folder in filter(os.path.isdir, folders):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            wanted = ".so" in name or name.endswith((".o", ".a", ".debug")) or folder.endswith("bin")
            if wanted and os.path.isfile(path) and not os.path.islink(path):
                found.add(path)
    return sorted(found)


def theirs(path: str) -> tuple[object, ...] | None:
    """What pyelftools says; None where it sees no dynamic ELF object."""
    with open(path, "rb") as file:
        try:
            elf: Any = ELFFile(file)  # its types know no tags and versions
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


def their_versions(elf: Any) -> tuple[object, object]:
    needs: object = ()
    defs: object = ()
    for section in elf.iter_sections():
        if section["sh_type"] == "SHT_GNU_verneed":
            needs = tuple(
                (need.name, tuple(aux.name for aux in auxes)) for need, auxes in section.iter_versions()
            )
        elif section["sh_type"] == "SHT_GNU_verdef":
            defs = tuple(next(auxes).name for _, auxes in section.iter_versions())
    return needs, defs


def ours(elf: Elf) -> tuple[object, ...]:
    return (
        *(
            elf.elf_class,
            elf.byte_order,
            elf.type,
            elf.needed,
            elf.soname,
            elf.rpath,
            elf.runpath,
            elf.nodeflib,
        ),
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


def test_a_sample_of_this_machines_files_reads_as_pyelftools_reads_it() -> None:
    paths = library_files(some_folders())
    random.Random(20260729).shuffle(paths)
    dynamic = [path for path in paths[:200] if assert_agreement(path)]
    assert dynamic, "no shared library on this machine?"


@pytest.mark.slow
def test_every_file_of_this_machine_reads_as_pyelftools_reads_it() -> None:
    dynamic = [path for path in library_files(every_folder()) if assert_agreement(path)]
    assert len(dynamic) > 100


def read(path: str | Path, versions: bool = True) -> Elf:
    found = read_elf_file(str(path), versions=versions)
    assert isinstance(found, Elf), found
    return found


# What real linkers write.


@pytest.fixture
def link(tmp_path: Path) -> Callable[..., str]:
    def run(name: str, source: str, *options: str, shared: bool = True) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        code = path.with_name(path.name + ".c")
        code.write_text(source)
        kind = ["-shared", "-fPIC"] if shared else []
        subprocess.run(["gcc", *kind, "-o", str(path), str(code), *options], check=True, cwd=tmp_path)
        return str(path)

    return run


@needs_gcc
def test_rpath_and_runpath_are_told_apart(link: Callable[..., str]) -> None:
    old = read(link("libold.so", "", "-Wl,--disable-new-dtags,-rpath,$ORIGIN/lib::/x"))
    new = read(link("libnew.so", "", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib::/x"))
    assert (old.rpath, old.runpath) == ("$ORIGIN/lib::/x", None)
    assert (new.rpath, new.runpath) == (None, "$ORIGIN/lib::/x")


@needs_gcc
def test_a_run_path_longer_than_a_page_is_read_whole(link: Callable[..., str]) -> None:
    wanted = ":".join(f"/opt/some/prefix/{number}/lib" for number in range(400))
    assert read(link("liblong.so", "", f"-Wl,-rpath,{wanted}")).runpath == wanted


@needs_gcc
def test_an_executable_has_its_interpreter_and_nodeflib_is_seen(link: Callable[..., str]) -> None:
    elf = read(link("prog", "int main(void) { return 0; }", "-Wl,-z,nodefaultlib", shared=False))
    assert elf.interpreter
    assert os.path.exists(elf.interpreter)
    assert elf.nodeflib
    assert elf.needed[-1].startswith("libc.so")


@needs_gcc
def test_what_has_no_dynamic_section_says_so(link: Callable[..., str], tmp_path: Path) -> None:
    relocatable = link("part.o", "int x;", "-c", shared=False)
    static = link("static", "void _start(void) { for (;;) {} }", "-static", "-nostdlib", shared=False)
    for path in (relocatable, static):
        found = read_elf_file(path)
        assert isinstance(found, BadElf)
        assert found.reason == "no-dynamic-section"


# Symbols, against what the loader itself makes of the same files.

VERSIONED = "V1 { global: f; local: *; };"


def asks(path: str, name: str, version: str | None = None) -> tuple[bool | None, bool | None]:
    data = Path(path).read_bytes()
    return defines_symbol(*reading(data), name, version), needs_symbol(*reading(data), name, version)


@needs_gcc
@pytest.mark.parametrize("style", ["gnu", "sysv", "both"])
def test_definitions_and_references_are_found_by_either_hash(link: Callable[..., str], style: str) -> None:
    names = [f"name_{number}" for number in range(300)]
    source = "int wanted(void); int call(void) { return wanted(); }\n" + "\n".join(
        f"int {name};" for name in names
    )
    path = link("libmany.so", source, f"-Wl,--hash-style={style}")
    assert [asks(path, name) for name in names] == [(True, False)] * len(names)
    assert asks(path, "wanted") == (False, True)
    assert asks(path, "absent") == (False, False)
    assert asks(path, "name") == (False, False)


@needs_gcc
def test_a_file_that_defines_nothing_still_tells_what_it_needs(link: Callable[..., str]) -> None:
    path = link("prog", '#include <stdio.h>\nint main(void) { return puts(""); }', shared=False)
    assert asks(path, "puts") == (False, True)
    assert asks(path, "fputs") == (False, False)


@needs_gcc
@pytest.mark.parametrize(
    ("script", "satisfied"), [(VERSIONED, True), (VERSIONED.replace("V1", "V2"), False), (None, False)]
)
def test_a_versioned_reference_is_satisfied_where_the_loader_says_so(
    link: Callable[..., str], tmp_path: Path, script: str | None, satisfied: bool
) -> None:
    def library(text: str | None) -> str:
        (tmp_path / "map").write_text(text or "")
        options = ["-Wl,--version-script=map"] if text else []
        return link("libv.so", "int f(void) { return 0; }", "-nostdlib", "-Wl,-soname,libv.so", *options)

    program = link(
        "prog",
        "int f(void); int main(void) { return f(); }",
        library(VERSIONED),
        "-Wl,-rpath,$ORIGIN",
        shared=False,
    )
    assert asks(program, "f", "V1") == (False, True)
    assert asks(program, "f", "V2") == (False, False)
    path = library(script)
    runs = subprocess.run([program], capture_output=True, check=False).returncode == 0
    assert runs == satisfied
    assert asks(path, "f", "V1") == (runs, False)
    assert asks(path, "f") == (True, False)


@needs_gcc
def test_damage_to_a_real_library_gives_an_answer(link: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "map").write_text(VERSIONED)
    path = link("libreal.so", '#include <stdio.h>\nvoid f(void) { puts(""); }', "-Wl,--version-script=map")
    whole, chance = Path(path).read_bytes(), random.Random(7)
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 12)):
            data[min(int(chance.expovariate(1 / 900)), len(data) - 1)] = chance.choice(
                [0, 1, 0x7F, 0xFF, chance.randrange(256)]
            )
        assert isinstance(read_bytes(bytes(data)), Elf | BadElf)
        asked = reading(bytes(data))
        assert defines_symbol(*asked, "f", "V1") in (True, False, None)
        assert needs_symbol(*asked, "puts") in (True, False, None)
