"""What several rules of the host check share: outcomes, uses, sizes in words."""

from __future__ import annotations

from envdoctor.api import Evidence, Outcome, Symptom, Variables
from envdoctor.surroundings import Surroundings

SHARED = Outcome("shared-memory")
MEMORY = Outcome("memory")
RDMA = Outcome("rdma")
JOB = Outcome("job")


def several_processes(variables: Variables | None) -> bool:
    """Whether the variables of a job of several processes are set."""
    size = variables.get("WORLD_SIZE") if variables else None
    return size is not None and size.isdigit() and int(size) > 1


def contained(around: Surroundings | None) -> bool | None:
    """Whether this is a container; None where it is not known."""
    return None if around is None or around.engine is None else around.engine != "none"


def sized(count: int | None) -> str:
    """``64 MiB``; ``unlimited``."""
    if count is None:
        return "unlimited"
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{count} bytes"


def quoted(*said: Symptom | None, label: str = "message") -> tuple[Evidence, ...]:
    """The printed lines of symptoms, as evidence."""
    return tuple(each.evidence(label) for each in said if each is not None)
