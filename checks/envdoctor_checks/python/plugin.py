"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.python import (  # noqa: F401 # importing registers
    messages,
    probe,
    read,
    read_install,
    rules,
    shared,
)
from envdoctor_checks.python.check import check

__all__ = ["check"]
