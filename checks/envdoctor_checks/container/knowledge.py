"""The tables that rules of this check ask for."""

from envdoctor_checks.container.check import check
from envdoctor_checks.container.tables import container_toolkit

check.table(container_toolkit)
