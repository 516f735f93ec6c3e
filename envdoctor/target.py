"""Which Python is asked about, why that one, what was passed over, and where it keeps its packages.

Order: ``--python``; ``VIRTUAL_ENV``; ``CONDA_PREFIX`` (not base while a venv is active); the nearest
``.venv`` upwards; the first ``python3`` on PATH whose prefix is not our own; our own, said plainly.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from envdoctor.errors import UsageError
from envdoctor.facts import CouldNotLook, Fact, Source
from envdoctor.probing.child import ChildEnd, ChildRequest, ChildResult, python_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.host import Host

OLDEST = (3, 8)
"""The oldest Python that our scripts for the examined interpreter run on."""
DEADLINE = 8.0
"""Seconds to start the interpreter; on a cold network file system a start takes several."""


class Passed(msgspec.Struct, frozen=True):
    """An interpreter that was considered and not taken."""

    python: str
    why: str


class Target(Fact, frozen=True):
    """The interpreter that the report is about."""

    fact_name: ClassVar[str] = "envdoctor.target"
    python: str
    """Absolute path, links not resolved: a venv's ``bin/python`` is what makes it that venv."""
    why: str
    named: bool
    """Whether the user named it (``--python``), so that an absent torch is a fault and not a choice."""
    own: bool = False
    """Whether it is the interpreter that envdoctor itself runs on, for want of another."""
    passed_over: tuple[Passed, ...] = ()


class TargetPaths(Fact, frozen=True):
    """What the target interpreter says of itself, in one child that imports the standard library only."""

    fact_name: ClassVar[str] = "envdoctor.target-paths"
    version: str
    """``3.11.7``."""
    implementation: str
    prefix: str
    base_prefix: str
    executable: str
    sys_path: tuple[str, ...]
    """As a script in another directory would see it: without the current directory."""
    site_packages: tuple[str, ...]
    """purelib, platlib and, where enabled, the user site; only those on sys.path, in order."""
    user_site: str | None
    include: str
    """Where this interpreter's Python.h belongs."""
    soabi: str
    machine: str
    conda: bool
    """Whether its prefix is a conda environment."""
    externally_managed: bool

    @property
    def is_venv(self) -> bool:
        """Whether it is a virtual environment."""
        return self.prefix != self.base_prefix

    @property
    def python_tag(self) -> str:
        """``cp311``."""
        return "cp" + "".join(self.version.split(".")[:2])


class Candidate(msgspec.Struct, frozen=True):
    """An interpreter that could be asked about, and what points to it."""

    python: str
    why: str
    source: Source
    not_if: str = ""
    """Why it is passed over even where it can be run."""


def choose(host: Host, named: str | None) -> Target:
    """Decide on the interpreter. Raises `UsageError` when the named one is not there or cannot be run."""
    if named is not None:
        source = Source("env", "--python")
        return Target(python=_named(host, named), why="--python names it", named=True, source=source)
    candidates = tuple(_active(host))
    if all(each.not_if for each in candidates):
        candidates += tuple(_on_path(host))
    own = Candidate(sys.executable, "no other interpreter was found", Source("call", "sys.executable"))
    chosen = next((each for each in candidates if not each.not_if), own)
    passed = (
        Passed(each.python, f"{each.why}, but {each.not_if or f'what points to {chosen.python} comes first'}")
        for each in candidates
        if each.python != chosen.python
    )
    return Target(
        python=chosen.python,
        why=chosen.why,
        named=False,
        own=chosen is own,
        passed_over=tuple(passed),
        source=chosen.source,
    )


def _named(host: Host, named: str) -> str:
    """``--python``: a path to an interpreter, an environment's folder, or a name on PATH."""
    if not named:
        raise UsageError("--python is empty; give a path such as .venv/bin/python, or leave it out")
    if not os.path.dirname(named):
        for directory in _path(host):
            if _runnable(host, os.path.join(directory, named)):
                return os.path.join(directory, named)
    path = os.path.join(host.cwd, os.path.expanduser(named))
    for candidate in (path, *_interpreters(host, path)):
        if _runnable(host, candidate):
            return _tidy(host, candidate)
    try:
        status = host.status(path)
    except CouldNotLook as kept:
        raise UsageError(f"--python {named}: {kept.reason}") from kept
    if status is None:
        raise UsageError(f"--python {named}: no such interpreter; give a path such as .venv/bin/python")
    if status.kind == "directory":
        raise UsageError(f"--python {named}: this folder holds no bin/python; give the interpreter itself")
    raise UsageError(f"--python {named}: this file cannot be executed; give the path of an interpreter")


