"""Why the engine refused to start a container with GPUs: toolkit, runtimes, requirements, image, CDI."""

from __future__ import annotations

import re

from envdoctor.api import Ask, Change, Confidence, Finding, Findings, Platform, Reach, Relaunch, Run, Severity, UpgradeDriver
from envdoctor_checks.container.advice import (
    CONFIGURE_DOCKER,
    GENERATE_CDI,
    INSTALL_TOOLKIT,
    LIBCUDA,
    PROVE,
    START,
    UPGRADE_TOOLKIT,
)
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import (
    CdiSpecs,
    ContainerEngine,
    DockerConfig,
    EngineInfo,
    Engines,
    Ldconfig,
    Mounts,
    ToolkitConfig,
    ToolkitFiles,
    ToolkitRelease,
)
from envdoctor_checks.container.probe_host import release_in
from envdoctor_checks.container.symptoms import (
    CdiUnresolved,
    DeviceDriverMissing,
    DevicesGroupMissing,
    DriverFileExists,
    HostFileMissing,
    LdcacheFailed,
    NamedSymbolNotFound,
    RequirementUnmet,
    RuntimeUnknown,
    ToolkitAbsent,
    ToolkitLibraryMissing,
)
from envdoctor_checks.container.tables import ContainerToolkit
from envdoctor_checks.driver.facts import DriverCuda, DriverPackages, DriverRelease, KernelModule, PciDevices, UserLibraries
from envdoctor_checks.driver.tables import CudaFloors


@check.rule
def toolkit_missing(files: ToolkitFiles, engines: Engines, pci: PciDevices) -> Findings:
    """The engine has no GPU support: nvidia-container-toolkit is not installed or not configured.

    A GPU host may well do without containers: only a note.
    """
    if files.present or not pci.gpus or not any(each.name in ("docker", "containerd") for each in engines.engines):
        return
    names = ", ".join(dict.fromkeys(each.name for each in engines.engines))
    yield Finding(
        title=f"{names} is installed, the NVIDIA container toolkit is not: containers get no GPU",
        severity=Severity.NOTE,
        evidence=(files.shows("toolkit programs", "none"), engines.shows("engines", names)),
        remedies=(INSTALL_TOOLKIT, CONFIGURE_DOCKER),
    )


@toolkit_missing.sign
def _no_device_driver(
    said: DeviceDriverMissing,
    info: EngineInfo | None,
    release: ToolkitRelease | None,
    packages: DriverPackages | None,
    absent: tuple[ToolkitAbsent, ...],
) -> Findings:
    """dockerd registers its driver for GPUs at its start, when it finds the toolkit's hook."""
    if info is not None and (info.desktop or info.snap):
        return
    installed = (release.release if release else release_in(packages)) if not absent else None
    there = f"the toolkit {installed} is installed, and docker does not use it" if installed else "the toolkit is missing"
    yield Finding(
        title=f"docker has no driver for GPUs: {there}",
        confidence=Confidence.CERTAIN if absent or installed else Confidence.LIKELY,
        detail="dockerd looks for NVIDIA's hook when it starts. Without it, every --gpus is refused before the image is touched; "
        "driver, image and CUDA have no part in it.",
        evidence=(said.evidence(), *(each.evidence() for each in absent)),
        remedies=(CONFIGURE_DOCKER,) if installed else (INSTALL_TOOLKIT, CONFIGURE_DOCKER),
        breaks=(START,),
        shows=(START,),
        asks=() if absent or installed else (Ask("nvidia-ctk --version", "whether the toolkit is installed at all"),),
    )


@check.rule
def runtime_not_registered(config: DockerConfig) -> Findings:
    """The nvidia runtime is not registered with the engine."""
    name = config.default_runtime
    if name in (None, "runc", "io.containerd.runc.v2", "crun") or name in config.runtimes:
        return
    yield Finding(
        title=f"docker's default runtime is {name}, and daemon.json registers no such runtime",
        subject=f"runtime:{name}",
        severity=Severity.WARNING,
        evidence=(config.shows("default runtime", name), config.shows("runtimes", ", ".join(config.runtimes) or "none")),
        remedies=(CONFIGURE_DOCKER,),
        breaks=(START,),
    )


@runtime_not_registered.sign
def _engine_knows_none(said: RuntimeUnknown, absent: tuple[ToolkitAbsent, ...], info: EngineInfo | None) -> Findings:
    """--runtime=nvidia, ``runtime: nvidia`` in a compose file, or a default runtime that was never registered."""
    if said.kubernetes:
        return
    podman = "OCI runtime" in said.quote or (info is not None and info.values.get("engine") == "podman")
    snap = info is not None and info.snap
    remedies = [INSTALL_TOOLKIT] if absent else []
    yield Finding(
        title=f"the engine has no runtime named {said.runtime}",
        subject=f"runtime:{said.runtime}",
        confidence=Confidence.CERTAIN if not snap else Confidence.LIKELY,
        detail="The toolkit's package only brings the runtime's program; the engine learns of it from its configuration, at its start.",
        evidence=(said.evidence(), *(each.evidence() for each in absent)),
        remedies=(*remedies, GENERATE_CDI) if podman else (*remedies, CONFIGURE_DOCKER, INSTALL_TOOLKIT),
        breaks=(START,),
        shows=(START,),
    )


