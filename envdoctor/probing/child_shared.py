"""Shared memory that a child made by name and did not take away: files in /dev/shm, which outlive whoever made them.

Libraries take the name away as soon as every process has the memory. One that is ended before leaves it behind, and
on a machine it stays until the next boot. Only files that a process of the child's own was seen to have mapped, or
that carry its number in their name, are removed: other programs make some of the same names at the same time.

Not found is what a process made and mapped less than a tenth of a second before it crashed, unless it is torch's,
which is named after the process.
"""

from __future__ import annotations

import os
import re
import stat
import time
from typing import TYPE_CHECKING

from envdoctor.probing.child_proc import within

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PLACE = "/dev/shm/"  # noqa: S108 - nothing is made here
_NAMES = re.compile(r"torch_(\d+)_|nccl-|psm_")
"""Of torch (with the process), of NCCL, of Python's multiprocessing."""
_SECONDS = 1.0


class SharedMemory:
    """What one child and its descendants made. `note` while they live, `remove` once they are gone."""

    def __init__(self) -> None:
        self._since = time.time() - 1  # the kernel's clock for files is coarser than ours
        self._pids: set[int] = set()
        self._made: dict[str, int] = {}
        self._blind = False

    def note(self, pids: Iterable[int]) -> None:
        """Remember what these processes have mapped. It costs microseconds while no such file is there.

        On a thread, because the maps wait for the same lock as the environment, which a hung call may hold.
        """
        pids = tuple(pids)
        self._pids.update(pids)
        unknown = {path: inode for path, inode in self._candidates() if self._made.get(path) != inode}
        if not unknown or self._blind:
            return

        def look() -> None:
            for pid in pids:
                text = _maps(pid)
                self._made.update({path: inode for path, inode in unknown.items() if f" {path}\n" in text})

        try:
            self._blind = not within(_SECONDS, look)
        except RuntimeError:  # no thread to be had: those named after a process are known all the same
            self._blind = True

    def remove(self) -> str:
        """Take the names away; what could not be removed, with the reason, or nothing."""
        problems = []
        for path, inode in self._candidates():
            match = _NAMES.match(path, len(_PLACE))
            named = match is not None and match[1] is not None and int(match[1]) in self._pids
            if named or self._made.get(path) == inode:
                try:
                    os.unlink(path)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    problems.append(f"{path}: {error.strerror or error}")
        return "; ".join(problems)

    def _candidates(self) -> Iterator[tuple[str, int]]:
        """Paths and inodes of files with such names, of our user, that have changed since the child was started."""
        try:
            names = [name for name in os.listdir(_PLACE) if _NAMES.match(name)]
        except OSError:
            return  # not Linux, or a container without it
        for name in names:
            try:
                status = os.lstat(_PLACE + name)
            except OSError:
                continue  # it is gone
            if (
                stat.S_ISREG(status.st_mode)
                and status.st_uid == os.geteuid()
                and status.st_ctime >= self._since
            ):
                yield _PLACE + name, status.st_ino


def _maps(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""  # it is gone, or another user's
