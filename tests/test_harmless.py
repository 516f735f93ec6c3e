"""A check changes nothing: no file, no process, no shared memory; also when it is interrupted in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.environments import Environment, environ, environment

if TYPE_CHECKING:
    from tests.support.fake_driver import FakeDriver

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc and /dev/shm as on Linux")

MARK = "ENVDOCTOR_TEST_MARK"
SLEEPS = "import time\ntime.sleep(300)\n"
WRITES = """
import os, tempfile
open(os.path.join(tempfile.gettempdir(), "left-behind"), "w").write("x")
with open(os.path.join(os.environ.get("TRITON_CACHE_DIR", tempfile.gettempdir()), "cached"), "w") as file: file.write("x")
class version: cuda = '12.8'; hip = None
class cuda:
    class nccl: version = staticmethod(lambda: (2, 27, 3))
    is_available = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 0)
    @staticmethod
    def init(): raise RuntimeError('No CUDA GPUs are available')
class backends:
    class cudnn: version = staticmethod(lambda: 91002)
class _C: _cuda_getArchFlags = staticmethod(lambda: 'sm_90')
"""
"""A torch that writes where compilers and libraries do: the child's own folder, which is taken away."""
State = dict[str, tuple[int, int, int, int]]


class World:
    """The places where a run could leave something, and the marked processes that it starts."""

    def __init__(self, folder: Path, torch: str) -> None:
        self.places = {name: folder / name for name in ("home", "temporary", "work", "venv")}
        for name in ("home", "temporary", "work"):
            self.places[name].mkdir()
        (self.places["home"] / ".cache").mkdir()
        (self.places["work"] / "train.py").write_text("import torch\n")
        self.made: Environment = environment(self.places["venv"]).torch(torch)
        self.mark = f"{folder.name}-{os.getpid()}"
        self.env = {**environ(folder), "TMPDIR": str(self.places["temporary"]), MARK: self.mark}

    def state(self) -> dict[str, State]:
        """Everything in those places and in the machine's own."""
        places = {**self.places, "shm": Path("/dev/shm")}
        return {name: _state(place) for name, place in places.items()}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a run."""
        command = [sys.executable, "-m", "envdoctor", *arguments, "--python", self.made.python]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=self.env, cwd=self.places["work"], stdout=pipe, stderr=pipe, text=True
        )

    def processes(self) -> dict[int, str]:
        """Those that carry our mark, with their command lines."""
        found = {}
        for each in Path("/proc").iterdir():
            if not each.name.isdigit():
                continue
            try:
                if f"{MARK}={self.mark}".encode() in (each / "environ").read_bytes():
                    found[int(each.name)] = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it ended meanwhile
        return found


def _state(place: Path) -> State:
    """Mode, size, time of change and owner by path; folders too, since a file that came and went touches them."""
    paths = [place, *place.rglob("*")]
    told = {}
    for path in paths:
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue  # /dev/shm is everybody's
        told[str(path.relative_to(place))] = (found.st_mode, found.st_size, found.st_mtime_ns, found.st_uid)
    return told


def without(state: dict[str, State], *, moment: str) -> dict[str, State]:
    """The state without what a private folder that came and went does to the folder that held it, and what other
    processes do in /dev/shm meanwhile.
    """
    kept = {name: dict(each) for name, each in state.items()}
    kept[moment].pop(".", None)
    kept["shm"] = {
        path: (0, 0, 0, 0)
        for path in kept["shm"]
        if path.startswith(("envdoctor", "nccl-", "torch_", "psm_"))
    }
    return kept


def wait_until(condition: Any, seconds: float = 20.0) -> bool:
    """Whether it came true."""
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return bool(met)


def test_a_check_leaves_everything_as_it_was(fake_driver: FakeDriver, tmp_path: Path) -> None:
    world = World(tmp_path, WRITES)
    world.env = fake_driver.environ("h100x8", world.env)
    before = world.state()
    run = world.start("check", "--format", "json")
    out, err = run.communicate(timeout=120)
    assert run.returncode in (0, 1), err
    assert '"torch.import"' in out or '"torch"' in out
    assert without(world.state(), moment="temporary") == without(before, moment="temporary")
    assert world.processes() == {}


def test_a_quick_check_does_not_even_make_a_folder(tmp_path: Path) -> None:
    world = World(tmp_path, WRITES)
    before = world.state()
    run = world.start("check", "--quick")
    run.communicate(timeout=120)
    after = world.state()
    assert {name: after[name] for name in world.places} == {name: before[name] for name in world.places}
    assert world.processes() == {}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", ["check", "record"])
def test_an_interrupted_run_leaves_nothing(
    command: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    world = World(tmp_path, SLEEPS)
    before = world.state()
    run = world.start(command)
    assert wait_until(lambda: _imports_torch(world)), "the child that imports torch did not come"
    run.send_signal(number)
    out, err = run.communicate(timeout=20)
    assert (run.returncode, out) == (code, "")
    assert err == "envdoctor: interrupted\n"
    assert wait_until(lambda: not world.processes(), 5), world.processes()
    assert without(world.state(), moment="temporary") == without(before, moment="temporary")


def _imports_torch(world: World) -> bool:
    """Whether the child is at the import, with its private folder made."""
    asked = any("importing" in line and world.made.python in line for line in world.processes().values())
    return asked and any(world.places["temporary"].iterdir())


def test_a_run_whose_terminal_closes_leaves_no_process(tmp_path: Path) -> None:
    world = World(tmp_path, SLEEPS)
    run = world.start("check")
    assert wait_until(lambda: _imports_torch(world))
    run.send_signal(signal.SIGHUP)
    run.communicate(timeout=20)
    assert run.returncode == 128 + signal.SIGHUP
    assert wait_until(lambda: not world.processes(), 5), world.processes()
    assert list(world.places["temporary"].iterdir()) == []
