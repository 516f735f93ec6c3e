"""What the core itself reads out of a pasted text: variables that it shows, and the surroundings that it betrays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from envdoctor.facts import Fact, Source
from envdoctor.platform import Platform
from envdoctor.surroundings import Surroundings, system_manager_of
from envdoctor.text.blocks import split_blocks
from envdoctor.text.model import Block, Line
from envdoctor.variables import Variables, is_allowed

ASSIGNED = re.compile(
    r"""(?:^|[\s;&|"'(]|--env[= ]|-e )(?:export\s+|setenv\s+|set\s+|ENV\s+)?([A-Z][A-Z0-9_]{1,60})=("[^"]*"|'[^']*'|[^\s;&|]*)"""
)
IN_PYTHON = re.compile(r"""os\.environ\[["']([A-Z][A-Z0-9_]+)["']\]\s*=\s*["']([^"']*)["']""")
PRINTED = re.compile(r"^\s*(?:declare -x |export )?([A-Z][A-Z0-9_]{1,60})=(.*)$")
ECHOED = re.compile(r"""(?:echo|printenv)\s+(?:-\w\s+)*["']?\$?\{?([A-Z][A-Z0-9_]+)\}?["']?\s*$""")
MANIFEST_NAME = re.compile(r"""^\s*-\s*name:\s*["']?([A-Z][A-Z0-9_]+)["']?\s*$""")
MANIFEST_VALUE = re.compile(r"""^\s*value:\s*["']?(.*?)["']?\s*$""")
ENV_COMMAND = re.compile(r"(?:^|[|;&]\s*|\s)(?:env|printenv|export|set|declare)\b")


def core_facts(lines: Sequence[Line], name: str) -> list[Fact]:
    """Variables, platform and surroundings, as far as the text shows them."""
    blocks = split_blocks(lines)
    facts: list[Fact] = []
    variables = dict(_variables(blocks))
    if variables:
        allowed = {key: value for key, value in variables.items() if is_allowed(key)}
        facts.append(Variables(values=allowed, complete=False, source=Source("text", name)))
    text = "\n".join(line.text for line in lines)
    platform = _platform(text, name)
    if platform is not None:
        facts.append(platform)
    facts.append(_surroundings(text, blocks, platform, name))
    return facts


def _variables(blocks: Sequence[Block]) -> Iterator[tuple[str, str]]:
    for block in blocks:
        command = block.command or ""
        for found in ASSIGNED.finditer(command):
            yield found.group(1), found.group(2).strip("\"'")
        echoed = ECHOED.search(command)
        if echoed and len(block.lines) <= 1:
            yield echoed.group(1), block.lines[0].text.strip() if block.lines else ""
        yield from _printed(block, lists_variables=bool(ENV_COMMAND.search(command)))


def _printed(block: Block, *, lists_variables: bool) -> Iterator[tuple[str, str]]:
    """Assignments in output: an environment listing, a script or Dockerfile that was shown, a manifest, Python."""
    waiting = None
    for line in block.lines:
        for found in IN_PYTHON.finditer(line.text):
            yield found.group(1), found.group(2)
        shown = PRINTED.match(line.text.removeprefix("ENV "))
        if shown and (lists_variables or is_allowed(shown.group(1))):
            yield shown.group(1), shown.group(2).strip().strip("\"'")
        if waiting is not None and (value := MANIFEST_VALUE.match(line.text)):
            yield waiting, value.group(1)
        name = MANIFEST_NAME.match(line.text)
        waiting = name.group(1) if name else None


LIBC = re.compile(r"\bglibc-?\s?(\d\.\d+)")
DISTRIBUTIONS = (
    ("ubuntu", re.compile(r"\bUbuntu (\d\d\.\d\d)", re.IGNORECASE)),
    ("debian", re.compile(r"\bDebian GNU/Linux (\d+)", re.IGNORECASE)),
    ("rhel", re.compile(r"\b(?:Red Hat Enterprise Linux|RHEL)\D{0,12}(\d+(?:\.\d+)?)", re.IGNORECASE)),
    ("rocky", re.compile(r"\bRocky Linux (\d+(?:\.\d+)?)", re.IGNORECASE)),
    ("fedora", re.compile(r"\bFedora (?:Linux )?(\d\d)", re.IGNORECASE)),
    ("centos", re.compile(r"\bCentOS (?:Linux |Stream )?(?:release )?(\d+)", re.IGNORECASE)),
    ("amzn", re.compile(r"\bAmazon Linux (\d+)", re.IGNORECASE)),
    ("arch", re.compile(r"\bArch Linux()\b", re.IGNORECASE)),
)
WINDOWS = re.compile(r"(?m)^(?:PS )?[A-Z]:\\|\bMicrosoft Windows|\bwin_amd64\b|File \"[A-Za-z]:\\")
WSL = re.compile(r"microsoft-standard-WSL2|/usr/lib/wsl/|\bWSL2\b")
ARM = re.compile(r"\baarch64\b|\barm64\b")
LINUX = re.compile(r"/usr/|/home/|/opt/|linux-gnu|\bLinux\b|\.so\b")


def _platform(text: str, name: str) -> Platform | None:
    """The platform, only where the text is clear about the system."""
    windows, wsl = bool(WINDOWS.search(text)), bool(WSL.search(text))
    if not windows and not wsl and not LINUX.search(text):
        return None
    distribution, version = None, None
    for identity, pattern in DISTRIBUTIONS:
        found = pattern.search(text)
        if found:
            distribution, version = identity, found.group(1) or None
            break
    libc = LIBC.search(text)
    return Platform(
        system="windows" if windows and not wsl and not re.search(r"\.so\.\d", text) else "linux",
        machine="aarch64" if ARM.search(text) else "x86_64",
        distribution=distribution,
        distribution_version=version,
        libc="glibc" if libc else None,
        libc_version=libc.group(1) if libc else None,
        wsl=wsl,
        source=Source("text", name),
    )


MANAGERS = (
    ("uv", re.compile(r"\buv (?:pip|run|sync|add|venv|lock)\b")),
    ("poetry", re.compile(r"\bpoetry (?:add|install|run|lock)\b|pypoetry")),
    ("conda", re.compile(r"\b(?:conda|mamba|micromamba) (?:install|create|activate|list|env)\b|\(base\)|[/\\](?:mini|ana)?(?:conda|forge)3?[/\\]")),
    ("pip", re.compile(r"\bpip3? (?:install|list|show|freeze|check)\b|/\.?venv/")),
)  # fmt: skip
SYSTEM = (
    ("apt", re.compile(r"\bapt(?:-get)? (?:install|update|upgrade)\b|\bdpkg\b")),
    ("dnf", re.compile(r"\b(?:dnf|yum) (?:install|update|upgrade)\b")),
    ("zypper", re.compile(r"\bzypper\b")),
    ("pacman", re.compile(r"\bpacman -S")),
)


def _surroundings(text: str, blocks: Sequence[Block], platform: Platform | None, name: str) -> Surroundings:
    """Managers that the text uses; the engine only where a prompt or path says so."""
    python = re.search(r"[/\\](?:lib[/\\])?python(\d\.\d+)[/\\]", text)
    by_distribution = system_manager_of(platform.distribution, ()) if platform else None
    return Surroundings(
        python_manager=next((manager for manager, seen in MANAGERS if seen.search(text)), None),
        system_manager=by_distribution
        or next((manager for manager, seen in SYSTEM if seen.search(text)), None),
        root=_root(blocks),
        python_version=python.group(1) if python else None,
        source=Source("text", name),
    )


def _root(blocks: Sequence[Block]) -> bool | None:
    """Whether the last prompt was root's; None without prompts."""
    told = [block.prompt.root for block in blocks if block.prompt is not None]
    return told[-1] if told else None
