"""What modprobe, DKMS and the kernel log say of the driver's modules and GPUs."""

from __future__ import annotations

import re
from typing import Literal

from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.symptoms import (
    AdapterFailed,
    ApiMismatch,
    BarInvalid,
    BuildFailed,
    DeviceNodeFailed,
    GpuClaimed,
    GpuNeedsLegacyDriver,
    GpuNotSupported,
    ModuleRefused,
    NeedsOpenModules,
    Resumed,
)

ADDRESS = r"(?P<address>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])"
RELEASE = r"\d{3}\.\d{1,3}(?:\.\d{1,3})?"


@check.message(
    r"NVRM: API mismatch: the client '?[^\n]*?(?:has the version|version) (?P<client>" + RELEASE + r")"
    r"(?:[^\n]*\n){1,2}?[^\n]*kernel module (?:has|is) (?:the )?version (?P<module>" + RELEASE + r")",
    needles="nvrm: api mismatch",
    sample=(
        "NVRM: API mismatch: the client has the version 550.144.03, but\n"
        "NVRM: this kernel module has the version 550.120.  Please"
    ),
    span=4,
)
def api_mismatch(match: re.Match[str]) -> ApiMismatch:
    """The module refuses a library of another release."""
    return ApiMismatch(client=match["client"], module=match["module"])


@check.message(
    rf"kernel version (?P<module>{RELEASE}) does not match DSO version (?P<client>{RELEASE})",
    needles="does not match dso version",
    sample="kernel version 535.183.1 does not match DSO version 535.216.3 -- cannot find working devices",
)
def tensorflow_mismatch(match: re.Match[str]) -> ApiMismatch:
    """TensorFlow compares the two itself when cuInit fails; it writes components without leading zeros."""
    return ApiMismatch(client=match["client"], module=match["module"])


REASONS: dict[str, Literal["key-rejected", "no-such-device", "bad-format"]] = {
    "key was rejected by service": "key-rejected",
    "required key not available": "key-rejected",
    "no such device": "no-such-device",
    "exec format error": "bad-format",
    "invalid argument": "bad-format",
    "invalid module format": "bad-format",
}


@check.message(
    r"modprobe: FATAL: Module (?P<module>nvidia[\w-]*) not found(?: in directory /(?:usr/)?lib/modules/(?P<kernel>\S+))?",
    needles="modprobe: fatal: module nvidia",
    sample="modprobe: FATAL: Module nvidia not found in directory /lib/modules/6.1.0-18-amd64",
)
def module_not_found(match: re.Match[str]) -> ModuleRefused:
    """No such module on disk for the running kernel."""
    return ModuleRefused(module=_name(match["module"]), why="not-found", kernel=match["kernel"])


@check.message(
    r"(?:could not insert|Error inserting|insmod: ERROR: could not insert module|Failed to insert module)"
    r" '?(?P<module>[\w./-]*nvidia[\w.-]*)'?:"
    r" (?P<why>[A-Z][\w ]+)",
    needles=("could not insert", "error inserting", "failed to insert module"),
    sample="modprobe: ERROR: could not insert 'nvidia': No such device",
)
def module_refused(match: re.Match[str]) -> ModuleRefused:
    """The kernel refused the module, and why."""
    module = _name(match["module"].rpartition("/")[2].partition(".ko")[0])
    return ModuleRefused(module=module, why=REASONS.get(match["why"].strip().lower(), "other"))


def _name(module: str) -> str:
    return module.replace("-", "_")


@check.message(
    r"Kernel module load error: (?P<why>[A-Z][\w ]+)",
    needles="kernel module load error",
    sample="-> Kernel module load error: Key was rejected by service",
)
def installer_refused(match: re.Match[str]) -> ModuleRefused:
    """NVIDIA's installer, when it tries the module that it built."""
    return ModuleRefused(module="nvidia", why=REASONS.get(match["why"].strip().lower(), "other"))


@check.message(
    r"Loading of (?:unsigned )?module with unavailable key is rejected|Loading of unsigned module is rejected"
    r"|Lockdown: \S+ unsigned module loading is restricted",
    needles=("with unavailable key is rejected", "unsigned module"),
    sample="Loading of module with unavailable key is rejected",
)
def key_rejected(_match: re.Match[str]) -> ModuleRefused:
    """The kernel's own line; it does not name the module. (That it is tainted by one is no refusal.)"""
    return ModuleRefused(module="", why="key-rejected")


