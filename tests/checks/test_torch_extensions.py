"""Compiled extensions, by their ELF tables: real shared objects against a real libc10 of our own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from envdoctor.facts import Facts
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.python.probe import distributions
from envdoctor_checks.torch.facts import CompiledExtension, CompiledExtensions
from envdoctor_checks.torch.probe_extensions import compiled_extensions, undefined_symbols
from envdoctor_checks.torch.probe_files import build
from tests.support.torch_env import Environment

OLD = "_ZN3c105ErrorC2ENS_14SourceLocationESs"
NEW = "_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    env = Environment(tmp_path / "venv")
    lib = env.torch("2.5.1+cu121", "12.1") / "lib"
    lib.mkdir()
    compile_library(lib / "libc10.so", defines=[OLD])
    compile_library(lib / "libtorch_cpu.so", defines=["_ZN2at3addEv"])
    return env


def compile_library(path: Path, defines: list[str], wants: list[str] = [], needs: list[Path] = []) -> None:  # noqa: B006 - never changed
    source = path.with_suffix(".c")
    lines = [f"int {name}(void) {{ return 1; }}" for name in defines]
    lines += [f"extern int {name}(void);" for name in wants]
    lines.append(f"int PyInit_of_this(void) {{ return {' + '.join(f'{name}()' for name in wants) or '0'}; }}")
    source.write_text("\n".join(lines) + "\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,--no-as-needed", "-o", path, source, *needs], check=True)


def looked(env: Environment) -> tuple[CompiledExtension, ...]:
    host, _, paths = env.target()
    packages = Facts.of(*distributions(host, paths)).get(Distributions)
    assert isinstance(packages, Distributions)
    found, _ = build(host, paths, packages)
    told = compiled_extensions(host, paths, packages, found)
    assert isinstance(told, CompiledExtensions)
    return told.extensions


def test_nothing_installed(env: Environment) -> None:
    assert looked(env) == ()


def test_one_that_fits(env: Environment) -> None:
    env.metadata("flash-attn", "2.7.3")
    compile_library(
        env.site / "flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so", [], [OLD, "_ZN2at3addEv", "malloc"]
    )
    (one,) = looked(env)
    assert (one.distribution, one.version, one.missing, one.needed) == ("flash-attn", "2.7.3", (), ())


def test_one_that_was_built_for_the_other_abi(env: Environment) -> None:
    env.metadata("flash-attn", "2.7.3")
    compile_library(env.site / "flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so", [], [NEW, "_ZN2at3addEv"])
    (one,) = looked(env)
    assert one.missing == (NEW,)


def test_what_another_file_of_the_package_defines_is_not_missing(env: Environment) -> None:
    env.metadata("vllm", "0.9.0")
    (env.site / "vllm").mkdir()
    compile_library(env.site / "vllm" / "_C.abi3.so", [], ["_ZN2at4vllm4ownEv"])
    compile_library(env.site / "vllm" / "_moe_C.abi3.so", ["_ZN2at4vllm4ownEv"])
    assert [each.missing for each in looked(env)] == [(), ()]


def test_the_cuda_that_it_needs(env: Environment, tmp_path: Path) -> None:
    env.metadata("flash-attn", "2.5.6")
    cudart = tmp_path / "libcudart.so.11.0"
    source = tmp_path / "c.c"
    source.write_text("int cuda(void) { return 0; }\n")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Wl,-soname,libcudart.so.11.0", "-o", cudart, source], check=True
    )
    compile_library(env.site / "flash_attn_2_cuda.so", [], [OLD], [cudart])
    (one,) = looked(env)
    assert one.needed == ("libcudart.so.11.0",)


def test_files_in_folders_below(env: Environment) -> None:
    env.metadata("xformers", "0.0.30")
    (env.site / "xformers" / "flash_attn_3").mkdir(parents=True)
    compile_library(env.site / "xformers" / "_C.so", [], [OLD])
    compile_library(env.site / "xformers" / "flash_attn_3" / "_C.so", [], [NEW])
    assert sorted(each.missing or () for each in looked(env)) == [(), (NEW,)]


def test_a_broken_file_is_left_to_others(env: Environment) -> None:
    env.metadata("flash-attn", "2.7.3")
    (env.site / "flash_attn_2_cuda.so").write_bytes(b"\x7fELF")
    assert looked(env) == ()


def test_undefined_symbols_are_those_of_nm(tmp_path: Path) -> None:
    path = tmp_path / "x.so"
    compile_library(path, ["_ZN2at3ownEv"], [OLD, "malloc"])
    with path.open("rb") as file:
        data = file.read()
    told = undefined_symbols(lambda offset, length: data[offset : offset + length], len(data))
    nm = subprocess.run(
        ["nm", "-D", "--undefined-only", path], check=True, capture_output=True, text=True
    ).stdout
    strong = {line.split()[-1].partition("@")[0] for line in nm.splitlines() if line.split()[0] == "U"}
    assert told is not None
    assert set(told) == strong
