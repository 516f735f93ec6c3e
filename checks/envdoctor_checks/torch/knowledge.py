"""The tables that rules of this check ask for."""

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
