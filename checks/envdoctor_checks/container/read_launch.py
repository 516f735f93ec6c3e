"""How a container was started: the command as typed, the compose file, what the engine says it was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import FoundBlock, Source
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import ImageVariables
from envdoctor_checks.container.shell import inside, words_of
from envdoctor_checks.container.symptoms import DeviceRequested, Entered, Launched

ENGINES = r"(?:docker|podman|nerdctl|apptainer|singularity|enroot)"
FLAGS = frozenset({
    "rm", "interactive", "tty", "detach", "privileged", "init", "read-only", "publish-all", "quiet", "replace", "nv", "nvccli",
    "rocm", "contain", "containall", "cleanenv", "writable", "writable-tmpfs", "fakeroot", "userns", "no-home", "oom-kill-disable",
    "no-healthcheck", "rw",
})  # fmt: skip
"""Long options without a value. ``--userns`` has one for podman, which is always written with ``=``."""
SHORT_WITH_VALUE = "uvewplhmacB"


@check.reader(command=rf"{ENGINES}\s+(?:container\s+)?(?:run|create|exec|shell|start)\b")
def launch(found: FoundBlock) -> Iterator[Launched | ImageVariables]:
    """``docker run`` and its kind, by their options; ``docker exec`` starts nothing."""
    command = found.command or ""
    split = words_of(command)
    engine = split[0].rpartition("/")[2]
    if engine in ("docker", "podman", "nerdctl") and re.match(
        rf"{ENGINES}\s+(?:container\s+)?(?:exec|start)", command
    ):
        return  # `entered` reads those
    options, image = _options(split)
    binds = tuple(_bind(value) for name, value in options if name in ("v", "volume", "mount", "B", "bind"))
    given = (
        value.partition("=")
        for name, value in options
        if name in ("e", "env") and value.startswith("NVIDIA_")
    )
    variables = {name: value for name, equals, value in given if equals}
    if variables:
        yield ImageVariables(values=variables, complete=False, source=Source("text"))
    yield Launched(
        engine=engine,
        image=image,
        gpus=_asks_for_gpus(options),
        user=next((value for name, value in options if name in ("u", "user")), None),
        binds=tuple(each for each in binds if each),
        root=bool(re.match(r"\s*sudo\b", found.block.command or ""))
        or bool(found.block.prompt and found.block.prompt.root),
        selinux_relabel=any(
            name == "security-opt" and re.match(r"label[=:]disable", value) for name, value in options
        ),
        keep_id=any(
            name in ("uidmap", "gidmap") or (name == "userns" and value not in ("", "auto"))
            for name, value in options
        ),
        quote=command[:300],
        source=Source("text", "", found.block.first_line),
    )


INTO = (
    r"(?:docker|podman|nerdctl)\s+(?:container\s+)?(?:exec|logs|attach)\b|(?:docker[ -]compose|podman-compose)\s+(?:\S+\s+)*?(?:exec|logs|run|up)\b"
    r"|(?:kubectl|oc|k3s kubectl)\s+(?:\S+\s+)*?(?:exec|logs|run|debug)\b"
)


@check.reader(command=INTO)
def entered(found: FoundBlock) -> Entered:
    """A command in a container that runs, or what it has printed."""
    return Entered(quote=(found.command or "")[:300], source=Source("text", "", found.block.first_line))


@check.reader(command=r"nvidia-smi\b")
def smi_inside(found: FoundBlock) -> Iterator[Entered]:
    """nvidia-smi at the prompt of a container."""
    if inside(found):
        yield Entered(quote=found.block.command or "", source=Source("text", "", found.block.first_line))


def _options(split: list[str]) -> tuple[list[tuple[str, str]], str | None]:
    """Options with their values, and the image, which is the first word that is none."""
    found: list[tuple[str, str]] = []
    index = (
        next((at for at, word in enumerate(split) if word in ("run", "create", "exec", "shell", "start")), 0)
        + 1
    )
    while index < len(split) and split[index].startswith("-"):
        name, equals, value = split[index].lstrip("-").partition("=")
        takes = (
            name not in FLAGS
            if split[index].startswith("--")
            else name[-1:] in SHORT_WITH_VALUE and len(name) == 1
        )
        if takes and not equals and index + 1 < len(split):
            index += 1
            value = split[index]
        found.append((name, value))
        index += 1
    return found, split[index] if index < len(split) else None


def _asks_for_gpus(options: list[tuple[str, str]]) -> bool:
    for name, value in options:
        if name in ("gpus", "nv", "nvccli") and value != "0":
            return True
        if name == "runtime" and "nvidia" in value:
            return True
        if name == "device" and "nvidia" in value:
            return True
        if name == "hooks-dir" or (name in ("e", "env") and value.startswith("NVIDIA_VISIBLE_DEVICES=")):
            return True
    return False


def _bind(value: str) -> tuple[str, str] | None:
    """``/host:/target:opts`` or ``type=bind,src=/host,dst=/target``; a named volume is no bind mount."""
    if "=" in value.partition(":")[0] and "," in value:
        parts = dict(part.partition("=")[::2] for part in value.split(","))
        source = parts.get("src") or parts.get("source") or ""
        target = parts.get("dst") or parts.get("target") or parts.get("destination") or ""
        return (source, target) if parts.get("type", "bind") == "bind" and target else None
    source, _, rest = value.partition(":")
    target = rest.partition(":")[0]
    return (source, target or source) if source[:1] in "/.~$" and source else None


IMAGE = r"^\s+image:\s*[\"']?(?P<image>[^\s\"'#]+)"
USER = r"^\s+user:\s*[\"']?(?P<user>[^\s\"'#]+)"
VOLUME = r"^\s+-\s*[\"']?(?P<source>[./~$][^:\s\"']*):(?P<target>/[^:\s\"']*)"
GPU_ASKED = r"^\s+(?:-?\s*driver:\s*[\"']?(?:nvidia|cdi)|runtime:\s*[\"']?nvidia|gpus:|(?:-\s*)?nvidia\.com/gpu)|capabilities:.*\bgpu\b"


@check.reader(starts=r"^services:\s*$", max_lines=300)
def compose_file(found: FoundBlock) -> Iterator[Launched]:
    """One service of a compose file after another, by indentation."""
    service: list[str] = []
    indent = 0
    for line in [*(each.text for each in found.block.lines[1:]), ""]:
        depth = len(line) - len(line.lstrip())
        named = re.match(r"^(\s+)[\w.-]+:\s*$", line)
        if named and (not indent or depth <= indent):
            if service:
                yield _service(service, found)
            indent, service = depth, []
        elif line.strip() and not depth:
            break
        service.append(line)
    if service:
        yield _service(service, found)


def _service(lines: list[str], found: FoundBlock) -> Launched:
    def first(pattern: str) -> str | None:
        return next((each[1] for each in (re.match(pattern, line) for line in lines) if each), None)

    volumes = (re.match(VOLUME, line) for line in lines)
    return Launched(
        engine="docker",
        image=first(IMAGE),
        gpus=any(re.search(GPU_ASKED, line) for line in lines),
        user=first(USER),
        binds=tuple((each["source"], each["target"]) for each in volumes if each),
        quote=lines[0].strip(),
        source=Source("text", "", found.block.first_line),
    )


@check.reader(starts=r"DeviceRequests|\"Capabilities\":\s*\[\s*\[|^\s*\[\{\"Driver\"|capabilities:\s*\[")
def device_request(found: FoundBlock) -> Iterator[DeviceRequested]:
    """Driver capabilities in a device request, as ``docker inspect`` prints it or a compose file has it."""
    text = " ".join(line.text for line in found.block.lines[:30])
    told = re.search(r"[Cc]apabilities\"?:\s*\[+\s*(?P<list>[^\]]*)\]", text)
    if told:
        names = tuple(re.findall(r"[\w-]+", told["list"]))
        yield DeviceRequested(
            capabilities=names, quote=told[0].strip(), source=Source("text", "", found.block.lines[0].number)
        )
