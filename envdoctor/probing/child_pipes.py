"""The pipes of one child: read together, never blocking, bounded in memory however much it writes."""

from __future__ import annotations

import os
import selectors
from typing import TYPE_CHECKING

from envdoctor.probing.child_kept import Answers, HeadAndTail

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 1 << 16  # the capacity of a Linux pipe: more never comes at once


class Pipes:
    """Both ends of the pipes to one child, and what came through them."""

    def __init__(self, *, max_output: int, max_answer: int) -> None:
        self.stdout = HeadAndTail(max_output)
        self.stderr = HeadAndTail(max_output)
        self.answers = Answers(max_answer)
        self.child_stdin: int | None = None
        self.child_stdout: int | None = None
        self.child_stderr: int | None = None
        self.child_answer: int | None = None
        self._stdin = memoryview(b"")
        self._ours: set[int] = set()
        self._theirs: set[int] = set()
        self._selector = selectors.PollSelector()  # for four descriptors as good as epoll, and none itself

    def open(self, *, stdin: bytes, answers: bool) -> None:
        """Open them. Raises OSError where there are no descriptors left; close both ends then as ever."""
        self._stdin = memoryview(stdin)
        self.child_stdout = self._reading(self.stdout.add)
        self.child_stderr = self._reading(self.stderr.add)
        if answers:
            self.child_answer = self._reading(self.answers.add)
        if stdin:
            self.child_stdin = self._writing()

    @property
    def reading(self) -> bool:
        """Whether some stream of the child is still open."""
        return any(key.events & selectors.EVENT_READ for key in self._selector.get_map().values())

    def pump(self, seconds: float) -> bool:
        """Wait for at most `seconds`, and move what is there once. Whether something was."""
        ready = self._selector.select(seconds)
        for key, _ in ready:
            if key.data is None:
                self._write(key.fd)
            else:
                self._read(key.fd, key.data)
        return bool(ready)

    def pump_what_is_there(self) -> None:
        """Take what the pipes hold now; a writer that goes on does not keep us."""
        for _ in range(2 * len(self._ours)):
            if not self.pump(0):
                return

    def close_child_ends(self) -> None:
        """Once the child has its own copies: else the streams would never end."""
        while self._theirs:
            os.close(self._theirs.pop())

    def close(self) -> None:
        """Close our ends."""
        for fd in tuple(self._ours):
            self._finish(fd)
        self._selector.close()

    def _reading(self, take: Callable[[bytes], None]) -> int:
        ours, theirs = _pipe()
        self._keep(ours, theirs)
        self._selector.register(ours, selectors.EVENT_READ, take)
        return theirs

    def _writing(self) -> int:
        theirs, ours = _pipe()
        self._keep(ours, theirs)
        self._selector.register(ours, selectors.EVENT_WRITE, None)
        return theirs

    def _keep(self, ours: int, theirs: int) -> None:
        self._ours.add(ours)
        self._theirs.add(theirs)
        os.set_blocking(ours, False)

    def _read(self, fd: int, take: Callable[[bytes], None]) -> None:
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        if chunk:
            take(chunk)
        else:
            self._finish(fd)

    def _write(self, fd: int) -> None:
        try:
            self._stdin = self._stdin[os.write(fd, self._stdin[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it does not want to read, which is its own affair
            self._stdin = self._stdin[:0]
        if not self._stdin:
            self._finish(fd)

    def _finish(self, fd: int) -> None:
        self._selector.unregister(fd)
        self._ours.discard(fd)
        os.close(fd)


def _pipe() -> tuple[int, int]:
    """A pipe that avoids 0, 1 and 2: those may be closed in us, and the child's own are put there."""
    import fcntl

    ends = list(os.pipe())
    try:
        for place, fd in enumerate(ends):
            if fd <= 2:
                ends[place] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
                os.close(fd)
    except OSError:
        for fd in ends:
            os.close(fd)
        raise
    return ends[0], ends[1]
