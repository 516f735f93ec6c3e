"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.nccl import (  # noqa: F401 # importing registers
    probe_names,
    probe_network,
    probe_pci,
    probe_rdma,
    probe_settings,
    probe_version,
    rules_network,
    rules_rendezvous,
)
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.tables import nccl_requirements, nccl_variables

for table in (nccl_variables, nccl_requirements):
    check.table(table)

__all__ = ["check"]
