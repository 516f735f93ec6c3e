"""The torch child: what it finds in a healthy torch, and how it survives one that is not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from envdoctor.facts import Fact, Facts, Printed, Source, Unavailable
from envdoctor.host import Host
from envdoctor.target import choose, look_at_paths
from envdoctor_checks.driver.facts import PciDevice, PciDevices
from envdoctor_checks.libraries.facts import LoadedLibraries, LoaderTrace
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.python.probe import distributions
from envdoctor_checks.torch import probe_import
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda, TorchDevices, TorchImport
from envdoctor_checks.torch.probe_files import build
from envdoctor_checks.torch.probe_import import import_torch, split_trace
from tests.support.torch_env import Environment

HEALTHY = """
import sys
from .version import __version__, cuda as _cuda
class _C:
    @staticmethod
    def _cuda_getArchFlags():
        return "sm_80 sm_90 compute_90"
class version:
    cuda, hip = _cuda, None
class _Properties:
    name, major, minor = "A Card", 9, 0
class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 2)
    get_device_properties = staticmethod(lambda index: _Properties)
    init = staticmethod(lambda: None)
    class nccl:
        version = staticmethod(lambda: (2, 27, 3))
class backends:
    class cudnn:
        version = staticmethod(lambda: CUDNN)
"""
GPU_ON_THE_BUS = PciDevices(
    devices=(PciDevice(address="0000:01:00.0", device_id="2330", kind="gpu"),),
    source=Source("file", "/sys/bus/pci/devices"),
)


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv")


class Answer:
    """What the probe gave."""

    def __init__(self, given: list[object]) -> None:
        self.facts = Facts.of(*(each for each in given if isinstance(each, Fact)))
        self.unavailable = {each.fact: each.reason for each in given if isinstance(each, Unavailable)}
        self.printed = "\n".join(each.text for each in given if isinstance(each, Printed))

    @property
    def imported(self) -> TorchImport:
        found = self.facts.get(TorchImport)
        assert isinstance(found, TorchImport)
        return found

    @property
    def cuda(self) -> TorchCuda:
        found = self.facts.get(TorchCuda)
        assert isinstance(found, TorchCuda)
        return found


def asked(env: Environment, pci: PciDevices | None = None, **variables: str) -> Answer:
    host, target, paths = env.target(**variables)
    packages = Facts.of(*distributions(host, paths)).get(Distributions)
    assert isinstance(packages, Distributions)
    found, _ = build(host, paths, packages)
    return Answer(list(import_torch(host, None, pci, target, paths, found, None, None)))


def test_nothing_is_started_where_there_is_no_torch(env: Environment) -> None:
    answer = asked(env)
    assert not list(answer.facts)
    assert not answer.unavailable


@pytest.mark.parametrize(
    ("number", "cudnn"), [("91002", "9.10.2"), ("8902", "8.9.2"), ("90100", "9.1.0"), ("None", None)]
)
def test_a_healthy_torch(env: Environment, number: str, cudnn: str | None) -> None:
    env.torch("2.8.0+cu128", "12.8", HEALTHY.replace("CUDNN", number))
    answer = asked(env, GPU_ON_THE_BUS)
    assert answer.imported.ok
    assert answer.cuda.available
    assert (answer.cuda.device_count, answer.cuda.nccl, answer.cuda.cudnn) == (2, "2.27.3", cudnn)
    assert answer.cuda.arch_list == ("sm_80", "sm_90", "compute_90")
    devices = answer.facts.get(TorchDevices)
    assert isinstance(devices, TorchDevices)
    assert [(each.index, each.compute_capability) for each in devices.devices] == [(0, "9.0"), (1, "9.0")]
    assert not answer.unavailable
    assert not answer.printed


def test_noise_on_stdout_and_stderr_disturbs_nothing(env: Environment) -> None:
    noise = "import os, sys\nprint('{\"stage\": \"cuda\"}')\nos.write(1, b'\\xff\\xfe')\nsys.stderr.write('a warning of its own\\n')\n"
    env.torch("2.8.0", "12.8", noise + HEALTHY.replace("CUDNN", "91002"))
    answer = asked(env)
    assert answer.cuda.available
    assert "a warning of its own" in answer.printed


def test_an_exception_is_told_with_its_message(env: Environment) -> None:
    env.torch("2.8.0", "12.8", "raise ValueError('libcudart.so.*[0-9] not found in the system path []')\n")
    answer = asked(env)
    assert not answer.imported.ok
    assert answer.imported.exception == "ValueError"
    assert answer.imported.message == "libcudart.so.*[0-9] not found in the system path []"
    assert "ValueError: libcudart.so.*[0-9] not found" in answer.printed
    assert answer.unavailable["torch.cuda"] == "torch cannot be imported"


def test_leaving_the_interpreter_is_a_failed_import(env: Environment) -> None:
    env.torch("2.8.0", "12.8", "import os\nos._exit(3)\n")
    answer = asked(env)
    assert (answer.imported.ok, answer.imported.exception) == (False, "SystemExit")


@pytest.mark.parametrize("signal", ["SIGSEGV", "SIGBUS", "SIGILL"])
def test_a_crash_is_told_with_its_signal_and_place(env: Environment, signal: str) -> None:
    env.torch(
        "2.8.0",
        "12.8",
        f"import os, signal\ndef load():\n    os.kill(os.getpid(), signal.{signal})\nload()\n",
    )
    answer = asked(env)
    assert (answer.imported.ok, answer.imported.signal) == (False, signal)
    assert answer.imported.message is not None
    assert "in load" in answer.imported.message


def test_a_truncated_library_ends_in_sigbus(env: Environment, tmp_path: Path) -> None:
    """As a half-copied libtorch does: mapped to its full length, and there is no page behind the mapping."""
    package = env.torch(
        "2.8.0",
        "12.8",
        "import mmap, os\nwith open(os.path.join(os.path.dirname(__file__), 'big'), 'r+b') as f:\n"
        "    m = mmap.mmap(f.fileno(), 1 << 20)\n    f.truncate(0)\n    m[1 << 19]\n",
    )
    (package / "big").write_bytes(b"\0" * (1 << 20))
    assert asked(env).imported.signal == "SIGBUS"


def test_an_import_that_hangs_is_ended_and_located(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_import, "DEADLINE", 1.5)
    monkeypatch.setattr(probe_import, "PATIENCE", 0.0)
    env.torch("2.8.0", "12.8", "import time\ndef wait_for_ever():\n    time.sleep(600)\nwait_for_ever()\n")
    answer = asked(env)
    assert answer.imported.timed_out
    assert answer.imported.message is not None
    assert "in wait_for_ever" in answer.imported.message
    assert "torch.cuda" in answer.unavailable


def test_a_question_that_crashes_is_named(env: Environment) -> None:
    dying = HEALTHY.replace("staticmethod(lambda: True)", "staticmethod(lambda: __import__('os').abort())")
    env.torch("2.8.0", "12.8", dying.replace("CUDNN", "None"))
    answer = asked(env)
    assert answer.imported.ok
    assert "torch.cuda.is_available" in answer.unavailable["torch.cuda"]
    assert "SIGABRT" in answer.unavailable["torch.cuda"]


REFUSING = HEALTHY.replace("staticmethod(lambda: True)", "staticmethod(lambda: False)").replace(
    "init = staticmethod(lambda: None)", "init = classmethod(lambda cls: 1 / 0)"
)


def test_why_cuda_is_not_available_is_kept_to_itself_without_a_gpu(env: Environment) -> None:
    env.torch("2.8.0", "12.8", REFUSING.replace("CUDNN", "None"))
    answer = asked(env)
    assert not answer.cuda.available
    assert answer.cuda.reason == "division by zero"
    assert not answer.printed


def test_why_cuda_is_not_available_is_read_with_one(env: Environment) -> None:
    env.torch("2.8.0", "12.8", REFUSING.replace("CUDNN", "None"))
    assert "ZeroDivisionError" in asked(env, GPU_ON_THE_BUS).printed


def test_of_a_build_for_the_cpu_it_is_no_news(env: Environment) -> None:
    env.torch("2.8.0+cpu", None, REFUSING.replace("CUDNN", "None"))
    assert not asked(env, GPU_ON_THE_BUS).printed


def test_the_loader_is_traced_and_the_maps_are_read(env: Environment, tmp_path: Path) -> None:
    source = tmp_path / "x.c"
    source.write_text("int cudart_is_here(void) { return 1; }\n")
    folder = tmp_path / "toolkit"
    folder.mkdir()
    library = folder / "libcudart.so.12"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Wl,-soname,libcudart.so.12", "-o", library, source], check=True
    )
    env.torch(
        "2.8.0", "12.8", "import ctypes\nctypes.CDLL('libcudart.so.12')\n" + HEALTHY.replace("CUDNN", "None")
    )
    answer = asked(env, LD_LIBRARY_PATH=str(folder))
    trace, loaded = answer.facts.get(LoaderTrace), answer.facts.get(LoadedLibraries)
    assert isinstance(trace, LoaderTrace)
    assert isinstance(loaded, LoadedLibraries)
    lookup = trace.of("libcudart.so.12")[0]
    assert (lookup.found, lookup.rule) == (str(library), "ld-library-path")
    assert [each.path for each in loaded.of("libcudart")] == [str(library)]
    assert loaded.of("libcudart")[0].owner is None


def test_a_library_that_is_not_found_leaves_its_search_behind(env: Environment) -> None:
    env.torch("2.8.0", "12.8", "import ctypes\nctypes.CDLL('libcudart.so.12')\n")
    answer = asked(env)
    assert answer.imported.exception == "OSError"
    trace = answer.facts.get(LoaderTrace)
    assert isinstance(trace, LoaderTrace)
    assert trace.of("libcudart.so.12")[0].found is None
    assert "libcudart.so.12: cannot open shared object file" in answer.printed


def test_the_trace_is_told_from_the_programs_own_words() -> None:
    traced, said = split_trace(
        "     123:\tfile=libc.so.6 [0];  needed by x [0]\nWarning: 5 GPUs\n     123:\n      77:\tx\n"
    )
    assert len(traced) == 2
    assert said == "Warning: 5 GPUs\n     123:"


torch_is_here = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed beside the tests"
)


@torch_is_here
def test_the_real_torch() -> None:
    host = Host.here()
    target = choose(host, sys.executable)
    paths = look_at_paths(host, target)
    packages = Facts.of(*distributions(host, paths)).get(Distributions)
    assert isinstance(packages, Distributions)
    found, _ = build(host, paths, packages)
    assert isinstance(found, TorchBuild)
    answer = Answer(list(import_torch(host, None, None, target, paths, found, None, None)))
    assert answer.imported.ok
    import torch

    assert answer.cuda.available == torch.cuda.is_available()
    assert found.version == torch.__version__
    assert found.torch_cuda == torch.version.cuda
    loaded = answer.facts.get(LoadedLibraries)
    assert isinstance(loaded, LoadedLibraries)
    assert loaded.of("libstdc++")
