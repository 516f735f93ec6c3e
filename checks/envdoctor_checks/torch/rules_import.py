"""Is torch there, and does it import."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    Outcome,
    Reach,
    Run,
    Severity,
    Target,
    imports,
)
from envdoctor_checks.python.facts import Distributions, ModuleNotFound
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import ImportStuck, TorchBuild, TorchImport
from envdoctor_checks.torch.known import torch_version, version_evidence
from envdoctor_checks.torch.symptoms import (
    BuildIsolated,
    DllNotLoaded,
    ImportInterrupted,
    ModuleBroke,
)

CUDA = Outcome("cuda-available")
TORCH = imports("torch")
IMPORT_TORCH = 'python -X faulthandler -c "import torch; print(torch.__version__, torch.__file__)"'
ROCM_LIBRARIES = (
    "libtorch_hip",
    "libc10_hip",
    "libamdhip64",
    "librocblas",
    "libMIOpen",
    "libroctx64",
    "libhip",
    "libhsa-runtime64",
    "librocm_smi64",
)
XPU_LIBRARIES = ("libtorch_xpu", "libc10_xpu", "libsycl", "libze_loader", "libintel-ocloc")


@check.rule
def not_installed(build: TorchBuild, target: Target) -> Findings:
    """There is no torch in the interpreter that was asked about."""
    if build.version is not None or build.path is not None:
        return
    yield Finding(
        title=f"torch is not installed in {target.python}",
        severity=Severity.ERROR if target.named else Severity.NOTE,
        detail="No torch folder and no torch metadata lie on this interpreter's path."
        + ("" if target.named else " Nobody named this interpreter, so that may be as it should be."),
        evidence=(target.shows("interpreter", target.python), target.shows("chosen because", target.why)),
        remedies=(Install(requirements=("torch",), verify=IMPORT_TORCH),),
        breaks=(TORCH,),
        asks=(Ask("envdoctor check --python PATH", "whether torch is in another interpreter"),),
    )


@not_installed.sign
def _no_module(
    said: ModuleNotFound,
    isolated: tuple[BuildIsolated, ...],
    packages: Distributions | None,
    build: TorchBuild | None,
) -> Findings:
    if said.module != "torch":
        return
    if isolated:
        yield _built_in_isolation(said, isolated)
        return
    if packages is not None and packages.named("torch"):
        return  # python/package-in-other-interpreter
    known = torch_version(build, packages)
    yield Finding(
        title="torch is not installed in the Python that ran this",
        confidence=Confidence.POSSIBLE if known else Confidence.LIKELY,
        detail=f"The text also shows torch {known}: it may be installed into another interpreter."
        if known
        else "",
        evidence=(said.evidence(),),
        remedies=(Install(requirements=("torch",), verify=IMPORT_TORCH),),
        breaks=(TORCH,),
        shows=(TORCH,),
        asks=(
            Ask(
                'python -c "import sys; print(sys.executable)"; python -m pip show torch',
                "whether pip and python are of one environment",
            ),
        ),
    )


def _built_in_isolation(said: ModuleNotFound, isolated: tuple[BuildIsolated, ...]) -> Finding:
    package = next((each.package for each in isolated if each.package), None) or "PACKAGE"
    return Finding(
        title="the package is built in an isolated environment, which has no torch",
        confidence=Confidence.LIKELY,
        detail="pip and uv build a source distribution in a fresh environment that holds only what the package declares as "
        "build requirements; this one imports torch without declaring it. Whether torch is installed beside it plays no part.",
        evidence=(said.evidence(), *(each.evidence("build") for each in isolated[:1])),
        remedies=(
            Run(
                title="install torch first, then build without isolation",
                commands=(
                    "python -m pip install torch setuptools wheel packaging ninja",
                    f"python -m pip install --no-build-isolation {package}",
                ),
                reach=Reach.ENVIRONMENT,
                caveat="The build needs a CUDA toolkit of torch's CUDA release; a ready-made wheel of the package avoids it.",
            ),
        ),
        breaks=(Outcome("extension-build"), TORCH),
        shows=(Outcome("extension-build"),),
    )


@check.rule
def import_hangs(imported: TorchImport, stuck: ImportStuck | None) -> Findings:
    """``import torch`` does not come back."""
    if not imported.timed_out:
        return
    seconds = f"{imported.seconds or 0:.0f} s"
    at = f" It was at {imported.message}." if imported.message else ""
    yield Finding(
        title=f"import torch did not come back within {seconds}",
        confidence=Confidence.LIKELY,
        detail=f"The import was given {seconds} in a process of its own and was still at work.{at} A slow or dead network file system "
        "makes it slow, and so does a scanner that reads every library; a call into a hung driver never ends.",
        evidence=(_ended(imported, stuck, seconds), *_where(imported)),
        remedies=(
            Run(
                title="see where it waits",
                commands=(
                    f"timeout -s ABRT 60 {IMPORT_TORCH}",
                    "python -X importtime -c 'import torch' 2>&1 | sort -t'|' -k2 -n | tail",
                ),
                reach=Reach.SHELL,
            ),
            Run(
                title="try it from a local disk",
                commands=(
                    "python -m venv /var/tmp/torch-local && /var/tmp/torch-local/bin/pip install torch",
                ),
                reach=Reach.ENVIRONMENT,
            ),
        ),
        breaks=(TORCH,),
        shows=(TORCH,),
    )


def _ended(imported: TorchImport, stuck: ImportStuck | None, seconds: str) -> Evidence:
    if stuck is None:
        return imported.shows("import torch", f"killed after {seconds}")
    place = f" in {stuck.wchan}" if stuck.wchan else ""
    return stuck.shows(
        "import torch",
        f"process {stuck.pid} is in a call of the kernel's{place} that no signal ends (state {stuck.state}); "
        f"given up after {stuck.seconds:.0f} s",
    )


def _where(imported: TorchImport) -> tuple[Evidence, ...]:
    return (imported.shows("waiting in", imported.message),) if imported.message else ()


@import_hangs.sign
def _interrupted(said: ImportInterrupted) -> Findings:
    yield Finding(
        title="import torch was interrupted because it did not come back",
        confidence=Confidence.LIKELY,
        evidence=(said.evidence(),),
        remedies=(
            Run(
                title="see where it waits",
                commands=(f"timeout -s ABRT 60 {IMPORT_TORCH}",),
                reach=Reach.SHELL,
            ),
            Change(
                title="keep the environment on a local disk rather than a network file system",
                reach=Reach.ENVIRONMENT,
            ),
        ),
        breaks=(TORCH,),
        shows=(TORCH,),
        asks=(Ask(f"timeout -s ABRT 60 {IMPORT_TORCH}", "which line it waits in"),),
    )


@check.rule
def import_fails(imported: TorchImport, build: TorchBuild | None) -> Findings:
    """``import torch`` raises or crashes, for a cause that no other rule names."""
    if imported.ok or imported.timed_out:
        return
    what = f"crashes with {imported.signal}" if imported.signal else f"raises {imported.exception}"
    yield Finding(
        title=f"import torch {what}",
        detail=_crash_detail(imported),
        evidence=(
            imported.shows(
                "import torch",
                f"{imported.signal or imported.exception}: {imported.message or ''}".strip(": "),
            ),
            *version_evidence(build, None),
        ),
        remedies=_reinstalls(build),
        shows=(TORCH,),
        asks=(Ask(IMPORT_TORCH, "where it fails"),),
    )


def _crash_detail(imported: TorchImport) -> str:
    meanings = {
        "SIGBUS": "SIGBUS while a library is loaded mostly means that its file is shorter than its own tables say: a copy or an "
        "installation that was cut off, or a full disk.",
        "SIGILL": "SIGILL means an instruction that this processor does not have: torch's wheels need AVX on x86-64.",
        "SIGKILL": "SIGKILL from outside is mostly the kernel's answer to a memory limit.",
    }
    where = f" Python was at {imported.message}." if imported.signal and imported.message else ""
    return meanings.get(imported.signal or "", "") + where


def _reinstalls(build: TorchBuild | None) -> tuple[Install, ...]:
    version = build.version if build else None
    label = build.label if build else ""
    requirement = f"torch=={version}" if version else "torch"
    return (
        Install(
            requirements=(requirement,),
            build=label,
            reinstall=True,
            why="replace what is damaged",
            verify=IMPORT_TORCH,
        ),
    )


@import_fails.sign
def _folder_of_the_repository(said: ModuleNotFound) -> Findings:
    if not said.module.startswith("torch._C"):
        return
    yield Finding(
        title="Python imports a torch folder that has no compiled part",
        confidence=Confidence.LIKELY,
        detail="torch._C is the compiled half of torch. Started inside a checkout of PyTorch's sources, or beside a folder or file "
        "named torch, Python finds that one first.",
        evidence=(said.evidence(),),
        remedies=(
            Run(
                title="start Python from another directory",
                commands=("cd / && " + IMPORT_TORCH,),
                reach=Reach.SHELL,
            ),
            Install(requirements=("torch",), reinstall=True),
        ),
        breaks=(TORCH,),
        shows=(TORCH,),
    )


@import_fails.sign
def _dll(said: DllNotLoaded) -> Findings:
    missing = (
        "it, or a library that it needs, is not there" if said.code == 126 else "its initialisation failed"
    )
    yield Finding(
        title=f"Windows cannot load torch's {said.dll}",
        confidence=Confidence.LIKELY,
        detail=f"{missing[0].upper()}{missing[1:]}. Most often the Microsoft Visual C++ runtime is absent or older than torch's.",
        evidence=(said.evidence(),),
        remedies=(
            Run(
                title="install the current Visual C++ runtime",
                commands=("winget install Microsoft.VCRedist.2015+.x64",),
                reach=Reach.HOST,
                needs_root=False,
                needs_restart="process",
            ),
            Install(requirements=("torch",), reinstall=True),
        ),
        shows=(TORCH,),
    )


@import_fails.sign
def _printed(said: ModuleBroke) -> Findings:
    if said.module not in ("torch", "torch._C"):
        return
    yield Finding(
        title=f"import torch raises {said.exception}",
        confidence=Confidence.POSSIBLE,
        evidence=(said.evidence(),),
        remedies=(
            Install(
                requirements=("torch",), reinstall=True, why="replace what is damaged", verify=IMPORT_TORCH
            ),
        ),
        shows=(TORCH,),
        asks=(Ask("envdoctor check", "what the loader does in this environment"),),
    )
