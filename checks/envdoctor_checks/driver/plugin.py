"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.driver import (  # noqa: F401 # importing registers
    probe_calls,
    probe_kernel,
    probe_libraries,
    probe_machine,
)
from envdoctor_checks.driver.check import check

__all__ = ["check"]
