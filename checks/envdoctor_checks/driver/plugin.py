"""The entry point: what is registered where, imported when it is asked for."""

from envdoctor_checks.driver.check import check

check.later(
    judging=(
        "knowledge",
        "headlines",
        "rules_compat",
        "rules_devices",
        "rules_fabric",
        "rules_libcuda",
        "rules_module",
        "rules_refused",
        "rules_support",
        "rules_torch",
        "rules_versions",
    ),
    probes=(
        "probe_calls",
        "probe_kernel",
        "probe_libraries",
        "probe_machine",
    ),
    text=(
        "messages_cuda",
        "messages_kernel",
        "messages_nvml",
        "read_kernel",
        "read_libraries",
        "read_machine",
        "read_smi",
    ),
)

__all__ = ["check"]
