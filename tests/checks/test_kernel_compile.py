"""The compile-and-load probe with real compilers, and with what can be wrong around them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from envdoctor.facts import CouldNotLook, Source
from envdoctor.host import Host
from envdoctor.probing.child import python_request, run_child
from envdoctor.target import Target, TargetPaths, look_at_paths
from envdoctor_checks.kernel.compile_script import SCRIPT
from envdoctor_checks.kernel.facts import CompileStages
from envdoctor_checks.kernel.probe_compile import compile_stages

HAS_COMPILERS = all(shutil.which(name) for name in ("gcc", "g++"))
needs_compilers = pytest.mark.skipif(not HAS_COMPILERS, reason="no gcc and g++ on this machine")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces and other users take root")
SHOW = """
import json
import msgspec
from envdoctor.host import Host
from envdoctor_checks.kernel.probe_compile import compile_stages
from tests.checks.test_kernel_compile import asked
target, paths = asked(Host.here())
print(json.dumps(msgspec.to_builtins(compile_stages(Host.here(), target, paths))))
"""


def asked(host: Host, python: str = sys.executable) -> tuple[Target, TargetPaths]:
    target = Target(python=python, why="the test's own", named=True, source=Source("env", "--python"))
    return target, look_at_paths(host, target)


def compiled(**changes: str) -> CompileStages:
    """The probe on this machine with a changed environment; an empty value takes a variable away."""
    environ = {name: value for name, value in {**os.environ, **changes}.items() if value}
    host = Host.here(environ=environ)
    return compile_stages(host, *asked(host))


def outcome(stages: CompileStages) -> dict[str, bool]:
    return {stage.name: stage.ok for stage in stages.stages}


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@needs_compilers
def test_a_whole_toolchain_compiles_and_loads(tmp_path: Path) -> None:
    stages = compiled(CC="", CXX="", TMPDIR=str(tmp_path))
    assert outcome(stages) == {"c": True, "cxx": True, "python-h": True, "openmp": True, "load": True}
    assert stages.timed_out is None
    assert list(tmp_path.iterdir()) == []  # the private folder is gone


def test_without_compilers_each_stage_says_so(tmp_path: Path) -> None:
    stages = compiled(CC="", CXX="", PATH=str(tmp_path))
    assert outcome(stages) == {"c": False, "cxx": False}
    missing = stages.failed("cxx")
    assert missing is not None
    assert "g++ is not on PATH" in missing.output


@needs_compilers
def test_c_alone_is_loaded_too(tmp_path: Path) -> None:
    for name in ("gcc", "as", "ld"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    stages = compiled(CC="", CXX="", PATH=str(tmp_path))
    assert outcome(stages) == {"c": True, "cxx": False, "load": True}


@needs_compilers
def test_cc_and_cxx_are_what_is_started() -> None:
    stages = compiled(CC="/not/there/cc", CXX="/not/there/c++ -O1")
    assert outcome(stages) == {"c": False, "cxx": False, "python-h": False, "openmp": False}
    failed = stages.failed("cxx")
    assert failed is not None
    assert failed.command.startswith("/not/there/c++ -O1 ")
    assert "No such file or directory" in failed.output


@needs_compilers
def test_a_compiler_without_openmp_fails_at_that_stage_only(tmp_path: Path) -> None:
    refuse = 'for word in "$@"; do if [ "$word" = -fopenmp ]; then echo "clang: error: unsupported option \'-fopenmp\'" >&2; exit 1; fi; done'
    compiler = program(tmp_path, "clang++-without", f'{refuse}\nexec {shutil.which("g++")} "$@"')
    stages = compiled(CC="", CXX=str(compiler))
    assert outcome(stages) == {"c": True, "cxx": True, "python-h": True, "openmp": False, "load": True}
    failed = stages.failed("openmp")
    assert failed is not None
    assert "unsupported option '-fopenmp'" in failed.output


@needs_compilers
def test_a_python_without_headers_fails_at_that_stage_only(tmp_path: Path) -> None:
    """A wrapper that hides the folder, as if the package with the headers were not installed."""
    hide = 'for word in "$@"; do case "$word" in -I*) ;; *) set -- "$@" "$word";; esac; shift; done'
    compiler = program(
        tmp_path, "g++-without", f'{hide}\nexec {shutil.which("g++")} -nostdinc++ -isystem /dev/null "$@"'
    )
    plain = program(tmp_path, "g++-plain", f'{hide}\nexec {shutil.which("g++")} "$@"')
    stages = compiled(CC="", CXX=str(plain))
    if os.path.exists("/usr/include/Python.h"):
        pytest.skip("this machine has Python.h where every compiler finds it")
    assert outcome(stages) == {"c": True, "cxx": True, "python-h": False, "openmp": True, "load": True}
    failed = stages.failed("python-h")
    assert failed is not None
    assert "Python.h" in failed.output
    assert outcome(compiled(CC="", CXX=str(compiler)))["cxx"] is False


@needs_compilers
@needs_root
def test_a_noexec_folder_for_temporary_files_fails_at_loading(tmp_path: Path) -> None:
    mounted = f"mount --make-rprivate / && mount -t tmpfs -o noexec tmpfs {tmp_path} && exec {sys.executable} -c '{SHOW}'"
    told = in_namespace(mounted, TMPDIR=str(tmp_path), CC="", CXX="")
    stages = {stage["name"]: stage for stage in told["stages"]}
    assert stages["openmp"]["ok"]
    assert not stages["load"]["ok"]
    assert "failed to map segment" in stages["load"]["output"]


@needs_compilers
@needs_root
def test_a_full_disk_says_nothing_of_the_compiler(tmp_path: Path) -> None:
    fill = f"dd if=/dev/zero of={tmp_path}/filler bs=4096 2>/dev/null"
    mounted = f"mount --make-rprivate / && mount -t tmpfs -o size=64k tmpfs {tmp_path} && {{ {fill}; exec {sys.executable} -c '{SHOW}'; }}"
    with pytest.raises(AssertionError, match="CouldNotLook: the disk of temporary files is full"):
        in_namespace(mounted, TMPDIR=str(tmp_path), CC="", CXX="")


def in_namespace(script: str, **environ: str) -> dict[str, Any]:
    whole = {name: value for name, value in {**os.environ, **environ}.items() if value}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env=whole,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@needs_compilers
def test_a_hanging_compiler_is_named_by_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envdoctor_checks.kernel.probe_compile.DEADLINE", 2.0)
    compiler = program(tmp_path, "g++-slow", "sleep 60")
    stages = compiled(CC="", CXX=str(compiler))
    assert stages.timed_out in ("c", "cxx")
    assert stages.failed("load") is None


def test_an_interpreter_that_cannot_be_started_is_no_answer(tmp_path: Path) -> None:
    host = Host.here()
    target, paths = asked(host)
    gone = Target(python=str(tmp_path / "python"), why="", named=True, source=target.source)
    with pytest.raises(CouldNotLook, match="could not be started"):
        compile_stages(host, gone, paths)


def test_the_name_of_the_user_is_told(tmp_path: Path) -> None:
    assert compiled(CC="", CXX="", PATH=str(tmp_path), USER="alice", LOGNAME="").user == "alice"


@needs_root
def test_a_uid_without_a_name_has_none() -> None:
    """getpass.getuser() raises for a UID that no user database has; the rest goes on."""
    python = next(
        (each for each in ("/usr/bin/python3", "/usr/local/bin/python3") if os.path.exists(each)), None
    )
    if python is None or shutil.which("setpriv") is None:
        pytest.skip("no setpriv, or no interpreter that every user may run")
    hidden = ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME", "CC", "CXX")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    request = python_request(python, SCRIPT, deadline=30, env={**environ, "PATH": "/nowhere"})
    setpriv = (shutil.which("setpriv") or "setpriv", "--reuid=48151", "--regid=48151", "--clear-groups")
    result = run_child(msgspec.structs.replace(request, argv=(*setpriv, *request.argv), cwd="/"))
    assert result.ok, result.stderr.text
    user = next(stage for stage in result.stages if stage["stage"] == "user")
    assert user["name"] is None
    assert "48151" in user["error"]
    assert result.last_stage() == "cxx"
