"""The entry point: what is registered where, imported when it is asked for."""

from envdoctor_checks.host.check import check

check.later(
    judging=(
        "headlines",
        "rules_limits",
        "rules_memory",
        "rules_shm",
    ),
    probes=("probe",),
    text=(
        "messages",
        "read",
    ),
)

__all__ = ["check"]
