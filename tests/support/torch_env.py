"""Real virtual environments with a torch of our own making: enough of a package to be found, read and imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from envdoctor.host import Host
from envdoctor.target import Target, TargetPaths, choose, look_at_paths


class Environment:
    """One venv without pip, and what lies in its site-packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        self.python = str(folder / "bin" / "python")
        self.site = next(folder.glob("lib/python*/site-packages"))

    def torch(self, version: str, cuda: str | None, init: str = "", hip: str | None = None) -> Path:
        """A torch folder with a generated version.py and its metadata; `init` is run when it is imported."""
        package = self.site / "torch"
        package.mkdir(exist_ok=True)
        lines = [
            "from typing import Optional",
            "__all__ = ['__version__', 'cuda']",
            f"__version__ = {version!r}",
            "debug = False",
            f"cuda: Optional[str] = {cuda!r}",
            f"hip: Optional[str] = {hip!r}",
        ]
        (package / "version.py").write_text("\n".join(lines) + "\n")
        (package / "__init__.py").write_text(init or "from .version import __version__\n")
        self.metadata("torch", version)
        return package

    def metadata(self, name: str, version: str, *requires: str) -> Path:
        """A dist-info folder with a METADATA that asks for these."""
        folder = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(exist_ok=True)
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {each}" for each in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n\nA description.\nRequires-Dist: nothing\n")
        return folder

    def host(self, **variables: str) -> Host:
        """The machine, with only these variables and a PATH."""
        return Host.here(environ={"PATH": os.environ["PATH"], **variables})

    def target(self, **variables: str) -> tuple[Host, Target, TargetPaths]:
        """What a probe asks for: the host, the target and its paths."""
        host = self.host(**variables)
        target = choose(host, self.python)
        return host, target, look_at_paths(host, target)
