"""The tables that rules of this check ask for: its own, and those of checks that may be absent."""

from envdoctor_checks.driver.tables import cuda_floors
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.tables import expected_rates, toolchains, triton
from envdoctor_checks.torch.tables import companions, package_indexes

for _table in (expected_rates, toolchains, triton):
    check.table(_table)
for _borrowed in (companions, cuda_floors, package_indexes):
    check.table(_borrowed)  # their own checks may be absent; loaded once whoever registers them
