"""GPUs that a container was not given, was given too many of, or only in part; what stands between it and CUDA."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Outcome,
    Reach,
    Relaunch,
    Run,
    Severity,
    Variables,
)
from envdoctor_checks.container.advice import AVAILABLE, LIBCUDA, NODES, request_gpus
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import ContainerEngine, ImageKind, ImageVariables, Preload
from envdoctor_checks.container.symptoms import (
    CommandMissing,
    DeviceRequested,
    DriverNotDetected,
    GpuLimit,
    Launched,
    NotPrivilegedForVariable,
    PreloadSpoke,
)
from envdoctor_checks.driver.facts import (
    CudaFailed,
    DeviceNodes,
    KernelModule,
    LibcudaNotOpened,
    NoDriverFound,
    SmiWithoutCuda,
    UserLibraries,
)
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.libraries.facts import LibraryNotFound, VersionNotFound
from envdoctor_checks.torch.facts import TorchBuild

NO_DEVICE = 100
"""cudaErrorNoDevice."""
NOTHING = (None, "", "void", "none")
"""Values of NVIDIA_VISIBLE_DEVICES that ask for no GPU."""
JOB = frozenset({"WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"})
"""Variables of a distributed job, as torchrun sets them."""
INTERCEPTORS = {
    "libvgpu": "HAMi",
    "libcuda-control": "Tencent's gpu-manager",
    "libgemhook": "KubeShare",
    "libnvshare": "nvshare",
    "libsoftmig": "softmig",
}
"""Preloaded libraries that share GPUs by standing between programs and CUDA."""


@check.rule
def gpu_not_requested(
    engine: ContainerEngine,
    image: ImageKind,
    variables: ImageVariables,
    nodes: DeviceNodes,
    torch: TorchBuild,
    environment: Variables | None,
    module: KernelModule | None,
    libraries: UserLibraries | None,
) -> Findings:
    """The container was started without GPUs (no --gpus, NVIDIA_VISIBLE_DEVICES unset or void)."""
    on_gpu_host = module is not None and module.release is not None
    if engine.engine is None or nodes.nodes or not torch.torch_cuda or not (image.cuda or on_gpu_host):
        return
    visible = variables.values.get("NVIDIA_VISIBLE_DEVICES")
    mounted = on_gpu_host and libraries is not None and "libcuda.so.1" not in libraries.absent
    yield Finding(
        title="the driver's libraries are in this container, and none of its device files"
        if mounted
        else f"this container{' of a CUDA image' if image.cuda else ''} was started without GPUs",
        severity=_without_gpus(environment, mounted, on_gpu_host, visible),
        confidence=Confidence.LIKELY,
        detail=_who_gives(visible),
        evidence=(
            nodes.shows("/dev/nvidia*", "none"),
            variables.shows("NVIDIA_VISIBLE_DEVICES", visible if visible is not None else "not set"),
            *((image.shows("image's CUDA", image.cuda),) if image.cuda else ()),
            *((module.shows("driver of the host", module.release),) if module and on_gpu_host else ()),
        ),
        remedies=(request_gpus("the engine only gives GPUs that were asked for"),),
        breaks=(NODES,),
    )


def _without_gpus(
    environment: Variables | None, mounted: bool, on_gpu_host: bool, visible: str | None
) -> Severity:
    """Without a GPU such a container works as it should in CI and on the CPU; what was meant for one does not."""
    told = environment.values if environment is not None else {}
    if told.get("CI"):
        return Severity.NOTE
    if mounted or (on_gpu_host and JOB.intersection(told)):
        return Severity.ERROR
    return Severity.WARNING if on_gpu_host or visible in NOTHING or JOB.intersection(told) else Severity.NOTE


def _who_gives(visible: str | None) -> str:
    if visible in NOTHING:
        return "Neither the launch nor the image asked for a GPU."
    return "The image sets NVIDIA_VISIBLE_DEVICES, which only the nvidia runtime reads: another one started it."


@gpu_not_requested.sign
def _started_without(
    launches: tuple[Launched, ...],
    missing: tuple[CommandMissing, ...],
    banners: tuple[DriverNotDetected, ...],
    none_found: tuple[NoDriverFound, ...],
    failed: tuple[CudaFailed, ...],
    libraries: tuple[LibraryNotFound, ...],
) -> Findings:
    """The command as typed has no --gpus, and what it started found no driver."""
    no_device = [each for each in failed if each.code == NO_DEVICE]
    no_libcuda = [each for each in libraries if each.library.startswith(("libcuda.so", "libnvidia-ml.so"))]
    seen = [*missing, *banners, *none_found, *no_device, *no_libcuda]
    plain = [each for each in launches if not each.gpus]
    if not seen or (not plain and not banners) or any(each.gpus for each in launches):
        return
    sure = bool(missing or banners) and bool(plain)
    yield Finding(
        title="the container was started without GPUs: nothing of the driver was mounted",
        confidence=Confidence.CERTAIN if sure else Confidence.LIKELY,
        detail="nvidia-smi and libcuda are no part of an image; the engine mounts the host's when GPUs are asked for.",
        evidence=(
            *(each.evidence() for each in seen[:2]),
            *(each.evidence("as started") for each in plain[:1]),
        ),
        remedies=(request_gpus("the engine only gives GPUs that were asked for"),),
        breaks=(NODES, LIBCUDA),
        shows=(AVAILABLE,),
    )


NARROW = (
    Relaunch(
        adds="-e NVIDIA_VISIBLE_DEVICES=void",
        why="in pods and jobs that must see no GPU; a GPU that the scheduler gives overrides it",
    ),
    Change(
        title="take NVIDIA_VISIBLE_DEVICES=all out of the image",
        reach=Reach.CONTAINER,
        example=("ENV NVIDIA_VISIBLE_DEVICES=void   # Dockerfile",),
        needs_restart="container",
    ),
    Run(
        title="or make the toolkit ignore the variable in unprivileged containers, and hand GPUs over as mounts",
        commands=(
            "nvidia-ctk config --set accept-nvidia-visible-devices-envvar-when-unprivileged=false --in-place",
            "nvidia-ctk config --set accept-nvidia-visible-devices-as-volume-mounts=true --in-place",
        ),
        reach=Reach.HOST,
        needs_root=True,
        caveat="The device plugin must use the strategy volume-mounts (or CDI) then.",
    ),
)


@check.rule
def visible_devices_from_image(
    engine: ContainerEngine, variables: ImageVariables, nodes: DeviceNodes
) -> Findings:
    """The image itself sets NVIDIA_VISIBLE_DEVICES=all and defeats the scheduler's choice."""
    if (
        engine.engine == "kubernetes"
        and variables.values.get("NVIDIA_VISIBLE_DEVICES") == "all"
        and len(nodes.gpus) > 1
    ):
        yield Finding(
            title=f"NVIDIA_VISIBLE_DEVICES=all in a pod: it sees all {len(nodes.gpus)} GPUs of the node, whatever it was given",
            subject="variable:NVIDIA_VISIBLE_DEVICES",
            severity=Severity.NOTE,
            confidence=Confidence.LIKELY,
            evidence=(variables.shows("NVIDIA_VISIBLE_DEVICES", "all"), nodes.shows("GPUs", len(nodes.gpus))),
            remedies=NARROW,
        )


