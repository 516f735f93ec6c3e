"""The GPUs in the machine's summary and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from envdoctor.api import Headline, Platform, Unavailable, Variables, View
from envdoctor_checks.driver.facts import DeviceNodes, NvmlInit, PciDevices
from envdoctor_checks.gpu.check import check
from envdoctor_checks.gpu.facts import (
    GpuDevices,
    GpuEcc,
    GpuMemory,
    GpuModes,
    GpuProcesses,
    MigInstances,
    of_gpu,
)
from envdoctor_checks.gpu.figures import (
    GpuClocks,
    GpuLoad,
    GpuNvlinks,
    GpuPcieLinks,
    GpuPower,
    GpuTemperatures,
)
from envdoctor_checks.gpu.visible import resolve

NAME = "CUDA_VISIBLE_DEVICES"
UNKNOWN = "-"


@check.applicable
def applies(
    platform: Platform,
    pci: PciDevices | Unavailable | None,
    nodes: DeviceNodes | Unavailable | None,
    devices: GpuDevices | Unavailable | None,
    init: NvmlInit | Unavailable | None,
) -> str | None:
    """Why there is nothing to check: another system, no GPU of NVIDIA's, or none that could be asked."""
    if not platform.is_linux:
        return f"NVIDIA's GPUs on {platform.system} are not looked at"
    if isinstance(devices, GpuDevices) or platform.wsl or not isinstance(pci, PciDevices):
        return None
    if not isinstance(nodes, DeviceNodes) or nodes.nodes:
        return None
    if not pci.gpus:
        return "no NVIDIA GPU on this machine"
    if isinstance(init, NvmlInit) and init.name == "NVML_ERROR_LIBRARY_NOT_FOUND":
        return "neither the driver's libraries nor its device files are here"  # which the driver check judges
    return None


@check.headline
def instances_row(instances: MigInstances, devices: GpuDevices | None) -> Iterator[Headline]:
    """What CUDA gets in place of a whole GPU: ``3g.40gb (40 GiB) of NVIDIA H100 80GB HBM3``."""
    models = {str(each.index): each.name for each in devices.devices} if devices else {}
    told = Counter(
        f"{each.name}{f' ({each.memory / 1024:.0f} GiB)' if each.memory else ''} of {models.get(each.gpu, each.gpu)}"
        for each in instances.instances
    )
    if told:
        rows = (f"{count} x {row}" if count > 1 else row for row, count in told.items())
        yield Headline("MIG instance" if told.total() == 1 else "MIG instances", ", ".join(rows), 22)


@check.headline
def memory_row(memory: GpuMemory, modes: GpuModes | None) -> Iterator[Headline]:
    """How much of the GPUs' memory is free; that of a GPU in MIG mode belongs to its instances."""
    whole = [row for row in memory.gpus if modes is None or row.gpu not in modes.in_mig]
    if whole:
        told = Counter(f"{(row.total - row.used) / 1024:.0f} of {row.total / 1024:.0f} GiB" for row in whole)
        free = (f"{row} on each of {count} GPUs" if count > 1 else row for row, count in told.items())
        yield Headline("GPU memory free", ", ".join(free), 41)


@check.headline
def visible_row(
    variables: Variables, devices: GpuDevices, instances: MigInstances | None
) -> Iterator[Headline]:
    """What CUDA_VISIBLE_DEVICES leaves, where it is set."""
    value = variables.get(NAME)
    if value is not None and devices.devices and variables.complete:
        left = resolve(value, devices, instances).visible
        yield Headline("visible to CUDA", f"{', '.join(left) or 'no GPU'} ({NAME}={value})", 42)


@check.view
def gpus(
    devices: GpuDevices,
    memory: GpuMemory | None,
    load: GpuLoad | None,
    heat: GpuTemperatures | None,
    power: GpuPower | None,
    clocks: GpuClocks | None,
    ecc: GpuEcc | None,
    modes: GpuModes | None,
    pcie: GpuPcieLinks | None,
    nvlinks: GpuNvlinks | None,
    processes: GpuProcesses | None,
) -> View:
    """Every GPU with its figures."""
    columns = (
        "GPU",
        "name",
        "memory MiB",
        "load",
        "°C",
        "W",
        "SM MHz",
        "ECC",
        "compute",
        "MIG",
        "PCIe",
        "NVLink",
        "processes",
    )
    rows = []
    for device in devices.devices:
        label = str(device.index)
        used, busy = memory and of_gpu(memory.gpus, label), load and of_gpu(load.gpus, label)
        warm, drawn = heat and of_gpu(heat.gpus, label), power and of_gpu(power.gpus, label)
        clock, counts = clocks and of_gpu(clocks.gpus, label), ecc and of_gpu(ecc.gpus, label)
        mode, link = modes and of_gpu(modes.gpus, label), pcie and of_gpu(pcie.gpus, label)
        bridges = nvlinks and of_gpu(nvlinks.gpus, label)
        rows.append(
            (
                label,
                device.name,
                f"{used.used} / {used.total}" if used else str(device.memory_total or UNKNOWN),
                f"{busy.percent} %" if busy else UNKNOWN,
                str(warm.celsius) if warm else UNKNOWN,
                f"{drawn.drawn:.0f} / {drawn.limit:.0f}" if drawn else UNKNOWN,
                f"{clock.sm} / {clock.sm_max}" if clock else UNKNOWN,
                ("off" if not counts.enabled else str(counts.uncorrectable)) if counts else UNKNOWN,
                mode.compute if mode else UNKNOWN,
                ("on" if mode.mig else "off") if mode else UNKNOWN,
                f"gen {link.generation}/{link.generation_max} x{link.width}/{link.width_max}"
                if link
                else UNKNOWN,
                f"{bridges.active}/{bridges.total}" if bridges else UNKNOWN,
                ", ".join(str(each.pid) for each in processes.processes if each.gpu == label)
                if processes
                else UNKNOWN,
            )
        )
    return View("GPUs", columns, tuple(rows))
