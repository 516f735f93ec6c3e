"""Xids and SXids: what the kernel log reports, judged by NVIDIA's own advice."""

from __future__ import annotations

from envdoctor.api import Change, Confidence, Evidence, Finding, Findings, NoFix, Reach, Remedy, Severity
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.facts import PciDevices
from envdoctor_checks.gpu import tables
from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.facts import (
    GpuDevices,
    GpuRecovery,
)
from envdoctor_checks.gpu.reasoning import (
    COLLECTIVE,
    KERNEL,
    broken,
    label_at,
    named,
    on_host,
    quoted,
    reboot,
    reset,
    settled,
    subject,
)
from envdoctor_checks.gpu.rules_health import MEMORY_XIDS
from envdoctor_checks.gpu.symptoms import (
    NvlinkFailed,
    SwitchError,
    Xid,
)


@check.table
def xid_table() -> tables.Xids:
    """Xid numbers."""
    return tables.xids()


@check.table
def sxid_table() -> tables.Sxids:
    """SXid numbers."""
    return tables.sxids()


ELSEWHERE = {79, *MEMORY_XIDS}
"""Xids that rules of their own speak of."""
OF_PROGRAMS = ("ignore", "restart-app")
BY_RECOVERY = {
    "gpu-reset": "reset",
    "drain-and-reset": "reset",
    "drain-p2p": "reset",
    "node-reboot": "restart-machine",
}


@check.rule
def xid(
    said: Xid,
    table: tables.Xids,
    devices: GpuDevices | None,
    pci: PciDevices | None,
    advice: GpuRecovery | None,
    around: Surroundings | None,
) -> Findings:
    """The kernel log has an Xid, an error that the driver reports of a GPU, which calls for action."""
    row = table.xid(said.number)
    if said.number in ELSEWHERE or (said.number == 154 and said.recovery == "none"):
        return
    label = label_at(said.address, devices, pci)
    action = BY_RECOVERY.get(said.recovery or "", row.action if row else None)
    calls = _calls_for_action(row, action)
    level = _severity(said, row, calls)
    if settled(said, label, advice):
        level = Severity.NOTE
    yield Finding(
        subject=subject(label),
        title=f"{named(label)} reports Xid {said.number}"
        + (f": {row.meaning}" if row else ", which is not in NVIDIA's catalogue"),
        severity=level,
        confidence=Confidence.CERTAIN if calls else Confidence.LIKELY,
        detail=_explained(row, calls),
        evidence=(*quoted(said, label="kernel log"), *_cited(table, row)),
        remedies=_remedies(label, action, row, around, calls=calls),
        breaks=broken(label) if level is Severity.ERROR else (),
        shows=(KERNEL,) if level is Severity.ERROR else (),
    )


def _calls_for_action(row: tables.Xid | None, action: str | None) -> bool:
    """Whether more is asked for than to start the program again."""
    if row is None:
        return False
    return (
        row.blame != "application"
        and action not in OF_PROGRAMS
        and not (action is None and row.fatal_for == "nothing")
    )


def _severity(said: Xid, row: tables.Xid | None, calls: bool) -> Severity:
    """In a pasted log somebody shows a failure; of a live log's line it is not known whether it still matters."""
    if not calls or row is None:
        return Severity.NOTE
    return (
        Severity.WARNING
        if said.source.kind == "file" or (row.fatal_for == "nothing" and said.recovery is None)
        else Severity.ERROR
    )


def _explained(row: tables.Xid | None, calls: bool) -> str:
    if row is None:
        return "The number is not used by current drivers; the text after it says what happened."
    if not calls:
        return (
            "NVIDIA's catalogue asks for no more than to start the program again: such an Xid mostly tells of a fault of the "
            "program itself. It is worth a look at the hardware only where several programs meet it on the same GPU."
        )
    whose = {
        "hardware": "the hardware",
        "driver": "the driver or its firmware",
        "fabric": "NVLink and its switches",
    }
    return f"This Xid speaks of {whose.get(row.blame, 'the GPU, and does not tell whether hardware or software is to blame')}."


def _cited(table: tables.Xids, row: tables.Xid | None) -> tuple[Evidence, ...]:
    if row is None:
        return ()
    return (
        table.cite(
            row,
            f"Xid {row.number}",
            f"{row.name or 'without a name'}; NVIDIA's first advice: {row.action or 'none'}",
        ),
    )


MECHANICS = Change(
    title="check the board's power cables, its seating and its NVLink bridges or cables", reach=Reach.HOST
)
NEWER = Change(
    title="update the driver (and the board's firmware) to the newest of its branch", reach=Reach.HOST
)
REPORT = Change(
    title="if it comes back: report it to the vendor with the file that nvidia-bug-report.sh writes",
    reach=Reach.HOST,
)


def _remedies(
    label: str | None, action: str | None, row: tables.Xid | None, around: Surroundings | None, *, calls: bool
) -> tuple[Remedy, ...]:
    if not calls:
        return (
            Change(
                title="look for the fault in the program (compute-sanitizer finds accesses out of bounds), and start it again",
                reach=Reach.SHELL,
                example=("compute-sanitizer python train.py",),
            ),
        )
    if action == "restart-machine":
        return (on_host(around, reboot()), REPORT)
    if action == "check-mechanics":
        return (MECHANICS, REPORT)
    if action in ("update", "contact"):
        return (NEWER, REPORT)
    if action is None:
        return (NoFix(reason="NVIDIA's catalogue gives no advice for this number"),)
    fixes: tuple[Remedy, ...] = (on_host(around, reset(label)), REPORT)
    return (*fixes, NEWER) if row is not None and row.blame == "driver" else fixes


@xid.sign
def _nvlink(said: NvlinkFailed, around: Surroundings | None) -> Findings:
    """CUDA met the NVLink error of which Xid 74 tells."""
    yield Finding(
        title="an NVLink link failed",
        detail="Programs that exchange data over this link are ended. The kernel log's Xid 74 (144 to 150 on later GPUs) names the "
        "GPU and the link.",
        evidence=quoted(said),
        remedies=(on_host(around, reset(None)), MECHANICS, REPORT),
        breaks=(COLLECTIVE,),
        shows=(COLLECTIVE,),
    )


@check.rule
def nvswitch_error(said: SwitchError, table: tables.Sxids, around: Surroundings | None) -> Findings:
    """The kernel log has an SXid: an NVSwitch reports an error."""
    row = table.sxid(said.number)
    live = said.source.kind == "file"
    level = Severity.NOTE if not said.fatal else Severity.WARNING if live else Severity.ERROR
    yield Finding(
        subject=f"nvswitch:{said.address}",
        title=f"the NVSwitch at {said.address} reports SXid {said.number}" + (f": {row.name}" if row else ""),
        severity=level,
        detail="A fatal error of a switch ends every program that uses its links; the fabric comes back after all GPUs and switches "
        "were reset together. One that is not fatal was mended by the switch itself.",
        evidence=(
            *quoted(said, label="kernel log"),
            *((table.cite(row, f"SXid {row.number}", row.name),) if row else ()),
        ),
        remedies=(on_host(around, reset(None)), REPORT) if said.fatal else (REPORT,),
        breaks=(COLLECTIVE,) if level is Severity.ERROR else (),
    )
