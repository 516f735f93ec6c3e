"""Process groups that really run: torch's own ranks over Gloo, in namespaces and with faults made for the purpose.

Every rank imports torch, which takes seconds: what is not made for real here is shown by the cases.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal as signals
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cases import doctor

REPOSITORY = Path(__file__).resolve().parents[2]
RENDEZVOUS = REPOSITORY / "envdoctor" / "rendezvous.py"
TIMEOUT = 3
SHARED_MEMORY = Path("/dev/shm")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None or sys.platform != "linux",
    reason="torch is not installed beside the tests",
)


def namespaces_work() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None or shutil.which("mount") is None:
        return False
    tried = subprocess.run(["unshare", "-rnm", "ip", "link", "set", "lo", "up"], capture_output=True)
    return tried.returncode == 0


needs_namespaces = pytest.mark.skipif(
    not namespaces_work(), reason="this user may make no user, network and mount namespaces"
)


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No shared-memory segment of torch, and no rank, stays behind. What torchrun leaves lies in the test's own folder."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    before = segments()
    yield
    assert segments() <= before
    assert ranks() == []
    kept = {path.name for path in temporary.iterdir() if not path.name.startswith("torchelastic_")}
    assert kept <= {"torchinductor_root"}


def segments() -> set[str]:
    return {path.name for path in SHARED_MEMORY.glob("*") if path.name.startswith(("torch_", "nccl-"))}


def ranks() -> list[str]:
    """Command lines of processes that run the script of a rank, in our own session tree."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
            owner = (path / "environ").read_bytes()
        except OSError:
            continue  # it has ended
        if b"answer_as_a_child" in words and f"OF_TEST={os.getpid()}".encode() in owner:
            found.append(path.name)
    return found


def environment(**variables: str) -> dict[str, str]:
    """Ours, without what a job or an earlier test may have left in it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NCCL_", "GLOO_", "MASTER_", "TORCHELASTIC_", "LOCAL_"))
        and name not in ("RANK", "WORLD_SIZE")
    }
    return {**kept, "OF_TEST": str(os.getpid()), **variables}


class Told:
    """The report on one trial."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.findings: list[dict[str, Any]] = document["findings"]
        self.machine: dict[str, str] = {row["label"]: row["value"] for row in document["machine"]}

    @property
    def well(self) -> bool:
        return self.machine["process group"].endswith(": all well")

    @property
    def roots(self) -> list[str]:
        return [each["id"] for each in self.findings if each["role"] == "root"]

    def finding(self, rule: str) -> dict[str, Any]:
        found = [each for each in self.findings if each["id"] == rule]
        assert found, [each["id"] for each in self.findings]
        return found[0]

    def commands(self) -> list[str]:
        return [command for fix in self.findings[0]["fixes"] for command in fix["commands"]]


def trial(*before: str, **variables: str) -> Told:
    """A group tried by a program that is started through `before`, with these variables."""
    argv = [*before, sys.executable, "-m", "tests.support.group_trial", str(TIMEOUT)]
    ran = subprocess.run(
        argv, capture_output=True, text=True, env=environment(**variables), cwd=REPOSITORY, timeout=170
    )
    assert ran.returncode == 0, ran.stderr
    return Told(json.loads(ran.stdout))


def in_namespaces(preparation: str) -> tuple[str, ...]:
    """A network and a mount namespace of its own, made ready by a shell before the program starts."""
    return ("unshare", "-rnm", "sh", "-ec", f'{preparation}\nexec "$@"', "sh")


def fault(folder: Path, rank: int, code: str) -> str:
    """A sitecustomize that changes torch.distributed in one rank; the folder goes to the front of PYTHONPATH."""
    lines = ["import os", f"if os.environ.get('RANK') == '{rank}':", "    import torch.distributed as dist"]
    lines += [f"    {line}" for line in code.splitlines()]
    (folder / "sitecustomize.py").write_text("\n".join(lines) + "\n")
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))


