"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.host import (  # noqa: F401 # importing registers
    headlines,
    rules_limits,
    rules_memory,
    rules_shm,
)
from envdoctor_checks.host.check import check

check.later(
    probes=("probe",),
    text=(
        "messages",
        "read",
    ),
)

__all__ = ["check"]
