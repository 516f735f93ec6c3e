"""Rules about Python's headers, OpenMP, the assembler and ninja."""

from __future__ import annotations

import re

from envdoctor.api import (
    Asked,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    InstallSystem,
    Platform,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
)
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import CompileStages, Ninja, PythonHeaders
from envdoctor_checks.kernel.reasoning import (
    BUILD,
    TOOLCHAIN,
    XCODE,
    at_least_warning,
    on_macos,
    on_windows,
    said_by,
    seen_failing,
    use_of,
)
from envdoctor_checks.kernel.symptoms import (
    CompileFailed,
    CompilerAtWork,
    HeaderNotFound,
    InstructionUnknown,
    LinkLibraryNotFound,
    NinjaNotFound,
    OpenmpRefused,
)
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild


@check.rule
def python_headers_missing(
    headers: PythonHeaders,
    stages: CompileStages | None,
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
    platform: Platform | None,
    asked: Asked | None,
) -> Findings:
    """Python.h of this interpreter is not there, so nothing can be built for it."""
    use = use_of(work, packages, gpus, build, asked)
    tried = stages.stage("python-h") if stages is not None else None
    if headers.found or use is None or (tried is not None and tried.ok):
        return
    yield Finding(
        title=f"Python.h is not in {headers.folder}",
        detail="What Triton and torch.compile build for this interpreter includes it, and so do extensions. Torch without torch.compile needs none.",
        severity=use.severity,
        evidence=(headers.shows("Python.h", "missing"), *use.evidence),
        remedies=python_remedies(platform, headers.folder),
        breaks=(TOOLCHAIN,),
    )


def python_remedies(platform: Platform | None, folder: str = "") -> tuple[Remedy, ...]:
    """The headers of the interpreter at hand. Where another Python is needed, uv and conda bring theirs."""
    if on_windows(platform):
        embedded = Change(
            title="copy the folders include and libs of a full Python of the same release beside python.exe: the embeddable one has none",
            reach=Reach.ENVIRONMENT,
            example=(
                r"xcopy /E C:\Python311\include python_embeded\include\ ",
                r"xcopy /E C:\Python311\libs python_embeded\libs\ ",
            ),
        )
        return (embedded,)
    if on_macos(platform):
        return (XCODE,)
    system_s = folder == "" or folder.startswith("/usr/include/")
    verify = "python -c \"import sysconfig, os; print(os.path.exists(sysconfig.get_paths()['include'] + '/Python.h'))\""
    system = InstallSystem("python-headers", why="Triton and Inductor include Python.h", verify=verify)
    anew = Run(
        title="install this Python anew: it is not the system's, and its headers come with it",
        commands=_anew(folder),
        reach=Reach.ENVIRONMENT,
        verify=verify,
    )
    other = Run(
        title="or make the environment with a Python that brings its headers (uv's and conda's do)",
        commands=("uv venv --managed-python", "conda create -n torch python pip"),
        reach=Reach.ENVIRONMENT,
    )
    return (system if system_s else anew, other)


def _anew(folder: str) -> tuple[str, ...]:
    """How whatever made the Python with these headers (``.../include/python3.11``) makes it again; nothing where not told."""
    release = folder.rpartition("python")[2]
    pyenv = re.search(r"/versions/([\w.-]+)/include/", folder)
    if pyenv is not None and "pyenv" in folder:
        return (f"pyenv install --force {pyenv[1]}",)
    if "/uv/python/" in folder:
        return (f"uv python install --reinstall {release}",)
    if "conda" in folder or "mamba" in folder or "miniforge" in folder:
        return (f"conda install --force-reinstall python={release}",)
    return ()


@python_headers_missing.sign
def _said_python(
    said: HeaderNotFound,
    failed: tuple[CompileFailed, ...],
    headers: PythonHeaders | None,
    platform: Platform | None,
) -> Findings:
    if said.header not in ("Python.h", "pyconfig.h", "patchlevel.h"):
        return
    known = (headers.shows("Python.h", "missing"),) if headers is not None and not headers.found else ()
    yield Finding(
        title=f"{said.header} of this interpreter is missing",
        detail="The package must be that of the interpreter that runs the program: a second Python has headers of its own.",
        evidence=(said.evidence(), *known),
        remedies=python_remedies(platform, headers.folder if known and headers is not None else ""),
        breaks=(TOOLCHAIN,),
        shows=seen_failing(failed),
    )


