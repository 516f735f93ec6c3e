"""The errors that a user can cause. Each message says on one line what is wrong and what to do."""

from __future__ import annotations


class EnvdoctorError(Exception):
    """Base: shown on one line, exit code 2."""


class UsageError(EnvdoctorError):
    """A command line or configuration that cannot be followed."""


class DocumentError(EnvdoctorError):
    """A facts file or pasted text that cannot be read: truncated, foreign, too large or of a newer schema."""


class PluginError(EnvdoctorError):
    """A plugin that breaks the contract. Reported as ``envdoctor/plugin-broken``, never fatal."""
