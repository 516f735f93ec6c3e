"""What the core itself reads out of a pasted text: variables that it shows, and the surroundings that it betrays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from envdoctor.facts import Fact, Source
from envdoctor.platform import Platform
from envdoctor.surroundings import Surroundings, system_manager_of
from envdoctor.text.blocks import split_blocks
from envdoctor.text.late import Late
from envdoctor.text.model import Block, Line
from envdoctor.variables import Variables, is_allowed

ASSIGNED = Late(
    r"""(?:^|[\s;&|"'(]|--env[= ]|-e )(?:export\s+|setenv\s+|set\s+|ENV\s+)?([A-Z][A-Z0-9_]{1,60})=("[^"]*"|'[^']*'|[^\s;&|]*)"""
)
IN_PYTHON = Late(r"""os\.environ\[["']([A-Z][A-Z0-9_]+)["']\]\s*=\s*["']([^"']*)["']""")
PRINTED = Late(r"^\s*(?:declare -x |export )?([A-Z][A-Z0-9_]{1,60})=(.*)$")
ECHOED = Late(r"""(?:echo|printenv)\s+(?:-\w\s+)*["']?\$?\{?([A-Z][A-Z0-9_]+)\}?["']?\s*$""")
MANIFEST_NAME = Late(r"""^\s*-\s*name:\s*["']?([A-Z][A-Z0-9_]+)["']?\s*$""")
MANIFEST_VALUE = Late(r"""^\s*value:\s*["']?(.*?)["']?\s*$""")
ENV_COMMAND = Late(r"(?:^|[|;&]\s*|\s)(?:env|printenv|export|set|declare)\b")


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


DISTRIBUTIONS = (
    ("ubuntu", "ubuntu", r"\bUbuntu (\d\d\.\d\d)"),
    ("debian", "debian", r"\bDebian GNU/Linux (\d+)"),
    ("rhel", "red hat", r"\bRed Hat Enterprise Linux\D{0,12}(\d+(?:\.\d+)?)"),
    ("rocky", "rocky linux", r"\bRocky Linux (\d+(?:\.\d+)?)"),
    ("fedora", "fedora", r"\bFedora (?:Linux )?(\d\d)"),
    ("centos", "centos", r"\bCentOS (?:Linux |Stream )?(?:release )?(\d+)"),
    ("amzn", "amazon linux", r"\bAmazon Linux (\d+)"),
    ("arch", "arch linux", r"\bArch Linux()\b"),
)
"""os-release's ID, a word that must be there before the pattern is tried, and the pattern, with the version."""
WINDOWS = r"(?m)^(?:PS )?[A-Z]:\\|\bMicrosoft Windows|\bwin_amd64\b|File \"[A-Za-z]:\\"
LINUX = ("/usr/", "/home/", "/opt/", "linux-gnu", "Linux", ".so.", ".so:")


def _platform(text: str, name: str) -> Platform | None:
    """The platform, only where the text is clear about the system."""
    windows = bool(re.search(WINDOWS, text))
    wsl = any(each in text for each in ("microsoft-standard-WSL2", "/usr/lib/wsl/", "WSL2"))
    if not windows and not wsl and not any(each in text for each in LINUX):
        return None
    low, distribution, version = text.lower(), None, None
    for identity, word, pattern in DISTRIBUTIONS:
        if word in low and (found := re.search(pattern, text, re.IGNORECASE)):
            distribution, version = identity, found.group(1) or None
            break
    libc = re.search(r"\bglibc-?\s?(\d\.\d+)", text) if "glibc" in text else None
    return Platform(
        system="windows" if windows and not wsl and not re.search(r"\.so\.\d", text) else "linux",
        machine="aarch64" if "aarch64" in text or "arm64" in text else "x86_64",
        distribution=distribution,
        distribution_version=version,
        libc="glibc" if libc else None,
        libc_version=libc.group(1) if libc else None,
        wsl=wsl,
        source=Source("text", name),
    )


MANAGERS = (
    ("uv", "uv ", r"\buv (?:pip|run|sync|add|venv|lock)\b"),
    ("poetry", "poetry", r"\bpoetry (?:add|install|run|lock)\b|pypoetry"),
    (
        "conda",
        "conda",
        r"\b(?:conda|mamba) (?:install|create|activate|list|env)\b|[/\\](?:mini|ana)?conda3?[/\\]",
    ),
    ("conda", "(base)", r"\(base\)"),
    ("conda", "forge", r"\bmicromamba\b|[/\\](?:mini|mamba)forge3?[/\\]"),
    ("pip", "pip", r"\bpip3? (?:install|list|show|freeze|check)\b"),
    ("pip", "venv/", r"/\.?venv/"),
)
SYSTEM = (
    ("apt", ("apt install", "apt-get ", "apt update", "dpkg")),
    ("dnf", ("dnf ", "yum ")),
    ("zypper", ("zypper ",)),
    ("pacman", ("pacman -S",)),
)


def _surroundings(text: str, blocks: Sequence[Block], platform: Platform | None, name: str) -> Surroundings:
    """Managers that the text uses; the engine only where a prompt or path says so."""
    python = re.search(r"[/\\](?:lib[/\\])?python(\d\.\d+)[/\\]", text)
    by_distribution = system_manager_of(platform.distribution, ()) if platform else None
    return Surroundings(
        python_manager=next(
            (name for name, word, seen in MANAGERS if word in text and re.search(seen, text)), None
        ),
        system_manager=by_distribution
        or next((name for name, words in SYSTEM if any(word in text for word in words)), None),
        root=_root(blocks),
        python_version=python.group(1) if python else None,
        source=Source("text", name),
    )


def _root(blocks: Sequence[Block]) -> bool | None:
    """Whether the last prompt was root's; None without prompts."""
    told = [block.prompt.root for block in blocks if block.prompt is not None]
    return told[-1] if told else None
