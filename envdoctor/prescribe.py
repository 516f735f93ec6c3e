"""`prescribe`: one pure function that words remedies for the surroundings. Unknown surroundings give a line each."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from functools import singledispatch

import msgspec

from envdoctor.remedies import (
    AskAdministrator,
    Change,
    DropPathEntry,
    Install,
    InstallSystem,
    NoFix,
    Reach,
    Relaunch,
    Remedy,
    Run,
    SetVariable,
    Uninstall,
    UnsetVariable,
    UpgradeDriver,
)
from envdoctor.surroundings import Surroundings

PYTORCH_INDEX = "https://download.pytorch.org/whl/"

SYSTEM_PACKAGES: dict[str, dict[str, str]] = {
    "c-compiler": {"apt": "gcc libc6-dev", "dnf": "gcc glibc-devel", "zypper": "gcc glibc-devel", "pacman": "gcc", "apk": "gcc musl-dev"},
    "cxx-compiler": {"apt": "g++", "dnf": "gcc-c++", "zypper": "gcc-c++", "pacman": "gcc", "apk": "g++"},
    "python-headers": {"apt": "python{python}-dev", "dnf": "python{python}-devel", "zypper": "python{digits}-devel", "pacman": "python", "apk": "python3-dev"},
    "openmp": {"apt": "libgomp1", "dnf": "libgomp", "zypper": "libgomp1", "pacman": "gcc-libs", "apk": "libgomp"},
    "binutils": {"apt": "binutils", "dnf": "binutils", "zypper": "binutils", "pacman": "binutils", "apk": "binutils"},
    "ninja": {"apt": "ninja-build", "dnf": "ninja-build", "zypper": "ninja", "pacman": "ninja", "apk": "ninja"},
    "libgl": {"apt": "libgl1", "dnf": "mesa-libGL", "zypper": "Mesa-libGL1", "pacman": "libglvnd", "apk": "mesa-gl"},
    "libstdcxx": {"apt": "libstdc++6", "dnf": "libstdc++", "zypper": "libstdc++6", "pacman": "gcc-libs", "apk": "libstdc++"},
    "nvidia-driver": {"apt": "nvidia-driver-{branch}", "dnf": "nvidia-driver", "zypper": "nvidia-open-driver-G06-signed-kmp-default", "pacman": "nvidia-open"},
    "nvidia-driver-open": {"apt": "nvidia-driver-{branch}-open", "dnf": "nvidia-open", "zypper": "nvidia-open-driver-G06-signed-kmp-default", "pacman": "nvidia-open"},
    "nvidia-compute": {"apt": "libnvidia-compute-{branch}", "dnf": "nvidia-driver-cuda", "zypper": "nvidia-compute-utils-G06", "pacman": "nvidia-utils"},
    "nvidia-container-toolkit": {"apt": "nvidia-container-toolkit", "dnf": "nvidia-container-toolkit", "zypper": "nvidia-container-toolkit", "pacman": "nvidia-container-toolkit"},
    "nvidia-fabricmanager": {"apt": "nvidia-fabricmanager-{branch}", "dnf": "nvidia-fabricmanager"},
    "kernel-headers": {"apt": "linux-headers-$(uname -r)", "dnf": "kernel-devel-$(uname -r)", "zypper": "kernel-default-devel", "pacman": "linux-headers"},
    "rdma-core": {"apt": "ibverbs-providers libibverbs1 rdma-core", "dnf": "rdma-core", "zypper": "rdma-core"},
}  # fmt: skip
"""Operating-system packages by what they are for. ``{python}`` is 3.11, ``{digits}`` 311, ``{branch}`` the driver's."""

INSTALL_COMMANDS = {
    "apt": "apt-get install -y",
    "dnf": "dnf install -y",
    "zypper": "zypper install -y",
    "pacman": "pacman -S --needed",
    "apk": "apk add",
}
DEFAULT_BRANCH = "580"
"""The driver branch to offer when any newer one will do: a long-lived one, and the floor of CUDA 13."""


class Fix(msgspec.Struct, frozen=True, omit_defaults=True):
    """A remedy in words and commands, ready to be shown. Never run."""

    title: str
    reach: str
    commands: tuple[str, ...] = ()
    needs_root: bool = False
    needs_restart: str = ""
    """"", ``process``, ``session``, ``container`` or ``machine``."""
    caveat: str = ""
    verify: str = ""


