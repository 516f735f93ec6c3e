"""The entry point: what is registered where, imported when it is asked for."""

from envdoctor_checks.torch.check import check

check.later(
    judging=(
        "knowledge",
        "advice",
        "headlines",
        "rules_alloc",
        "rules_arch",
        "rules_build",
        "rules_copies",
        "rules_cuda",
        "rules_extension_arch",
        "rules_extensions",
        "rules_formats",
        "rules_import",
        "rules_install",
        "rules_memory",
        "rules_sisters",
    ),
    probes=(
        "probe_extensions",
        "probe_files",
        "probe_import",
    ),
    text=(
        "messages_arch",
        "messages_install",
        "messages_memory",
        "messages_packages",
        "read",
    ),
)

__all__ = ["check"]
