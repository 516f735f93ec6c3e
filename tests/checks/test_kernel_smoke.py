"""The staged smoke test with the real torch, with toolchains that are broken for real, and with torches that end badly.

A torch that crashes, hangs or computes wrongly is a small package of our own; everything else is real.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from envdoctor.asked import Asked
from envdoctor.check import Tier
from envdoctor.facts import Source
from envdoctor.host import Host
from envdoctor.report import Report, Selection
from envdoctor.session import Seen
from envdoctor_checks.kernel.facts_smoke import AddressSpace, Smoke, SmokeCompile, SmokeEager
from envdoctor_checks.kernel.smoke_script import SCRIPT
from tests.support.cases import doctor
from tests.support.torch_env import Environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces, limits and signals as on Linux")
ROOT = Path(__file__).parents[2]


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
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces and other users take root")


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


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., str]:
    def make(act: str, more: str = "") -> str:
        made = Environment(tmp_path / "venv")
        made.torch("2.8.0+cpu", None, init=f"__version__ = '2.8.0+cpu'\n{FAKE.replace('{act}', act)}\n{more}")
        return made.python

    return make


# What passes, and what is left out


@needs_torch
def test_eager_stages_pass_and_nothing_is_compiled_without_being_asked() -> None:
    tried = Tried(torch_python(), budget=60)
    if tried.eager.device == "cuda":
        pytest.skip("this machine has a GPU: tests/gpu looks at it")
    assert passed(tried.eager) == ["import", "allocate", "matmul"]
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
    assert "torch cannot be imported" in tried.not_tried()["kernel.smoke-eager"]
    assert tried.seen.facts.get(SmokeEager) is None


def test_switched_off_compiling_is_left_out(fake: Callable[..., str]) -> None:
    tried = Tried(fake("return Tensor()"), device="cpu", TORCHDYNAMO_DISABLE="1")
    assert "TORCHDYNAMO_DISABLE=1" in tried.not_tried()["kernel.smoke-compile-cpu"]


def test_a_budget_that_is_spent_leaves_it_out(fake: Callable[..., str]) -> None:
    tried = Tried(fake("return Tensor()"), budget=6)
    assert "--budget" in tried.not_tried()["kernel.smoke-eager"]


# Endings that a real torch does not come to


def test_whole_tensors_are_well(fake: Callable[..., str]) -> None:
    tried = Tried(fake("return Tensor()"))
    assert passed(tried.eager) == ["import", "allocate", "matmul"]
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
    monkeypatch.setattr("envdoctor_checks.kernel.probe_smoke.EAGER_SECONDS", 3.0)
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


# Toolchains that are broken for real


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
def test_a_cache_of_another_user_is_named_without_being_tried(
    fake: Callable[..., str], tmp_path: Path
) -> None:
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
    python = fake("return Tensor()")
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
