"""Prompts: which lines were typed, by whom and where. Texts that only look like prompts stay output."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from .late import Late
from .model import Prompt, PromptKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .model import Line

__all__ = ["Prompt", "PromptKind", "Typed", "bare_command", "looks_typed", "prompt_head", "read_prompt"]


class Typed(msgspec.Struct, frozen=True):
    """A prompt with what follows it; `weak` prompts are only believed in the right surroundings."""

    prompt: Prompt
    command: str
    weak: bool = False


_NAME = r"[\w.+/@:~ -]{1,80}"
_ENVIRONMENT = rf"(?:\((?P<environment>{_NAME})\) *)?(?:\({_NAME}\) *)*"
_USER = r"(?P<user>I have no name!|[A-Za-z_][\w.\\-]*)"
_HOST = r"(?P<host>[\w.-]+)"
_NAMED = r"(?P<host>[A-Za-z][\w.-]*)"
_COMMAND = r"(?: +(?P<command>.*))?$"
_BRANCH = r"(?: ?[(\[][\w/.*+ =|~<>%↑↓✔-]{1,60}[)\]])?"
_STRONG = tuple(
    Late(_ENVIRONMENT + regex + _COMMAND)
    for regex in (
        # user@host:~/dir$    user@host:/dir (main) $    user@host:~>
        rf"{_USER}@{_HOST}: ?(?P<directory>(?:[~/]|\w:)[^$#%>]{{0,160}}?){_BRANCH} ?(?P<mark>[$#%>])",
        # [user@host dir]$    [user@host:~]#
        rf"\[(?:\({_NAME}\) *)?{_USER}@{_HOST}(?:[ :](?P<directory>[^\]]{{0,160}}))?\]"
        rf"{_BRANCH} ?(?P<mark>[$#%>])",
        # user@host dir %    user@host ~/dir>
        rf"{_USER}@{_HOST} (?P<directory>[\w.-]+) (?P<mark>%)",
        rf"{_USER}@{_HOST} (?P<directory>[~/]\S*?){_BRANCH} ?(?P<mark>[%>\u276f$#])",
        # host:~/dir #    host:dir user$
        rf"{_NAMED}:(?P<directory>[~/](?!/)[^\s$#%>:]*) ?(?P<mark>[$#])",
        rf"{_NAMED}:(?P<directory>[^\s$#%>:]+) (?P<user>[a-z_][\w.-]*)(?P<mark>[$#])",
        r"(?:ba)?sh-\d\.\d+(?P<mark>[$#])",
        # the second line of prompts that take two
        r"[└╰]─+ ?(?P<mark>[$#\u276f➤>λ])",
        r"(?P<container>Apptainer|Singularity)(?: [\w.+-]+:\S*)?>",
    )
)
_SHELL_MARKS = "$#%>\u276f➤λ"
"""One of which every strong prompt of a POSIX shell has."""
_WINDOWS = Late(
    rf"{_ENVIRONMENT}(?P<shell>PS )?(?P<directory>[A-Za-z]:(?:\\[^<>|\"?*]*)?(?<![-=\s])|(?<=PS )/[^>]*)>"
    r" ?(?P<command>.*)$"
)
_HEADS = (
    Late(
        rf"[┌╭]─+ ?{_ENVIRONMENT}[(\[]?{_USER}[@㉿💀]{_HOST}[)\]]?"
        r"(?:[-─ ]*\[?(?P<directory>[~/][^\]\s]*))?"
    ),
    Late(rf"{_USER}@{_HOST} MINGW(?:32|64) (?P<directory>\S+){_BRANCH}$"),
)
_PYTHON = Late(r">>>(?: (?P<command>.*))?$")
_IPYTHON = Late(r"In ?\[(?:\d+| )\]: ?(?P<command>.*)$")
_NOTEBOOK = Late(r"[!%](?P<command>[a-z].*)$")
_DOLLAR = Late(rf"{_ENVIRONMENT}\$(?: +(?P<command>(?![\d ])[\w./~_\"'(\[{{!$@-].*))?$")
_HASH = Late(rf"{_ENVIRONMENT}(?:(?P<directory>/[\w.-]{{0,40}}|~) )?# +(?P<command>\S.*)$")
_PERCENT = Late(r"(?:(?P<host>[A-Za-z][\w.-]*)?%) +(?P<command>[a-z./~].*)$")
_ARROW = Late(
    rf"{_ENVIRONMENT}(?:➜ +(?P<directory>[^\s:]+)(?: git:\([^)]*\))?(?: ✗)?|(?:\S.{{0,100}} )?[\u276f➤λ]) +"
    r"(?P<command>[A-Za-z./~].*)$"
)
_TRACE = Late(r"\++ (?P<command>\S.*)$")
_ACTIONS = Late(r"(?:##\[group\]Run |\[command\])(?P<command>\S.*)$")
_ACTIONS_RUN = Late(r"Run (?P<command>[a-z./]\S* ?.*)$")
_STEP = r"\[[^\]]{0,120}?\b\d{1,4}/\d{1,4}\]"
_BUILD = Late(
    rf"(?:#\d+ (?:ERROR )?{_STEP}|Step \d+/\d+ :| ?=> (?:ERROR |CACHED )?{_STEP}| ?> {_STEP})"
    r" RUN (?P<command>.*?):?(?: +\d+\.\d+s)?$"
)
# What stands first on lines that were typed; weak prompts need one of these, or a path, or an assignment.
_PROGRAM_NAMES = """
accelerate alias apptainer apt apt-cache apt-get awk bash blkid cat cc cd chmod chown chroot cl cmake
command conda cp cuda-gdb curl cut date dcgmi deepspeed df dig dkms dmesg dmidecode dnf docker
docker-compose dpkg dpkg-query du echo egrep enroot env ethtool exit export fgrep file find findmnt fio
free g++ gcc gdb getconf getent getfacl git grep grub-mkconfig hash head helm hostname hostnamectl ibstat
ibv_devices ibv_devinfo id ifconfig insmod ip ipcs iperf3 journalctl jupyter kill kubectl ldconfig ldd
less ln locale ls lsb_release lsblk lscpu lshw lsmod lsof lspci make mamba md5sum micromamba mkdir modinfo
modprobe module mokutil mount mpirun mv nc nerdctl netstat ninja nm nohup nslookup numactl nvcc
nvidia-bug-report.sh nvidia-container-cli nvidia-ctk nvidia-debugdump nvidia-modprobe nvidia-persistenced
nvidia-settings nvidia-smi objdump openssl pacman patchelf perl pgrep ping pip pip3 pipenv pipx pixi
pkg-config podman poetry printenv printf ps pwd pytest python python3 ray readelf readlink rm rmmod rpm
rsync salloc sbatch scontrol sed seq service sestatus sh sha256sum sinfo singularity source squeue srun ss
ssh stat strace strings su sudo sysctl systemctl systemd-detect-virt tail tar tee test time timedatectl
timeout top torchrun touch tr tree type ubuntu-drivers ulimit umount uname uniq unset update-initramfs
uptime uv uvx vi vim virsh vllm watch wc wget where whereis which which.exe whoami wsl xargs yum zcat
zgrep zypper
"""
_PROGRAMS = frozenset(_PROGRAM_NAMES.split())
_PROGRAM_LIKE = Late(r"(?:[A-Z_][A-Z0-9_]*=\S* |(?:\.{1,2}|~)?/[\w.-]+/?\S*(?: |$)|(?:python|pip)3?\.\d+ )")

# Commands that are known for what they are without any prompt: what programs advise ("pip install x") is not among them.
_BARE = Late(
    r"(?:python[\d.]*|(?:/[\w.-]+)+/python[\d.]*)(?: -[A-Za-z]+)* -c [\"'].*"
    r"|python[\d.]* -m (?:pip (?:list|show|freeze|check)|torch\.utils\.collect_env|torch\.distributed\.\w+|bitsandbytes|xformers\.info)\b.*"
    r"|nvidia-smi(?: +(?:-|topo|nvlink|mig|conf-compute)\S*.*)?|nvcc (?:-V|--version)|rocm-smi"
    r"|pip[\d.]* (?:list|show|freeze|check)\b.*|uv pip (?:list|show|freeze|check|tree)\b.*|conda (?:list|info)\b.*"
    r"|(?:docker|podman|nerdctl) (?:run|exec) -.*|(?:docker|podman) (?:info|version)|docker compose (?:run|exec|logs|up)\b.*"
    r"|(?:apptainer|singularity) (?:exec|run|shell) -.*|kubectl (?:get|describe|logs|exec) .*|torchrun (?:-|\S+\.py\b).*"
    r"|(?:lspci|lsmod|ldconfig|ulimit|uname|mokutil|dmesg|df|free|dpkg|rpm|id|getenforce) -.*|lsmod(?: *\|.*)?"
    r"|lspci(?: *\|.*)?|dkms status|ls -\S* .*|ls /dev/\S.*|ldd /\S+|cat /(?:proc|sys|etc|usr|dev)/\S.*|env *\| *grep .*"
    r"|echo \"?\$\{?[A-Z_]+\}?\"?|printenv [A-Z_]+|which(?: (?:python|pip|nvcc|nvidia-smi|gcc|g\+\+|ptxas|conda|ninja)[\d.]*)+|(?:gcc|g\+\+|ptxas|ninja) --version"
)
_BARE_LETTERS = frozenset("acdefgiklmnprstuw/")


def looks_typed(text: str) -> bool:
    """Tell a command from prose after a weak prompt such as `# `."""
    first = text.split(None, 1)[0] if text.strip() else ""
    if first in _PROGRAMS:
        # "# which driver is this?" and "# time for tea." are prose that begins with a program's name
        return not text.rstrip().endswith(("?", ".", ":", "!")) or text.rstrip().endswith(("/.", " ."))
    return bool(_PROGRAM_LIKE.match(text))


def read_prompt(line: Line) -> Typed | None:
    """Recognise a prompt at the start of a line, strong ones first."""
    text = line.text
    if not text or (text[0] in " \t" and text[1:2] not in "=>"):
        return None
    if "@" in text or ":" in text or text[0] in "bs([└╰ASP":
        strong = _strong(text)
        if strong:
            return strong
    return _by_mark(line)


def _strong(text: str) -> Typed | None:
    windows = _WINDOWS.match(text) if ">" in text else None
    if windows:
        kind: PromptKind = "powershell" if windows["shell"] else "cmd"
        prompt = Prompt(kind, directory=windows["directory"], environment=windows["environment"])
        return Typed(prompt, windows["command"].strip())
    if not any(mark in text for mark in _SHELL_MARKS):
        return None
    for regex in _STRONG:
        found = regex.match(text)
        if found:
            return _typed(found)
    return None


def _typed(found: re.Match[str]) -> Typed:
    """Build the prompt of a POSIX shell from what an expression names."""
    said = found.groupdict()
    mark, user = said.get("mark"), said.get("user")
    root = user == "root" if user else {"#": True, "$": False, "%": False}.get(mark or "")
    prompt = Prompt(
        "shell",
        user,
        said.get("host"),
        said.get("directory"),
        said.get("environment"),
        root,
        said.get("container"),
    )
    return Typed(prompt, (said.get("command") or "").strip())


def _by_mark(line: Line) -> Typed | None:
    """Recognise the prompts that consist of little more than a mark."""
    text = line.text
    for first, regex, kind, weak in _MARKS:
        if text[0] not in first:
            continue
        found = regex.match(text)
        if found:
            command = (found["command"] or "").strip()
            if kind == "ipython" and _NOTEBOOK.match(command):
                return Typed(Prompt("notebook"), command[1:].strip())
            return Typed(Prompt(kind), command, weak)
    found = (
        _ACTIONS_RUN.match(text) if text.startswith("Run ") and line.prefix.rstrip().endswith("Z") else None
    )
    if found and looks_typed(found["command"]):
        return Typed(Prompt("actions"), found["command"])
    return _plain_shell(text)


_MARKS: tuple[tuple[str, Late, PromptKind, bool], ...] = (
    (">", _PYTHON, "python", False),
    ("I", _IPYTHON, "ipython", False),
    ("!%", _NOTEBOOK, "notebook", True),
    ("+", _TRACE, "trace", True),
    ("#[", _ACTIONS, "actions", False),
    ("#S => ", _BUILD, "build", False),
)


def _plain_shell(text: str) -> Typed | None:
    for regex, root, weak in _candidates(text):
        found = regex.match(text)
        if found:
            said = found.groupdict()
            place = said.get("host"), said.get("directory"), said.get("environment")
            return Typed(Prompt("shell", None, *place, root), (found["command"] or "").strip(), weak)
    return None


def _candidates(text: str) -> Iterator[tuple[Late, bool | None, bool]]:
    """Choose by cheap signs which expressions are worth trying: whose shell, and whether it is weak."""
    first = text[0]
    if first in "($" and ("$ " in text or text[-1] == "$"):
        yield _DOLLAR, False, False
    if first in "(#/~" and "# " in text:
        yield _HASH, True, True
    if "% " in text:
        yield _PERCENT, False, True
    if "\u276f" in text or "➜" in text or "➤" in text or "λ" in text:
        yield _ARROW, None, True


def bare_command(text: str) -> Typed | None:
    """Recognise a command that was pasted without its prompt, where nothing else looks like it."""
    if text[:1] in _BARE_LETTERS and _BARE.fullmatch(text.rstrip()):
        return Typed(Prompt("shell"), text.strip())
    return None


def prompt_head(text: str) -> Prompt | None:
    """Recognise the first line of a prompt that takes two (`┌──(user㉿host)-[~/dir]`)."""
    for regex in _HEADS:
        found = regex.match(text)
        if found:
            return _typed(found).prompt
    return None
