"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.nccl import (  # noqa: F401 # importing registers
    group_headlines,
    headlines,
    rules_collective,
    rules_fabric,
    rules_groups,
    rules_library,
    rules_network,
    rules_peers,
    rules_platform,
    rules_reach,
    rules_rendezvous,
    rules_settings,
    rules_transport,
)
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.tables import nccl_requirements, nccl_variables

for table in (nccl_variables, nccl_requirements):
    check.table(table)

check.later(
    probes=(
        "probe_groups",
        "probe_names",
        "probe_network",
        "probe_pci",
        "probe_rdma",
        "probe_settings",
        "probe_version",
    ),
    text=(
        "messages_nccl",
        "messages_torch",
        "read",
    ),
)

__all__ = ["check"]
