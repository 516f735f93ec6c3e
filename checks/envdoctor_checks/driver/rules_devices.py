"""Rules about device files, the unified-memory module, and calls that do not return."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Confidence,
    Finding,
    Findings,
    NoFix,
    Reach,
    Relaunch,
    Remedy,
    Run,
    Severity,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    CallCrashed,
    CallHung,
    CudaFailed,
    CudaInit,
    DeviceNode,
    DeviceNodeFailed,
    DeviceNodes,
    KernelModule,
    LoadedModules,
    NvmlFailed,
    NvmlInit,
    Resumed,
)
from envdoctor_checks.driver.reasoning import (
    CUDA,
    NODES,
    NVML,
    REBOOT,
    contained,
    is_absent,
    is_loaded,
    quoted,
)
from envdoctor_checks.driver.symptoms import ContainerSeen
from envdoctor_checks.torch.facts import TorchCuda

UVM = "/dev/nvidia-uvm"
MAKE_NODES = Run(
    title="load the unified-memory module and make the device files",
    commands=("modprobe nvidia-uvm", "nvidia-modprobe -u -c=0", "nvidia-smi -L"),
    reach=Reach.HOST,
    needs_root=True,
    verify="ls -l /dev/nvidia*",
)
KEEP_NODES = Run(
    title="have them made at every start",
    commands=(
        "sh -c 'echo nvidia-uvm > /etc/modules-load.d/nvidia-uvm.conf'",
        "systemctl enable --now nvidia-persistenced",
    ),
    reach=Reach.HOST,
    needs_root=True,
)
AGAIN = Relaunch(why="the engine takes the device files that are there when a container is created")


@check.rule
def device_nodes_missing(
    nodes: DeviceNodes,
    module: KernelModule,
    init: CudaInit | None,
    cuda: TorchCuda | None,
    around: Surroundings | None,
) -> Findings:
    """Device files of the driver do not exist, above all /dev/nvidia-uvm."""
    if module.release is None or not nodes.absent or (init is not None and init.code == 0):
        return
    if not nodes.nodes and contained(around):
        return  # no device at all in a container: it was not given any, which is the container's matter
    failed = (init is not None and init.code > 0) or (cuda is not None and not cuda.available)
    if not failed:
        return  # NVIDIA's libraries make them when they are first needed
    yield Finding(
        subject=f"path:{nodes.absent[0]}",
        title=f"{' and '.join(nodes.absent)} {'do' if len(nodes.absent) > 1 else 'does'} not exist, so CUDA cannot start",
        detail="The driver is reached through device files. They are made by udev, nvidia-persistenced or the setuid program "
        "nvidia-modprobe; nvidia-smi works without nvidia-uvm, CUDA does not.",
        evidence=(
            nodes.shows("missing", ", ".join(nodes.absent)),
            nodes.shows("there", ", ".join(each.path for each in nodes.nodes) or "none"),
            *((init.shows("cuInit", f"{init.code} {init.name}"),) if init else ()),
        ),
        remedies=(MAKE_NODES, KEEP_NODES, *((AGAIN,) if contained(around) else ())),
        breaks=(NODES,),
        shows=(CUDA,),
    )


@device_nodes_missing.sign
def _said_without_uvm(
    cuda: tuple[CudaFailed, ...],
    failed: tuple[DeviceNodeFailed, ...],
    seen: tuple[ContainerSeen, ...],
    nodes: DeviceNodes | None,
    loaded: LoadedModules | None,
) -> Findings:
    """CUDA's unknown error, where the listing of devices or modules lacks unified memory."""
    unknown = [each for each in cuda if each.code in (3, 100, 999)]
    missing = [each for each in failed if each.problem == "missing" and "nvidia" in each.path]
    node_gone = nodes is not None and UVM in nodes.absent and bool(nodes.nodes)
    module_gone = is_loaded(loaded, "nvidia") and is_absent(loaded, "nvidia_uvm")
    if not (unknown and (node_gone or module_gone or missing)):
        return
    if nodes is not None and nodes.node(UVM) is not None:
        return
    path = UVM if node_gone or module_gone else missing[0].path
    sure = node_gone or module_gone
    evidence = quoted(*unknown[:1], *missing[:1])
    if nodes is not None and nodes.nodes:
        evidence += (nodes.shows("device files", ", ".join(each.path for each in nodes.nodes)),)
    if module_gone and loaded is not None:
        evidence += (loaded.shows("nvidia_uvm", "not loaded"),)
    yield Finding(
        subject=f"path:{path}",
        title=f"{path} does not exist, so CUDA cannot start though nvidia-smi works",
        confidence=Confidence.CERTAIN if sure else Confidence.LIKELY,
        detail="The module nvidia_uvm and its device file are loaded and made when the first CUDA program of the host runs as "
        "root or through nvidia-modprobe, or by nvidia-persistenced. Right after a start, a container or a user without "
        "that program finds neither.",
        evidence=evidence,
        remedies=(MAKE_NODES, KEEP_NODES, *((AGAIN,) if seen else ())),
        breaks=(NODES,),
        shows=(CUDA,),
    )


