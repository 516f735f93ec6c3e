"""Builds the fake NVIDIA driver of fixtures/driver, and puts it where the loader looks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCES = Path(__file__).resolve().parents[2] / "fixtures" / "driver"
SCENARIOS = SOURCES / "scenarios"
RELEASE = "580.65.06"

_PARTS = {"libcuda.so": "cuda*.c", "libnvidia-ml.so": "nvml*.c"}
"""Library, without version: its sources beside scenario.c."""

_FLAGS = (
    "-std=gnu11",
    "-O0",
    "-pthread",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
)


def build(into: Path) -> Path:
    """Compile both libraries into a directory, which is returned; about a second.

    Raises `subprocess.CalledProcessError` where they do not compile, `FileNotFoundError` without gcc.
    """
    into.mkdir(parents=True, exist_ok=True)
    for library, sources in _PARTS.items():
        files = [SOURCES / "scenario.c", *sorted(SOURCES.glob(sources))]
        soname = f"-Wl,-soname,{library}.1"
        output = into / f"{library}.{RELEASE}"
        subprocess.run(["gcc", *_FLAGS, soname, "-Wl,-z,defs", "-o", output, *files], check=True)
        _link(into, library, RELEASE)
    return into


class FakeDriver(msgspec.Struct, frozen=True):
    """The built libraries, in `lib_dir` under all the names that a driver's have."""

    lib_dir: Path

    def environ(self, scenario: str | Path, base: Mapping[str, str]) -> dict[str, str]:
        """`base`, with this driver found first by the loader, in the state that a scenario describes.

        `scenario` is the name of one in fixtures/driver/scenarios, or the path of a file.
        """
        path = scenario if isinstance(scenario, Path) else SCENARIOS / f"{scenario}.conf"
        if not path.is_file():
            raise FileNotFoundError(path)
        search = [str(self.lib_dir), *filter(None, [base.get("LD_LIBRARY_PATH")])]
        return {**base, "LD_LIBRARY_PATH": os.pathsep.join(search), "FAKE_DRIVER_SCENARIO": str(path)}

    def install(self, root: Path, release: str = RELEASE, libdir: str = "usr/lib/x86_64-linux-gnu") -> Path:
        """Put the libraries into a tree as a driver package does; returns the directory they went to."""
        target = root / libdir
        target.mkdir(parents=True, exist_ok=True)
        for library in _PARTS:
            shutil.copy2(self.lib_dir / f"{library}.{RELEASE}", target / f"{library}.{release}")
            _link(target, library, release)
        return target


def _link(directory: Path, library: str, release: str) -> None:
    """libX.so -> libX.so.1 -> libX.so.RELEASE, replacing what was there."""
    for name, destination in ((f"{library}.1", f"{library}.{release}"), (library, f"{library}.1")):
        (directory / name).unlink(missing_ok=True)
        (directory / name).symlink_to(destination)