def _tidy(host: Host, path: str) -> str:
    """Without ``..`` and ``//``, where that does not lead elsewhere, as it may through a link."""
    tidy = os.path.normpath(path)
    return tidy if _runnable(host, tidy) and host.stat(tidy).inode == host.stat(path).inode else path


def _active(host: Host) -> Iterator[Candidate]:
    """The environments that the shell or the folder points to, the one to take first."""
    environ = host.environ
    venv, conda, folder = environ.get("VIRTUAL_ENV"), environ.get("CONDA_PREFIX"), _nearest_venv(host)
    if venv:
        yield _environment(host, venv, f"VIRTUAL_ENV is {venv}", Source("env", "VIRTUAL_ENV"))
    if conda:
        base = venv and environ.get("CONDA_DEFAULT_ENV") == "base"
        not_if = "it is conda's base environment, and a venv is active" if base else ""
        yield _environment(host, conda, f"CONDA_PREFIX is {conda}", Source("env", "CONDA_PREFIX"), not_if)
    if folder:
        not_if = "envdoctor itself is installed there, and no torch" if _only_ours(host, folder) else ""
        why = f"the nearest .venv is {folder}"
        yield _environment(host, folder, why, Source("file", folder), not_if)


def _only_ours(host: Host, folder: str) -> bool:
    """Whether a venv is the one that envdoctor was installed into for itself, as its README does it."""
    if not host.live or os.path.realpath(folder) != os.path.realpath(sys.prefix):
        return False
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return not _is_there(host, os.path.join(folder, "lib", version, "site-packages", "torch"))


def _environment(host: Host, folder: str, why: str, source: Source, not_if: str = "") -> Candidate:
    places = _interpreters(host, folder)
    python = next((each for each in places if _runnable(host, each)), None)
    if python is not None:
        return Candidate(python, why, source, not_if)
    is_there = any(_is_there(host, each) for each in places)
    return Candidate(
        places[0], why, source, "its interpreter cannot be run" if is_there else "it holds no interpreter"
    )


def _nearest_venv(host: Host) -> str | None:
    directory = host.cwd
    while True:
        folder = os.path.join(directory, ".venv")
        if _is_there(host, os.path.join(folder, "pyvenv.cfg")):
            return folder
        if os.path.dirname(directory) == directory:
            return None
        directory = os.path.dirname(directory)


def _on_path(host: Host) -> Iterator[Candidate]:
    """The interpreters on PATH, one per folder, up to the first that is not of our own environment."""
    ours = os.path.realpath(sys.prefix)
    for directory in _path(host):
        name = next((each for each in _names(host) if _runnable(host, os.path.join(directory, each))), None)
        if name is None:
            continue
        own = host.live and os.path.dirname(os.path.realpath(directory)) == ours
        not_if = "envdoctor itself is installed there" if own else ""
        yield Candidate(
            os.path.join(directory, name), f"the first {name} on PATH", Source("env", "PATH"), not_if
        )
        if not own:
            return


def _path(host: Host) -> tuple[str, ...]:
    """The folders of PATH, once each, without the empty entries that mean the current folder."""
    entries = filter(None, host.environ.get("PATH", "").split(os.pathsep))
    return tuple(dict.fromkeys(os.path.join(host.cwd, each) for each in entries))


def _names(host: Host) -> tuple[str, ...]:
    return ("python.exe",) if host.system == "windows" else ("python3", "python")


def _interpreters(host: Host, folder: str) -> tuple[str, ...]:
    """Where an environment keeps its interpreter."""
    if host.system == "windows":
        return os.path.join(folder, "Scripts", "python.exe"), os.path.join(folder, "python.exe")
    return os.path.join(folder, "bin", "python"), os.path.join(folder, "bin", "python3")


def _is_there(host: Host, path: str) -> bool:
    try:
        return host.exists(path)
    except CouldNotLook:
        return False  # what this user may not see is nothing that this user works in


