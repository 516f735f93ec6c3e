"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.gpu import (  # noqa: F401 # importing registers
    messages,
    messages_kernel,
    probe,
    probe_kernel_log,
    read_query,
    read_table,
)
from envdoctor_checks.gpu.check import check

__all__ = ["check"]
