"""The private directory of one child, and the variables that keep its writing inside."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from envdoctor.probing.child_proc import within

if TYPE_CHECKING:
    from collections.abc import Mapping

_REMOVAL_SECONDS = 5.0
_CACHES = {  # variable -> name in the private directory
    "XDG_CACHE_HOME": "cache",
    "CUDA_CACHE_PATH": "cuda",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TORCH_EXTENSIONS_DIR": "extensions",
}
_OFF = {"CUDA_CACHE_DISABLE": "1", "CCACHE_DISABLE": "1"}


_COMPILED = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
"""What is compiled is also loaded from there, which not every file system allows: it goes where the user's would."""


class PrivateDirectory:
    """A directory of mode 0700 under the child's TMPDIR, /tmp or /var/tmp, and one in each compile cache that is set.

    Raises OSError where none can be made.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.path = _made(env.get("TMPDIR"), "/tmp", "/var/tmp")  # noqa: S108 - the name below it is random, and made by mkdir
        self._caches = {name: os.path.join(self.path, end) for name, end in _CACHES.items()}
        for name in _COMPILED:
            with suppress(OSError):  # not there or not writable, which is a finding of its own
                self._caches[name] = _made(env.get(name))

    def environment(self) -> dict[str, str]:
        """What keeps compilers, CUDA, torch and triton from writing elsewhere."""
        return {"TMPDIR": self.path, **self._caches, **_OFF}

    def remove(self) -> str:
        """Remove it with all that is in it; why it is still there, or nothing. Bounded in time."""
        problems: list[str] = []

        def remove() -> None:
            problems.extend(map(_remove, (self.path, *(self._caches[name] for name in _COMPILED))))

        try:
            in_time = within(_REMOVAL_SECONDS, remove)
        except RuntimeError:  # no thread to be had
            remove()
            in_time = True
        told = next(filter(None, problems), "")
        return told if in_time or told else f"{self.path}: not removed within {_REMOVAL_SECONDS:g} s"


def _made(*parents: str | None) -> str:
    """A new directory in the first of these in which one can be made. Raises OSError."""
    problem = OSError("no directory for temporary files")
    for parent in parents:
        if not parent:
            continue
        path = os.path.join(os.path.abspath(parent), f"envdoctor-{os.urandom(6).hex()}")
        try:
            os.mkdir(path, 0o700)
        except OSError as error:
            problem = error
        else:
            return path
    raise problem


def _remove(path: str) -> str:
    import shutil  # here, for it costs milliseconds and few children have such a directory

    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return _remove_again(path) if os.path.lexists(path) else ""
    except OSError:
        return _remove_again(path)
    return ""


def _remove_again(path: str) -> str:
    """For what tools make read-only, and for what a dying process was still writing."""
    import shutil

    try:
        for directory, _, _ in os.walk(path):
            os.chmod(directory, 0o700)
        shutil.rmtree(path)
    except OSError as error:
        return f"{path}: {error.strerror or error}" if os.path.lexists(path) else ""
    return ""
