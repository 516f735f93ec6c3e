"""Rules about nvidia-fabricmanager, without which the GPUs of an NVSwitch system do not start CUDA."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    AskAdministrator,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    BootTimes,
    CudaFailed,
    CudaInit,
    DriverPackages,
    DriverRelease,
    FabricManager,
    FabricManagerDown,
    FabricManagerRestarted,
    FabricVersionDiffers,
    KernelModule,
    NvlsFailed,
    NvmlAnswers,
    PciDevices,
)
from envdoctor_checks.driver.probe_kernel import release_in
from envdoctor_checks.driver.reasoning import COLLECTIVE, CUDA, contained, quoted, same_release
from envdoctor_checks.gpu.facts import GpuDevices

SWITCHED = ("SXM", "HGX", "H100 80GB HBM3", "H200", "H800", "H20", "A800-SXM", "B200", "B300")
"""Parts of the names of GPUs that come on boards with NVSwitches; PCIe cards and superchips have none."""
LATER = 1800.0
"""Seconds after the machine's start from which a start of the fabric manager is a later one."""


def _start(release: str | None) -> tuple[Remedy, ...]:
    branch = release.partition(".")[0] if release else "<branch>"
    exact = f"={release}-1" if release else ""
    return (
        Run(
            title="start the fabric manager, now and at every start",
            commands=("systemctl enable --now nvidia-fabricmanager",),
            reach=Reach.HOST,
            needs_root=True,
            caveat="It must be of exactly the driver's release. Where it is not installed: apt-get install "
            f"nvidia-fabricmanager-{branch}{exact}; dnf install nvidia-fabricmanager-{release or '<release>'}.",
            verify="nvidia-smi -q -i 0 | grep -A2 Fabric",
        ),
    )


def _host(remedies: tuple[Remedy, ...], what: str, around: Surroundings | None) -> tuple[Remedy, ...]:
    return (AskAdministrator(what=what),) if contained(around) else remedies


def _waiting(answers: NvmlAnswers | None) -> str | None:
    """The state of the NVLink fabric where it is not set up; None where it is, or there is none."""
    names = {1: "not started", 2: "in progress"}
    for device in answers.devices if answers else ():
        fabric = device.get("fabric")
        if isinstance(fabric, dict) and fabric.get("state") in names:
            return names[fabric["state"]]
    return None


@check.rule
def fabric_manager_not_running(
    init: CudaInit,
    manager: FabricManager | None,
    answers: NvmlAnswers | None,
    pci: PciDevices | None,
    module: KernelModule | None,
    around: Surroundings | None,
) -> Findings:
    """An NVSwitch system without a running nvidia-fabricmanager."""
    if init.code != 802:
        return
    if manager is not None and (manager.running or _differs(manager.release, module)):
        return
    switches = len([each for each in pci.devices if each.kind == "nvswitch"]) if pci else 0
    state = _waiting(answers)
    evidence: list[Evidence] = [init.shows("cuInit", f"{init.code} {init.name}")]
    evidence += [pci.shows("NVSwitches", switches)] if pci and switches else []
    evidence += [answers.shows("NVLink fabric", state)] if answers and state else []
    evidence += (
        [manager.shows("nvidia-fabricmanager", "not running")] if manager and manager.running is False else []
    )
    sure = bool(manager and manager.running is False) or switches > 0 or state is not None
    release = module.release if module else None
    yield Finding(
        title="CUDA waits for the NVLink fabric: the fabric manager does not run",
        confidence=Confidence.CERTAIN if sure else Confidence.LIKELY,
        detail=WAITS,
        evidence=tuple(evidence),
        remedies=_host(
            _start(release), "start nvidia-fabricmanager on the host, of exactly the driver's release", around
        ),
        breaks=(CUDA,),
        shows=(CUDA,),
    )


WAITS = (
    "On systems whose GPUs are joined by NVSwitches (HGX, DGX), CUDA starts only after nvidia-fabricmanager has set the fabric "
    "up; until then every cuInit answers 802, system not yet initialized. In a virtual machine the host's may be meant; "
    "with confidential computing, the GPU must be set ready (nvidia-smi conf-compute -srs 1)."
)


