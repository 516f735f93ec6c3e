"""`prescribe`: one pure function that words remedies for the surroundings.

What is not known of the surroundings is not guessed: each candidate gets its line. Commands are valid
shell, lines for a manifest or a Dockerfile stand under a comment that says so, and nothing here is ever
run.
"""

from __future__ import annotations

import shlex
from functools import singledispatch
from typing import TYPE_CHECKING

import msgspec

from envdoctor.prescribe_container import relaunch_lines
from envdoctor.prescribe_system import DEFAULT_BRANCH, SYSTEM_PACKAGES, install_lines, repository_caveat
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

# The wordings below are dispatched by the types of their annotations, so these must exist when they run.
from envdoctor.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PYTORCH_INDEX = "https://download.pytorch.org/whl/"


class Fix(msgspec.Struct, frozen=True):
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
    by_commands: dict[tuple[str, ...], Fix] = {}
    for fix in fixes:  # two signs of one cause may give one remedy in other words: what is typed decides
        by_commands.setdefault(fix.commands or (fix.title,), fix)
    return tuple(by_commands.values()), no_fix if not fixes else None


def _sentences(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _title(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what


@singledispatch
def word(remedy: Remedy, around: Surroundings) -> Fix:
    """One remedy, worded. One of a kind that nobody taught us to word is named, without a command."""
    return Fix(f"{type(remedy).__name__}, a remedy of a plugin that envdoctor cannot word", Reach.HOST.value)


@word.register
def _(remedy: Install, around: Surroundings) -> Fix:
    build = f" built for {remedy.build}" if remedy.build else ""
    verb = "reinstall" if remedy.reinstall else "install"
    return Fix(
        _title(f"{verb} {', '.join(remedy.requirements)}{build}", remedy.why),
        Reach.ENVIRONMENT.value,
        _per_manager(around, lambda manager: _install_lines(manager, remedy, around)),
        caveat=_install_caveat(around, remedy),
    )


def _install_lines(manager: str, remedy: Install, around: Surroundings) -> tuple[str, ...]:
    words = " ".join(shlex.quote(each) for each in remedy.requirements)
    index = remedy.index or (PYTORCH_INDEX + remedy.build if remedy.build else "")
    suffix = f" --index-url {shlex.quote(index)}" if index else ""
    if manager == "uv":
        # uv links files out of its cache, so a file damaged in place is damaged there as well
        again = " --reinstall --no-deps --no-cache" if remedy.reinstall else ""
        return (f"uv pip install{_uv_python(around)}{again} {words}{suffix}",)
    if manager == "poetry" and not remedy.reinstall:
        return _poetry_lines(words, index, remedy.build or "extra")
    again = " --force-reinstall --no-deps" if remedy.reinstall else ""
    if not around.externally_managed:
        return (f"{_python(around)} -m pip install{again} {words}{suffix}",)
    if remedy.reinstall or _inside(
        around
    ):  # in a container there is nothing else that the distribution's Python serves
        return (f"{_python(around)} -m pip install --break-system-packages{again} {words}{suffix}",)
    return (
        f"{_python(around)} -m venv ~/.venvs/torch",
        f"~/.venvs/torch/bin/python -m pip install {words}{suffix}",
    )


def _poetry_lines(words: str, index: str, name: str) -> tuple[str, ...]:
    if not index:
        return (f"poetry add {words}",)
    source = shlex.quote(f"pytorch-{name}" if index.startswith(PYTORCH_INDEX) else name)
    return (
        f"poetry source add --priority=explicit {source} {shlex.quote(index)}",
        f"poetry add --source {source} {words}",
    )


def _install_caveat(around: Surroundings, remedy: Install) -> str:
    if around.python_manager == "uv":
        return "In a project with uv.lock, write it into pyproject.toml too (uv add), or the next uv sync undoes it."
    if around.python_manager == "poetry":
        return "Run it in the project's folder."
    if around.python_manager == "conda":
        return "pip replaces what conda installed: get all of torch from one of the two."
    if around.python_manager is None:
        return (
            "In a conda environment, pip replaces what conda installed: get all of torch from one of the two."
        )
    if around.externally_managed and not remedy.reinstall and not _inside(around):
        return (
            "This Python is the distribution's own and pip must not change it (PEP 668); programs then need the new "
            "environment's Python. On Debian and Ubuntu, venv comes with the package python3-venv."
        )
    return ""


@word.register
def _(remedy: Uninstall, around: Surroundings) -> Fix:
    words = " ".join(shlex.quote(each) for each in remedy.distributions)

    def line(manager: str) -> tuple[str, ...]:
        if manager == "uv":
            return (f"uv pip uninstall{_uv_python(around)} {words}",)
        allowed = " --break-system-packages" if around.externally_managed else ""
        return (f"{_python(around)} -m pip uninstall -y{allowed} {words}",)

    caveats = {
        "conda": "What conda itself installed (see conda list) is removed with conda remove, under conda's name.",
        "poetry": "What pyproject.toml lists is removed with poetry remove, or the next poetry install restores it.",
        "uv": "What pyproject.toml lists is removed with uv remove, or the next uv sync restores it.",
    }
    return Fix(
        _title(f"uninstall {', '.join(remedy.distributions)}", remedy.why),
        Reach.ENVIRONMENT.value,
        _per_manager(around, line),
        caveat=caveats.get(around.python_manager or "conda", ""),
    )


@word.register
def _(remedy: InstallSystem, around: Surroundings) -> Fix:
    title = _title(f"install the {remedy.package.replace('-', ' ')}", remedy.why)
    if not _inside(around):
        lines = install_lines(remedy.package, around, sudo=_sudo(around))
        caveat = repository_caveat(lines) or _no_package(lines, around)
        return Fix(title, Reach.HOST.value, lines, needs_root=True, caveat=caveat)
    lines = install_lines(remedy.package, around)
    if around.engine == "apptainer":
        lines = ("# in the %post section of the image's definition file:", *lines) if lines else ()
    elif around.root is False:  # images that run as a user rarely have sudo
        lines = (
            ("# in the image's Dockerfile:", "USER root", *(f"RUN {line}" for line in lines)) if lines else ()
        )
    caveat = _no_package(lines, around) or (
        "Put the same line into the image's Dockerfile to keep it." if around.root is not False else ""
    )
    return Fix(title, Reach.CONTAINER.value, lines, needs_root=True, caveat=caveat)


def _no_package(lines: tuple[str, ...], around: Surroundings) -> str:
    return "" if lines else f"No package of {around.system_manager} is known to have it."


@word.register
def _(remedy: UpgradeDriver, around: Surroundings) -> Fix:
    floor = remedy.floor.partition(".")[0]
    branch = str(max(int(floor), int(DEFAULT_BRANCH))) if floor.isdigit() else DEFAULT_BRANCH
    at_least = f" of at least {remedy.floor}" if remedy.floor else ""
    if around.wsl:
        return Fix(
            _title(f"install an NVIDIA driver{at_least} in Windows", remedy.why),
            Reach.HOST.value,
            ("wsl.exe --shutdown",),
            needs_restart="machine",
            caveat="WSL uses the driver of Windows: get it from nvidia.com/drivers there, then restart WSL with the "
            "command. A Linux driver must never be installed inside WSL: it hides the one that works.",
            verify="nvidia-smi",
        )
    flavour = " with the open kernel modules" if remedy.open_modules else ""
    package = "nvidia-driver-open" if remedy.open_modules else "nvidia-driver"
    lines = () if _inside(around) else install_lines(package, around, branch=branch, sudo=_sudo(around))
    inside = (
        "The driver belongs to the host: nothing inside the container can replace it."
        if _inside(around)
        else ""
    )
    return Fix(
        _title(f"install an NVIDIA driver{at_least}{flavour} on the host", remedy.why),
        Reach.HOST.value,
        lines,
        needs_root=True,
        needs_restart="machine",
        caveat=_sentences(inside, repository_caveat(lines), "Running GPU jobs end with the reboot."),
        verify="nvidia-smi",
    )


@word.register
def _(remedy: UnsetVariable, around: Surroundings) -> Fix:
    return Fix(
        _title(f"unset {remedy.name}", remedy.why),
        Reach.SHELL.value,
        (f"unset {remedy.name}",),
        needs_restart="process",
        caveat=f"Also remove it from where it is set (~/.bashrc, a Dockerfile ENV, a job script): "
        f"grep -n {remedy.name} ~/.bashrc ~/.profile ~/.bash_profile",
    )


@word.register
def _(remedy: SetVariable, around: Surroundings) -> Fix:
    line = f"export {remedy.name}={shlex.quote(remedy.value)}"
    return Fix(
        _title(f"set {remedy.name}={remedy.value}", remedy.why),
        Reach.SHELL.value,
        (line,),
        needs_restart="process",
    )


@word.register
def _(remedy: DropPathEntry, around: Surroundings) -> Fix:
    name, entry = remedy.name, shlex.quote(remedy.entry)
    kept = f"printf %s \"${name}\" | tr : '\\n' | grep -vxF -e {entry} | paste -sd: -"
    return Fix(
        _title(f"take {remedy.entry or 'the empty entry'} out of {name}", remedy.why),
        Reach.SHELL.value,
        (f'export {name}="$({kept})"',),
        needs_restart="process",
    )


@word.register
def _(remedy: Relaunch, around: Surroundings) -> Fix:
    what = "the pod" if around.engine == "kubernetes" else "the container"
    changes = [f"with {remedy.adds}"] if remedy.adds else []
    changes += [f"without {remedy.removes}"] if remedy.removes else []
    return Fix(
        _title(" ".join((f"start {what} anew", " and ".join(changes))).strip(), remedy.why),
        Reach.CONTAINER.value,
        relaunch_lines(remedy.adds, around.engine) if remedy.adds else (),
        needs_restart="container",
    )


@word.register
def _(remedy: Run, around: Surroundings) -> Fix:
    root = around.root is True
    commands = tuple(_with_sudo(each, root) if remedy.needs_root else each for each in remedy.commands)
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
    ours = around.root is True and around.engine == "none"
    return Fix(
        remedy.what if ours else f"ask whoever runs the host: {remedy.what}",
        Reach.HOST.value,
        tuple(_with_sudo(each, ours) for each in remedy.commands),
        needs_root=True,
        needs_restart=remedy.needs_restart,
    )


def _per_manager(around: Surroundings, lines: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    """The commands of the manager where it is known; otherwise pip's and uv's, which both work in any venv."""
    managers = (around.python_manager,) if around.python_manager else ("pip", "uv")
    return tuple(dict.fromkeys(line for manager in managers for line in lines(manager)))


def _python(around: Surroundings) -> str:
    return shlex.quote(around.python) if around.python else "python"


def _uv_python(around: Surroundings) -> str:
    return f" --python {shlex.quote(around.python)}" if around.python else ""


def _inside(around: Surroundings) -> bool:
    """Whether we are in a container. Not known counts as not."""
    return around.engine not in (None, "none")


def _sudo(around: Surroundings) -> str:
    return "" if around.root else "sudo "


_BUILTINS = frozenset(("cd", "export", "unset", "ulimit", "umask", "source", ".", "set"))
"""What the shell does itself: sudo has no program of that name to start."""


def _with_sudo(command: str, root: bool) -> str:
    """The command as root would have it run: sudo reaches one program, so a pipe or redirection needs a
    shell.
    """
    if root:
        return command.removeprefix("sudo ")
    if command.startswith(("sudo ", "#")) or command.partition(" ")[0] in _BUILTINS:
        return command
    return f"sudo sh -c {shlex.quote(command)}" if _needs_shell(command) else f"sudo {command}"


def _needs_shell(command: str) -> bool:
    """Whether something in it outside of quotes is the shell's: a pipe, a redirection, a list."""
    words = shlex.shlex(command, posix=False, punctuation_chars="|&;<>")
    words.whitespace_split = True
    try:
        return any(word[0] in "|&;<>" for word in words)
    except ValueError:  # quotes that never close: let the shell say so
        return True


__all__ = ["SYSTEM_PACKAGES", "Fix", "prescribe", "word"]
