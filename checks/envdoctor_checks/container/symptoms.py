"""What engines, the NVIDIA container toolkit, the kernel and programs in containers print."""

from __future__ import annotations

from typing import ClassVar, Literal

from envdoctor.api import Symptom
from envdoctor_checks.container.facts import without_compute


class DeviceDriverMissing(Symptom, frozen=True):
    """``could not select device driver "" with capabilities: [[gpu]]``."""

    symptom_name: ClassVar[str] = "container.device-driver-missing"
    driver: str
    """The name between the quotes: empty, ``nvidia`` or ``cdi``."""


class ToolkitAbsent(Symptom, frozen=True):
    """A shell, an engine or a package manager says that a part of the toolkit is not there."""

    symptom_name: ClassVar[str] = "container.toolkit-absent"
    program: str


class RuntimeUnknown(Symptom, frozen=True):
    """The engine knows no runtime of that name."""

    symptom_name: ClassVar[str] = "container.runtime-unknown"
    runtime: str
    kubernetes: bool = False


class CdiUnresolved(Symptom, frozen=True):
    """No CDI specification has the device that was asked for."""

    symptom_name: ClassVar[str] = "container.cdi-unresolved"
    device: str


class HostFileMissing(Symptom, frozen=True):
    """The OCI runtime could not find a driver file or device of the host that it was told to mount."""

    symptom_name: ClassVar[str] = "container.host-file-missing"
    path: str


class RequirementUnmet(Symptom, frozen=True):
    """``nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.9``."""

    symptom_name: ClassVar[str] = "container.requirement-unmet"
    condition: str


class ToolkitLibraryMissing(Symptom, frozen=True):
    """The toolkit, which runs beside the engine, could not load a driver library there."""

    symptom_name: ClassVar[str] = "container.toolkit-library-missing"
    library: str


class LdcacheFailed(Symptom, frozen=True):
    """The toolkit could not run ldconfig."""

    symptom_name: ClassVar[str] = "container.ldcache-failed"
    program: str
    """``/sbin/ldconfig.real``."""


class DriverFileExists(Symptom, frozen=True):
    """The toolkit found a driver file in the image where it wanted to mount the host's."""

    symptom_name: ClassVar[str] = "container.driver-file-exists"
    path: str
    """Inside the image."""


class DevicesGroupMissing(Symptom, frozen=True):
    """``container error: cgroup subsystem devices not found``: a toolkit that knows version 1 only, on version 2."""

    symptom_name: ClassVar[str] = "container.devices-group-missing"


class NamedSymbolNotFound(Symptom, frozen=True):
    """CUDA's error 500: an entry point of the driver library is missing."""

    symptom_name: ClassVar[str] = "container.named-symbol-not-found"


class DeviceRulesFailed(Symptom, frozen=True):
    """The toolkit could not allow the GPU devices in the container's control group."""

    symptom_name: ClassVar[str] = "container.device-rules-failed"
    why: Literal["permission", "not-loadable"]
    """It may not; or the kernel refused the program that it had put together."""


class NotPrivilegedForVariable(Symptom, frozen=True):
    """``insufficient privileges to read device list from NVIDIA_VISIBLE_DEVICES envvar``."""

    symptom_name: ClassVar[str] = "container.not-privileged-for-variable"


class CommandMissing(Symptom, frozen=True):
    """``exec: "nvidia-smi": executable file not found in $PATH``: nothing of the driver was mounted."""

    symptom_name: ClassVar[str] = "container.command-missing"
    program: str


class DriverNotDetected(Symptom, frozen=True):
    """The entry point of NVIDIA's images found no driver in the container."""

    symptom_name: ClassVar[str] = "container.driver-not-detected"


class Launched(Symptom, frozen=True):
    """A container that was started by a command as typed, or described in a compose file."""

    symptom_name: ClassVar[str] = "container.launched"
    engine: str
    image: str | None = None
    gpus: bool = False
    """Whether GPUs were asked for: ``--gpus``, ``--runtime=nvidia``, ``--device nvidia.com/gpu=...``, ``--nv``."""
    user: str | None = None
    """``--user``."""
    binds: tuple[tuple[str, str], ...] = ()
    """Host path and target of every bind mount."""
    root: bool = False
    """Whether the engine was called by sudo or by root."""
    selinux_relabel: bool = False
    """``--security-opt label=disable``."""
    keep_id: bool = False
    """``--userns=keep-id`` or ``host``, or an explicit map of users."""


