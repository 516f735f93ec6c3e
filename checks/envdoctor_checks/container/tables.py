"""What the container check judges by: releases of the NVIDIA container toolkit."""

from typing import ClassVar

from envdoctor.tables import Row, Table, compare_releases, load


class Hole(Row, frozen=True, kw_only=True):
    """A security hole of the toolkit."""

    cve: str
    fixed_in: str
    cdi_fixed_in: str | None = None
    """With CDI it is closed from this release on; None: as `fixed_in`."""
    spares_cdi: bool
    """It never concerned CDI."""
    gpu_operator: str | None = None
    """The first GPU operator with the fix; None where it is not stated."""
    severity: str | None = None
    """CVSS score; None where it is not stated."""
    hole: str


class Feature(Row, frozen=True, kw_only=True):
    """What a release of the toolkit brought."""

    id: str
    since: str
    what: str


class Bundle(Row, frozen=True, kw_only=True):
    """A product that brings a toolkit of its own."""

    product: str
    version: str
    toolkit: str


class ContainerToolkit(Table, frozen=True, kw_only=True):
    """Releases of the NVIDIA container toolkit."""

    fact_name: ClassVar[str] = "container.toolkit-releases"
    holes: tuple[Hole, ...]
    features: tuple[Feature, ...]
    bundles: tuple[Bundle, ...]

    def open_holes(self, toolkit: str, *, cdi: bool = False) -> tuple[Hole, ...]:
        """The holes that a release of the toolkit still has, used in CDI mode or not."""
        return tuple(
            row
            for row in self.holes
            if not (cdi and row.spares_cdi)
            and compare_releases(toolkit, row.cdi_fixed_in if cdi and row.cdi_fixed_in else row.fixed_in) < 0
        )

    def has(self, toolkit: str, feature: str) -> bool:
        """Whether a release has a feature. Raises KeyError for a feature that is not in the table."""
        for row in self.features:
            if row.id == feature:
                return compare_releases(toolkit, row.since) >= 0
        raise KeyError(feature)


def container_toolkit() -> ContainerToolkit:
    """Releases of the NVIDIA container toolkit."""
    return load(__package__, "toolkit", ContainerToolkit)
