"""Children that end badly, end to end: the report comes in time, is whole, says what happened, and nothing is left.

The torch of each trial is a small package of our own that misbehaves at one place; the command line, the children,
the signals, the memory cgroup and the frozen file system are real. The trials run beside one another, since most
of them wait.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest

from envdoctor import schemas
from tests.support.bad_torch import BUS, DEAF, EAT, FLOOD, FREEZES, HALF, HANG, SEGV, complete, source
from tests.support.cases import doctor
from tests.test_harmless import MARK, World, wait_until, without

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc, /dev/shm and signals as on Linux")

BUDGET = 30.0
"""Seconds of the default run; one child that imports torch has 25 of them."""
MEMORY_CGROUP = Path("/sys/fs/cgroup/memory" if Path("/sys/fs/cgroup/memory").is_dir() else "/sys/fs/cgroup")


class Case(msgspec.Struct, frozen=True):
    """Where the torch misbehaves and how, and by what the report must name it."""

    place: str
    act: str
    named: str
    """The id of a finding, or the fact that could not be looked at; empty where all goes well."""
    words: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    budget: float = BUDGET


CASES = {
    "ignores SIGTERM": Case("import", DEAF, "torch/import-hangs", ("killed after",)),
    "forks and hangs": Case("import", f"orphan()\n{DEAF}", "torch/import-hangs", ("killed after",)),
    "closes its pipes and lives on": Case("import", f"os.closerange(0, 256)\n{HANG}", "torch/import-hangs", ("killed after",)),
    "hangs at the first question": Case(
        "is_available", DEAF, "torch.cuda", ("torch.cuda.is_available", "did not answer within")
    ),
    "hangs in a collective": Case(
        "collective", f"orphan()\n{DEAF}", "nccl/collective-timed-out", ("rank 1", "connect"), ("--device", "cpu")
    ),
    "hangs in the compiler": Case(
        "compile", f"orphan()\n{DEAF}", "kernel/timed-out", ("import-compiler",), ("--device", "cpu")
    ),
    "leaves a process behind": Case("import", "orphan()", ""),
    "SIGBUS": Case("import", BUS, "torch/import-fails", ("SIGBUS",)),
    "SIGSEGV at the first question": Case("is_available", SEGV, "torch.cuda", ("is_available", "SIGSEGV")),
    "SIGABRT at a tensor": Case("allocate", "os.abort()", "kernel/smoke-test-crashed", ("SIGABRT", "allocate")),
    "SIGSEGV in the compiler": Case(
        "compile", SEGV, "kernel/smoke-test-crashed", ("SIGSEGV", "import-compiler"), ("--device", "cpu")
    ),
    "SIGSEGV in a collective": Case(
        "collective", SEGV, "nccl/rank-crashed", ("SIGSEGV", "connect", "rank 1"), ("--device", "cpu")
    ),
    "half a line": Case("import", HALF, "torch.import", ("cannot be read", "im")),
}  # fmt: skip


class Ended(msgspec.Struct, frozen=True):
    """What became of one run of the command."""

    code: int
    document: dict[str, Any]
    stderr: str
    seconds: float
    peak: int
    """KiB of memory that the command itself had at most, its children's aside."""
    left: list[str]
    """Processes, files and segments of shared memory."""


