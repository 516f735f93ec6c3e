"""What is known of a host's container engines, of its NVIDIA container toolkit, and of the kernel's settings for them."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from envdoctor.api import Fact


class ToolkitConfig(Fact, frozen=True):
    """``/etc/nvidia-container-runtime/config.toml``."""

    fact_name: ClassVar[str] = "container.toolkit-config"
    settings: dict[str, str]
    """``no-cgroups`` -> ``true``; commented lines are not set. Names without their section: none occurs in two."""
    complete: bool = True
    """Whether a name that is missing here is not set; False for a part of the file in a text."""

    def joined(self, later: ToolkitConfig) -> ToolkitConfig:
        """Two looks at one file."""
        complete = self.complete or later.complete
        return ToolkitConfig(
            settings={**self.settings, **later.settings}, complete=complete, source=later.source
        )

    @property
    def no_cgroups(self) -> bool:
        """Whether the toolkit leaves device permissions to someone else."""
        return self.settings.get("no-cgroups") == "true"


class Ldconfig(Fact, frozen=True):
    """What is at ``/sbin/ldconfig`` on the host: Debian's family puts a script there, and the program beside it."""

    fact_name: ClassVar[str] = "container.ldconfig"
    script: bool
    """Whether ``/sbin/ldconfig`` is a shell script."""
    real: bool
    """Whether ``/sbin/ldconfig.real`` exists."""


class ToolkitFiles(Fact, frozen=True):
    """Which programs of the NVIDIA container toolkit are installed."""

    fact_name: ClassVar[str] = "container.toolkit-files"
    present: tuple[str, ...]
    """Of ``nvidia-ctk``, ``nvidia-container-cli``, ``nvidia-container-runtime`` and ``nvidia-container-runtime-hook``."""


class ToolkitRelease(Fact, frozen=True):
    """The release of the NVIDIA container toolkit or of libnvidia-container, which are released together."""

    fact_name: ClassVar[str] = "container.toolkit-release"
    release: str


class DockerConfig(Fact, frozen=True):
    """``/etc/docker/daemon.json``."""

    fact_name: ClassVar[str] = "container.docker-config"
    valid: bool
    """Whether it is JSON at all; dockerd does not start with one that is not."""
    runtimes: tuple[str, ...] = ()
    default_runtime: str | None = None
    cgroup_driver: str | None = None
    """From ``exec-opts``; None: the default, systemd where systemd runs and control groups are version 2."""


class ContainerdConfig(Fact, frozen=True):
    """The runtimes that containerd's CRI plugin knows, from its configuration files."""

    fact_name: ClassVar[str] = "container.containerd-config"
    default_runtime: str | None
    """None: not set, which means runc."""
    runtimes: tuple[str, ...]


class NodeGpus(Fact, frozen=True):
    """How many GPUs a Kubernetes node offers (``Allocatable`` of ``kubectl describe node``)."""

    fact_name: ClassVar[str] = "container.node-gpus"
    gpus: int
    """0 where ``nvidia.com/gpu`` is not among what it offers."""


class EngineFound(msgspec.Struct, frozen=True):
    """One container engine of a host."""

    name: str
    """``docker``, ``podman``, ``containerd``, ``apptainer``."""
    path: str
    packed: Literal["native", "snap"] = "native"


class Engines(Fact, frozen=True):
    """The container engines that are installed on this host."""

    fact_name: ClassVar[str] = "container.engines"
    engines: tuple[EngineFound, ...]


class EngineInfo(Fact, frozen=True):
    """What ``docker info``, ``docker version`` or ``podman info`` told."""

    fact_name: ClassVar[str] = "container.engine-info"
    values: dict[str, str]
    """By the label in lower case: ``operating system``, ``server version``, ``cgroup version``, ``runtimes``, ``context`` ..."""

    def joined(self, later: EngineInfo) -> EngineInfo:
        """Two answers of one text, together."""
        return EngineInfo(values={**self.values, **later.values}, source=later.source)

    @property
    def release(self) -> str:
        """The engine's release without a distribution's suffix, ``20.10.7``; empty where it was not told."""
        return self.values.get("server version", "").lstrip("v").partition("-")[0]

    @property
    def desktop(self) -> bool:
        """Docker Desktop, whose engine runs in a virtual machine."""
        words = f"{self.values.get('operating system', '')} {self.values.get('context', '')} {self.values.get('name', '')}"
        return "Docker Desktop" in words or "desktop-linux" in words or "docker-desktop" in words

    @property
    def snap(self) -> bool:
        """Docker packed as a snap."""
        return "/snap/" in f"{self.values.get('docker root dir', '')}/{self.values.get('program', '')}"

    @property
    def rootless(self) -> bool:
        """An engine that an ordinary user runs."""
        return self.values.get("rootless") == "true" or "rootless" in self.values.get("security options", "")


class CdiSpec(msgspec.Struct, frozen=True):
    """One specification file of the Container Device Interface."""

    path: str
    kind: str
    """``nvidia.com/gpu``."""
    devices: tuple[str, ...]
    release: str | None
    """The driver release in the names of the libraries that it mounts."""
    missing: tuple[str, ...]
    """Host paths in it that do not exist, at most five."""


class CdiSpecs(Fact, frozen=True):
    """The NVIDIA specifications in ``/etc/cdi`` and ``/var/run/cdi``."""

    fact_name: ClassVar[str] = "container.cdi-specs"
    specs: tuple[CdiSpec, ...]


class SelinuxMode(Fact, frozen=True):
    """Whether SELinux enforces its policy."""

    fact_name: ClassVar[str] = "container.selinux-mode"
    mode: Literal["enforcing", "permissive", "disabled"]


class KernelSettings(Fact, frozen=True):
    """The kernel's settings that bear on user namespaces."""

    fact_name: ClassVar[str] = "container.kernel-settings"
    values: dict[str, str]
    """Of `SETTINGS`; a name is missing where the kernel has no such setting or the text does not show it."""

    def joined(self, later: KernelSettings) -> KernelSettings:
        """Two answers of one text, together."""
        return KernelSettings(values={**self.values, **later.values}, source=later.source)


SETTINGS = (
    "kernel.apparmor_restrict_unprivileged_userns",
    "kernel.unprivileged_userns_clone",
    "user.max_user_namespaces",
)


class BpfJitHarden(Fact, frozen=True):
    """``net.core.bpf_jit_harden``: 2 hides filter programs even from root."""

    fact_name: ClassVar[str] = "container.bpf-jit-harden"
    value: int
