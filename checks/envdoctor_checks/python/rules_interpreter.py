"""An interpreter that does not start, is gone, or may not be installed into; and a pip that serves another one."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Outcome,
    Reach,
    Remedy,
    Run,
    Severity,
    Target,
    TargetPaths,
    Unavailable,
    UnsetVariable,
    Variables,
    imports,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.python.check import check
from envdoctor_checks.python.facts import (
    ActiveEnvironment,
    ExternallyManaged,
    InterpreterMissing,
    ModuleNotFound,
    PipCommand,
)
from envdoctor_checks.torch.facts import TorchBuild

HOME = "PYTHONHOME"
INSTALLED = Outcome("install")
TORCH = imports("torch")
MAKE_ANEW = (
    "mv .venv .venv.old && python3 -m venv .venv",
    ".venv/bin/python -m pip install -r requirements.txt   # uv: uv sync, or uv venv --clear",
)


@check.rule
def standard_library_not_found(paths: TargetPaths | Unavailable, variables: Variables) -> Findings:
    """The interpreter does not find its own standard library: PYTHONHOME, or a Python that was moved."""
    if isinstance(paths, Unavailable) and "'encodings'" in paths.reason:
        yield _no_library(variables, (Evidence("the interpreter", paths.reason),))


@standard_library_not_found.sign
def _said(said: ModuleNotFound, variables: Variables | None) -> Findings:
    if said.module == "encodings":
        yield _no_library(variables, (said.evidence(),))


def _no_library(variables: Variables | None, evidence: tuple[Evidence, ...]) -> Finding:
    home = variables.get(HOME) if variables else None
    rebuild = Run(
        title="make the environment anew with a Python that is there",
        commands=MAKE_ANEW,
        reach=Reach.ENVIRONMENT,
    )
    unset = UnsetVariable(HOME, why="each Python knows where its own library is", verify="python -c pass")
    known_unset = variables is not None and variables.complete and home is None
    return Finding(
        title=f"PYTHONHOME={home} sends the interpreter to a standard library that is not its own"
        if home
        else "the interpreter does not find its own standard library",
        subject=f"variable:{HOME}" if home else "python:library",
        confidence=Confidence.CERTAIN if home else Confidence.LIKELY,
        detail="Python loads encodings before anything else. It looks below PYTHONHOME where that is set, "
        "else beside the interpreter that a virtual environment was made from.",
        evidence=(*((variables.evidence(HOME),) if home and variables else ()), *evidence),
        remedies=(unset,) if home else (rebuild,) if known_unset else (unset, rebuild),
        breaks=(TORCH,),
        shows=(TORCH,),
        asks=()
        if home or known_unset
        else (Ask("env | grep PYTHON; head pyvenv.cfg", "which of the two it is"),),
    )


@check.rule
def interpreter_missing(active: ActiveEnvironment) -> Findings:
    """The environment's interpreter is gone: it was a link to a Python that was removed or upgraded."""
    if not active.python_exists:
        yield _gone(
            active.python,
            (
                active.shows("VIRTUAL_ENV", active.path),
                active.shows(f"{active.path}/bin/python", "not there"),
            ),
            Severity.WARNING
            if active.exists
            else Severity.NOTE,  # a deleted folder is a leftover of the shell
        )


@interpreter_missing.sign
def _bad_interpreter(said: InterpreterMissing) -> Findings:
    yield _gone(
        said.path, (said.evidence(),), Severity.ERROR, "the interpreter of " if said.is_script else ""
    )


def _gone(path: str, evidence: tuple[Evidence, ...], severity: Severity, what: str = "") -> Finding:
    return Finding(
        title=f"{what}{path} is not there any more",
        subject=f"path:{path}",
        severity=severity,
        detail="A virtual environment holds a link to the Python that it was made from, and its scripts name the "
        "environment's path: both break when that Python is removed or upgraded, or the environment is moved or copied.",
        evidence=evidence,
        remedies=(
            Run(
                title="make the environment anew; it cannot be mended",
                commands=MAKE_ANEW,
                reach=Reach.ENVIRONMENT,
                caveat="Keep the old folder until the list of its packages is saved.",
            ),
        ),
        breaks=(TORCH,) if severity is Severity.ERROR else (),
        shows=(TORCH,) if severity is Severity.ERROR else (),
    )


@check.rule
def externally_managed(said: ExternallyManaged, around: Surroundings | None) -> Findings:
    """pip refuses to install into the Python of the operating system (PEP 668)."""
    inside = around is not None and around.engine not in (None, "none")
    own = Run(
        title="make an environment of your own and install there",
        commands=(
            "python3 -m venv .venv   # Debian and Ubuntu: apt install python3-venv",
            ".venv/bin/python -m pip install <packages>   # uv: uv venv && uv pip install <packages>",
        ),
        reach=Reach.ENVIRONMENT,
    )
    anyway = Run(
        title="or install into it all the same",
        commands=("python3 -m pip install --break-system-packages <packages>",),
        reach=Reach.ENVIRONMENT,
        caveat="Harmless in an image that serves one program; on a machine, tools of the system may break.",
    )
    remedies: tuple[Remedy, ...] = (anyway, own) if inside else (own, anyway)
    yield Finding(
        title="this Python belongs to the operating system, and pip must not install into it",
        subject=f"path:{said.where}" if said.where else "",
        confidence=Confidence.CERTAIN,
        detail="A file EXTERNALLY-MANAGED beside its standard library tells pip and uv to keep out: the system's own "
        "package manager looks after it.",
        evidence=(said.evidence(),),
        remedies=remedies,
        breaks=(INSTALLED,),
        shows=(INSTALLED,),
    )


@check.rule
def pip_installs_elsewhere(
    pip: PipCommand, target: Target, build: TorchBuild | None, around: Surroundings | None
) -> Findings:
    """The pip on PATH installs into another Python than the environment that is active."""
    active = target.source.where in ("VIRTUAL_ENV", "CONDA_PREFIX")
    told = "torch" in pip.has and build is not None and build.version is None  # package-in-other-interpreter
    if pip.same is not False or not active or told:
        return
    with_uv = around is not None and around.python_manager == "uv"
    yield Finding(
        title=f"{pip.path} installs into {pip.python}, and not into the active environment",
        subject=f"path:{pip.path}",
        severity=Severity.NOTE,
        confidence=Confidence.CERTAIN,
        detail="A pip installs into the Python of its own first line. uv makes environments without a pip, so the next "
        "one on PATH answers; an alias or a PATH that was set after activating does the same.",
        evidence=(
            pip.shows("pip on PATH", f"{pip.path} -> {pip.python}"),
            Evidence("active environment", target.python, target.source),
        ),
        remedies=(
            Change(
                title="name the Python when you install",
                reach=Reach.SHELL,
                example=("uv pip install <packages>",)
                if with_uv
                else (f"{target.python} -m pip install <packages>",),
            ),
        ),
    )
