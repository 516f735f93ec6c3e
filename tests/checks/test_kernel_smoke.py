"""The staged smoke test with the real torch, with toolchains that are broken for real, and with torches that end badly.

A torch that crashes, hangs or computes wrongly is a small package of our own; everything else is real.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from envdoctor.asked import Asked
from envdoctor.check import Tier
from envdoctor.facts import Source
from envdoctor.host import Host
from envdoctor.report import Report, Selection
from envdoctor.session import Seen
from envdoctor_checks.kernel.facts_smoke import Smoke, SmokeCompile, SmokeEager
from envdoctor_checks.kernel.smoke_script import SCRIPT
from tests.support.cases import doctor
from tests.support.torch_env import Environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces, limits and signals as on Linux")


@cache
def real_torch() -> str | None:
    """An interpreter with a torch: the one that runs the tests, or the one that ENVDOCTOR_TEST_TORCH names."""
    named = os.environ.get("ENVDOCTOR_TEST_TORCH")
    return named or (sys.executable if importlib.util.find_spec("torch") else None)


needs_torch = pytest.mark.skipif(
    real_torch() is None,
    reason="torch is not installed beside the tests, and ENVDOCTOR_TEST_TORCH names no python",
)
needs_compilers = pytest.mark.skipif(
    not all(shutil.which(name) for name in ("gcc", "g++")), reason="no gcc and g++ on this machine"
)


class Tried:
    """One look at this machine, and its report."""

    def __init__(
        self, python: str, *, device: str = "auto", deep: bool = False, budget: float = 200.0, **environ: str
    ):
        whole = {name: value for name, value in {**os.environ, **environ}.items() if value}
        asked = None
        if deep or device != "auto":
            asked = Asked(deep=deep, device=device, source=Source("call", "the test"))  # type: ignore[arg-type] # one of the two
        checks = doctor()
        began = time.monotonic()
        self.seen: Seen = checks.look(
            Host.here(environ=whole),
            tier=Tier.DEEP if deep else Tier.DEFAULT,
            python=python,
            budget=budget,
            asked=asked,
        )
        self.seconds = time.monotonic() - began
        self.report: Report = checks.report(self.seen, Selection())
        assert self.seen.looked is not None
        assert not self.seen.looked.crashed

    @property
    def eager(self) -> SmokeEager:
        fact = self.seen.facts.get(SmokeEager)
        assert isinstance(fact, SmokeEager), fact
        return fact

    @property
    def compiled(self) -> SmokeCompile:
        fact = self.seen.facts.get(SmokeCompile)
        assert isinstance(fact, SmokeCompile), fact
        return fact

    def roots(self) -> dict[str, str]:
        """Severity by rule, of the kernel check and of what may explain it."""
        return {each.id: each.severity for each in self.report.findings if each.role == "root"}

    def finding(self, rule: str) -> Any:
        return next(each for each in self.report.findings if each.id == rule)

    def row(self) -> str:
        return next((each.value for each in self.report.machine if each.label == "smoke test"), "")

    def not_tried(self) -> dict[str, str]:
        assert self.seen.looked is not None
        return {each.probe: each.reason for each in self.seen.looked.not_tried}


def passed(smoke: Smoke) -> list[str]:
    return [each.name for each in smoke.stages if each.state == "passed"]


def torch_python() -> str:
    python = real_torch()
    assert python is not None
    return python


FAKE = """
import os, signal, sys, time
class _Version: cuda = None; hip = None
version = _Version()
class cuda:
    is_available = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 0)
    @staticmethod
    def init(): raise AssertionError('Torch not compiled with CUDA enabled')
class backends:
    class cudnn: version = staticmethod(lambda: None)
class _C: _cuda_getArchFlags = staticmethod(lambda: None)
float32 = 'float32'
class Generator:
    def manual_seed(self, seed): return self