@visible_devices_from_image.sign
def _more_than_asked(limits: tuple[GpuLimit, ...], variables: ImageVariables, gpus: GpuDevices) -> Findings:
    """The pod asks for fewer GPUs than it sees."""
    asked = min((each.count for each in limits), default=None)
    seen = len(gpus.devices)
    if asked is None or asked >= seen or variables.values.get("NVIDIA_VISIBLE_DEVICES") != "all":
        return
    yield Finding(
        title=f"the pod asked for {asked} GPU{'s' if asked != 1 else ''} and sees {seen}: NVIDIA_VISIBLE_DEVICES=all decides",
        subject="variable:NVIDIA_VISIBLE_DEVICES",
        severity=Severity.WARNING,
        confidence=Confidence.LIKELY,
        detail="The toolkit obeys the variable wherever it comes from. What the image sets wins where the device plugin sets nothing, "
        "and processes then share GPUs that the scheduler gave to others.",
        evidence=(
            limits[0].evidence("request"),
            variables.shows("NVIDIA_VISIBLE_DEVICES", "all"),
            gpus.shows("GPUs seen", seen),
        ),
        remedies=NARROW,
    )


@visible_devices_from_image.sign
def _refused(said: NotPrivilegedForVariable) -> Findings:
    """The host does not accept the variable, and the image sets it."""
    yield Finding(
        title="the image sets NVIDIA_VISIBLE_DEVICES, which this host accepts from privileged containers only",
        subject="variable:NVIDIA_VISIBLE_DEVICES",
        evidence=(said.evidence(),),
        remedies=NARROW[:2],
        breaks=(Outcome("container-start"),),
        shows=(Outcome("container-start"),),
    )


