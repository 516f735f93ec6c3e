"""Files that two real wheels bring, and where the pip on PATH installs to."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from envdoctor.facts import Source
from envdoctor.host import Host
from envdoctor.target import Target, look_at_paths
from envdoctor.testing import assert_silent, fires, samples
from envdoctor_checks.python.facts import Distributions, OverwrittenFiles, PipCommand
from envdoctor_checks.python.plugin import check
from envdoctor_checks.python.probe import distributions
from envdoctor_checks.python.probe_pip import pip_command
from envdoctor_checks.python.probe_records import overwritten_files
from envdoctor_checks.torch.facts import TorchBuild

LIBRARY = "nvidia/nccl/lib/libnccl.so.2"
HAS_PIP = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0
needs_pip = pytest.mark.skipif(not HAS_PIP, reason="no pip in the interpreter that runs the tests")


def wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """A wheel as a build backend makes one, with its RECORD."""
    distribution = name.replace("-", "_")
    info = f"{distribution}-{version}.dist-info"
    whole = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_hash(data)},{len(data)}" for path, data in whole.items()]
    path = folder / f"{distribution}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name_inside, data in whole.items():
            archive.writestr(name_inside, data)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    return path


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@pytest.fixture
def env(tmp_path: Path) -> Path:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    return tmp_path / "venv"


def install(env: Path, *wheels: Path) -> None:
    for each in wheels:
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(env / "bin" / "python"),
            "install",
            "--no-index",
            "--no-deps",
            "-q",
            str(each),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


def looked(env: Path, **environ: str) -> tuple[Distributions, OverwrittenFiles]:
    host = Host.here(environ={**os.environ, **environ})
    paths = look_at_paths(host, target(env))
    packages = distributions(host, paths)[0]
    return packages, overwritten_files(host, packages)


def target(env: Path, *, named: bool = True) -> Target:
    return Target(python=str(env / "bin" / "python"), why="", named=named, source=Source("env", "--python"))


def nccl(folder: Path, cuda: int, version: str, content: bytes) -> Path:
    shared = {LIBRARY: content, "nvidia/nccl/__init__.py": b"", "nvidia/nccl/include/nccl.h": content}
    return wheel(folder, f"nvidia-nccl-cu{cuda}", version, shared)


@needs_pip
def test_one_wheel_is_nobodys_rival(env: Path, tmp_path: Path) -> None:
    install(env, nccl(tmp_path, 12, "2.27.3", b"twelve"))
    packages, overwritten = looked(env)
    assert packages.version("nvidia-nccl-cu12") == "2.27.3"
    assert overwritten.files == ()


@needs_pip
def test_the_wheel_that_was_installed_last_has_the_file(env: Path, tmp_path: Path) -> None:
    twelve, thirteen = nccl(tmp_path, 12, "2.27.3", b"twelve"), nccl(tmp_path, 13, "2.29.7", b"thirteen")
    install(env, thirteen, twelve)
    _, overwritten = looked(env)
    told = {Path(each.path).name: (set(each.owners), each.kept) for each in overwritten.files}
    assert told == {"libnccl.so.2": ({"nvidia-nccl-cu12", "nvidia-nccl-cu13"}, "nvidia-nccl-cu12")}


@needs_pip
def test_it_is_a_fault_where_torch_wants_the_other_one(env: Path, tmp_path: Path) -> None:
    install(env, nccl(tmp_path, 13, "2.29.7", b"thirteen"), nccl(tmp_path, 12, "2.27.3", b"twelve"))
    packages, overwritten = looked(env)
    build = TorchBuild(version="2.12.1", torch_cuda="13.0", source=packages.source)
    judged = fires(check, "python/two-wheels-one-path", packages, overwritten, build)
    assert judged.finding.severity.value == "warning"
    assert "libnccl.so.2 is that of nvidia-nccl-cu12" in judged.finding.title
    assert_silent(
        check,
        "python/two-wheels-one-path",
        Distributions(distributions=(), source=packages.source),
        overwritten,
    )


@needs_pip
def test_the_same_file_twice_is_no_fault(env: Path, tmp_path: Path) -> None:
    install(env, nccl(tmp_path, 13, "2.29.7", b"same"), nccl(tmp_path, 12, "2.29.7", b"same"))
    packages, overwritten = looked(env)
    assert overwritten.files == ()
    assert_silent(check, "python/two-wheels-one-path", packages, overwritten)


@needs_pip
def test_one_module_of_two_distributions(env: Path, tmp_path: Path) -> None:
    code = "onnxruntime/capi/state.py"
    install(
        env,
        wheel(tmp_path, "onnxruntime-gpu", "1.20.1", {code: b"gpu = 1\n"}),
        wheel(tmp_path, "onnxruntime", "1.20.1", {code: b"cpu\n"}),
    )
    _, overwritten = looked(env)
    assert [(Path(each.path).name, each.kept) for each in overwritten.files] == [("state.py", "onnxruntime")]


@needs_pip
def test_a_record_that_is_gone_leaves_nothing_to_compare(env: Path, tmp_path: Path) -> None:
    install(env, nccl(tmp_path, 13, "2.29.7", b"thirteen"), nccl(tmp_path, 12, "2.27.3", b"twelve"))
    next(env.glob("lib/python3*/site-packages/nvidia_nccl_cu13*/RECORD")).unlink()
    assert looked(env)[1].files == ()


def pip_at(env: Path, script: str) -> Path:
    path = env / "bin" / "pip"
    path.write_text(script)
    path.chmod(0o755)
    return path


def asked(env: Path, path: str) -> PipCommand:
    host = Host.here(environ={**os.environ, "PATH": path})
    return pip_command(host, target(env), look_at_paths(host, target(env)))


def test_the_pip_of_the_same_environment(env: Path) -> None:
    pip_at(env, f"#!{env}/bin/python3\nimport sys\n")
    told = asked(env, f"{env}/bin")
    assert (told.path, told.python, told.same, told.has) == (f"{env}/bin/pip", f"{env}/bin/python3", True, ())


def test_the_pip_of_another_environment_with_torch(env: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    venv.create(other, with_pip=False, symlinks=True)
    next(other.glob("lib/python3*/site-packages")).joinpath("torch").mkdir()
    pip_at(other, f"#!/bin/sh\n'''exec' \"{other}/bin/python\" \"$0\" \"$@\"\n' '''\nimport sys\n")
    told = asked(env, f"{other}/bin")
    assert (told.python, told.same, told.has) == (f"{other}/bin/python", False, ("torch",))
    nothing = TorchBuild(version=None, source=told.source)
    judged = fires(check, "python/package-in-other-interpreter", told, nothing, target(env))
    assert judged.finding.severity.value == "error"
    note = fires(check, "python/package-in-other-interpreter", told, nothing, target(env, named=False))
    assert note.finding.severity.value == "note"
    here = TorchBuild(version="2.8.0", source=told.source)
    assert_silent(check, "python/package-in-other-interpreter", told, here, target(env))


def test_no_pip_and_one_that_is_no_script(env: Path, tmp_path: Path) -> None:
    assert asked(env, str(tmp_path)).path is None
    pip_at(env, "not a script")
    told = asked(env, f"{env}/bin")
    assert (told.path, told.python, told.same) == (f"{env}/bin/pip", None, None)


def test_every_message_knows_its_sample() -> None:
    samples(check)
