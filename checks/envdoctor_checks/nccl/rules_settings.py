"""Settings that NCCL takes, and that its own manual keeps for debugging."""

from __future__ import annotations

from envdoctor.api import (
    Change,
    Confidence,
    Finding,
    Findings,
    Reach,
    Remedy,
    Severity,
    UnsetVariable,
    Variables,
)
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import NcclSettings, Setting
from envdoctor_checks.nccl.reasoning import several_processes, use
from envdoctor_checks.nccl.tables import NcclVariable, NcclVariables

MOST_NAMED = 12
"""Settings that are told by name; an environment of thousands would bury the rest."""


@check.rule
def debugging_left_on(settings: NcclSettings, table: NcclVariables, variables: Variables | None) -> Findings:
    """Variables are set that NCCL's manual keeps for debugging: they override what NCCL finds out by itself."""
    if not several_processes(variables):
        return
    found = [(each, row) for each in settings.settings if (row := _debugging(each, table)) is not None]
    names = list(dict.fromkeys(each.name for each, _ in found))
    if not found:
        return
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    yield Finding(
        title=f"NCCL's debugging settings are on: {', '.join(names[:3])}{more}",
        severity=Severity.NOTE,
        confidence=Confidence.LIKELY,
        detail="NCCL chooses algorithms, buffers and transports by what it finds on the machine. These settings override "
        "that choice; its manual keeps them for debugging, since what helps one job slows others down or breaks them.",
        evidence=(
            *(settings.shows(each.file or each.name, _told(each, row)) for each, row in found[:MOST_NAMED]),
            *use(variables),
        ),
        remedies=tuple(_without(each) for each, _ in found[:MOST_NAMED]),
    )


def _debugging(setting: Setting, table: NcclVariables) -> NcclVariable | None:
    """The row of a setting that is for debugging and changes something."""
    row = table.variable(setting.name)
    if row is None or not row.debugging or not setting.value.strip() or setting.value.strip() == row.default:
        return None
    return row if row.accepts(setting.value) else None


def _told(setting: Setting, row: NcclVariable) -> str:
    return f"{setting.name}={setting.value}" + (f" ({row.meaning})" if row.meaning else "")


def _without(setting: Setting) -> Remedy:
    if setting.file is None:
        return UnsetVariable(name=setting.name, why="NCCL then chooses by what it finds")
    return Change(
        title=f"take {setting.name} out of {setting.file}"
        + (f", line {setting.line}" if setting.line else ""),
        reach=Reach.HOST if setting.file.startswith("/etc") else Reach.ENVIRONMENT,
        example=(f"# {setting.name}={setting.value}",),
    )