def _differs(release: str | None, module: KernelModule | None) -> bool:
    return bool(release and module and module.release and not same_release(release, module.release))


@fabric_manager_not_running.sign
def _said_not_ready(
    cuda: tuple[CudaFailed, ...],
    down: tuple[FabricManagerDown, ...],
    differs: tuple[FabricVersionDiffers, ...],
    nvls: tuple[NvlsFailed, ...],
    manager: FabricManager | None,
    module: KernelModule | None,
    release: DriverRelease | None,
    packages: DriverPackages | None,
) -> Findings:
    """CUDA's error 802, or NVLS that fails beside a fabric manager that is down."""
    said = [each for each in cuda if each.code == 802]
    stopped = bool(down) or (manager is not None and manager.running is False)
    if not said and not (nvls and stopped):
        return
    known = module.release if module and module.release else release.release if release else None
    if differs or _package_differs(packages, known) or (manager and manager.running and not stopped):
        return
    if manager is not None and manager.release and known and not same_release(manager.release, known):
        return
    evidence = quoted(*said[:1], *nvls[:1], *down[:1])
    if manager is not None and manager.running is False:
        evidence += (manager.shows("nvidia-fabricmanager", "not running"),)
    yield Finding(
        title="the GPUs wait for the NVLink fabric: nvidia-fabricmanager does not run",
        confidence=Confidence.CERTAIN if stopped else Confidence.LIKELY,
        detail=WAITS,
        evidence=evidence,
        remedies=_start(known),
        breaks=(CUDA,) if said else (COLLECTIVE,),
        shows=(CUDA,) if said else (COLLECTIVE,),
        asks=()
        if stopped
        else (
            Ask(
                "systemctl status nvidia-fabricmanager; nvidia-smi -q -i 0 | grep -A2 Fabric",
                "whether it runs",
            ),
        ),
    )


def _package(packages: DriverPackages | None) -> tuple[str, str] | None:
    """The fabric manager's package and its release."""
    for package in packages.packages if packages else ():
        release = release_in(package.version)
        if package.name.startswith("nvidia-fabricmanager") and "-dev" not in package.name and release:
            return package.name, release
    return None


def _package_differs(packages: DriverPackages | None, driver: str | None) -> bool:
    package = _package(packages)
    return bool(package and driver and not same_release(package[1], driver))


def _same_version(driver: str) -> tuple[Remedy, ...]:
    branch = driver.partition(".")[0]
    return (
        Run(
            title=f"install the fabric manager of the same version as the driver, {driver}",
            commands=(
                f"apt-get install -y --allow-downgrades nvidia-fabricmanager-{branch}={driver}-1  # NVIDIA's repository",
                f"apt-cache madison nvidia-fabricmanager-{branch} nvidia-fabricmanager  # which versions there are",
                "systemctl restart nvidia-fabricmanager",
            ),
            reach=Reach.HOST,
            needs_root=True,
            caveat=f"On rpm distributions: dnf install nvidia-fabricmanager-{driver}. If the driver's packages were upgraded "
            "already and only the loaded module is old, restart the machine instead. Hold both together afterwards "
            "(apt-mark hold).",
            verify="nv-fabricmanager --version; cat /sys/module/nvidia/version",
        ),
    )


@check.rule
def fabric_manager_version_mismatch(
    manager: FabricManager, module: KernelModule, init: CudaInit | None, around: Surroundings | None
) -> Findings:
    """nvidia-fabricmanager is not of the driver's release."""
    if manager.release is None or module.release is None or same_release(manager.release, module.release):
        return
    failed = manager.running is False or (init is not None and init.code == 802)
    yield Finding(
        title=f"nvidia-fabricmanager is of release {manager.release}, the driver of {module.release}",
        severity=Severity.ERROR if failed else Severity.WARNING,
        detail="The fabric manager refuses to start with a driver of any other release, the last component included. "
        "One that runs now will fail at its next start.",
        evidence=(
            manager.shows("nvidia-fabricmanager", manager.release),
            module.shows("loaded module", module.release),
            *((init.shows("cuInit", f"{init.code} {init.name}"),) if init and init.code else ()),
        ),
        remedies=_host(
            _same_version(module.release), "install the fabric manager of the driver's release", around
        ),
        breaks=(CUDA,),
        shows=(CUDA,) if init is not None and init.code == 802 else (),
    )


