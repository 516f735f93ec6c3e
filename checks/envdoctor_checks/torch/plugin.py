"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.torch import (  # noqa: F401 # importing registers
    advice,
    headlines,
    rules_alloc,
    rules_arch,
    rules_build,
    rules_copies,
    rules_cuda,
    rules_extension_arch,
    rules_extensions,
    rules_formats,
    rules_import,
    rules_install,
    rules_memory,
    rules_sisters,
)
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.tables import (
    alloc_conf,
    arch_lists,
    broken_releases,
    companions,
    extensions,
    package_indexes,
    torch_releases,
    wheel_pins,
)

for table in (
    alloc_conf,
    arch_lists,
    broken_releases,
    companions,
    extensions,
    package_indexes,
    torch_releases,
    wheel_pins,
):
    check.table(table)

check.later(
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
