"""Rules about a kernel that refuses the nvidia module, or another driver that has the GPU."""

from __future__ import annotations

from envdoctor.api import Change, Confidence, Finding, Findings, Reach, Remedy, Run
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    GpuClaimed,
    KernelModule,
    LoadedModules,
    ModuleFiles,
    ModuleRefused,
    PciDevices,
    SecureBoot,
    SmiFailed,
    UserLibraries,
)
from envdoctor_checks.driver.reasoning import (
    FOREIGN,
    LOADED,
    WHY_NOT,
    contained,
    current,
    has_driver_library,
    is_loaded,
    quoted,
    severity,
    wanted,
    with_driver,
)
from envdoctor_checks.torch.facts import TorchBuild

ENROLL = Run(
    title="enrol the key that the module was signed with, and confirm it in the blue screen at the next start",
    commands=(
        "mokutil --import /var/lib/shim-signed/mok/MOK.der  # Ubuntu and Debian",
        "mokutil --import /var/lib/dkms/mok.pub  # DKMS elsewhere",
        "mokutil --import /etc/pki/akmods/certs/public_key.der  # Fedora's akmods (kmodgenca -a makes it)",
        "reboot",
    ),
    reach=Reach.HOST,
    needs_root=True,
    needs_restart="machine",
    caveat="One of the three files is there. mokutil asks for a password that the firmware's screen asks for again.",
    verify="mokutil --list-enrolled && modprobe nvidia",
)
DISABLE = Change(
    title="or disable Secure Boot in the firmware's setup",
    reach=Reach.HOST,
    needs_restart="machine",
    caveat="Then any kernel module can be loaded, malicious ones included.",
)


@check.rule
def secure_boot_blocks_module(
    pci: PciDevices,
    module: KernelModule,
    files: ModuleFiles,
    secure: SecureBoot,
    around: Surroundings | None,
    torch: TorchBuild | None,
) -> Findings:
    """Secure Boot refuses the nvidia module, whose signature the firmware does not know."""
    if not pci.gpus or module.release or not secure.enabled or contained(around):
        return
    if files.running_kernel not in files.kernels_with_module or with_driver(pci.gpus, *FOREIGN):
        return
    yield Finding(
        title="Secure Boot is on, and the nvidia module for this kernel is not loaded",
        severity=severity(wanted(torch)),
        confidence=Confidence.LIKELY,
        detail="A module that DKMS or akmods built is signed with a key of this machine, which the firmware only accepts "
        "after it was enrolled. The kernel's own line on it: Loading of module with unavailable key is rejected.",
        evidence=(secure.shows("Secure Boot", "on"), files.shows("module on disk for", files.running_kernel)),
        remedies=(ENROLL, DISABLE),
        breaks=(LOADED,),
        asks=(WHY_NOT,),
    )


@secure_boot_blocks_module.sign
def _key_rejected(
    refused: tuple[ModuleRefused, ...],
    secure: SecureBoot | None,
    module: KernelModule | None,
    pci: PciDevices | None,
) -> Findings:
    """The kernel says that it does not know the key; its own line does not name the module."""
    over = (module is not None and module.release is not None) or (pci is not None and not pci.gpus)
    said = [each for each in current(refused, over=over) if each.why == "key-rejected"]
    if not said:
        return
    yield Finding(
        title="Secure Boot refuses the nvidia kernel module: its signing key is not enrolled",
        confidence=Confidence.CERTAIN if any(each.module for each in said) else Confidence.LIKELY,
        detail="The module is on disk and signed with a key that neither the kernel nor the firmware knows.",
        evidence=quoted(*said[:2])
        + ((secure.shows("Secure Boot", "on"),) if secure and secure.enabled else ()),
        remedies=(ENROLL, DISABLE),
        breaks=(LOADED,),
        shows=(LOADED,),
    )


def _blacklist(driver: str) -> Remedy:
    """Keep a driver from the GPU at the next start."""
    name = {"novacore": "nova_core", "nova-core": "nova_core"}.get(driver.lower(), driver)
    lines = f"blacklist {name}\\nblacklist nova_drm" if name.startswith("nova") else f"blacklist {name}"
    option = f"\\noptions {name} modeset=0" if name == "nouveau" else ""
    return Run(
        title=f"keep {name} from the GPU, and restart",
        commands=(
            f"sh -c 'printf \"{lines}{option}\\n\" > /etc/modprobe.d/blacklist-{name}.conf'",
            "sh -c 'update-initramfs -u || dracut --force || mkinitcpio -P'",
            "reboot",
        ),
        reach=Reach.HOST,
        needs_root=True,
        needs_restart="machine",
        caveat="Without a working NVIDIA driver the screen may stay at low resolution.",
        verify="lspci -k -d 10de:",
    )