def prescribe(remedies: Iterable[Remedy], around: Surroundings) -> tuple[tuple[Fix, ...], str | None]:
    """The fixes, smallest reach first, and the reason why there is none where a remedy says so."""
    fixes: list[Fix] = []
    no_fix: str | None = None
    for remedy in remedies:
        if isinstance(remedy, NoFix):
            no_fix = no_fix or remedy.reason
            continue
        fix = word(remedy, around)
        fixes.append(
            msgspec.structs.replace(
                fix, caveat=_sentences(fix.caveat, remedy.caveat), verify=remedy.verify or fix.verify
            )
        )
    fixes.sort(key=lambda fix: Reach(fix.reach).order)
    return tuple(dict.fromkeys(fixes)), no_fix if not fixes else None


def _sentences(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _title(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what


@singledispatch
def word(remedy: Remedy, around: Surroundings) -> Fix:
    """One remedy, worded. Raises TypeError for a remedy that nobody taught us to word."""
    raise TypeError(f"no wording for {type(remedy).__name__}")


@word.register
def _(remedy: Install, around: Surroundings) -> Fix:
    names = ", ".join(remedy.requirements)
    index = remedy.index or (PYTORCH_INDEX + remedy.build if remedy.build else "")
    commands = _per_manager(around, lambda manager: _install_line(manager, remedy, index, around))
    build = f" built for {remedy.build}" if remedy.build else ""
    verb = "reinstall" if remedy.reinstall else "install"
    caveat = ""
    if around.python_manager == "conda" or (around.python_manager is None):
        caveat = "In a conda environment, pip replaces what conda installed; prefer one of the two for all of torch."
    return Fix(_title(f"{verb} {names}{build}", remedy.why), "environment", commands, caveat=caveat)


def _install_line(manager: str, remedy: Install, index: str, around: Surroundings) -> str:
    words = " ".join(shlex.quote(each) for each in remedy.requirements)
    suffix = f" --index-url {index}" if index else ""
    if manager == "uv":
        again = " --reinstall" if remedy.reinstall else ""
        return f"uv pip install{_uv_python(around)}{again} {words}{suffix}"
    if manager == "poetry":
        again = " --force-reinstall --no-deps" if remedy.reinstall else ""
        return f"poetry run pip install{again} {words}{suffix}"
    again = " --force-reinstall --no-deps" if remedy.reinstall else ""
    return f"{_python(around)} -m pip install{again} {words}{suffix}"


@word.register
def _(remedy: Uninstall, around: Surroundings) -> Fix:
    words = " ".join(shlex.quote(each) for each in remedy.distributions)

    def line(manager: str) -> str:
        if manager == "uv":
            return f"uv pip uninstall{_uv_python(around)} {words}"
        if manager == "conda":
            return f"conda remove {words}"
        return f"{_python(around)} -m pip uninstall -y {words}"

    return Fix(
        _title(f"uninstall {', '.join(remedy.distributions)}", remedy.why), "environment", _per_manager(around, line)
    )


@word.register
def _(remedy: InstallSystem, around: Surroundings) -> Fix:
    reach = "host" if around.engine in (None, "none") else "container"
    commands = _system_lines(remedy.package, around, DEFAULT_BRANCH)
    what = remedy.package.replace("-", " ")
    caveat = "Put the same line into the image's Dockerfile to keep it." if reach == "container" else ""
    return Fix(_title(f"install the {what}", remedy.why), reach, commands, needs_root=True, caveat=caveat)


def _system_lines(package: str, around: Surroundings, branch: str) -> tuple[str, ...]:
    names = SYSTEM_PACKAGES[package]
    managers = [around.system_manager] if around.system_manager in names else list(names)[:3]
    version = around.python_version
    return tuple(
        f"{_sudo(around)}{INSTALL_COMMANDS[manager]} "
        + names[manager].format(python=version or "3", digits=(version or "3").replace(".", ""), branch=branch)
        for manager in managers
        if manager is not None
    )


@word.register
def _(remedy: UpgradeDriver, around: Surroundings) -> Fix:
    branch = remedy.floor.partition(".")[0] or DEFAULT_BRANCH
    branch = str(max(int(branch), int(DEFAULT_BRANCH))) if branch.isdigit() else DEFAULT_BRANCH
    at_least = f" of at least {remedy.floor}" if remedy.floor else ""
    flavour = " with the open kernel modules" if remedy.open_modules else ""
    package = "nvidia-driver-open" if remedy.open_modules else "nvidia-driver"
    inside = around.engine not in (None, "none")
    commands = () if inside else _system_lines(package, around, branch)
    return Fix(
        _title(f"install an NVIDIA driver{at_least}{flavour} on the host", remedy.why),
        "host",
        commands,
        needs_root=True,
        needs_restart="machine",
        caveat=(
            "The driver belongs to the host: nothing inside the container can replace it. " if inside else ""
        )
        + "Running GPU jobs end with the reboot.",
        verify="nvidia-smi",
    )


@word.register
def _(remedy: UnsetVariable, around: Surroundings) -> Fix:
    return Fix(
        _title(f"unset {remedy.name}", remedy.why),
        "shell",
        (f"unset {remedy.name}",),
        needs_restart="process",
        caveat=f"Also remove it from where it is set (~/.bashrc, a Dockerfile ENV, a job script): "
        f"grep -n {remedy.name} ~/.bashrc ~/.profile ~/.bash_profile",
    )


@word.register
def _(remedy: SetVariable, around: Surroundings) -> Fix:
    line = f"export {remedy.name}={shlex.quote(remedy.value)}"
    return Fix(_title(f"set {remedy.name}={remedy.value}", remedy.why), "shell", (line,), needs_restart="process")


@word.register
def _(remedy: DropPathEntry, around: Surroundings) -> Fix:
    entry = shlex.quote(remedy.entry)
    line = (
        f'export {remedy.name}=$(printf %s "${remedy.name}" | tr : \'\\n\' | grep -vxF {entry} | paste -sd: -)'
    )
    return Fix(
        _title(f"take {remedy.entry} out of {remedy.name}", remedy.why), "shell", (line,), needs_restart="process"
    )


@word.register
def _(remedy: Relaunch, around: Surroundings) -> Fix:
    engines = {
        "docker": ("docker run {adds} ...",),
        "podman": ("podman run {adds} ...",),
    }
    known = engines.get(around.engine or "", engines["docker"])
    commands = tuple(line.format(adds=remedy.adds) for line in known) if remedy.adds else ()
    if around.engine == "kubernetes":
        commands = (*commands, *KUBERNETES.get(remedy.adds.partition("=")[0].partition(" ")[0], ()))
    without = f" without {remedy.removes}" if remedy.removes else ""
    with_ = f" with {remedy.adds}" if remedy.adds else ""
    return Fix(
        _title(f"start the container anew{with_}{without}", remedy.why),
        "container",
        commands,
        needs_restart="container",
    )


KUBERNETES: dict[str, tuple[str, ...]] = {
    "--gpus": ("# in the pod's container spec", "resources: {limits: {nvidia.com/gpu: 1}}"),
    "--shm-size": (
        "# in the pod spec",
        "volumes: [{name: shm, emptyDir: {medium: Memory, sizeLimit: 8Gi}}]",
        "volumeMounts: [{name: shm, mountPath: /dev/shm}]",
    ),
    "--ipc": ("# in the pod spec", "volumes: [{name: shm, emptyDir: {medium: Memory}}]"),
    "--user": ("# in the pod spec", "securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000}"),
    "--ulimit": ("# limits come from the node's container runtime (LimitMEMLOCK of containerd's unit)",),
}
"""What docker's option is in a Kubernetes manifest."""


@word.register
def _(remedy: Run, around: Surroundings) -> Fix:
    commands = tuple(_with_sudo(each, around) if remedy.needs_root else each for each in remedy.commands)
    return Fix(
        remedy.title,
        remedy.reach.value,
        commands,
        needs_root=remedy.needs_root,
        needs_restart=remedy.needs_restart,
    )


@word.register
def _(remedy: Change, around: Surroundings) -> Fix:
    return Fix(remedy.title, remedy.reach.value, remedy.example, needs_restart=remedy.needs_restart)


@word.register
def _(remedy: AskAdministrator, around: Surroundings) -> Fix:
    commands = tuple(_with_sudo(each, around) for each in remedy.commands)
    return Fix(
        f"ask whoever runs the host: {remedy.what}",
        "host",
        commands,
        needs_root=True,
        needs_restart=remedy.needs_restart,
    )


def _per_manager(around: Surroundings, line: Callable[[str], str]) -> tuple[str, ...]:
    """One command where the manager is known; otherwise pip's and uv's, which both work in any venv."""
    managers = (around.python_manager,) if around.python_manager else ("pip", "uv")
    return tuple(dict.fromkeys(line(manager) for manager in managers))


def _python(around: Surroundings) -> str:
    return shlex.quote(around.python) if around.python else "python"


def _uv_python(around: Surroundings) -> str:
    return f" --python {shlex.quote(around.python)}" if around.python else ""


def _sudo(around: Surroundings) -> str:
    return "" if around.root else "sudo "


def _with_sudo(command: str, around: Surroundings) -> str:
    if around.root or command.startswith(("sudo ", "#")):
        return command
    return f"sudo {command}"
