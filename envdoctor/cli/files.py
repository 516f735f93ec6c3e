"""Writing files: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat

from envdoctor.cli.failures import WriteError


def write_file(path: str, text: str) -> None:
    """Write UTF-8, or raise `WriteError`; a reader never sees half of it.

    A regular file is replaced by a finished one beside it. What is none (a pipe, ``/dev/stderr``) cannot be
    replaced and is written to.
    """
    data = text.encode("utf-8", "backslashreplace")
    try:
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            with open(path, "wb") as special:
                special.write(data)
        else:
            _replace(os.path.realpath(path), data)
    except OSError as error:
        raise WriteError(f"{path}: could not be written: {error.strerror or error}") from error


def _replace(path: str, data: bytes) -> None:
    """Through a file of our own in the same directory, on the disk before it takes the name."""
    beside = f"{path}.{os.getpid()}.part"
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)  # the first error is the one to tell
        raise
