"""Rules about a driver that is too old for what Triton, or a variable's ptxas, makes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import (
    Change,
    Confidence,
    Finding,
    Findings,
    Install,
    Reach,
    Run,
    Severity,
    UnsetVariable,
    UpgradeDriver,
    Variables,
)
from envdoctor.tables import compare_releases, major_minor
from envdoctor_checks.driver.facts import DriverCuda
from envdoctor_checks.driver.tables import CudaFloors
from envdoctor_checks.gpu.facts import GpuDevice, GpuDevices
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import Nvcc, PtxAssembler, PtxAssemblers
from envdoctor_checks.kernel.reasoning import COMPILE, KERNEL, TOOLCHAIN, use_of
from envdoctor_checks.kernel.rules_triton import installed_triton
from envdoctor_checks.kernel.symptoms import (
    CompilerAtWork,
    ImageInvalid,
    PtxTooNew,
)
from envdoctor_checks.kernel.tables import Toolchains, Triton
from envdoctor_checks.libraries.facts import UndefinedSymbol
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild


def used_for(
    assemblers: PtxAssemblers, devices: tuple[GpuDevice, ...], of: str
) -> Iterator[tuple[PtxAssembler, GpuDevice]]:
    """Each assembler of Triton's with a GPU that it is started for."""
    rows = [
        each
        for each in assemblers.assemblers
        if (each.used_by == "triton") == (of == "triton") and each.used_by != "toolkit"
    ]
    newest = any("blackwell" in _told(row) for row in rows)
    for row in rows:
        for device in devices:
            capability = device.compute_capability
            if capability is None:
                continue
            is_new = compare_releases(capability, "10.0") >= 0
            if ("blackwell" in _told(row)) == (is_new and newest):
                yield row, device


def _told(row: PtxAssembler) -> str:
    return (row.path if row.used_by == "triton" else row.used_by).lower()


@check.rule
def triton_needs_newer_driver(
    assemblers: PtxAssemblers,
    driver: DriverCuda,
    floors: CudaFloors,
    gpus: GpuDevices,
    packages: Distributions | None,
    work: tuple[CompilerAtWork, ...],
    build: TorchBuild | None,
) -> Findings:
    """Triton's own assembler is of a newer CUDA major release than the driver, which cannot load what it makes."""
    use = use_of(work, packages, gpus, build)
    for row, _ in used_for(assemblers, gpus.devices, "triton"):
        if use is None or major_minor(row.ptxas_cuda)[0] <= major_minor(driver.driver_cuda)[0]:
            continue
        yield Finding(
            title=f"Triton assembles kernels with CUDA {row.ptxas_cuda}, the driver speaks CUDA {driver.driver_cuda}",
            severity=min(use.severity, Severity.WARNING, key=lambda each: -each.order),
            evidence=(
                assemblers.shows(row.path, row.ptxas_cuda),
                driver.shows("driver's CUDA", driver.driver_cuda),
                *use.evidence,
            ),
            remedies=(*newer_driver(row.ptxas_cuda, floors), older_assembler(driver.driver_cuda)),
            breaks=(COMPILE, KERNEL),
        )
        return


def newer_driver(cuda: str, floors: CudaFloors) -> tuple[UpgradeDriver, ...]:
    """The oldest driver that loads what a CUDA release makes."""
    return (
        UpgradeDriver(
            floor=floors.minimum_driver(cuda) or "", why=f"it must speak CUDA {major_minor(cuda)[0]}"
        ),
    )


def older_assembler(driver_cuda: str) -> Run:
    """An assembler of the driver's release, in the place of Triton's."""
    release = ".".join(map(str, major_minor(driver_cuda)))
    return Run(
        title=f"or have Triton start the ptxas of CUDA {release}, with TRITON_PTXAS_PATH (and TRITON_PTXAS_BLACKWELL_PATH, which it reads on Blackwell)",
        commands=(
            f"export TRITON_PTXAS_PATH=/usr/local/cuda-{release}/bin/ptxas",
            'export TRITON_PTXAS_BLACKWELL_PATH="$TRITON_PTXAS_PATH"',
            '"$TRITON_PTXAS_PATH" --version',
        ),
        reach=Reach.SHELL,
        needs_restart="process",
    )


@triton_needs_newer_driver.sign
def _image_invalid(
    said: ImageInvalid,
    work: tuple[CompilerAtWork, ...],
    floors: CudaFloors,
    driver: DriverCuda | None,
    table: Triton,
    packages: Distributions | None,
    gpus: GpuDevices | None,
    variables: Variables | None,
) -> Findings:
    in_triton = "triton" in said.evidence().value.lower() or any(
        each.what in ("triton", "inductor") for each in work
    )
    replaced = variables is not None and any(name.startswith("TRITON_PTXAS") for name in variables.values)
    if not in_triton or replaced:
        return
    release = installed_triton(packages)
    capability = (
        next((each.compute_capability for each in gpus.devices if each.compute_capability), None)
        if gpus
        else None
    )
    row = table.assembler(release, capability) if release and capability else None
    sure = (
        row is not None
        and driver is not None
        and major_minor(row.cuda)[0] > major_minor(driver.driver_cuda)[0]
    )
    seen = [driver.shows("driver's CUDA", driver.driver_cuda)] if driver is not None else []
    if packages is not None and release:
        seen.append(packages.shows("triton", release))
    cuda = row.cuda if row is not None else None
    upgrade = (
        newer_driver(cuda, floors)
        if cuda
        else (UpgradeDriver(why="as new as the CUDA of the ptxas that Triton brings"),)
    )
    older = (older_assembler(driver.driver_cuda),) if driver is not None else ()
    yield Finding(
        title=f"the driver cannot load the kernels that Triton{f' {release}' if release else ''} assembles",
        detail=f"Its ptxas is of CUDA {cuda}."
        if cuda
        else "Its ptxas is of a newer CUDA than the driver speaks.",
        evidence=(said.evidence(), *seen),
        remedies=(*upgrade, *older),
        confidence=Confidence.CERTAIN if sure else Confidence.POSSIBLE,
        breaks=(KERNEL,),
        shows=(KERNEL,),
    )


