"""A look at the machine from inside a namespace, another user or a control group: the container check in a child."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from envdoctor import core_check, snapshot
from envdoctor.check import Check, Tier
from envdoctor.engine import Look
from envdoctor.facts import Facts, Source
from envdoctor.host import Host
from envdoctor.judging import Judged, bind, judge
from envdoctor.target import Target
from envdoctor_checks.container.plugin import check
from envdoctor_checks.driver.plugin import check as driver

CHECKS: tuple[Check, ...] = (core_check.check, check, driver)
ROOT = Path(__file__).resolve().parents[2]
LOOK = """
import sys
from envdoctor import snapshot
from envdoctor.check import Tier
from envdoctor.engine import Look
from envdoctor.facts import Facts, Source
from envdoctor.host import Host
from envdoctor.target import Target
from envdoctor import core_check
from envdoctor_checks.container.plugin import check
target = Target(python=sys.executable, why="a test", named=False, source=Source("file", "/a"))
look = Look((core_check.check, check), Host.here(), tier=Tier.QUICK, seed=Facts.of(target))
for _ in look: pass
assert not look.result.crashed, look.result.crashed
sys.stdout.buffer.write(snapshot.encode(snapshot.to_document(look.result.facts, "2026-01-01T00:00:00Z")))
"""
"""What the child runs; a recording comes back, so that what is judged has gone through JSON."""


ENTER = """
import ctypes, os
assert not ctypes.CDLL(None).unshare(0x10000000)  # CLONE_NEWUSER; an exec later on would lose the rights in it
input()
os.setgid(0)
os.setuid(0)
"""
"""How the child becomes root of a user namespace of its own, once somebody has mapped it."""


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """A container's: only what is given, and what Python needs to find this source tree and its dependencies."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "checks"), *(each for each in sys.path if each)])
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }


def facts_in(prefix: Sequence[str], variables: Mapping[str, str], uid_map: str = "") -> Facts:
    """What the check sees in a child that `prefix` started, with a `uid_map` as root of a user namespace."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", (ENTER if uid_map else "") + LOOK],
        stdin=subprocess.PIPE if uid_map else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(variables),
        cwd="/",
    )
    if uid_map:
        _map(process.pid, uid_map)
    out, err = process.communicate(b"\n" if uid_map else None, timeout=60)
    if process.returncode and b"No module named" in err:
        pytest.skip("another user may not read the packages of this interpreter")
    assert process.returncode == 0, err.decode()
    _, facts = snapshot.decode(out, "a child", CHECKS)
    return facts


def _map(pid: int, uid_map: str) -> None:
    """Wait until the process is in a user namespace of its own, then map its users and some groups."""
    ours = os.readlink("/proc/self/ns/user")
    for _ in range(500):
        if os.readlink(f"/proc/{pid}/ns/user") != ours:
            Path(f"/proc/{pid}/uid_map").write_text(uid_map)
            Path(f"/proc/{pid}/gid_map").write_text("0 100000 65536\n")
            return
        time.sleep(0.02)
    raise AssertionError("no user namespace was made")


def looked(host: Host) -> Facts:
    """A quick look at a tree of files by the core, the container check and the driver check."""
    source = Source("file", "/a/venv")
    target = Target(python="/usr/bin/python3", why="a test", named=False, source=source)
    look = Look(CHECKS, host, tier=Tier.QUICK, seed=Facts.of(target))
    for _ in look:
        pass
    assert not look.result.crashed, look.result.crashed
    return look.result.facts


def judged(facts: Facts) -> dict[str, Judged]:
    """What the loaded rules say of it, the first finding of each."""
    judgement = judge(bind(CHECKS, facts))
    assert not judgement.crashed, judgement.crashed
    found: dict[str, Judged] = {}
    for each in judgement.findings:
        found.setdefault(each.rule, each)
    return found
