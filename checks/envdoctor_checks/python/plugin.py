"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.python import (  # noqa: F401 # importing registers
    messages,
    probe,
    probe_pip,
    probe_records,
    read,
    read_install,
    rules,
    rules_found,
    shared,
)
from envdoctor_checks.python.check import check

__all__ = ["check"]