def _runnable(host: Host, path: str) -> bool:
    try:
        status = host.status(path)
    except CouldNotLook:
        return False
    return status is not None and status.kind == "file" and host.may(path, os.X_OK)


ASK_PATHS = """
import os, platform, site, sys, sysconfig
paths = sysconfig.get_paths()
known = [paths["purelib"], paths["platlib"]] + list(getattr(site, "getsitepackages", list)())
user = site.getusersitepackages() if getattr(site, "ENABLE_USER_SITE", False) else None
known += [user] if user else []
on_path = [str(each) for each in sys.path if each]
in_venv = sys.prefix != sys.base_prefix
answer(
    "paths",
    version=platform.python_version(), implementation=platform.python_implementation(),
    prefix=sys.prefix, base_prefix=sys.base_prefix, executable=sys.executable or "",
    sys_path=on_path, site_packages=[each for each in on_path if each in known], user_site=user,
    include=paths.get("include", ""), soabi=sysconfig.get_config_var("SOABI") or "",
    machine=platform.machine(), conda=os.path.isdir(os.path.join(sys.prefix, "conda-meta")),
    externally_managed=not in_venv and os.path.exists(os.path.join(paths["stdlib"], "EXTERNALLY-MANAGED")),
)
done()
"""
ASK_VERSION = "import sys; sys.stdout.write('python %d.%d.%d' % tuple(sys.version_info[:3]))"
"""Runs on every Python there ever was."""


def look_at_paths(host: Host, target: Target, deadline: float = DEADLINE) -> TargetPaths:
    """Ask the target interpreter for its paths. Raises `CouldNotLook` saying how it failed to answer."""
    result = host.run_child(python_request(target.python, ASK_PATHS, deadline=deadline, env=host.environ))
    answer = next((stage for stage in result.stages if stage["stage"] == "paths"), None)
    if answer is None:
        told = _too_old(host, target, deadline) if result.end is ChildEnd.EXITED else ""
        told = told or failure(result)
        raise CouldNotLook(f"{target.python} {told}", "name another interpreter with --python")
    try:
        fields = without_own_stage(answer)
        return msgspec.convert({**fields, "source": {"kind": "child", "where": target.python}}, TargetPaths)
    except msgspec.ValidationError as error:
        raise CouldNotLook(f"{target.python} gave an answer that makes no sense: {error}") from error


def _too_old(host: Host, target: Target, deadline: float) -> str:
    """Whether an interpreter without an answer is a Python that cannot even read the question."""
    request = ChildRequest(argv=(target.python, "-c", ASK_VERSION), deadline=deadline, env=host.environ)
    result = host.run_child(request)
    name, _, version = result.stdout.text.partition(" ")
    parts = tuple(int(part) for part in version.split(".") if part.isdigit())
    if name != "python" or not result.ok or len(parts) != 3 or parts >= OLDEST:
        return ""
    return f"is Python {version}, for which no PyTorch of today is built"


def failure(result: ChildResult) -> str:
    """In words, how a child ended that should have answered: a phrase that follows the program's name."""
    lines = result.stderr.text.strip().splitlines() or result.stdout.text.strip().splitlines()
    errors = [
        line for line in lines if "rror" in line
    ]  # Python's last line may be one of a thread's traceback
    said = f" ({(errors or lines)[-1].strip()[:160]})" if lines else ""
    words: dict[ChildEnd, str] = {
        ChildEnd.NOT_STARTED: f"could not be started: {result.error}",
        ChildEnd.INTERRUPTED: "was interrupted",
        ChildEnd.TIMED_OUT: f"did not answer within {result.seconds:.0f} s{said}"
        + (f"; {result.stuck.told}" if result.stuck else ""),
        ChildEnd.KILLED: f"was killed by {result.signal}{said}",
        ChildEnd.EXITED: f"exited with status {result.exit_code}{said}",
        ChildEnd.NO_ANSWER: f"ended without an answer{said}",
        ChildEnd.ANSWERED: f"ended without an answer{said}",
    }
    return words.get(result.end, f"gave an answer that cannot be read: {result.error}")


def without_own_stage(answer: dict[str, Any]) -> dict[str, Any]:
    """A stage's answer without its name and time, ready to be converted into a fact."""
    return {key: value for key, value in answer.items() if key not in ("stage", "at")}
