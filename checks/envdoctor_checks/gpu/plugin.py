"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.gpu import (  # noqa: F401 # importing registers
    headlines,
    rules_clocks,
    rules_health,
    rules_memory,
    rules_mig,
    rules_modes,
    rules_visible,
    rules_xid,
)
from envdoctor_checks.gpu.check import check

check.later(
    probes=(
        "probe",
        "probe_kernel_log",
    ),
    text=(
        "messages",
        "messages_kernel",
        "read_query",
        "read_table",
    ),
)

__all__ = ["check"]
