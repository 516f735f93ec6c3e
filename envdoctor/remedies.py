"""Remedies: what a rule proposes, as data. `envdoctor.prescribe` words them for the machine at hand."""

from __future__ import annotations

import enum

import msgspec


class Reach(enum.Enum):
    """What a fix changes, smallest first."""

    SHELL = "shell"
    ENVIRONMENT = "environment"
    CONTAINER = "container"
    HOST = "host"

    @property
    def order(self) -> int:
        """0 for the smallest reach."""
        return list(Reach).index(self)


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every remedy. `caveat`: what it may break. `verify`: a command that shows whether it worked."""

    caveat: str = ""
    verify: str = ""


class Install(Remedy, frozen=True):
    """Install Python distributions: requirement strings, from the index of a CUDA `build` (``cu126``) or an `index` URL.

    `reinstall` replaces files that are there and damaged, without touching other distributions.
    """

    requirements: tuple[str, ...]
    build: str = ""
    index: str = ""
    reinstall: bool = False
    why: str = ""


class Uninstall(Remedy, frozen=True):
    """Remove Python distributions by name."""

    distributions: tuple[str, ...]
    why: str = ""


class InstallSystem(Remedy, frozen=True):
    """Install operating-system packages, by a key of `envdoctor.prescribe.SYSTEM_PACKAGES` such as ``cxx-compiler``."""

    package: str
    why: str = ""


class UpgradeDriver(Remedy, frozen=True):
    """Install an NVIDIA driver of at least `floor` (a release such as ``525.60.13``; empty: any) on the host."""

    floor: str = ""
    open_modules: bool = False
    why: str = ""


class UnsetVariable(Remedy, frozen=True):
    """Unset an environment variable. Proposed only where that changes the outcome."""

    name: str
    why: str = ""


class SetVariable(Remedy, frozen=True):
    """Set an environment variable in the shell that starts the program."""

    name: str
    value: str
    why: str = ""


class DropPathEntry(Remedy, frozen=True):
    """Take one entry out of a colon-separated variable such as LD_LIBRARY_PATH."""

    name: str
    entry: str
    why: str = ""


class Relaunch(Remedy, frozen=True):
    """Start the container anew with other options (docker's spelling; worded for the engine at hand)."""

    adds: str = ""
    removes: str = ""
    why: str = ""


class Run(Remedy, frozen=True):
    """Commands that no other remedy words. They are shown, never run."""

    title: str
    commands: tuple[str, ...]
    reach: Reach
    needs_root: bool = False
    needs_restart: str = ""
    """What must be restarted afterwards: "", "process", "session", "container" or "machine"."""


class Change(Remedy, frozen=True):
    """Something a person changes by hand: a line of code, a setting. `example` holds what to write."""

    title: str
    reach: Reach
    example: tuple[str, ...] = ()
    needs_restart: str = ""


class AskAdministrator(Remedy, frozen=True):
    """Something that only whoever runs the host can do; `commands` are what they would type."""

    what: str
    commands: tuple[str, ...] = ()
    needs_restart: str = ""


class NoFix(Remedy, frozen=True):
    """Nothing can be typed, and why."""

    reason: str