@check.message(
    r"Bad return status for module build on kernel: (?P<kernel>\S+)"
    r"|Your kernel headers for kernel (?P<headers>\S+?)(?: \([^)]*\))? cannot be found"
    r"|dkms autoinstall on (?P<auto>[^\s/]+)\S* (?:failed|was skipped) for nvidia",
    needles=("bad return status for module build", "your kernel headers for kernel", "dkms autoinstall on"),
    sample="Error! Bad return status for module build on kernel: 6.8.0-49-generic (x86_64)",
)
def dkms_failed(match: re.Match[str]) -> BuildFailed:
    """DKMS, of a kernel that it could not build for."""
    kernel = match["kernel"] or match["headers"] or match["auto"]
    return BuildFailed(kernel=kernel, missing="headers" if match["headers"] else None)


@check.message(
    r"ERROR: Unable to find the kernel source tree|(?P<step>performing the step: \"Building kernel modules\")",
    needles=("unable to find the kernel source tree", "building kernel modules"),
    sample="ERROR: Unable to find the kernel source tree for the currently running kernel.",
)
def installer_could_not_build(match: re.Match[str]) -> BuildFailed:
    """NVIDIA's installer."""
    return BuildFailed(missing=None if match["step"] else "headers")


@check.message(
    r"ERROR: The Nouveau kernel driver is currently in use",
    needles="nouveau kernel driver is currently in use",
    sample="ERROR: The Nouveau kernel driver is currently in use by your system.",
)
def installer_met_nouveau(_match: re.Match[str]) -> GpuClaimed:
    """NVIDIA's installer."""
    return GpuClaimed(by="nouveau")


@check.message(
    r"Could not locate dkms\.conf file\.?\n[^\n]*?File: (?P<path>/\S+dkms\.conf) does not exist",
    needles="could not locate dkms.conf",
    sample=(
        "Error! Could not locate dkms.conf file.\n"
        "File: /var/lib/dkms/nvidia/525.85.05/source/dkms.conf does not exist."
    ),
    span=3,
)
def dkms_without_source(match: re.Match[str]) -> BuildFailed:
    """A registration in DKMS whose sources are gone: it stops every other build as well."""
    return BuildFailed(missing="dkms.conf", path=match["path"])


@check.message(
    r"NVRM: GPU " + ADDRESS + r" is already bound to (?P<by>[\w-]+)",
    needles="is already bound to",
    sample="NVRM: GPU 0000:01:00.0 is already bound to nouveau.",
)
def gpu_bound(match: re.Match[str]) -> GpuClaimed | None:
    """The module found the GPU in other hands."""
    if match["by"] == "nvidia":
        return None
    return GpuClaimed(by=match["by"], address=match["address"])


@check.message(
    r"NVRM: The NVIDIA probe routine was not called for \d+ device",
    needles="probe routine was not called",
    sample="NVRM: The NVIDIA probe routine was not called for 1 device(s).",
)
def probe_not_called(_match: re.Match[str]) -> GpuClaimed:
    """The module found no GPU that was free; which driver has it, the log only guesses."""
    return GpuClaimed()


@check.message(
    r"NVRM: The NVIDIA GPU " + ADDRESS + r" \(PCI ID: (?P<vendor>10de):(?P<device>[0-9a-f]{4})\)[^\n]*"
    r"(?:\n[^\n]*){0,3}?requires use of the NVIDIA open kernel modules",
    needles="requires use of the nvidia open kernel modules",
    sample=(
        "NVRM: The NVIDIA GPU 0000:01:00.0 (PCI ID: 10de:2b85)\n"
        "NVRM: installed in this system requires use of the NVIDIA open kernel modules."
    ),
    span=4,
)
def needs_open_modules(match: re.Match[str]) -> NeedsOpenModules:
    """The proprietary module, of a GPU that has no support in it."""
    return NeedsOpenModules(address=match["address"], device_id=match["device"])


@check.message(
    r"^(?!.*PCI ID).*requires use of the NVIDIA open kernel modules",
    needles="requires use of the nvidia open kernel modules",
    sample="NVRM: installed in this system requires use of the NVIDIA open kernel modules.",
)
def needs_open_modules_alone(_match: re.Match[str]) -> NeedsOpenModules:
    """The same where the first line was not pasted."""
    return NeedsOpenModules()