@check.rule
def toolkit_too_old(release: ToolkitRelease, table: ContainerToolkit) -> Findings:
    """This nvidia-container-toolkit does not support the host (cgroup v2), or has a known security hole."""
    holes = table.open_holes(release.release)
    if not holes:
        return
    worst = max(holes, key=lambda hole: float(hole.severity or 0))
    newest = max((hole.fixed_in for hole in holes), key=lambda each: [int(part) for part in each.split(".")])
    yield Finding(
        title=f"nvidia-container-toolkit {release.release} has {len(holes)} known security holes; {newest} has none of them",
        severity=Severity.NOTE,
        evidence=(release.shows("toolkit release", release.release), table.cite(worst, worst.cve, worst.hole)),
        remedies=(UPGRADE_TOOLKIT,),
    )


@toolkit_too_old.sign
def _knows_version_1_only(
    said: DevicesGroupMissing, release: ToolkitRelease | None, packages: DriverPackages | None, table: ContainerToolkit
) -> Findings:
    """Before 1.8 the toolkit looked for the devices controller of version 1, which version 2 does not have."""
    known = release.release if release else release_in(packages)
    old = known is not None and not table.has(known, "cgroup-v2")
    yield Finding(
        title=f"nvidia-container-toolkit {known or 'of this host'} does not know control groups of version 2",
        confidence=Confidence.CERTAIN if old else Confidence.LIKELY,
        detail="Newer distributions run version 2 only. libnvidia-container supports it from release 1.8.0 on; an older copy "
        "that an engine brought along fails in the same way.",
        evidence=(said.evidence(), *((release.shows("toolkit release", known),) if release else ())),
        remedies=(
            UPGRADE_TOOLKIT,
            Run(
                title="or boot with control groups of version 1",
                commands=("grubby --update-kernel=ALL --args=systemd.unified_cgroup_hierarchy=0",),
                reach=Reach.HOST,
                needs_root=True,
                needs_restart="machine",
                caveat="On Debian's family: add the argument to GRUB_CMDLINE_LINUX in /etc/default/grub and run update-grub.",
            ),
        ),
        breaks=(START,),
        shows=(START,),
        asks=() if known else (Ask("nvidia-container-cli -V", "which release the engine really runs"),),
    )


@toolkit_too_old.sign
def _too_old_for_wsl(
    said: NamedSymbolNotFound, platform: Platform, release: ToolkitRelease | None, table: ContainerToolkit
) -> Findings:
    """Windows drivers from 555 on need a library under WSL2 that older toolkits do not mount."""
    old = release is not None and not table.has(release.release, "wsl-driver-555")
    if not platform.wsl or (release is not None and not old):
        return
    yield Finding(
        title="the container toolkit is too old for this Windows driver: CUDA answers \"named symbol not found\"",
        confidence=Confidence.CERTAIN if old else Confidence.LIKELY,
        detail="From driver 555 on, CUDA under WSL2 needs libnvdxgdmal.so.1, which the toolkit mounts from 1.14.4 on and Docker "
        "Desktop from 4.31 on.",
        evidence=(said.evidence(),),
        remedies=(
            Change(title="update Docker Desktop to 4.31 or later, where it is Docker Desktop", reach=Reach.HOST),
            UPGRADE_TOOLKIT,
        ),
        breaks=(LIBCUDA,),
        shows=(LIBCUDA,),
    )


@check.rule
def toolkit_ldconfig_path(config: ToolkitConfig, ldconfig: Ldconfig) -> Findings:
    """The toolkit's config names the wrong ldconfig."""
    told = config.settings.get("ldconfig", "").lstrip("@")
    if told == "/sbin/ldconfig.real" and not ldconfig.real and config.source.kind == "file":
        yield _wrong_ldconfig(told, "/sbin/ldconfig", (config.shows("ldconfig in config.toml", told),), Severity.WARNING)


@toolkit_ldconfig_path.sign
def _ldconfig_failed(said: LdcacheFailed, config: ToolkitConfig | None, ldconfig: Ldconfig | None) -> Findings:
    """"open failed": the file is not there. "process failed": a script, which finds no shell in the container."""
    right = "/sbin/ldconfig" if said.program.endswith(".real") else "/sbin/ldconfig.real"
    evidence = [said.evidence()]
    if config is not None and "ldconfig" in config.settings:
        evidence.append(config.shows("ldconfig in config.toml", config.settings["ldconfig"]))
    if ldconfig is not None:
        evidence.append(ldconfig.shows("/sbin/ldconfig", "a shell script" if ldconfig.script else "a program"))
    yield _wrong_ldconfig(said.program, right, tuple(evidence), Severity.ERROR)


