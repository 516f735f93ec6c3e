"""What typed commands say: which part of a block's output is whose, and whether they ran in a container."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import FoundBlock

QUIET = frozenset({"cd", "export", "set", "true", "sleep", "."})
"""Commands that print nothing."""
RUNNERS = frozenset(
    {
        "docker",
        "podman",
        "kubectl",
        "docker-compose",
        "sudo",
        "env",
        "sh",
        "bash",
        "apptainer",
        "singularity",
        "ssh",
        "srun",
    }
)
"""Commands that only run another one, which `simple_commands` gives as well."""


def inside(found: FoundBlock) -> bool:
    """Whether the block's output was printed in a container, as far as its command and its prompt tell."""
    from envdoctor.text.commands import openings  # not when a live machine is looked at
    from envdoctor.text.scenes import container_looking

    block = found.block
    if any(each is not None and each.kind == "container" for each in openings(block.command or "")):
        return True
    prompt = block.prompt
    if prompt is None:
        return False
    return prompt.container is not None or bool(prompt.host and container_looking(prompt.host))


def outputs(found: FoundBlock) -> Iterator[tuple[str, list[str]]]:
    """The simple commands of a block with the lines of each: files of one line, one command after the other.

    Nothing is given where the lines cannot be told apart.
    """
    from envdoctor.text.commands import simple_commands  # not when a live machine is looked at

    commands = [
        each for each in simple_commands(found.block.command or "") if _name(each) not in QUIET | RUNNERS
    ]
    lines = [line.text.strip() for line in found.block.lines if line.text.strip()]
    if "|" in (found.block.command or "") and len(commands) > 1:
        commands = _pipelines(found.block.command or "", commands)
    counts = [len(arguments(each)) if _name(each) == "cat" else 1 for each in commands]
    if len(commands) == 1:
        yield commands[0], lines
    elif sum(counts) == len(lines):
        start = 0
        for command, count in zip(commands, counts, strict=True):
            yield command, lines[start : start + count]
            start += count


def _pipelines(typed: str, commands: list[str]) -> list[str]:
    """Only the first command of every pipeline: the others print its output."""
    later = {_name(part.strip()) for part in re.findall(r"\|\s*([^|;&]+)", typed) if part.strip()}
    return [each for each in commands if _name(each) not in later]


def words_of(command: str) -> list[str]:
    """The words of a command line, without their quotes."""
    from envdoctor.text.words import words  # not when a live machine is looked at

    return [word.text for word in words(command)]


def _name(command: str) -> str:
    return (words_of(command) or [""])[0].rpartition("/")[2]


def arguments(command: str) -> list[str]:
    """The words after the command that are neither options nor redirections."""
    return [word for word in words_of(command)[1:] if not word.startswith(("-", ">", "<", "2>"))]


def only_reads(command: str, whole: str) -> bool:
    """Whether a command shows a file whole: ``cat`` or ``less``, or a grep that leaves out comments."""
    if "|" in whole:
        return bool(re.search(r"\|\s*grep\s+-v\w*\s+['\"]?\^?#", whole)) and whole.count("|") == 1
    return bool(re.match(r"(?:\S*/)?(?:cat|bat|less|more)\b|grep\s+-v\w*\s+['\"]?\^?(?:#|\\s\*#)", command))
