"""The NVIDIA container toolkit and its registration with the engine."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Finding,
    Findings,
    Platform,
    Reach,
    Run,
    Severity,
)
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
from envdoctor_checks.container.facts_host import (
    DockerConfig,
    EngineInfo,
    Engines,
    Ldconfig,
    ToolkitConfig,
    ToolkitFiles,
    ToolkitRelease,
)
from envdoctor_checks.container.probe_host import release_in
from envdoctor_checks.container.symptoms import (
    DeviceDriverMissing,
    DevicesGroupMissing,
    LdcacheFailed,
    NamedSymbolNotFound,
    RuntimeUnknown,
    ToolkitAbsent,
)
from envdoctor_checks.container.tables import ContainerToolkit
from envdoctor_checks.driver.facts import (
    DriverPackages,
    PciDevices,
)


@check.rule
def toolkit_missing(files: ToolkitFiles, engines: Engines, pci: PciDevices) -> Findings:
    """The engine has no GPU support: nvidia-container-toolkit is not installed or not configured.

    A GPU host may well do without containers: only a note.
    """
    if (
        files.present
        or not pci.gpus
        or not any(each.name in ("docker", "containerd") for each in engines.engines)
    ):
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
    there = (
        f"the toolkit {installed} is installed, and docker does not use it"
        if installed
        else "the toolkit is missing"
    )
    yield Finding(
        title=f"docker has no driver for GPUs: {there}",
        confidence=Confidence.CERTAIN if absent or installed else Confidence.LIKELY,
        detail="dockerd looks for NVIDIA's hook when it starts. Without it, every --gpus is refused before the image is touched; "
        "driver, image and CUDA have no part in it.",
        evidence=(said.evidence(), *(each.evidence() for each in absent)),
        remedies=(CONFIGURE_DOCKER,) if installed else (INSTALL_TOOLKIT, CONFIGURE_DOCKER),
        breaks=(START,),
        shows=(START,),
        asks=()
        if absent or installed
        else (Ask("nvidia-ctk --version", "whether the toolkit is installed at all"),),
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
        evidence=(
            config.shows("default runtime", name),
            config.shows("runtimes", ", ".join(config.runtimes) or "none"),
        ),
        remedies=(CONFIGURE_DOCKER,),
        breaks=(START,),
    )


@runtime_not_registered.sign
def _engine_knows_none(
    said: RuntimeUnknown, absent: tuple[ToolkitAbsent, ...], info: EngineInfo | None
) -> Findings:
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
        evidence=(
            release.shows("toolkit release", release.release),
            table.cite(worst, worst.cve, worst.hole),
        ),
        remedies=(UPGRADE_TOOLKIT,),
    )


@toolkit_too_old.sign
def _knows_version_1_only(
    said: DevicesGroupMissing,
    release: ToolkitRelease | None,
    packages: DriverPackages | None,
    table: ContainerToolkit,
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
        title='the container toolkit is too old for this Windows driver: CUDA answers "named symbol not found"',
        confidence=Confidence.CERTAIN if old else Confidence.LIKELY,
        detail="From driver 555 on, CUDA under WSL2 needs libnvdxgdmal.so.1, which the toolkit mounts from 1.14.4 on and Docker "
        "Desktop from 4.31 on.",
        evidence=(said.evidence(),),
        remedies=(
            Change(
                title="update Docker Desktop to 4.31 or later, where it is Docker Desktop", reach=Reach.HOST
            ),
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
        yield _wrong_ldconfig(
            told, "/sbin/ldconfig", (config.shows("ldconfig in config.toml", told),), Severity.WARNING
        )


@toolkit_ldconfig_path.sign
def _ldconfig_failed(
    said: LdcacheFailed, config: ToolkitConfig | None, ldconfig: Ldconfig | None
) -> Findings:
    """ "open failed": the file is not there. "process failed": a script, which finds no shell in the container."""
    right = "/sbin/ldconfig" if said.program.endswith(".real") else "/sbin/ldconfig.real"
    evidence = [said.evidence()]
    if config is not None and "ldconfig" in config.settings:
        evidence.append(config.shows("ldconfig in config.toml", config.settings["ldconfig"]))
    if ldconfig is not None:
        evidence.append(
            ldconfig.shows("/sbin/ldconfig", "a shell script" if ldconfig.script else "a program")
        )
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
                commands=(
                    f"sed -i 's|^\\s*ldconfig *=.*|ldconfig = \"@{right}\"|' /etc/nvidia-container-runtime/config.toml",
                ),
                reach=Reach.HOST,
                needs_root=True,
                caveat="The @ says that the path is the host's; keep it.",
                verify=PROVE,
            ),
        ),
        breaks=(START,),
        shows=(START,) if failed else (),
    )
