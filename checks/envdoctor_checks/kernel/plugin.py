"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.driver.tables import cuda_floors
from envdoctor_checks.kernel import (  # noqa: F401 # importing registers
    headlines_for,
    rules_assembler,
    rules_caches,
    rules_compilers,
    rules_compiling,
    rules_cuda,
    rules_driver,
    rules_entries,
    rules_for,
    rules_for_compiling,
    rules_host_compiler,
    rules_parts,
    rules_rates,
    rules_smoke,
    rules_triton,
    views,
)
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.tables import expected_rates, toolchains, triton
from envdoctor_checks.torch.tables import companions, package_indexes

for _table in (expected_rates, toolchains, triton):
    check.table(_table)
for _borrowed in (companions, cuda_floors, package_indexes):
    check.table(_borrowed)  # their own checks may be absent; loaded once whoever registers them

check.later(
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
