"""The test that users start in their own launcher: what needs neither torch nor a second rank."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from envdoctor import rendezvous
from envdoctor_checks.nccl.group_script import script

FILE = Path(rendezvous.__file__)


def started(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in rendezvous.LAUNCHER}
    return subprocess.run(
        [sys.executable, str(FILE), *arguments],
        capture_output=True,
        text=True,
        env={**kept, **variables},
        cwd="/",
        timeout=60,
    )


@pytest.mark.parametrize("world", range(1, 10))
def test_all_ranks_exchange_with_all_others_in_pairs(world: int) -> None:
    every = [rendezvous.partners(rank, world) for rank in range(world)]
    for rank, partners in enumerate(every):
        assert sorted(partners) == [other for other in range(world) if other != rank]


@pytest.mark.parametrize("world", [2, 4, 6, 8])
def test_every_round_pairs_all_ranks(world: int) -> None:
    """Each rank is whom its partner waits for: no round waits for another one."""
    for turn in range(world - 1):
        pairs = {rank: rendezvous.partners(rank, world)[turn] for rank in range(world)}
        assert all(pairs[other] == rank for rank, other in pairs.items())


def test_every_odd_number_of_ranks_comes_to_an_end() -> None:
    """With one rank left out per round: walked through as the ranks do, each waiting for its partner."""
    for world in (3, 5, 7, 9):
        left = {rank: rendezvous.partners(rank, world) for rank in range(world)}
        while any(left.values()):
            ready = [rank for rank, todo in left.items() if todo and left[todo[0]][:1] == [rank]]
            assert ready, f"{world} ranks wait for one another: {left}"
            for rank in ready:
                left[rank] = left[rank][1:]


def test_the_addresses_on_which_a_process_listens() -> None:
    before = rendezvous.listening()
    assert "127.0.0.1" not in before
    with socket.socket() as four, socket.socket() as unbound:
        four.bind(("127.0.0.1", 0))
        four.listen()
        unbound.bind(("0.0.0.0", 0))
        unbound.listen()
        assert rendezvous.listening() == [*before, "127.0.0.1"]


def test_an_address_of_the_kernels_table() -> None:
    order = sys.byteorder
    four = int.from_bytes(bytes([192, 0, 2, 7]), order)
    assert rendezvous._address(f"{four:08X}") == "192.0.2.7"
    six = socket.inet_pton(socket.AF_INET6, "2001:db8::5")
    words = [int.from_bytes(six[place : place + 4], order) for place in range(0, 16, 4)]
    assert rendezvous._address("".join(f"{word:08X}" for word in words)) == "2001:db8::5"


def test_it_says_how_it_must_be_started() -> None:
    ran = started()
    assert ran.returncode == 2
    assert "RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT: not set" in ran.stderr
    assert "torchrun" in ran.stderr
    assert not ran.stdout


def test_help_and_wrong_options() -> None:
    assert "--backend" in started("--help").stdout
    assert started("--backend", "mpi").returncode == 2


def test_without_torch_the_stage_is_named(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object file')\n"
    )
    job = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    ran = started(**job, PYTHONPATH=str(tmp_path))
    assert ran.returncode == 1
    assert "import failed: ImportError: libcudart.so.12" in ran.stdout
    assert "Traceback" in ran.stderr


def test_the_file_alone_is_enough() -> None:
    """It imports the standard library only, and is read by the oldest Python that is examined."""
    text = FILE.read_text(encoding="utf-8")
    assert text.isascii()
    tree = ast.parse(text, feature_version=(3, 8))
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_the_child_runs_the_same_text() -> None:
    assert script().startswith(FILE.read_text(encoding="utf-8"))
