"""Real Python environments with a torch of our own making, and envdoctor run as a process on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Done = subprocess.CompletedProcess[str]
DEADLINE = 120
"""Seconds that no run needs; only a broken test waits so long."""
VERSION = (
    "__version__ = '{version}'\ndebug = False\ncuda: 'str | None' = {cuda!r}\nhip: 'str | None' = None\n"
)


class Environment(msgspec.Struct, frozen=True):
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "bin" / "python")

    @property
    def site(self) -> Path:
        """Where its packages are."""
        return (
            self.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        )

    def wheel(self, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
        """The metadata of an installed package."""
        info = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = "".join(f"Requires-Dist: {each}\n" for each in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{lines}")
        (info / "RECORD").write_text("")
        (info / "INSTALLER").write_text("pip\n")

    def torch(self, code: str, *, version: str = "2.8.0+cu128", cuda: str | None = "12.8") -> Environment:
        """A torch whose import runs `code`; its version.py says what it was built for."""
        folder = self.site / "torch"
        folder.mkdir()
        (folder / "version.py").write_text(VERSION.format(version=version, cuda=cuda))
        (folder / "__init__.py").write_text(f"from torch.version import __version__\n{code}")
        self.wheel("torch", version)
        return self


def environment(folder: Path) -> Environment:
    """A fresh one, without pip, that imports nothing of the test run's own."""
    venv.create(folder, with_pip=False, symlinks=True)
    return Environment(folder)


def environ(folder: Path, **more: str) -> dict[str, str]:
    """A user's environment: a home of their own, and nothing that this test run was started with."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    # The compile caches of whoever runs the tests are not what is tested.
    own = {"PATH": os.environ["PATH"], "HOME": str(home), "USER": "tester", "LANG": "C.UTF-8"}
    return {**own, **more}


def envdoctor(*arguments: str, env: Mapping[str, str], cwd: Path | None = None, stdin: str = "") -> Done:
    """Run envdoctor to its end."""
    command = [sys.executable, "-m", "envdoctor", *arguments]
    return subprocess.run(
        command, env=dict(env), cwd=cwd, input=stdin, capture_output=True, text=True, timeout=DEADLINE
    )


def report_of(done: Done) -> dict[str, Any]:
    """The report document that was written, whole, to standard output."""
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["schema"] == "envdoctor.report/1"
    return document


def verdicts(document: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(id, severity, role, subject) of every finding, in their order."""
    return [(each["id"], each["severity"], each["role"], each["subject"]) for each in document["findings"]]
