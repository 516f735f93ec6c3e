"""A container's options, in the words of the engine at hand: docker's spelling is what rules write."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

BARE = frozenset(("--privileged", "--init", "--rm", "--read-only", "-i", "-t", "-it", "-d"))
"""Options of ``docker run`` that take no value."""

ALIASES = {"-e": "--env", "-v": "--volume", "-u": "--user", "-m": "--memory", "--net": "--network"}


class Option(msgspec.Struct, frozen=True):
    """One option of ``docker run``, its long name, and its value ("" for none)."""

    name: str
    value: str
    written: str
    """As it was written."""


_WORD = re.compile(r"""(?:\$\([^)]*\)|'[^']*'|"[^"]*"|\S)+""")
"""A word of the shell; ``$(id -u)`` is one."""


def options(adds: str) -> tuple[Option, ...]:
    """``--gpus all --ipc=host`` as options, in order."""
    words = _WORD.findall(adds)
    found: list[Option] = []
    while words:
        written = words.pop(0)
        name, equals, value = written.partition("=")
        if (
            not equals
            and name.startswith("-")
            and name not in BARE
            and words
            and not words[0].startswith("-")
        ):
            value = words.pop(0)
            written = f"{written} {value}"
        found.append(Option(ALIASES.get(name, name), _unquoted(value), written))
    return tuple(found)


def _unquoted(value: str) -> str:
    return value if "$(" in value else "".join(shlex.split(value))


def relaunch_lines(adds: str, engine: str | None) -> tuple[str, ...]:
    """What to type or to write into a manifest so that the container has these options."""
    wanted = options(adds)
    if engine == "kubernetes":
        return _kubernetes(wanted)
    if engine == "apptainer":
        return _apptainer(wanted)
    docker = (f"docker run {adds} ...",)
    podman = (f"podman run {' '.join(map(_podman, wanted))} ...",)
    if engine == "podman":
        return podman
    compose = tuple(
        f"# in compose.yaml, under the service: {line}" for each in wanted for line in _compose(each)
    )
    if engine is None:  # not known: a pasted text, say
        same = podman[0].removeprefix("podman") == docker[0].removeprefix("docker")
        return (*docker, *(() if same else podman), *compose, *_kubernetes(wanted))
    return (*docker, *compose)


def _podman(option: Option) -> str:
    """Podman hands GPUs over by the names of the Container Device Interface."""
    if option.name != "--gpus":
        return option.written
    return " ".join(f"--device nvidia.com/gpu={device}" for device in _devices(option.value))


def _devices(value: str) -> list[str]:
    """The value of ``--gpus``: ``all``, a count, or ``device=0,1``."""
    value = value.strip('"')
    if value.startswith("device="):
        return value.removeprefix("device=").split(",")
    return [str(index) for index in range(int(value))] if value.isdigit() else ["all"]


def _compose(option: Option) -> tuple[str, ...]:
    limit, _, amount = option.value.partition("=")
    lines = {
        "--gpus": f"gpus: {option.value}"
        if option.value in ("all", "") or option.value.isdigit()
        else "gpus: all",
        "--shm-size": f"shm_size: {option.value}",
        "--ipc": f"ipc: {option.value}",
        "--runtime": f"runtime: {option.value}",
        "--ulimit": f"ulimits: {{{limit}: {amount.partition(':')[0]}}}",
    }
    return (lines[option.name],) if option.name in lines else ()


def _kubernetes(wanted: tuple[Option, ...]) -> tuple[str, ...]:
    lines: list[str] = []
    for option in wanted:
        wording = KUBERNETES.get(option.name)
        lines += (
            wording(option.value) if wording else [f"# a pod has no counterpart of docker's {option.written}"]
        )
    return tuple(dict.fromkeys(lines))


CONTAINER_SPEC = "# in the pod's manifest, under the container:"
POD_SPEC = "# in the pod's manifest, under spec:"


def _kubernetes_gpus(value: str) -> list[str]:
    devices = _devices(value)
    count = 1 if devices == ["all"] else len(devices)
    return [CONTAINER_SPEC, f"resources: {{limits: {{nvidia.com/gpu: {count}}}}}"]


