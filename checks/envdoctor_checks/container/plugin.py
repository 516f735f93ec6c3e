"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.container import (  # noqa: F401 # importing registers
    probe_groups,
    probe_host,
    probe_mounts,
    probe_who,
)
from envdoctor_checks.container.check import check

__all__ = ["check"]
