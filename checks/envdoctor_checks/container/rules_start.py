"""Why the engine refused to start a container with GPUs: requirements, the image, CDI, an engine that runs elsewhere."""

from __future__ import annotations

import re

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Finding,
    Findings,
    Reach,
    Relaunch,
    Run,
    Severity,
    UpgradeDriver,
)
from envdoctor_checks.container.advice import (
    GENERATE_CDI,
    INSTALL_TOOLKIT,
    LIBCUDA,
    PROVE,
    START,
)
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import ContainerEngine, ImageVariables, Mounts
from envdoctor_checks.container.facts_host import (
    CdiSpecs,
    EngineInfo,
)
from envdoctor_checks.container.symptoms import (
    CdiUnresolved,
    DeviceDriverMissing,
    DriverFileExists,
    HostFileMissing,
    RequirementUnmet,
    ToolkitAbsent,
    ToolkitLibraryMissing,
)
from envdoctor_checks.driver.facts import (
    DriverCuda,
    DriverRelease,
    KernelModule,
    UserLibraries,
)
from envdoctor_checks.driver.tables import CudaFloors


@check.rule
def driver_too_old_for_image(
    said: RequirementUnmet, driver: DriverCuda | None, floors: CudaFloors
) -> Findings:
    """The image's NVIDIA_REQUIRE_CUDA is not met by the host's driver."""
    cuda = re.match(r"cuda\s*>=?\s*(\d+\.\d+)", said.condition)
    wanted = cuda[1] if cuda else None
    floor = floors.shipped_driver(wanted) if wanted else None
    speaks = f", the driver speaks CUDA {driver.driver_cuda}" if driver else ""
    remedies = [
        _older_image(driver),
        Relaunch(
            adds="-e NVIDIA_DISABLE_REQUIRE=1",
            why="leaves the check out, where the code inside runs on this driver by minor-version compatibility",
            caveat="It only silences the check: code that needs the newer driver then fails inside.",
        ),
        UpgradeDriver(floor=floor or "", why=f"the image asks for {said.condition}"),
    ]
    yield Finding(
        title=f"the image requires {said.condition}{speaks}: the driver on the host is too old for it",
        detail="The toolkit compares the image's NVIDIA_REQUIRE_* variables with the driver before it starts anything. Nothing "
        "inside the image can change that, and the CUDA toolkit on the host has no part in it.",
        evidence=(said.evidence(), *((driver.shows("driver CUDA", driver.driver_cuda),) if driver else ())),
        remedies=tuple(remedies),
        breaks=(START,),
        shows=(START,),
    )


@driver_too_old_for_image.sign
def _image_asks_for_more(
    variables: ImageVariables, driver: DriverCuda, module: KernelModule | None
) -> Findings:
    """A container that runs all the same: by CDI, or with the check left out. Within a major it mostly works."""
    required = variables.values.get("NVIDIA_REQUIRE_CUDA", "")
    cuda = re.match(r"cuda>=(\d+)\.(\d+)", required)
    speaks = tuple(int(each) for each in driver.driver_cuda.split(".")[:2] if each.isdecimal())
    if cuda is None or len(speaks) < 2 or speaks >= (int(cuda[1]), int(cuda[2])):
        return
    if module is not None and module.release and _other_driver(required, module.release):
        return
    wanted = f"{cuda[1]}.{cuda[2]}"
    yield Finding(
        title=f"the image is for drivers of CUDA {wanted} and later, and this one speaks {driver.driver_cuda}",
        severity=Severity.WARNING if speaks[0] < int(cuda[1]) else Severity.NOTE,
        confidence=Confidence.LIKELY,
        evidence=(
            variables.shows("NVIDIA_REQUIRE_CUDA", required[:200]),
            driver.shows("driver CUDA", driver.driver_cuda),
        ),
        remedies=(_older_image(driver), UpgradeDriver(why=f"the image asks for CUDA {wanted}")),
    )


