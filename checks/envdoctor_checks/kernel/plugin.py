"""The entry point: what is registered where, imported when it is asked for."""

from envdoctor_checks.kernel.check import check

check.later(
    judging=(
        "knowledge",
        "headlines_for",
        "rules_assembler",
        "rules_caches",
        "rules_compilers",
        "rules_compiling",
        "rules_cuda",
        "rules_driver",
        "rules_entries",
        "rules_for",
        "rules_for_compiling",
        "rules_host_compiler",
        "rules_parts",
        "rules_rates",
        "rules_smoke",
        "rules_triton",
        "views",
    ),
    probes=(
        "probe_caches",
        "probe_compile",
        "probe_files",
        "probe_for",
        "probe_releases",
        "probe_smoke",
    ),
    text=(
        "messages_cache",
        "messages_compilers",
        "messages_cuda",
        "messages_triton",
        "read",
    ),
)

__all__ = ["check"]
