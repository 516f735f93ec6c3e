"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.torch import (  # noqa: F401 # importing registers
    advice,
    messages_arch,
    messages_install,
    messages_memory,
    messages_packages,
    probe_extensions,
    probe_files,
    probe_import,
    read,
)
from envdoctor_checks.torch.check import check

__all__ = ["check"]