def _other_driver(required: str, release: str) -> bool:
    """Whether one of the alternatives after the first names a range that the driver lies in, whatever its brand."""
    for alternative in required.split()[1:]:
        bounds = re.findall(r"driver(>=|<)(\d+)", alternative)
        branch = int(release.partition(".")[0])
        if bounds and all(
            branch >= int(each) if sign == ">=" else branch < int(each) for sign, each in bounds
        ):
            return True
    return False


def _older_image(driver: DriverCuda | None) -> Change:
    return Change(
        title=f"use an image built for an older CUDA{f' (at most {driver.driver_cuda})' if driver else ''}",
        reach=Reach.CONTAINER,
        example=("FROM nvidia/cuda:<CUDA of the driver>-runtime-ubuntu22.04   # docker run with that tag",),
        needs_restart="container",
    )


STRIP = (
    "RUN rm -f /usr/bin/nvidia-* /usr/lib/*-linux-gnu/libnvidia-*.so* /usr/lib/*-linux-gnu/libcuda.so*   # last line of the Dockerfile",
    "# better: do not install nvidia-utils-*, nvidia-driver-*, cuda-drivers or libnvidia-compute-* in the image",
)
REBUILD = Change(
    title="remove the driver's files from the image and rebuild it",
    reach=Reach.CONTAINER,
    example=STRIP,
    needs_restart="container",
    caveat="docker commit of a running GPU container leaves empty files of that kind; build from a Dockerfile instead.",
)


@check.rule
def driver_files_in_image(said: DriverFileExists) -> Findings:
    """The image carries driver files that collide with the mounted ones."""
    yield Finding(
        title=f"the image has {said.path} of its own, where the host's driver file must be mounted",
        subject=f"file:{said.path}",
        detail="The driver's user-space files belong to the host and are mounted at every start. A package that was installed into "
        "the image, or a container that was committed while it had GPUs, left files in their places.",
        evidence=(said.evidence(),),
        remedies=(REBUILD,),
        breaks=(START,),
        shows=(START,),
    )


@driver_files_in_image.sign
def _older_copy(
    engine: ContainerEngine, libraries: UserLibraries, module: KernelModule, mounts: Mounts
) -> Findings:
    """A driver library of another release than the kernel module's can only come from the image."""
    if engine.engine is None or module.release is None:
        return
    stale = [
        each
        for each in libraries.libraries
        if each.kind == "driver" and each.release and each.release != module.release
    ]
    fresh = any(each.release == module.release for each in libraries.libraries)
    if not stale or not fresh:
        return
    yield Finding(
        title=f"the image carries driver files of release {stale[0].release}; the host's driver is {module.release}",
        subject=f"file:{stale[0].path}",
        severity=Severity.WARNING,
        confidence=Confidence.LIKELY,
        detail="Both are there, and the loader's order decides which one CUDA gets.",
        evidence=(
            libraries.shows("in the image", stale[0].path),
            module.shows("kernel module", module.release),
        ),
        remedies=(REBUILD,),
        breaks=(LIBCUDA,),
    )


@check.rule
def cdi_spec_stale(specs: CdiSpecs, module: KernelModule | None) -> Findings:
    """The CDI spec does not match the devices or the driver any more."""
    for spec in specs.specs:
        other = spec.release and module is not None and module.release and spec.release != module.release
        if not other and not spec.missing:
            continue
        what = (
            f"is of driver {spec.release}, the loaded one is {module.release}"
            if other and module
            else f"names {spec.missing[0]}, which is gone"
        )
        yield Finding(
            title=f"{spec.path} {what}: containers that ask for {spec.kind} will not start",
            subject=f"file:{spec.path}",
            severity=Severity.WARNING,
            evidence=(specs.shows(spec.path, ", ".join(spec.missing) or f"libcuda.so.{spec.release}"),),
            remedies=(GENERATE_CDI,),
            breaks=(START,),
        )


