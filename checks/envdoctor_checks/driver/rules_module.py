"""Rules about the kernel module: not installed, not loaded, not built, refused, or kept from the GPU."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    AskAdministrator,
    Confidence,
    Finding,
    Findings,
    InstallSystem,
    Platform,
    Reach,
    Remedy,
    Run,
    Severity,
    UpgradeDriver,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.container.facts import ImageVariables
from envdoctor_checks.container.symptoms import DeviceRequested
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    DeviceNodes,
    Dkms,
    DriverPackages,
    DriverRelease,
    DriverTooOld,
    GpuClaimed,
    KernelModule,
    LoadedModules,
    ModuleFiles,
    ModuleRefused,
    NeedsOpenModules,
    NoDriverFound,
    NvmlFailed,
    PciDevices,
    RunningKernel,
    SecureBoot,
    SmiFailed,
    UserLibraries,
)
from envdoctor_checks.driver.reasoning import (
    CUDA,
    FOREIGN,
    KERNEL_SIDE,
    LOADED,
    USER_SIDE,
    WHY_NOT,
    contained,
    described,
    has_driver_library,
    is_absent,
    is_loaded,
    of_side,
    quoted,
    severity,
    wanted,
    with_driver,
)
from envdoctor_checks.driver.symptoms import BuildFailed, ContainerSeen
from envdoctor_checks.torch.facts import TorchBuild

LOAD = Run(
    title="load the module",
    commands=("modprobe nvidia", "nvidia-smi"),
    reach=Reach.HOST,
    needs_root=True,
    caveat="The line that modprobe prints when it fails tells the reason; so does: journalctl -k -b | grep -i nvidia",
    verify="nvidia-smi",
)


@check.rule
def not_installed(
    pci: PciDevices,
    module: KernelModule,
    libraries: UserLibraries,
    files: ModuleFiles | None,
    packages: DriverPackages | None,
    platform: Platform | None,
    around: Surroundings | None,
    torch: TorchBuild | None,
) -> Findings:
    """There is an NVIDIA GPU and no NVIDIA driver."""
    gpus = tuple(gpu for gpu in pci.gpus if gpu not in with_driver(pci.gpus, "vfio-pci", "pci-stub"))
    if not gpus or module.release or has_driver_library(libraries) or contained(around):
        return
    if (files and files.kernels_with_module) or _anything_installed(packages) or (platform and platform.wsl):
        return
    yield Finding(
        title=f"an NVIDIA GPU ({described(pci)}) is here and no NVIDIA driver is installed",
        severity=severity(wanted(torch)),
        detail="The PCI bus shows the GPU. No nvidia kernel module is loaded or on disk for any kernel, and there is no "
        "libcuda or libnvidia-ml of a driver, so CUDA cannot start.",
        evidence=(
            pci.shows("NVIDIA GPU", described(pci)),
            module.shows("nvidia kernel module", "not loaded"),
            libraries.shows("driver libraries", "none"),
        ),
        remedies=(UpgradeDriver(verify="nvidia-smi"),),
        breaks=(LOADED,),
    )


def _anything_installed(packages: DriverPackages | None) -> bool:
    return bool(of_side(packages, KERNEL_SIDE) or of_side(packages, USER_SIDE))


@not_installed.sign
def _torch_found_none(
    found_none: tuple[NoDriverFound, ...],
    insufficient: tuple[DriverTooOld, ...],
    smi: tuple[SmiFailed, ...],
    seen: tuple[ContainerSeen, ...],
    module: KernelModule | None,
    release: DriverRelease | None,
    loaded: LoadedModules | None,
    libraries: UserLibraries | None,
    nodes: DeviceNodes | None,
    pci: PciDevices | None,
    packages: DriverPackages | None,
    requests: tuple[DeviceRequested, ...],
    image: ImageVariables | None,
) -> Findings:
    """Nothing of a driver shows; that the program runs in a container without GPUs looks the same."""
    there = (
        (module and module.release) or release or is_loaded(loaded, "nvidia") or has_driver_library(libraries)
    )
    problems = {each.problem for each in smi}
    gpus = (
        tuple(gpu for gpu in pci.gpus if gpu not in with_driver(pci.gpus, "vfio-pci", "pci-stub"))
        if pci
        else ()
    )
    said = [
        *found_none,
        *(each for each in insufficient if each.found is None and "not-installed" in problems),
        *(each for each in smi if each.problem == "not-installed" and gpus and not seen),
    ]
    other = there or (nodes and nodes.nodes) or _anything_installed(packages) or (pci and not pci.gpus)
    if not said or other or problems & {"no-driver", "no-library"}:
        return
    if (image is not None and image.lack_compute) or any(each.lacks_compute for each in requests):
        return  # container/capabilities-without-compute
    sure = "not-installed" in problems and not seen
    yield Finding(
        title="no NVIDIA driver is found on this machine",
        confidence=Confidence.LIKELY if sure else Confidence.POSSIBLE,
        detail="PyTorch says so where libcuda.so.1 cannot be loaded or knows of no kernel module. On a machine with a GPU "
        "the driver is not installed; in a container, the GPU was not given to it.",
        evidence=quoted(*said[:1], *smi[:2])
        + ((pci.shows("NVIDIA GPU", described(pci)),) if pci and gpus else ()),
        remedies=(UpgradeDriver(why="on a machine with an NVIDIA GPU"),),
        breaks=(LOADED,),
        shows=(CUDA,),
        asks=(
            Ask("lspci | grep -i nvidia; nvidia-smi", "whether there is a GPU and a driver"),
            Ask("ls /.dockerenv /dev/nvidia*", "whether this is a container that was given no GPU"),
        ),
    )


@check.rule
def module_not_loaded(
    pci: PciDevices,
    module: KernelModule,
    files: ModuleFiles,
    secure: SecureBoot | None,
    around: Surroundings | None,
    torch: TorchBuild | None,
) -> Findings:
    """The driver is installed, and its kernel module is not loaded."""
    foreign = with_driver(pci.gpus, *FOREIGN)
    if not pci.gpus or module.release or foreign or contained(around):
        return
    if files.running_kernel not in files.kernels_with_module or (secure and secure.enabled):
        return
    yield Finding(
        title="the nvidia kernel module is installed for this kernel and not loaded",
        severity=severity(wanted(torch)),
        confidence=Confidence.LIKELY,
        detail="No kernel driver has the GPU. The module is on disk for the running kernel, so it was not asked for, is "
        "blacklisted, or failed when it was loaded: the kernel log tells which.",
        evidence=(
            pci.shows("NVIDIA GPU", described(pci)),
            module.shows("nvidia kernel module", "not loaded"),
            files.shows("on disk for", files.running_kernel),
        ),
        remedies=(LOAD,),
        breaks=(LOADED,),
        asks=(WHY_NOT,),
    )


@module_not_loaded.sign
def _smi_or_nvml_said(
    smi: tuple[SmiFailed, ...],
    nvml: tuple[NvmlFailed, ...],
    refused: tuple[ModuleRefused, ...],
    claimed: tuple[GpuClaimed, ...],
    failed: tuple[BuildFailed, ...],
    needs_open: tuple[NeedsOpenModules, ...],
    pci: PciDevices | None,
    loaded: LoadedModules | None,
    dkms: Dkms | None,
    secure: SecureBoot | None,
) -> Findings:
    """nvidia-smi or NVML cannot reach the module; where something says why, that is the cause and this its sign."""
    said = [each for each in smi if each.problem == "no-driver"]
    said_by_nvml = [each for each in nvml if each.name == "NVML_ERROR_DRIVER_NOT_LOADED"]
    if not said and not said_by_nvml:
        return
    foreign = pci is not None and bool(with_driver(pci.gpus, *FOREIGN))
    explained = bool(refused or claimed or failed or needs_open or foreign or (secure and secure.enabled))
    unknown = loaded is None or not is_absent(loaded, "nvidia")
    yield Finding(
        title="the nvidia kernel module is not loaded",
        confidence=Confidence.POSSIBLE if explained else Confidence.LIKELY,
        detail="nvidia-smi is installed and the kernel module does not answer: it is not loaded, was not built for this "
        "kernel (after a kernel upgrade), or the kernel refused it.",
        evidence=quoted(*said[:1], *said_by_nvml[:1])
        + (() if unknown or loaded is None else (loaded.shows("nvidia in lsmod", "no"),)),
        remedies=(
            LOAD,
            Run(
                title="build the module for the running kernel, where it is missing",
                commands=("dkms autoinstall", "modprobe nvidia"),
                reach=Reach.HOST,
                needs_root=True,
            ),
            UpgradeDriver(why="install the driver anew where neither helps"),
        ),
        breaks=() if explained else (LOADED,),
        shows=(LOADED,),
        asks=(WHY_NOT, Ask("uname -r; dkms status", "whether the module was built for the running kernel"))
        if dkms is None
        else (WHY_NOT,),
    )


@module_not_loaded.sign
def _seen_from_a_container(
    pci: PciDevices, module: KernelModule, around: Surroundings, torch: TorchBuild
) -> Findings:
    """Containers share the host's kernel and show its PCI bus: the module would be visible here."""
    if not contained(around) or module.release or not pci.gpus or not wanted(torch):
        return
    if with_driver(pci.gpus, "nvidia"):
        return
    yield Finding(
        title=f"the host of this container has a GPU ({described(pci)}) and no nvidia module loaded",
        severity=Severity.WARNING,
        confidence=Confidence.LIKELY,
        evidence=(
            pci.shows("NVIDIA GPU", described(pci)),
            module.shows("nvidia kernel module", "not loaded"),
        ),
        remedies=(AskAdministrator(what="install and load the NVIDIA driver", commands=("nvidia-smi",)),),
        breaks=(LOADED,),
    )


