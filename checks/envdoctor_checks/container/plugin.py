"""The entry point: what is registered where, imported when it is asked for."""

from envdoctor_checks.container.check import check

check.later(
    judging=(
        "knowledge",
        "headlines",
        "rules_devices",
        "rules_gpu",
        "rules_intercepted",
        "rules_kernel",
        "rules_limits",
        "rules_mounts",
        "rules_start",
        "rules_toolkit",
        "rules_users",
    ),
    probes=(
        "probe_groups",
        "probe_host",
        "probe_mounts",
        "probe_who",
    ),
    text=(
        "messages_cluster",
        "messages_engine",
        "messages_system",
        "read_engine",
        "read_launch",
        "read_system",
    ),
)

__all__ = ["check"]
