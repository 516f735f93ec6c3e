"""What is known of compiling for GPUs that are not here: the facts of ``check --for``."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from envdoctor.api import Fact


class TargetCompile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A small kernel, compiled by Triton for one architecture."""

    architecture: str
    """As asked for: ``sm_120``."""
    ok: bool
    seconds: float | None = None
    """None where it did not come to its end."""
    ptx_version: str | None = None
    """The PTX release that was written, ``8.7``."""
    ptx_target: str | None = None
    """What the PTX says it is for, ``sm_120a``: from 9.0 on Triton asks for the architecture's own features."""
    cubin_bytes: int | None = None
    error: str = ""
    """The end of what the compiler said, or how the child died; empty where it went well."""


class CompiledFor(Fact, frozen=True):
    """A small kernel compiled to PTX and a cubin for each architecture that was asked for; nothing was launched."""

    fact_name: ClassVar[str] = "kernel.compiled-for"
    triton: str
    """The release of Triton that compiled."""
    targets: tuple[TargetCompile, ...]

    def of(self, architecture: str) -> TargetCompile | None:
        """How it went for one of them; None where it was not tried."""
        return next((each for each in self.targets if each.architecture == architecture), None)
