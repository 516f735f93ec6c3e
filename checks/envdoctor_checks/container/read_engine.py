"""Engines and the NVIDIA container toolkit in a pasted text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts_host import (
    CdiSpec,
    CdiSpecs,
    ContainerdConfig,
    DockerConfig,
    EngineInfo,
    Ldconfig,
    NodeGpus,
    ToolkitConfig,
    ToolkitRelease,
)
from envdoctor_checks.container.probe_host import docker_config
from envdoctor_checks.container.procfs import SETTING, containerd_runtimes
from envdoctor_checks.container.shell import only_reads

TEXT = Source("text")
LABEL = r"^\s*(?P<label>[A-Za-z][A-Za-z ]{2,30}):\s*(?P<value>\S.*?)\s*$"
FIELD = r"\{\{\s*\.([\w.]+)\s*\}\}"
FIELDS = {
    "Server.Version": "server version",
    "ServerVersion": "server version",
    "Server.Engine.Version": "server version",
    "Host.Security.Rootless": "rootless",
    "Host.CgroupsVersion": "cgroup version",
    "Host.CgroupVersion": "cgroup version",
    "CgroupVersion": "cgroup version",
    "CgroupDriver": "cgroup driver",
    "OperatingSystem": "operating system",
    "DefaultRuntime": "default runtime",
    "Runtimes": "runtimes",
    "DockerRootDir": "docker root dir",
    "SecurityOptions": "security options",
}
"""Fields of a Go template, as the labels of the plain answer."""
YAML_KEYS = {"rootless": "rootless", "cgroupVersion": "cgroup version", "cgroupManager": "cgroup driver"}
VERSION = r"v?\d+\.\d+[\w.+-]*$"


@check.reader(command=r"(?:docker|podman|nerdctl)\s+(?:(?:system\s+)?info|version)\b")
def engine_info(found: FoundBlock) -> Iterator[EngineInfo]:
    """``docker info`` and ``docker version``, plain, filtered or by a template; ``podman info``."""
    command = found.command or ""
    fields = re.findall(FIELD, command)
    lines = [line.text for line in found.block.lines]
    values = _by_template(fields, lines) if fields else _by_label(lines)
    if "podman" in command and "engine" not in values:
        values["engine"] = "podman"
    if values:
        yield EngineInfo(values=values, source=TEXT)


def _by_template(fields: list[str], lines: list[str]) -> dict[str, str]:
    """The first line with as many words as the template has fields, versions where it asks for them."""
    for line in lines:
        split = line.split() if len(fields) > 1 else [line.strip()]
        pairs = list(zip(fields, split, strict=False))
        fits = len(split) == len(fields) and all(
            re.match(VERSION, word)
            for name, word in pairs
            if name.endswith("Version") and "group" not in name
        )
        if fits and split[0]:
            return {FIELDS[name]: word for name, word in pairs if name in FIELDS}
    return {}


def _by_label(lines: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    section = ""
    for line in lines:
        told = re.match(LABEL, line)
        if told:
            label, value = told["label"].strip(), told["value"]
            if label == "Version" and section in ("server", "engine"):
                values["server version"] = value
            elif label in YAML_KEYS:
                values[YAML_KEYS[label]] = value
            else:
                values.setdefault(label.lower(), value)
        elif line.strip().endswith(":"):
            section = line.strip(" :").split(":")[0].lower()
            section = "server" if section.startswith("server") else section
        if line.strip() in ("rootless", "name=rootless"):
            values["rootless"] = "true"
    return values


@check.reader(command=r"docker\s+context\b")
def engine_context(found: FoundBlock) -> Iterator[EngineInfo]:
    """The context with the star in ``docker context ls``."""
    for line in found.block.lines:
        told = re.match(r"^(?P<name>[\w.-]+)\s+\*|^(?P<shown>desktop-linux|default|rootless)$", line.text)
        if told:
            yield EngineInfo(values={"context": told["name"] or told["shown"]}, source=TEXT)


@check.reader(command=r"snap\s+list\b|(?:which|type|whereis|ls|readlink)\b.*\bdocker\b|command -v docker")
def engine_program(found: FoundBlock) -> Iterator[EngineInfo]:
    """Where the command ``docker`` comes from, where it is a snap."""
    for line in found.block.lines:
        told = re.search(r"/snap/bin/docker\b", line.text) or re.match(
            r"^docker\s+\d\S*\s+\d+\s+\S+\s+canonical", line.text
        )
        if told:
            yield EngineInfo(values={"program": "/snap/bin/docker"}, source=TEXT)


@check.reader(
    command=r"(?:\S*/)?(?:cat|bat|less|more|grep|egrep|sed|head|tail|awk)\b.*nvidia-container-runtime/config\.toml"
)
def toolkit_config(found: FoundBlock) -> Iterator[ToolkitConfig]:
    """The toolkit's file, or a part of it. A commented line in a part says that the default holds."""
    settings = _settings([line.text for line in found.block.lines])
    complete = only_reads(found.command or "", found.block.command or "")
    if settings or complete:
        yield ToolkitConfig(settings=settings, complete=complete, source=TEXT)


