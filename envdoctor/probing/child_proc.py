"""What /proc tells of the processes that a child left behind. Without /proc, nothing is known of them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from envdoctor.probing.child import StuckChild

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SCAN_SECONDS = 1.0
_ENVIRON_BYTES = 1 << 20
_unreadable: set[tuple[int, int]] = set()
"""Pid and start of processes whose environment could not be read in time: each such try costs a thread."""


class Row(msgspec.Struct, frozen=True):
    """One living process, from /proc/PID/stat."""

    pid: int
    parent: int
    group: int
    session: int
    started: int
    """Clock ticks since boot."""


def within(seconds: float, call: Callable[[], None]) -> bool:
    """Whether `call`, which must not raise, returned in time.

    It runs on a daemon thread, which is left alone when it is late. Raises RuntimeError where no thread can
    be started.
    """
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(min(max(seconds, 0), threading.TIMEOUT_MAX))
    return not thread.is_alive()


def ticks_now() -> int:
    """The clock of `Row.started`."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    if boottime is None:
        return 0
    return int(time.clock_gettime(boottime) * os.sysconf("SC_CLK_TCK")) - 1  # the kernel rounds down as well


def descendants(pid: int, *, since: int, token: str) -> list[int]:
    """Living processes that `pid` started, directly or not.

    Those that started after `since` and are of its session, or carry `token` in their environment, or have
    such a parent. Takes about 10 microseconds for each process of the machine, two seconds at most.
    """
    rows = {row.pid: row for row in _rows(since) if row.pid not in (pid, os.getpid())}
    family = {row.pid for row in rows.values() if pid in (row.session, row.group)}
    family |= _carrying(token.encode(), [row for row in rows.values() if row.pid not in family])
    family.add(pid)
    while more := {row.pid for row in rows.values() if row.parent in family} - family:
        family |= more
    return sorted(family - {pid})


def describe_stuck(pids: list[int], *, stage: str | None, seconds: float) -> StuckChild:
    """What holds processes that do not go: a thread of theirs in state D, else the first that is alive."""
    threads = [
        (pid, int(name), _state(f"/proc/{pid}/task/{name}/stat"))
        for pid in pids
        for name in _numbers(f"/proc/{pid}/task")
    ]
    threads.sort(key=lambda each: (each[2] != "D", each[2] in ("Z", "X")))
    pid, thread, state = threads[0] if threads else (pids[0], pids[0], "?")
    here = f"/proc/{pid}/task/{thread}"
    wchan = _read(f"{here}/wchan", 256).decode("utf-8", "replace")
    return StuckChild(
        pid=pid,
        thread=thread,
        name=_read(f"{here}/comm", 64).decode("utf-8", "replace").rstrip("\n"),
        state=state,
        wchan="" if wchan == "0" else wchan,  # 0: it runs, or the kernel hides the name
        status=_read(f"{here}/status", 4096).decode("utf-8", "replace"),
        stage=stage,
        seconds=seconds,
    )


def _rows(since: int) -> Iterator[Row]:
    """Zombies are left out, except those whose other threads live on."""
    until = time.monotonic() + _SCAN_SECONDS
    for name in _numbers("/proc"):
        if time.monotonic() > until:
            return
        fields = _stat(f"/proc/{name}/stat")
        if len(fields) < 20 or int(fields[19]) < since:
            continue
        if fields[0] in ("Z", "X") and int(fields[17]) <= 1:
            continue
        yield Row(int(name), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def _carrying(token: bytes, rows: list[Row]) -> set[int]:
    """Those whose environment holds the token.

    On a thread, because reading it waits for the lock on that process's memory, which a hung driver call may
    hold.
    """
    rows = [row for row in rows if (row.pid, row.started) not in _unreadable]
    found: list[int] = []
    seen = 0

    def look() -> None:
        nonlocal seen
        for row in rows:
            if token in _read(f"/proc/{row.pid}/environ", _ENVIRON_BYTES):
                found.append(row.pid)
            seen += 1

    with contextlib.suppress(
        RuntimeError
    ):  # no thread to be had: the session's members are known all the same
        if rows and not within(_SCAN_SECONDS, look):
            late = rows[min(seen, len(rows) - 1)]
            _unreadable.add((late.pid, late.started))
    return set(found)


def _numbers(directory: str) -> list[str]:
    try:
        return [name for name in os.listdir(directory) if name.isdigit()]
    except OSError:
        return []  # not Linux, or gone


def _state(path: str) -> str:
    fields = _stat(path)
    return fields[0] if fields else "?"


def _stat(path: str) -> list[str]:
    """The fields of proc_pid_stat(5) from the third on: the second, in parentheses, may hold anything."""
    return _read(path, 4096).rpartition(b")")[2].decode("ascii", "replace").split()


def _read(path: str, limit: int) -> bytes:
    """Empty where the process is gone or another user's."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, limit)
    except OSError:
        return b""
    finally:
        os.close(fd)
