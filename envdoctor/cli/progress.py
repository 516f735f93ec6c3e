"""One line on stderr while a person waits: what is being waited for. Gone before the report is written."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, TextIO

from envdoctor.render.style import decide, is_terminal
from envdoctor.render.words import cells, fitted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from envdoctor.engine import ProbeEvent

PATIENCE = 0.5
"""Seconds before anything is shown: a run that is quicker needs no explanation."""
TICK = 0.1
ERASE = "\r\x1b[K"


class Progress:
    """Which probes are at work. Silent unless given a stream."""

    def __init__(self, stream: TextIO | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._stream = stream
        self._style = decide(stream, "never", environ or {})
        self._began = time.monotonic()
        self._running: dict[str, float] = {}
        self._phase = ""
        self._shown = ""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._ticker: threading.Thread | None = None

    @classmethod
    def on_stderr(cls, *, quiet: bool) -> Progress:
        """For a terminal that can erase a line, unless quiet is wanted or a CI system only looks like one."""
        environ = os.environ
        wanted = (
            not quiet and is_terminal(sys.stderr) and environ.get("TERM") != "dumb" and not environ.get("CI")
        )
        return cls(sys.stderr if wanted else None, environ)

    def __enter__(self) -> Progress:
        if self._stream is not None:
            self._ticker = threading.Thread(target=self._tick, daemon=True, name="progress")
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        with self._lock:
            self._show("")

    def on_event(self, event: ProbeEvent) -> None:
        """A probe started or ended."""
        with self._lock:
            if event.seconds is None:
                self._running[event.probe] = time.monotonic()
            else:
                self._running.pop(event.probe, None)

    def says(self, phase: str) -> None:
        """What is being done where no probe is at work."""
        with self._lock:
            self._phase = phase
            self._running.clear()

    def _tick(self) -> None:
        """On a thread of its own, for the main one waits for answers."""
        while not self._over.wait(TICK):
            now = time.monotonic()
            if now - self._began < PATIENCE:
                continue
            with self._lock:
                if not self._over.is_set():
                    self._show(self._line(now))

    def _line(self, now: float) -> str:
        if not self._running:
            return self._phase
        names = sorted(self._running, key=lambda probe: self._running[probe])
        longest = now - self._running[names[0]]
        return f"{longest:.0f} s, waiting for {', '.join(names)}"

    def _show(self, line: str) -> None:
        """Rewrite the line, cut to the terminal's width so that it stays one."""
        line = fitted(line, self._style)
        while cells(line) >= self._style.width:
            line = line[:-1]
        if self._stream is None or line == self._shown:
            return
        try:
            self._stream.write(ERASE + line)
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None  # the terminal went away: nobody waits any more
        self._shown = line
