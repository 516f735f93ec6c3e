"""The model of the loader against real processes that import a real torch: the same files are mapped, no more, no fewer.

The CPU build is the one beside the tests, or of the interpreter that ENVDOCTOR_TEST_TORCH names. A CUDA build is
several gigabytes: ENVDOCTOR_CUDA_PYTHON names an interpreter that has one, and --slow runs its tests.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TypeVar

import msgspec
import pytest

from envdoctor.check import Tier
from envdoctor.facts import Fact, Facts
from envdoctor.host import Host
from envdoctor.loader.process import Failure, Process
from envdoctor.loader.recorded import RecordedTree
from envdoctor.loader.tree import LiveTree
from envdoctor.probing import lddebug, maps
from envdoctor_checks.libraries.facts_loader import LoaderSetup, LoaderTree, TorchLoading
from envdoctor_checks.libraries.predicting import import_torch
from tests.support.cases import doctor
from tests.support.loader_oracle import why_not

F = TypeVar("F", bound=Fact)
CPU = os.environ.get("ENVDOCTOR_TEST_TORCH") or (sys.executable if importlib.util.find_spec("torch") else "")
CUDA = os.environ.get("ENVDOCTOR_CUDA_PYTHON", "")
WITHOUT_CPU = "torch is not installed beside the tests, and ENVDOCTOR_TEST_TORCH names no python"
WITHOUT_CUDA = "ENVDOCTOR_CUDA_PYTHON names no python with a CUDA build of torch"
pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
TORCHES = [
    pytest.param(CPU, id="cpu", marks=pytest.mark.skipif(not CPU, reason=WITHOUT_CPU)),
    pytest.param(
        CUDA, id="cuda", marks=[pytest.mark.slow, pytest.mark.skipif(not CUDA, reason=WITHOUT_CUDA)]
    ),
]
ASK = "import sys, torch; sys.stdout.write(open('/proc/self/maps').read())"


class Real(msgspec.Struct, frozen=True):
    """A real import."""

    mapped: frozenset[str]
    """Every library in its maps, links followed."""
    trace: lddebug.LoaderTrace


def environ() -> dict[str, str]:
    return {"PATH": os.environ["PATH"]}


def real_import(python: str) -> Real:
    """Import torch under the loader's debug output, and read the process's maps."""
    env = {**environ(), "LD_DEBUG": "libs,files"}
    done = subprocess.run([python, "-c", ASK], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    files = {os.path.realpath(each.path) for each in maps.parse(done.stdout) if each.executable}
    return Real(frozenset(files), lddebug.parse(done.stderr.splitlines()))


def looked_at(python: str) -> Facts:
    """What the libraries check sees of this interpreter."""
    host = Host.here(environ=environ())
    return doctor().look(host, tier=Tier.DEFAULT, python=python, area="libraries").facts


def fact(facts: Facts, kind: type[F]) -> F:
    found = facts.get(kind)
    assert isinstance(found, kind), found
    return found


def files_of(process: Process) -> frozenset[str]:
    return frozenset(os.path.realpath(each.file) for each in process.objects)


@pytest.mark.parametrize("python", TORCHES)
def test_every_request_of_a_real_import_replayed(python: str) -> None:
    """All that the process asked dlopen for, in its order, gives its maps: nothing is missing, nothing is too much."""
    setup = fact(looked_at(python), LoaderSetup)
    real = real_import(python)
    process = Process(LiveTree(Host.here(environ=environ())), setup.settings)
    assert process.start() is None
    requests = [each for each in real.trace.lookups if each.dlopened]
    assert len(requests) > 10
    for each in requests:
        caller = next((one for one in process.objects if one.file == each.wanted_by), None)
        opened = process.dlopen(each.name, caller)
        assert isinstance(opened, Failure) == (each.outcome == "not-found"), (each, opened)
    assert files_of(process) == real.mapped


@pytest.mark.parametrize("python", TORCHES)
def test_the_import_predicted(python: str) -> None:
    """Without running anything, from the recorded tree alone: torch's own files and those of NVIDIA's wheels."""
    facts = looked_at(python)
    setup, tree, loading = fact(facts, LoaderSetup), fact(facts, LoaderTree), fact(facts, TorchLoading)
    process = Process(RecordedTree(tree.record), setup.settings)
    assert process.start() is None
    assert import_torch(process, loading) is None
    real = real_import(python)
    predicted = files_of(process)
    assert predicted <= real.mapped
    site = os.path.realpath(os.path.dirname(os.path.dirname(loading.extension)))
    ours = tuple(f"{site}/{each}/" for each in ("torch", "nvidia"))
    assert {each for each in real.mapped if each.startswith(ours)} == {
        each for each in predicted if each.startswith(ours)
    }
