"""What is known of the target interpreter's packages."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from envdoctor.api import Fact


class Distribution(msgspec.Struct, frozen=True, omit_defaults=True):
    """One installed distribution, by its ``*.dist-info`` folder (or conda-meta file)."""

    name: str
    """Normalised: lower case, dashes."""
    version: str
    location: str = ""
    """The directory that holds it; empty when only a text speaks of it."""
    installer: str = ""
    """``pip``, ``uv``, ``conda``; empty when not known."""


class Distributions(Fact, frozen=True):
    """Every distribution on the target's path, in path order: the first of a name is the one that is imported."""

    fact_name: ClassVar[str] = "python.distributions"
    distributions: tuple[Distribution, ...]
    complete: bool = True
    """Whether one that is missing here is not installed; False when we only know what a text listed."""

    def joined(self, later: Distributions) -> Distributions:
        """Two lists of one text, together; the later one's versions win."""
        newer = {each.name for each in later.distributions}
        kept = tuple(each for each in self.distributions if each.name not in newer)
        complete = self.complete or later.complete
        return Distributions(distributions=(*kept, *later.distributions), complete=complete, source=self.source)

    def version(self, name: str) -> str | None:
        """The version that is imported, or None."""
        return next((each.version for each in self.distributions if each.name == name), None)