def test_two_ranks_are_well() -> None:
    told = trial()
    assert told.findings == []
    assert told.machine["process group"] == "2 ranks over Gloo: all well"


def test_an_interface_that_does_not_exist() -> None:
    told = trial(GLOO_SOCKET_IFNAME="nope0")
    assert told.roots == ["nccl/gloo-ifname-invalid"]
    assert told.findings[0]["severity"] == "error"
    assert told.finding("nccl/collective-failed")["consequence_of"] == ["nccl/gloo-ifname-invalid"]
    assert any(command.startswith("unset GLOO_SOCKET_IFNAME") for command in told.commands())
    assert [command for command in told.commands() if re.fullmatch(r"export GLOO_SOCKET_IFNAME=\S+", command)]


@pytest.mark.slow
def test_the_interface_that_the_fix_names_is_well() -> None:
    first = trial(GLOO_SOCKET_IFNAME="nope0").commands()
    value = next(each for each in first if each.startswith("export GLOO_SOCKET_IFNAME=")).partition("=")[2]
    if not Path(f"/sys/class/net/{value}").exists():
        pytest.skip("this machine has no interface besides the loopback one, so the fix names an example")
    assert trial(GLOO_SOCKET_IFNAME=value).well


@pytest.mark.slow
@needs_namespaces
def test_a_namespace_in_which_nothing_is_up() -> None:
    told = trial(*in_namespaces(":"))
    assert told.roots == ["nccl/no-ip-interface"]
    assert told.findings[0]["severity"] == "error"
    assert "ip link set lo up" in told.commands()


@needs_namespaces
def test_the_fix_for_it_is_enough() -> None:
    """A namespace with the loopback interface only."""
    assert trial(*in_namespaces("ip link set lo up")).well


LOOPBACK_MISSING = """
ip link add v0 type veth peer name v1
ip addr add 10.9.9.9/24 dev v0
ip link set v0 up
ip link set v1 up
"""


@needs_namespaces
@pytest.mark.slow
def test_a_loopback_interface_that_is_down() -> None:
    told = trial(*in_namespaces(LOOPBACK_MISSING))
    assert told.roots == ["nccl/loopback-down"]
    assert told.commands() == ["ip link set lo up"]
    assert trial(*in_namespaces(LOOPBACK_MISSING + told.commands()[0])).well


def hosts(folder: Path, line: str) -> str:
    """The command that puts a file of our own in the place of /etc/hosts."""
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{line}\n")
    return f"mount --bind '{folder / 'hosts'}' /etc/hosts"


JOB = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
"""The variables of a job on two nodes."""


@needs_namespaces
@pytest.mark.slow
def test_a_host_name_on_the_loopback_address(tmp_path: Path) -> None:
    """On one machine it does no harm, and nothing is said; in a job of several nodes it is what will fail."""
    prepare = f"ip link set lo up\n{hosts(tmp_path, f'127.0.1.1 {socket.gethostname()}')}"
    told = trial(*in_namespaces(prepare), **JOB)
    assert told.well
    found = told.finding("nccl/hostname-loopback")
    assert found["severity"] == "warning"
    assert any(each["value"] == "127.0.1.1" for each in found["evidence"])


@needs_namespaces
@pytest.mark.slow
def test_a_host_name_on_the_loopback_address_of_a_single_machine(tmp_path: Path) -> None:
    prepare = f"ip link set lo up\n{hosts(tmp_path, f'127.0.1.1 {socket.gethostname()}')}"
    told = trial(*in_namespaces(prepare))
    assert told.well
    assert told.findings == []


