"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.torch import (  # noqa: F401 # importing registers
    probe_extensions,
    probe_files,
    probe_import,
)
from envdoctor_checks.torch.check import check

__all__ = ["check"]