ADD_COMPUTE = (
    Relaunch(
        adds="-e NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        why="compute brings libcuda, utility nvidia-smi",
        caveat="In the image: ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility.",
    ),
    Change(
        title="include compute in a device request, or name gpu alone",
        reach=Reach.CONTAINER,
        example=(
            "capabilities: [gpu]   # in compose.yaml; or [gpu, compute, utility]",
            "docker run --gpus 'all,\"capabilities=compute,utility\"' ...",
        ),
        needs_restart="container",
    ),
)
DRIVER_CAPABILITIES = frozenset(
    {"compute", "utility", "graphics", "video", "display", "compat32", "ngx", "all"}
)


def _lacks_compute(names: frozenset[str]) -> bool:
    told = names & DRIVER_CAPABILITIES
    return bool(told) and not told & {"compute", "all"}


@check.rule
def capabilities_without_compute(
    variables: ImageVariables, libraries: UserLibraries, nodes: DeviceNodes
) -> Findings:
    """NVIDIA_DRIVER_CAPABILITIES lacks compute, so libcuda is not mounted."""
    told = variables.values.get("NVIDIA_DRIVER_CAPABILITIES", "")
    if not _lacks_compute(frozenset(told.split(","))) or libraries.of("libcuda.so.1") or not nodes.gpus:
        return
    yield Finding(
        title=f"NVIDIA_DRIVER_CAPABILITIES={told}: without compute the container gets no libcuda",
        subject="variable:NVIDIA_DRIVER_CAPABILITIES",
        evidence=(
            variables.shows("NVIDIA_DRIVER_CAPABILITIES", told),
            libraries.shows("libcuda.so.1", "nowhere"),
        ),
        remedies=ADD_COMPUTE,
        breaks=(LIBCUDA,),
    )


@capabilities_without_compute.sign
def _utility_only(
    requests: tuple[DeviceRequested, ...],
    variables: ImageVariables | None,
    libraries: tuple[LibraryNotFound, ...],
    opened: tuple[LibcudaNotOpened, ...],
    smi: tuple[SmiWithoutCuda, ...],
    none_found: tuple[NoDriverFound, ...],
) -> Findings:
    """A request for some capabilities without compute, and a program that found no libcuda."""
    told = variables.values.get("NVIDIA_DRIVER_CAPABILITIES", "") if variables else ""
    lacking = [each for each in requests if _lacks_compute(frozenset(each.capabilities))]
    by_variable = _lacks_compute(frozenset(told.split(",")))
    missing = [each for each in libraries if each.library.startswith("libcuda.so")]
    seen = [*missing, *opened, *smi, *none_found]
    if not (lacking or by_variable) or not seen:
        return
    evidence: list[Evidence] = [seen[0].evidence()]
    if variables is not None and by_variable:
        evidence.append(variables.shows("NVIDIA_DRIVER_CAPABILITIES", told))
    evidence += [each.evidence("device request") for each in lacking[:1]]
    yield Finding(
        title="the container was given the GPU without the capability compute, so libcuda was not mounted",
        subject="variable:NVIDIA_DRIVER_CAPABILITIES",
        detail="The driver's files come in parts. utility brings nvidia-smi and libnvidia-ml, which then work, with no CUDA version "
        "to show; only compute brings libcuda.",
        evidence=tuple(evidence),
        remedies=ADD_COMPUTE,
        breaks=(LIBCUDA,),
        shows=(LIBCUDA,),
    )