@check.message(
    r"NVRM: The NVIDIA GPU " + ADDRESS + r" \(PCI ID: 10de:(?P<device>[0-9a-f]{4})\)[^\n]*(?:\n[^\n]*?){1,2}"
    r"installed in this system is not supported by(?P<rest>[^\n]*(?:\n[^\n]*){0,3})",
    needles="installed in this system is not supported by",
    sample=(
        "NVRM: The NVIDIA GPU 0000:03:00.0 (PCI ID: 10de:1b80)\n"
        "NVRM: installed in this system is not supported by open\n"
        "NVRM: nvidia.ko because it does not include the required GPU\n"
        "NVRM: System Processor (GSP)."
    ),
    span=6,
)
def gpu_not_supported(match: re.Match[str]) -> GpuNotSupported:
    """Too old or too new for this release, or for the open flavour of it."""
    rest = match["rest"]
    release = re.search(RELEASE, rest)
    return GpuNotSupported(
        address=match["address"],
        device_id=match["device"],
        release=release[0] if release else None,
        open_modules="open" in rest.lower() or "GSP" in rest,
    )


@check.message(
    r"NVRM: The NVIDIA (?P<name>\S[^\n]*?) GPU installed in this system is\s*\n[^\n]*?"
    r"supported through the NVIDIA (?P<branch>\d+)\S* Legacy drivers(?P<rest>[^\n]*(?:\n[^\n]*){0,3})",
    needles="gpu installed in this system is",
    sample=(
        "NVRM: The NVIDIA GeForce GT 430 GPU installed in this system is\n"
        "NVRM:  supported through the NVIDIA 390.xx Legacy drivers. Please\n"
        "NVRM:  visit http://www.nvidia.com/object/unix.html for more\n"
        "NVRM:  information.  The 470.256.02 NVIDIA driver will ignore\n"
        "NVRM:  this GPU.  Continuing probe..."
    ),
    span=5,
)
def gpu_needs_legacy_driver(match: re.Match[str]) -> GpuNeedsLegacyDriver:
    """Too old for this release, with the branch that it needs."""
    release = re.search(RELEASE, match["rest"])
    return GpuNeedsLegacyDriver(
        name=match["name"], branch=int(match["branch"]), release=release[0] if release else None
    )


@check.message(
    r"NVRM: GPU " + ADDRESS + r": RmInitAdapter failed! \((?P<code>[0-9a-fx:]+)\)",
    needles="rminitadapter failed",
    sample="NVRM: GPU 0000:41:00.0: RmInitAdapter failed! (0x62:0x65:2477)",
)
def adapter_failed(match: re.Match[str]) -> AdapterFailed:
    """The module could not initialise a GPU; the code is a line of NVIDIA's sources."""
    return AdapterFailed(address=match["address"], code=match["code"])


@check.message(
    r"NVRM: This PCI I/O region assigned to your NVIDIA device is invalid"
    r"(?::?\n[^\n]*BAR\d is \S+ @ \S+ \(PCI:" + ADDRESS + r"\))?",
    needles="this pci i/o region assigned to your nvidia device",
    sample=(
        "NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:\n"
        "NVRM: BAR1 is 0M @ 0x0 (PCI:0000:05:00.0)"
    ),
    span=2,
)
def bar_invalid(match: re.Match[str]) -> BarInvalid:
    """No address for the GPU's memory."""
    return BarInvalid(address=match["address"])


@check.message(
    r"PM: suspend (?:entry|exit)|PM: hibernation: hibernation (?:entry|exit)|Entering sleep state '(?:suspend|hibernate)"
    r"|System returned from sleep (?:state|operation)|Waking up from system sleep state",
    needles=("pm: suspend", "pm: hibernation", "sleep state", "from sleep operation"),
    sample="kernel: PM: suspend exit",
)
def resumed(_match: re.Match[str]) -> Resumed:
    """The kernel's and systemd's lines around a suspend."""
    return Resumed()


SAYS_MISSING = r"No such file|no such file"
SAYS_CLOSED = r"[Pp]ermission denied|[Oo]peration not permitted"


@check.message(
    rf"(?P<path>/dev/nvidia[\w-]*\*?)[^\w\s/:]?:? ?\(?(?P<after>{SAYS_MISSING}|{SAYS_CLOSED})"
    rf"|(?P<before>{SAYS_MISSING}|{SAYS_CLOSED})[^/\n]{{0,20}}[^\w\s/]?(?P<named>/dev/nvidia[\w-]*)",
    needles="/dev/nvidia",
    sample="ls: cannot access '/dev/nvidia-uvm': No such file or directory",
)
def device_node_failed(match: re.Match[str]) -> DeviceNodeFailed:
    """A device file that is not there or may not be opened: the reason after the path, as in C, or before, as in Python."""
    said = (match["after"] or match["before"]).lower()
    path = match["path"] or match["named"]
    return DeviceNodeFailed(path=path, problem="missing" if said.startswith("no such") else "permission")