@check.rule
def ptxas_newer_than_driver(
    assemblers: PtxAssemblers,
    driver: DriverCuda,
    floors: CudaFloors,
    gpus: GpuDevices,
    packages: Distributions | None,
    work: tuple[CompilerAtWork, ...],
    build: TorchBuild | None,
) -> Findings:
    """The ptxas that a variable puts in the place of Triton's is newer than the driver."""
    use = use_of(work, packages, gpus, build)
    for row, _ in used_for(assemblers, gpus.devices, "variable"):
        if use is None or major_minor(row.ptxas_cuda)[0] <= major_minor(driver.driver_cuda)[0]:
            continue
        yield Finding(
            title=f"{row.used_by} names a ptxas of CUDA {row.ptxas_cuda}; the driver speaks CUDA {driver.driver_cuda}",
            subject=f"variable:{row.used_by}",
            severity=min(use.severity, Severity.WARNING, key=lambda each: -each.order),
            evidence=(
                assemblers.shows(row.path, row.ptxas_cuda),
                driver.shows("driver's CUDA", driver.driver_cuda),
                *use.evidence,
            ),
            remedies=(
                UnsetVariable(name=row.used_by, why="Triton then starts its own"),
                *newer_driver(row.ptxas_cuda, floors),
            ),
            breaks=(COMPILE, KERNEL),
        )
        return


@ptxas_newer_than_driver.sign
def _ptx_too_new(
    said: PtxTooNew,
    toolchains: Toolchains,
    floors: CudaFloors,
    driver: DriverCuda | None,
    nvcc: Nvcc | None,
    variables: Variables | None,
) -> Findings:
    cuda = toolchains.first_for_ptx(said.ptx) if said.ptx else nvcc.nvcc_cuda if nvcc is not None else None
    if said.reader == "ptxas":
        return
    variable = next(
        (
            name
            for name in (variables.values if variables is not None else {})
            if name.startswith("TRITON_PTXAS")
        ),
        None,
    )
    newer = driver is not None and cuda is not None and compare_releases(cuda, driver.driver_cuda) > 0
    if driver is not None and cuda is not None and not newer:
        return
    seen = [driver.shows("driver's CUDA", driver.driver_cuda)] if driver is not None else []
    if nvcc is not None:
        seen.append(nvcc.shows("nvcc", nvcc.nvcc_cuda))
    unset = (UnsetVariable(name=variable, why="Triton then starts its own"),) if variable else ()
    floor = floors.shipped_driver(cuda) if cuda else None
    real = Change(
        title="or build for the GPU's own architecture, so that the driver has no PTX to compile",
        reach=Reach.SHELL,
        example=(
            'export TORCH_CUDA_ARCH_LIST="$(python -c \'import torch; print("%d.%d" % torch.cuda.get_device_capability())\')"',
        ),
    )
    yield Finding(
        title=f"PTX{f' {said.ptx}' if said.ptx else ''} was made by a newer CUDA{f' ({cuda})' if cuda else ''} than the driver reads",
        evidence=(said.evidence(), *seen),
        remedies=(
            *unset,
            UpgradeDriver(floor=floor or "", why="it reads PTX up to that of the CUDA it speaks"),
            real,
        ),
        confidence=Confidence.CERTAIN if newer else Confidence.LIKELY,
        breaks=(KERNEL,),
        shows=(KERNEL,),
    )


@triton_needs_newer_driver.sign
def _call_missing(said: UndefinedSymbol, floors: CudaFloors, driver: DriverCuda | None) -> Findings:
    """Triton's launcher is linked with libcuda: a call that this driver has not makes it unloadable."""
    launcher = said.wanted_by is not None and re.search(
        r"cuda_utils|triton_launcher|[/\\]\.?triton[/\\]", said.wanted_by
    )
    if not launcher or not re.match(r"cu[A-Z]", said.symbol):
        return
    seen = (driver.shows("driver's CUDA", driver.driver_cuda),) if driver is not None else ()
    older = Install(
        ("triton<3",),
        why="or an older torch with an older Triton: 2.3 was the last that started on drivers of CUDA 11",
    )
    yield Finding(
        title=f"the driver's libcuda has no {said.symbol}, which this Triton calls",
        detail="Drivers of CUDA 12 (525.60.13 and later) have it."
        if said.symbol.startswith("cuTensorMap")
        else "",
        evidence=(said.evidence(), *seen),
        remedies=(
            UpgradeDriver(floor=floors.minimum_driver("12.0") or "", why="Triton calls what CUDA 12 brought"),
            older,
        ),
        breaks=(TOOLCHAIN, KERNEL),
        shows=(COMPILE,),
    )
