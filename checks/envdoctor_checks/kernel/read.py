"""Reads what compilers and toolkits say of themselves in a pasted text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import CudaHeaders, HostCompiler, Nvcc
from envdoctor_checks.kernel.probe_files import DEFINED, release_of
from envdoctor_checks.kernel.probe_releases import compiler_release, cuda_release

TEXT = Source("text")


@check.reader(starts=r"^Cuda compilation tools, release \d+\.\d+", max_lines=1)
def nvcc_version(found: FoundBlock) -> Nvcc | None:
    """``nvcc --version``, whole or through a filter; ptxas prints the same line."""
    command = found.block.command or ""
    told = cuda_release(found.block.lines[0].text)
    if told is None or ("ptxas" in command and "nvcc" not in command):
        return None
    path = re.search(r"(/[^\s;|&'\"]*/nvcc)\b", command)
    return Nvcc(nvcc_cuda=told, path=path[1] if path else None, source=TEXT)


@check.reader(command=r"(?:\S*/)?(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+)(?:-[\d.]+)? +(?:--version|-v)\b")
def compiler_version(found: FoundBlock) -> HostCompiler | None:
    """``gcc --version``, whole or its first line."""
    lines = [line.text for line in found.block.lines]
    first = next((text for text in lines if re.search(r"\d+\.\d+", text)), "")
    return _compiler(compiler_release(first))


def _compiler(told: tuple[str, str] | None) -> HostCompiler | None:
    if told is None:
        return None
    return HostCompiler(family=told[0], release=told[1], source=TEXT)  # type: ignore[arg-type] # gcc or clang


@check.reader(starts=r"^GCC version: \(|^CUDA runtime version *: *\d", max_lines=1)
def collect_env(found: FoundBlock) -> Iterator[HostCompiler | Nvcc]:
    """collect_env's compilers: what it calls the CUDA runtime's version is what nvcc says."""
    key, _, value = found.block.lines[0].text.partition(":")
    if key.startswith("GCC"):
        compiler = _compiler(compiler_release(f"gcc {value.strip()}"))
        if compiler is not None:
            yield compiler
    elif told := re.match(r"\d+\.\d+(?:\.\d+)?", value.strip()):
        yield Nvcc(nvcc_cuda=told.group(), source=TEXT)


@check.reader(starts=DEFINED.removeprefix("(?m)"), max_lines=1)
def cudart_version(found: FoundBlock) -> CudaHeaders | None:
    """The line of cuda_runtime_api.h, as grep prints it."""
    told = re.search(DEFINED, found.block.lines[0].text)
    return CudaHeaders(headers_cuda=release_of(int(told[1])), source=TEXT) if told else None
