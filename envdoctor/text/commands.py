"""What a typed command line says: its simple commands, and the machine or container that it opens."""

from __future__ import annotations

import re

from .openings import Opening, open_elsewhere
from .words import (
    ASSIGNMENT,
    MAX_LENGTH,
    SHELLS,
    Word,
    after_options,
    parts,
    program,
    shell_argument,
    without_documents,
    words,
)

_MAX_DEPTH = 6  # sudo env VAR=x docker exec c sh -c '...'


def simple_commands(command: str) -> tuple[str, ...]:
    """Return every simple command of a line, each as typed and without what stands before or around it.

    `sudo docker exec c nvidia-smi -L | head` gives the three forms that begin with docker, nvidia-smi, head.
    """
    found: list[str] = []
    for part in parts(without_documents(command)[:MAX_LENGTH]):
        _unwrap(part, found, 0)
    return tuple(dict.fromkeys(found))


_KEYWORDS = frozenset(
    {"do", "then", "else", "if", "while", "until", "!", "{", "(", "time", "exec", "command"}
)
# Wrappers that run the rest of the line on the same machine, and their options that take a value.
_WRAPPERS = {
    "sudo": "ugpCDRTh",
    "env": "uCS",
    "nohup": "",
    "timeout": "ks",
    "nice": "n",
    "ionice": "cnp",
    "stdbuf": "ioe",
    "numactl": "NmCip",
    "taskset": "",
    "xargs": "IndPLs",
    "watch": "n",
    "setsid": "",
    "unbuffer": "",
    "doas": "u",
    "catchsegv": "",
}
_RUNNERS = frozenset({"uv", "poetry", "pipenv", "pdm", "conda", "mamba", "micromamba", "pixi"})  # "... run"
_RUNNER_VALUES = frozenset(
    {"-n", "--name", "-p", "--prefix", "--with", "--python", "--extra", "--group", "--cwd"}
)


def _unwrap(part: str, found: list[str], depth: int) -> None:
    """Add the simple command `part` and what it runs, from the outside to the inside."""
    if depth > _MAX_DEPTH:
        return
    part = part.lstrip("({ ").strip()
    split = words(part)
    index = 0
    while index < len(split) and (split[index].text in _KEYWORDS or ASSIGNMENT.match(split[index].text)):
        index += 1
    if index >= len(split):
        if part and split and split[-1].text not in _KEYWORDS:
            found.append(part)  # assignments alone
        return
    part = part[split[index].start :]
    split = words(part)
    found.append(part)
    inner = _inner_command(part, split)
    if inner:
        for piece in parts(inner):
            _unwrap(piece, found, depth + 1)


def _inner_command(part: str, split: tuple[Word, ...]) -> str | None:
    """What the command runs in turn, if it is one that runs another."""
    name = program(split[0].text)
    if name in _WRAPPERS:
        index = after_options(split, 1, _WRAPPERS[name])
        if name in {"timeout", "taskset"}:
            index += 1  # the duration; the mask
        return part[split[index].start :] if index < len(split) else None
    if name in SHELLS:
        return shell_argument(split)
    if len(split) > 2 and name in _RUNNERS and split[1].text == "run":
        index = 2
        while index < len(split) and split[index].text.startswith("-"):
            index += 2 if split[index].text in _RUNNER_VALUES else 1
        return part[split[index].start :] if index < len(split) else None
    opened = open_elsewhere(part, split)
    return opened.inner if opened else None


_OPENERS = re.compile(
    r"docker|podman|nerdctl|kubectl|oc |k3s|^k |apptainer|singularity|ssh|srun|salloc|wsl|chroot|nspawn|netns"
)


def opening(command: str) -> Opening | None:
    """Say where a pipeline runs if not here: behind sudo and assignments, and in its first command."""
    if not _OPENERS.search(command):
        return None
    for part in parts(without_documents(command)[:MAX_LENGTH]):
        found: list[str] = []
        _unwrap(part, found, 0)
        for simple in found:
            opened = open_elsewhere(simple, words(simple))
            if opened:
                return opened
            if program(simple.split(None, 1)[0]) not in _WRAPPERS:
                break
        break
    return None


# Commands and words of the shell that print nothing, and so do not make the output of a list a mixture.
_SILENT = frozenset(
    {".", "cd", "export", "source", "set", "unset", "mkdir", "sleep", "true", "false", "wait", "trap"}
    | {"for", "while", "until", "do", "then", "done", "fi", "esac", "}", ")"}
)


def openings(command: str) -> tuple[Opening | None, ...]:
    """`opening` of every pipeline that prints in a list such as `uname -r; docker run image uname -r`.

    What runs is left out of the answer where there are several, so that equal places compare equal.
    """
    if not _OPENERS.search(command):
        return (None,)
    pipelines = parts(without_documents(command), pipes=False)
    found = [opening(pipeline) for pipeline in pipelines if not _is_silent(pipeline)]
    if len(found) > 1:
        found = [Opening(one.kind, one.target, "") if one else None for one in found]
    return tuple(found)


def _is_silent(pipeline: str) -> bool:
    first, _, rest = pipeline.partition(" ")
    return first in _SILENT and not (first in {"do", "then"} and rest)
