"""Rules about releases that do not belong together: library and module, packages, links, driver and PyTorch."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    AskAdministrator,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Reach,
    Relaunch,
    Remedy,
    Run,
    Severity,
)
from envdoctor.surroundings import Surroundings
from envdoctor.tables import compare_releases
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    ApiMismatch,
    CudaFailed,
    CudaInit,
    DriverPackages,
    DriverRelease,
    KernelModule,
    LibcudaNamed,
    ModuleOnDisk,
    NvmlFailed,
    NvmlInit,
    NvmlLibrary,
    UserLibraries,
    UserLibrary,
)
from envdoctor_checks.driver.reasoning import (
    CUDA,
    NVML,
    REBOOT,
    contained,
    loaders_choice,
    quoted,
    same_release,
    two_releases,
)
from envdoctor_checks.driver.symptoms import CompatRequested

MISMATCH = "NVML_ERROR_LIB_RM_VERSION_MISMATCH"
RELOAD = Run(
    title="or load the new module without a restart, after everything that uses the GPU was stopped",
    commands=(
        "systemctl stop nvidia-persistenced",
        "fuser -v /dev/nvidia*  # what still uses it: end that first",
        "modprobe -r nvidia_drm nvidia_modeset nvidia_uvm nvidia",
        "modprobe nvidia",
    ),
    reach=Reach.HOST,
    needs_root=True,
    caveat="A desktop session on the GPU keeps the module in use: then only the restart helps.",
    verify="nvidia-smi",
)


@check.rule
def library_mismatch(
    module: KernelModule,
    libraries: UserLibraries,
    nvml: NvmlInit | None,
    cuda: CudaInit | None,
    packages: DriverPackages | None,
    around: Surroundings | None,
) -> Findings:
    """The driver's libraries and the loaded kernel module are of different releases."""
    works = nvml is not None and nvml.code == 0
    if module.release is None or works or (cuda is not None and cuda.code == 0) or two_releases(packages):
        return
    wrong = [
        library
        for soname in ("libnvidia-ml.so.1", "libcuda.so.1")
        if (library := loaders_choice(libraries, soname)) is not None
        and library.kind == "driver"
        and library.release is not None
        and not same_release(library.release, module.release)
        and not _fitting(libraries, library, module.release)
    ]
    if not wrong:
        return
    yield Finding(
        title=f"the driver's libraries are of release {wrong[0].release}, the loaded kernel module of {module.release}",
        confidence=Confidence.CERTAIN if nvml is not None else Confidence.LIKELY,
        detail="The driver was upgraded (or downgraded) while its old module was loaded. Library and module must be of one "
        "release, so NVML and CUDA refuse to start until the new module is loaded.",
        evidence=(
            module.shows("loaded module", module.release),
            *(libraries.shows(each.soname, f"{each.path} -> {each.release}") for each in wrong),
            *((nvml.shows("nvmlInit", nvml.name),) if nvml else ()),
        ),
        remedies=_mismatch_remedies(contained(around)),
        breaks=(NVML, CUDA),
    )


def _fitting(libraries: UserLibraries, link: UserLibrary, release: str) -> bool:
    """Whether the module's own release of that library lies beside the link: then the link is what is wrong."""
    wanted = f"{link.path.removesuffix('.1')}.{release}"
    return any(each.path == wanted and each.file is not None for each in libraries.libraries)


def _mismatch_remedies(inside: bool) -> tuple[Remedy, ...]:
    if not inside:
        return (REBOOT, RELOAD)
    return (
        Relaunch(why="the engine mounts the host's present libraries when a container is created"),
        AskAdministrator(
            what="restart the machine, so that its kernel module is the installed one", commands=("reboot",)
        ),
    )


