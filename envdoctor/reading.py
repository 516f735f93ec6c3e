"""From pasted text to facts: every check's readers over its blocks, every check's messages over its lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from envdoctor.check import Check, Message, Reader
from envdoctor.engine import flatten, gathered
from envdoctor.facts import Facts, Printed, Source, Symptom
from envdoctor.text.blocks import BlockShape, FoundBlock, find_blocks
from envdoctor.text.lines import Line, clean
from envdoctor.text.match import Matcher, Pattern


class Messages:
    """All messages of all checks as one matcher; compiled when the first text comes."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._messages: dict[str, Message] = {
            message.name: message for check in checks for message in check.messages
        }
        self._matcher: Matcher | None = None

    def symptoms(self, lines: Iterable[Line], kind: str, where: str) -> tuple[Symptom, ...]:
        """What the lines say, in order, each symptom with the line it was read from."""
        if self._matcher is None:
            self._matcher = Matcher(
                [Pattern(each.name, each.regex, each.needles, each.span) for each in self._messages.values()]
            )
        found: list[Symptom] = []
        for hit in self._matcher.matches(lines):
            said = self._messages[hit.pattern].function(hit.match)
            if said is not None:
                source = Source(kind, where, hit.line)  # type: ignore[arg-type] # callers pass a SourceKind
                found.append(msgspec.structs.replace(said, quote=hit.text, source=source, times=hit.times))
        return tuple(found)

    def printed(self, printed: Printed) -> tuple[Symptom, ...]:
        """What a probe heard a program print."""
        return self.symptoms(clean(printed.text), printed.source.kind, printed.source.where)


class TextReading(msgspec.Struct, frozen=True):
    """What was read out of a text, and what of it could not be read."""

    facts: Facts
    broken: tuple[str, ...]
    """Readers that broke, with the exception."""


def read_text(text: str, name: str, checks: Sequence[Check]) -> TextReading:
    """Facts and symptoms of a pasted text; `name` is what the evidence calls it."""
    lines = tuple(clean(text))
    readers = {reader.name: reader for check in checks for reader in check.readers}
    things: list[object] = []
    broken: list[str] = []
    for block in find_blocks(lines, [_shape(reader) for reader in readers.values()]):
        try:
            things.extend(flatten(readers[block.shape].function(msgspec.structs.replace(block, name=name))))
        except Exception as error:
            broken.append(f"{block.shape}: {type(error).__name__}: {error}")
    symptoms = Messages(checks).symptoms(lines, "text", name)
    return TextReading(gathered(things).merged(Facts(symptoms=symptoms)), tuple(broken))


def _shape(reader: Reader) -> BlockShape:
    return BlockShape(
        name=reader.name,
        command=reader.command or None,
        starts=reader.starts or None,
        ends=reader.ends or None,
        max_lines=reader.max_lines,
    )


__all__ = ["FoundBlock", "Messages", "TextReading", "read_text"]
