"""GPUs that are lost, whose memory fails, or of which the kernel log speaks."""

from __future__ import annotations

from envdoctor.api import Ask, Change, Confidence, Evidence, Finding, Findings, NoFix, Reach, Remedy, Severity
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.facts import AdapterFailed, NvmlFailed, NvmlInit, PciDevices
from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.facts import (
    GpuDevices,
    GpuEcc,
    GpuRecovery,
    GpuRetiredPages,
    GpuRowRemapping,
    UnreachableGpus,
    of_gpu,
)
from envdoctor_checks.gpu.reasoning import (
    KERNEL,
    broken,
    contained,
    label_at,
    named,
    on_host,
    quoted,
    reboot,
    reset,
    settled,
    subject,
)
from envdoctor_checks.gpu.symptoms import (
    EccFailed,
    FallenOff,
    Xid,
)

LOST = ("NVML_ERROR_GPU_IS_LOST", "ERR!")
MEMORY_XIDS = {48: True, 63: False, 64: True, 94: True, 95: True, 140: True, 171: True, 172: True}
"""Xids of memory errors; whether each is more than the record of a repair (63)."""

MECHANICS = Change(
    title="if it comes back: check the GPU's seating and riser, its power cables and the supply's wattage, and its "
    "temperature; a board that is lost again in another slot is to be replaced",
    reach=Reach.HOST,
)
LOST_DETAIL = (
    "The GPU no longer answers on PCI Express, so neither the driver nor a reset of the GPU reaches it: only a restart "
    "(better: power off and on) brings it back. Power, heat, seating and the board itself are the usual reasons, in this "
    "order. Whatever a program printed when it happened is a consequence."
)


@check.rule
def fallen_off_bus(gone: UnreachableGpus, around: Surroundings | None) -> Findings:
    """A GPU dropped off PCI Express, and the driver cannot reach it any more."""
    for each in gone.gpus:
        lost = each.error in LOST
        yield _fallen(
            each.gpu,
            around,
            Confidence.CERTAIN if lost else Confidence.LIKELY,
            (gone.shows(f"handle of {named(each.gpu)}", each.error),),
            title="" if lost else f"the driver cannot reach {named(each.gpu)} ({each.error})",
        )


def _fallen(
    label: str | None,
    around: Surroundings | None,
    confidence: Confidence,
    evidence: tuple[Evidence, ...],
    title: str = "",
) -> Finding:
    return Finding(
        subject=subject(label),
        title=title or f"{named(label)} has fallen off the bus",
        confidence=confidence,
        detail=LOST_DETAIL,
        evidence=evidence,
        remedies=(on_host(around, reboot("power it off and on where you can")), MECHANICS),
        breaks=broken(label),
        shows=broken(label),
    )


@fallen_off_bus.sign
def _logged(
    said: Xid, devices: GpuDevices | None, pci: PciDevices | None, around: Surroundings | None
) -> Findings:
    """Xid 79."""
    if said.number != 79:
        return
    label = label_at(said.address, devices, pci)
    if _answers_again(said, devices):
        yield Finding(
            subject=subject(label),
            title=f"{named(label)} fell off the bus since the machine was started, and answers again",
            severity=Severity.WARNING,
            confidence=Confidence.LIKELY,
            detail=LOST_DETAIL,
            evidence=quoted(said, label="kernel log"),
            remedies=(MECHANICS,),
        )
        return
    yield _fallen(label, around, Confidence.CERTAIN, quoted(said, label="kernel log"))


def _answers_again(said: Xid, devices: GpuDevices | None) -> bool:
    """In a live or recorded look, NVML is asked after the log was written."""
    if devices is None or said.source.kind != "file" or devices.source.kind != "call":
        return False
    return any(each.pci_address == said.address for each in devices.devices)


@fallen_off_bus.sign
def _said_lost(
    said: FallenOff,
    xids: tuple[Xid, ...],
    devices: GpuDevices | None,
    pci: PciDevices | None,
    around: Surroundings | None,
) -> Findings:
    """nvidia-smi, lspci or another line of the kernel log says so."""
    if said.address is None and any(xid.number == 79 for xid in xids):
        return  # the Xid says it, and of which GPU
    confidence = Confidence.CERTAIN if said.certain else Confidence.LIKELY
    yield _fallen(label_at(said.address, devices, pci), around, confidence, quoted(said))


