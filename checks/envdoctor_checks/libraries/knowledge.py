"""The tables that the rules of this check rest on, registered with it."""

from __future__ import annotations

from typing import ClassVar

from envdoctor.api import Fact, Source
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.tables import WheelLibraries, cudnn_users, runtimes, wheel_libraries
from envdoctor_checks.torch.tables import WheelPins, wheel_pins

check.table(runtimes)
check.table(cudnn_users)


class Knowledge(Fact, frozen=True, kw_only=True):
    """Which wheel brings which library, and which release of it each torch asks for."""

    fact_name: ClassVar[str] = "libraries.knowledge"
    source: Source = Source("table", "libraries/wheels")
    wheels: WheelLibraries
    pins: WheelPins


@check.table
def knowledge() -> Knowledge:
    """Both tables, loaded when the first rule that names a wheel runs."""
    return Knowledge(wheels=wheel_libraries(), pins=wheel_pins())
