"""Process groups over NCCL, on real GPUs: run `python -m tests.gpu` on a machine that has some."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from envdoctor.api import Asked, Fact, Host, Printed, Source
from envdoctor.check import Tier
from envdoctor.facts import Facts
from envdoctor.target import Target, TargetPaths
from envdoctor_checks.nccl.facts_groups import (
    GroupBandwidth,
    GroupRun,
    GroupTransports,
    GroupWithoutPeers,
    PeerAccess,
)
from envdoctor_checks.nccl.probe_groups import process_group
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda
from tests.support.cases import doctor

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_MEMORY = Path("/dev/shm")
HERE = Source("call", "a test on a GPU")
DEEP = Asked(deep=True, source=HERE)


@cache
def visible() -> int:
    """The GPUs that torch can use here, asked in a child: this process stays free of CUDA."""
    code = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return int(told.stdout.strip() or 0) if told.returncode == 0 else 0


@pytest.fixture(autouse=True)
def a_gpu() -> None:
    if visible() == 0:
        pytest.skip("torch sees no GPU on this machine")


@pytest.fixture
def two_gpus() -> None:
    if visible() < 2:
        pytest.skip("this machine has one GPU, and the test is about what goes between two")


def tried(asked: Asked | None, **variables: str) -> Facts:
    """What the group of this machine gave; the log goes to stdout, for whoever looks at a failure."""
    host = Host.here(environ={**os.environ, **variables})
    facts = doctor().look(host, tier=Tier.QUICK, python=sys.executable).facts
    target, paths, build = facts.get(Target), facts.get(TargetPaths), facts.get(TorchBuild)
    assert isinstance(target, Target)
    assert isinstance(paths, TargetPaths)
    assert isinstance(build, TorchBuild)
    host.ends = float("inf")
    cuda = TorchCuda(available=True, device_count=visible(), nccl="?", source=HERE)
    given = list(process_group(host, target, paths, build, None, cuda, asked))
    for each in given:
        print(each.text if isinstance(each, Printed) else each)
    return Facts.of(*(each for each in given if isinstance(each, Fact)))


def run_of(facts: Facts) -> GroupRun:
    run = facts.get(GroupRun)
    assert isinstance(run, GroupRun)
    return run


def transports_of(facts: Facts) -> GroupTransports:
    transports = facts.get(GroupTransports)
    assert isinstance(transports, GroupTransports)
    return transports


def test_the_group_of_the_default_run_is_well() -> None:
    before = set(SHARED_MEMORY.glob("nccl-*"))
    facts = tried(None)
    run, transports = run_of(facts), transports_of(facts)
    assert run.well
    assert run.backend == "nccl"
    assert len(run.ranks) == min(visible(), 2)
    assert all(each.device and each.device.startswith("cuda:") for each in run.ranks)
    assert transports.version is not None
    assert transports.interface is not None
    assert set(SHARED_MEMORY.glob("nccl-*")) <= before


def test_all_gpus_their_links_and_their_bandwidth(two_gpus: None) -> None:
    facts = tried(DEEP)
    transports, bandwidth, promised = transports_of(facts), facts.get(GroupBandwidth), facts.get(PeerAccess)
    assert run_of(facts).well
    assert len(run_of(facts).ranks) == visible()
    assert isinstance(bandwidth, GroupBandwidth)
    print(
        f"figure: all_reduce over {visible()} GPUs, bus {bandwidth.bus / 1e9:.1f} GB/s, {', '.join(transports.via())}"
    )
    assert bandwidth.bus > 1e9
    assert isinstance(promised, PeerAccess)
    assert transports.rings
    assert {each.sender for each in transports.links} == set(range(visible()))


def test_without_direct_access_another_transport_is_taken(two_gpus: None) -> None:
    facts = tried(None, NCCL_P2P_DISABLE="1")
    assert run_of(facts).well
    assert "P2P" not in transports_of(facts).via()


def test_an_interface_that_does_not_exist(two_gpus: None) -> None:
    """NCCL's own words for it are read, and the rule for it is the root."""
    environment = {**os.environ, "NCCL_SOCKET_IFNAME": "=nope0"}
    argv = [sys.executable, "-m", "envdoctor", "check", "--deep", "--budget", "200", "--format", "json"]
    ran = subprocess.run(
        [*argv, "--python", sys.executable], capture_output=True, text=True, env=environment, cwd=REPOSITORY
    )
    assert "nccl/socket-ifname-no-match" in ran.stdout


def test_two_ranks_on_one_gpu_are_named(tmp_path: Path) -> None:
    """Both ranks are told to take GPU 0, as a program does that never chooses one."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif 'RANK' in os.environ:\n    import torch\n    choose = torch.cuda.set_device\n"
        "    torch.cuda.set_device = lambda index: choose(0)\n"
        "    real = torch.device\n    torch.device = lambda kind, index=None: real(kind, 0) if index else real(kind)\n"
    )
    job = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    argv = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    argv += ["-m", "envdoctor.rendezvous", "--backend", "nccl", "--timeout", "15"]
    ran = subprocess.run(
        argv, capture_output=True, text=True, env={**os.environ, **job}, cwd=REPOSITORY, timeout=180
    )
    assert ran.returncode != 0
    found = {type(each).__name__ for each in doctor().read(ran.stdout + ran.stderr, "-").facts.all_symptoms()}
    assert "DuplicateGpu" in found, ran.stdout + ran.stderr


def test_in_torchrun() -> None:
    argv = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={visible()}"]
    argv += ["-m", "envdoctor.rendezvous", "--bandwidth"]
    ran = subprocess.run(argv, capture_output=True, text=True, cwd=REPOSITORY, timeout=240)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"over nccl: all {visible()} ranks are well" in ran.stdout
    print(ran.stdout)


def test_a_rank_that_hangs_is_named(two_gpus: None, tmp_path: Path) -> None:
    """The GPU of the other rank waits in its kernel for ever, and nothing is tried again by itself to hide it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('RANK') == '1':\n    import time\n    import torch.distributed as dist\n"
        "    dist.broadcast = lambda *a, **k: time.sleep(600)\n"
    )
    facts = tried(None, PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    run, without = run_of(facts), facts.get(GroupWithoutPeers)
    assert {each.stage for each in run.ranks} == {"broadcast"}
    assert {each.end for each in run.ranks} == {"late"}
    assert isinstance(without, GroupWithoutPeers)
    assert not without.well
