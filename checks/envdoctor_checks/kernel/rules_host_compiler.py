"""The rule about a host compiler that is too new for nvcc."""

from __future__ import annotations

from envdoctor.api import (
    Change,
    Finding,
    Findings,
    Reach,
    Remedy,
    Run,
    Severity,
)
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import HostCompiler, Nvcc
from envdoctor_checks.kernel.reasoning import (
    BUILD,
    nvcc_evidence,
    release_line,
)
from envdoctor_checks.kernel.symptoms import (
    HostCompilerRefused,
)
from envdoctor_checks.kernel.tables import Toolchains
from envdoctor_checks.torch.facts import TorchBuild


@check.rule
def host_compiler_too_new_for_nvcc(
    compiler: HostCompiler, nvcc: Nvcc, toolchains: Toolchains, build: TorchBuild | None
) -> Findings:
    """The host's C++ compiler is newer than this nvcc accepts."""
    row = toolchains.release(nvcc.nvcc_cuda)
    if row is None or build is None or build.torch_cuda is None:
        return
    newest = row.gcc_max if compiler.family == "gcc" else (row.clang_below or 1000) - 1
    if compiler.major <= newest:
        return
    yield Finding(
        title=f"nvcc {release_line(nvcc.nvcc_cuda)} takes {compiler.family} up to {newest}; here it is {compiler.release}",
        severity=Severity.NOTE,
        detail="It matters to those who build extensions; running torch takes no nvcc.",
        evidence=(nvcc.shows("nvcc", nvcc.nvcc_cuda), compiler.shows(compiler.family, compiler.release)),
        remedies=_older_compiler(compiler.family, str(newest)),
        breaks=(BUILD,),
    )


def _older_compiler(family: str, newest: str | None) -> tuple[Remedy, ...]:
    """A second compiler beside the first one, and nvcc told of it."""
    number = newest or "12"
    program = f"clang++-{number}" if family == "clang" else f"g++-{number}"
    package = f"clang-{number}" if family == "clang" else f"g++-{number}"
    environment = Run(
        title=f"tell nvcc to use {program}",
        commands=(
            f"export CC={program.replace('++', '') if family == 'clang' else f'gcc-{number}'} CXX={program}",
            f'export NVCC_PREPEND_FLAGS="-ccbin {program}" CUDAHOSTCXX={program}',
        ),
        reach=Reach.SHELL,
    )
    conda = Run(
        title="or take an older one from conda-forge",
        commands=(f'conda install -y -c conda-forge "gxx<={number}"',),
        reach=Reach.ENVIRONMENT,
    )
    dnf = f"dnf install -y gcc-toolset-{number}-gcc-c++ || dnf install -y gcc{number}-c++"
    install = Run(
        title=f"install {package} beside the newer one",
        commands=(f"apt-get install -y {package}", dnf)
        if family == "gcc"
        else (f"apt-get install -y {package}",),
        reach=Reach.HOST,
        needs_root=True,
    )
    newer = Change(
        title="or use a newer CUDA toolkit of the same major release, whose nvcc takes this compiler",
        reach=Reach.HOST,
    )
    return (environment, conda, install, newer)


@host_compiler_too_new_for_nvcc.sign
def _refuses(
    said: HostCompilerRefused, compiler: HostCompiler | None, nvcc: Nvcc | None, toolchains: Toolchains
) -> Findings:
    newest = said.newest or _newest(nvcc, said.nvcc_cuda, toolchains)
    if said.family == "glibc":
        title = "this nvcc does not understand the headers of the system's newer C library"
        remedies = _newer_toolkit()
    elif said.family == "msvc":
        title = "this nvcc does not take the installed Visual Studio"
        remedies = _older_studio()
    else:
        title = f"nvcc refuses the host's compiler as too new{f': it takes {said.family} up to {newest}' if newest else ''}"
        remedies = _older_compiler(said.family, newest)
    known = (compiler.shows(compiler.family, compiler.release),) if compiler is not None else ()
    yield Finding(
        title=title,
        evidence=(said.evidence(), *known, *nvcc_evidence(nvcc)),
        remedies=remedies,
        breaks=(BUILD,),
        shows=(BUILD,),
    )


def _newest(nvcc: Nvcc | None, told: str | None, toolchains: Toolchains) -> str | None:
    cuda = told or (nvcc.nvcc_cuda if nvcc is not None else None)
    row = toolchains.release(cuda) if cuda else None
    return str(row.gcc_max) if row else None


def _newer_toolkit() -> tuple[Remedy, ...]:
    conda = Run(
        title="compile with conda-forge's compilers, which bring an older C library's headers",
        commands=("conda install -y -c conda-forge gxx_linux-64 sysroot_linux-64",),
        reach=Reach.ENVIRONMENT,
    )
    newer = Change(title="or use a newer CUDA toolkit: 12.9 and 13.0 know glibc 2.41", reach=Reach.HOST)
    return (conda, newer)


def _older_studio() -> tuple[Remedy, ...]:
    toolset = Change(
        title="choose an older toolset of Visual Studio for this build, or install one in its installer",
        reach=Reach.SHELL,
        example=(
            r'call "C:\Program Files\Microsoft Visual Studio\2022\Community\VC\Auxiliary\Build\vcvars64.bat" -vcvars_ver=14.38',
        ),
    )
    allow = Run(
        title="or, at your own risk, have nvcc go on all the same",
        commands=("set NVCC_PREPEND_FLAGS=-allow-unsupported-compiler",),
        reach=Reach.SHELL,
    )
    return (
        toolset,
        allow,
        Change(title="or install a newer CUDA toolkit of the same major release", reach=Reach.HOST),
    )
