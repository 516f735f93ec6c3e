"""Python tracebacks in a text: whole or cut off, chained, of several processes at once, IPython's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from .late import Late
from .prompts import read_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .model import Line

_MAX_MESSAGE = 60  # lines of one message


class Frame(msgspec.Struct, frozen=True):
    """One frame: `line` is the line in `file`, None where the text does not say, as `function`."""

    file: str
    line: int | None
    function: str | None


class Traceback(msgspec.Struct, frozen=True):
    """One traceback, outermost frame first, as Python prints it.

    `exception_type` is None where the text ends before the exception; `message` may have several lines.
    `cause` is the traceback that Python chained before this one. `first_line` and `last_line` are numbers in
    the original text. A traceback without its header, from the middle of a log, is found by its frames.
    """

    exception_type: str | None
    message: str
    frames: tuple[Frame, ...]
    first_line: int
    last_line: int
    cause: Traceback | None = None


def tracebacks(lines: Sequence[Line]) -> tuple[Traceback, ...]:
    """Find all tracebacks, in the order of their first lines; a chain is one, the last, with its causes."""
    streams: dict[tuple[int | None, str | None, str | None, int | None], list[Line]] = {}
    for line in lines:
        streams.setdefault(line.stream, []).append(line)
    found = [traceback for stream in streams.values() for traceback in _of_stream(stream)]
    return tuple(sorted(found, key=lambda traceback: traceback.first_line))


_HEADER = Late(r"(?P<margin>.*?)(?:Exception Group )?Traceback \(most recent call last\):?$")
_FRAME = Late(
    r"(?P<indent>\s*)File [\"'](?P<file>[^\"']+)[\"'], line (?P<line>\d+)(?:, in (?P<function>.*))?$"
)
_NOTEBOOK_FRAMES = (
    Late(r"(?:Cell |Input )?In ?\[(?P<file>\d+)\], (?:line (?P<line>\d+)|in (?P<function>.*))$"),
    Late(r"File (?P<file>\S.*?):(?P<line>\d+)(?:, in (?P<function>.*))?$"),
    Late(r"(?P<file><ipython-input-[^>]+>|[~/]\S+\.\w+|[A-Za-z]:\\\S+\.\w+) in (?P<function>.*)$"),
)
_ARROW = Late(r"-+> ?(\d+) $")
_TYPE = r"[A-Za-z_][\w.]*(?:\([\w.]+\))?"
_EXCEPTION = Late(rf"(?P<type>{_TYPE})(?::(?: (?P<message>.*)|(?P<empty>))$|$)")
_NAMED_LIKE_ONE = Late(
    r"(?:^|\.)[A-Z]\w*$|(?:Error|Exception|Warning|Interrupt|Exit|Iteration|Failed)(?:\(|$)"
)
_CHAINED = Late(
    r"\s*(?:During handling of the above exception, another exception occurred|"
    r"The above exception was the direct cause of the following exception):$"
)
# What a program says after its exception: a line that no longer belongs to the message.
_NEXT_STATEMENT = Late(
    r'"""$|(?:TRACE|DEBUG|INFO|WARNING|ERROR|CRITICAL)\b|\[[^\]]{1,100}\]|\d{4}-\d\d-\d\d[T ]|'
    r"Fatal Python error|(?:srun|slurmstepd|make): |={4,}$|-{4,}$|.{0,60}?\d{1,3}%\|"
)


class _Read(NamedTuple):
    """A traceback and the index after its last line."""

    traceback: Traceback
    end: int


def _of_stream(lines: list[Line]) -> list[Traceback]:
    found: list[Traceback] = []
    chained_at = -1
    index = 0
    while index < len(lines):
        text = lines[index].text
        header = _HEADER.match(text) if "Traceback (" in text else None
        orphan = header is None and 'File "' in text and _is_orphan(text)
        if header is None and not orphan:
            if _CHAINED.match(text):
                chained_at = index
            elif text.strip(" |+") and chained_at != -1 and index - chained_at > 2:
                chained_at = -1
            index += 1
            continue
        read = (
            _ipython(lines, index, header) if header and _is_ipython(header) else _plain(lines, index, header)
        )
        traceback = read.traceback
        if chained_at != -1 and found:
            traceback = msgspec.structs.replace(traceback, cause=found.pop())
        found.append(traceback)
        chained_at = -1
        index = max(read.end, index + 1)
    return found


def _is_orphan(text: str) -> bool:
    frame = _FRAME.match(text)
    return bool(frame and frame["function"] and frame["indent"])


def _is_ipython(header: re.Match[str]) -> bool:
    return bool(re.fullmatch(rf"{_TYPE} {{2,}}", header["margin"]))