class Trial:
    """A world with such a torch, and one run in it."""

    def __init__(self, folder: Path, case: Case, **variables: str) -> None:
        folder.mkdir(exist_ok=True)
        self.world = World(folder, source(case.place, case.act))
        complete(self.world.made)
        self.world.mark = self.world.env[MARK] = self.world.env["MARK"] = f"{os.getpid()}-{id(self):x}"
        self.world.env.update(variables)
        self.before = self.world.state()
        self.folder, self.case = folder, case

    def command(self) -> list[str]:
        """The command line."""
        asked = ["--format", "json", "--budget", f"{self.case.budget:g}", *self.case.options]
        return [sys.executable, "-m", "envdoctor", "check", "--python", self.world.made.python, *asked]

    def start(self, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        """Begin the run; what it writes goes to files, so that nobody has to read for it to go on."""
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            return subprocess.Popen(
                [*prefix, *self.command()],
                stdout=out,
                stderr=err,
                env=self.world.env,
                cwd=self.folder / "work",
            )

    def run(self, prefix: tuple[str, ...] = ()) -> Ended:
        """The whole run; it is ended when it takes four times what it was given."""
        began = time.monotonic()
        process = self.start(prefix)
        peak = 0
        while process.poll() is None:
            if time.monotonic() > began + 4 * self.case.budget:
                process.kill()
            peak = max(peak, high_water(process.pid))
            time.sleep(0.02)
        seconds = time.monotonic() - began
        out, err = ((self.folder / name).read_text() for name in ("out", "err"))
        return Ended(process.returncode, json.loads(out or "{}"), err, seconds, peak, self.left())

    def misbehaves(self) -> bool:
        """Whether it has come to the place where it hangs."""
        return wait_until(lambda: any(Path("/dev/shm").glob(f"nccl-{self.world.mark}")), 30)

    def left(self) -> list[str]:
        """What is still there of the run."""
        wait_until(lambda: not self.world.processes(), 3)
        left = [f"process {pid}: {line}" for pid, line in self.world.processes().items()]
        left += [str(path) for path in Path("/dev/shm").glob(f"*{self.world.mark}*")]
        now, before = (without(each, moment="temporary") for each in (self.world.state(), self.before))
        return left + [f"{place} changed" for place in self.world.places if now[place] != before[place]]


def high_water(pid: int) -> int:
    """The most memory that a process has had, in KiB; 0 once it has given it back."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def ran(folder: Path, case: Case) -> Ended:
    """A run in a world of its own."""
    return Trial(folder, case).run()


@pytest.fixture(scope="module")
def trials(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The runs of all cases that are tested, each a future."""
    wanted = [
        item.callspec.params["name"]
        for item in request.session.items
        if getattr(item, "originalname", "") == test_it_is_named_in_time_and_nothing_is_left.__name__
        and hasattr(item, "callspec")
    ]
    pool = ThreadPoolExecutor(6)
    base = tmp_path_factory.mktemp("isolation")
    yield {name: pool.submit(ran, base / str(place), CASES[name]) for place, name in enumerate(wanted)}
    pool.shutdown(cancel_futures=True)


def whole(ended: Ended, budget: float) -> None:
    """The report is in time and complete."""
    assert ended.document, ended.stderr
    assert ended.seconds < 2 * budget, "it took much longer than it was given"
    jsonschema.validate(ended.document, json.loads(schemas.text("report")))
    assert ended.document["crash"] is None
    assert "Traceback" not in ended.stderr
    assert [each["name"] for each in ended.document["checks"]] == [check.name for check in doctor().checks]
    assert ended.code == ended.document["summary"]["exit_code"]


def words_of(document: dict[str, Any], named: str) -> str:
    """What the report says under that rule, or of that fact."""
    missed = [each for check in document["checks"] for each in check["missed"] if each["fact"] == named]
    return json.dumps([each for each in document["findings"] if each["id"] == named] + missed)


def names(document: dict[str, Any], case: Case) -> None:
    """The report says what happened, and where."""
    said = words_of(document, case.named)
    every = [each["id"] for each in document["findings"]]
    assert said != "[]", (every, [each["missed"] for each in document["checks"]])
    for word in case.words:
        assert word in said


@pytest.mark.parametrize("name", CASES)
def test_it_is_named_in_time_and_nothing_is_left(name: str, trials: dict[str, Future[Ended]]) -> None:
    case, ended = CASES[name], trials[name].result()
    whole(ended, case.budget)
    if case.named:
        names(ended.document, case)
    else:
        assert ended.code == 0, ended.document["findings"]
    assert ended.left == []


def test_a_child_that_the_kernel_ends_for_want_of_memory(tmp_path: Path) -> None:
    """The child goes into a memory cgroup of 100 MiB by itself, so that the kernel's own killer ends it."""
    group = MEMORY_CGROUP / f"envdoctor-test-{os.getpid()}"
    try:
        group.mkdir()
        bounded(group)
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no memory cgroup can be made here: {error}")
    case = Case("import", EAT, "torch/import-fails", ("SIGKILL", "memory limit"))
    try:
        ended = Trial(tmp_path / "world", case, CGROUP=str(group)).run()
    finally:
        group.rmdir()  # fails while a process is left in it
    whole(ended, case.budget)
    names(ended.document, case)
    assert ended.left == []


def bounded(group: Path) -> None:
    """100 MiB, swap included where the kernel counts it. The first version of cgroups, or the second."""
    first = (group / "memory.limit_in_bytes").exists()
    (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(100 << 20))
    swap = group / ("memory.memsw.limit_in_bytes" if first else "memory.swap.max")
    if swap.exists():
        swap.write_text(str(100 << 20) if first else "0")


@pytest.fixture
def strangers() -> Iterator[list[Path]]:
    """Shared memory that others make meanwhile, under the names that NCCL and torch give theirs."""
    paths = [Path(f"/dev/shm/{name}{os.getpid()}_stranger") for name in ("nccl-", "torch_")]
    yield paths
    for path in paths:
        path.unlink(missing_ok=True)


def test_a_child_that_is_killed_from_outside(tmp_path: Path, strangers: list[Path]) -> None:
    case = Case("allocate", HANG, "kernel/smoke-test-crashed", ("SIGKILL", "allocate", "want of memory"))
    trial = Trial(tmp_path / "world", case)
    process = trial.start()
    assert trial.misbehaves()
    for path in strangers:
        path.write_bytes(b"theirs")
    time.sleep(0.5)  # by then its mapping has been seen
    for pid in trial.world.processes():
        if f"nccl-{trial.world.mark}" in Path(f"/proc/{pid}/maps").read_text():
            os.kill(pid, signal.SIGKILL)
    process.wait(60)
    document = json.loads((trial.folder / "out").read_text())
    names(document, case)
    assert trial.left() == []
    assert [path for path in strangers if not path.exists()] == []


@pytest.mark.slow
def test_a_child_that_writes_a_gigabyte(tmp_path: Path) -> None:
    case = Case("import", FLOOD, "")
    ended = Trial(tmp_path / "world", case).run()
    whole(ended, case.budget)
    assert words_of(ended.document, "torch.import") == "[]"
    assert ended.code == 0, ended.document["findings"]
    assert 10 << 10 < ended.peak < 80 << 10, "of a gigabyte the head and the tail are kept"
    assert ended.left == []


FREEZE = """
mount -o loop "$1" "$2" && fsfreeze -f "$2" || exit 99
shift 2
"$@"
code=$?
fsfreeze -u "$FROZEN"
sleep 1
umount "$FROZEN"
exit $code
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place_of", "named", "options"),
    [
        ("import", "torch/import-hangs", ()),
        ("allocate", "kernel/timed-out", ()),
        ("collective", "nccl/collective-timed-out", ("--device", "cpu")),
    ],
)
def test_a_child_that_nothing_ends(
    tmp_path: Path, place_of: str, named: str, options: tuple[str, ...]
) -> None:
    """A write to a frozen file system is a call that no signal ends; it goes when the file system thaws."""
    image, place = tmp_path / "image", tmp_path / "place"
    place.mkdir()
    prefix = (*frozen_tools(image), "sh", "-c", FREEZE, "sh", str(image), str(place))
    case = Case(place_of, FREEZES, named, ("no signal ends",), options, budget=40.0)
    ended = Trial(tmp_path / "world", case, FROZEN=str(place)).run(prefix)
    if ended.code == 99:
        pytest.skip(f"no file system can be frozen here: {ended.stderr}")
    whole(ended, case.budget)
    names(ended.document, case)
    assert ended.left == []


def frozen_tools(image: Path) -> tuple[str, ...]:
    """A mount namespace to freeze the file system of that image in; skips where there is none."""
    if not all(map(shutil.which, ("mkfs.ext4", "fsfreeze", "mount", "unshare"))):
        pytest.skip("no tools to make and freeze a file system")
    prefix = ("unshare", "-m", "--propagation", "private")
    if os.geteuid() != 0 or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("only root may mount in a namespace of its own")
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    return prefix


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("place", ["import", "collective"])
def test_an_interrupted_run_takes_along_what_does_not_want_to_go(
    place: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """Children deaf to SIGTERM, their orphans, files and shared memory, in the first look and among the trials."""
    trial = Trial(tmp_path / "world", Case(place, f"orphan()\n{DEAF}", "", options=("--device", "cpu")))
    process = trial.start()
    assert trial.misbehaves()
    time.sleep(0.3)  # the orphan takes as long to be born
    process.send_signal(number)
    process.wait(20)
    assert (process.returncode, (trial.folder / "out").read_bytes()) == (code, b"")
    assert (trial.folder / "err").read_text() == "envdoctor: interrupted\n"
    assert trial.left() == []
