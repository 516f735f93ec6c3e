"""Rules about the cuda-compat libraries: a newer libcuda over an older kernel driver, where that is not supported."""

from __future__ import annotations

import posixpath

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    DropPathEntry,
    Evidence,
    Finding,
    Findings,
    Reach,
    Remedy,
    Run,
    Severity,
    UnsetVariable,
    UpgradeDriver,
    Variables,
)
from envdoctor.tables import compare_releases
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    ApiMismatch,
    CompatRequested,
    CudaFailed,
    CudaInit,
    DriverRelease,
    DriverTooOld,
    KernelModule,
    LibcudaNamed,
    NvmlFailed,
    UserLibraries,
)
from envdoctor_checks.driver.probe_calls import dotted
from envdoctor_checks.driver.probe_libraries import COMPAT, RELEASE
from envdoctor_checks.driver.reasoning import CUDA, quoted
from envdoctor_checks.driver.tables import CudaFloors
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.libraries.facts_loader import LoaderPredictions
from envdoctor_checks.libraries.what_if import leading_elsewhere


def _compat_in_use(init: CudaInit) -> str | None:
    """The compatibility library that was loaded for libcuda.so.1, if it was one."""
    return init.library if init.library and COMPAT.search(init.library) else None


def _release_of(path: str) -> str | None:
    told = RELEASE.search(path)
    return told.group(1) if told else None


def without_compat(
    path: str | None,
    variables: Variables | None,
    requested: tuple[CompatRequested, ...],
    proven: tuple[str, ...] | None = None,
) -> tuple[Remedy, ...]:
    """Take the compatibility library out of the loader's way, by the means that put it there.

    `proven`: the elements of LD_LIBRARY_PATH without which it is another file, where the loader's model has said.
    """
    folder = posixpath.dirname(path) if path else None
    value = (variables.get("LD_LIBRARY_PATH") if variables else None) or next(
        (each.value for each in requested if each.variable == "LD_LIBRARY_PATH"), ""
    )
    named = tuple(each for each in value.split(":") if COMPAT.search(each + "/"))
    entries = named if proven is None else proven
    remedies: list[Remedy] = [
        UnsetVariable(each.variable, why="it puts the compatibility libraries before the driver's")
        for each in requested
        if each.variable != "LD_LIBRARY_PATH"
    ]
    guessed = () if remedies or proven == () else (folder or "/usr/local/cuda/compat",)
    remedies += [
        DropPathEntry(
            "LD_LIBRARY_PATH", each, why="so that the driver's own libcuda is found, not the compat library"
        )
        for each in entries or guessed
    ]
    if not entries:
        remedies.append(
            Run(
                title="or remove the compat libraries from the image, where ldconfig has them",
                commands=(
                    "apt-get remove -y 'cuda-compat-*'",
                    "rm -f /etc/ld.so.conf.d/*compat*.conf",
                    "ldconfig",
                ),
                reach=Reach.CONTAINER,
                needs_root=True,
            )
        )
    return tuple(remedies)


UNSUPPORTED = (
    "A cuda-compat package brings a newer libcuda for an older kernel driver (forward compatibility). NVIDIA supports that on "
    "data-centre GPUs and a few driver branches; elsewhere (GeForce, most RTX boards) CUDA refuses to start."
)


@check.rule
def compat_library_unsupported(
    init: CudaInit,
    module: KernelModule | None,
    gpus: GpuDevices | None,
    variables: Variables | None,
    predicted: LoaderPredictions | None,
) -> Findings:
    """A cuda-compat libcuda is used on a GPU or driver that does not support it."""
    compat = _compat_in_use(init)
    if init.code != 804 and not (init.code == 803 and compat):
        return
    if init.code == 803 and compat and _older(_release_of(compat), module.release if module else None):
        return  # driver/compat-library-shadows-driver
    evidence = [
        init.shows("cuInit", f"{init.code} {init.name}"),
        init.shows("libcuda.so.1 loaded from", init.library),
    ]
    evidence += [module.shows("loaded module", module.release)] if module and module.release else []
    evidence += [gpus.shows("GPU", gpus.devices[0].name)] if gpus and gpus.devices else []
    proven = leading_elsewhere(predicted, "libcuda.so.1", init.library or "")
    yield _unsupported(tuple(evidence), compat, None, without_compat(compat, variables, (), proven))


