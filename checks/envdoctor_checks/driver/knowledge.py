"""The tables that rules of this check ask for: its own, and those of checks that may be absent."""

from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.tables import (
    architectures,
    codes,
    cuda_floors,
    forward_compatibility,
    known_bad_releases,
)
from envdoctor_checks.gpu.tables import pci_ids
from envdoctor_checks.torch.tables import package_indexes, torch_releases

for _table in (architectures, codes, cuda_floors, forward_compatibility, known_bad_releases):
    check.table(_table)
for _borrowed in (package_indexes, pci_ids, torch_releases):
    check.table(_borrowed)  # their own checks may be absent; loaded once whoever registers them
