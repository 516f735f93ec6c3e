"""The entry point: importing a module registers what is in it."""

from envdoctor_checks.driver import (  # noqa: F401 # importing registers
    headlines,
    rules_compat,
    rules_devices,
    rules_fabric,
    rules_libcuda,
    rules_module,
    rules_refused,
    rules_support,
    rules_torch,
    rules_versions,
)
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

check.later(
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
