"""What a run was asked to try beyond looking: ``--device``, ``--for``, ``--driver``, ``--deep``."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

import msgspec

from envdoctor.errors import UsageError
from envdoctor.facts import Fact, Source

Device = Literal["auto", "cpu"]
ARCHITECTURE = r"sm_[1-9]\d{1,2}[af]?"
RELEASE = r"\d{3,4}(\.\d{1,3}){1,2}"


class Asked(Fact, frozen=True):
    """What the user asked this run to try. Absent where nothing was asked."""

    fact_name: ClassVar[str] = "envdoctor.asked"
    deep: bool = False
    """``--deep``: everything, however long it takes, whatever is already known to be broken."""
    device: Device = "auto"
    """Where the trials run: ``auto`` on the GPUs that work, ``cpu`` on the processor."""
    architectures: tuple[str, ...] = ()
    """GPUs that are not here, ``sm_90``: can this environment run on them?"""
    driver: str | None = None
    """The driver release that those GPUs would have, ``535.104.05``; None: not said."""
    library: str | None = None
    """A library's name or path: how does the loader resolve it? Empty for all of the CUDA family."""


def asked_library(name: str, more: Asked | None = None) -> Asked:
    """The question of ``envdoctor libraries``: one name or path, or all with an empty one; beside what else was asked."""
    return msgspec.structs.replace(more or Asked(source=Source("call", "envdoctor")), library=name)


def asked(*, deep: bool, device: Device, architectures: str | None, driver: str | None) -> Asked | None:
    """From the options; None where all have their defaults. Raises `UsageError`."""
    wanted = tuple(dict.fromkeys(each.strip() for each in (architectures or "").split(",") if each.strip()))
    for each in wanted:
        if not re.fullmatch(ARCHITECTURE, each):
            raise UsageError(f"--for {each!r} is no GPU architecture; write it like sm_90 or sm_90,sm_120")
    if architectures is not None and not wanted:
        raise UsageError("--for names no GPU architecture; write it like sm_90 or sm_90,sm_120")
    if driver is not None and not re.fullmatch(RELEASE, driver):
        raise UsageError(f"--driver {driver!r} is no driver release; write it like 535.104.05")
    if driver is not None and not wanted:
        raise UsageError("--driver says which driver the GPUs of --for would have; give --for as well")
    if not (deep or device != "auto" or wanted):
        return None
    source = Source("call", "envdoctor")
    return Asked(deep=deep, device=device, architectures=wanted, driver=driver, source=source)
