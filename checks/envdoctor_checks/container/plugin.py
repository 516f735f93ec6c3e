"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.container import (  # noqa: F401 # importing registers
    headlines,
    rules_devices,
    rules_gpu,
    rules_intercepted,
    rules_kernel,
    rules_limits,
    rules_mounts,
    rules_start,
    rules_toolkit,
    rules_users,
)
from envdoctor_checks.container.check import check
from envdoctor_checks.container.tables import container_toolkit

check.table(container_toolkit)

check.later(
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
