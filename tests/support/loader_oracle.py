"""The real dynamic loader's answers: what it maps in a tree of `loader_trees`, in order, and its words where it fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import msgspec

from tests.support.loader_worlds import MULTIARCH, Script, World, plant

SOURCE = Path(__file__).with_name("loader_oracle.c")
LOADER = "/lib64/ld-linux-x86-64.so.2"
FLAGS = ("-O1", "-pie", "-fPIE", "-Wl,--spare-dynamic-tags=40", "-Wl,-z,now")
REFUSED = "error while loading shared libraries: "
MISSING_VERSION = " not found (required by "


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is loaded after the start or after one dlopen: paths as the link map has them, without program and vDSO."""

    objects: tuple[str, ...] = ()
    handle: str = ""
    """What dlopen returned."""
    error: str = ""
    """dlerror(), or for the start what ld.so printed."""


class Oracle:
    """The loader of this machine, for as many trees as one likes. `why_not` says whether it can be asked."""

    def __init__(self, folder: Path) -> None:
        self.parts = folder / "parts"
        self.prefix = () if os.getuid() == 0 else ("unshare", "-rm")
        self.parts.mkdir()
        subprocess.run(["gcc", *FLAGS, "-o", self.parts / "oracle", SOURCE], check=True, timeout=60)
        for name in ("libc.so.6", os.path.basename(LOADER)):
            shutil.copy(os.path.realpath(f"{MULTIARCH}/{name}"), self.parts / name)

    def plant(self, world: World, root: Path) -> None:
        plant(world, root, self.parts, self.prefix)

    def run(self, root: Path, script: Script) -> list[Answer]:
        """One answer for the start and one for each step; only the start's where the program did not start."""
        variables = {"LD_LIBRARY_PATH": script.library_path, "LD_PRELOAD": script.preload}
        steps = [f"{step.caller}:{step.flags}:{step.name}" for step in script.steps]
        command = [
            *self.prefix,
            self.parts / "oracle",
            "enter",
            root,
            script.cwd,
            str(script.uid),
            script.program,
        ]
        command += [str(len(steps)), *steps]
        command += [f"{name}={value}" for name, value in variables.items() if value is not None]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if told.returncode == 127 and REFUSED in told.stderr:
            return [Answer(error=told.stderr.partition(REFUSED)[2].rstrip("\n"))]
        if (
            told.returncode == 1 and MISSING_VERSION in told.stderr
        ):  # a line for each; dlopen names only the first
            line = next(line for line in told.stderr.splitlines() if MISSING_VERSION in line)
            return [Answer(error=line.removeprefix(f"{script.program}: "))]
        if told.returncode:
            raise RuntimeError(f"the oracle ended with {told.returncode}: {told.stderr}{told.stdout}")
        answers = [msgspec.json.decode(line, type=Answer) for line in told.stdout.splitlines()]
        return [msgspec.structs.replace(each, objects=_libraries(each.objects)) for each in answers]


def _libraries(objects: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in objects[1:] if name != "linux-vdso.so.1")


def why_not() -> str:
    """Why the real loader cannot be asked here; "" where it can."""
    if not os.path.exists(LOADER) or not os.path.exists(f"{MULTIARCH}/libc.so.6"):
        return "this is no Debian-like x86-64 machine with glibc"
    missing = [tool for tool in ("gcc", "ldconfig") if shutil.which(tool) is None]
    if missing:
        return f"no {missing[0]} on this machine"
    trial = ["unshare", "-m", "true"] if os.getuid() == 0 else ["unshare", "-rm", "true"]
    if shutil.which("unshare") is None or subprocess.run(trial, capture_output=True).returncode:
        return "neither root nor a user namespace of one's own"
    return ""


def subfolders() -> tuple[str, ...]:
    """The subdirectories of every directory that this machine's loader looks into, in its order."""
    told = subprocess.run(
        ["/bin/true"],
        env={"LD_DEBUG": "libs", "LD_LIBRARY_PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.search(r"search path=(\S+)\s+\(LD_LIBRARY_PATH\)", told.stderr)
    if found is None:
        raise RuntimeError(f"ld.so does not say where it looks: {told.stderr}")
    return tuple(each.removeprefix("/nowhere").lstrip("/") for each in found[1].split(":"))[:-1]


def list_diagnostics() -> str:
    """What this machine's loader says of itself."""
    return subprocess.run([LOADER, "--list-diagnostics"], capture_output=True, text=True, timeout=60).stdout