def _plain(lines: list[Line], start: int, header: re.Match[str] | None) -> _Read:
    """Read Python's own format from its header or, without one, from its first frame."""
    margin = header["margin"] if header else ""
    index = start + 1 if header else start
    frames: list[Frame] = []
    last = start
    while index < len(lines):
        text = _without_margin(lines[index].text, margin)
        frame = _FRAME.match(text)
        if frame:
            frames.append(Frame(frame["file"], int(frame["line"][:9]), frame["function"]))
        elif not _is_detail(text, lines, index):
            break
        last = index if text else last
        index += 1
    return _exception(lines, (start, index, last), margin, tuple(frames))


def _without_margin(text: str, margin: str) -> str:
    """Take off what stands before a whole traceback: indentation, the frame of a group, a logger's stamp."""
    head = text[: len(margin)]
    if not margin or _shape(head) != _shape(margin):
        return text
    return text[len(margin) :]


def _shape(prefix: str) -> str:
    """Prefixes of one logger differ only in their digits, the frames of exception groups in their corners."""
    return re.sub(r"\d+", "0", prefix).replace("+", "|").replace("-", " ")


def _is_detail(text: str, lines: list[Line], index: int) -> bool:
    """Say whether a line that is no frame still stands among the frames: source, carets, omissions."""
    if not text:
        return index + 1 < len(lines) and bool(_FRAME.match(lines[index + 1].text))
    if text[0] in " \t":
        return True
    if _FRAME.match(lines[index - 1].text) and not _names_exception(text):
        return read_prompt(lines[index]) is None  # source whose indentation was lost on the way
    return False


def _names_exception(text: str) -> bool:
    found = _EXCEPTION.match(text)
    return bool(
        found
        and _NAMED_LIKE_ONE.search(found["type"])
        and (":" in text or "." in text or found["type"] == text)
    )


def _exception(
    lines: list[Line], where: tuple[int, int, int], margin: str, frames: tuple[Frame, ...]
) -> _Read:
    """Read the exception at `where[1]`; where[0] and where[2] are the first and the last line so far."""
    start, index, last = where
    text = _without_margin(lines[index].text, margin) if index < len(lines) else ""
    found = _EXCEPTION.match(text)
    if found is None or not (_names_exception(text) or _follows_frames(found, frames)):
        return _Read(Traceback(None, "", frames, lines[start].number, lines[last].number), index)
    message = [found["message"] or ""]
    end = index + 1
    while end < len(lines) and end - index < _MAX_MESSAGE:
        more = _without_margin(lines[end].text, margin)
        same_margin = (more != lines[end].text) == (text != lines[index].text)
        if not (same_margin and _continues(lines, index, end, more)):
            break
        message.append(more)
        end += 1
    said = "\n".join(message).strip("\n")
    return _Read(Traceback(found["type"], said, frames, lines[start].number, lines[end - 1].number), end)


def _follows_frames(found: re.Match[str], frames: tuple[Frame, ...]) -> bool:
    """An exception may have any name, where it stands right behind the frames with its message."""
    return bool(frames) and found["message"] is not None


def _continues(lines: list[Line], first: int, index: int, text: str) -> bool:
    """Say whether the line goes on with the message that began at `first`."""
    if not text.strip() or "Traceback (most recent call last)" in text or _CHAINED.match(text):
        return False
    if (
        _NEXT_STATEMENT.match(text)
        or _is_orphan(text)
        or _shape(lines[index].prefix) != _shape(lines[first].prefix)
    ):
        return False
    prompt = read_prompt(lines[index])
    return prompt is None or prompt.weak


def _ipython(lines: list[Line], start: int, header: re.Match[str]) -> _Read:
    """Read IPython's format: the type stands in the header and again before the message."""
    name = header["margin"].strip()
    frames: list[Frame] = []
    index = start + 1
    while index < len(lines):
        text = lines[index].text
        if text == name or text.startswith(name + ":") or text.rsplit(".", 1)[-1].startswith(name + ":"):
            return _exception(lines, (start, index, index), "", tuple(frames))
        if (
            "Traceback (most recent call last)" in text
            or _CHAINED.match(text)
            or _stops_notebook(lines[index])
        ):
            break
        _notebook_line(lines[index], frames)
        index += 1
    last = max(start, index - 1)
    return _Read(Traceback(name, "", tuple(frames), lines[start].number, lines[last].number), index)


def _stops_notebook(line: Line) -> bool:
    typed = read_prompt(line)
    return typed is not None and not typed.weak


def _notebook_line(line: Line, frames: list[Frame]) -> None:
    """Add the frame that a line begins, or the line number that an arrow gives the last one."""
    arrow = _ARROW.search(line.prefix)
    if arrow:
        if frames and frames[-1].line is None:
            frames[-1] = msgspec.structs.replace(frames[-1], line=int(arrow[1]))
        return
    for regex in _NOTEBOOK_FRAMES:
        found = regex.match(line.text)
        if found:
            said = found.groupdict()
            file = f"In[{said['file']}]" if said["file"].isdigit() else said["file"]
            number = int(said["line"][:9]) if said.get("line") else None
            frames.append(Frame(file, number, said.get("function")))
            return
