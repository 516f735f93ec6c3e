"""What published tools of this kind were found to get wrong, each as a test of ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from envdoctor import schemas, snapshot
from envdoctor.redact import redact_document
from tests.support import machines
from tests.support.cases import MACHINES, doctor
from tests.support.environments import envdoctor, environ, environment, report_of
from tests.support.machines_broken import BROKEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.environments import Environment
    from tests.support.fake_driver import FakeDriver

CRASH = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
HANG = "import time\nprint('loading', flush=True)\ntime.sleep(600)\n"
MISSES = "raise ImportError('libcupti.so.12: cannot open shared object file: No such file or directory')\n"
CUDNN = """
class version: cuda = '12.8'; hip = None
class cuda:
    class nccl: version = staticmethod(lambda: (2, 27, 3))
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    init = staticmethod(lambda: None)
    @staticmethod
    def get_device_properties(index):
        class Properties: name, major, minor = 'NVIDIA GeForce RTX 4090', 8, 9
        return Properties
class backends:
    class cudnn: version = staticmethod(lambda: {number})
class _C: _cuda_getArchFlags = staticmethod(lambda: 'sm_70 sm_75 sm_80 sm_86 sm_90')
"""
WATCH = """
import os, sys
def heard(event, arguments):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "socket.gethostby", "socket.sendto", "urllib.", "http.")):
        with open({log!r}, "a") as log: log.write("%s %s %s\\n" % (os.getpid(), event, arguments[1:]))
sys.addaudithook(heard)
"""


def check(made: Environment, env: dict[str, str], *arguments: str) -> tuple[dict[str, Any], int]:
    """The report on an environment, and the exit code."""
    done = envdoctor("check", "--format", "json", "--python", made.python, *arguments, env=env)
    assert "Traceback" not in done.stderr
    return report_of(done), done.returncode


def ids(document: dict[str, Any]) -> set[str]:
    return {each["id"] for each in document["findings"]}


def test_an_import_error_of_torch_is_not_its_absence(tmp_path: Path) -> None:
    document, code = check(environment(tmp_path / "venv").torch(MISSES), environ(tmp_path))
    assert "torch/not-installed" not in ids(document)
    first = document["findings"][0]
    assert (first["id"], first["subject"]) == ("libraries/cuda-library-missing", "library:libcupti.so.12")
    assert code == 1


def test_a_torch_that_crashes_leaves_a_whole_document(tmp_path: Path) -> None:
    document, code = check(environment(tmp_path / "venv").torch(CRASH), environ(tmp_path))
    assert document["crash"] is None
    told = next(each for each in document["findings"] if each["id"] == "torch/import-fails")
    assert "SIGSEGV" in told["title"]
    assert code == 1


def test_a_torch_that_hangs_leaves_a_whole_document_within_the_budget(tmp_path: Path) -> None:
    made = environment(tmp_path / "venv").torch(HANG)
    document, code = check(made, environ(tmp_path), "--budget", "4", "--strict")
    missed = {missed["fact"] for each in document["checks"] for missed in each["missed"]}
    assert "torch.import" in missed, "what was not seen must be said"
    assert "torch/cpu-only-build" not in ids(document)
    assert (code, document["summary"]["exit_code"]) == (3, 3)


@pytest.mark.slow
def test_a_torch_that_hangs_is_named(tmp_path: Path) -> None:
    document, code = check(environment(tmp_path / "venv").torch(HANG), environ(tmp_path))
    assert "torch/import-hangs" in ids(document)
    assert code == 1


@pytest.mark.parametrize("name", [name for name, machine in BROKEN.items() if machine.severity == "error"])
def test_a_broken_machine_fails_a_ci_job(name: str) -> None:
    assert machines.judged(MACHINES / f"{name}.json").summary.exit_code == 1


def test_a_broken_machine_fails_a_ci_job_whatever_the_format(tmp_path: Path) -> None:
    facts = str(MACHINES / "driver-too-old.json")
    for format_ in ("text", "json", "markdown"):
        done = envdoctor("check", "--facts", facts, "--format", format_, env=environ(tmp_path))
        assert done.returncode == 1


@pytest.mark.parametrize("name", ["rtx4090", "rtx4090-with-toolkits"])
def test_minor_versions_and_binary_compatibility_are_known(name: str) -> None:
    """Driver 535 (CUDA 12.2) runs wheels of CUDA 12.8, an 8.9 GPU their code for 8.6; torch's RPATH wins."""
    found = machines.judged(MACHINES / f"{name}.json").findings
    assert [each.id for each in found if each.severity != "note"] == []


def test_a_probe_that_fails_makes_no_build_for_the_cpu(fake_driver: FakeDriver, tmp_path: Path) -> None:
    made = environment(tmp_path / "venv").torch(CRASH)
    (made.site / "torch" / "version.py").write_text("")
    document, _ = check(made, fake_driver.environ("rtx4090", environ(tmp_path)))
    assert "torch/cpu-only-build" not in ids(document)


@pytest.mark.parametrize(("number", "shown"), [(91002, "9.10.2"), (8902, "8.9.2")])
def test_cudnn_is_numbered_as_its_release_numbers_it(
    number: int, shown: str, fake_driver: FakeDriver, tmp_path: Path
) -> None:
    made = environment(tmp_path / "venv").torch(CUDNN.format(number=number))
    document, _ = check(made, fake_driver.environ("rtx4090", environ(tmp_path)))
    row = next(each["value"] for each in document["machine"] if each["label"] == "torch")
    assert f"cuDNN {shown})" in row