def _unsupported(
    evidence: tuple[Evidence, ...],
    path: str | None,
    release: str | None,
    remedies: tuple[Remedy, ...],
) -> Finding:
    compat_release = _release_of(path) if path else release
    return Finding(
        title="a forward-compatibility libcuda (cuda-compat) is in use, which this GPU or driver does not support",
        detail=UNSUPPORTED,
        evidence=evidence,
        remedies=(
            *remedies,
            UpgradeDriver(
                compat_release or "", why="then no compatibility library is needed", verify="nvidia-smi"
            ),
            Change(
                title="or take an image or a PyTorch built for the driver's own CUDA, which has no need of the compat libraries",
                reach=Reach.ENVIRONMENT,
            ),
        ),
        breaks=(CUDA,),
        shows=(CUDA,),
    )


def _older(compat: str | None, module: str | None) -> bool:
    return compat is not None and module is not None and compare_releases(compat, module) < 0


@compat_library_unsupported.sign
def _error_804(
    cuda: tuple[CudaFailed, ...],
    named: tuple[LibcudaNamed, ...],
    requested: tuple[CompatRequested, ...],
    nvml: tuple[NvmlFailed, ...],
    api: tuple[ApiMismatch, ...],
    libraries: UserLibraries | None,
    release: DriverRelease | None,
    module: KernelModule | None,
    gpus: GpuDevices | None,
    variables: Variables | None,
) -> Findings:
    """CUDA's error 804; or 803 where a compatibility library is seen."""
    said = [each for each in cuda if each.code == 804]
    mixed = [each for each in cuda if each.code == 803]
    compat = [each for each in named if each.role == "compat"]
    loaded = module.release if module and module.release else release.release if release else None
    if not said:
        mismatch = any("MISMATCH" in each.name for each in nvml) or bool(api)
        shadows = any(_older(each.release, loaded) for each in compat)
        if not mixed or mismatch or shadows or not (compat or requested):
            return
    listed = [each.path for each in libraries.libraries if each.kind == "compat"] if libraries else []
    path = compat[0].path if compat else listed[0] if listed else None
    evidence = quoted(*(said or mixed)[:1], *compat[:1], *requested[:1])
    if loaded:
        evidence += tuple(fact.shows("driver release", loaded) for fact in (module or release,) if fact)
    if gpus and gpus.devices:
        evidence += (gpus.shows("GPU", gpus.devices[0].name),)
    remedies = without_compat(path, variables, requested)
    yield _unsupported(evidence, path, compat[0].release if compat else None, remedies)


@check.rule
def compat_library_shadows_driver(
    init: CudaInit,
    module: KernelModule,
    variables: Variables | None,
    predicted: LoaderPredictions | None,
) -> Findings:
    """A cuda-compat libcuda that is older than the driver's own is found first."""
    compat = _compat_in_use(init)
    release = _release_of(compat) if compat else None
    if compat is None or release is None or not _older(release, module.release):
        return
    yield _shadowed(
        compat,
        release,
        module.release or "",
        (
            init.shows("libcuda.so.1 loaded from", compat),
            init.shows("cuInit", f"{init.code} {init.name}"),
            module.shows("loaded module", module.release),
        ),
        without_compat(compat, variables, (), leading_elsewhere(predicted, "libcuda.so.1", compat)),
        failed=init.code != 0,
    )


def _shadowed(
    path: str,
    release: str,
    module: str,
    evidence: tuple[Evidence, ...],
    remedies: tuple[Remedy, ...],
    *,
    failed: bool,
) -> Finding:
    return Finding(
        subject="library:libcuda.so.1",
        title=f"a cuda-compat libcuda of release {release} is loaded before the driver's own, which is newer ({module})",
        severity=Severity.ERROR if failed else Severity.WARNING,
        detail="Compatibility libraries serve an older kernel driver. Over a newer one they are not supported: CUDA refuses "
        "them (error 803), or programs get an older CUDA than the driver speaks.",
        evidence=evidence,
        remedies=remedies,
        breaks=(CUDA,),
        shows=(CUDA,) if failed else (),
    )


