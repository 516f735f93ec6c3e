"""The rule about a driver that is too old for the CUDA that PyTorch was built with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from envdoctor.api import (
    Ask,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    Platform,
    Reach,
    Remedy,
    Run,
    UpgradeDriver,
)
from envdoctor.tables import compare_releases, release_key
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    CudaInit,
    DriverCuda,
    DriverRelease,
    DriverTooOld,
    KernelModule,
    SmiFailed,
)
from envdoctor_checks.driver.probe_calls import dotted
from envdoctor_checks.driver.reasoning import CUDA, quoted
from envdoctor_checks.driver.tables import CudaFloors, ForwardCompatibility
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda
from envdoctor_checks.torch.tables import PackageIndex, PackageIndexes, TorchReleases

DATA_CENTRE = ("A100", "A800", "A30", "A40", "A10", "A16", "A2", "H100", "H200", "H800", "H20", "B100", "B200", "B300", "L4",
               "L40", "L40S", "T4", "V100", "P100", "P40", "GH200", "GB200", "GB300")  # fmt: skip
"""Words of GPU names on which forward compatibility (cuda-compat) is supported."""


@check.rule
def too_old_for_torch(
    torch: TorchBuild,
    floors: CudaFloors,
    indexes: PackageIndexes,
    spoken: DriverCuda | None,
    release: DriverRelease | None,
    module: KernelModule | None,
    cuda: TorchCuda | None,
    init: CudaInit | None,
    gpus: GpuDevices | None,
    platform: Platform | None,
    compat: ForwardCompatibility,
) -> Findings:
    """The driver is too old for the CUDA that this PyTorch was built with."""
    if torch.torch_cuda is None or (cuda is not None and cuda.available):
        return
    if init is not None and init.code in (803, 804):
        return  # the libcuda in use is not the driver's own: the compatibility rules speak
    known = release.release if release else module.release if module else None
    floor = floors.minimum_driver(torch.torch_cuda, _system(platform))
    if not _too_old(torch.torch_cuda, spoken, known, floors, floor):
        return
    what = f"driver {known}" if known else "the driver"
    speaks = spoken.driver_cuda if spoken else floors.native_cuda(known) if known else None
    evidence = [torch.shows("PyTorch", _built(torch))]
    evidence += [fact.shows("driver release", known) for fact in (release or module,) if fact and known]
    evidence += [spoken.shows("the driver's CUDA", spoken.driver_cuda)] if spoken else []
    yield Finding(
        title=f"{what} is too old for PyTorch {torch.version}, which needs {_needed(floor, torch.torch_cuda)}",
        detail=_explained(torch.torch_cuda, floor, speaks),
        evidence=(*evidence, *_floor_row(floors, torch.torch_cuda, floor)),
        remedies=(
            *_remedies(torch, torch.torch_cuda, floor, speaks, indexes, gpus),
            *_compat(torch.torch_cuda, known, gpus, compat),
        ),
        breaks=(CUDA,),
        shows=(CUDA,) if cuda is not None else (),
    )


def _built(torch: TorchBuild) -> str:
    return f"{torch.version}, built for CUDA {torch.torch_cuda}" if torch.torch_cuda else f"{torch.version}"


def _system(platform: Platform | None) -> Literal["linux", "windows"]:
    return "windows" if platform and platform.system == "windows" else "linux"


def _too_old(
    torch_cuda: str, spoken: DriverCuda | None, release: str | None, floors: CudaFloors, floor: str | None
) -> bool:
    """What libcuda itself speaks decides; else the release. Within a major any minor will do from the floor on."""
    if spoken is not None:
        has, needs = release_key(spoken.driver_cuda), release_key(torch_cuda)[:2]
        if floors.family(torch_cuda) is None:
            return has < needs
        return has[0] < needs[0]
    return release is not None and floor is not None and compare_releases(release, floor) < 0


def _needed(floor: str | None, torch_cuda: str) -> str:
    return f"{floor} or newer" if floor else f"one for CUDA {torch_cuda.partition('.')[0]}"


def _explained(torch_cuda: str, floor: str | None, speaks: str | None) -> str:
    major = torch_cuda.partition(".")[0]
    own = f" This driver speaks CUDA {speaks} at most." if speaks else ""
    return (
        f"A PyTorch built for CUDA {torch_cuda} brings its own CUDA {major} runtime, which runs on every driver "
        f"{f'from {floor} on ' if floor else 'of that major '}(minor-version compatibility), and on none older.{own} The installed toolkit (nvcc) does not matter."
    )


def _floor_row(floors: CudaFloors, torch_cuda: str, floor: str | None) -> tuple[Evidence, ...]:
    row = floors.family(torch_cuda) or next(
        (each for each in floors.toolkits if each.cuda == torch_cuda), None
    )
    return (floors.cite(row, f"oldest driver for CUDA {torch_cuda}", floor),) if row and floor else ()


def _remedies(
    torch: TorchBuild,
    torch_cuda: str,
    floor: str | None,
    speaks: str | None,
    indexes: PackageIndexes,
    gpus: GpuDevices | None,
) -> tuple[Remedy, ...]:
    remedies: list[Remedy] = []
    build = older_build(torch.release, speaks, indexes, gpus)
    if build is not None:
        remedies.append(build)
    remedies.append(
        UpgradeDriver(
            floor or "", why=f"so that it speaks CUDA {torch_cuda.partition('.')[0]}", verify="nvidia-smi"
        )
    )
    return tuple(remedies)


def _is_data_centre(name: str) -> bool:
    words = name.replace("-", " ").split()
    return "GeForce" not in words and any(word in DATA_CENTRE for word in words)


def _compat(
    torch_cuda: str, driver: str | None, gpus: GpuDevices | None, compat: ForwardCompatibility
) -> Iterator[Run]:
    """Forward compatibility: a newer libcuda over the older module, on data-centre GPUs and the branches that have it."""
    branch = int(driver.partition(".")[0]) if driver else None
    if not gpus or not any(_is_data_centre(gpu.name) for gpu in gpus.devices):
        return
    if branch is not None and not compat.works(torch_cuda, branch):
        return
    version = ".".join(torch_cuda.split(".")[:2])
    yield Run(
        title=f"or put the compatibility libraries cuda-compat-{version.replace('.', '-')} over this driver (data-centre GPUs)",
        commands=(
            f"apt-get install -y cuda-compat-{version.replace('.', '-')}",
            f"export LD_LIBRARY_PATH=/usr/local/cuda-{version}/compat${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}",
        ),
        reach=Reach.HOST,
        needs_root=True,
        caveat="The package is in NVIDIA's CUDA repository. It works on data-centre GPUs and selected driver branches only.",
    )


def older_build(
    torch: str | None, speaks: str | None, indexes: PackageIndexes, gpus: GpuDevices | None
) -> Install | None:
    """A PyTorch that this driver can run: the same release for an older CUDA, else the newest that has such a build."""
    if speaks is None:
        return None
    fitting = [row for row in indexes.indexes if row.cuda and _fits(row.cuda, speaks, gpus)]
    same = [row for row in indexes.having(torch) if row in fitting] if torch else []
    row = _nearest(same, speaks) if same else _newest(fitting, speaks)
    if row is None:
        return None
    requirement = f"torch=={torch}" if row in same else f"torch=={max(row.torch, key=release_key)}.*"
    if torch is None:
        requirement = "torch"
    return Install(
        (requirement,),
        build=row.index,
        why=f"a build for CUDA {row.cuda}, which this driver runs",
        caveat="Take torchvision and torchaudio from the same index, in the same command.",
        verify='python -c "import torch; print(torch.__version__, torch.cuda.is_available())"',
    )


def _fits(cuda: str, speaks: str, gpus: GpuDevices | None) -> bool:
    """Whether the driver runs a build of that CUDA, and the build can have code for the GPUs."""
    if release_key(cuda)[0] > release_key(speaks)[0] or (
        release_key(cuda)[0] < 11 and release_key(cuda) > release_key(speaks)
    ):
        return False
    known = (
        [release_key(gpu.compute_capability) for gpu in gpus.devices if gpu.compute_capability]
        if gpus
        else []
    )
    if any(each[0] >= 10 for each in known) and release_key(cuda) < (12, 8):
        return False
    return not (any(each < (7, 5) for each in known) and release_key(cuda) > (12, 6))


def _nearest(rows: list[PackageIndex], speaks: str) -> PackageIndex | None:
    """The newest CUDA that the driver speaks itself; where all are newer (within its major), the oldest of them."""
    native = [row for row in rows if row.cuda and release_key(row.cuda) <= release_key(speaks)]
    if native:
        best = max(native, key=lambda row: release_key(row.cuda or "0"))
        if release_key(best.cuda or "0")[0] == release_key(speaks)[0]:
            return best
    newer = [row for row in rows if row not in native]
    return min(newer or native, key=lambda row: release_key(row.cuda or "0"), default=None)


def _newest(rows: list[PackageIndex], speaks: str) -> PackageIndex | None:
    """Of the builds for the major that the driver speaks, the newest: it has the newest releases of PyTorch."""
    same_major = [row for row in rows if release_key(row.cuda or "0")[0] == release_key(speaks)[0]]
    return max(same_major or rows, key=lambda row: release_key(row.cuda or "0"), default=None)


@too_old_for_torch.sign
def _said_too_old(
    said: tuple[DriverTooOld, ...],
    smi: tuple[SmiFailed, ...],
    floors: CudaFloors,
    indexes: PackageIndexes,
    releases: TorchReleases,
    torch: TorchBuild | None,
    release: DriverRelease | None,
    module: KernelModule | None,
    gpus: GpuDevices | None,
    platform: Platform | None,
    compat: ForwardCompatibility,
) -> Findings:
    """PyTorch, the CUDA runtime or another program says so."""
    found = next((each.found for each in said if each.found), None)
    known = release.release if release else module.release if module else None
    torch_cuda = _cuda_of(torch, releases)
    floor = floors.minimum_driver(torch_cuda, _system(platform)) if torch_cuda else None
    native = floors.native_cuda(known) if known else None
    if not said or _other_cause(found, known, native, floor, smi):
        return
    speaks = dotted(found) if found else native
    program = (
        f"PyTorch {torch.version}" if torch and torch.version else "the CUDA that this program was built with"
    )
    yield Finding(
        title=f"{f'driver {known}' if known else 'the NVIDIA driver'}{f' (CUDA {speaks})' if speaks else ''} is too old for "
        f"{program}{f', which needs {floor} or newer' if floor else ''}",
        confidence=Confidence.CERTAIN if found or floor else Confidence.LIKELY,
        detail=_explained(torch_cuda, floor, speaks) if torch_cuda and floor else NEWER_MAJOR,
        evidence=quoted(*said[:2])
        + ((torch.shows("PyTorch", _built(torch)),) if torch and torch.version else ())
        + tuple(fact.shows("driver release", known) for fact in (release or module,) if fact and known),
        remedies=(
            *_said_remedies(torch, torch_cuda, floor, speaks, indexes, gpus),
            *(_compat(torch_cuda, known, gpus, compat) if torch_cuda and floor else ()),
        ),
        breaks=(CUDA,),
        shows=(CUDA,),
        asks=() if known else (Ask("nvidia-smi", "which release and CUDA the driver has"),),
    )


NEWER_MAJOR = (
    "The program brings a CUDA runtime of a newer major than the driver speaks. Either the driver becomes newer, or the program "
    "is taken in a build for the driver's CUDA. (Where no driver can be reached at all, the runtime says the same.)"
)


def _other_cause(
    found: int | None, known: str | None, native: str | None, floor: str | None, smi: tuple[SmiFailed, ...]
) -> bool:
    """Whether the message has another cause: an older libcuda before the driver's own, or no driver that answers.

    The runtime's error 35 is also its answer where there is no libcuda.
    """
    if found is not None:
        return native is not None and release_key(dotted(found)) < release_key(native)
    new_enough = known is not None and floor is not None and compare_releases(known, floor) >= 0
    return new_enough or (
        known is None and any(each.problem in ("no-driver", "not-installed") for each in smi)
    )


def _cuda_of(torch: TorchBuild | None, releases: TorchReleases) -> str | None:
    """What torch was built for; where only a plain version is known, what PyPI's wheel of it is built for."""
    if torch is None or torch.version is None:
        return None
    row = releases.release(torch.version) if "+" not in torch.version and "a0" not in torch.version else None
    return torch.torch_cuda or (row.default_cuda if row else None)


def _said_remedies(
    torch: TorchBuild | None,
    torch_cuda: str | None,
    floor: str | None,
    speaks: str | None,
    indexes: PackageIndexes,
    gpus: GpuDevices | None,
) -> tuple[Remedy, ...]:
    if torch is not None and torch_cuda and floor:
        return _remedies(torch, torch_cuda, floor, speaks, indexes, gpus)
    build = older_build(None, speaks, indexes, gpus)
    return (
        *((build,) if build else ()),
        UpgradeDriver(why="so that it speaks the program's CUDA", verify="nvidia-smi"),
    )