@pytest.mark.parametrize(
    "names",
    [{"user": "cuda", "home": "/home"}, {"user": "root", "home": "/root"}, {"user": "torch", "home": "/"}],
)
@pytest.mark.parametrize("name", ["h100x8", "cudnn-shadowed", "mig-pod"])
def test_redaction_leaves_every_key_whole(name: str, names: dict[str, str]) -> None:
    raw = (MACHINES / f"{name}.json").read_bytes()
    document, _ = snapshot.decode(raw, name, doctor().checks)
    redacted, _ = redact_document(document, hostname="torch", **names)
    told = json.loads(snapshot.encode(redacted))
    assert list(_keys(told)) == list(_keys(json.loads(raw)))
    jsonschema.validate(told, json.loads(schemas.text("facts")))


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for each in value.values():
            yield from _keys(each)
    elif isinstance(value, list):
        for each in value:
            yield from _keys(each)


def test_redaction_replaces_the_name_in_the_account_file_and_of_the_machine() -> None:
    facts: dict[str, dict[str, Any]] = {
        "container.passwd-entry": {
            "uid": 1001,
            "name": "marianne",
            "home": "/home/marianne",
            "source": {"kind": "file"},
        },
        "nccl.hosts-entry": {"name": "node-q4", "addresses": ["127.0.1.1"], "source": {"kind": "file"}},
    }
    recorded = snapshot.Recorded("2026-01-01T00:00:00Z", "1.0.0")
    document = snapshot.FactsDocument(schema=snapshot.SCHEMA, recorded=recorded, facts=facts)
    told, kinds = redact_document(document, user="", home="", hostname="")
    assert "marianne" not in str(told)
    assert "node-q4" not in str(told)
    assert set(kinds) == {"account names", "host names"}


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("rules",), ("check", "--quick"), ("check", "--offline")]
)
def test_nothing_is_asked_of_the_network(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Heard by an audit hook in our own process and in every Python that it starts."""
    log = tmp_path / "heard"
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH.format(log=str(log)))
    env = environ(tmp_path, PYTHONPATH=str(tmp_path / "watch"))
    done = envdoctor(*arguments, env=env)
    assert done.returncode in (0, 1, 3), done.stderr
    assert not log.exists(), log.read_text()


def test_the_listener_is_no_deaf_one(tmp_path: Path) -> None:
    """That the hook above hears what it is to hear."""
    log = tmp_path / "heard"
    code = WATCH.format(log=str(log)) + "import socket\nsocket.getaddrinfo('localhost', None)\n"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "socket.getaddrinfo" in log.read_text()


def _without_network() -> list[str]:
    """A command that starts a program in a network namespace of its own; skips where that is not allowed."""
    command = ["unshare", "--net", *(["--map-root-user"] if os.getuid() else [])]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no network namespaces for this user")
    return command


def test_the_judgement_is_the_same_without_a_network(tmp_path: Path) -> None:
    made = environment(tmp_path / "venv").torch(MISSES)
    command = [
        *_without_network(),
        sys.executable,
        "-m",
        "envdoctor",
        "check",
        "--format",
        "json",
        "--python",
        made.python,
    ]
    done = subprocess.run(command, env=environ(tmp_path), capture_output=True, text=True, timeout=120)
    there, _ = check(made, environ(tmp_path))
    assert loud(report_of(done)) == loud(there)


def loud(report: dict[str, Any]) -> list[str]:
    """Findings above a note: that there is no network may be noted."""
    return [each["id"] for each in report["findings"] if each["severity"] != "note"]


def test_nvidia_smi_is_not_waited_for(tmp_path: Path) -> None:
    """A driver in trouble hangs nvidia-smi, too: it is not even started."""
    programs, called = tmp_path / "bin", tmp_path / "called"
    programs.mkdir()
    for name in ("nvidia-smi", "nvcc", "ldconfig", "pip"):
        (programs / name).write_text(f"#!/bin/sh\necho {name} >> {called}\nsleep 600\n")
        (programs / name).chmod(0o755)
    env = environ(tmp_path)
    env["PATH"] = f"{programs}:{env['PATH']}"
    done = envdoctor("check", "--format", "json", "--python", environment(tmp_path / "venv").python, env=env)
    report_of(done)
    started = called.read_text().split() if called.exists() else []
    assert {"nvidia-smi", "ldconfig", "pip"}.isdisjoint(started)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "not json", '{"schema": "envdoctor.facts/1"}', '{"schema": "envdoctor.facts/9"}'],
)
def test_a_bad_recording_is_a_wrong_use_and_no_verdict(content: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(content)
    done = envdoctor("check", "--facts", "bad.json", "--format", "json", env=environ(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr


def test_rubbish_in_the_home_changes_nothing(tmp_path: Path) -> None:
    """No cache of ours in the home can break a start: there is none."""
    env = environ(tmp_path)
    for name in (".envdoctor.json", ".config/envdoctor", ".cache/envdoctor"):
        path = tmp_path / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[]")
    assert envdoctor("--help", env=env).returncode == 0
    assert envdoctor("check", "--quick", env=env).returncode in (0, 1)
