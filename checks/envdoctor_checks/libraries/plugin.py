"""The entry point: what is registered where, imported when it is asked for."""

from envdoctor_checks.libraries.check import check

check.later(
    judging=(
        "headlines",
        "knowledge",
        "rules_cache",
        "rules_cudnn",
        "rules_cudnn_release",
        "rules_elsewhere",
        "rules_files",
        "rules_foreseen",
        "rules_missing",
        "rules_mixed",
        "rules_nvrtc",
        "rules_pins",
        "rules_runtimes",
        "rules_shadowed",
        "rules_shared",
        "rules_symbols",
        "views",
    ),
    probes=(
        "probe",
        "probe_loader",
        "probe_wheels",
    ),
    text=(
        "messages",
        "messages_programs",
        "read",
    ),
)

__all__ = ["check"]