def _closed(nodes: DeviceNodes) -> tuple[DeviceNode, ...]:
    """The device files that CUDA needs and this user may not open."""
    needed = ("/dev/nvidiactl", UVM, *(gpu.path for gpu in nodes.gpus))
    return tuple(node for node in nodes.nodes if node.path in needed and node.openable is False)


def _open_to(node: DeviceNode | None) -> tuple[Remedy, ...]:
    """Join the group of the device file, or have the module make them for everybody."""
    remedies: list[Remedy] = []
    if (
        node is not None
        and node.group not in (None, "root", "0")
        and (node.mode or "").endswith(("60", "66"))
    ):
        remedies.append(
            Run(
                title=f"join the group {node.group}, which may open the GPU's device files",
                commands=(
                    f"usermod -aG {node.group} $USER",
                    "# then log in again, or: newgrp " + str(node.group),
                ),
                reach=Reach.HOST,
                needs_root=True,
                needs_restart="session",
                verify="id -nG",
            )
        )
    remedies.append(
        Run(
            title="or let the module make the device files for everybody (its default)",
            commands=(
                "grep -rn NVreg_DeviceFile /etc/modprobe.d  # what restricts them now",
                "chmod 0666 /dev/nvidiactl /dev/nvidia[0-9]* /dev/nvidia-uvm*",
            ),
            reach=Reach.HOST,
            needs_root=True,
            caveat="On a shared machine the restriction may be on purpose: ask whoever set NVreg_DeviceFileMode or the udev rule.",
        )
    )
    return tuple(remedies)


@check.rule
def device_nodes_permission(
    nodes: DeviceNodes, nvml: NvmlInit | None, init: CudaInit | None, around: Surroundings | None
) -> Findings:
    """This user may not open the driver's device files."""
    closed = _closed(nodes)
    works = init is not None and init.code == 0
    if not closed or works or (init is None and nvml is None and contained(around)):
        return
    first = closed[0]
    yield Finding(
        subject=f"path:{first.path}",
        title=f"this user may not open {', '.join(node.path for node in closed)} (mode {first.mode}, "
        f"{first.owner}:{first.group})",
        confidence=Confidence.CERTAIN if init is not None or nvml is not None else Confidence.LIKELY,
        evidence=(
            *(nodes.shows(node.path, f"mode {node.mode}, {node.owner}:{node.group}") for node in closed[:3]),
            *((nvml.shows("nvmlInit", nvml.name),) if nvml else ()),
            *((init.shows("cuInit", f"{init.code} {init.name}"),) if init else ()),
        ),
        detail="CUDA opens nvidiactl, nvidia-uvm and a file per GPU for reading and writing.",
        remedies=_open_to(first),
        breaks=(NODES,),
        shows=(CUDA,) if init is not None and init.code != 0 else (),
    )


