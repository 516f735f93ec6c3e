"""From pasted text to facts: every check's readers over its blocks, every check's messages over its lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from envdoctor.check import Check, Message, Reader
from envdoctor.engine import flatten, gathered
from envdoctor.facts import Fact, Facts, Printed, Source, SourceKind, Symptom
from envdoctor.text.blocks import find_blocks
from envdoctor.text.lines import clean
from envdoctor.text.match import Matcher
from envdoctor.text.model import FoundBlock, Line
from envdoctor.text.shapes import BlockShape, Pattern
from envdoctor.text.tracebacks import tracebacks
from envdoctor.text_facts import core_facts

QUOTE = 600
"""Characters of a printed message that are kept as evidence."""


class Messages:
    """All messages of all checks as one matcher; compiled when the first text comes."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._messages: dict[str, Message] = {
            message.name: message for check in checks for message in check.messages
        }
        self._matcher: Matcher | None = None

    def symptoms(self, lines: Iterable[Line], kind: SourceKind, where: str) -> tuple[Symptom, ...]:
        """What the lines say, in order, each symptom with the line it was read from."""
        if self._matcher is None:
            self._matcher = Matcher(
                [Pattern(each.name, each.regex, each.needles, each.span) for each in self._messages.values()]
            )
        found: list[Symptom] = []
        for hit in self._matcher.matches(lines):
            said = self._messages[hit.pattern.name].function(hit.match)
            if said is not None:
                source = Source(kind, where, hit.line.number)
                found.append(msgspec.structs.replace(said, quote=hit.text[:QUOTE], source=source))
        return tuple(found)

    def printed(self, printed: Printed) -> tuple[Symptom, ...]:
        """What a probe heard a program print."""
        return self.symptoms(clean(printed.text), printed.source.kind, printed.source.where)


class TextReading(msgspec.Struct, frozen=True):
    """What was read out of a text, and what of it could not be read."""

    facts: Facts
    broken: dict[str, str]
    """Readers that broke, with the exception."""
    application_error: str | None = None
    """The exception in which the text's last traceback ends, where it is plainly the program's own."""


def read_text(text: str, name: str, checks: Sequence[Check], messages: Messages | None = None) -> TextReading:
    """Facts and symptoms of a pasted text; `name` is what the evidence calls it, `messages` those of `checks`."""
    lines = clean(text)
    readers = {reader.name: reader for check in checks for reader in check.readers}
    things: list[object] = []
    broken: dict[str, str] = {}
    for found in find_blocks(lines, [_shape(reader) for reader in readers.values()]):
        try:
            given = flatten(readers[found.shape.name].function(found))
        except Exception as error:
            broken[found.shape.name] = f"{type(error).__name__}: {error}"
            continue
        things.extend(_placed(thing, found, name) for thing in given)
    symptoms = (messages or Messages(checks)).symptoms(lines, "text", name)
    core = gathered(core_facts(lines, name))
    facts = core.merged(gathered(things)).merged(Facts(symptoms=symptoms))
    return TextReading(facts, broken, _application_error(lines))


OWN_ERRORS = frozenset({
    "ArithmeticError", "AssertionError", "AttributeError", "FloatingPointError", "IndexError", "JSONDecodeError",
    "KeyError", "NameError", "NotImplementedError", "OverflowError", "RecursionError", "StopIteration", "SyntaxError",
    "TypeError", "UnboundLocalError", "UnicodeDecodeError", "ValidationError", "ValueError", "ZeroDivisionError",
})  # fmt: skip
"""Exceptions that speak of the program, where no check knows better."""
OWN_MESSAGES = re.compile(
    r"shapes? cannot be multiplied|size mismatch|must match the size of tensor|on the same device|"
    r"device-side assert|Expected .* to have the same dtype|does not require grad|Error\(s\) in loading state_dict"
)


def _application_error(lines: Sequence[Line]) -> str | None:
    """Where the last traceback ends in an error of the program's own, that exception."""
    found = tracebacks(lines)
    if not found or found[-1].exception_type is None:
        return None
    kind, message = found[-1].exception_type, found[-1].message
    own = kind.rpartition(".")[2] in OWN_ERRORS or OWN_MESSAGES.search(message)
    return f"{kind}: {message.partition(chr(10))[0]}" if own else None


def _placed(thing: object, found: FoundBlock, name: str) -> object:
    """Say which text, and which line of it, a fact was read from, where its reader did not."""
    if isinstance(thing, (Fact, Symptom)) and thing.source.kind == "text" and not thing.source.where:
        source = Source("text", name, thing.source.line or found.block.first_line)
        return msgspec.structs.replace(thing, source=source)
    return thing


def _shape(reader: Reader) -> BlockShape:
    return BlockShape(
        name=reader.name,
        command=reader.command or None,
        starts=reader.starts or None,
        ends=reader.ends or None,
        max_lines=reader.max_lines,
    )


__all__ = ["Messages", "TextReading", "read_text"]