@check.reader(starts=r"^\s*#?\s*(?:no-cgroups\s*=\s*(?:true|false)|ldconfig\s*=\s*\"@?/)", max_lines=1)
def toolkit_setting(found: FoundBlock) -> Iterator[ToolkitConfig]:
    """One line of it without the command."""
    settings = _settings([found.block.lines[0].text])
    if settings and "nvidia-container-runtime/config.toml" not in (found.block.command or ""):
        yield ToolkitConfig(settings=settings, complete=False, source=TEXT)


def _settings(lines: list[str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for line in lines:
        told = re.match(SETTING, line)
        if not told:
            continue
        if not told["comment"]:
            settings[told["name"]] = told["value"].strip().strip("\"'")
        elif told["name"] == "no-cgroups":
            settings.setdefault("no-cgroups", "false")
    return settings


@check.reader(command=r"(?:file|ls|head|cat)\b.*/sbin/ldconfig")
def ldconfig_kind(found: FoundBlock) -> Iterator[Ldconfig]:
    """``file /sbin/ldconfig /sbin/ldconfig.real``."""
    text = "\n".join(line.text for line in found.block.lines)
    script = re.search(r"(?m)^/sbin/ldconfig:\s.*(?:script|text)|^#!", text)
    real = re.search(r"/sbin/ldconfig\.real(?!.*(?:No such|cannot))", text)
    if script or real:
        yield Ldconfig(script=bool(script), real=bool(real), source=TEXT)


@check.reader(
    starts=r"NVIDIA Container (?:Toolkit CLI|Runtime Hook|Runtime|Toolkit)(?: version)?:? v?\d+\.\d+\.\d+",
    max_lines=1,
)
def toolkit_version(found: FoundBlock) -> Iterator[ToolkitRelease]:
    """``nvidia-ctk --version``."""
    told = re.search(r"v?(\d+\.\d+\.\d+)", found.block.lines[0].text.partition("NVIDIA Container")[2])
    if told:
        yield ToolkitRelease(release=told[1], source=TEXT)


@check.reader(
    command=r"(?:\S*/)?nvidia-container-cli\s+.*(?:-V|--version)",
    starts=r"^(?:cli-|lib-)?version: \d",
    max_lines=1,
)
def library_version(found: FoundBlock) -> Iterator[ToolkitRelease]:
    """``nvidia-container-cli -V``."""
    told = re.match(
        r"^(?:cli-|lib-)?version: (\d+\.\d+\.\d+)", found.block.lines[0].text if found.block.lines else ""
    )
    if told:
        yield ToolkitRelease(release=told[1], source=TEXT)


@check.reader(command=r"(?:\S*/)?(?:cat|bat|less|more|jq)\b.*docker/daemon\.json")
def docker_daemon_json(found: FoundBlock) -> Iterator[DockerConfig]:
    """The daemon's configuration, where the whole file was shown."""
    text = "\n".join(line.text for line in found.block.lines)
    if "No such file" not in text and text.strip().startswith("{"):
        yield docker_config(text, TEXT)


@check.reader(
    command=r"containerd\s+config\s+dump\b|(?:\S*/)?(?:cat|grep|egrep|less)\b.*containerd/config\S*\.toml"
)
def containerd_dump(found: FoundBlock) -> Iterator[ContainerdConfig]:
    """The runtimes that the text shows; without the default one it says nothing of it."""
    default, runtimes = containerd_runtimes("\n".join(line.text for line in found.block.lines))
    if default is not None:
        yield ContainerdConfig(default_runtime=default, runtimes=runtimes, source=TEXT)


@check.reader(starts=r"^\s*Allocatable:\s*$", max_lines=14)
def node_gpus(found: FoundBlock) -> Iterator[NodeGpus]:
    """What a node offers; without ``pods`` the list was cut off."""
    text = "\n".join(line.text for line in found.block.lines)
    gpus = [int(each) for each in re.findall(r"nvidia\.com/[\w.-]+:\s+(\d+)", text)]
    if gpus or re.search(r"(?m)^\s+pods:", text):
        yield NodeGpus(gpus=sum(gpus), source=TEXT)


@check.reader(command=r"(?:\S*/)?nvidia-ctk\s+(?:--\S+\s+)*cdi\s+list")
def cdi_list(found: FoundBlock) -> Iterator[CdiSpecs]:
    """``nvidia-ctk cdi list``: the devices of all specifications."""
    names = [
        line.text.strip()
        for line in found.block.lines
        if re.match(r"^\s*[\w.-]*nvidia\.com/\w+=\S+$", line.text)
    ]
    none = any(re.search(r"Found 0 CDI devices", line.text) for line in found.block.lines)
    if names or none:
        kind = names[0].partition("=")[0] if names else ""
        devices = tuple(name.partition("=")[2] for name in names)
        spec = CdiSpec(path="", kind=kind, devices=devices, release=None, missing=())
        yield CdiSpecs(specs=(spec,) if names else (), source=TEXT)
