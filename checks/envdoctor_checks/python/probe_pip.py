"""The environment that is active, and where the pip on PATH installs to, by its first line: nothing is run."""

from __future__ import annotations

import os
import re

from envdoctor.api import CouldNotLook, Host, Source, Target, TargetPaths, Tier
from envdoctor_checks.python.check import check
from envdoctor_checks.python.facts import ActiveEnvironment, PipCommand

NAMES = ("pip", "pip3")
FAMILY = ("torch", "torchvision", "torchaudio")
FIRST_LINE = re.compile(r"#!\s*(/\S*python[\d.]*)\b|#!/bin/sh\n'''exec' \"?(/[^\"\s]+)")
"""The interpreter, or, where its path is too long or has blanks, a shell that starts it in the second line."""


@check.probe(tier=Tier.QUICK)
def active_environment(host: Host) -> ActiveEnvironment | None:
    """Whether what VIRTUAL_ENV names is still there. Where a folder on the way is closed, that cannot be said."""
    path = host.environ.get("VIRTUAL_ENV")
    if not path or host.system == "windows":
        return None
    python = f"{path}/bin/python"
    return ActiveEnvironment(
        path=path,
        exists=host.exists(path),
        python=host.resolve(python),
        python_exists=host.exists(python),
        source=Source("env", "VIRTUAL_ENV"),
    )


@check.probe(tier=Tier.QUICK)
def pip_command(host: Host, target: Target, paths: TargetPaths) -> PipCommand:
    """The first pip on PATH, its interpreter, and whether torch is with that one."""
    path = next((found for name in NAMES if (found := _which(host, name))), None)
    if path is None:
        return PipCommand(path=None, source=Source("env", "PATH"))
    source = Source("file", path)
    python = _interpreter(host, path)
    if python is None:
        return PipCommand(path=path, source=source)
    same = _environment(host, python) in (_environment(host, target.python), paths.prefix)
    return PipCommand(
        path=path, python=python, same=same, has=() if same else _has(host, python), source=source
    )


def _which(host: Host, name: str) -> str | None:
    folders = filter(None, host.environ.get("PATH", "").split(os.pathsep))
    return next((path for folder in folders if _is_program(host, path := os.path.join(folder, name))), None)


def _is_program(host: Host, path: str) -> bool:
    try:
        status = host.status(path)
    except CouldNotLook:
        return False
    return status is not None and status.kind == "file" and host.may(path, os.X_OK)


def _interpreter(host: Host, script: str) -> str | None:
    try:
        told = FIRST_LINE.match(host.text(script, 2048) or "")
    except CouldNotLook:
        return None
    return told[1] or told[2] if told else None


def _environment(host: Host, python: str) -> str:
    """The folder above its ``bin``, whose links are resolved; the interpreter itself may be a link out of it."""
    try:
        return os.path.dirname(host.resolve(os.path.dirname(python)))
    except OSError:
        return os.path.dirname(os.path.dirname(python))


def _has(host: Host, python: str) -> tuple[str, ...]:
    """Which of torch's family lie in the folders of packages of an environment."""
    prefix = _environment(host, python)
    found: dict[str, None] = {}
    for library in (f"{prefix}/lib", f"{prefix}/local/lib"):
        for version in _names(host, library):
            for kind in ("site-packages", "dist-packages") if version.startswith("python") else ():
                names = _names(host, f"{library}/{version}/{kind}")
                found.update(dict.fromkeys(name for name in FAMILY if name in names))
    return tuple(found)


def _names(host: Host, folder: str) -> tuple[str, ...]:
    try:
        return host.names(folder) or ()
    except CouldNotLook:
        return ()