def _wrong_ldconfig(told: str, right: str, evidence: tuple, severity: Severity) -> Finding:  # type: ignore[type-arg] # of Evidence
    failed = severity is Severity.ERROR
    return Finding(
        title=f"the container toolkit is told to run {told}, which does not work on this host",
        severity=severity,
        detail="The toolkit runs the host's ldconfig inside the container's root. On Debian's family /sbin/ldconfig is a "
        "script around /sbin/ldconfig.real and the program must be named; elsewhere only /sbin/ldconfig exists.",
        evidence=evidence,
        remedies=(
            Run(
                title=f"name {right} in the toolkit's configuration",
                commands=(f"sed -i 's|^\\s*ldconfig *=.*|ldconfig = \"@{right}\"|' /etc/nvidia-container-runtime/config.toml",),
                reach=Reach.HOST,
                needs_root=True,
                caveat="The @ says that the path is the host's; keep it.",
                verify=PROVE,
            ),
        ),
        breaks=(START,),
        shows=(START,) if failed else (),
    )


@check.rule
def driver_too_old_for_image(said: RequirementUnmet, driver: DriverCuda | None, floors: CudaFloors) -> Findings:
    """The image's NVIDIA_REQUIRE_CUDA is not met by the host's driver."""
    cuda = re.match(r"cuda\s*>=?\s*(\d+\.\d+)", said.condition)
    wanted = cuda[1] if cuda else None
    floor = floors.shipped_driver(wanted) if wanted else None
    speaks = f", the driver speaks CUDA {driver.driver_cuda}" if driver else ""
    remedies = [
        Change(
            title=f"use an image built for an older CUDA{f' (at most {driver.driver_cuda})' if driver else ''}",
            reach=Reach.CONTAINER,
            example=("FROM nvidia/cuda:<CUDA of the driver>-runtime-ubuntu22.04   # docker run with that tag",),
            needs_restart="container",
        ),
        Relaunch(
            adds="-e NVIDIA_DISABLE_REQUIRE=1",
            why="to start the older image's check aside, where the code inside runs on this driver (minor-version compatibility)",
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
def _older_copy(engine: ContainerEngine, libraries: UserLibraries, module: KernelModule, mounts: Mounts) -> Findings:
    """A driver library of another release than the kernel module's can only come from the image."""
    if engine.engine is None or module.release is None:
        return
    stale = [each for each in libraries.libraries if each.kind == "driver" and each.release and each.release != module.release]
    fresh = any(each.release == module.release for each in libraries.libraries)
    if not stale or not fresh:
        return
    yield Finding(
        title=f"the image carries driver files of release {stale[0].release}; the host's driver is {module.release}",
        subject=f"file:{stale[0].path}",
        severity=Severity.WARNING,
        confidence=Confidence.LIKELY,
        detail="Both are there, and the loader's order decides which one CUDA gets.",
        evidence=(libraries.shows("in the image", stale[0].path), module.shows("kernel module", module.release)),
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
        what = f"is of driver {spec.release}, the loaded one is {module.release}" if other and module else f"names {spec.missing[0]}, which is gone"
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
    commands=("docker context use default", "# without docker-ce on the host, install it: https://docs.docker.com/engine/install/"),
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
    said: ToolkitLibraryMissing, info: EngineInfo | None, module: KernelModule | None, release: DriverRelease | None
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
            asks=(Ask("docker info | grep -iE 'context|operating system|root dir'", "where the engine runs"),),
        )


@engine_without_gpu.sign
def _no_driver_in_vm(said: DeviceDriverMissing, info: EngineInfo) -> Findings:
    """The same engines, asked by --gpus."""
    if info.desktop or info.snap:
        yield _elsewhere(info, said.evidence())


def _elsewhere(info: EngineInfo, message: object) -> Finding:
    what = "Docker Desktop, whose engine runs in a virtual machine without the GPU" if info.desktop else "a snap, which does not see the host's driver"
    label = "operating system" if info.desktop else "docker root dir"
    shown = info.values.get(label) or info.values.get("context", "")
    return Finding(
        title=f"this docker is {what}",
        detail="Installing or configuring the toolkit on the host changes nothing for it.",
        evidence=(message, info.shows(label, shown)),  # type: ignore[arg-type] # the message's evidence
        remedies=(NATIVE,) if info.desktop else (UNSNAP,),
        breaks=(START,),
        shows=(START,),
    )


