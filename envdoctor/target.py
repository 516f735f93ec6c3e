"""Which Python interpreter is asked about, why that one, what was passed over, and where it keeps its packages.

Order: ``--python``; ``VIRTUAL_ENV``; ``CONDA_PREFIX`` (not base while a venv is active); the nearest ``.venv`` upwards;
the first ``python3`` on PATH whose prefix is not our own; our own, said plainly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec

from envdoctor.errors import UsageError
from envdoctor.facts import CouldNotLook, Fact, Source
from envdoctor.host import Host
from envdoctor.probing.child import ChildEnd, ChildResult, python_request

NAMES = ("python3", "python")


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
    """What the target interpreter says of itself, asked in one child without importing anything but the standard library."""

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


def choose(host: Host, named: str | None) -> Target:
    """Decide on the interpreter. Raises `UsageError` when the named one is not there or cannot be run."""
    if named is not None:
        return Target(
            python=_named(host, named), why="--python names it", named=True, source=Source("env", "--python")
        )
    passed: list[Passed] = []
    for python, why, source in _candidates(host, passed):
        if _runnable(host, python):
            return Target(python=python, why=why, named=False, passed_over=tuple(passed), source=source)
        passed.append(Passed(python, f"{why}, but it is not there or cannot be run"))
    return Target(
        python=sys.executable,
        why="no other interpreter was found, so this is envdoctor's own",
        named=False,
        own=True,
        passed_over=tuple(passed),
        source=Source("call", "sys.executable"),
    )


def _named(host: Host, named: str) -> str:
    """``--python``: a path to an interpreter, an environment's folder, or a name on PATH."""
    if os.sep not in named:
        for directory in _path(host):
            if _runnable(host, os.path.join(directory, named)):
                return os.path.join(directory, named)
    path = os.path.join(host.cwd, os.path.expanduser(named))
    for candidate in (path, *_interpreters(path)):
        if _runnable(host, candidate):
            return os.path.normpath(candidate)
    status = host.status(path)
    if status is None:
        raise UsageError(f"--python {named}: no such interpreter; give a path such as .venv/bin/python")
    if status.kind == "directory":
        raise UsageError(f"--python {named}: this folder holds no bin/python; give the interpreter itself")
    raise UsageError(f"--python {named}: this file cannot be executed; give an interpreter such as .venv/bin/python")


def _candidates(host: Host, passed: list[Passed]) -> Iterator[tuple[str, str, Source]]:
    environ = host.environ
    venv, conda = environ.get("VIRTUAL_ENV"), environ.get("CONDA_PREFIX")
    if venv:
        yield _python_in(host, venv), f"VIRTUAL_ENV is {venv}", Source("env", "VIRTUAL_ENV")
    if conda:
        python = _python_in(host, conda)
        if venv and environ.get("CONDA_DEFAULT_ENV") == "base":
            passed.append(Passed(python, "conda's base environment, while a venv is active"))
        else:
            yield python, f"CONDA_PREFIX is {conda}", Source("env", "CONDA_PREFIX")
    directory = host.cwd
    while True:
        folder = os.path.join(directory, ".venv")
        if host.exists(os.path.join(folder, "pyvenv.cfg")):
            yield _python_in(host, folder), f"the nearest .venv is {folder}", Source("file", folder)
            break
        if os.path.dirname(directory) == directory:
            break
        directory = os.path.dirname(directory)
    yield from _on_path(host, passed)


def _on_path(host: Host, passed: list[Passed]) -> Iterator[tuple[str, str, Source]]:
    """The interpreters on PATH that are not our own environment's."""
    ours = os.path.realpath(sys.prefix)
    seen: set[str] = set()
    for directory in _path(host):
        for name in NAMES:
            python = os.path.join(directory, name)
            if directory in seen or not _runnable(host, python):
                continue
            seen.add(directory)
            if os.path.realpath(os.path.dirname(directory)) == ours:
                passed.append(Passed(python, "envdoctor itself is installed there"))
            else:
                yield python, f"the first {name} on PATH", Source("env", "PATH")


def _path(host: Host) -> tuple[str, ...]:
    return tuple(filter(None, host.environ.get("PATH", "").split(os.pathsep)))


