"""The smoke test where a toolchain, a disk or a limit is broken for real: each is named by its rule, with a fix."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from envdoctor.check import Tier
from envdoctor.engine import gathered
from envdoctor.facts import Facts, Printed, Source
from envdoctor.host import Host
from envdoctor.report import Selection
from envdoctor.target import Target
from envdoctor_checks.kernel.facts_smoke import AddressSpace, SmokeCompile, SmokeEager
from envdoctor_checks.torch.facts import TorchBuild
from envdoctor_checks.torch.probe_import import import_torch
from tests.checks.test_kernel_smoke import Tried, needs_torch, torch_python
from tests.support.cases import doctor
from tests.support.faults import SOMEBODY, needs_bash, needs_root

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces, limits and signals as on Linux")
ROOT = Path(__file__).parents[2]


@needs_torch
def test_a_toolchain_fault_is_known_before_anything_is_compiled(tmp_path: Path) -> None:
    tried = Tried(torch_python(), device="cpu", PATH=str(tmp_path), CC="", CXX="")
    reason = tried.not_tried()["kernel.smoke-compile-cpu"]
    assert "compiler-missing says why it would fail" in reason
    assert tried.seen.facts.get(SmokeCompile) is None
    assert "kernel/cxx-compiler-missing" in tried.roots()
    assert tried.eager.well


@needs_torch
@pytest.mark.parametrize("kibibytes", [600_000])
def test_a_limit_of_the_address_space(kibibytes: int) -> None:
    report = envdoctor("--device", "cpu", prefix=("sh", "-c", f'ulimit -v {kibibytes}; exec "$@"', "sh"))
    roots = roots_of(report)
    if not {"kernel/address-space-limit", "torch/import-fails"} & roots.keys():
        pytest.skip("this torch needs less address space than that")
    assert roots["kernel/address-space-limit"] == "error"
    assert any("ulimit -v unlimited" in line for line in fixes_of(report, "kernel/address-space-limit"))


@needs_torch
@needs_root
@needs_bash
@pytest.mark.skipif(
    not all(map(shutil.which, ("setpriv", "prlimit"))), reason="no prlimit and setpriv to be bounded by"
)
def test_a_limit_of_threads_names_its_own_rule(tmp_path: Path) -> None:
    """Another user, who may have one thread, and no name; the torch is the real one, in an interpreter of the system's."""
    where = "import os, torch; print(os.path.dirname(os.path.dirname(torch.__file__)))"
    site = subprocess.run(
        [torch_python(), "-c", where], capture_output=True, text=True, check=True
    ).stdout.strip()
    variables = (f"PYTHONPATH={site}", "OMP_NUM_THREADS=64", "OPENBLAS_NUM_THREADS=1")
    facts = smoke_as(tmp_path, ":", *variables)
    eager = facts.get(SmokeEager)
    if not isinstance(eager, SmokeEager):
        pytest.skip(f"no interpreter that another user may run has that torch: {eager}")
    assert eager.ended is not None
    assert "Resource temporarily unavailable" in eager.ended.said
    seen = doctor().look(Host.here(), tier=Tier.QUICK, python=sys.executable)
    report = doctor().report(structs.replace(seen, facts=seen.facts.merged(facts)), Selection())
    roots = [each.id for each in report.findings if each.role == "root"]
    assert "container/pids-limit" in roots
    assert "kernel/eager-failed" not in roots
    found = next(each for each in report.findings if each.id == "container/pids-limit")
    offered = next(line for fix in found.fixes for line in fix.commands if line.startswith("ulimit "))
    after = smoke_as(tmp_path, offered, *variables).get(SmokeEager)
    assert isinstance(after, SmokeEager)
    assert after.well, after


def smoke_as(folder: Path, before: str, *variables: str) -> Facts:
    """What the eager probe gives where a user with one thread types `before` and starts the target."""
    wrapper = folder / "python"
    own = SOMEBODY + 1  # whose processes no other test adds to
    user = ("setpriv", f"--reuid={own}", f"--regid={own}", "--clear-groups")
    words = ("prlimit", "--nproc=1:4096", *user, "env", "HOME=/", *variables, "bash", "-c")
    wrapper.write_text(
        f'#!/bin/sh\nexec {shlex.join(words)} {shlex.quote(before)}\'; exec /usr/bin/python3 "$@"\' bash "$@"\n'
    )
    wrapper.chmod(0o755)
    source = Source("call", "the test")
    target = Target(python=str(wrapper), why="the test's own", named=True, source=source)
    build = TorchBuild(version="2.13.0+cpu", path="/", source=source)
    given = list(import_torch(Host.here(), None, None, target, None, build, None, None))  # type: ignore[arg-type] # paths are not used
    facts = gathered(each for each in given if not isinstance(each, Printed))
    for printed in (each for each in given if isinstance(each, Printed)):
        facts = facts.merged(Facts(symptoms=doctor().messages().printed(printed)))
    return facts


def test_the_limit_is_read(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f'ulimit -v 4000000; exec "{sys.executable}" -c "$0"', READ_LIMIT],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert int(done.stdout) == 4_000_000 * 1024
    here = doctor().look(Host.here(environ={"PATH": str(tmp_path)}), tier=Tier.QUICK, python=sys.executable)
    assert isinstance(here.facts.get(AddressSpace), AddressSpace)


READ_LIMIT = """
from envdoctor.host import Host
from envdoctor.report import Selection
from envdoctor_checks.kernel.probe_smoke import address_space
fact = address_space(Host.here())
print(fact.limit)
"""


# The machinery


def envdoctor(
    *arguments: str,
    python: str | None = None,
    prefix: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The report of `check` in a process of its own, on the real torch where no other interpreter is given."""
    command = [*prefix, sys.executable, "-m", "envdoctor", "check", "--format", "json", "--budget", "200"]
    done = subprocess.run(
        [*command, "--python", python or torch_python(), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **(env or {})},
        cwd=ROOT,
    )
    assert done.returncode in (0, 1, 3), done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def roots_of(report: dict[str, Any]) -> dict[str, str]:
    return {each["id"]: each["severity"] for each in reversed(report["findings"]) if each["role"] == "root"}


def fixes_of(report: dict[str, Any], rule: str) -> list[str]:
    found = [each for each in report["findings"] if each["id"] == rule]
    return [line for each in found for fix in each["fixes"] for line in (fix["title"], *fix["commands"])]