@python_headers_missing.sign
def _not_linked(
    said: LinkLibraryNotFound, failed: tuple[CompileFailed, ...], platform: Platform | None
) -> Findings:
    if said.library.startswith("python3"):
        yield Finding(
            title=f"lib{said.library}, Python's own library, is not there to link with",
            evidence=(said.evidence(),),
            remedies=python_remedies(platform),
            breaks=(TOOLCHAIN,),
            shows=seen_failing(failed),
        )


@check.rule
def openmp_missing(
    stages: CompileStages,
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
    platform: Platform | None,
    asked: Asked | None,
) -> Findings:
    """OpenMP's header or library is missing, which Inductor's code for the CPU needs."""
    use = use_of(work, packages, gpus, build, asked)
    stage, cxx = stages.failed("openmp"), stages.stage("cxx")
    if stage is None or cxx is None or not cxx.ok or use is None:
        return
    yield Finding(
        title="the C++ compiler cannot build with OpenMP",
        detail="torch.compile on the processor builds with it. Torch without torch.compile brings its own.",
        severity=at_least_warning(use),
        evidence=(said_by(stages, stage), *use.evidence),
        remedies=openmp_remedies(platform, clang="clang" in stage.command.partition(" ")[0]),
        breaks=(TOOLCHAIN,),
        shows=(TOOLCHAIN,),
    )


def openmp_remedies(platform: Platform | None, *, clang: bool) -> tuple[Remedy, ...]:
    """GCC brings OpenMP with it; Clang's is a package of its own."""
    if on_macos(platform):
        prefix = Change(
            title="or point Inductor at an OpenMP that is there, with OMP_PREFIX (it looks for include/omp.h below it)",
            reach=Reach.SHELL,
            example=("export OMP_PREFIX=/opt/homebrew/opt/libomp",),
        )
        return (
            Run(title="install libomp", commands=("brew install libomp",), reach=Reach.HOST),
            prefix,
            _conda("llvm-openmp"),
        )
    if clang:
        gcc = SetVariable(name="CXX", value="g++", why="GCC brings OpenMP with it")
        libomp = Run(
            title="or install Clang's OpenMP, of the same release as clang++ (libomp-15-dev for clang++-15)",
            commands=(
                "apt-get install -y libomp-dev  # Debian, Ubuntu",
                "dnf install -y libomp-devel  # Fedora, RHEL",
            ),
            reach=Reach.HOST,
            needs_root=True,
        )
        return (gcc, _conda("gxx"), libomp)
    return (
        InstallSystem("cxx-compiler", why="GCC's own OpenMP comes with it"),
        InstallSystem("openmp"),
        _conda("gxx"),
    )


def _conda(package: str) -> Run:
    """Inductor reads OMP_PREFIX on macOS only; elsewhere a compiler that brings its OpenMP is what works."""
    return Run(
        title=f"or install {package} from conda-forge",
        commands=(f"conda install -y -c conda-forge {package}",),
        reach=Reach.ENVIRONMENT,
    )


@openmp_missing.sign
def _said_openmp(
    said: OpenmpRefused, failed: tuple[CompileFailed, ...], platform: Platform | None
) -> Findings:
    yield _openmp("OpenMP is not there for the C++ compiler", said.evidence(), failed, platform)


@openmp_missing.sign
def _no_omp_header(
    said: HeaderNotFound, failed: tuple[CompileFailed, ...], platform: Platform | None
) -> Findings:
    if said.header == "omp.h":
        yield _openmp("OpenMP's header omp.h is missing", said.evidence(), failed, platform)


@openmp_missing.sign
def _not_linked_openmp(
    said: LinkLibraryNotFound, failed: tuple[CompileFailed, ...], platform: Platform | None
) -> Findings:
    if said.library in ("gomp", "omp", "omp5", "iomp5"):
        yield _openmp(f"OpenMP's library lib{said.library} is missing", said.evidence(), failed, platform)