def _interpreters(folder: str) -> tuple[str, ...]:
    return (
        *(os.path.join(folder, "bin", name) for name in ("python", *NAMES)),
        os.path.join(folder, "Scripts", "python.exe"),
        os.path.join(folder, "python.exe"),
    )


def _python_in(host: Host, folder: str) -> str:
    return next((each for each in _interpreters(folder) if _runnable(host, each)), _interpreters(folder)[0])


def _runnable(host: Host, path: str) -> bool:
    try:
        status = host.status(path)
    except CouldNotLook:
        return False
    return status is not None and status.kind == "file" and host.may(path, os.X_OK)


ASK_PATHS = """
import os, platform, site, sys, sysconfig
if sys.version_info < (3,):
    answer("paths", too_old=sys.version.split()[0])
else:
    paths = sysconfig.get_paths()
    on_path = [each for each in sys.path if each and each != os.getcwd()]
    known = [paths["purelib"], paths["platlib"]] + list(site.getsitepackages() if hasattr(site, "getsitepackages") else [])
    user = site.getusersitepackages() if getattr(site, "ENABLE_USER_SITE", False) else None
    known += [user] if user else []
    answer(
        "paths",
        version=platform.python_version(), implementation=platform.python_implementation(),
        prefix=sys.prefix, base_prefix=getattr(sys, "base_prefix", sys.prefix), executable=sys.executable or "",
        sys_path=on_path, site_packages=[each for each in on_path if each in known], user_site=user,
        include=paths.get("include", ""), soabi=sysconfig.get_config_var("SOABI") or "",
        machine=platform.machine(), conda=os.path.isdir(os.path.join(sys.prefix, "conda-meta")),
        externally_managed=os.path.exists(os.path.join(paths["stdlib"], "EXTERNALLY-MANAGED")),
    )
done()
"""


def look_at_paths(host: Host, target: Target) -> TargetPaths:
    """Ask the target interpreter for its paths. Raises `CouldNotLook` saying how it failed to answer."""
    result = host.run_child(python_request(target.python, ASK_PATHS, deadline=8.0, env=dict(host.environ)))
    answer = next((stage for stage in result.stages if stage.get("stage") == "paths"), None)
    if answer is not None and "too_old" in answer:
        raise CouldNotLook(
            f"{target.python} is Python {answer['too_old']}, which no PyTorch of this decade supports",
            "name another interpreter with --python",
        )
    if answer is None:
        raise CouldNotLook(f"{target.python} {failure(result)}", "name another interpreter with --python")
    try:
        fields = without_own_stage(answer)
        return msgspec.convert({**fields, "source": {"kind": "child", "where": target.python}}, TargetPaths)
    except msgspec.ValidationError as error:
        raise CouldNotLook(f"{target.python} gave an answer that makes no sense: {error}") from error


def failure(result: ChildResult) -> str:
    """In words, how a child ended that should have answered: a phrase that follows the program's name."""
    tail = result.stderr.text.strip().splitlines()[-1:] or result.stdout.text.strip().splitlines()[-1:]
    said = f" ({tail[0][:160]})" if tail else ""
    words: dict[ChildEnd, str] = {
        ChildEnd.NOT_STARTED: f"could not be started: {result.error}",
        ChildEnd.TIMED_OUT: f"did not answer within {result.seconds:.0f} s{said}",
        ChildEnd.KILLED: f"was killed by {result.signal}{said}",
        ChildEnd.EXITED: f"exited with status {result.exit_code}{said}",
        ChildEnd.NO_ANSWER: f"ended without an answer, as no Python does{said}",
        ChildEnd.NOT_JSON: f"gave an answer that cannot be read: {result.error}",
        ChildEnd.WRONG_SHAPE: f"gave an answer that cannot be read: {result.error}",
    }
    return words.get(result.end, f"ended as {result.end.name.lower().replace('_', ' ')}{said}")


def without_own_stage(answer: dict[str, Any]) -> dict[str, Any]:
    """A stage's answer without its name and time, ready to be converted into a fact."""
    return {key: value for key, value in answer.items() if key not in ("stage", "at")}
