"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.driver import (  # noqa: F401 # importing registers
    messages_cuda,
    messages_kernel,
    messages_nvml,
    probe_calls,
    probe_kernel,
    probe_libraries,
    probe_machine,
    read_kernel,
    read_libraries,
    read_machine,
    read_smi,
)
from envdoctor_checks.driver.check import check

__all__ = ["check"]
