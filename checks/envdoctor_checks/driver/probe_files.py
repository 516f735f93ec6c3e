"""What files tell of the driver: nothing here starts a program or loads a vendor library."""

from __future__ import annotations

import os
import re

from envdoctor.api import CouldNotLook, Host, Platform, Source, Tier
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    DeviceNode,
    DeviceNodes,
    Dkms,
    DkmsBuild,
    DriverPackages,
    FabricManager,
    KernelModule,
    ModuleFiles,
    Package,
    PciDevice,
    PciDevices,
    SecureBoot,
)

VENDOR = "0x10de"
RELEASE = re.compile(r"\b(\d{3}\.\d{1,3}(?:\.\d{1,3})?)\b")
PACKAGE = re.compile(r"nvidia|libcuda|cuda-drivers|cuda-compat")


@check.probe(tier=Tier.QUICK)
def kernel_module(host: Host) -> KernelModule:
    """The loaded module's release and flavour."""
    path = "/proc/driver/nvidia/version"
    told = host.text(path)
    release = (host.text("/sys/module/nvidia/version") or "").strip() or None
    if release is None and told:
        found = RELEASE.search(told)
        release = found.group(1) if found else None
    flavour = None
    if told:
        flavour = "open" if "Open Kernel Module" in told else "proprietary"
    where = path if told else "/sys/module/nvidia/version"
    return KernelModule(release=release, flavour=flavour, source=Source("file", where))  # type: ignore[arg-type] # one of the two literals


@check.probe(tier=Tier.QUICK)
def pci_devices(host: Host) -> PciDevices:
    """Every PCI function of NVIDIA's and the kernel driver that it is bound to."""
    root = "/sys/bus/pci/devices"
    names = host.names(root)
    if names is None and not host.exists("/sys/bus"):
        raise CouldNotLook("/sys is not mounted here, so no PCI device can be seen")
    found = []
    for address in names or ():
        folder = f"{root}/{address}"
        if (host.text(f"{folder}/vendor") or "").strip() == VENDOR:
            found.append(_pci_device(host, folder, address))
    return PciDevices(devices=tuple(found), source=Source("file", root))


def _pci_device(host: Host, folder: str, address: str) -> PciDevice:
    try:
        driver: str | None = os.path.basename(host.readlink(f"{folder}/driver"))
    except OSError:
        driver = None  # no link: no kernel driver is bound
    kind = {"0x0300": "gpu", "0x0302": "gpu", "0x0680": "nvswitch"}
    device_class = (host.text(f"{folder}/class") or "").strip()[:6]
    return PciDevice(
        address=address,
        device_id=(host.text(f"{folder}/device") or "").strip().removeprefix("0x").lower(),
        kind=kind.get(device_class, "other"),  # type: ignore[arg-type] # values of the table are the literals
        kernel_driver=driver,
        name=_model(host, address),
    )


def _model(host: Host, address: str) -> str | None:
    """The model's name, which the loaded driver tells per GPU."""
    text = host.text(f"/proc/driver/nvidia/gpus/{address}/information") or ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("Model:")), None)


@check.probe(tier=Tier.QUICK)
def device_nodes(host: Host) -> DeviceNodes:
    """Owner, mode and openability of every device file of the driver."""
    paths = [f"/dev/{name}" for name in host.names("/dev") or () if name.startswith("nvidia") or name == "dxg"]
    for folder in ("/dev/nvidia-caps", "/dev/nvidia-caps-imex-channels"):
        paths += [f"{folder}/{name}" for name in host.names(folder) or ()]
    nodes = []
    for path in paths:
        status = host.status(path)
        if status is None or status.kind == "directory":
            continue
        openable = host.may(path, os.R_OK | os.W_OK)
        nodes.append(
            DeviceNode(path, f"{status.mode:04o}", status.uid, status.gid, openable, status.device)
        )
    return DeviceNodes(nodes=tuple(nodes), uid=host.uid, source=Source("file", "/dev"))


@check.probe(tier=Tier.QUICK)
def module_files(host: Host, platform: Platform) -> ModuleFiles:
    """Which kernels have an nvidia module on disk."""
    if platform.kernel is None:
        raise CouldNotLook("the kernel's release is not known")
    kernels = host.names("/lib/modules") or ()
    return ModuleFiles(
        running_kernel=platform.kernel,
        kernels_with_module=tuple(kernel for kernel in kernels if _has_module(host, f"/lib/modules/{kernel}")),
        modules_directory=platform.kernel in kernels,
        source=Source("file", "/lib/modules"),
    )


PLACES = (
    "updates/dkms", "updates", "extra", "extra/nvidia", "kernel/drivers/video", "kernel/drivers/video/nvidia",
    "kernel/drivers/char/drm", "kernel/nvidia-open", "weak-updates", "weak-updates/nvidia", "video",
)  # fmt: skip