@device_nodes_permission.sign
def _said_no_permission(
    nvml: tuple[NvmlFailed, ...],
    failed: tuple[DeviceNodeFailed, ...],
    seen: tuple[ContainerSeen, ...],
    nodes: DeviceNodes | None,
) -> Findings:
    """NVML's ``Insufficient Permissions``, or a file that could not be opened."""
    refused = [each for each in nvml if each.name == "NVML_ERROR_NO_PERMISSION"]
    denied = [each for each in failed if each.problem == "permission"]
    restricted = [each for each in nodes.nodes if each.mode and each.openable is not True] if nodes else []
    if not refused and not denied:
        return
    if nodes is not None and nodes.nodes and not restricted:
        return  # everybody may open them: a cgroup, SELinux or a user namespace forbids it
    yield Finding(
        subject=f"path:{(restricted or [DeviceNode('/dev/nvidiactl')])[0].path}",
        title="this user may not open the driver's device files (/dev/nvidia*)",
        confidence=Confidence.POSSIBLE if seen else Confidence.CERTAIN if restricted else Confidence.LIKELY,
        detail="CUDA and NVML open nvidiactl, nvidia-uvm and a file per GPU for reading and writing.",
        evidence=quoted(*refused[:1], *denied[:1])
        + tuple(
            nodes.shows(each.path, f"mode {each.mode}, {each.owner}:{each.group}")
            for each in restricted[:3]
            if nodes
        ),
        remedies=_open_to(restricted[0] if restricted else None),
        breaks=(NODES,),
        shows=(NVML,),
        asks=() if restricted else (Ask("id; ls -l /dev/nvidia*", "whom the device files are open to"),),
    )


RELOAD_UVM = Run(
    title="load the unified-memory module anew, after every CUDA program was ended",
    commands=("modprobe -r nvidia_uvm && modprobe nvidia_uvm",),
    reach=Reach.HOST,
    needs_root=True,
    caveat="It refuses while a program uses it: fuser -v /dev/nvidia-uvm names them.",
    verify="python -c \"import ctypes; print(ctypes.CDLL('libcuda.so.1').cuInit(0))\"",
)
SURVIVE_SUSPEND = Run(
    title="let the driver save the GPU's memory at the next suspend",
    commands=(
        "sh -c 'echo options nvidia NVreg_PreserveVideoMemoryAllocations=1 > /etc/modprobe.d/nvidia-power.conf'",
        "systemctl enable nvidia-suspend.service nvidia-resume.service nvidia-hibernate.service",
    ),
    reach=Reach.HOST,
    needs_root=True,
    needs_restart="machine",
)


@check.rule
def uvm_broken(
    init: CudaInit, nodes: DeviceNodes, nvml: NvmlInit | None, module: KernelModule | None
) -> Findings:
    """The unified-memory module is in a bad state, typically after suspend and resume."""
    if init.code != 999 or nodes.node(UVM) is None or _closed(nodes) or (nvml is not None and nvml.code != 0):
        return
    yield Finding(
        title="CUDA answers with an unknown error (999) though the driver is loaded and its device files are there",
        confidence=Confidence.LIKELY,
        detail="That is how the module nvidia_uvm answers after a suspend that it did not survive: NVML and nvidia-smi work, "
        "cuInit does not.",
        evidence=(
            init.shows("cuInit", f"{init.code} {init.name}"),
            nodes.shows(UVM, "there"),
            *((nvml.shows("nvmlInit", nvml.name),) if nvml else ()),
        ),
        remedies=(RELOAD_UVM, SURVIVE_SUSPEND, REBOOT),
        breaks=(CUDA,),
        shows=(CUDA,),
        asks=(
            Ask("journalctl -k -b | grep -E 'PM: suspend|Xid'", "whether the machine slept, or a GPU failed"),
        ),
    )


