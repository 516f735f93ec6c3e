"""Registers the tables that rules of this check ask for."""

from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.tables import cudnn_users, runtimes, wheel_libraries

check.table(wheel_libraries)
check.table(runtimes)
check.table(cudnn_users)
