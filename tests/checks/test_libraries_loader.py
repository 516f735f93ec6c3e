"""What the real loader says of libraries that are missing, shadowed, damaged or too old, and what is made of it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, TypeVar

import pytest

from envdoctor.facts import Symptom
from envdoctor.session import Doctor
from envdoctor_checks.libraries.facts import BadLibraryFile, LibraryNotFound, UndefinedSymbol, VersionNotFound
from tests.support.cases import doctor, judged_facts
from tests.support.libraries import build, loading, versioned

if TYPE_CHECKING:
    from pathlib import Path

    from envdoctor.facts import Facts
    from envdoctor.judging import Judged

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to make libraries with")

S = TypeVar("S", bound=Symptom)
ORIGIN = "-rpath,$ORIGIN"


def facts_of(text: str) -> Facts:
    return Doctor(doctor().plugins).read(text, "-").facts


def said(text: str, kind: type[S]) -> S:
    (one,) = facts_of(text).symptoms(kind)
    return one


def first(text: str) -> Judged:
    return judged_facts(facts_of(text)).findings[0]


def cublas(folder: Path, *dtags: str) -> Path:
    """cublas and the cublasLt that it was linked with, side by side, as NVIDIA's wheel has them."""
    lt = versioned(folder / "libcublasLt.so.12", "libcublasLt.so.12", "cublasLtCreate", "cublasLtNewest")
    source = "int cublasLtNewest(void); int cublasCreate(void) { return cublasLtNewest(); }\n"
    return build(folder / "libcublas.so.12", source=source, needs=(lt,), flags=("-Wl,-z,now", *dtags))


# Silent first: what the loader has nothing to say about.


def test_a_library_that_finds_what_it_needs(tmp_path: Path) -> None:
    assert loading(cublas(tmp_path / "nvidia", f"-Wl,--enable-new-dtags,{ORIGIN}")) == ""


def test_rpath_is_not_beaten_by_ld_library_path(tmp_path: Path) -> None:
    """Why a foreign copy on LD_LIBRARY_PATH is harmless for torch's own libraries, which carry DT_RPATH."""
    library = cublas(tmp_path / "nvidia", f"-Wl,--disable-new-dtags,{ORIGIN}")
    versioned(tmp_path / "old" / "libcublasLt.so.12", "libcublasLt.so.12", "cublasLtCreate")
    assert loading(library, LD_LIBRARY_PATH=str(tmp_path / "old")) == ""


def test_a_library_of_nobody_here_is_not_ours(tmp_path: Path) -> None:
    other = build(tmp_path / "libgarden.so.3")
    line = _without(build(tmp_path / "ext.so", needs=(other,)), other)
    assert said(line, LibraryNotFound).library == "libgarden.so.3"
    assert [each.rule for each in judged_facts(facts_of(line)).findings if each.check == "libraries"] == []


def _without(library: Path, needed: Path) -> str:
    needed.unlink()
    return loading(library)


# Missing.


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("libcudart.so.11.0", "libraries/cudart-missing"),
        ("libcufft.so.11", "libraries/cuda-library-missing"),
        ("libcudnn.so.8", "libraries/cudnn-missing"),
        ("libnvrtc-builtins.so.12.4", "libraries/nvrtc-builtins-missing"),
    ],
)
def test_an_extension_without_what_it_needs(tmp_path: Path, name: str, rule: str) -> None:
    needed = build(tmp_path / name)
    line = _without(build(tmp_path / "ext.so", needs=(needed,)), needed)
    assert said(line, LibraryNotFound).library == name
    found = first(f"Traceback (most recent call last):\n{line}\n")
    assert found.rule == rule
    assert found.finding.subject.startswith("library:lib")


# The wrong copy.


def test_runpath_is_beaten_by_ld_library_path(tmp_path: Path) -> None:
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "nvidia" / "cublas" / "lib"
    library = cublas(site, f"-Wl,--enable-new-dtags,{ORIGIN}")
    old = tmp_path / "cuda-12.1" / "lib64"
    versioned(old / "libcublasLt.so.12", "libcublasLt.so.12", "cublasLtCreate")
    line = loading(library, LD_LIBRARY_PATH=str(old))
    symbol = said(line, UndefinedSymbol)
    assert (symbol.symbol, symbol.version) == ("cublasLtNewest", "libcublasLt.so.12")
    found = first(f"$ echo $LD_LIBRARY_PATH\n{old}\n$ python train.py\n{line}\n")
    assert found.rule == "libraries/shadowed-by-ld-library-path"


def test_without_the_variable_the_symbol_is_all_that_is_known(tmp_path: Path) -> None:
    library = cublas(tmp_path / "nvidia", f"-Wl,--enable-new-dtags,{ORIGIN}")
    versioned(tmp_path / "old" / "libcublasLt.so.12", "libcublasLt.so.12", "cublasLtCreate")
    line = loading(library, LD_LIBRARY_PATH=str(tmp_path / "old"))
    assert first(line).rule == "libraries/undefined-symbol"


def test_a_copy_without_the_version(tmp_path: Path) -> None:
    """Another file under the right name, whose functions carry another version."""
    right = versioned(tmp_path / "right" / "libcudart.so.12", "libcudart.so.12", "cudaMalloc")
    source = "int cudaMalloc(void); int use(void) { return cudaMalloc(); }\n"
    user = build(tmp_path / "user.so", source=source, needs=(right,))
    versioned(tmp_path / "wrong" / "libcudart.so.12", "libcudart.so.11.0", "cudaMalloc")
    line = loading(user, LD_LIBRARY_PATH=str(tmp_path / "wrong"))
    assert said(line, UndefinedSymbol).version == "libcudart.so.12"
    assert facts_of(line).symptoms(VersionNotFound) == ()


# Damaged.


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "file too short"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 100\n" + b" " * 64,
            "invalid ELF header",
        ),
    ],
)
def test_a_damaged_library(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "libcudnn.so.9"
    path.write_bytes(content)
    line = loading(path)
    assert said(line, BadLibraryFile).problem == problem
    assert first(line).rule == "libraries/library-corrupt"


# The system's runtimes.


def user_of(folder: Path, name: str, version: str) -> Path:
    """A library that needs a function of a version that no installed runtime has."""
    needed = versioned(folder / "new" / name, version, "someday")
    source = "int someday(void); int use(void) { return someday(); }\n"
    return build(folder / "user.so", source=source, needs=(needed,), flags=("-nostdlib",))


@pytest.mark.parametrize("version", ["GLIBCXX_3.4.32", "CXXABI_1.3.15"])
def test_a_libstdcxx_that_is_too_old(tmp_path: Path, version: str) -> None:
    user = user_of(tmp_path, "libstdc++.so.6", version)
    versioned(tmp_path / "old" / "libstdc++.so.6", f"{version.partition('_')[0]}_1.3", "someday")
    line = loading(user, LD_LIBRARY_PATH=str(tmp_path / "old"))
    assert said(line, VersionNotFound).version == version
    found = first(f"$ echo $LD_LIBRARY_PATH\n{tmp_path}/old\n$ python app.py\n{line}\n")
    assert found.rule == "libraries/libstdcxx-too-old"
    assert "LD_LIBRARY_PATH" in found.finding.title


def test_a_glibc_that_is_too_old(tmp_path: Path) -> None:
    line = loading(user_of(tmp_path, "libm.so.6", "GLIBC_2.99"))
    assert said(line, VersionNotFound).version == "GLIBC_2.99"
    assert first(line).rule == "libraries/glibc-too-old"
