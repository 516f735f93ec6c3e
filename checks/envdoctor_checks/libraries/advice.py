"""Remedies that several rules of this check give."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from envdoctor.api import AskAdministrator, DropPathEntry, Reach, Remedy, Run, UnsetVariable
from envdoctor_checks.libraries.clues import Entries

VARIABLE = "LD_LIBRARY_PATH"
IMPORT_AGAIN = 'python -c "import torch; print(torch.__version__, torch.cuda.is_available())"'
SEARCHED = "LD_DEBUG=libs python -c 'import torch' 2>&1 | grep -E 'find library=lib(cu|nv|nccl)|trying file'"
"""What shows which file the loader takes, and by which rule."""


def without(
    entries: Entries, foreign: Iterable[str], why: str = "", proven: tuple[str, ...] | None = None
) -> tuple[Remedy, ...]:
    """Take the folders that supply foreign copies out of LD_LIBRARY_PATH; the whole variable where nothing else is in it.

    `proven`: the elements that make the difference, where the model of the loader has said (`what_if.proven`).
    """
    drop = tuple(dict.fromkeys(foreign if proven is None else proven))
    if not drop:
        return ()
    useless = entries.of_cuda() if proven is None else ()
    rest = [each for each in entries.entries if each not in drop and each not in useless]
    if not any(rest):
        return (UnsetVariable(VARIABLE, why=why, verify=IMPORT_AGAIN),)
    return tuple(DropPathEntry(VARIABLE, each, why=why, verify=IMPORT_AGAIN) for each in drop)


def with_folder(folder: str, why: str) -> Run:
    """Put a folder in front of LD_LIBRARY_PATH, in the shell that starts the program."""
    value = f"{shlex.quote(folder)}${{{VARIABLE}:+:${VARIABLE}}}"
    return Run(
        f"{why}: put {folder} on {VARIABLE}",
        (f"export {VARIABLE}={value}",),
        Reach.SHELL,
        needs_restart="process",
    )


def in_cache(folder: str) -> AskAdministrator:
    """Let the loader's cache know a folder, for every program of the machine."""
    line = f"echo {shlex.quote(folder)} | sudo tee /etc/ld.so.conf.d/cuda.conf && sudo ldconfig"
    return AskAdministrator(f"let ldconfig know {folder}", commands=(line,))


def linked(folder: str, file: str, name: str) -> Run:
    """Give a file a second name in its own folder."""
    command = f"ln -s {shlex.quote(file)} {shlex.quote(f'{folder}/{name}')}"
    return Run(f"link {name} to {file}, in {folder}", (command,), Reach.ENVIRONMENT, needs_restart="process")
