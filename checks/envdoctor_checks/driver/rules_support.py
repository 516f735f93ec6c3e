"""Rules about GPUs that this driver, flavour, firmware or release does not serve."""

from __future__ import annotations

from typing import Literal

from envdoctor.api import (
    Ask,
    AskAdministrator,
    Change,
    Confidence,
    Finding,
    Findings,
    Platform,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
    UpgradeDriver,
    Variables,
)
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    AdapterFailed,
    BarInvalid,
    DriverRelease,
    GpuNeedsLegacyDriver,
    GpuNotSupported,
    KernelModule,
    MultiGpuLaunch,
    NeedsOpenModules,
    PciDevices,
    SmiFailed,
)
from envdoctor_checks.driver.reasoning import LOADED, PEER, current, quoted
from envdoctor_checks.driver.tables import Architectures, BadRelease, KnownBadReleases
from envdoctor_checks.gpu.facts import GpuDevice, GpuDevices
from envdoctor_checks.gpu.tables import PciIds

OPEN = (
    UpgradeDriver(
        open_modules=True, why="the open flavour of the same or a newer release", verify="nvidia-smi"
    ),
    Run(
        title="or, with NVIDIA's own installer, install with the open modules",
        commands=("sh ./NVIDIA-Linux-x86_64-<release>.run -M open", "reboot"),
        reach=Reach.HOST,
        needs_root=True,
        needs_restart="machine",
        caveat="The proprietary packages (nvidia-driver-<branch> without -open, nvidia-dkms-<branch>) must go first.",
    ),
)


@check.rule
def open_module_required(
    module: KernelModule, pci: PciDevices, gpus: GpuDevices | None, ids: PciIds, architectures: Architectures
) -> Findings:
    """This GPU works with the open kernel modules only, and the proprietary ones are loaded."""
    if module.flavour != "proprietary":
        return
    served = {gpu.pci_address for gpu in gpus.devices} if gpus else set()
    for device in pci.gpus:
        chip = ids.chip(int(device.device_id, 16)) if device.device_id else None
        if chip is None or device.address in served:
            continue
        if architectures.kernel_modules(chip.compute_capability) == "open":
            yield Finding(
                subject=f"pci:{device.address}",
                title=f"the {chip.architecture} GPU at {device.address} needs the open kernel modules; "
                "the proprietary ones are loaded",
                detail="From Blackwell on, GPUs are driven by the open kernel modules only. The proprietary module loads and "
                "leaves them alone, so nvidia-smi finds no devices.",
                evidence=(
                    pci.shows("GPU", f"10de:{device.device_id}, {chip.chip}"),
                    module.shows("loaded flavour", "proprietary"),
                    architectures.cite(
                        architectures.modules[-1], "kernel modules for Blackwell", "open only"
                    ),
                ),
                remedies=OPEN,
                breaks=(LOADED,),
            )


@open_module_required.sign
def _module_said(
    said: tuple[NeedsOpenModules, ...],
    smi: tuple[SmiFailed, ...],
    module: KernelModule | None,
    gpus: GpuDevices | None,
) -> Findings:
    """The proprietary module writes it into the kernel log."""
    said = current(said, over=module is not None and module.flavour == "open")
    others_work = gpus is not None and bool(gpus.devices)
    for each in said:
        if each.address is None and any(other.address for other in said):
            continue
        yield Finding(
            subject=f"pci:{each.address}" if each.address else "",
            title="this GPU needs the open kernel modules; the proprietary ones are loaded",
            severity=Severity.WARNING if others_work else Severity.ERROR,
            detail="The module says so itself and does not initialise the GPU.",
            evidence=quoted(each, *smi[:1]),
            remedies=OPEN,
            breaks=() if others_work else (LOADED,),
            shows=() if others_work else (LOADED,),
        )


