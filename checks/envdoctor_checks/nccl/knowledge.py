"""The tables that rules of this check ask for."""

from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.tables import nccl_requirements, nccl_variables

for table in (nccl_variables, nccl_requirements):
    check.table(table)
