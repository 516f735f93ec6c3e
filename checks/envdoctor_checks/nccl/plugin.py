"""The entry point: what is registered where, imported when it is asked for."""

from envdoctor_checks.nccl.check import check

check.later(
    judging=(
        "knowledge",
        "group_headlines",
        "headlines",
        "rules_collective",
        "rules_fabric",
        "rules_groups",
        "rules_library",
        "rules_network",
        "rules_peers",
        "rules_platform",
        "rules_reach",
        "rules_rendezvous",
        "rules_settings",
        "rules_transport",
    ),
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
