"""The entry point: what is registered where, imported when it is asked for."""

from envdoctor_checks.python.check import check

check.later(
    judging=(
        "rules",
        "rules_found",
        "rules_interpreter",
        "rules_path",
        "shared",
    ),
    probes=(
        "probe",
        "probe_pip",
        "probe_records",
    ),
    text=(
        "messages",
        "read",
        "read_install",
    ),
)

__all__ = ["check"]
