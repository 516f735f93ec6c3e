"""What is kept of what a child said, and what that makes of its end."""

from __future__ import annotations

from typing import Any

import msgspec

from envdoctor.probing.child import Captured, ChildEnd

_QUOTED = 200


class HeadAndTail:
    """Keeps the first and the last `limit` / 2 bytes of a stream."""

    def __init__(self, limit: int) -> None:
        self._half = max(limit // 2, 1)
        self._head = bytearray()
        self._tail = bytearray()
        self._seen = 0

    def add(self, chunk: bytes) -> None:
        """Take what was read."""
        self._seen += len(chunk)
        room = self._half - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        if len(self._tail) > self._half + (1 << 20):  # cut rarely: each cut copies the tail
            del self._tail[: -self._half]

    def captured(self) -> Captured:
        """Head and tail as text."""
        del self._tail[: -self._half]
        dropped = self._seen - len(self._head) - len(self._tail)
        if not dropped:
            return Captured(text=(self._head + self._tail).decode("utf-8", "replace"))
        head, tail = (part.decode("utf-8", "replace") for part in (self._head, self._tail))
        return Captured(text=f"{head}\n... {dropped} bytes left out ...\n{tail}", dropped_bytes=dropped)


class Answers:
    """The JSON Lines of a child: `add` what was read, then `read` them once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = bytearray()
        self._too_long = False
        self.stages: list[dict[str, Any]] = []
        self.done = False
        self.problem: ChildEnd | None = None
        self.error = ""

    def add(self, chunk: bytes) -> None:
        """Take what was read."""
        room = self._limit - len(self._bytes)
        self._bytes += chunk[:room]
        self._too_long = self._too_long or len(chunk) > room

    def read(self) -> None:
        """Sort the lines into stages, the end, and the first problem; lines after it still count."""
        lines = self._bytes.split(b"\n")
        if self._too_long:
            lines.pop()  # cut in its middle
            self._bad(ChildEnd.ANSWER_TOO_LONG, f"more than {self._limit} bytes of answers")
        for line in lines:
            if line.strip():
                self._read_line(line.decode("utf-8", "replace"))

    def _read_line(self, line: str) -> None:
        try:
            record = msgspec.json.decode(line)
        except (msgspec.MsgspecError, RecursionError) as error:
            self._bad(ChildEnd.NOT_JSON, f"{error}: {_quoted(line)}")
            return
        self.done = isinstance(record, dict) and record.get("done") is True
        if self.done:
            return
        if isinstance(record, dict) and isinstance(record.get("stage"), str):
            self.stages.append(record)
        else:
            self._bad(ChildEnd.WRONG_SHAPE, f"not an object with a stage: {_quoted(line)}")

    def _bad(self, problem: ChildEnd, error: str) -> None:
        if self.problem is None:
            self.problem, self.error = problem, error


class Exit(msgspec.Struct, frozen=True):
    """How a process ended: by a code or by a signal's number; with neither, nobody could see it."""

    code: int | None = None
    signal: int | None = None


def verdict(exit: Exit, answers: Answers | None) -> ChildEnd:  # noqa: A002 - the word of wait(2)
    """The end of a child that was started and left to itself."""
    if exit.signal is not None:
        return ChildEnd.KILLED
    if exit.code != 0:
        complete = exit.code is None and answers is not None and answers.done and answers.problem is None
        return ChildEnd.ANSWERED if complete else ChildEnd.EXITED
    if answers is None:
        return ChildEnd.ANSWERED
    return answers.problem or (ChildEnd.ANSWERED if answers.done else ChildEnd.NO_ANSWER)


def _quoted(line: str) -> str:
    return repr(line if len(line) <= _QUOTED else line[:_QUOTED] + "...")