@check.rule
def gpu_not_supported(
    module: KernelModule, pci: PciDevices, gpus: GpuDevices | None, ids: PciIds, architectures: Architectures
) -> Findings:
    """The installed driver release, or its open flavour, does not support this GPU."""
    if module.release is None:
        return
    branch = int(module.release.partition(".")[0])
    served = {gpu.pci_address for gpu in gpus.devices} if gpus else set()
    for device in pci.gpus:
        chip = ids.chip(int(device.device_id, 16)) if device.device_id else None
        row = architectures.capability(chip.compute_capability) if chip else None
        if (
            chip is None
            or row is None
            or device.address in served
            or device.kernel_driver not in (None, "nvidia")
        ):
            continue
        too_old = row.last_branch is not None and branch > row.last_branch
        wrong_flavour = module.flavour == "open" and row.kernel_modules == "proprietary"
        if too_old or wrong_flavour:
            why = (
                f"its last driver branch is {row.last_branch}"
                if too_old
                else "the open modules start with Turing"
            )
            yield Finding(
                subject=f"pci:{device.address}",
                title=f"driver {module.release} does not support the {chip.architecture} GPU at {device.address}: {why}",
                severity=Severity.WARNING,
                evidence=(
                    pci.shows("GPU", f"10de:{device.device_id}, {chip.chip}"),
                    module.shows(
                        "loaded module", f"{module.release}, {module.flavour or 'flavour not known'}"
                    ),
                    architectures.cite(row, "support", why),
                ),
                remedies=(_legacy(row.last_branch if too_old else None),),
                breaks=(LOADED,) if len(pci.gpus) == 1 else (),
            )


def _legacy(branch: int | None) -> Run:
    """The last branch for an old GPU, or the proprietary flavour of this one."""
    name = f"nvidia-driver-{branch}" if branch else "nvidia-driver-<branch> (without -open)"
    return Run(
        title=f"install {name}, which supports this GPU",
        commands=(f"apt-get install -y nvidia-driver-{branch}",) if branch else (),
        reach=Reach.HOST,
        needs_root=True,
        needs_restart="machine",
        caveat="CUDA releases and PyTorch builds newer than that driver's will not start on it.",
        verify="nvidia-smi",
    )


@gpu_not_supported.sign
def _module_said_unsupported(said: tuple[GpuNotSupported, ...], gpus: GpuDevices | None) -> Findings:
    """The module's line in the kernel log."""
    others_work = gpus is not None and bool(gpus.devices)
    for each in said:
        flavour = (
            "its open flavour"
            if each.open_modules
            else f"release {each.release}"
            if each.release
            else "release"
        )
        yield Finding(
            subject=f"pci:{each.address}" if each.address else "",
            title=f"this driver ({flavour}) does not support the GPU{f' at {each.address}' if each.address else ''}",
            severity=Severity.WARNING if others_work else Severity.ERROR,
            detail="A GPU older than Turing needs the proprietary modules; one older than the release supports needs its last "
            "legacy branch; a newer one needs a newer driver.",
            evidence=quoted(each),
            remedies=(_legacy(None),)
            if each.open_modules
            else (UpgradeDriver(why="if the GPU is new"), _legacy(None)),
            breaks=() if others_work else (LOADED,),
            shows=() if others_work else (LOADED,),
        )


@gpu_not_supported.sign
def _module_named_a_branch(said: GpuNeedsLegacyDriver, gpus: GpuDevices | None) -> Findings:
    """The module's lines about a GPU whose support ended with an older branch."""
    others_work = gpus is not None and bool(gpus.devices)
    yield Finding(
        title=f"this driver{f' ({said.release})' if said.release else ''} does not support the {said.name}: "
        f"branch {said.branch} was the last that did",
        severity=Severity.WARNING if others_work else Severity.ERROR,
        evidence=quoted(said),
        remedies=(_legacy(said.branch),),
        breaks=() if others_work else (LOADED,),
        shows=() if others_work else (LOADED,),
    )


@gpu_not_supported.sign
def _smi_found_none(
    smi: tuple[SmiFailed, ...],
    failed: tuple[AdapterFailed, ...],
    needs_open: tuple[NeedsOpenModules, ...],
    said: tuple[GpuNotSupported, ...],
    legacy: tuple[GpuNeedsLegacyDriver, ...],
    bars: tuple[BarInvalid, ...],
    gpus: GpuDevices | None,
) -> Findings:
    """``No devices were found``: the module is loaded and initialised no GPU."""
    failed = current(failed, over=gpus is not None and bool(gpus.devices))
    found = [each for each in smi if each.problem == "no-devices"]
    if not (found or failed) or needs_open or said or legacy or bars:
        return
    yield Finding(
        title="the driver is loaded and finds no GPU that it can use",
        confidence=Confidence.POSSIBLE,
        detail="The module could not initialise any GPU: it needs the open modules (Blackwell and later), is too old or too "
        "new for this release, dropped off the bus, or has no memory region. The kernel log tells which.",
        evidence=quoted(*found[:1], *failed[:1]),
        remedies=(*OPEN[:1], UpgradeDriver()),
        shows=(LOADED,),
        asks=(Ask("sudo dmesg | grep -iE 'nvrm|xid'", "why the module does not use the GPU"),),
    )