@needs_namespaces
@pytest.mark.slow
def test_a_host_name_that_leads_elsewhere_once_it_is_mended(tmp_path: Path) -> None:
    """As the fix says: the name on an address of this machine that others reach."""
    prepare = f"{LOOPBACK_MISSING}\nip link set lo up\n{hosts(tmp_path, f'10.9.9.9 {socket.gethostname()}')}"
    told = trial(*in_namespaces(prepare), **JOB)
    assert told.well
    assert "nccl/hostname-loopback" not in [each["id"] for each in told.findings]


@needs_namespaces
@pytest.mark.slow
def test_a_host_name_that_nobody_knows(tmp_path: Path) -> None:
    told = trial(*in_namespaces(f"ip link set lo up\n{hosts(tmp_path, '')}"), **JOB)
    assert told.well
    assert told.finding("nccl/hostname-loopback")["severity"] == "warning"


@needs_namespaces
def test_shared_memory_that_is_too_small() -> None:
    told = trial(*in_namespaces("ip link set lo up\nmount -t tmpfs -o size=1m tmpfs /dev/shm"))
    assert told.roots == ["host/shm-too-small"]
    assert told.findings[0]["severity"] == "error"
    assert told.finding("nccl/collective-failed")["consequence_of"] == ["host/shm-too-small"]


@needs_namespaces
@pytest.mark.slow
def test_shared_memory_that_is_full() -> None:
    fill = "head -c 63m /dev/zero > /dev/shm/of-another-job"
    small = "ip link set lo up\nmount -t tmpfs -o size=64m tmpfs /dev/shm"
    assert trial(*in_namespaces(f"{small}\n{fill}")).roots == ["host/shm-too-small"]
    assert trial(*in_namespaces(small)).well


@pytest.mark.parametrize("signal", ["SIGSEGV", pytest.param("SIGBUS", marks=pytest.mark.slow)])
def test_a_rank_that_dies_in_a_collective(tmp_path: Path, signal: str) -> None:
    code = f"import signal\ndist.all_gather = lambda *a, **k: os.kill(os.getpid(), signal.{signal})"
    told = trial(PYTHONPATH=fault(tmp_path, 1, code))
    assert told.roots[0] == "nccl/rank-crashed"
    assert told.finding("nccl/rank-crashed")["title"] == f"rank 1 died of {signal} at all_gather"


@pytest.mark.slow
def test_a_rank_that_hangs_in_a_collective(tmp_path: Path) -> None:
    """The one that waits runs into its time, too; the one that did not come is named, with the line it is at."""
    code = "import time\ndist.broadcast = lambda *a, **k: time.sleep(600)"
    told = trial(PYTHONPATH=fault(tmp_path, 0, code))
    found = told.finding("nccl/collective-timed-out")
    assert told.roots == ["nccl/collective-timed-out"]
    assert "broadcast" in found["title"]
    assert any("sitecustomize.py" in each["value"] for each in found["evidence"])


@pytest.mark.slow
def test_a_rank_that_never_meets_the_others(tmp_path: Path) -> None:
    code = "import sys, time\nmeeting = sys.modules['torch.distributed.rendezvous']\n"
    code += "meeting.rendezvous = lambda *a, **k: time.sleep(600)"
    told = trial(PYTHONPATH=fault(tmp_path, 1, code))
    found = told.finding("nccl/collective-timed-out")
    assert told.roots == ["nccl/collective-timed-out"]
    assert "store" in found["title"]


@pytest.mark.slow
def test_a_rank_that_holds_the_interpreter(tmp_path: Path) -> None:
    """Nothing inside the process can speak any more: its child ends at the deadline, and the stage is known."""
    code = "import re\ndist.barrier = lambda *a, **k: re.match(r'(a+)+$', 'a' * 64 + 'b')"
    found = trial(PYTHONPATH=fault(tmp_path, 1, code)).finding("nccl/collective-timed-out")
    assert "barrier" in found["title"]


