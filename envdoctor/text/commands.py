"""What a typed command line says: its simple commands, and the machine or container that it opens."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

OpeningKind = Literal["container", "remote", "job", "namespace", "chroot", "wsl", "build"]

_MAX_LENGTH = 4096  # characters of a command line that are looked at
_MAX_DEPTH = 6  # sudo env VAR=x docker exec c sh -c '...'


class Opening(msgspec.Struct, frozen=True):
    """A command that runs something elsewhere: in a container, on another machine, in a job, under another root.

    `target` names it (image, container, pod, host; None where the command does not say), `inner` is what runs
    there: None where it is a shell or not said.
    """

    kind: OpeningKind
    target: str | None
    inner: str | None


class Word(msgspec.Struct, frozen=True):
    """One word of a command line, without its quotes, and where it stands."""

    text: str
    start: int
    end: int


_WORD = re.compile(r"""(?:[^\s"'\\]+|\\.|"(?:[^"\\]|\\.)*"|'[^']*'|["'\\])+""", re.DOTALL)
_QUOTED = re.compile(r"""\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'""", re.DOTALL)
_WINDOWS_PATH = re.compile(r"(?:[A-Za-z]:|\.{1,2}|[\w.-]+)\\\w")


def words(command: str) -> tuple[Word, ...]:
    """Split into words as a shell does, but forgivingly: an unmatched quote is a character like others."""
    return tuple(
        Word(_unquoted(found[0]), found.start(), found.end())
        for found in _WORD.finditer(command[:_MAX_LENGTH])
    )


def _unquoted(word: str) -> str:
    if "\\" in word and _WINDOWS_PATH.match(word):
        return word.strip("\"'")
    return _QUOTED.sub(lambda found: found[1] or found[2] or found[3] or "", word)


_OPERATOR = re.compile(
    r"""(?P<skip>\\.|"(?:[^"\\]|\\.)*"|'[^']*'|\$\((?:[^()]|\([^()]*\))*\)|\d?>&\d|&>)|\|\||&&|\|&?|;|&(?!>)|\n""",
    re.DOTALL,
)


def _parts(command: str, *, pipes: bool = True) -> list[str]:
    """Split a list of commands at its operators, outside quotes; `pipes` says whether pipelines are split too."""
    found = []
    start = 0
    for operator in _OPERATOR.finditer(command):
        if operator["skip"] is None and (pipes or operator[0][:1] != "|" or operator[0] == "||"):
            found.append(command[start : operator.start()])
            start = operator.end()
    found.append(command[start:])
    return [part.strip() for part in found if part.strip()]


def simple_commands(command: str) -> tuple[str, ...]:
    """Return every simple command of a line, each as typed and without what stands before or around it.

    `sudo docker exec c nvidia-smi -L | head` gives the three forms that begin with docker, nvidia-smi, head.
    """
    found: list[str] = []
    for part in _parts(_without_documents(command)[:_MAX_LENGTH]):
        _unwrap(part, found, 0)
    return tuple(dict.fromkeys(found))


def _without_documents(command: str) -> str:
    """Drop the bodies of here-documents, which are no commands of this shell."""
    return command.split("\n", 1)[0] if HERE_DOCUMENT.search(command.split("\n", 1)[0]) else command


HERE_DOCUMENT = re.compile(r"(?<!<)<<(?P<tabs>-?)\s*(?P<quote>['\"]?)(?P<end>[A-Za-z_]\w*)(?P=quote)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_KEYWORDS = frozenset({"do", "then", "else", "if", "while", "until", "!", "{", "(", "time", "exec", "command"})
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
_RUNNERS = (("uv", "run"), ("poetry", "run"), ("pipenv", "run"), ("pdm", "run"), ("conda", "run"), ("pixi", "run"))
_RUNNER_VALUES = frozenset({"-n", "--name", "-p", "--prefix", "--with", "--python", "--extra", "--group", "--cwd"})
_SHELLS = frozenset({"sh", "bash", "zsh", "dash", "ash", "fish", "pwsh", "powershell", "cmd", "cmd.exe"})


def _unwrap(part: str, found: list[str], depth: int) -> None:
    """Add the simple command `part` and what it runs, from the outside to the inside."""
    if depth > _MAX_DEPTH:
        return
    part = part.lstrip("({ ").strip()
    split = words(part)
    index = 0
    while index < len(split) and (split[index].text in _KEYWORDS or _ASSIGNMENT.match(split[index].text)):
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
        for piece in _parts(inner):
            _unwrap(piece, found, depth + 1)


def program(word: str) -> str:
    """Return the name of a program without its directory."""
    return word.replace("\\", "/").rsplit("/", 1)[-1]


def _inner_command(part: str, split: tuple[Word, ...]) -> str | None:
    """What the command runs in turn, if it is one that runs another."""
    name = program(split[0].text)
    if name in _WRAPPERS:
        index = _after_options(split, 1, _WRAPPERS[name])
        if name in {"timeout", "taskset"}:
            index += 1  # the duration; the mask
        return part[split[index].start :] if index < len(split) else None
    if name in _SHELLS:
        return _shell_argument(split)
    if len(split) > 2 and (name, split[1].text) in _RUNNERS:
        index = 2
        while index < len(split) and split[index].text.startswith("-"):
            index += 2 if split[index].text in _RUNNER_VALUES else 1
        return part[split[index].start :] if index < len(split) else None
    opened = _open(part, split)
    return opened.inner if opened else None


def _after_options(split: tuple[Word, ...], index: int, with_value: str) -> int:
    """Skip options and assignments; `with_value` are the short options whose value is the next word."""
    while index < len(split):
        text = split[index].text
        if text == "--":
            return index + 1
        if text.startswith("-") and len(text) > 1:
            index += 2 if len(text) == 2 and text[1] in with_value else 1
        elif _ASSIGNMENT.match(text):
            index += 1
        else:
            break
    return index


def _shell_argument(split: tuple[Word, ...]) -> str | None:
    """The script of `sh -c '...'`."""
    for index in range(1, len(split) - 1):
        if re.fullmatch(r"-[a-z]*c|/[cC]|-Command", split[index].text):
            return split[index + 1].text
        if not split[index].text.startswith("-"):
            break
    return None


def opening(command: str) -> Opening | None:
    """Say where a pipeline runs if not here: behind sudo and assignments, and in its first command."""
    for part in _parts(_without_documents(command)[:_MAX_LENGTH]):
        found: list[str] = []
        _unwrap(part, found, 0)
        for simple in found:
            opened = _open(simple, words(simple))
            if opened:
                return opened
            if program(simple.split(None, 1)[0]) not in _WRAPPERS:
                break
        break
    return None


def openings(command: str) -> tuple[Opening | None, ...]:
    """`opening` of every pipeline in a list such as `uname -r; docker run image uname -r`."""
    return tuple(opening(pipeline) for pipeline in _parts(_without_documents(command), pipes=False))


_ENGINES = frozenset({"docker", "podman", "nerdctl", "docker-compose", "podman-compose"})
_KUBECTL = frozenset({"kubectl", "oc", "microk8s.kubectl", "k3s", "k"})
_APPTAINER = frozenset({"apptainer", "singularity"})
# Long options without a value; every other one takes the next word unless it is written with "=".
_FLAGS = frozenset(
    "rm interactive tty detach privileged init read-only publish-all no-healthcheck quiet oom-kill-disable "
    "replace rmi no-hosts no-deps service-ports build use-aliases no-tty stdin nv nvccli rocm userns fakeroot "
    "writable writable-tmpfs containall contain cleanenv no-home no-init compat ipc pid net uts allow-gpu "
    "exclusive label unbuffered quit-on-interrupt overcommit overlap verbose attach-stdin leave-stdin-open".split()
)


def _open(part: str, split: tuple[Word, ...]) -> Opening | None:
    """Recognise a simple command that runs something elsewhere."""
    if not split:
        return None
    name = program(split[0].text).removesuffix(".exe")
    if name in _ENGINES:
        return _engine(part, split)
    if name in _KUBECTL:
        return _kubectl(part, split)
    if name in _APPTAINER:
        return _apptainer(part, split)
    if name == "ssh":
        index = _after_options(split, 1, "bcDEeFIiJLlmOopQRSWw")
        return _opened("remote", part, split, index)
    if name in {"srun", "salloc"}:
        return _slurm(name, part, split)
    if name == "wsl":
        return _wsl(part, split)
    if name in {"chroot", "arch-chroot", "systemd-nspawn"}:
        return _opened("chroot", part, split, _after_options(split, 1, "DMub"))
    if name == "ip" and [word.text for word in split[1:3]] == ["netns", "exec"]:
        return _opened("namespace", part, split, 3)
    return None


def _opened(kind: OpeningKind, part: str, split: tuple[Word, ...], index: int) -> Opening | None:
    """The target stands at `index`, what runs there follows."""
    if index >= len(split):
        return None
    return Opening(kind, split[index].text, _runs(part, split, index + 1))


def _runs(part: str, split: tuple[Word, ...], index: int) -> str | None:
    """Return the command from `index` on; None for a shell without a script and for nothing."""
    if index < len(split) and split[index].text == "--":
        index += 1
    if index >= len(split) or split[index].text[:1] in {">", "<"}:
        return None
    rest = split[index:]
    if program(rest[0].text) in _SHELLS:
        script = _shell_argument(rest)
        interactive = all(word.text in {"-l", "-i", "--login", "-il", "-li"} for word in rest[1:])
        if script is None and interactive:
            return None
    if len(rest) == 1:
        return rest[0].text  # ssh host 'a; b'
    return part[rest[0].start :]


def _engine(part: str, split: tuple[Word, ...]) -> Opening | None:
    """docker, podman, and their compose: run, exec; a detached container shows no output."""
    index = _skip(split, 1)
    if index < len(split) and split[index].text in {"compose", "container"}:
        index = _skip(split, index + 1)
    if index >= len(split) or split[index].text not in {"run", "exec", "create"}:
        return None
    end = _skip(split, index + 1)
    options = [word.text for word in split[index + 1 : end]]
    if "--detach" in options or any(re.fullmatch(r"-[it]*d[it]*", option) for option in options):
        return None
    return _opened("container", part, split, end)


def _skip(split: tuple[Word, ...], index: int) -> int:
    """Skip the options of a container engine."""
    while index < len(split) and split[index].text.startswith("-"):
        text = split[index].text
        if text == "--":
            return index + 1
        if text.startswith("--"):
            plain = "=" in text or text[2:] in _FLAGS
        else:
            plain = len(text) > 2 or text[1] in "itdPqT"
        index += 1 if plain else 2
    return index


def _kubectl(part: str, split: tuple[Word, ...]) -> Opening | None:
    """kubectl exec, debug, run: the command follows `--`, or the pod in old ones."""
    texts = [word.text for word in split]
    verb = next((text for text in texts[1:] if text in {"exec", "debug", "run", "rsh"}), None)
    if verb is None:
        return None
    index = texts.index(verb) + 1
    while index < len(texts) and texts[index].startswith("-") and texts[index] != "--":
        plain = "=" in texts[index] or texts[index] in {"-it", "-i", "-t", "-ti", "--stdin", "--tty", "--rm", "-q"}
        index += 1 if plain else 2
    target = texts[index] if index < len(texts) and texts[index] != "--" else None
    if "--" in texts:
        return Opening("container", target, _runs(part, split, texts.index("--") + 1))
    return Opening("container", target, None) if target else None


def _apptainer(part: str, split: tuple[Word, ...]) -> Opening | None:
    verbs = [index for index, word in enumerate(split) if word.text in {"exec", "shell", "run"}]
    if not verbs:
        return None
    index = verbs[0] + 1
    with_value = {"-B", "--bind", "--env", "--env-file", "--pwd", "--home", "-H", "--overlay", "-W", "--workdir"}
    while index < len(split) and split[index].text.startswith("-"):
        index += 2 if split[index].text in with_value else 1
    return _opened("container", part, split, index)


def _slurm(name: str, part: str, split: tuple[Word, ...]) -> Opening | None:
    index = 1
    while index < len(split) and split[index].text.startswith("-"):
        text = split[index].text
        plain = "=" in text or text[2:] in _FLAGS or text == "--pty" or text in {"-l", "-u", "-O", "-v", "-Q"}
        index += 1 if plain or (not text.startswith("--") and len(text) > 2) else 2
    inner = _runs(part, split, index)
    # An allocation's shell stays on the login node unless the prompt says otherwise.
    return Opening("job", None, inner) if inner or name == "srun" or index >= len(split) else None


def _wsl(part: str, split: tuple[Word, ...]) -> Opening | None:
    index = 1
    target = None
    while index < len(split) and split[index].text.startswith("-"):
        text = split[index].text
        if text in {"-d", "--distribution", "-u", "--user", "--cd"} and index + 1 < len(split):
            target = split[index + 1].text if text in {"-d", "--distribution"} else target
            index += 2
        elif text in {"-e", "--exec", "--", "~"}:
            index += 1
            break
        else:
            return None  # wsl --version, --update, --list speak of Windows' side
    return Opening("wsl", target, _runs(part, split, index))