GIVE_BACK = Change(
    title="give the GPU back to the host: take it from the virtual machine's settings and from vfio-pci's ids",
    reach=Reach.HOST,
    example=(
        "# kernel command line and /etc/modprobe.d: remove its PCI id from vfio-pci.ids=... or options vfio-pci ids=",
    ),
    needs_restart="machine",
    caveat="A virtual machine that uses the GPU loses it.",
)


def _release_from(driver: str) -> tuple[Remedy, ...]:
    return (GIVE_BACK,) if driver in ("vfio-pci", "pci-stub", "xen-pciback") else (_blacklist(driver),)


@check.rule
def gpu_bound_to_other_driver(
    pci: PciDevices,
    module: KernelModule,
    libraries: UserLibraries | None,
    files: ModuleFiles | None,
    torch: TorchBuild | None,
    around: Surroundings | None,
) -> Findings:
    """Another kernel driver than NVIDIA's has the GPU."""
    if not pci.drivers_known or contained(around):
        return
    installed = bool(module.release or has_driver_library(libraries) or (files and files.kernels_with_module))
    for gpu in with_driver(pci.gpus, *FOREIGN):
        passed_through = gpu.kernel_driver in ("vfio-pci", "pci-stub", "xen-pciback")
        others_work = len(with_driver(pci.gpus, "nvidia")) > 0
        if not installed and not passed_through:
            continue  # driver/not-installed says it, and its remedy brings the blacklist
        used = wanted(torch) and not others_work
        yield Finding(
            subject=f"pci:{gpu.address}",
            title=f"the kernel driver {gpu.kernel_driver} has the GPU at {gpu.address}, so NVIDIA's cannot use it",
            severity=severity(used),
            detail="A PCI device has one kernel driver. "
            + (
                "vfio-pci hands it to virtual machines, on purpose."
                if passed_through
                else "NVIDIA's finds it taken."
            ),
            evidence=(pci.shows(f"kernel driver of {gpu.address}", gpu.kernel_driver),),
            remedies=_release_from(gpu.kernel_driver or ""),
            breaks=(LOADED,) if used else (),
        )


@gpu_bound_to_other_driver.sign
def _kernel_said_claimed(
    claimed: tuple[GpuClaimed, ...],
    smi: tuple[SmiFailed, ...],
    refused: tuple[ModuleRefused, ...],
    pci: PciDevices | None,
    loaded: LoadedModules | None,
    module: KernelModule | None,
) -> Findings:
    """The kernel log, or lspci beside a failed nvidia-smi or modprobe, names who has the GPU."""
    claimed = current(claimed, over=module is not None and module.release is not None)
    bound = with_driver(pci.gpus, *FOREIGN) if pci and pci.drivers_known else ()
    no_device = [each for each in refused if each.why == "no-such-device"]
    failed = [*(each for each in smi if each.problem in ("no-driver", "no-devices")), *no_device]
    by = next((each.by for each in claimed if each.by), None) or (bound[0].kernel_driver if bound else None)
    if by is None and (claimed or no_device):
        by = next((name for name in ("nouveau", "nova_core") if is_loaded(loaded, name)), None)
    if by is None or not (claimed or failed):
        return
    address = next((each.address for each in claimed if each.address), None) or (
        bound[0].address if bound else None
    )
    yield Finding(
        subject=f"pci:{address}" if address else "",
        title=f"the kernel driver {by} has the GPU{f' at {address}' if address else ''}, so NVIDIA's cannot use it",
        detail="A PCI device has one kernel driver. NVIDIA's module found the GPU taken and probed no device.",
        evidence=quoted(*claimed[:1], *failed[:1])
        + ((pci.shows("kernel driver in use", by),) if pci and bound else ())
        + ((loaded.shows("loaded", by),) if loaded and not bound and not claimed else ()),
        remedies=_release_from(by),
        breaks=(LOADED,),
        shows=(LOADED,),
    )