@pytest.mark.slow
def test_a_rank_that_leaves(tmp_path: Path) -> None:
    found = trial(PYTHONPATH=fault(tmp_path, 1, "dist.all_reduce = lambda *a, **k: os._exit(7)")).finding(
        "nccl/collective-failed"
    )
    assert any("exited with status 7" in each["value"] for each in found["evidence"])


@pytest.mark.slow
def test_a_sum_that_is_wrong(tmp_path: Path) -> None:
    code = "real = dist.all_reduce\ndist.all_reduce = lambda x, *a, **k: (real(x, *a, **k), x[7:9].add_(1))"
    told = trial(PYTHONPATH=fault(tmp_path, 1, code))
    found = told.finding("nccl/collective-wrong-result")
    assert told.roots == ["nccl/collective-wrong-result"]
    assert "rank 1" in found["title"]
    assert any("2 of " in each["value"] for each in found["evidence"])


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_no_rank_outlives_a_check_that_is_ended(signal: str) -> None:
    """Ended once both ranks run: what is left behind is looked for by the fixture, too."""
    argv = [sys.executable, "-m", "envdoctor", "check", "--device", "cpu", "--python", sys.executable]
    check = subprocess.Popen(
        argv, env=environment(), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    while len(ranks()) < 2 and check.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert len(ranks()) == 2
    check.send_signal(getattr(signals, signal))
    check.wait(timeout=10)
    assert ranks() == []


# The same test in the user's own launcher.


def launched(*arguments: str, count: int = 2, **variables: str) -> subprocess.CompletedProcess[str]:
    """The file alone, started by torchrun."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return subprocess.run(
        [*launcher, str(RENDEZVOUS), *arguments],
        capture_output=True,
        text=True,
        env=environment(OMP_NUM_THREADS="1", **variables),
        cwd="/",
        timeout=120,
    )


def test_in_torchrun() -> None:
    ran = launched("--backend", "gloo", "--timeout", str(TIMEOUT))
    assert ran.returncode == 0, ran.stderr
    assert "envdoctor.rendezvous over gloo: all 2 ranks are well" in ran.stdout
    assert (
        len(re.findall(r"^rank [01] \(\S+, cpu, listens on \S+\): all well", ran.stdout, re.MULTILINE)) == 4
    )


@pytest.mark.slow
def test_in_torchrun_with_a_rank_that_hangs(tmp_path: Path) -> None:
    code = "import time\ndist.broadcast = lambda *a, **k: time.sleep(600)"
    ran = launched("--timeout", str(TIMEOUT), PYTHONPATH=fault(tmp_path, 1, code))
    assert ran.returncode == 1
    assert "NOT WELL" in ran.stdout
    assert re.search(
        r"^rank 1 .*broadcast did not end within 3 s \(at \S*sitecustomize", ran.stdout, re.MULTILINE
    )
    assert re.search(r"^rank 0 .*broadcast", ran.stdout, re.MULTILINE)


@pytest.mark.slow
def test_in_torchrun_with_an_interface_that_does_not_exist() -> None:
    """What it prints is read by `envdoctor explain`."""
    ran = launched("--timeout", str(TIMEOUT), GLOO_SOCKET_IFNAME="nope0")
    assert ran.returncode == 1
    assert "NOT WELL" in ran.stdout
    assert "nccl/gloo-ifname-invalid" in explained(ran.stderr + ran.stdout)


def explained(text: str) -> list[str]:
    from envdoctor.report import Selection

    return [each.id for each in doctor().report(doctor().read(text, "-"), Selection()).findings]


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        job = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        ran = alone(**job)
    assert ran.returncode == 1
    assert explained(ran.stderr + ran.stdout)[0] == "nccl/master-port-in-use"
    assert alone(**{**job, "MASTER_PORT": str(unused())}).returncode == 0


def alone(**job: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(RENDEZVOUS), "--meet", "5", "--timeout", str(TIMEOUT)]
    return subprocess.run(argv, capture_output=True, text=True, env=environment(**job), cwd="/", timeout=60)


def unused() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
