"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.host import (  # noqa: F401 # importing registers
    headlines,
    messages,
    read,
    rules_limits,
    rules_memory,
    rules_shm,
)
from envdoctor_checks.host.check import check

check.later("probe")

__all__ = ["check"]