@check.rule
def module_missing_for_kernel(
    pci: PciDevices,
    module: KernelModule,
    files: ModuleFiles,
    dkms: Dkms | None,
    packages: DriverPackages | None,
    around: Surroundings | None,
    torch: TorchBuild | None,
) -> Findings:
    """No nvidia module was built for the kernel that runs."""
    if not pci.gpus or module.release or contained(around) or not files.modules_directory:
        return
    if files.running_kernel in files.kernels_with_module:
        return
    others = files.kernels_with_module or (dkms and dkms.builds) or of_side(packages, KERNEL_SIDE)
    if not others:
        return
    built = ", ".join(files.kernels_with_module) or "no kernel"
    yield Finding(
        title=f"the nvidia module was not built for the running kernel {files.running_kernel}",
        severity=severity(wanted(torch)),
        detail="The driver is installed, its module is on disk for other kernels only. That is what a kernel upgrade leaves "
        "where DKMS did not run, or failed for want of the kernel's headers.",
        evidence=(
            files.shows("running kernel", files.running_kernel),
            files.shows("module built for", built),
            *(dkms.shows("DKMS", _builds(dkms)) for _ in (0,) if dkms and dkms.builds),
        ),
        remedies=_build(missing_headers=files.headers is False),
        breaks=(LOADED,),
    )


