"""The host's side: engines, the NVIDIA container toolkit, CDI, and the kernel's settings for namespaces."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from envdoctor.api import CouldNotLook, Host, Source, Tier
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import ContainerEngine
from envdoctor_checks.container.facts_host import (
    SETTINGS,
    BpfJitHarden,
    CdiSpec,
    CdiSpecs,
    ContainerdConfig,
    DockerConfig,
    EngineFound,
    Engines,
    KernelSettings,
    Ldconfig,
    SelinuxMode,
    ToolkitConfig,
    ToolkitFiles,
    ToolkitRelease,
)
from envdoctor_checks.container.procfs import containerd_runtimes, toml_settings
from envdoctor_checks.driver.facts import DriverPackages

PROGRAMS = ("nvidia-ctk", "nvidia-container-cli", "nvidia-container-runtime", "nvidia-container-runtime-hook")
FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/local/nvidia/toolkit", "/run/current-system/sw/bin")
TOOLKIT_CONFIG = "/etc/nvidia-container-runtime/config.toml"
ENGINES = (
    ("docker", "/snap/bin/docker", "snap"),
    ("docker", "/usr/bin/dockerd", "native"),
    ("podman", "/usr/bin/podman", "native"),
    ("containerd", "/usr/bin/containerd", "native"),
    ("apptainer", "/usr/bin/apptainer", "native"),
)
CONTAINERD_CONFIGS = (
    "/etc/containerd/config.toml",
    "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
)
CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")
SPEC_LIMIT = 8 << 20
HOST_PATH = r"""hostPath"?\s*:\s*["']?(?P<path>/[^"',\s}]+)"""
DEVICE_NAME = r"""(?m)^\s*-?\s*(?:\{\s*)?"?name"?\s*:\s*["']?(?P<name>[\w:.-]+)"""
CDI_KIND = r"""(?m)^\s*"?kind"?\s*:\s*["']?(?P<kind>[\w./-]+)"""
LIBCUDA = r"/lib(?:cuda|nvidia-ml)\.so\.(?P<release>\d{3}\.[\d.]*\d)"
MOST_PATHS = 300
"""Host paths of one specification that are looked at; a usual one names about eighty."""


def _on_host(engine: ContainerEngine | None) -> bool:
    return engine is None or engine.engine is None


@check.probe(tier=Tier.QUICK)
def toolkit(
    host: Host, engine: ContainerEngine | None, packages: DriverPackages | None
) -> Iterator[ToolkitFiles | ToolkitConfig | Ldconfig | ToolkitRelease]:
    """Programs, configuration and release; a container has nothing to say of its host's."""
    if not _on_host(engine):
        return
    present = tuple(name for name in PROGRAMS if any(host.exists(f"{folder}/{name}") for folder in FOLDERS))
    yield ToolkitFiles(present=present, source=Source("file", "/usr/bin"))
    text = host.text(TOOLKIT_CONFIG)
    if text is not None:
        yield ToolkitConfig(settings=toml_settings(text), source=Source("file", TOOLKIT_CONFIG))
        yield Ldconfig(
            script=_is_script(host, "/sbin/ldconfig"),
            real=host.exists("/sbin/ldconfig.real"),
            source=Source("file", "/sbin/ldconfig"),
        )
    release = release_in(packages)
    if release is not None and packages is not None:
        yield ToolkitRelease(release=release, source=packages.source)


def _is_script(host: Host, path: str) -> bool:
    try:
        return host.read(path, 2) == b"#!"
    except OSError:
        return False  # a link that leads nowhere is no script, and no program either


def release_in(packages: DriverPackages | None) -> str | None:
    """The toolkit's release in a list of packages: ``1.17.5`` of ``1.17.5-1``."""
    for name in ("nvidia-container-toolkit", "libnvidia-container1", "libnvidia-container"):
        for package in packages.packages if packages else ():
            if package.name == name and package.state.startswith(("ii", "hi", "inst")):
                found = re.match(r"(?:\d+:)?(\d+\.\d+\.\d+)", package.version)
                return found[1] if found else None
    return None


@check.probe(tier=Tier.QUICK)
def engines(
    host: Host, engine: ContainerEngine | None
) -> Iterator[Engines | DockerConfig | ContainerdConfig]:
    """Which engines are installed, and which runtimes docker and containerd are configured with."""
    if not _on_host(engine):
        return
    found = tuple(EngineFound(name, path, packed) for name, path, packed in ENGINES if host.exists(path))  # type: ignore[arg-type] # the table's third column holds only the two words
    yield Engines(engines=found, source=Source("file", "/usr/bin"))
    snap = any(each.packed == "snap" for each in found)
    path = "/var/snap/docker/current/config/daemon.json" if snap else "/etc/docker/daemon.json"
    text = host.text(path)
    if text is not None:
        yield docker_config(text, Source("file", path))
    for path in CONTAINERD_CONFIGS:
        text = host.text(path)
        if text is not None:
            yield _containerd(host, path, text)
            return


def docker_config(text: str, source: Source) -> DockerConfig:
    """The parts of daemon.json that bear on GPUs."""
    try:
        told = msgspec.json.decode(text) if text.strip() else {}
    except msgspec.DecodeError:
        return DockerConfig(valid=False, source=source)
    if not isinstance(told, dict):
        return DockerConfig(valid=False, source=source)
    runtimes, options = told.get("runtimes"), told.get("exec-opts")
    default = told.get("default-runtime")
    drivers = [
        str(each).partition("=")[2] for each in options or () if str(each).startswith("native.cgroupdriver=")
    ]
    return DockerConfig(
        valid=True,
        runtimes=tuple(runtimes) if isinstance(runtimes, dict) else (),
        default_runtime=default if isinstance(default, str) else None,
        cgroup_driver=drivers[-1] if drivers else None,
        source=source,
    )


def _containerd(host: Host, path: str, text: str) -> ContainerdConfig:
    """The file with those that it imports from a folder beside it, as the toolkit and the distributions do."""
    folder = path.removesuffix("config.toml") + "conf.d"
    texts = [
        text,
        *(host.text(f"{folder}/{name}") or "" for name in host.names(folder) or () if name.endswith(".toml")),
    ]
    default, runtimes = containerd_runtimes("\n".join(reversed(texts)))
    return ContainerdConfig(default_runtime=default, runtimes=runtimes, source=Source("file", path))


@check.probe(tier=Tier.QUICK)
def cdi(host: Host, engine: ContainerEngine | None) -> CdiSpecs | None:
    """The specifications with what they mount: YAML and JSON alike, by the few keys that matter."""
    if not _on_host(engine):
        return None
    specs = []
    for folder in CDI_FOLDERS:
        for name in host.names(folder) or ():
            if name.endswith((".yaml", ".yml", ".json")):
                text = host.text(f"{folder}/{name}", limit=SPEC_LIMIT) or ""
                if "nvidia.com/" in text:
                    specs.append(_spec(host, f"{folder}/{name}", text))
    return CdiSpecs(specs=tuple(specs), source=Source("file", "/etc/cdi"))


def _spec(host: Host, path: str, text: str) -> CdiSpec:
    kind, release = re.search(CDI_KIND, text), re.search(LIBCUDA, text)
    paths = list(dict.fromkeys(found["path"] for found in re.finditer(HOST_PATH, text)))[:MOST_PATHS]
    missing = [each for each in paths if not _there(host, each)]
    return CdiSpec(
        path=path,
        kind=kind["kind"] if kind else "",
        devices=tuple(dict.fromkeys(found["name"] for found in re.finditer(DEVICE_NAME, text))),
        release=release["release"] if release else None,
        missing=tuple(missing[:5]),
    )


def _there(host: Host, path: str) -> bool:
    try:
        return host.exists(path)
    except CouldNotLook:
        return True  # nobody said that it is missing


@check.probe(tier=Tier.QUICK)
def kernel_settings(host: Host) -> Iterator[KernelSettings | SelinuxMode]:
    """Settings that allow or forbid user namespaces and filter programs, and SELinux's mode."""
    values = {}
    for name in SETTINGS:
        text = host.text("/proc/sys/" + name.replace(".", "/"), limit=64)
        if text is not None:
            values[name] = text.strip()
    yield KernelSettings(values=values, source=Source("file", "/proc/sys"))
    enforce = host.text("/sys/fs/selinux/enforce", limit=8)
    mode = "disabled" if enforce is None else "enforcing" if enforce.strip() == "1" else "permissive"
    yield SelinuxMode(mode=mode, source=Source("file", "/sys/fs/selinux/enforce"))  # type: ignore[arg-type] # one of the three words above


@check.probe(tier=Tier.QUICK)
def bpf_jit_harden(host: Host) -> BpfJitHarden | None:
    """Only root may read it."""
    path = "/proc/sys/net/core/bpf_jit_harden"
    text = (host.text(path, limit=64) or "").strip()
    return BpfJitHarden(value=int(text), source=Source("file", path)) if text.isdecimal() else None