@compat_library_shadows_driver.sign
def _seen_in_text(
    named: tuple[LibcudaNamed, ...],
    cuda: tuple[CudaFailed, ...],
    too_old: tuple[DriverTooOld, ...],
    requested: tuple[CompatRequested, ...],
    floors: CudaFloors,
    release: DriverRelease | None,
    module: KernelModule | None,
    variables: Variables | None,
) -> Findings:
    """The library that was loaded is named, CUDA failed, and the module is newer."""
    loaded = module.release if module and module.release else release.release if release else None
    said = [each for each in cuda if each.code == 803]
    for compat in (each for each in named if each.role == "compat"):
        found = next((each.found for each in too_old if each.found), None)
        native = floors.native_cuda(loaded) if loaded else None
        lower = found is not None and native is not None and compare_releases(dotted(found), native) < 0
        if compat.release is None or not _older(compat.release, loaded) or not (said or lower):
            continue
        evidence = quoted(*said[:1], *too_old[:1], compat, *requested[:1])
        evidence += tuple(fact.shows("driver release", loaded) for fact in (module or release,) if fact)
        remedies = without_compat(compat.path, variables, requested)
        yield _shadowed(compat.path, compat.release, loaded or "", evidence, remedies, failed=True)
        return


@compat_library_shadows_driver.sign
def _older_cuda_than_the_drivers(
    too_old: tuple[DriverTooOld, ...],
    named: tuple[LibcudaNamed, ...],
    floors: CudaFloors,
    release: DriverRelease | None,
    module: KernelModule | None,
    variables: Variables | None,
) -> Findings:
    """A program finds an older CUDA than the driver's release speaks: it has loaded another libcuda."""
    loaded = module.release if module and module.release else release.release if release else None
    native = floors.native_cuda(loaded) if loaded else None
    found = next((each for each in too_old if each.found), None)
    if named or native is None or found is None or compare_releases(dotted(found.found or 0), native) >= 0:
        return
    yield Finding(
        subject="library:libcuda.so.1",
        title=f"the program loaded a libcuda of CUDA {dotted(found.found or 0)}, though driver {loaded} speaks {native}",
        confidence=Confidence.LIKELY,
        detail="Another libcuda is found before the driver's own: a cuda-compat library in the image, or a copy of an older "
        "driver's.",
        evidence=quoted(found)
        + tuple(fact.shows("driver release", loaded) for fact in (module or release,) if fact),
        remedies=without_compat(None, variables, ()),
        breaks=(CUDA,),
        shows=(CUDA,),
        asks=(WHICH_LIBCUDA,),
    )


WHICH_LIBCUDA = Ask(
    "python -c \"import ctypes; ctypes.CDLL('libcuda.so.1'); "
    "print({l.split()[-1] for l in open('/proc/self/maps') if 'libcuda' in l})\"",
    "which libcuda is loaded",
)


@compat_library_shadows_driver.sign
def _error_803_alone(
    cuda: tuple[CudaFailed, ...],
    named: tuple[LibcudaNamed, ...],
    requested: tuple[CompatRequested, ...],
    nvml: tuple[NvmlFailed, ...],
    api: tuple[ApiMismatch, ...],
) -> Findings:
    """CUDA's error 803 without more: the libraries do not fit the module, by an upgrade or by a compat library."""
    said = [each for each in cuda if each.code == 803]
    if not said or named or requested or nvml or api:
        return
    yield Finding(
        title="the libcuda in use does not fit the loaded kernel module; a compat library may be found before the driver's own",
        confidence=Confidence.POSSIBLE,
        evidence=quoted(*said[:1]),
        remedies=without_compat(None, None, ()),
        shows=(CUDA,),
        asks=(
            WHICH_LIBCUDA,
            Ask("cat /proc/driver/nvidia/version", "which module is loaded"),
        ),
    )
