"""What several rules of the gpu check share: outcomes, the naming of GPUs, uses, remedies."""

from __future__ import annotations

from envdoctor.api import (
    AskAdministrator,
    Evidence,
    Outcome,
    Reach,
    Remedy,
    Run,
    Severity,
    Symptom,
    Variables,
    gpu,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.facts import MultiGpuLaunch, PciDevices
from envdoctor_checks.gpu.facts import (
    GpuDevices,
    GpuRecovery,
    of_gpu,
)
from envdoctor_checks.gpu.symptoms import (
    Xid,
)
from envdoctor_checks.torch.facts import TorchBuild

VISIBLE = Outcome("gpu-visible")
CUDA = Outcome("cuda-available")
KERNEL = Outcome("kernel-on-gpu")
MEMORY = Outcome("memory")
COLLECTIVE = Outcome("collective")


def label_at(address: str | None, devices: GpuDevices | None, pci: PciDevices | None) -> str | None:
    """The index of the GPU at a PCI address; the address itself where nothing tells the index.

    NVML numbers the GPUs of the machine by PCI address, so their order on the bus tells the index of a GPU that NVML no
    longer names.
    """
    if address is None:
        return None
    for device in devices.devices if devices else ():
        if device.pci_address == address:
            return str(device.index)
    addresses = sorted(each.address for each in pci.gpus) if pci else []
    return str(addresses.index(address)) if address in addresses else address


def subject(label: str | None) -> str:
    """``gpu:3``; empty for a GPU that is not known."""
    return f"gpu:{label}" if label else ""


def named(label: str | None) -> str:
    """The GPU in a sentence."""
    if label is None:
        return "a GPU"
    return f"the GPU at {label}" if ":" in label else f"GPU {label}"


def broken(label: str | None) -> tuple[Outcome, ...]:
    """That this GPU cannot be used: where it is not known which, any."""
    return (gpu(label or ""),)


def wanted(torch: TorchBuild | None) -> bool:
    """Whether the target has a PyTorch that was built for CUDA."""
    return torch is not None and torch.torch_cuda is not None


def severity(used: bool) -> Severity:
    """An error where the GPUs are wanted, else a note."""
    return Severity.ERROR if used else Severity.NOTE


def multi_gpu(variables: Variables | None, launches: tuple[MultiGpuLaunch, ...] = ()) -> bool:
    """Whether a job of several processes is shown: by its variables, or by the command that starts it."""
    size = variables.get("WORLD_SIZE") if variables else None
    return bool(launches) or (size is not None and size.isdigit() and int(size) > 1)


def settled(said: Xid, label: str | None, advice: GpuRecovery | None) -> bool:
    """Whether an Xid in the log of the machine we look at is history: the driver now asks for nothing on that GPU."""
    row = of_gpu(advice.gpus, label) if advice and label else None
    return said.source.kind == "file" and row is not None and row.action == "none"


def quoted(*said: Symptom | None, label: str = "message") -> tuple[Evidence, ...]:
    """The printed lines of symptoms, as evidence."""
    return tuple(each.evidence(label) for each in said if each is not None)


def contained(around: Surroundings | None) -> bool:
    """Whether we are known to be in a container."""
    return around is not None and around.engine not in (None, "none")


def on_host(around: Surroundings | None, fix: Run) -> Remedy:
    """`fix` on the host; inside a container, a request to whoever runs it."""
    if contained(around):
        return AskAdministrator(
            what=fix.title, commands=fix.commands, needs_restart=fix.needs_restart, verify=fix.verify
        )
    return fix


def reset(label: str | None, why: str = "") -> Run:
    """Reset one GPU. On NVSwitch systems all of them are reset together, unless the fabric manager lets one go."""
    which = f" -i {label}" if label else ""
    return Run(
        title=f"stop what uses {named(label)} and reset it" + (f": {why}" if why else ""),
        commands=(f"nvidia-smi --gpu-reset{which}",),
        reach=Reach.HOST,
        needs_root=True,
        caveat="Every program on it must have ended, display servers, nvidia-persistenced and DCGM included. Where the reset is "
        "refused, restart the machine.",
        verify=f"nvidia-smi{which}",
    )


def reboot(why: str = "") -> Run:
    """Restart the machine."""
    return Run(
        title="restart the machine" + (f": {why}" if why else ""),
        commands=("reboot",),
        reach=Reach.HOST,
        needs_root=True,
        needs_restart="machine",
        caveat="Running jobs end with it.",
        verify="nvidia-smi",
    )