class Entered(Symptom, frozen=True):
    """A command was run in a container that was there already, or its output was shown."""

    symptom_name: ClassVar[str] = "container.entered"


class DeviceRequested(Symptom, frozen=True):
    """The capabilities in a device request, from ``docker inspect`` or a compose file."""

    symptom_name: ClassVar[str] = "container.device-requested"
    capabilities: tuple[str, ...]

    @property
    def lacks_compute(self) -> bool:
        """Whether libcuda comes with none of them."""
        return without_compute(self.capabilities)


class GpuLimit(Symptom, frozen=True):
    """``nvidia.com/gpu`` in a pod's resources or a node's allocatable ones."""

    symptom_name: ClassVar[str] = "container.gpu-limit"
    count: int


class GpuUnschedulable(Symptom, frozen=True):
    """The Kubernetes scheduler found no node with a free GPU."""

    symptom_name: ClassVar[str] = "container.gpu-unschedulable"


class DevicePluginBlind(Symptom, frozen=True):
    """NVIDIA's device plugin runs and finds no driver in its own container."""

    symptom_name: ClassVar[str] = "container.device-plugin-blind"


class Reloaded(Symptom, frozen=True):
    """systemd reloaded its units, which rewrites the device rules of every group that it manages."""

    symptom_name: ClassVar[str] = "container.reloaded"


class AvcDenied(Symptom, frozen=True):
    """SELinux denied something to a container."""

    symptom_name: ClassVar[str] = "container.avc-denied"
    source_type: str
    """``container_t``."""
    target_type: str
    """``xserver_misc_device_t``."""
    what: str
    """The object's class and name: ``chr_file nvidiactl``."""


class ThreadRefused(Symptom, frozen=True):
    """A thread could not be started."""

    symptom_name: ClassVar[str] = "container.thread-refused"
    error: Literal["EPERM", "EAGAIN"] | None
    """``Operation not permitted``, ``Resource temporarily unavailable``; None where the program does not say."""


class ThreadPool(Symptom, frozen=True):
    """How many threads PyTorch computes with, as it prints it."""

    symptom_name: ClassVar[str] = "container.thread-pool"
    threads: int


class TasksExhausted(Symptom, frozen=True):
    """A process could not be forked for want of task slots."""

    symptom_name: ClassVar[str] = "container.tasks-exhausted"
    by_group: bool
    """The kernel says that the pids controller of a control group refused it."""


class UsernsDenied(Symptom, frozen=True):
    """A user namespace could not be set up."""

    symptom_name: ClassVar[str] = "container.userns-denied"
    by_apparmor: bool = False
    """The kernel's audit log, or the program itself, names AppArmor."""
    created: bool = False
    """The namespace was made, and gave no right in it: what AppArmor's restriction looks like."""


class UidNotFound(Symptom, frozen=True):
    """A program asked for the name of its UID, and there is none."""

    symptom_name: ClassVar[str] = "container.uid-not-found"
    uid: int | None
    fatal: bool
    """An exception that ended the program, not a prompt that says that I have no name."""


class WriteRefused(Symptom, frozen=True):
    """A file or directory could not be written or made."""

    symptom_name: ClassVar[str] = "container.write-refused"
    path: str
    why: Literal["permission", "read-only"]


class OomKilled(Symptom, frozen=True):
    """A process was killed because a memory limit, not the machine's memory, was reached."""

    symptom_name: ClassVar[str] = "container.oom-killed"
    told_by: Literal["kernel", "kubernetes", "docker", "slurm"]
    process: str | None = None
    limit: str | None = None
    """As told: ``24Gi``, ``33554432kB``."""


class Killed(Symptom, frozen=True):
    """A process was killed by SIGKILL (exit status 137); nothing says why."""

    symptom_name: ClassVar[str] = "container.killed"


class PreloadSpoke(Symptom, frozen=True):
    """A preloaded vGPU library, or the loader about it."""

    symptom_name: ClassVar[str] = "container.preload-spoke"
    library: str
    failed: bool
    """Whether the line tells of a failure."""