@check.rule
def ld_preload_interceptor(preload: Preload, failed: tuple[CudaFailed, ...]) -> Findings:
    """An LD_PRELOADed vGPU library intercepts CUDA."""
    for library in preload.libraries:
        name = library.rpartition("/")[2]
        maker = next((maker for stem, maker in INTERCEPTORS.items() if name.startswith(stem)), None)
        if maker is None:
            continue
        yield Finding(
            title=f"{library} ({maker}) stands between every program and CUDA",
            subject=f"library:{name}",
            severity=Severity.WARNING if failed else Severity.NOTE,
            confidence=Confidence.POSSIBLE,
            detail="It answers CUDA and NVML calls itself, to limit memory and time; what it does not know of a newer driver fails.",
            evidence=(preload.shows("preloaded", library),),
            remedies=(_without(),),
        )


@ld_preload_interceptor.sign
def _interceptor_failed(
    said: PreloadSpoke, failed: tuple[CudaFailed, ...], others: tuple[PreloadSpoke, ...]
) -> Findings:
    """The library, or the loader about it, tells of a failure."""
    if not said.failed:
        if failed and not any(each.failed for each in others):
            yield Finding(
                title=f"{said.library} intercepts CUDA here, and CUDA failed",
                subject=f"library:{said.library.rpartition('/')[2]}",
                severity=Severity.WARNING,
                confidence=Confidence.POSSIBLE,
                evidence=(said.evidence(),),
                remedies=(_without(),),
                breaks=(AVAILABLE,),
                asks=(
                    Ask(
                        "CUDA_DISABLE_CONTROL=true python -c 'import torch; torch.cuda.init()'",
                        "whether CUDA works without it",
                    ),
                ),
            )
        return
    yield Finding(
        title=f"the preloaded vGPU library {said.library} failed",
        subject=f"library:{said.library.rpartition('/')[2]}",
        confidence=Confidence.LIKELY,
        detail="The cluster preloads it into every program to share GPUs. It stands between the program and CUDA, and so may "
        "refuse what CUDA would give, or break with a driver that it does not know.",
        evidence=(said.evidence(),),
        remedies=(_without(),),
        breaks=(AVAILABLE,),
        shows=(AVAILABLE,),
    )


def _without() -> Change:
    return Change(
        title="run once without the interceptor, then update it or ask the cluster's owner for more vGPU memory",
        reach=Reach.CONTAINER,
        example=(
            "CUDA_DISABLE_CONTROL=true python ...   # HAMi; in the pod's env",
            "env -u LD_PRELOAD python ...           # where LD_PRELOAD names it, not /etc/ld.so.preload",
        ),
        needs_restart="process",
        caveat="It is there to keep programs within their share: do not leave it out on a GPU that others use.",
    )


@check.rule
def apptainer_host_libs_newer(said: VersionNotFound) -> Findings:
    """Apptainer --nv brings host libraries that need a newer glibc than the container's."""
    if said.wanted_by is None or "/.singularity.d/libs/" not in said.wanted_by:
        return
    library = said.wanted_by.rpartition("/")[2]
    yield Finding(
        title=f"the host's {library}, which --nv brought in, needs {said.version.replace('_', ' ')}; the container's glibc is older",
        subject=f"library:{library}",
        detail="--nv mounts the libraries of nvliblist.conf from the host into /.singularity.d/libs. The driver's own are built for "
        "very old systems; the distribution's in that list (libGL, libEGL, libGLX, libGLdispatch) are built for the host's.",
        evidence=(said.evidence(),),
        remedies=(
            Change(
                title="rebuild the image on a newer base image, whose glibc is at least the host's",
                reach=Reach.CONTAINER,
                example=("Bootstrap: docker", "From: ubuntu:24.04"),
                needs_restart="container",
            ),
            Change(
                title="or take the distribution's own libraries out of nvliblist.conf",
                reach=Reach.HOST,
                example=(
                    f"# in /etc/apptainer/nvliblist.conf: comment the line of {library}, libGL.so, libEGL.so, libGLX.so, libGLdispatch.so",
                ),
            ),
            Run(
                title="or let nvidia-container-cli choose the files",
                commands=("apptainer exec --nvccli image.sif ...",),
                reach=Reach.CONTAINER,
                caveat="It needs libnvidia-container on the host, and --writable-tmpfs or an overlay.",
            ),
        ),
        breaks=(Outcome("library", library), Outcome("import")),
        shows=(Outcome("library", library),),
    )