@fallen_off_bus.sign
def _nvml_says(said: NvmlFailed, gone: UnreachableGpus | None, around: Surroundings | None) -> Findings:
    """A program passes NVML's error on."""
    if said.name == "NVML_ERROR_GPU_IS_LOST" and not (gone and gone.gpus):
        yield _fallen(None, around, Confidence.CERTAIN, quoted(said))


@check.rule
def device_missing(
    pci: PciDevices,
    devices: GpuDevices,
    init: NvmlInit | None,
    gone: UnreachableGpus | None,
    failed: tuple[AdapterFailed, ...],
    around: Surroundings | None,
) -> Findings:
    """A GPU that is on the bus and bound to the driver is not among the driver's devices."""
    if contained(around) or devices.source.kind == "text" or (init is not None and init.code != 0):
        return  # a container is given some of the machine's GPUs
    shown = {each.pci_address for each in devices.devices}
    hidden = [each for each in pci.gpus if each.kernel_driver == "nvidia" and each.address not in shown]
    if None in shown or not devices.devices or len(hidden) <= len(gone.gpus if gone else ()):
        return
    for device in hidden:
        said = tuple(each for each in failed if each.address == device.address)
        yield Finding(
            subject=subject(label_at(device.address, None, pci)),
            title=f"the GPU at {device.address} is on the bus, and the driver does not offer it",
            severity=Severity.WARNING,
            confidence=Confidence.CERTAIN if said else Confidence.LIKELY,
            detail=f"{len(pci.gpus)} GPUs are on the PCI bus and NVML lists {len(devices.devices)}. The missing one could not be "
            "initialised, was taken out of use (nvidia-smi drain), or is kept from this process by a job's device rules.",
            evidence=(
                pci.shows("GPUs on the bus", len(pci.gpus)),
                devices.shows("GPUs that NVML lists", len(devices.devices)),
                *quoted(*said[:2], label="kernel log"),
            ),
            remedies=(reboot(), MECHANICS),
            asks=(
                Ask("sudo dmesg | grep -i nvrm", "whether the driver failed to initialise the GPU, and why"),
            ),
            breaks=broken(label_at(device.address, None, pci)),
        )


@check.rule
def ecc_uncorrectable(
    ecc: GpuEcc, remapping: GpuRowRemapping | None, around: Surroundings | None
) -> Findings:
    """A GPU's memory met errors that ECC could not correct, or waits for a reset to replace bad rows or pages."""
    for each in ecc.gpus:
        if each.uncorrectable:
            yield _ecc(
                each.gpu,
                f"{named(each.gpu)} met {each.uncorrectable} memory error{'s' if each.uncorrectable > 1 else ''} that ECC could not correct",
                (
                    ecc.shows(
                        f"uncorrectable errors of {named(each.gpu)} since its last reset", each.uncorrectable
                    ),
                ),
                around,
                severity=Severity.WARNING,
            )


ECC_DETAIL = (
    "ECC finds such an error and cannot mend it: the program that used the memory is ended, so that it computes nothing "
    "wrong. A reset lets the GPU replace the bad rows (or retire the pages) by spare ones. Errors that come back after it, "
    "or a replacement that failed, are a reason to have the board exchanged."
)
EXCHANGE = Change(
    title="if errors come back after the reset: take the GPU out of the pool (drain the node) and have the board replaced (RMA); "
    "nvidia-bug-report.sh collects what the vendor asks for",
    reach=Reach.HOST,
)


def _ecc(
    label: str | None,
    title: str,
    evidence: tuple[Evidence, ...],
    around: Surroundings | None,
    *,
    severity: Severity = Severity.ERROR,
    confidence: Confidence = Confidence.CERTAIN,
    failed: bool = False,
    seen: bool = False,
) -> Finding:
    remedies: tuple[Remedy, ...] = (
        on_host(around, reset(label, "spare memory then replaces the bad rows")),
        EXCHANGE,
    )
    if failed:
        remedies = (EXCHANGE,)
    return Finding(
        subject=subject(label),
        title=title,
        severity=severity,
        confidence=confidence,
        detail=ECC_DETAIL,
        evidence=evidence,
        remedies=remedies,
        breaks=broken(label) if severity is Severity.ERROR else (),
        shows=(KERNEL,) if seen else (),
        asks=()
        if label
        else (
            Ask(
                "nvidia-smi -q -d ECC,ROW_REMAPPER,PAGE_RETIREMENT",
                "which GPU, and whether a reset is pending",
            ),
        ),
    )


