"""The private directory of one child, and the variables that keep its writing inside."""

from __future__ import annotations

import os
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


class PrivateDirectory:
    """A directory of mode 0700 under the child's TMPDIR, /tmp or /var/tmp.

    Raises OSError where none can be made.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        problem = OSError("no directory for temporary files")
        for parent in (env.get("TMPDIR"), "/tmp", "/var/tmp"):  # noqa: S108 - the name below it is random, and made by mkdir
            if not parent:
                continue
            try:
                self.path = os.path.join(os.path.abspath(parent), f"envdoctor-{os.urandom(6).hex()}")
                os.mkdir(self.path, 0o700)
            except OSError as error:
                problem = error
            else:
                return
        raise problem

    def environment(self) -> dict[str, str]:
        """What keeps compilers, CUDA, torch and triton from writing elsewhere."""
        return {
            "TMPDIR": self.path,
            **{name: os.path.join(self.path, end) for name, end in _CACHES.items()},
            **_OFF,
        }

    def remove(self) -> str:
        """Remove it with all that is in it; why it is still there, or nothing. Bounded in time."""
        problems: list[str] = []
        try:
            in_time = within(_REMOVAL_SECONDS, lambda: problems.append(_remove(self.path)))
        except RuntimeError:  # no thread to be had
            return _remove(self.path)
        return problems[0] if in_time else f"{self.path}: not removed within {_REMOVAL_SECONDS:g} s"


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
