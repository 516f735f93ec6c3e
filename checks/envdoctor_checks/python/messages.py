"""What the interpreter prints about packages that are not there."""

from __future__ import annotations

import re

from envdoctor_checks.python.check import check
from envdoctor_checks.python.facts import (
    ExternallyManaged,
    InterpreterMissing,
    LeftoverWarned,
    ModuleNotFound,
    PackageDenied,
    ProviderMissing,
    SeveralOwners,
)


@check.message(
    r"No module named '?(?P<module>[A-Za-z_][\w.]*)'?",
    needles="no module named",
    sample="ModuleNotFoundError: No module named 'some_package'",
)
def module_not_found(match: re.Match[str]) -> ModuleNotFound:
    """Python's own words, with and without quotes (``python -m``, old releases)."""
    return ModuleNotFound(module=match["module"].rstrip("."))


@check.message(
    r"Ignoring invalid distribution (?P<name>[~-][\w.-]+) ?(?:\((?P<folder>[^)]+)\))?",
    needles="ignoring invalid distribution",
    sample="WARNING: Ignoring invalid distribution ~ome-package (/x/site-packages)",
)
def leftover(match: re.Match[str]) -> LeftoverWarned:
    """pip, of a folder that an interrupted uninstallation renamed."""
    return LeftoverWarned(name=match["name"], folder=match["folder"])


@check.message(
    r"multiple CuPy packages are installed[\s\S]*?\n\s*(?P<names>cupy[\w-]*(?:, cupy[\w-]*)+)",
    needles="multiple cupy packages are installed",
    sample="  CuPy may not function correctly because multiple CuPy packages are installed\n  in your environment:\n\n    cupy-cuda11x, cupy-cuda12x",
    span=5,
)
def several_cupy(match: re.Match[str]) -> SeveralOwners:
    """CuPy, when it is imported."""
    return SeveralOwners(module="cupy", distributions=tuple(match["names"].split(", ")))


@check.message(
    r"(?:bad interpreter: [Pp]ermission denied|[Pp]ermission denied:? ?[\"'](?P<path>/[^\"']*(?:site-packages|dist-packages|/bin/python|pyvenv\.cfg|/uv/python|miniconda|anaconda)[^\"']*)[\"']|"
    r"exec:? [\"']?(?P<binary>/\S*python[\d.]*)[\"']?: permission denied)|^(?:\S*sh: )?(?:(?:line )?\d+: )?(?P<shell>/\S*bin/python[\d.]*): Permission denied|"
    r"failed to canonicalize path [`'\"](?P<uv>/[^`'\"]+)[`'\"]: Permission denied|"
    r"interpreter at [`'\"](?P<uv_at>/[^`'\"]+)[`'\"][^\n]*Permission denied",
    needles="permission denied",
    sample="PermissionError: [Errno 13] Permission denied: '/root/venv/lib/python3.11/site-packages/torch/__init__.py'",
)
def denied(match: re.Match[str]) -> PackageDenied | None:
    """Python's own words, a shell's, and a container runtime's."""
    path = match["path"] or match["binary"] or match["shell"] or match["uv"] or match["uv_at"]
    if path is None:
        before = match.string[: match.start()].rstrip(": ").split()
        path = before[-1].rstrip(":") if before else None
    return PackageDenied(path=path) if path and path.startswith("/") else None


@check.message(
    r"[Ss]pecified provider '(?P<provider>CUDAExecutionProvider|TensorrtExecutionProvider)' is not in available provider names|"
    r"\['(?P<older>CUDAExecutionProvider)'\] does not contain a subset of available providers",
    needles=("is not in available provider names", "subset of available providers"),
    sample="UserWarning: Specified provider 'CUDAExecutionProvider' is not in available provider names. Available providers: 'CPUExecutionProvider'",
)
def provider_missing(match: re.Match[str]) -> ProviderMissing:
    """ONNX Runtime whose files are those of the build for the CPU."""
    return ProviderMissing(provider=match["provider"] or match["older"])


@check.message(
    r"^error: externally-managed-environment|[Ii]nterpreter at [`'\"]?(?P<where>/[^\s`'\"]+)[`'\"]? is externally managed",
    needles=("externally-managed-environment", "is externally managed"),
    sample="error: externally-managed-environment",
)
def managed(match: re.Match[str]) -> ExternallyManaged:
    """pip's first line, and uv's."""
    return ExternallyManaged(where=match["where"])


@check.message(
    r"(?P<bash>/\S*python[\d.]*): bad interpreter: No such file or directory|"
    r"bad interpreter: (?P<zsh>/\S*python[\d.]*): no such file or directory|"
    r"(?P<script>/\S*/bin/(?:pip[\d.]*|i?python[\d.]*|torchrun|accelerate|pytest|jupyter[\w-]*)): cannot execute: required file not found",
    needles=("bad interpreter: ", "required file not found"),
    sample="bash: /srv/app/.venv/bin/pip: /usr/bin/python3.9: bad interpreter: No such file or directory",
)
def interpreter_missing(match: re.Match[str]) -> InterpreterMissing:
    """A shell that starts a script of an environment; from release 5.2, bash names the script alone."""
    script = match["script"]
    return InterpreterMissing(path=script or match["bash"] or match["zsh"], is_script=script is not None)