def _has_module(host: Host, folder: str) -> bool:
    """Look where packages put the module first; modules.dep, which depmod writes, knows the others."""
    for place in PLACES:
        names = host.names(f"{folder}/{place}") or ()
        if any(name.startswith("nvidia.ko") or name.startswith("nvidia-current.ko") for name in names):
            return True
        if any("nvidia" in name and host.names(f"{folder}/{place}/{name}") for name in names if "." not in name):
            return True
    index = host.text(f"{folder}/modules.dep", limit=8 << 20) or ""
    return re.search(r"(?m)^[^:]*/nvidia(-current)?\.ko", index) is not None


@check.probe(tier=Tier.QUICK)
def dkms(host: Host) -> Dkms:
    """The DKMS tree: one folder per release, in it one per kernel that was built for."""
    builds: list[DkmsBuild] = []
    for module in host.names("/var/lib/dkms") or ():
        if not module.startswith("nvidia"):
            continue
        for release in host.names(f"/var/lib/dkms/{module}") or ():
            if RELEASE.fullmatch(release):
                builds.extend(_dkms_builds(host, module, release))
    return Dkms(builds=tuple(builds), source=Source("file", "/var/lib/dkms"))


def _dkms_builds(host: Host, module: str, release: str) -> list[DkmsBuild]:
    folder = f"/var/lib/dkms/{module}/{release}"
    kernels = [name for name in host.names(folder) or () if name not in ("build", "source")]
    if not kernels:
        return [DkmsBuild(module, release, None, "added")]
    return [
        DkmsBuild(module, release, kernel, "installed" if _has_module(host, f"/lib/modules/{kernel}") else "built")
        for kernel in kernels
    ]


@check.probe(tier=Tier.QUICK)
def secure_boot(host: Host) -> SecureBoot:
    """The EFI variable: four bytes of attributes, then one that says whether Secure Boot is on."""
    folder = "/sys/firmware/efi/efivars"
    path = f"{folder}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    if not host.exists("/sys/firmware/efi"):
        return SecureBoot(enabled=None, source=Source("file", "/sys/firmware/efi"))
    if not host.names(folder):
        raise CouldNotLook("the EFI variables are not mounted here", "mokutil --sb-state, on the host")
    try:
        value = host.read(path, 5)
    except FileNotFoundError:
        return SecureBoot(enabled=False, source=Source("file", path))
    except OSError as error:
        raise CouldNotLook(f"{path}: {error.strerror}", "mokutil --sb-state") from error
    return SecureBoot(enabled=len(value) == 5 and value[4] == 1, source=Source("file", path))


@check.probe(tier=Tier.QUICK)
def driver_packages(host: Host) -> DriverPackages:
    """dpkg's status file, read as the text it is. Other package databases are binary and are not opened."""
    path = "/var/lib/dpkg/status"
    text = host.text(path, limit=64 << 20)
    if text is None:
        raise CouldNotLook("no dpkg database on this machine", "rpm -qa '*nvidia*' tells on rpm distributions")
    return DriverPackages(packages=tuple(_dpkg_packages(text)), source=Source("file", path))


def _dpkg_packages(text: str) -> list[Package]:
    found = []
    for match in re.finditer(r"(?m)^Package: (\S+)$", text):
        if not PACKAGE.search(match.group(1)):
            continue
        end = text.find("\n\n", match.start())
        stanza = text[match.start() : end if end >= 0 else None]
        fields = dict(re.findall(r"(?m)^([A-Z][\w-]+): (.*)$", stanza))
        words = fields.get("Status", "").split()
        if len(words) == 3 and "Version" in fields:
            found.append(Package(match.group(1), fields["Version"], _dpkg_letters(words)))
    return found


def _dpkg_letters(words: list[str]) -> str:
    """``install ok unpacked`` -> ``iU``, as ``dpkg -l`` prints it."""
    want = {"install": "i", "hold": "h", "deinstall": "r", "purge": "p", "unknown": "u"}
    have = {
        "installed": "i", "unpacked": "U", "half-configured": "F", "half-installed": "H", "config-files": "c",
        "triggers-awaited": "W", "triggers-pending": "t", "not-installed": "n",
    }  # fmt: skip
    return want.get(words[0], "?") + have.get(words[2], "?") + ("" if words[1] == "ok" else "R")


@check.probe(tier=Tier.QUICK)
def fabric_manager(host: Host, packages: DriverPackages | None) -> FabricManager:
    """The daemon's package and whether it runs. Its process is only visible on the host itself."""
    release = None
    for package in packages.packages if packages else ():
        if package.name.startswith("nvidia-fabricmanager") and package.state.startswith(("ii", "hi")):
            found = RELEASE.search(package.version)
            release = found.group(1) if found else None
    return FabricManager(release=release, running=_runs(host, "nv-fabricmanager"), source=Source("file", "/proc"))


def _runs(host: Host, name: str) -> bool | None:
    """Whether a process of that name exists; None where PID 1 is not an init system: a container's own table."""
    first = (host.text("/proc/1/comm") or "").strip()
    if first not in ("systemd", "init"):
        return None
    wanted = name[:15]  # the kernel keeps fifteen characters of a process's name
    return any(
        (host.text(f"/proc/{pid}/comm") or "").strip() == wanted
        for pid in host.names("/proc") or ()
        if pid.isdigit()
    )
