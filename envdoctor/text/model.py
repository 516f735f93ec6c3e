"""What texts are made of: lines, prompts, blocks. Cheap to import, for those who only name the types."""

from __future__ import annotations

from typing import Literal

import msgspec

from .shapes import BlockShape


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line of a pasted text: `prefix + text` is the line as it looked, without escapes.

    `number` counts from 1 in the original. `rank`, `host` (a machine or a pod), `service` (a compose service,
    a container, the program that logged) and `pid` are what the prefixes say. `raw` is the original line.
    """

    number: int
    text: str
    prefix: str = ""
    rank: int | None = None
    host: str | None = None
    service: str | None = None
    pid: int | None = None
    raw: str = ""

    @property
    def stream(self) -> tuple[int | None, str | None, str | None, int | None]:
        """Whose output this is: lines of several processes interleave, those of one belong together."""
        return (self.rank, self.host, self.service, self.pid)


PromptKind = Literal[
    "shell", "powershell", "cmd", "python", "ipython", "notebook", "trace", "actions", "build"
]


class Prompt(msgspec.Struct, frozen=True):
    """Who typed a command and where, as far as the prompt says; `root` is None where it does not."""

    kind: PromptKind
    user: str | None = None
    host: str | None = None
    directory: str | None = None
    environment: str | None = None
    root: bool | None = None
    container: str | None = None
    """The engine whose own prompt this is (`Apptainer>`)."""

    @property
    def signature(self) -> tuple[str, str | None, str | None, bool | None]:
        """What stays the same from one prompt to the next on one machine."""
        return (self.kind, self.user, self.host, self.root)


class Block(msgspec.Struct, frozen=True):
    """A command and its output.

    `command` is None for what stands before the first prompt and "" at an empty one. It is one string:
    continued lines are joined, here-documents follow it after line feeds.
    `first_line` is the line of the prompt, or of the first output where there is none.
    """

    command: str | None
    prompt: Prompt | None
    lines: tuple[Line, ...]
    first_line: int


class FoundBlock(msgspec.Struct, frozen=True):
    """Output in a shape that was asked for.

    `block.lines` are those of the shape, all from one stream; `scene` is an index into the scenes;
    `command` is the simple command that the shape recognised, None where its first line did.
    """

    shape: BlockShape
    block: Block
    scene: int
    command: str | None
