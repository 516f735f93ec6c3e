"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.python import (  # noqa: F401 # importing registers
    rules,
    rules_found,
    rules_interpreter,
    rules_path,
    shared,
)
from envdoctor_checks.python.check import check

check.later(
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
