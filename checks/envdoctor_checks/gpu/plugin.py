"""The entry point: what is registered where, imported when it is asked for."""

from envdoctor_checks.gpu.check import check

check.later(
    judging=(
        "headlines",
        "rules_clocks",
        "rules_health",
        "rules_memory",
        "rules_mig",
        "rules_modes",
        "rules_visible",
        "rules_xid",
    ),
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