def _openmp(
    title: str, seen: Evidence, failed: tuple[CompileFailed, ...], platform: Platform | None
) -> Finding:
    clang = "file not found" in seen.value or "clang" in seen.value or "-lomp" in seen.value
    return Finding(
        title=title,
        evidence=(seen,),
        remedies=openmp_remedies(platform, clang=clang),
        breaks=(TOOLCHAIN,),
        shows=seen_failing(failed),
    )


@check.rule
def assembler_too_old(
    said: InstructionUnknown, failed: tuple[CompileFailed, ...], platform: Platform | None
) -> Findings:
    """The assembler does not know an instruction that the compiler writes for this processor."""
    binutils = InstallSystem("binutils", why="a release as new as the compiler's", verify="as --version")
    conda = Run(
        title="or take compiler and assembler from one place, conda-forge",
        commands=("conda install -y -c conda-forge gxx binutils",),
        reach=Reach.ENVIRONMENT,
    )
    older = Change(
        title="or let Inductor write for a smaller instruction set",
        reach=Reach.SHELL,
        example=("export ATEN_CPU_CAPABILITY=avx2", "# in Python: torch._inductor.config.cpp.simdlen = 256"),
    )
    yield Finding(
        title=f"the assembler does not know {f'the instruction {said.instruction}' if said.instruction else 'an instruction'} that the compiler wrote",
        detail="A newer GCC is at work with the assembler of an older system, or with another environment's; -march=native makes it use all that the processor has.",
        evidence=(said.evidence(),),
        remedies=(older, conda, binutils),
        confidence=Confidence.LIKELY,
        breaks=(TOOLCHAIN,),
        shows=seen_failing(failed),
    )


@check.rule
def ninja_missing(ninja: Ninja, build: TorchBuild | None, work: tuple[CompilerAtWork, ...]) -> Findings:
    """ninja, with which torch builds extensions when they are first used, is not on PATH."""
    used = any(each.what == "extension" for each in work)
    if (
        ninja.path is not None
        or (not used and ninja.beside_python is None)
        or build is None
        or build.version is None
    ):
        return
    beside = (ninja.shows("beside the interpreter", ninja.beside_python),) if ninja.beside_python else ()
    yield Finding(
        title="ninja is installed, but not on PATH" if beside else "ninja is not on PATH",
        detail="torch.utils.cpp_extension and FlashInfer start it by its name when they build what they use for the first time. Nothing else needs it.",
        severity=Severity.WARNING if used else Severity.NOTE,
        evidence=(ninja.shows("ninja on PATH", "none"), *beside),
        remedies=ninja_remedies(ninja.beside_python),
        breaks=(BUILD,),
    )


def ninja_remedies(beside: str | None) -> tuple[Remedy, ...]:
    """It is started by its name, so the environment's folder of programs must be on PATH."""
    folder = beside.rpartition("/")[0] if beside else None
    path = Run(
        title="put the environment's own programs on PATH (activating it does so); the ninja of pip lies beside its python",
        commands=(f'export PATH="{folder}:$PATH"',)
        if folder
        else ('export PATH="$(dirname "$(python -c \'import sys; print(sys.executable)\')"):$PATH"',),
        reach=Reach.SHELL,
        verify="ninja --version",
    )
    if folder:
        return (path,)
    return (path, Install(("ninja",), verify="ninja --version"), InstallSystem("ninja"))


@ninja_missing.sign
def _said_ninja(said: NinjaNotFound, ninja: Ninja | None, packages: Distributions | None) -> Findings:
    installed = packages.version("ninja") if packages is not None else None
    beside = ninja.beside_python if ninja is not None else None
    known = (packages.shows("ninja", installed),) if packages is not None and installed else ()
    if not said.fatal:
        yield Finding(
            title="ninja was not found, so the extension is built one file at a time",
            severity=Severity.NOTE,
            evidence=(said.evidence(), *known),
            remedies=ninja_remedies(beside),
        )
        return
    yield Finding(
        title="ninja is installed, but not on PATH" if installed or beside else "ninja was not found",
        detail="It is started as `ninja`: a program run as /path/to/venv/bin/python without activating the venv does not have the venv's programs on PATH."
        if installed or beside
        else "",
        evidence=(said.evidence(), *known),
        remedies=ninja_remedies(beside),
        breaks=(BUILD,),
        shows=(BUILD,),
    )
