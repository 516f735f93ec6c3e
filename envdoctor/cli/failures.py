"""What keeps us from judging or delivering: exit code 3, where the user's own errors are 2."""

from __future__ import annotations

from envdoctor.errors import EnvdoctorError


class Failure(EnvdoctorError):
    """Base: shown on one line, exit code 3."""


class NoChecksError(Failure):
    """There is no check to judge with: nothing can be said, and least of all that all is well."""


class WriteError(Failure):
    """A result that could not be written where it was asked for."""