@ecc_uncorrectable.sign
def _remapping(rows: GpuRowRemapping, around: Surroundings | None) -> Findings:
    """Ampere and later: rows."""
    for each in rows.gpus:
        if each.failed:
            yield _ecc(
                each.gpu,
                f"{named(each.gpu)} has no spare memory row left for a bad one",
                (rows.shows(f"row remapping of {named(each.gpu)}", "failed"),),
                around,
                failed=True,
            )
        elif each.pending:
            yield _ecc(
                each.gpu,
                f"{named(each.gpu)} must be reset to replace a bad memory row",
                (
                    rows.shows(
                        f"row remapping of {named(each.gpu)}",
                        f"pending, {each.uncorrectable} rows after uncorrectable errors",
                    ),
                ),
                around,
                severity=Severity.WARNING,
            )


@ecc_uncorrectable.sign
def _retirement(pages: GpuRetiredPages, around: Surroundings | None) -> Findings:
    """Before Ampere: pages. NVIDIA calls a board with more than 60 of them due for replacement."""
    for each in pages.gpus:
        if each.pending or each.double_bit >= 60:
            yield _ecc(
                each.gpu,
                f"{named(each.gpu)} must be reset to retire a bad memory page"
                if each.pending
                else f"{named(each.gpu)} has retired {each.double_bit} memory pages",
                (
                    pages.shows(
                        f"retired pages of {named(each.gpu)}",
                        f"{each.double_bit}, {'' if each.pending else 'none '}pending",
                    ),
                ),
                around,
                severity=Severity.WARNING,
                failed=not each.pending,
            )


@ecc_uncorrectable.sign
def _cuda_met_one(said: EccFailed, around: Surroundings | None) -> Findings:
    """A program was ended by such an error."""
    yield _ecc(None, "the GPU's memory has an error that ECC cannot correct", quoted(said), around, seen=True)


@ecc_uncorrectable.sign
def _logged_memory_error(
    said: Xid,
    advice: GpuRecovery | None,
    devices: GpuDevices | None,
    pci: PciDevices | None,
    around: Surroundings | None,
) -> Findings:
    """The kernel log's Xids of memory errors."""
    serious = MEMORY_XIDS.get(said.number)
    if serious is None:
        return
    label = label_at(said.address, devices, pci)
    recorded = said.number == 63
    live = said.source.kind == "file"
    quiet = not serious or settled(said, label, advice)
    yield _ecc(
        label,
        f"{named(label)} {'recorded a bad memory row or page' if recorded else 'reports a memory error that ECC cannot correct'} (Xid {said.number})",
        quoted(said, label="kernel log"),
        around,
        severity=Severity.NOTE if quiet else Severity.WARNING if live else Severity.ERROR,
        failed=said.number == 64,
        seen=serious and not live,
    )


@check.rule
def recovery_needed(
    advice: GpuRecovery, remapping: GpuRowRemapping | None, around: Surroundings | None
) -> Findings:
    """The driver asks for a GPU to be reset or for the machine to be restarted."""
    for each in advice.gpus:
        rows = of_gpu(remapping.gpus, each.gpu) if remapping else None
        if each.action == "none" or (each.action == "gpu-reset" and rows is not None and rows.pending):
            continue  # that a row waits for the reset is another rule's to say
        restart = each.action in ("node-reboot", "system-reboot")
        known = restart or each.action in ("gpu-reset", "drain-and-reset", "drain-p2p", "bus-reset")
        yield Finding(
            subject=subject(each.gpu),
            title=f"the driver asks for {'a restart of the machine' if restart else 'a reset'} because of {named(each.gpu)}"
            if known
            else f"the driver asks for a recovery action ({each.action}) because of {named(each.gpu)}",
            severity=Severity.WARNING,
            detail="NVML's recovery action is what the driver itself holds necessary after an error; what it was, the kernel log's "
            "Xids tell.",
            evidence=(advice.shows(f"recovery action of {named(each.gpu)}", each.action),),
            remedies=(on_host(around, reboot() if restart else reset(each.gpu)),)
            if known
            else (
                NoFix(
                    reason=f"this envdoctor does not know the action {each.action}; nvidia-smi -q shows it by name"
                ),
            ),
        )
