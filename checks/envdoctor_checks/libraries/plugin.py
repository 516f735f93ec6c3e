"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.libraries import (  # noqa: F401 # importing registers
    headlines,
    knowledge,
    resolving,
    rules_cache,
    rules_cudnn,
    rules_cudnn_release,
    rules_elsewhere,
    rules_files,
    rules_foreseen,
    rules_missing,
    rules_mixed,
    rules_nvrtc,
    rules_pins,
    rules_runtimes,
    rules_shadowed,
    rules_shared,
    rules_symbols,
)
from envdoctor_checks.libraries.check import check

check.later(
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
