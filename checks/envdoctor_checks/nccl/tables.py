"""What the nccl check judges by: NCCL's variables and what it needs of the machine."""

import re
from typing import ClassVar, Literal

from envdoctor.tables import Row, Table, compare_releases, load


class NcclVariable(Row, frozen=True, kw_only=True):
    """A variable that NCCL reads."""

    name: str
    kind: Literal["bool", "int", "enum", "list", "string", "path"]
    allowed: tuple[str, ...] = ()
    """Words of an enum or a list; none: any."""
    minimum: int | None = None
    maximum: int | None = None
    default: str | None = None
    """None: NCCL decides by itself, or it is not stated."""
    since: str | None = None
    """The first release that reads it; None where it is not stated."""
    meaning: str | None = None
    """None: not documented."""
    deprecated_since: str | None = None
    removed_in: str | None = None
    replaced_by: str | None = None
    debugging: bool
    """For tests only, not to be left on."""
    documented: bool

    def accepts(self, value: str) -> bool:
        """Whether NCCL understands a value. An empty one counts as not set."""
        text = value.strip()
        if not text or self.kind in ("string", "path"):
            return True
        if self.kind in ("bool", "int"):
            return self._accepts_number(text)
        words = [text] if self.kind == "enum" else _tokens(text)
        return not self.allowed or {word.lower() for word in words} <= {word.lower() for word in self.allowed}

    def _accepts_number(self, text: str) -> bool:
        try:
            number = int(text, 8) if re.fullmatch(r"0[0-7]+", text) else int(text, 0)
        except ValueError:
            return False
        above = self.minimum is None or number >= self.minimum
        return above and (self.maximum is None or number <= self.maximum)


def _tokens(text: str) -> list[str]:
    """The words of a list: ``^LL,Simple``, and since 2.24 ``allreduce:ring,tree;broadcast:ring``."""
    lists = [part.rpartition(":")[2] for part in text.split(";")]
    return [word.strip().lstrip("^") for each in lists for word in each.split(",") if word.strip()]


class OtherVariable(Row, frozen=True, kw_only=True):
    """A variable that begins with NCCL_ and that NCCL does not read."""

    name: str
    prefix: bool
    """Every variable that begins so."""
    reader: Literal["torch", "plugin", "build", "image"]
    replaced_by: str | None = None


class NcclVariables(Table, frozen=True, kw_only=True):
    """NCCL's variables."""

    fact_name: ClassVar[str] = "nccl.variables"
    variables: tuple[NcclVariable, ...]
    others: tuple[OtherVariable, ...]

    def variable(self, name: str) -> NcclVariable | None:
        """The row of a variable that NCCL reads."""
        return next((row for row in self.variables if row.name == name), None)

    def other(self, name: str) -> OtherVariable | None:
        """The row of a variable that somebody else reads."""
        return next(
            (row for row in self.others if name == row.name or (row.prefix and name.startswith(row.name))),
            None,
        )

    def knows(self, name: str) -> bool:
        """Whether anybody reads that variable."""
        return self.variable(name) is not None or self.other(name) is not None

    def nearest(self, name: str) -> str | None:
        """The variable that a misspelt name probably means."""
        from difflib import get_close_matches  # here, for a name is seldom misspelt

        close = get_close_matches(name, [row.name for row in self.variables], n=1, cutoff=0.85)
        return close[0] if close else None


class Requirement(Row, frozen=True, kw_only=True):
    """Something that NCCL needs of the machine."""

    id: str
    since: str | None = None
    """The first release of NCCL that it concerns; None: any."""
    before: str | None = None
    """The first release that it no longer concerns; None: any later one is concerned."""
    need: str
    symptom: str
    settings: tuple[str, ...]
    """What to add or set, where that can be said in words of a command."""


class NcclRequirements(Table, frozen=True, kw_only=True):
    """What NCCL needs of the machine."""

    fact_name: ClassVar[str] = "nccl.requirements"
    requirements: tuple[Requirement, ...]

    def applies(self, name: str, nccl: str) -> bool:
        """Whether a requirement concerns a release of NCCL. Raises KeyError for an id that is not there."""
        for row in self.requirements:
            if row.id == name:
                begun = row.since is None or compare_releases(nccl, row.since) >= 0
                return begun and (row.before is None or compare_releases(nccl, row.before) < 0)
        raise KeyError(name)


def nccl_variables() -> NcclVariables:
    """NCCL's variables."""
    return load(__package__, "variables", NcclVariables)


def nccl_requirements() -> NcclRequirements:
    """What NCCL needs of the machine."""
    return load(__package__, "requirements", NcclRequirements)