@library_mismatch.sign
def _said_mismatch(
    nvml: tuple[NvmlFailed, ...],
    api: tuple[ApiMismatch, ...],
    cuda: tuple[CudaFailed, ...],
    compat: tuple[LibcudaNamed, ...],
    requested: tuple[CompatRequested, ...],
    told: NvmlLibrary | None,
    module: KernelModule | None,
    on_disk: ModuleOnDisk | None,
    packages: DriverPackages | None,
    libraries: UserLibraries | None,
    init: NvmlInit | None,
) -> Findings:
    """nvidia-smi, NVML, the kernel log, or CUDA's error 803."""
    if init is not None and init.code == 0:  # what the machine's own log tells is past
        api = tuple(each for each in api if each.source.kind != "file")
    said = [each for each in nvml if each.name == MISMATCH]
    error = [each for each in cuda if each.code == 803]
    if not said and not api and (not error or any(each.role == "compat" for each in compat) or requested):
        return
    new = api[-1].client if api else told.release if told else None
    old = api[-1].module if api else module.release if module else None
    if _reboot_is_useless(packages, on_disk, new, old) or _stale(libraries, old):
        return
    both = f": libraries {new}, loaded module {old}" if new and old else ""
    evidence = quoted(*api[-1:], *said[:1], *error[:1], told)
    if module and module.release:
        evidence += (module.shows("loaded module", module.release),)
    if on_disk:
        evidence += (on_disk.shows("module on disk", on_disk.release),)
    yield Finding(
        title=f"the driver's libraries and the loaded kernel module are of different releases{both}",
        confidence=Confidence.CERTAIN if said or api else Confidence.LIKELY,
        detail="The driver was upgraded while its old module was loaded, most often by unattended upgrades. Library and module "
        "must be of one release; the new module is loaded by a restart.",
        evidence=evidence,
        remedies=(REBOOT, RELOAD),
        breaks=(NVML, CUDA),
        shows=(NVML,) if said or api else (CUDA,),
        asks=()
        if new and old
        else (
            Ask(
                "cat /proc/driver/nvidia/version; modinfo -F version nvidia",
                "which module is loaded, and which on disk",
            ),
        ),
    )


def _reboot_is_useless(
    packages: DriverPackages | None, on_disk: ModuleOnDisk | None, new: str | None, old: str | None
) -> bool:
    """Whether a restart would load the same module again."""
    if two_releases(packages):
        return True
    return bool(
        on_disk
        and old
        and new
        and same_release(on_disk.release, old)
        and not same_release(on_disk.release, new)
    )


@check.rule
def packages_half_upgraded(
    packages: DriverPackages,
    said: tuple[NvmlFailed, ...],
    nvml: NvmlInit | None,
    module: KernelModule | None,
    around: Surroundings | None,
) -> Findings:
    """The installed driver packages are of two releases, so a restart will not help."""
    differ = two_releases(packages)
    if differ is None or contained(around):
        return
    (kernel, old), (user, new) = differ
    seen = [each for each in said if each.name == MISMATCH]
    broken = bool(seen) or (nvml is not None and nvml.name == MISMATCH)
    odd = [each for each in packages.packages if each.state.startswith(("h", "iU", "iF", "iH"))]
    evidence: tuple[Evidence, ...] = (
        packages.shows(kernel.name, kernel.version),
        packages.shows(user.name, user.version),
    )
    evidence += tuple(packages.shows(f"dpkg state of {each.name}", each.state) for each in odd[:3]) + quoted(
        *seen[:1]
    )
    if module and module.release:
        evidence += (module.shows("loaded module", module.release),)
    yield Finding(
        title=f"the driver's packages are half upgraded: the kernel module is of {old}, the libraries of {new}",
        severity=Severity.ERROR if broken else Severity.WARNING,
        detail=f"{kernel.name} and {user.name} belong to one driver and must be of one release. A restart loads the module of "
        f"{old} again."
        + (
            " Packages on hold (state h) were left behind by the upgrade."
            if any(o.state[0] == "h" for o in odd)
            else ""
        ),
        evidence=evidence,
        remedies=(_align(packages, kernel.name), REBOOT),
        breaks=(NVML, CUDA),
        shows=(NVML,) if seen else (),
    )


