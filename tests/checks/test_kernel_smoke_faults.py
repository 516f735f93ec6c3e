"""The smoke test where a toolchain, a disk or a limit is broken for real: each is named by its rule, with a fix."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from envdoctor.check import Tier
from envdoctor.engine import gathered
from envdoctor.facts import Facts, Printed, Source
from envdoctor.host import Host
from envdoctor.target import Target
from envdoctor_checks.kernel.facts_smoke import AddressSpace, SmokeCompile, SmokeEager
from envdoctor_checks.torch.facts import TorchBuild
from envdoctor_checks.torch.probe_import import import_torch
from tests.checks.test_kernel_smoke import Tried, fake_torch, needs_compilers, needs_torch, torch_python
from tests.support.cases import doctor, judged_facts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces, limits and signals as on Linux")
ROOT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces and other users take root")


@needs_torch
def test_a_toolchain_fault_is_known_before_anything_is_compiled(tmp_path: Path) -> None:
    tried = Tried(torch_python(), device="cpu", PATH=str(tmp_path), CC="", CXX="")
    reason = tried.not_tried()["kernel.smoke-compile-cpu"]
    assert "compiler-missing says why it would fail" in reason
    assert tried.seen.facts.get(SmokeCompile) is None
    assert "kernel/cxx-compiler-missing" in tried.roots()
    assert tried.eager.well


@pytest.mark.slow
@needs_torch
def test_no_compiler_on_path_is_the_root_of_the_failure(tmp_path: Path) -> None:
    tried = Tried(torch_python(), device="cpu", deep=True, PATH=str(tmp_path), CC="", CXX="")
    assert tried.roots()["kernel/cxx-compiler-missing"] == "error"
    failed = tried.finding("kernel/compile-failed")
    assert failed.role == "consequence"
    assert "kernel/cxx-compiler-missing" in failed.consequence_of
    assert tried.finding("kernel/cxx-compiler-missing").fixes


@pytest.mark.slow
@needs_torch
@needs_compilers
@needs_root
def test_a_folder_from_which_nothing_may_be_loaded(tmp_path: Path) -> None:
    report = in_namespace(
        f"mount -t tmpfs -o noexec tmpfs {tmp_path}", "--deep", env={"TMPDIR": str(tmp_path)}
    )
    roots = roots_of(report)
    assert roots["kernel/cache-dir-noexec"] == "error"
    assert "kernel/compile-failed" not in roots
    assert any("INDUCTOR_CACHE_DIR" in line for line in fixes_of(report, "kernel/cache-dir-noexec"))


@pytest.mark.slow
@needs_torch
@needs_compilers
@needs_root
def test_a_full_disk_under_temporary_files(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=2m tmpfs {tmp_path}; dd if=/dev/zero of={tmp_path}/filler bs=4k count=480 2>/dev/null"
    report = in_namespace(mount, env={"TMPDIR": str(tmp_path)})
    roots = roots_of(report)
    assert roots["host/disk-full"] == "error"
    assert "kernel/compile-failed" not in roots
    assert any("TMPDIR" in line for line in fixes_of(report, "host/disk-full"))


@pytest.mark.slow
@needs_torch
@needs_compilers
@needs_root
def test_a_python_without_its_headers() -> None:
    ask = "import sysconfig; print(sysconfig.get_paths()['include'])"
    include = subprocess.run(
        [torch_python(), "-c", ask], capture_output=True, text=True, check=True
    ).stdout.strip()
    report = in_namespace(f"mount -t tmpfs tmpfs {include}", "--deep")
    roots = roots_of(report)
    assert roots["kernel/python-headers-missing"] == "error"
    assert "kernel/compile-failed" not in roots


@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv to give rights away with")
def test_a_cache_of_another_user_is_named_without_being_tried(tmp_path: Path) -> None:
    cache = tmp_path / "torchinductor_root"
    cache.mkdir(mode=0o755)
    os.chown(cache, 48151, 48151)
    bound = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
    may = "import os, sys; print(os.access(sys.argv[1], os.W_OK))"
    told = subprocess.run([*bound, sys.executable, "-c", may, str(cache)], capture_output=True, text=True)
    if told.stdout.strip() != "False":
        pytest.skip("root may write everywhere here")
    env = {"TORCHINDUCTOR_CACHE_DIR": str(cache)}
    rule = "kernel/cache-dir-owned-by-other-user"
    python = fake_torch(tmp_path, "return Tensor()")
    report = envdoctor("--quick", python=python, prefix=bound, env=env)
    assert [each["subject"] for each in report["findings"] if each["id"] == rule] == [f"path:{cache}"]
    assert any("chown" in line for line in fixes_of(report, rule))
    os.chown(cache, 0, 0)
    after = envdoctor("--quick", python=python, prefix=bound, env=env)
    assert rule not in {each["id"] for each in after["findings"]}


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
@pytest.mark.skipif(
    not all(map(shutil.which, ("setpriv", "prlimit"))), reason="no prlimit and setpriv to be bounded by"
)
def test_a_limit_of_threads_names_its_own_rule(tmp_path: Path) -> None:
    """Another user, who may have one thread, and no name; the torch is the real one, in an interpreter of the system's."""
    where = "import os, torch; print(os.path.dirname(os.path.dirname(torch.__file__)))"
    site = subprocess.run(
        [torch_python(), "-c", where], capture_output=True, text=True, check=True
    ).stdout.strip()
    given = smoke_as(tmp_path, f"PYTHONPATH={site}", "OMP_NUM_THREADS=64", "OPENBLAS_NUM_THREADS=1")
    facts = gathered(each for each in given if not isinstance(each, Printed))
    for printed in (each for each in given if isinstance(each, Printed)):
        facts = facts.merged(Facts(symptoms=doctor().messages().printed(printed)))
    eager = facts.get(SmokeEager)
    if not isinstance(eager, SmokeEager):
        pytest.skip(f"no interpreter that another user may run has that torch: {eager}")
    assert eager.ended is not None
    assert "Resource temporarily unavailable" in eager.ended.said
    found = judged_facts(facts).findings
    roots = [each.rule for each in found if each.is_root]
    assert "container/pids-limit" in roots
    assert "kernel/eager-failed" not in roots


def smoke_as(folder: Path, *variables: str) -> list[Any]:
    """What the eager probe gives where the target runs as a user with one thread."""
    wrapper = folder / "python"
    words = (
        "prlimit",
        "--nproc=1:1",
        "setpriv",
        "--reuid=48151",
        "--regid=48151",
        "--clear-groups",
        "/usr/bin/env",
    )
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join((*words, "HOME=/", *variables))} /usr/bin/python3 "$@"\n')
    wrapper.chmod(0o755)
    source = Source("call", "the test")
    target = Target(python=str(wrapper), why="the test's own", named=True, source=source)
    build = TorchBuild(version="2.13.0+cpu", path="/", source=source)
    return list(import_torch(Host.here(), None, None, target, None, build, None, None))  # type: ignore[arg-type] # paths are not used


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


def in_namespace(mounts: str, *arguments: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`check` on the processor among mounts of its own."""
    script = f'mount --make-rprivate / && {mounts}; exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", script, "sh")
    return envdoctor("--device", "cpu", *arguments, prefix=prefix, env=env)


def roots_of(report: dict[str, Any]) -> dict[str, str]:
    return {each["id"]: each["severity"] for each in reversed(report["findings"]) if each["role"] == "root"}


def fixes_of(report: dict[str, Any], rule: str) -> list[str]:
    found = [each for each in report["findings"] if each["id"] == rule]
    return [line for each in found for fix in each["fixes"] for line in (fix["title"], *fix["commands"])]