@check.rule
def above_4g_decoding_off(said: BarInvalid, gpus: GpuDevices | None) -> Findings:
    """The firmware gave the GPU's memory no address: Above 4G Decoding or Resizable BAR is off."""
    served = gpus is not None and any(said.address in (gpu.pci_address, None) for gpu in gpus.devices)
    if not current((said,), over=served):
        return
    yield Finding(
        subject=f"pci:{said.address}" if said.address else "",
        title="the firmware assigned no address to the GPU's memory (a BAR of 0 MiB), so the module cannot use it",
        confidence=Confidence.LIKELY,
        detail="A GPU with gigabytes of memory needs a PCI region above 4 GiB. The firmware only offers one with Above 4G "
        "Decoding (also called MMIO above 4G, or Large BAR) on; some boards also need Resizable BAR or a newer BIOS.",
        evidence=quoted(said),
        remedies=(
            Change(
                title="turn on Above 4G Decoding (and Resizable BAR, where offered) in the firmware's setup; turn CSM off",
                reach=Reach.HOST,
                needs_restart="machine",
                verify="nvidia-smi",
            ),
            Run(
                title="or let the kernel assign the regions anew",
                commands=("# add to the kernel command line, then restart: pci=realloc",),
                reach=Reach.HOST,
                needs_root=True,
                needs_restart="machine",
            ),
            AskAdministrator(
                what="give a virtual machine a 64-bit MMIO window that is large enough for the GPU"
            ),
        ),
        breaks=(LOADED,),
        shows=(LOADED,),
    )


@check.rule
def known_bad_release(
    driver: DriverRelease,
    gpus: GpuDevices,
    known: KnownBadReleases,
    launched: tuple[MultiGpuLaunch, ...],
    variables: Variables | None,
    platform: Platform | None,
) -> Findings:
    """This driver release has a known bug that bites with these GPUs."""
    system: Literal["linux", "windows"] = "windows" if platform and platform.system == "windows" else "linux"
    bugs: dict[str, tuple[BadRelease, list[GpuDevice]]] = {}
    for gpu in gpus.devices:
        for bug in known.bugs(driver.release, gpu.name, system):
            bugs.setdefault(bug.id, (bug, []))[1].append(gpu)
    size = variables.get("WORLD_SIZE") if variables else None
    used = bool(launched) or (size is not None and size.isdigit() and int(size) > 1)
    for bug, hit in bugs.values():
        name, _, value = bug.workaround.partition("=")
        worked_around = variables is not None and variables.complete and variables.get(name) == value
        if len(hit) > 1 and not worked_around:
            yield _bad(driver, known, bug, hit, used)


def _bad(
    driver: DriverRelease, known: KnownBadReleases, bug: BadRelease, hit: list[GpuDevice], used: bool
) -> Finding:
    name, _, value = bug.workaround.partition("=")
    return Finding(
        title=f"driver {driver.release} has a known bug with several GPUs of this kind: {bug.bug}",
        severity=Severity.WARNING if used else Severity.NOTE,
        confidence=Confidence.LIKELY,
        evidence=(
            driver.shows("driver release", driver.release),
            known.cite(bug, "known bug", f"{bug.first} to {bug.last}: {bug.bug}"),
            driver.shows("GPUs", f"{len(hit)} x {hit[0].name}"),
        ),
        remedies=(
            SetVariable(name, value, why="keeps NCCL from the feature that the bug is in"),
            _free_of(bug),
        ),
        breaks=(PEER,),
    )


def _free_of(bug: BadRelease) -> Remedy:
    """A release without the bug: the first fixed one, or one that the source found good."""
    if bug.fixed_in:
        return UpgradeDriver(
            f"{bug.fixed_in}.0" if bug.fixed_in.isdigit() else bug.fixed_in, why="free of the bug"
        )
    good = bug.good[0]
    return Run(
        title=f"or install a driver that was found free of it ({good}), or a newer branch",
        commands=(f"apt-get install -y nvidia-driver-{good.partition('.')[0]}",),
        reach=Reach.HOST,
        needs_root=True,
        needs_restart="machine",
        verify="nvidia-smi",
    )