def _builds(dkms: Dkms) -> str:
    return "; ".join(
        f"{each.module}/{each.release}, {each.kernel or 'no kernel'}: {each.state}" for each in dkms.builds
    )


def _build(*, missing_headers: bool, stale: str | None = None) -> tuple[Remedy, ...]:
    """Headers, then the build: DKMS does it on most distributions, akmods on Fedora with RPM Fusion."""
    build = Run(
        title="build the module for the running kernel and load it",
        commands=(
            *((f"rm -r {stale}",) if stale else ()),
            "dkms autoinstall -k $(uname -r)",
            "modprobe nvidia",
        ),
        reach=Reach.HOST,
        needs_root=True,
        caveat="With RPM Fusion's akmod packages it is: akmods --force. With Ubuntu's prebuilt modules: apt-get install "
        "linux-modules-nvidia-<branch>-$(uname -r).",
        verify="nvidia-smi",
    )
    headers = InstallSystem(
        "kernel-headers", why="DKMS compiles against them" + ("" if missing_headers else ", if missing")
    )
    return headers, build


@module_missing_for_kernel.sign
def _modprobe_found_none(
    refused: tuple[ModuleRefused, ...],
    failed: tuple[BuildFailed, ...],
    smi: tuple[SmiFailed, ...],
    dkms: Dkms | None,
    packages: DriverPackages | None,
    running: RunningKernel | None,
) -> Findings:
    """modprobe has no such module, DKMS could not build it, or ``dkms status`` knows other kernels only."""
    missing = [each for each in refused if each.why == "not-found" and each.module == "nvidia"]
    kernel = next((each.kernel for each in missing if each.kernel), None) or (
        running.release if running else None
    )
    elsewhere = bool(dkms and dkms.builds) and kernel is not None and not _built_for(dkms, kernel)
    if not missing and not failed and not (elsewhere and smi):
        return
    installed = bool(elsewhere or failed or smi or of_side(packages, KERNEL_SIDE))
    stale = next((each.path for each in failed if each.missing == "dkms.conf" and each.path), None)
    yield Finding(
        title=f"the nvidia module was not built for the running kernel{f' {kernel}' if kernel else ''}",
        confidence=Confidence.CERTAIN if installed else Confidence.LIKELY,
        detail=_why_not_built(failed, stale)
        or "The driver is installed; for this kernel there is no nvidia.ko. A kernel upgrade without a DKMS build, most "
        "often for want of the kernel's headers, leaves a machine so.",
        evidence=quoted(*missing[:1], *failed[:1], *smi[:1])
        + ((dkms.shows("DKMS", _builds(dkms)),) if dkms and dkms.builds else ()),
        remedies=_build(
            missing_headers=True, stale=stale.removesuffix("/source/dkms.conf") if stale else None
        ),
        breaks=(LOADED,),
        shows=(LOADED,),
    )


def _why_not_built(failed: tuple[BuildFailed, ...], stale: str | None) -> str:
    if stale:
        return (
            f"DKMS stops at an old registration whose sources are gone ({stale}), before it builds the release that is "
            "installed. Remove that folder, then let it build."
        )
    if any(each.missing == "headers" for each in failed):
        return "DKMS could not build the module: the headers of the running kernel are not installed."
    return (
        "DKMS could not build the module; make.log below /var/lib/dkms tells the compiler's error."
        if failed
        else ""
    )


def _built_for(dkms: Dkms | None, kernel: str) -> bool:
    return dkms is not None and any(
        each.kernel == kernel and each.state == "installed" for each in dkms.builds
    )