@fabric_manager_version_mismatch.sign
def _said_differs(
    differs: tuple[FabricVersionDiffers, ...],
    cuda: tuple[CudaFailed, ...],
    down: tuple[FabricManagerDown, ...],
    module: KernelModule | None,
    release: DriverRelease | None,
    packages: DriverPackages | None,
) -> Findings:
    """The fabric manager's own line, or the packages' versions beside an error that it explains."""
    said = [each for each in cuda if each.code == 802]
    known = module.release if module and module.release else release.release if release else None
    package = _package(packages)
    if differs:
        manager, driver = differs[-1].fabric_manager, differs[-1].driver
    elif package and known and (said or down) and not same_release(package[1], known):
        manager, driver = package[1], known
    else:
        return
    yield Finding(
        title=f"nvidia-fabricmanager is of release {manager}, the driver of {driver}: it refuses to start",
        detail="The fabric manager starts with a driver of exactly its own release. Without it CUDA does not start on a system "
        "with NVSwitches (error 802).",
        evidence=quoted(*differs[-1:], *said[:1])
        + ((packages.shows(package[0], package[1]),) if packages and package else ()),
        remedies=_same_version(driver),
        breaks=(CUDA,),
        shows=(CUDA,),
    )


RESET = (
    SetVariable(
        "NCCL_NVLS_ENABLE",
        "0",
        why="does without the reduction in the switches until then, at some cost in bandwidth",
    ),
    Run(
        title="end every job and reset the GPUs, so that they register with the fabric anew",
        commands=(
            "systemctl stop nvidia-persistenced",
            "nvidia-smi --gpu-reset",
            "systemctl start nvidia-persistenced",
        ),
        reach=Reach.HOST,
        needs_root=True,
        caveat="All GPUs of the board are reset together. Where a reset is refused, restart the machine (reboot).",
        verify="nvidia-smi -q | grep -A2 Fabric",
    ),
)


@check.rule
def fabric_manager_restarted(
    times: BootTimes, manager: FabricManager, nvls: tuple[NvlsFailed, ...], gpus: GpuDevices | None
) -> Findings:
    """The fabric manager was restarted without resetting the GPUs, so NVLS multicast fails."""
    later = (
        times.machine is not None
        and times.fabric_manager is not None
        and times.fabric_manager - times.machine > LATER
    )
    if not later or not manager.running or not nvls:
        return
    yield _restarted(
        (*quoted(*nvls[:1]), times.shows("fabric manager started", "long after the machine")), certain=True
    )


@fabric_manager_restarted.sign
def _said_restarted(
    nvls: tuple[NvlsFailed, ...],
    restarted: tuple[FabricManagerRestarted, ...],
    down: tuple[FabricManagerDown, ...],
    manager: FabricManager | None,
    gpus: GpuDevices | None,
) -> Findings:
    """NVLS fails on a fabric whose manager runs; at best the text shows the restart."""
    if not nvls or down or (manager is not None and manager.running is False):
        return
    if gpus is not None and not any(part in gpu.name for gpu in gpus.devices for part in SWITCHED):
        return
    yield _restarted(quoted(*nvls[:1], *restarted[:1]), certain=bool(restarted))


def _restarted(evidence: tuple[Evidence, ...], *, certain: bool) -> Finding:
    return Finding(
        title="NVLink SHARP (NVLS) fails: "
        + (
            "the fabric manager was restarted under running GPUs"
            if certain
            else "the fabric manager may have been restarted"
        ),
        confidence=Confidence.CERTAIN if certain else Confidence.LIKELY,
        detail="GPUs register with the fabric when they are initialised. After a restart of the fabric manager (by hand, by "
        "needrestart or a package's upgrade) their multicast groups are gone: two GPUs still talk to each other, NVLS, "
        "which NCCL uses from three or more on, fails when it binds memory.",
        evidence=evidence,
        remedies=RESET,
        breaks=(COLLECTIVE,),
        shows=(COLLECTIVE,),
        asks=()
        if certain
        else (
            Ask(
                "who -b; systemctl show nvidia-fabricmanager -p ActiveEnterTimestamp",
                "whether it was restarted",
            ),
        ),
    )
