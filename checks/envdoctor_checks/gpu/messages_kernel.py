"""What the kernel log says of GPUs and NVSwitches, and what passes it on."""

from __future__ import annotations

import re

from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.symptoms import FallenOff, SwitchError, Xid

ADDRESS = r"(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?"


def full_address(written: str | None) -> str | None:
    """``0000:3b:00`` or ``3b:00.0`` as the kernel writes it whole: ``0000:3b:00.0``."""
    if written is None:
        return None
    parts = written.lower().split(":")
    domain = parts[-3][-4:] if len(parts) == 3 else "0000"
    slot = parts[-1] if "." in parts[-1] else f"{parts[-1]}.0"
    return f"{domain}:{parts[-2]}:{slot}"


RECOVERIES = (
    ("reboot", "node-reboot"),
    ("drain and reset", "drain-and-reset"),
    ("drain p2p", "drain-p2p"),
    ("reset", "gpu-reset"),
    ("none", "none"),
)
"""Words of Xid 154's text, the more particular first."""


@check.message(
    rf"NVRM: Xid \((?:PCI:)?(?P<address>{ADDRESS})[^)]*\): (?P<number>\d{{1,3}})(?P<rest>,[^\n]*)?",
    needles="nvrm: xid (",
    sample="NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
)
def xid(match: re.Match[str]) -> Xid:
    """The kernel module's line, in all the forms it has had."""
    number = int(match["number"])
    recovery = None
    if number == 154:
        wanted = (match["rest"] or "").rpartition(" to ")[2].lower()
        recovery = next((name for words, name in RECOVERIES if words in wanted), None)
    return Xid(number=number, address=full_address(match["address"]), recovery=recovery)


@check.message(
    r"XidCriticalError: Xid=(?P<plugin>\d{1,3}) on Device|\bXID (?P<dcgm>\d{1,3}) (?:was )?detected\b"
    r"|Detected XID (?P<detected>\d{1,3})\b",
    needles=("xidcriticalerror", "xid "),
    sample="XidCriticalError: Xid=48 on Device=GPU-4d1c0f6e-0000-0000-0000-000000000001, the device will go unhealthy.",
)
def xid_passed_on(match: re.Match[str]) -> Xid:
    """The Kubernetes device plugin, DCGM."""
    return Xid(number=int(next(filter(None, match.groups()))))


@check.message(
    rf"SXid \(PCI:(?P<address>{ADDRESS})\): (?P<number>\d{{5}}), (?P<fatal>Fatal|Non-fatal)",
    needles="sxid (",
    sample="nvidia-nvswitch0: SXid (PCI:0000:85:00.0): 20034, Fatal, Link 29 LTSSM Fault Up",
)
def switch_error(match: re.Match[str]) -> SwitchError:
    """The NVSwitch driver's line."""
    address = full_address(match["address"]) or match["address"]
    return SwitchError(number=int(match["number"]), address=address, fatal=match["fatal"] == "Fatal")


@check.message(
    rf"^(?!.*Xid \().*?(?:NVRM: GPU (?P<kernel>{ADDRESS}): )?GPU has fallen off the bus",
    needles="fallen off the bus",
    sample="NVRM: GPU 0000:65:00.0: GPU has fallen off the bus.",
)
def fallen_off(match: re.Match[str]) -> FallenOff:
    """The kernel module's other line, which some losses leave without an Xid."""
    return FallenOff(address=full_address(match["kernel"]))


@check.message(
    rf"Unable to determine the device handle for (?:GPU|gpu)\s?(?P<address>{ADDRESS})?[^:\n]*: (?P<why>GPU is lost|Unknown Error)"
    rf"|(?:The )?GPU (?:at )?(?P<at>{ADDRESS})?[^\n]{{0,20}}is lost\b[^\n]*[Rr]eboot",
    needles=("unable to determine the device handle", "is lost"),
    sample="Unable to determine the device handle for GPU 0000:65:00.0: GPU is lost.  Reboot the system to recover this GPU",
)
def handle_lost(match: re.Match[str]) -> FallenOff:
    """nvidia-smi; its ``Unknown Error`` has other causes as well."""
    return FallenOff(
        address=full_address(match["address"] or match["at"]), certain=match["why"] != "Unknown Error"
    )


@check.message(
    rf"^(?P<address>{ADDRESS}) (?:VGA compatible controller|3D controller)[^\n]*NVIDIA[^\n]*\(rev ff\)",
    needles="(rev ff)",
    sample="65:00.0 VGA compatible controller: NVIDIA Corporation GA102 [GeForce RTX 3090] (rev ff)",
)
def reads_ones(match: re.Match[str]) -> FallenOff:
    """lspci: a device that does not answer reads as ones."""
    return FallenOff(address=full_address(match["address"]))
