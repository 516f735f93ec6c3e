"""Clocks that are held down or pushed up, and links that run below what they could."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Reach,
    Remedy,
    Run,
    Severity,
    Variables,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.facts import MultiGpuLaunch
from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.facts import (
    GpuDevices,
    of_gpu,
)
from envdoctor_checks.gpu.figures import (
    ClockReasons,
    GpuClockOffsets,
    GpuClockReasons,
    GpuClocks,
    GpuLoad,
    GpuNvlinks,
    GpuPcieLinks,
    GpuTemperatures,
)
from envdoctor_checks.gpu.reasoning import KERNEL, multi_gpu, named, on_host, quoted, reset, subject
from envdoctor_checks.gpu.symptoms import (
    KernelFaulted,
    OffsetsSet,
    Throttled,
    Xid,
)

HEAT = ("hw-thermal", "sw-thermal")
HELD = (*HEAT, "power-brake", "hw-slowdown")
WORDS = {
    "hw-thermal": "the hardware slows it down because of heat",
    "sw-thermal": "the driver slows it down because of heat",
    "power-brake": "the power supply tells it to slow down (power brake)",
    "hw-slowdown": "the hardware slows it down because of heat or power",
}
BUSY = 50
"""Percent of load from which a GPU counts as used: what an idle one's clocks and links do means nothing."""
COOLER = Change(
    title="cool it: clean filters and heat sinks, check the fans and the air's way through the chassis, and the room's temperature",
    reach=Reach.HOST,
)
POWER = Change(
    title="check the power supplies (both plugged in and healthy?), the board's power cables, and the chassis' own power cap in the "
    "BMC",
    reach=Reach.HOST,
)


def less_power(label: str | None) -> Run:
    """Until it is mended: a lower limit keeps the clocks steady."""
    which = f" -i {label}" if label else ""
    return Run(
        title="until then, lower its power limit, which costs less than being throttled",
        commands=(
            f"nvidia-smi -q -d POWER{which}  # shows the least that may be set",
            f"nvidia-smi -pl 250{which}",
        ),
        reach=Reach.HOST,
        needs_root=True,
        caveat="The limit is in watts, holds until the next restart, and must lie between the least and the most that are shown.",
    )


@check.rule
def thermal_throttling(
    held: GpuClockReasons, load: GpuLoad | None, heat: GpuTemperatures | None, clocks: GpuClocks | None
) -> Findings:
    """Heat or the power supply holds the clocks of a GPU that is in use down."""
    for each in held.gpus:
        why = tuple(reason for reason in each.reasons if reason in HELD)
        busy = of_gpu(load.gpus, each.gpu) if load else None
        if not why or (busy is not None and busy.percent < BUSY) or _unused(held, load, each):
            continue
        why = tuple(reason for reason in why if reason != "hw-slowdown" or len(why) == 1)
        evidence = [held.shows(f"clocks of {named(each.gpu)}", ", ".join(why))]
        evidence += _figures(each.gpu, load, heat, clocks)
        yield _throttled(each.gpu, why, tuple(evidence), Confidence.CERTAIN if busy else Confidence.LIKELY)


def _unused(held: GpuClockReasons, load: GpuLoad | None, each: ClockReasons) -> bool:
    """On the machine itself, a GPU whose load is not known shows no use; people paste what they think matters."""
    return held.source.kind != "text" and (load is None or of_gpu(load.gpus, each.gpu) is None)


def _figures(
    label: str, load: GpuLoad | None, heat: GpuTemperatures | None, clocks: GpuClocks | None
) -> list[Evidence]:
    found = []
    busy = of_gpu(load.gpus, label) if load else None
    warm = of_gpu(heat.gpus, label) if heat else None
    clock = of_gpu(clocks.gpus, label) if clocks else None
    if load and busy:
        found.append(load.shows("load", f"{busy.percent} %"))
    if heat and warm:
        found.append(heat.shows("temperature", f"{warm.celsius} °C"))
    if clocks and clock:
        found.append(clocks.shows("clock", f"{clock.sm} of {clock.sm_max} MHz"))
    return found


def _throttled(
    label: str | None, why: tuple[str, ...], evidence: tuple[Evidence, ...], confidence: Confidence
) -> Finding:
    heat = any(reason in HEAT for reason in why)
    power = "power-brake" in why or "hw-slowdown" in why
    remedies: list[Remedy] = []
    remedies += [COOLER] if heat or not power else []
    remedies += [POWER] if power else []
    return Finding(
        subject=subject(label),
        title=f"the clocks of {named(label)} are held down by {'heat' if heat else 'the power supply' if 'power-brake' in why else 'heat or power'}",
        severity=Severity.WARNING,
        confidence=confidence,
        detail="; ".join(WORDS[reason] for reason in why)
        + ". Results stay right, and everything takes longer; in a job of several "
        "GPUs all wait for the slowest. The power cap (SW Power Cap) and idle clocks are normal and not meant here.",
        evidence=evidence,
        remedies=(*remedies, less_power(label)),
    )


@thermal_throttling.sign
def _said_throttled(said: Throttled) -> Findings:
    """DCGM says so."""
    yield _throttled(said.gpu, (said.reason,), quoted(said), Confidence.LIKELY)


UNSTABLE = (8, 13, 31, 32, 45, 61, 62, 69, 79, 109, 119)
"""Xids that unstable clocks bring about, beside their other causes."""
OVERCLOCK_DETAIL = (
    "Clocks above, or voltages below, what the maker set leave a GPU less margin than tensor cores need: it computes garbage "
    "addresses or stops, which looks like a fault of the program (illegal memory access, unspecified launch failure) or of "
    "the board. That games and short tests pass says nothing."
)


