"""Rules about the host's C and C++ compilers."""

from __future__ import annotations

from envdoctor.api import (
    Asked,
    Change,
    Evidence,
    Finding,
    Findings,
    Install,
    InstallSystem,
    Platform,
    Reach,
    Remedy,
    Run,
    Variables,
)
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import Compilers, CompileStages
from envdoctor_checks.kernel.reasoning import (
    TOOLCHAIN,
    XCODE,
    at_least_warning,
    on_macos,
    on_windows,
    said_by,
    seen_failing,
    toolchain_remedy,
    use_of,
)
from envdoctor_checks.kernel.symptoms import (
    CompileFailed,
    CompilerAtWork,
    CompilerNotFound,
    HeaderNotFound,
)
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild

C_LIBRARY = (
    "stdio.h", "stdlib.h", "string.h", "assert.h", "limits.h", "stdint.h", "features.h",
    "bits/libc-header-start.h", "sys/types.h",
)  # fmt: skip
"""Headers of the C library's own: without them GCC is there and cannot compile anything."""
CXX_LIBRARY = (
    "vector", "iostream", "string", "cstdint", "cstddef", "memory", "algorithm", "type_traits", "cmath", "cstdlib",
    "atomic", "bits/c++config.h",
)  # fmt: skip
VCVARS = (
    r'call "C:\Program Files (x86)\Microsoft Visual Studio\2022\BuildTools\VC\Auxiliary\Build\vcvars64.bat"'
)
PROMPT = Change(
    title="start the program from the 'x64 Native Tools Command Prompt for VS 2022', which puts cl.exe on PATH",
    reach=Reach.SHELL,
    example=(VCVARS, "where cl"),
)
BUILD_TOOLS = Run(
    title="install Microsoft's C++ Build Tools, if that prompt does not exist",
    commands=(
        'winget install --id Microsoft.VisualStudio.2022.BuildTools --override "--wait --passive --add '
        'Microsoft.VisualStudio.Workload.VCTools --includeRecommended"',
    ),
    reach=Reach.HOST,
    needs_root=False,
)


def c_remedies(platform: Platform | None) -> tuple[Remedy, ...]:
    """A C compiler for this system."""
    if on_windows(platform):
        newer = Install(("triton-windows",), why="its newer releases bring a small C compiler of their own")
        return (PROMPT, newer, BUILD_TOOLS)
    if on_macos(platform):
        return (XCODE,)
    packages = InstallSystem("c-compiler", why="Triton compiles its launcher with it", verify="cc --version")
    return toolchain_remedy((packages,), "gcc")


def cxx_remedies(platform: Platform | None) -> tuple[Remedy, ...]:
    """A C++ compiler for this system."""
    if on_windows(platform):
        return (PROMPT, BUILD_TOOLS)
    if on_macos(platform):
        return (XCODE,)
    packages = InstallSystem(
        "cxx-compiler", why="Inductor compiles what runs on the CPU with it", verify="g++ --version"
    )
    return toolchain_remedy((packages,), "gxx")


@check.rule
def c_compiler_missing(
    compilers: Compilers,
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
    platform: Platform | None,
    variables: Variables | None,
) -> Findings:
    """There is no C compiler, with which Triton builds the launcher of every kernel."""
    use = use_of(work, packages, gpus, build)
    if compilers.c is not None or use is None:
        return
    by_variable = compilers.c_via == "CC"
    yield Finding(
        title="CC names a compiler that is not there" if by_variable else "there is no C compiler on PATH",
        detail="torch.compile on a GPU needs it, where Triton builds the launcher of every kernel, and so do packages with Triton kernels. Torch without torch.compile does not.",
        severity=at_least_warning(use) if by_variable else use.severity,
        evidence=(*_named("CC", variables), compilers.shows("C compiler", "none"), *use.evidence),
        remedies=c_remedies(platform),
        breaks=(TOOLCHAIN,),
    )


@c_compiler_missing.sign
def _said_c(
    said: CompilerNotFound,
    failed: tuple[CompileFailed, ...],
    platform: Platform | None,
    variables: Variables | None,
) -> Findings:
    if said.language != "c":
        return
    name = f" (looked for {said.name})" if said.name else ""
    yield Finding(
        title=f"no C compiler was found{name}",
        evidence=(said.evidence(), *_named("CC", variables)),
        remedies=c_remedies(platform),
        breaks=(TOOLCHAIN,),
        shows=seen_failing(failed),
    )


