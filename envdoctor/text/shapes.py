"""What a check declares about texts: patterns of messages, shapes of blocks. Compiles nothing at import."""

from __future__ import annotations

import msgspec


class Pattern(msgspec.Struct, frozen=True):
    """One message: a regular expression that is only tried near one of its `needles`.

    `needles` are literal lower-case substrings; every text that the expression matches contains one of them
    (compared without case). `span` is the number of lines that the message may take: the expression sees
    that many, joined with "\\n", and its match begins on the first; a needle may be on any of them.
    """

    name: str
    regex: str
    needles: tuple[str, ...]
    span: int = 1

    def __post_init__(self) -> None:
        """Refuse what would make the search slow or blind."""
        if not self.needles or not all(self.needles):
            raise ValueError(f"pattern {self.name!r} needs at least one needle, and none may be empty")
        for needle in self.needles:
            if needle != needle.lower() or "\n" in needle:
                raise ValueError(
                    f"needle {needle!r} of pattern {self.name!r} must be lower-case and on one line"
                )
        if not 1 <= self.span <= MAX_SPAN:
            raise ValueError(f"span of pattern {self.name!r} must be between 1 and {MAX_SPAN}")


MAX_SPAN = 8
"""The most lines that one message may take."""


class BlockShape(msgspec.Struct, frozen=True):
    """How a block of output is recognised: by the command above it, by its first line, or by either.

    `command` is matched at the start of every simple command of the typed line (behind `sudo`, `env`,
    `docker exec ...`, in pipes and lists). `starts` is searched for in every line of output. A block that
    `command` recognises begins at the first line that matches `starts`, or with all of the output where there
    is none. It ends before the first later line that matches `ends`, before the next line that matches
    `starts`, with the output of the command, or after `max_lines` lines.
    """

    name: str
    command: str | None = None
    starts: str | None = None
    ends: str | None = None
    max_lines: int = 400

    def __post_init__(self) -> None:
        """A shape that nothing can recognise is a mistake of its author."""
        if self.command is None and self.starts is None:
            raise ValueError(f"shape {self.name!r} needs a command or a first line")