@cdi_spec_stale.sign
def _file_gone(said: HostFileMissing) -> Findings:
    """The runtime was told to mount a file of an older driver."""
    yield Finding(
        title=f"the CDI specification names {said.path}, which the host does not have any more",
        detail="The specification lists the driver's files by their full names. After an upgrade they have other names, and the "
        "OCI runtime stops at the first one that is missing.",
        evidence=(said.evidence(),),
        remedies=(GENERATE_CDI,),
        breaks=(START,),
        shows=(START,),
    )


@cdi_spec_stale.sign
def _not_resolved(said: CdiUnresolved, absent: tuple[ToolkitAbsent, ...], specs: CdiSpecs | None) -> Findings:
    """No specification has the device: none was made, or the devices have changed since."""
    listed = ", ".join(name for spec in specs.specs for name in spec.devices) if specs else ""
    known = specs is not None
    yield Finding(
        title=f"no CDI specification on this host has the device {said.device}",
        confidence=Confidence.CERTAIN if known else Confidence.LIKELY,
        detail="The engine looks the device up in /etc/cdi and /var/run/cdi. The files there are made by nvidia-ctk, once, and "
        "know the devices of that day.",
        evidence=(said.evidence(), *((specs.shows("CDI devices", listed or "none"),) if specs else ())),
        remedies=(INSTALL_TOOLKIT, GENERATE_CDI) if absent else (GENERATE_CDI,),
        breaks=(START,),
        shows=(START,),
        asks=() if known else (Ask("nvidia-ctk cdi list", "which devices the specifications have"),),
    )


NATIVE = Run(
    title="use an engine that runs on the host itself",
    commands=(
        "docker context use default",
        "# without docker-ce on the host, install it: https://docs.docker.com/engine/install/",
    ),
    reach=Reach.SHELL,
    caveat="Images and volumes of the other engine are not seen by it.",
    verify=PROVE,
)
UNSNAP = Run(
    title="replace the snap by docker's own packages",
    commands=("snap remove docker", "# then install docker-ce: https://docs.docker.com/engine/install/"),
    reach=Reach.HOST,
    needs_root=True,
    caveat="Images and volumes of the snap are lost.",
    verify=PROVE,
)


@check.rule
def engine_without_gpu(
    said: ToolkitLibraryMissing,
    info: EngineInfo | None,
    module: KernelModule | None,
    release: DriverRelease | None,
) -> Findings:
    """The engine runs in a VM or a snap (Docker Desktop) and cannot reach the GPU."""
    if info is not None and (info.desktop or info.snap):
        yield _elsewhere(info, said.evidence())
    elif release is not None or (module is not None and module.release):
        yield Finding(
            title=f"the host has its driver, and the engine does not find {said.library}: it runs elsewhere",
            confidence=Confidence.LIKELY,
            detail="Docker Desktop's engine lives in a virtual machine, a snap's in a file system of its own: neither has the "
            "host's driver libraries.",
            evidence=(said.evidence(),),
            remedies=(NATIVE, UNSNAP),
            breaks=(START,),
            shows=(START,),
            asks=(
                Ask("docker info | grep -iE 'context|operating system|root dir'", "where the engine runs"),
            ),
        )


@engine_without_gpu.sign
def _no_driver_in_vm(said: DeviceDriverMissing, info: EngineInfo) -> Findings:
    """The same engines, asked by --gpus."""
    if info.desktop or info.snap:
        yield _elsewhere(info, said.evidence())


def _elsewhere(info: EngineInfo, message: object) -> Finding:
    what = (
        "Docker Desktop, whose engine runs in a virtual machine without the GPU"
        if info.desktop
        else "a snap, which does not see the host's driver"
    )
    label = "operating system" if info.desktop else "docker root dir"
    shown = info.values.get(label) or info.values.get("context") or info.values.get("program", "")
    return Finding(
        title=f"this docker is {what}",
        detail="Installing or configuring the toolkit on the host changes nothing for it.",
        evidence=(message, info.shows(label, shown)),  # type: ignore[arg-type] # the message's evidence
        remedies=(NATIVE,) if info.desktop else (UNSNAP,),
        breaks=(START,),
        shows=(START,),
    )
