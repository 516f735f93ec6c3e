"""How NCCL reaches the network: GPUDirect RDMA and network plugins."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    Reach,
    Remedy,
    Run,
    Severity,
    UnsetVariable,
    Variables,
)
from envdoctor.tables import compare_releases
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    CollectiveFailed,
    GdrDisabled,
    MemoryPeersMissing,
    NcclLibrary,
    NcclSettings,
    NetPlugin,
    NetworkNotFound,
    PeerMemory,
    PluginNotLoaded,
    RdmaDevices,
    SettingSaid,
    VersionSaid,
)
from envdoctor_checks.nccl.reasoning import (
    COLLECTIVE,
    RDMA,
    quoted,
    setting_of,
    several_nodes,
    several_processes,
    use,
)
from envdoctor_checks.torch.facts import TorchBuild

PEERMEM = "2.23.4"
PEERMEM_DETAIL = (
    "Releases of NCCL before 2.23.4 recognise nvidia-peermem by /sys/kernel/mm/memory_peers, which only NVIDIA's own RDMA stack "
    "(MLNX_OFED) makes. With the kernel's own RDMA drivers the module works and that directory is missing, so they switch "
    "GPUDirect RDMA off, and all data goes through the host's memory."
)


def _newer_nccl(torch: TorchBuild | None) -> tuple[Remedy, ...]:
    """A newer torch, which brings its own NCCL; that wheel alone, where torch's CUDA tells which one it is."""
    major = (torch.torch_cuda or "").partition(".")[0] if torch else ""
    verify = "NCCL_DEBUG=INFO: 'GPU Direct RDMA Enabled', '/GDRDMA' in the channels"
    newer = Install(
        requirements=("torch>=2.7",),
        build="cu126" if major == "11" else "",
        why="it brings NCCL 2.26, which asks for the module itself"
        + (" (there is no such NCCL for CUDA 11)" if major == "11" else ""),
        caveat="A program that is linked to the system's libnccl needs that one updated instead.",
        verify=verify,
    )
    if not major or major == "11":
        return (newer,)
    alone = Install(
        requirements=(f"nvidia-nccl-cu{major}>={PEERMEM}",),
        why="or a newer NCCL alone: it asks for the module itself",
        caveat="torch pins its NCCL, so pip reports a conflict, and the next installation of torch brings the old one back.",
        verify=verify,
    )
    return (newer, alone)


@check.rule
def too_old_for_peermem(
    library: NcclLibrary,
    peers: PeerMemory,
    devices: RdmaDevices,
    variables: Variables | None,
    torch: TorchBuild | None,
) -> Findings:
    """This NCCL does not recognise nvidia-peermem without NVIDIA's RDMA stack, and does without GPUDirect RDMA."""
    if library.version is None or compare_releases(library.version, PEERMEM) >= 0 or not devices.active:
        return
    if "nvidia_peermem" not in peers.modules or peers.registered is not False:
        return
    used = several_nodes(variables)
    yield Finding(
        title=f"NCCL {library.version} does not see nvidia-peermem: no GPUDirect RDMA",
        severity=Severity.WARNING if used else Severity.NOTE,
        confidence=Confidence.LIKELY,
        detail=PEERMEM_DETAIL,
        evidence=(
            library.shows("NCCL", library.version),
            peers.shows("memory_peers", "not registered"),
            *use(variables),
        ),
        remedies=_newer_nccl(torch),
        breaks=(RDMA,) if used else (),
    )


@too_old_for_peermem.sign
def _gdr_disabled(
    said: tuple[GdrDisabled, ...],
    versions: tuple[VersionSaid, ...],
    absent: tuple[MemoryPeersMissing, ...],
    peers: PeerMemory | None,
    library: NcclLibrary | None,
    torch: TorchBuild | None,
) -> Findings:
    """NCCL said that it does without GPUDirect RDMA."""
    version = versions[0].version if versions else library.version if library else None
    if not said or version is None or compare_releases(version.partition("+")[0], PEERMEM) >= 0:
        return
    loaded = peers is not None and "nvidia_peermem" in peers.modules
    if peers is not None and not loaded and not absent:
        return  # then the module is what is missing
    yield Finding(
        title=f"NCCL {version} does not recognise nvidia-peermem here, and does without GPUDirect RDMA",
        confidence=Confidence.CERTAIN
        if loaded and absent
        else Confidence.LIKELY
        if loaded or absent
        else Confidence.POSSIBLE,
        detail=PEERMEM_DETAIL,
        evidence=(*quoted(said[0], *versions[:1], *absent[:1]), *_loaded(peers)),
        remedies=_newer_nccl(torch),
        breaks=(RDMA,),
        shows=(RDMA,),
        asks=()
        if peers
        else (Ask("lsmod | grep peermem; ls /sys/kernel/mm/memory_peers", "whether the module is loaded"),),
    )


