"""Commands that run something elsewhere: in a container, on another machine, in a job, under another root."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from .words import SHELLS, Word, after_options, program, shell_argument

OpeningKind = Literal["container", "remote", "job", "namespace", "chroot", "wsl", "build"]


class Opening(msgspec.Struct, frozen=True):
    """What a command opens.

    `target` names it (image, container, pod, host; None where the command does not say). `inner` is what runs
    there: None where it is a shell or not said, "" where the command only shows what was printed there.
    """

    kind: OpeningKind
    target: str | None
    inner: str | None


_ENGINES = frozenset({"docker", "podman", "nerdctl", "docker-compose", "podman-compose"})
_KUBECTL = frozenset({"kubectl", "oc", "microk8s.kubectl", "k3s", "k"})
_APPTAINER = frozenset({"apptainer", "singularity"})
# Long options without a value; every other one takes the next word unless it is written with "=".
_ENGINE_FLAGS = frozenset(
    {"rm", "interactive", "tty", "detach", "privileged", "init", "read-only", "publish-all", "quiet", "build"}
    | {
        "no-healthcheck",
        "oom-kill-disable",
        "replace",
        "rmi",
        "no-hosts",
        "no-deps",
        "service-ports",
        "no-tty",
    }
    | {"use-aliases", "follow", "timestamps", "no-log-prefix", "no-color", "force-recreate"}
)
_KUBECTL_FLAGS = frozenset(
    {
        "-it",
        "-i",
        "-t",
        "-ti",
        "-q",
        "-f",
        "--stdin",
        "--tty",
        "--rm",
        "--previous",
        "--follow",
        "--timestamps",
    }
    | {"--quiet", "--prefix", "--all-containers"}
)
_APPTAINER_VALUES = frozenset(
    {"-B", "--bind", "--env", "--env-file", "--pwd", "--home", "-H", "--overlay", "-W", "--workdir"}
)
_SLURM_FLAGS = frozenset(
    {"--pty", "--label", "--unbuffered", "--exclusive", "--overlap", "--overcommit", "--verbose", "--quiet"}
    | {"-l", "-u", "-O", "-v", "-Q", "-s"}
)


def open_elsewhere(part: str, split: tuple[Word, ...]) -> Opening | None:
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
        index = after_options(split, 1, "bcDEeFIiJLlmOopQRSWw")
        return _opened("remote", part, split, index)
    if name in {"srun", "salloc"}:
        return _slurm(name, part, split)
    if name == "wsl":
        return _wsl(part, split)
    if name in {"chroot", "arch-chroot", "systemd-nspawn"}:
        return _opened("chroot", part, split, after_options(split, 1, "DMub"))
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
    if program(rest[0].text) in SHELLS:
        script = shell_argument(rest)
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
    verb = split[index].text if index < len(split) else ""
    if verb not in {"run", "exec", "logs", "attach", "up"}:
        return None
    end = _skip(split, index + 1, _SWITCHES + ("ft" if verb == "logs" else ""))
    options = [word.text for word in split[index + 1 : end]]
    if "--detach" in options or any(re.fullmatch(r"-[it]*d[it]*", option) for option in options):
        return None
    if verb in {"logs", "attach", "up"}:  # what they show was printed in the containers
        return Opening("container", split[end].text if end < len(split) else None, "")
    return _opened("container", part, split, end)


_SWITCHES = "itdPqT"  # short options of the engines without a value


def _skip(split: tuple[Word, ...], index: int, switches: str = _SWITCHES) -> int:
    """Skip the options of a container engine."""
    while index < len(split) and split[index].text.startswith("-"):
        text = split[index].text
        if text == "--":
            return index + 1
        if text.startswith("--"):
            plain = "=" in text or text[2:] in _ENGINE_FLAGS
        else:
            plain = len(text) != 2 or text[1] in switches
        index += 1 if plain else 2
    return index


def _kubectl(part: str, split: tuple[Word, ...]) -> Opening | None:
    """kubectl exec, debug, run: the command follows `--`, or the pod in old ones."""
    texts = [word.text for word in split]
    verb = next((text for text in texts[1:] if text in {"exec", "debug", "run", "rsh", "logs"}), None)
    if verb is None:
        return None
    index = texts.index(verb) + 1
    while index < len(texts) and texts[index].startswith("-") and texts[index] != "--":
        plain = "=" in texts[index] or texts[index] in _KUBECTL_FLAGS
        index += 1 if plain else 2
    target = texts[index] if index < len(texts) and texts[index] != "--" else None
    if verb == "logs":
        return Opening("container", target, "")
    if "--" in texts:
        return Opening("container", target, _runs(part, split, texts.index("--") + 1))
    return Opening("container", target, None) if target else None


def _apptainer(part: str, split: tuple[Word, ...]) -> Opening | None:
    verbs = [index for index, word in enumerate(split) if word.text in {"exec", "shell", "run"}]
    if not verbs:
        return None
    index = verbs[0] + 1
    while index < len(split) and split[index].text.startswith("-"):
        index += 2 if split[index].text in _APPTAINER_VALUES else 1
    return _opened("container", part, split, index)


def _slurm(name: str, part: str, split: tuple[Word, ...]) -> Opening | None:
    index = 1
    while index < len(split) and split[index].text.startswith("-"):
        text = split[index].text
        plain = "=" in text or text in _SLURM_FLAGS
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
