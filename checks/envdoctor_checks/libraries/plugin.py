"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.libraries import (  # noqa: F401 # importing registers
    messages,
    messages_programs,
    probe,
    read,
)
from envdoctor_checks.libraries.check import check

__all__ = ["check"]