def _loaded(peers: PeerMemory | None) -> tuple[Evidence, ...]:
    return (peers.shows("loaded modules", ", ".join(peers.modules) or "no peermem"),) if peers else ()


PLUGIN = "NCCL_NET_PLUGIN"
PLUGIN_DETAIL = (
    "A network plugin (for EFA, Slingshot, Google's or Azure's fabrics) is a library that NCCL loads. If the loader cannot open "
    "it, or one that it needs, NCCL goes on over plain sockets, at a fraction of the speed, or gives up if NCCL_NET asks for it."
)
OWN = ("libnccl-net.so", "libnccl-net")
PACKAGES = {"libhwloc.so.15": "libhwloc15", "libhwloc.so.5": "libhwloc5", "libibverbs.so.1": "libibverbs1"}
"""Debian's and Ubuntu's packages."""


def _mend(library: str | None, plugin: str) -> tuple[Remedy, ...]:
    unset = UnsetVariable(name=PLUGIN, why="or do without the plugin: NCCL's own transports")
    if library is None:
        return (
            Run(
                title="see what the loader misses",
                commands=(f"ldd {plugin} | grep 'not found'",),
                reach=Reach.SHELL,
                verify=f"LD_LIBRARY_PATH=$LD_LIBRARY_PATH ldd {plugin}",
            ),
            Change(
                title="install the plugin of the fabric in this image, or name its file by its full path",
                reach=Reach.CONTAINER,
                example=(f"{PLUGIN}=/opt/amazon/ofi-nccl/lib/libnccl-net.so",),
            ),
            unset,
        )
    package = PACKAGES.get(library)
    install = (
        Run(
            title=f"install {library} in the image",
            commands=(f"apt-get update && apt-get install -y {package}",),
            reach=Reach.CONTAINER,
            needs_root=True,
            needs_restart="process",
            verify=f"ldd {plugin} | grep 'not found'",
        )
        if package
        else Change(
            title=f"install {library}, or add its folder to LD_LIBRARY_PATH",
            reach=Reach.CONTAINER,
            needs_restart="process",
            verify=f"ldd {plugin} | grep 'not found'",
        )
    )
    return (install, unset)


@check.rule
def net_plugin_broken(plugin: NetPlugin, variables: Variables | None) -> Findings:
    """The network plugin that NCCL is told to use cannot be loaded."""
    if plugin.path is not None and not plugin.missing:
        return
    used = several_processes(variables)
    missing = plugin.missing[0] if plugin.missing else None
    yield Finding(
        subject=f"variable:{PLUGIN}",
        title=f"the plugin {plugin.name} needs {missing}, which is not there"
        if missing
        else f"{PLUGIN}={plugin.name} leads to no file",
        severity=Severity.WARNING if used else Severity.NOTE,
        confidence=Confidence.LIKELY,
        detail=PLUGIN_DETAIL,
        evidence=(plugin.shows(PLUGIN, plugin.path or plugin.name), *use(variables)),
        remedies=_mend(missing, plugin.path or plugin.name),
        breaks=(RDMA,) if used else (),
    )


@net_plugin_broken.sign
def _not_loaded(
    said: tuple[PluginNotLoaded, ...],
    unknown: tuple[NetworkNotFound, ...],
    told: tuple[SettingSaid, ...],
    settings: NcclSettings | None,
    failed: tuple[CollectiveFailed, ...],
) -> Findings:
    """NCCL could not load its plugin, or does not know the network."""
    wanted = setting_of(PLUGIN, settings, told) or setting_of("NCCL_NET", settings, told)
    telling = [
        each
        for each in said
        if each.library and each.library not in (each.plugin, each.plugin.rpartition("/")[2])
    ] or [each for each in said if wanted or each.plugin not in OWN]
    if not telling and not unknown:
        return  # without a plugin NCCL says that it found none, which is usual
    library = telling[0].library if telling else None
    if telling and library == telling[0].plugin.rpartition("/")[2]:
        library = None
    network = setting_of("NCCL_NET", settings, told)
    name = telling[0].plugin if telling else unknown[0].network or (network.value if network else None)
    yield Finding(
        subject=f"variable:{PLUGIN}",
        title=f"NCCL could not load its network plugin: {library} is missing"
        if library
        else f"NCCL could not use its network plugin {name}"
        if telling
        else f"NCCL_NET={name}: no plugin brings that network"
        if name
        else "NCCL could not start any network: NCCL_NET names one that no plugin brings, or NCCL_IB_HCA and the like leave none",
        detail=PLUGIN_DETAIL,
        evidence=quoted(*telling[:1], *unknown[:1]),
        remedies=_mend(library, name)
        if telling and name
        else (
            *_mend(None, "libnccl-net.so"),
            UnsetVariable(name="NCCL_NET", why="let NCCL choose the network"),
        ),
        breaks=(RDMA,),
        shows=(RDMA, COLLECTIVE) if failed else (RDMA,),
    )
