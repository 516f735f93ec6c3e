"""A shell in which something is broken for real, looked at, and mended by the commands that the report itself offers.

One shell lives from the first check to the last, so that what one command exports, limits or mounts holds for the next.
"""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MOUNTS = ("unshare", "-m", "--propagation", "private")
"""Starts a program among mounts of its own."""
SOMEBODY = 48151
"""A UID that no machine has an entry for."""
PLACEHOLDER = r"<[a-z][^<>]*>"
PATIENCE = 300
"""Seconds for one command; a cold compilation takes ten to thirty."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces and other users take root")
needs_bash = pytest.mark.skipif(
    shutil.which("bash") is None, reason="no bash, which users type commands into"
)


class Shell:
    """bash, started through `prefix`. Its home and its temporary files are folders of the test's own."""

    def __init__(self, folder: Path, *prefix: str, **environ: str) -> None:
        self.folder = folder
        self.home, self.temporary = folder / "home", folder / "temporary"
        for each in (self.home, self.temporary):
            each.mkdir(exist_ok=True)
        env = {**os.environ, "HOME": str(self.home), "TMPDIR": str(self.temporary), **environ}
        self.process = subprocess.Popen(
            [*prefix, "bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in env.items() if value},
            cwd=REPOSITORY,
            text=True,
            bufsize=1,
        )
        self.log = folder / "log"
        if not os.geteuid():
            self.run('sudo() { "$@"; }')  # of root's own, which images often lack

    def run(self, command: str) -> None:
        """One line, in the shell itself. Raises AssertionError where it fails."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{{ {command}\n}} </dev/null >>{self.log} 2>&1; echo $?\n")
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        assert ready, f"no end after {PATIENCE} s: {command}"
        status = self.process.stdout.readline().strip()
        assert status == "0", (command, status, self.log.read_text() if self.log.exists() else "")

    def check(self, python: str, *arguments: str, own: str = sys.executable) -> Report:
        """`envdoctor check` on that interpreter, started by this shell; `own` is the one that runs envdoctor."""
        out = self.folder / "report.json"
        words = [own, "-m", "envdoctor", "check", "--format", "json", "--budget", "200", "--python", python]
        self.run(f"{shlex.join([*words, *arguments])} >{out}; [ $? -ne 2 ]")
        return Report(json.loads(out.read_text()))

    def apply(self, commands: list[str]) -> None:
        """What was offered, word for word."""
        assert commands
        for each in commands:
            assert not re.search(PLACEHOLDER, each), f"nobody can type {each}"
            self.run(each)

    def close(self) -> None:
        """End it, and with it its namespace."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@contextmanager
def shell(folder: Path, *prefix: str, **environ: str) -> Iterator[Shell]:
    """One that is closed."""
    made = Shell(folder, *prefix, **environ)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def mounted(folder: Path, *more: str, **environ: str) -> Iterator[Shell]:
    """One among mounts of its own; skips where there are none."""
    if subprocess.run([*MOUNTS, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    with shell(folder, *MOUNTS, *more, **environ) as made:
        yield made


class Report(msgspec.Struct, frozen=True):
    """What `check --format json` printed."""

    document: dict[str, Any]

    @property
    def roots(self) -> dict[str, str]:
        """Severity by rule."""
        found = reversed(self.document["findings"])
        return {each["id"]: each["severity"] for each in found if each["role"] == "root"}

    @property
    def smoke(self) -> str:
        """The row of the smoke test."""
        rows = (row["value"] for row in self.document["machine"] if row["label"] == "smoke test")
        return next(rows, "")

    def findings(self, rule: str) -> list[dict[str, Any]]:
        """What that rule found."""
        return [each for each in self.document["findings"] if each["id"] == rule]

    def fix(self, rule: str, having: str) -> list[str]:
        """The commands of the first fix for that rule in which these words stand."""
        offered = [fix["commands"] for each in self.findings(rule) for fix in each["fixes"]]
        found = [commands for commands in offered if any(having in command for command in commands)]
        assert found, (rule, having, offered, self.roots)
        return list(found[0])

    def commands(self, rule: str) -> list[str]:
        """All commands that it offers."""
        return [line for each in self.findings(rule) for fix in each["fixes"] for line in fix["commands"]]

    def is_green(self, whole: Report | None = None) -> None:
        """The compiled stages passed, and nothing is a root that is none where all is whole."""
        assert re.search(r"eager ok on the CPU; compiled on the CPU in [\d.]+ s cold", self.smoke), self.roots
        more = {rule: severity for rule, severity in self.roots.items() if severity != "note"}
        more |= {rule: severity for rule, severity in self.roots.items() if rule.startswith("kernel/")}
        known = whole.roots if whole is not None else {}
        assert {rule: severity for rule, severity in more.items() if known.get(rule) != severity} == {}


# Another user


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may write to: those of pytest are its own user's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o1777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def somebody(*words: str) -> tuple[str, ...]:
    """Starts a program as a user without a name, without its variables: a home that is not his, and nothing else."""
    return ("setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups", "env", "-i", *words)


def for_somebody(folder: Path, *sites: str) -> tuple[str, tuple[str, ...]]:
    """An interpreter in which that user can run envdoctor and import what lies in `sites`, and what starts it."""
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv to become another user with")
    paths = [*sites, str(REPOSITORY), str(REPOSITORY / "checks"), sysconfig.get_paths()["platlib"]]
    words = ("HOME=/", "PATH=/usr/bin:/bin", f"TMPDIR={folder}", f"PYTHONPATH={':'.join(paths)}")
    script = "import envdoctor.plugins, torch; assert envdoctor.plugins.load().checks"
    told = []
    for python in (sys.executable, "/usr/bin/python3"):
        ran = subprocess.run(
            [*somebody(*words), python, "-c", script], capture_output=True, text=True, cwd="/"
        )
        if ran.returncode == 0:
            return python, somebody(*words)
        told.append(f"{python}: {ran.stderr.strip().rpartition(chr(10))[2]}")
    pytest.skip(f"another user cannot run envdoctor and torch here: {'; '.join(told)}")
