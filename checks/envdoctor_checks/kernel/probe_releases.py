"""What the compilers and assemblers say of themselves: one short child each."""

from __future__ import annotations

import os
import re

from envdoctor.api import CouldNotLook, Host, Source, TargetPaths, Tier
from envdoctor.probing.child import ChildRequest
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import (
    Compilers,
    CudaToolkit,
    HostCompiler,
    Nvcc,
    PtxAssembler,
    PtxAssemblers,
)

DEADLINE = 5.0
RELEASE = re.compile(r"release (\d+\.\d+)(?:, V(\d+(?:\.\d+)+))?")
TRITON_VARIABLES = ("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH")
TRITON_FILES = ("ptxas", "ptxas-blackwell")


def cuda_release(printed: str) -> str | None:
    """``Cuda compilation tools, release 12.4, V12.4.131`` -> ``12.4.131``."""
    told = RELEASE.search(printed)
    return (told[2] or told[1]) if told else None


def compiler_release(printed: str) -> tuple[str, str] | None:
    """Family and release, by the first line of ``--version``."""
    line = printed.strip().partition("\n")[0]
    clang = re.search(r"\bclang version (\d+(?:\.\d+)*)", line)
    if clang:
        return "clang", clang[1]
    told = re.search(
        r"(?i)(?:\bgcc\b|g\+\+|\bcc\b|c\+\+)[^\n]*?\)\s*(\d+\.\d+(?:\.\d+)?)|\b(?:gcc|g\+\+)\S*\s+(\d+\.\d+(?:\.\d+)?)\b",
        line,
    )
    return ("gcc", told[1] or told[2]) if told else None


def ask(host: Host, program: str) -> str:
    """What ``program --version`` prints. Raises `CouldNotLook` where it cannot be run."""
    request = ChildRequest(
        argv=(program, "--version"), deadline=DEADLINE, env={**host.environ, "LC_ALL": "C"}
    )
    result = host.run_child(request)
    if not result.ok:
        raise CouldNotLook(f"{result.command} {result.error or result.end.value}")
    return result.stdout.text


@check.probe(tier=Tier.DEFAULT, deadline=DEADLINE + 4)
def host_compiler(host: Host, compilers: Compilers) -> HostCompiler | None:
    """The C++ compiler, of which nvcc takes certain releases only."""
    program = compilers.cxx or compilers.c
    if program is None:
        return None
    told = compiler_release(ask(host, program))
    if told is None:
        raise CouldNotLook(f"{program} --version names no release of GCC or Clang")
    return HostCompiler(family=told[0], release=told[1], source=Source("child", f"{program} --version"))  # type: ignore[arg-type] # one of the two


@check.probe(tier=Tier.DEFAULT, deadline=DEADLINE + 4)
def nvcc(host: Host, toolkit: CudaToolkit) -> Nvcc | None:
    """The toolkit's nvcc."""
    if toolkit.nvcc is None:
        return None
    told = cuda_release(ask(host, toolkit.nvcc))
    if told is None:
        raise CouldNotLook(f"{toolkit.nvcc} --version names no release")
    return Nvcc(nvcc_cuda=told, path=toolkit.nvcc, source=Source("child", f"{toolkit.nvcc} --version"))


@check.probe(tier=Tier.DEFAULT, deadline=2 * DEADLINE)
def ptx_assemblers(host: Host, paths: TargetPaths, toolkit: CudaToolkit | None) -> PtxAssemblers:
    """Triton's own, those that a variable puts in their place, and the toolkit's."""
    found = []
    for path, used_by in _candidates(host, paths, toolkit):
        if not host.may(path, os.X_OK):
            continue
        told = cuda_release(ask(host, path))
        if told is not None:
            found.append(PtxAssembler(path=path, ptxas_cuda=told, used_by=used_by))
    return PtxAssemblers(assemblers=tuple(found), source=Source("child", "ptxas --version"))


def _candidates(host: Host, paths: TargetPaths, toolkit: CudaToolkit | None) -> list[tuple[str, str]]:
    found = [
        (value, name) for name in TRITON_VARIABLES if (value := host.environ.get(name)) and host.exists(value)
    ]
    for folder in paths.site_packages:
        inside = (f"{folder}/triton/backends/nvidia/bin/{name}" for name in TRITON_FILES)
        found += [(path, "triton") for path in inside if host.exists(path)]
    ours = f"{toolkit.root}/bin/ptxas" if toolkit and toolkit.root else None
    if ours and host.exists(ours):
        found.append((ours, "toolkit"))
    return found
