"""Which group is run, and what is read from its ranks; with a torch of our own making, so that no GPU is needed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from envdoctor.api import Asked, Fact, Host, LeftOut, Printed, Source, Unavailable
from envdoctor.facts import Facts
from envdoctor_checks.nccl import probe_groups
from envdoctor_checks.nccl.facts_groups import (
    GroupRun,
    GroupTransports,
    GroupWithoutPeers,
    Link,
    PeerAccess,
)
from envdoctor_checks.nccl.probe_groups import planned, process_group
from envdoctor_checks.nccl.read_groups import read_log, summed
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda, TorchImport
from tests.support.torch_env import Environment

HERE = Source("call", "a test")
CPU = Asked(device="cpu", source=HERE)
DEEP = Asked(deep=True, source=HERE)
NO_GPU = TorchCuda(available=False, device_count=0, source=HERE)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ranks are POSIX processes")


def gpus(number: int) -> TorchCuda:
    return TorchCuda(available=True, device_count=number, nccl="2.27.3", source=HERE)


@pytest.mark.parametrize("cuda", [None, NO_GPU, TorchCuda(available=True, device_count=2, source=HERE)])
def test_without_a_gpu_it_must_be_asked_for(cuda: TorchCuda | None) -> None:
    with pytest.raises(LeftOut, match="--device cpu"):
        planned(Host.here(), cuda, None)
    for asked in (CPU, DEEP):
        plan = planned(Host.here(), cuda, asked)
        assert (plan.backend, plan.world) == ("gloo", 2)


@pytest.mark.parametrize(("number", "by_default"), [(1, 1), (2, 2), (8, 2)])
def test_one_rank_per_gpu_up_to_two_and_all_with_deep(number: int, by_default: int) -> None:
    assert (planned(Host.here(), gpus(number), None).backend) == "nccl"
    assert planned(Host.here(), gpus(number), None).world == by_default
    assert planned(Host.here(), gpus(number), DEEP).world == number
    assert planned(Host.here(), gpus(number), CPU).backend == "gloo"


def test_a_budget_that_is_nearly_spent() -> None:
    host = Host.here()
    host.ends = time.monotonic() + 9
    with pytest.raises(LeftOut, match="--budget gives more"):
        planned(host, gpus(2), None)
    host.ends = time.monotonic() + 30
    assert planned(host, gpus(2), None).longest < 27


def test_a_tree_of_files_starts_nothing(tmp_path: Path) -> None:
    host = Host(root=str(tmp_path), environ={}, uid=0, gid=0, groups=())
    with pytest.raises(LeftOut):
        planned(host, gpus(2), DEEP)


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv")


def tried(
    env: Environment, cuda: TorchCuda | None, asked: Asked | None, ok: bool = True
) -> list[Fact | Printed | Unavailable]:
    host, target, paths = env.target()
    build = TorchBuild(version="2.8.0", path="/x", source=HERE)
    imported = TorchImport(ok=ok, source=HERE)
    return list(process_group(host, target, paths, build, imported, cuda, asked))


def test_nothing_is_tried_where_torch_cannot_be_imported(env: Environment) -> None:
    with pytest.raises(LeftOut, match="torch cannot be imported"):
        tried(env, gpus(2), None, ok=False)


def test_nothing_is_said_where_there_is_no_torch(env: Environment) -> None:
    host, target, paths = env.target()
    absent = TorchBuild(version=None, source=HERE)
    assert list(process_group(host, target, paths, absent, None, None, CPU)) == []


def test_ranks_that_cannot_import_torch_are_a_gap(env: Environment) -> None:
    env.torch("2.8.0", "12.8", "raise OSError('no more threads')\n")
    (gap,) = tried(env, None, CPU)
    assert isinstance(gap, Unavailable)
    assert "OSError: no more threads" in gap.reason


SAYS_LITTLE = '''
"""Enough of torch for two ranks that never talk: every tensor is equal to every other."""
import os, sys, types
from .version import __version__
class Tensor:
    def __getattr__(self, name):
        return lambda *a, **k: self
    def __getitem__(self, key):
        return self
    __add__ = __mul__ = __ne__ = lambda self, other: self
    __int__ = lambda self: 0
zeros = ones = arange = zeros_like = lambda *a, **k: Tensor()
device = lambda *a: a
float32 = None
cuda = types.SimpleNamespace(
    set_device=lambda index: None, device_count=lambda: 2, get_device_name=lambda index: "A Card",
    can_device_access_peer=lambda a, b: True, synchronize=lambda: None, is_available=lambda: True,
)
distributed = types.ModuleType("torch.distributed")
sys.modules["torch.distributed"] = distributed
rendezvous = types.ModuleType("torch.distributed.rendezvous")
sys.modules["torch.distributed.rendezvous"] = rendezvous
class Store:
    def __getattr__(self, name):
        return lambda *a: b"here"
rendezvous.rendezvous = lambda url, timeout: iter([(Store(), 0, 2)])
rank = os.environ["RANK"]
def all_reduce(tensor):
    direct = "NCCL_P2P_DISABLE" not in os.environ
    print("host:%s:%s [0] NCCL INFO Channel 00/0 : %s[0] -> %d[1] via %s" % (
        rank, rank, rank, 1 - int(rank), "P2P/CUMEM" if direct else "SHM/direct/direct"), flush=True)
    if direct:
        FAULT
distributed.__dict__.update(
    is_available=lambda: True, is_nccl_available=lambda: True, all_reduce=all_reduce,
    P2POp=lambda *a: a, isend=None, irecv=None, batch_isend_irecv=lambda ways: [],
    **{name: (lambda *a, **k: None) for name in (
        "init_process_group", "all_gather", "broadcast", "barrier", "destroy_process_group")},
)
'''


def test_the_what_if_without_direct_access(env: Environment) -> None:
    env.torch("2.8.0", "12.8", SAYS_LITTLE.replace("FAULT", "raise RuntimeError('unhandled cuda error')"))
    given = tried(env, gpus(2), None)
    facts = Facts.of(*(each for each in given if isinstance(each, Fact)))
    run, without = facts.get(GroupRun), facts.get(GroupWithoutPeers)
    transports, peers = facts.get(GroupTransports), facts.get(PeerAccess)
    assert isinstance(run, GroupRun)
    assert [(each.end, each.stage, each.device) for each in run.ranks] == [
        ("failed", "connect", "cuda:0 (A Card)"),
        ("failed", "connect", "cuda:1 (A Card)"),
    ]
    assert isinstance(without, GroupWithoutPeers)
    assert without.well
    assert isinstance(transports, GroupTransports)
    assert transports.via() == ("P2P",)
    assert isinstance(peers, PeerAccess)
    assert peers.pairs == ((0, 1), (1, 0))
    assert any("unhandled cuda error" in each.text for each in given if isinstance(each, Printed))


def test_a_group_that_is_well_is_not_tried_again(env: Environment) -> None:
    env.torch("2.8.0", "12.8", SAYS_LITTLE.replace("FAULT", "pass"))
    given = tried(env, gpus(2), None)
    assert [type(each) for each in given] == [GroupRun, GroupTransports, PeerAccess]


def test_a_rank_that_is_killed_and_one_that_is_late(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_groups, "TIMEOUT", 0.2)
    fault = "os.kill(os.getpid(), 9) if rank == '1' else __import__('time').sleep(99)"
    env.torch("2.8.0", "12.8", SAYS_LITTLE.replace("FAULT", fault))
    run = next(each for each in tried(env, gpus(2), None) if isinstance(each, GroupRun))
    assert [(each.end, each.signal) for each in run.ranks] == [("late", None), ("crashed", "SIGKILL")]
    assert "in all_reduce" in str(run.ranks[0].where)


def test_gpus_that_others_use_are_no_fault(env: Environment) -> None:
    fault = "raise RuntimeError('CUDA out of memory. Tried to allocate 2.00 MiB')"
    env.torch("2.8.0", "12.8", SAYS_LITTLE.replace("FAULT", fault))
    (gap,) = tried(env, gpus(2), None)
    assert isinstance(gap, Unavailable)
    assert "in use by others" in gap.reason


def test_a_budget_that_ends_within_a_stage_accuses_nobody(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_groups, "LONGEST", 2.0)
    monkeypatch.setattr(probe_groups, "LEAST", 1.0)
    slow = "import time\ntime.sleep(1.4)\n" + SAYS_LITTLE.replace("FAULT", "time.sleep(99)")
    env.torch("2.8.0", "12.8", slow)
    (gap,) = tried(env, gpus(2), None)
    assert isinstance(gap, Unavailable)
    assert gap.reason == "the time was over when rank 0 was at connect"
    assert "--budget" in gap.would_allow


LOG = """
n3:50:50 [0] NCCL INFO Bootstrap: Using ens5:192.0.2.7<0>
n3:50:50 [0] NCCL INFO NCCL version 2.27.3+cuda12.9
n3:50:61 [0] NCCL INFO NET/IB : No device found.
n3:50:61 [0] NCCL INFO Using network Socket
n3:50:61 [0] NCCL INFO Channel 00/04 : 0 1
n3:50:61 [0] NCCL INFO Channel 01/04 : 0 1
n3:50:61 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read
n3:50:61 [0] NCCL INFO Channel 01/0 : 0[0] -> 1[1] via P2P/CUMEM/read
n3:51:62 [1] NCCL INFO Channel 00/0 : 1[1] -> 0[0] via SHM/direct/direct
n3:51:62 [1] NCCL INFO Channel 00/0 : 2[0] -> 1[1] [receive] via NET/Socket/0
n3:51:62 [1] NCCL INFO Channel 00/0 : 1[1] -> 2[0] [send] via NET/Socket/0
n3:51:62 [1] graph/xml.cc:332 NCCL WARN something odd
n3:50:61 [0] NCCL INFO Connected all rings
"""


def test_the_log_of_nccl() -> None:
    told = read_log(LOG)
    assert (told.version, told.interface, told.network) == ("2.27.3+cuda12.9", "ens5:192.0.2.7", "Socket")
    assert told.rings == 4
    assert told.links == (
        Link(0, 1, "P2P/CUMEM/read", 2),
        Link(1, 0, "SHM/direct/direct", 1),
        Link(1, 2, "NET/Socket/0", 1),
    )
    assert told.warnings == ("something odd",)
    assert summed(told) == "P2P/CUMEM/read (1), SHM/direct/direct (1), NET/Socket/0 (1)"


def test_older_words_of_the_log() -> None:
    told = read_log(
        "n3:50:61 [0] NCCL INFO Bootstrap : Using [0]ib0:192.0.2.7<0>\n"
        "n3:50:61 [0] NCCL INFO Channel 00 : 0[1b000] -> 1[3d000] via P2P/IPC\n"
    )
    assert told.interface == "ib0:192.0.2.7"
    assert told.links == (Link(0, 1, "P2P/IPC", 1),)
    assert told.version is None