def _stock(label: str | None) -> Run:
    which = f" -i {label}" if label else ""
    return Run(
        title="go back to the maker's clocks, and see whether the failures stop",
        commands=(
            f"nvidia-smi -rgc{which}",
            f"nvidia-smi -rmc{which}",
            'nvidia-settings -a "GPUGraphicsClockOffsetAllPerformanceLevels=0" -a "GPUMemoryTransferRateOffsetAllPerformanceLevels=0"',
        ),
        reach=Reach.HOST,
        needs_root=True,
        caveat="The tool that set the profile (Afterburner, GreenWithEnvy, LACT, a start script) must be reset or switched off as "
        "well, or it sets it again.",
    )


@check.rule
def unstable_overclock(
    offsets: GpuClockOffsets, xids: tuple[Xid, ...], faults: tuple[KernelFaulted, ...]
) -> Findings:
    """An overclocking or undervolting profile makes a GPU fail under load."""
    failures = (*(each for each in xids if each.number in UNSTABLE), *faults)
    for each in offsets.gpus:
        if failures and (each.core > 0 or each.memory > 0):
            yield Finding(
                subject=subject(each.gpu),
                title=f"{named(each.gpu)} runs overclocked (core {each.core:+d} MHz, memory {each.memory:+d} MHz) and fails",
                severity=Severity.WARNING,
                confidence=Confidence.LIKELY,
                detail=OVERCLOCK_DETAIL,
                evidence=(
                    offsets.shows(
                        f"offsets of {named(each.gpu)}", f"{each.core:+d} and {each.memory:+d} MHz"
                    ),
                    *quoted(*failures[:2]),
                ),
                remedies=(_stock(each.gpu),),
                breaks=(KERNEL,),
            )


@unstable_overclock.sign
def _told_of_profile(
    said: tuple[OffsetsSet, ...], xids: tuple[Xid, ...], faults: tuple[KernelFaulted, ...]
) -> Findings:
    """A text that speaks of a profile and shows a failure under load."""
    failures = (*(each for each in xids if each.number in UNSTABLE), *faults)
    if said and failures:
        yield Finding(
            title="an overclocking or undervolting profile is set, and the GPU fails under load",
            confidence=Confidence.LIKELY,
            detail=OVERCLOCK_DETAIL,
            evidence=quoted(*said[:2], *failures[:2]),
            remedies=(_stock(None),),
            breaks=(KERNEL,),
            shows=(KERNEL,),
        )


@check.rule
def pcie_link_degraded(links: GpuPcieLinks, load: GpuLoad | None) -> Findings:
    """A GPU that is in use has fewer PCI Express lanes, or a slower link, than it and its slot can do."""
    for each in links.gpus:
        busy = of_gpu(load.gpus, each.gpu) if load else None
        if busy is None or busy.percent < BUSY:
            continue  # an idle link sleeps
        if each.width >= each.width_max and each.generation >= each.generation_max:
            continue
        yield Finding(
            subject=subject(each.gpu),
            title=f"the PCIe link of {named(each.gpu)} runs at x{each.width} generation {each.generation}, of x{each.width_max} "
            f"generation {each.generation_max}",
            severity=Severity.WARNING,
            confidence=Confidence.CERTAIN if each.width < each.width_max else Confidence.LIKELY,
            detail="Under load the link should be as wide and as fast as both ends can do. Copies to and from the host, and traffic "
            "between GPUs without NVLink, take that much longer. A riser, a dirty or half-seated connector, a slot that shares its "
            "lanes, or a setting of the firmware are the usual reasons.",
            evidence=(
                links.shows(f"link of {named(each.gpu)}", f"x{each.width} generation {each.generation}"),
                *((load.shows("load", f"{busy.percent} %"),) if load else ()),
            ),
            remedies=(
                Change(
                    title="seat the board anew, without riser where you can, in a slot that has all its lanes; set the slot's link "
                    "speed to automatic in the firmware, and update the firmware",
                    reach=Reach.HOST,
                    needs_restart="machine",
                ),
            ),
            asks=(
                Ask(
                    "sudo dmesg | grep -iE 'AER|limited by'",
                    "whether the kernel saw link errors, and which port limits it",
                ),
            ),
        )


@check.rule
def nvlink_down(
    nvlinks: GpuNvlinks,
    devices: GpuDevices,
    variables: Variables | None,
    launches: tuple[MultiGpuLaunch, ...],
    around: Surroundings | None,
) -> Findings:
    """Some NVLink links of a GPU are down while other GPUs of its kind have them."""
    names = {str(device.index): device.name for device in devices.devices}
    for each in nvlinks.gpus:
        siblings = [other.active for other in nvlinks.gpus if names.get(other.gpu) == names.get(each.gpu)]
        if each.active == max(siblings):
            continue  # boards with fewer links than their chip report the rest as inactive
        used = multi_gpu(variables, launches)
        yield Finding(
            subject=subject(each.gpu),
            title=f"{named(each.gpu)} has {each.active} NVLink links up, and others of its kind {max(siblings)}",
            severity=Severity.WARNING if used else Severity.NOTE,
            detail="Traffic to this GPU takes fewer links or the PCI bus, and collectives run at the pace of the slowest.",
            evidence=(nvlinks.shows(f"links of {named(each.gpu)}", f"{each.active} of {max(siblings)}"),),
            remedies=(
                on_host(around, reset(each.gpu, "links are trained anew")),
                Change(
                    title="check the NVLink bridge or the seating of the module; nvidia-smi nvlink -e shows its errors",
                    reach=Reach.HOST,
                ),
            ),
        )
