"""GPUs that a container was not given, was given too many of, or only in part."""

from __future__ import annotations

from envdoctor.api import (
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
from envdoctor_checks.container.facts import ContainerEngine, ImageKind, ImageVariables
from envdoctor_checks.container.symptoms import (
    CommandMissing,
    DeviceRequested,
    DriverNotDetected,
    GpuLimit,
    Launched,
    NotPrivilegedForVariable,
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
from envdoctor_checks.libraries.facts import LibraryNotFound
from envdoctor_checks.torch.facts import TorchBuild

NO_DEVICE = 100
"""cudaErrorNoDevice."""
NOTHING = (None, "", "void", "none")
"""Values of NVIDIA_VISIBLE_DEVICES that ask for no GPU."""
JOB = frozenset({"WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"})
"""Variables of a distributed job, as torchrun sets them."""


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
    return (
        "The image sets NVIDIA_VISIBLE_DEVICES, which only the nvidia runtime reads: another one started it."
    )


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


@check.rule
def capabilities_without_compute(
    variables: ImageVariables, libraries: UserLibraries, nodes: DeviceNodes
) -> Findings:
    """NVIDIA_DRIVER_CAPABILITIES lacks compute, so libcuda is not mounted."""
    told = variables.values.get("NVIDIA_DRIVER_CAPABILITIES", "")
    if not variables.lack_compute or libraries.of("libcuda.so.1") or not nodes.gpus:
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
    lacking = [each for each in requests if each.lacks_compute]
    by_variable = variables is not None and variables.lack_compute
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