@c_compiler_missing.sign
def _without_c_library(
    said: HeaderNotFound, failed: tuple[CompileFailed, ...], platform: Platform | None
) -> Findings:
    if said.header not in C_LIBRARY:
        return
    yield Finding(
        title=f"the C compiler has no headers of the C library: {said.header} is missing",
        evidence=(said.evidence(),),
        remedies=c_remedies(platform),
        breaks=(TOOLCHAIN,),
        shows=seen_failing(failed),
    )


@c_compiler_missing.sign
def _c_does_not_compile(
    stages: CompileStages,
    compilers: Compilers,
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
    platform: Platform | None,
) -> Findings:
    use = use_of(work, packages, gpus, build)
    stage = stages.failed("c")
    if stage is None or compilers.c is None or use is None:
        return
    yield Finding(
        title=f"the C compiler {compilers.c} cannot build a shared library of one line",
        severity=at_least_warning(use),
        evidence=(said_by(stages, stage), *use.evidence),
        remedies=c_remedies(platform),
        breaks=(TOOLCHAIN,),
        shows=(TOOLCHAIN,),
    )


@check.rule
def cxx_compiler_missing(
    compilers: Compilers,
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
    platform: Platform | None,
    variables: Variables | None,
    asked: Asked | None,
) -> Findings:
    """There is no working C++ compiler, which Inductor and every extension need."""
    use = use_of(work, packages, gpus, build, asked)
    if compilers.cxx is not None or use is None:
        return
    by_variable = compilers.cxx_via == "CXX"
    yield Finding(
        title="CXX names a compiler that is not there" if by_variable else "there is no g++ on PATH",
        detail="torch.compile on the processor needs it, and so does everything that builds extensions when it is first used. Torch without torch.compile does not.",
        severity=at_least_warning(use) if by_variable else use.severity,
        evidence=(*_named("CXX", variables), compilers.shows("C++ compiler", "none"), *use.evidence),
        remedies=cxx_remedies(platform),
        breaks=(TOOLCHAIN,),
    )


@cxx_compiler_missing.sign
def _said_cxx(
    said: CompilerNotFound,
    failed: tuple[CompileFailed, ...],
    platform: Platform | None,
    variables: Variables | None,
) -> Findings:
    if said.language != "c++":
        return
    remedies = (PROMPT, BUILD_TOOLS) if said.msvc else cxx_remedies(platform)
    yield Finding(
        title=f"no working C++ compiler was found{f' (looked for {said.name})' if said.name else ''}",
        detail="cl.exe may be installed: it is on PATH only where Visual Studio's own batch file was called."
        if said.msvc
        else "",
        evidence=(said.evidence(), *_named("CXX", variables)),
        remedies=remedies,
        breaks=(TOOLCHAIN,),
        shows=seen_failing(failed),
    )


@cxx_compiler_missing.sign
def _without_cxx_library(
    said: HeaderNotFound, failed: tuple[CompileFailed, ...], platform: Platform | None
) -> Findings:
    if said.header not in CXX_LIBRARY:
        return
    yield Finding(
        title=f"the C++ compiler has no standard library: <{said.header}> is missing",
        detail="Clang uses the standard library of the newest GCC that it finds, and needs that GCC's C++ part.",
        evidence=(said.evidence(),),
        remedies=cxx_remedies(platform),
        breaks=(TOOLCHAIN,),
        shows=seen_failing(failed),
    )


@cxx_compiler_missing.sign
def _cxx_does_not_compile(
    stages: CompileStages,
    compilers: Compilers,
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
    platform: Platform | None,
    asked: Asked | None,
) -> Findings:
    use = use_of(work, packages, gpus, build, asked)
    stage = stages.failed("cxx")
    if stage is None or compilers.cxx is None or use is None:
        return
    yield Finding(
        title=f"the C++ compiler {compilers.cxx} cannot build a shared library of two lines",
        severity=at_least_warning(use),
        evidence=(said_by(stages, stage), *use.evidence),
        remedies=cxx_remedies(platform),
        breaks=(TOOLCHAIN,),
        shows=(TOOLCHAIN,),
    )


def _named(variable: str, variables: Variables | None) -> tuple[Evidence, ...]:
    return (variables.evidence(variable),) if variables is not None and variables.get(variable) else ()