@uvm_broken.sign
def _said_unknown_error(
    cuda: tuple[CudaFailed, ...],
    resumed: tuple[Resumed, ...],
    failed: tuple[DeviceNodeFailed, ...],
    nodes: DeviceNodes | None,
    loaded: LoadedModules | None,
) -> Findings:
    """``CUDA unknown error``, most of all on a machine that was asleep."""
    said = [each for each in cuda if each.code == 999]
    node_gone = nodes is not None and UVM in nodes.absent and nodes.node(UVM) is None
    module_gone = is_absent(loaded, "nvidia_uvm") and not is_loaded(loaded, "nvidia_uvm")
    if not said or node_gone or module_gone or any(each.problem == "missing" for each in failed):
        return
    there = (nodes is not None and nodes.node(UVM) is not None) or is_loaded(loaded, "nvidia_uvm")
    evidence = quoted(*said[:1], *resumed[:1])
    if nodes is not None and nodes.node(UVM) is not None:
        evidence += (nodes.shows(UVM, "there"),)
    yield Finding(
        title="the driver's unified-memory module answers with an unknown error"
        + (" since the machine was suspended" if resumed else ""),
        confidence=Confidence.CERTAIN if resumed and there else Confidence.LIKELY,
        detail="CUDA starts with nvidia_uvm, nvidia-smi does without it. After suspend and resume the module may be left in a "
        "state in which every cuInit fails with 999, until it is loaded anew. Changing CUDA_VISIBLE_DEVICES, which the "
        "message speaks of, is rarely the cause.",
        evidence=evidence,
        remedies=(RELOAD_UVM, SURVIVE_SUSPEND, REBOOT),
        breaks=(CUDA,),
        shows=(CUDA,),
        asks=()
        if resumed and there
        else (
            Ask("ls -l /dev/nvidia-uvm; lsmod | grep nvidia_uvm", "whether the module is loaded"),
            Ask("journalctl -k -b | grep -E 'PM: suspend|Xid'", "whether the machine slept, or a GPU failed"),
        ),
    )


@check.rule
def call_hung(said: CallHung) -> Findings:
    """A call into the driver did not return in its time."""
    stuck = said.state == "D"
    where = f", where the kernel waits in {said.wchan}" if said.wchan else ""
    yield Finding(
        subject=f"call:{said.call}",
        title=f"{said.call} did not return within {said.seconds} s"
        + (f": its process cannot be ended (state D{where})" if stuck else ""),
        confidence=Confidence.CERTAIN if stuck else Confidence.LIKELY,
        detail="The call was made in a process of its own, which was given up. "
        + (
            "A process in state D waits inside the kernel; programs that use the GPU will hang in the same place."
            if stuck
            else "The process could be ended. A GPU that fails, one that is being reset, or many GPUs without persistence mode "
            "can take that long."
        ),
        evidence=(said.evidence("call"),),
        remedies=(
            Run(
                title="see what the kernel says of the GPU",
                commands=("sh -c \"dmesg | grep -iE 'nvrm|xid|hung|blocked' | tail -20\"",),
                reach=Reach.HOST,
                needs_root=True,
            ),
            *(() if stuck else (_persistence(),)),
            REBOOT,
        ),
        breaks=(NVML if said.call.startswith("nvml") else CUDA,),
        shows=(NVML if said.call.startswith("nvml") else CUDA,),
    )


def _persistence() -> Run:
    return Run(
        title="keep the GPUs initialised between programs",
        commands=("systemctl enable --now nvidia-persistenced || nvidia-smi -pm 1",),
        reach=Reach.HOST,
        needs_root=True,
        verify="time nvidia-smi -L",
    )


@check.rule
def call_crashed(said: CallCrashed) -> Findings:
    """A call into the driver ended its process with a signal."""
    yield Finding(
        subject=f"call:{said.call}",
        title=f"{said.call} ended its process with {said.signal}",
        severity=Severity.ERROR,
        detail="The call was made in a process of its own. A driver library that crashes is damaged, of another release than the "
        "module, or not NVIDIA's own (an interceptor preloaded for sharing GPUs).",
        evidence=(said.evidence("call"),),
        remedies=(
            Run(
                title="see which library it is, and install the driver's libraries anew",
                commands=(
                    "ldconfig -p | grep -E 'libcuda.so.1|libnvidia-ml.so.1'",
                    "cat /etc/ld.so.preload; echo $LD_PRELOAD",
                ),
                reach=Reach.HOST,
            ),
            NoFix(
                reason="a crash inside the driver has no remedy that fits all; the kernel log may say more"
            ),
        ),
        breaks=(NVML if said.call.startswith("nvml") else CUDA,),
        shows=(NVML if said.call.startswith("nvml") else CUDA,),
    )