def _kubernetes_shm(value: str) -> list[str]:
    """Memory-backed volume: a pod cannot size /dev/shm otherwise, and sharing the host's is often
    forbidden.
    """
    size = value.rstrip("bB")
    unit = {"g": "Gi", "m": "Mi", "k": "Ki"}.get(size[-1:].lower(), "")
    limit = f", sizeLimit: {size[:-1]}{unit}" if unit else ""
    return [
        POD_SPEC,
        f"volumes: [{{name: shm, emptyDir: {{medium: Memory{limit}}}}}]",
        CONTAINER_SPEC,
        "volumeMounts: [{name: shm, mountPath: /dev/shm}]",
    ]


def _kubernetes_user(value: str) -> list[str]:
    user, _, group = value.partition(":")
    uid = user if user.isdigit() else "1000"
    gid = group if group.isdigit() else uid
    return [POD_SPEC, f"securityContext: {{runAsUser: {uid}, runAsGroup: {gid}, fsGroup: {gid}}}"]


def _kubernetes_env(value: str) -> list[str]:
    name, _, content = value.partition("=")
    quoted = msgspec.json.encode(content).decode()  # a JSON string is a YAML one
    return [CONTAINER_SPEC, f"env: [{{name: {name}, value: {quoted}}}]"]


def _kubernetes_volume(value: str) -> list[str]:
    host, _, rest = value.partition(":")
    return [
        POD_SPEC,
        f"volumes: [{{name: extra, hostPath: {{path: {host}}}}}]",
        CONTAINER_SPEC,
        f"volumeMounts: [{{name: extra, mountPath: {rest.partition(':')[0]}}}]",
    ]


def _under(place: str, line: str) -> Callable[[str], list[str]]:
    return lambda value: [place, line.replace("VALUE", value)]


KUBERNETES: dict[str, Callable[[str], list[str]]] = {
    "--gpus": _kubernetes_gpus,
    "--shm-size": _kubernetes_shm,
    "--ipc": lambda _: _kubernetes_shm(""),
    "--user": _kubernetes_user,
    "--env": _kubernetes_env,
    "--volume": _kubernetes_volume,
    "--runtime": _under(POD_SPEC, "runtimeClassName: VALUE"),
    "--network": _under(POD_SPEC, "hostNetwork: true"),
    "--pid": _under(POD_SPEC, "hostPID: true"),
    "--privileged": _under(CONTAINER_SPEC, "securityContext: {privileged: true}"),
    "--cap-add": _under(CONTAINER_SPEC, "securityContext: {capabilities: {add: [VALUE]}}"),
    "--memory": _under(CONTAINER_SPEC, "resources: {limits: {memory: VALUE}}"),
    "--cpus": _under(CONTAINER_SPEC, 'resources: {limits: {cpu: "VALUE"}}'),
    "--ulimit": lambda value: [
        f"# pods inherit limits: on the node, raise {value.partition('=')[0]} for containerd or CRI-O",
        f"# (Limit{value.partition('=')[0].upper()}=infinity in the unit of the runtime), and restart it",
    ],
    "--device": lambda _: ["# a pod gets devices from a device plugin, under resources.limits"],
}
"""What docker's option is in a pod's manifest."""

APPTAINER: dict[str, Callable[[str], str]] = {
    "--gpus": lambda _: "--nv",
    "--runtime": lambda _: "--nv",
    "--env": lambda value: f"--env {shlex.quote(value)}",
    "--volume": lambda value: f"--bind {shlex.quote(value)}",
}
APPTAINER_SHARES = {
    "--shm-size": "shared memory is the host's: enlarge it there",
    "--ipc": "interprocess communication is the host's already",
    "--network": "the network is the host's already",
    "--pid": "processes are the host's already",
    "--user": "it runs as you already",
    "--device": "devices are the host's already",
}
"""What an Apptainer container has of the host by itself."""


def _apptainer(wanted: tuple[Option, ...]) -> tuple[str, ...]:
    flags = [APPTAINER[option.name](option.value) for option in wanted if option.name in APPTAINER]
    lines = [
        f"# Apptainer: {APPTAINER_SHARES[option.name]}"
        for option in wanted
        if option.name in APPTAINER_SHARES
    ]
    if any(option.name == "--ulimit" and option.value.startswith("memlock") for option in wanted):
        lines.append(
            "ulimit -l unlimited  # in the shell that starts it; where refused, the administrator must raise it"
        )
    if flags:
        lines.append(f"apptainer exec {' '.join(dict.fromkeys(flags))} ...")
    return tuple(lines)