def _align(packages: DriverPackages, kernel: str) -> Run:
    """Bring all packages to one release, by the package manager that the list is of."""
    held = [each.name for each in packages.packages if each.state.startswith("h")]
    dpkg = any(each.state != "installed" for each in packages.packages) or kernel.startswith("nvidia-dkms")
    commands = (
        *((f"apt-mark unhold {' '.join(held)}",) if held else ()),
        "apt-get install --fix-broken",
        "apt-get full-upgrade  # brings every driver package to the same version",
    )
    if not dpkg:
        commands = ("dnf upgrade --refresh '*nvidia*'",) if "kmod" in kernel else ("pacman -Syu",)
    return Run(
        title="bring all driver packages to the same version, then restart",
        commands=commands,
        reach=Reach.HOST,
        needs_root=True,
        needs_restart="machine",
        caveat="Two package sources (the distribution's and NVIDIA's) for one driver cause this again: keep one.",
        verify="dpkg -l | grep -i nvidia" if dpkg else "nvidia-smi",
    )


@packages_half_upgraded.sign
def _module_on_disk_is_old(
    on_disk: ModuleOnDisk,
    said: NvmlFailed,
    told: NvmlLibrary | None,
    api: ApiMismatch | None,
    packages: DriverPackages | None,
) -> Findings:
    """The mismatch will outlive a restart: modprobe would load the same module again."""
    new = api.client if api else told.release if told else None
    if said.name != MISMATCH or new is None or same_release(on_disk.release, new) or two_releases(packages):
        return
    yield Finding(
        title=f"the driver is half upgraded: libraries {new}, and the module on disk is {on_disk.release}",
        confidence=Confidence.LIKELY,
        detail="A restart would load the module of the old release again: its package was held back, or DKMS did not build the "
        "new one.",
        evidence=(*quoted(said, told, api), on_disk.shows("module on disk", on_disk.release)),
        remedies=(
            Run(
                title="bring all driver packages to the same version, build the module, then restart",
                commands=("apt-get install --fix-broken", "apt-get full-upgrade", "dkms autoinstall"),
                reach=Reach.HOST,
                needs_root=True,
                needs_restart="machine",
                caveat="On rpm distributions: dnf upgrade '*nvidia*'; dkms autoinstall or akmods --force.",
                verify="modinfo -F version nvidia",
            ),
        ),
        breaks=(NVML, CUDA),
        shows=(NVML,),
    )


def _stale(libraries: UserLibraries | None, release: str | None) -> tuple[UserLibrary, ...]:
    """Links to an older release than the module's, whose own file lies beside them; or to a file that is gone."""
    if libraries is None or release is None:
        return ()
    return tuple(
        each
        for each in libraries.libraries
        if each.soname.endswith(".so.1")
        and each.kind == "driver"
        and each.release is not None
        and compare_releases(each.release, release) < 0
        and not same_release(each.release, release)
        and _fitting(libraries, each, release)
    )


@check.rule
def stale_library_symlink(
    libraries: UserLibraries,
    module: KernelModule,
    release: DriverRelease | None,
    said: tuple[NvmlFailed, ...],
    cuda: tuple[CudaFailed, ...],
    nvml: NvmlInit | None,
    init: CudaInit | None,
) -> Findings:
    """libcuda.so.1 or libnvidia-ml.so.1 is a link to a file of an older driver release."""
    works = nvml is not None and nvml.code == 0 and init is not None and init.code == 0
    for link in () if works else _stale(libraries, module.release or (release.release if release else None)):
        proper = f"{link.soname.removesuffix('.1')}.{module.release}"
        seen = [each for each in said if each.name == MISMATCH] + [each for each in cuda if each.code == 803]
        yield Finding(
            subject=f"library:{link.soname}",
            title=f"{link.path} leads to release {link.release}, though {module.release} is installed beside it",
            detail="The link was left over by another installer or an interrupted upgrade. ldconfig makes it anew from the files "
            "that are there, and takes the newest: the old file must go first.",
            evidence=(
                libraries.shows(link.soname, f"{link.path} -> {link.file or link.release}"),
                module.shows("loaded module", module.release),
                *quoted(*seen[:1]),
            ),
            remedies=(
                Run(
                    title=f"point the link to {proper}",
                    commands=(f"ln -sf {proper} {link.path}", "ldconfig"),
                    reach=Reach.HOST,
                    needs_root=True,
                    caveat=f"If no package owns the file of {link.release} (dpkg -S, rpm -qf), remove it: ldconfig would "
                    "prefer it where its number is higher.",
                    verify="nvidia-smi",
                ),
            ),
            breaks=(NVML, CUDA),
            shows=(CUDA,) if seen else (),
        )
