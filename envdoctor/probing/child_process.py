"""A child as a process: started without freezing us, watched without reaping, signalled with its family."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

from envdoctor.probing.child_kept import Exit
from envdoctor.probing.child_proc import descendants, ticks_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# With vfork, Python holds its global lock until the exec returns: a program on a dead network file system
# would freeze every thread of ours. subprocess documents this switch for those who cannot have that.
subprocess._USE_VFORK = False  # type: ignore[attr-defined]  # noqa: SLF001 - documented


class Process:
    """One child from fork to reaping. Its pid stays its own until `reap`, so signals never hit a stranger."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._since = ticks_now()
        self._popen: subprocess.Popen[bytes] = subprocess.Popen.__new__(subprocess.Popen)
        self._lock = threading.RLock()
        self._failed = False
        self._reaped = False
        self.exit: Exit | None = None

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | None,
        stdin: int | None,
        stdout: int | None,
        stderr: int | None,
        keep: Sequence[int],
    ) -> None:
        """Fork and exec; returns when the exec has happened. Raises OSError or ValueError like subprocess.

        May hang where a file system does: call it on a thread, and look at `pid`, which is known from the
        fork on.
        """
        try:
            subprocess.Popen.__init__(
                self._popen,
                list(argv),
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=stdout,
                stderr=stderr,
                env=env,
                cwd=cwd,
                start_new_session=True,
                close_fds=True,
                pass_fds=keep,
            )
        except BaseException:
            self._failed = True
            raise
        self._keep_from_dumping_core()

    @property
    def pid(self) -> int | None:
        """None before the fork, and where the exec failed."""
        return None if self._failed else getattr(self._popen, "pid", None)

    def has_exited(self) -> bool:
        """Whether the child itself is gone; sets `exit`."""
        with self._lock:
            if self.exit is None and self.pid is not None:
                self.exit = self._look(self.pid)
            return self.exit is not None

    def living(self) -> list[int]:
        """The child, if it lives, and every living process that it started, as far as /proc tells."""
        if self.pid is None:
            return []
        child = [] if self.has_exited() else [self.pid]
        return child + descendants(self.pid, since=self._since, token=self._token)

    def signal(self, number: int, pids: Iterable[int]) -> None:
        """Signal the child's process group, and those of `pids` that left it."""
        with self._lock:
            if self.pid is None or self._reaped:
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
            for pid in pids:
                # Gone meanwhile, or of another user by a set-uid bit: whoever asks `living` again sees which.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    if os.getpgid(pid) != self.pid:
                        os.kill(pid, number)

    def reap(self) -> bool:
        """Give the pid back to the system; False while there still is a process. Never waits."""
        with self._lock:
            if self.pid is None or self._reaped:
                return True
            if not self.has_exited():
                return False
            self._reaped = True
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
            self._popen.returncode = 0  # else its destructor would ask for a pid that is no longer ours
            return True

    def _look(self, pid: int) -> Exit | None:
        """Without reaping where the system can (Python on macOS could not before 3.13)."""
        try:
            if not hasattr(os, "waitid"):
                gone, status = os.waitpid(pid, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status)
                return None if gone == 0 else Exit(code=code) if code >= 0 else Exit(signal=-code)
            told = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return Exit()  # SIGCHLD is ignored in this process: the kernel threw the status away
        if told is None:
            return None
        return Exit(code=told.si_status) if told.si_code == os.CLD_EXITED else Exit(signal=told.si_status)

    def _keep_from_dumping_core(self) -> None:
        """A crash must leave no file and start no crash reporter: for the kernel, one byte means neither."""
        import resource

        if not hasattr(resource, "prlimit"):
            return
        with contextlib.suppress(OSError, ValueError):  # it is gone already, or runs as another user
            hard = resource.prlimit(self._popen.pid, resource.RLIMIT_CORE)[1]
            soft = 1 if hard == resource.RLIM_INFINITY or hard >= 1 else 0
            resource.prlimit(self._popen.pid, resource.RLIMIT_CORE, (soft, hard))


def signal_name(number: int | None) -> str | None:
    """``SIGSEGV`` for 11; a number without a name, as real-time signals are, is ``SIG34``."""
    if number is None:
        return None
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