class Tensor:
    def to(self, *wanted): return self
    def t(self): return self
    def contiguous(self): return self
    def cpu(self): return self
    def double(self): return self
    def __matmul__(self, other): return Tensor()
    dtype = 'float32'
def is_tensor(it): return True
def equal(one, other): return True
class testing:
    @staticmethod
    def assert_close(got, expected, **tolerance): raise AssertionError('3 of 65536 elements differ')
def randint(low, high, size, generator=None): {act}
"""
"""As much of a torch as the eager stages ask; `act` is what making a tensor does."""


def fake_torch(folder: Path, act: str, more: str = "") -> str:
    """An interpreter with that torch."""
    made = Environment(folder / "venv")
    made.torch("2.8.0+cpu", None, init=f"__version__ = '2.8.0+cpu'\n{FAKE.replace('{act}', act)}\n{more}")
    return made.python


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., str]:
    return partial(fake_torch, tmp_path)


# What passes, and what is left out


@needs_torch
def test_eager_stages_pass_and_nothing_is_compiled_without_being_asked() -> None:
    tried = Tried(torch_python(), budget=60)
    if tried.eager.device == "cuda":
        pytest.skip("this machine has a GPU: tests/gpu looks at it")
    assert passed(tried.eager) == ["allocate", "matmul"]
    assert tried.eager.well
    assert tried.row() == "eager ok on the CPU; no GPU was tried"
    assert "--device cpu" in tried.not_tried()["kernel.smoke-compile-cpu"]
    assert tried.seen.facts.get(SmokeCompile) is None
    assert not [
        each.id for each in tried.report.findings if each.id.startswith("kernel/") and each.severity != "note"
    ]


@needs_torch
@needs_compilers
def test_compiled_stages_pass_on_the_processor_and_tell_what_was_slow(tmp_path: Path) -> None:
    tried = Tried(torch_python(), device="cpu", TMPDIR=str(tmp_path))
    compiled = tried.compiled
    assert compiled.well, compiled
    assert passed(compiled)[-5:] == ["cold", "compare", "backward", "warm", "speed"]
    assert compiled.cold is not None
    assert compiled.warm is not None
    assert compiled.warm < compiled.cold
    assert compiled.cached
    assert compiled.speedup is not None
    parts = dict(compiled.parts)
    assert parts["trying the processor's vector instructions"] > 0
    assert parts["the C++ compiler"] > 0
    assert sum(parts.values()) == pytest.approx(compiled.cold, rel=0.2)
    assert tried.row().startswith("eager ok on the CPU; compiled on the CPU in ")
    assert tried.row().endswith("x eager; no GPU was tried")
    assert list(tmp_path.iterdir()) == []  # nothing is left behind
    titles = [view.title for view in tried.report.views]
    assert "what the cold compilation took its time for" in titles


def test_what_is_imported_as_torch_and_is_none_is_nobodys_smoke_test(tmp_path: Path) -> None:
    made = Environment(tmp_path / "venv")
    made.torch("2.8.0+cpu", None)
    tried = Tried(made.python)
    assert tried.seen.facts.get(SmokeEager) is None
    assert tried.row() == ""


def test_a_torch_that_cannot_be_imported_is_not_tried(tmp_path: Path) -> None:
    made = Environment(tmp_path / "venv")
    made.torch(
        "2.8.0+cpu",
        None,
        init="raise ImportError('libgone.so.3: cannot open shared object file: No such file')",
    )
    tried = Tried(made.python, deep=True)
    assert "torch cannot be imported" in tried.not_tried()["kernel.smoke-compile-cpu"]
    assert tried.seen.facts.get(SmokeEager) is None


def test_switched_off_compiling_is_left_out(fake: Callable[..., str]) -> None:
    tried = Tried(fake("return Tensor()"), device="cpu", TORCHDYNAMO_DISABLE="1")
    assert "TORCHDYNAMO_DISABLE=1" in tried.not_tried()["kernel.smoke-compile-cpu"]


# Endings that a real torch does not come to


def test_whole_tensors_are_well(fake: Callable[..., str]) -> None:
    tried = Tried(fake("return Tensor()"))
    assert passed(tried.eager) == ["allocate", "matmul"]
    assert tried.eager.well


def test_a_crash_names_signal_and_stage(fake: Callable[..., str]) -> None:
    tried = Tried(fake("os.kill(os.getpid(), signal.SIGSEGV)"))
    assert tried.eager.ended is not None
    assert (tried.eager.ended.stage, tried.eager.ended.detail) == ("allocate", "SIGSEGV")
    assert tried.roots()["kernel/smoke-test-crashed"] == "error"
    assert "SIGSEGV" in tried.finding("kernel/smoke-test-crashed").title
    assert "ended by SIGSEGV at allocate" in tried.row()


def test_a_crash_inside_a_library_does_too(fake: Callable[..., str]) -> None:
    tried = Tried(fake("import ctypes; ctypes.string_at(8)"))
    assert tried.eager.ended is not None
    assert tried.eager.ended.detail == "SIGSEGV"


def test_an_end_by_the_system_is_a_question_of_memory(fake: Callable[..., str]) -> None:
    tried = Tried(fake("os.kill(os.getpid(), signal.SIGKILL)"))
    found = tried.finding("kernel/smoke-test-crashed")
    assert "SIGKILL" in found.title
    assert any("killed process" in line for fix in found.fixes for line in fix.commands)


def test_a_hang_names_the_stage_and_the_line(
    fake: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envdoctor_checks.torch.probe_import.DEADLINE", 5.0)
    monkeypatch.setattr("envdoctor_checks.kernel.rules_smoke.SHORT_PATIENCE", 2.0)
    tried = Tried(fake("time.sleep(300)"))
    assert tried.eager.ended is not None
    assert (tried.eager.ended.stage, tried.eager.ended.how) == ("allocate", "timed-out")
    assert "in randint" in tried.eager.ended.detail
    assert tried.roots()["kernel/timed-out"] == "error"
    assert tried.seconds < 40


def test_a_hang_that_the_budget_cut_short_proves_nothing(fake: Callable[..., str]) -> None:
    tried = Tried(fake("time.sleep(300)"), budget=12)
    assert tried.roots()["kernel/timed-out"] == "note"
    assert any("--budget" in ask.command for ask in tried.report.asks)


def test_a_wrong_product_is_named(fake: Callable[..., str]) -> None:
    tried = Tried(fake("return Tensor()", more="def equal(one, other): return False"))
    assert tried.roots()["kernel/wrong-result"] == "error"
    assert "kernel/eager-failed" not in tried.roots()


def test_an_exception_that_nobody_knows_is_shown(fake: Callable[..., str]) -> None:
    tried = Tried(fake("raise RuntimeError('the flux is out of phase')"))
    found = tried.finding("kernel/eager-failed")
    assert any("the flux is out of phase" in each.value for each in found.evidence)
    assert tried.roots()["kernel/eager-failed"] == "error"
    assert found.fixes


def test_a_cause_that_is_known_comes_first(fake: Callable[..., str]) -> None:
    said = "OSError: [Errno 28] No space left on device: '/scratch/x'"
    tried = Tried(fake(f"raise RuntimeError({said!r})"))
    assert "host/disk-full" in tried.roots()
    assert tried.finding("kernel/eager-failed").role == "consequence"


def test_leaving_without_a_word_is_a_failure(fake: Callable[..., str]) -> None:
    tried = Tried(fake("os._exit(3)"))
    assert tried.eager.ended is not None
    assert (tried.eager.ended.how, tried.eager.ended.detail) == ("exited", "status 3")
    assert tried.roots()["kernel/eager-failed"] == "error"


def test_the_script_is_for_old_pythons_too() -> None:
    assert SCRIPT.isascii()
    ast.parse(SCRIPT, feature_version=(3, 8))
