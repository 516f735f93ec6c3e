"""Control groups: real ones of version 1, with real limits that are really reached; version 2 as trees of files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envdoctor.facts import Facts, Unavailable
from envdoctor.tree import host_tree
from envdoctor_checks.container.facts import (
    CpuCount,
    CpuQuota,
    CpuThrottling,
    DeviceRules,
    MemoryLimit,
    MemoryUsage,
    OomKills,
    PidsLimit,
    PidsUsage,
)
from tests.support.container import facts_in, judged, looked

TOP = Path("/sys/fs/cgroup")
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOME": "/root"}
MIB = 1 << 20
real = pytest.mark.skipif(
    os.getuid() != 0 or not os.access(TOP / "memory" / "tasks", os.W_OK),
    reason="it takes root, and control groups of version 1 that may be made",
)
Make = Callable[..., list[str]]


@pytest.fixture
def group() -> Iterator[Make]:
    """Makes a group of one controller with its settings; gives the words that start a command in it."""
    made: list[Path] = []

    def make(controller: str, **settings: str) -> list[str]:
        path = TOP / controller / f"envdoctor-{os.getpid()}-{len(made)}"
        path.mkdir()
        made.append(path)
        for name, value in settings.items():
            (path / name.replace("__", ".")).write_text(value)
        return ["sh", "-c", f'echo $$ > {path}/tasks; exec "$@"', "sh"]

    yield make
    for path in made:
        for _ in range(100):
            try:
                path.rmdir()
                break
            except OSError:  # its last process is still being put away
                time.sleep(0.02)


@real
def test_a_memory_limit_far_away_is_silent(group: Make) -> None:
    facts = facts_in(group("memory", memory__limit_in_bytes=str(512 * MIB)), POD)
    limit, usage, kills = facts.get(MemoryLimit), facts.get(MemoryUsage), facts.get(OomKills)
    assert isinstance(limit, MemoryLimit)
    assert limit.limit == 512 * MIB
    assert isinstance(usage, MemoryUsage)
    assert 0 < usage.usage < 512 * MIB
    assert isinstance(kills, OomKills)
    assert kills.kills == 0
    assert "container/memory-limit" not in judged(facts)


@real
def test_a_memory_limit_that_has_killed(group: Make) -> None:
    inside = group("memory", memory__limit_in_bytes=str(160 * MIB))
    hog = subprocess.run([*inside, sys.executable, "-c", "b'x' * (400 << 20)"], capture_output=True)
    assert hog.returncode == -9
    finding = judged(facts_in(inside, POD))["container/memory-limit"].finding
    assert finding.severity.value == "warning"
    assert "160 MiB" in finding.title


@real
def test_a_quota_that_runs_out(group: Make) -> None:
    inside = group("cpu", cpu__cfs_period_us="5000", cpu__cfs_quota_us="2500")
    spin = "import time\nend = time.time() + 0.9\nwhile time.time() < end: pass"
    subprocess.run([*inside, sys.executable, "-c", spin], check=True)
    facts = facts_in(inside, POD)
    quota, throttling = facts.get(CpuQuota), facts.get(CpuThrottling)
    assert isinstance(quota, CpuQuota)
    assert quota.cores == 0.5
    assert isinstance(throttling, CpuThrottling)
    assert throttling.periods > 100
    assert throttling.throttled > throttling.periods / 4
    fixed = judged(facts_in(inside, {**POD, "OMP_NUM_THREADS": "1"}))
    assert "container/cpu-quota-oversubscribed" not in fixed
    count = facts.get(CpuCount)
    assert isinstance(count, CpuCount)
    assert ("container/cpu-quota-oversubscribed" in judged(facts)) == (count.usable >= 1)


@real
def test_a_limit_of_tasks(group: Make) -> None:
    roomy = judged(facts_in(group("pids", pids__max="2000"), POD))
    assert "container/pids-limit" not in roomy
    inside = group("pids", pids__max="150")
    forks = "for i in $(seq 200); do sleep 0.3 & done; wait"
    subprocess.run([*inside, "sh", "-c", forks], capture_output=True)
    wait_until_empty()
    facts = facts_in(inside, POD)
    limit, usage = facts.get(PidsLimit), facts.get(PidsUsage)
    assert isinstance(limit, PidsLimit)
    assert limit.limit == 150
    assert isinstance(usage, PidsUsage)
    assert usage.refused
    assert judged(facts)["container/pids-limit"].finding.severity.value == "warning"


def wait_until_empty() -> None:
    """Those that were started outlive the shell that could not start more."""
    for _ in range(200):
        if all(
            int(each.read_text()) == 0 for each in TOP.glob(f"pids/envdoctor-{os.getpid()}-*/pids.current")
        ):
            return
        time.sleep(0.05)


@real
def test_device_rules(group: Make) -> None:
    rules = facts_in([], POD).get(DeviceRules)
    assert isinstance(rules, DeviceRules)
    inside = group("devices", devices__deny="a")
    path = next(TOP.joinpath("devices").glob(f"envdoctor-{os.getpid()}-*"))
    for rule in ("c 1:* rwm", "c 195:255 r"):
        (path / "devices.allow").write_text(rule)
    rules = facts_in(inside, POD).get(DeviceRules)
    assert isinstance(rules, DeviceRules)
    assert (rules.allows(1), rules.allows(195), rules.allows(507)) == (True, False, False)


MOUNT = "30 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"


def seen(tmp_path: Path, files: dict[str, str], mounts: str = MOUNT) -> Facts:
    """What the probes see in a tree of version 2."""
    for name, text in {"/proc/self/mountinfo": mounts, **files}.items():
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return looked(host_tree(tmp_path, environ=POD))


def test_version_2_takes_the_tightest_limit_above(tmp_path: Path) -> None:
    facts = seen(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/pod/work/inner\n",
            "/proc/self/status": "Cpus_allowed_list:\t0-3,8,10-11\n",
            "/sys/fs/cgroup/pod/memory.max": "4294967296\n",
            "/sys/fs/cgroup/pod/memory.current": "1000\n",
            "/sys/fs/cgroup/pod/work/memory.max": "8589934592\n",
            "/sys/fs/cgroup/pod/work/memory.current": "900\n",
            "/sys/fs/cgroup/pod/work/inner/memory.max": "max\n",
            "/sys/fs/cgroup/pod/work/inner/memory.events": "low 0\noom 3\noom_kill 2\n",
            "/sys/fs/cgroup/pod/work/cpu.max": "150000 100000\n",
            "/sys/fs/cgroup/pod/work/inner/cpu.max": "max 100000\n",
            "/sys/fs/cgroup/pod/work/cpu.stat": "usage_usec 1\nnr_periods 200\nnr_throttled 190\nthrottled_usec 5\n",
            "/sys/fs/cgroup/pod/pids.max": "max\n",
        },
    )
    values = {type(fact): fact for fact in facts}
    assert values[MemoryLimit].limit == 4294967296  # type: ignore[attr-defined] # by its key
    assert values[MemoryUsage].usage == 1000  # type: ignore[attr-defined] # by its key
    assert values[OomKills].kills == 2  # type: ignore[attr-defined] # by its key
    assert values[CpuQuota].cores == 1.5  # type: ignore[attr-defined] # by its key
    assert values[CpuThrottling].throttled == 190  # type: ignore[attr-defined] # by its key
    assert values[CpuCount].usable == 7  # type: ignore[attr-defined] # by its key
    assert values[PidsLimit].limit is None  # type: ignore[attr-defined] # by its key
    assert DeviceRules not in {*values, *facts.unavailable()}, "version 2 has no file of device rules"
    assert {"container/memory-limit", "container/cpu-quota-oversubscribed"} <= set(judged(facts))


@pytest.mark.parametrize("told", ["0::/gone/away (deleted)\n", "0::/gone/away\n", "0::/../../elsewhere\n"])
def test_a_group_that_vanished_leaves_the_top(tmp_path: Path, told: str) -> None:
    facts = seen(tmp_path, {"/proc/self/cgroup": told, "/sys/fs/cgroup/memory.max": "1048576\n"})
    limit = facts.get(MemoryLimit)
    assert isinstance(limit, MemoryLimit)
    assert limit.limit == MIB


def test_no_control_groups_are_mounted(tmp_path: Path) -> None:
    facts = seen(tmp_path, {"/proc/self/cgroup": "0::/\n"}, mounts="22 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    for kind in (MemoryLimit, CpuQuota, PidsLimit, DeviceRules):
        assert isinstance(facts.get(kind), Unavailable)


@pytest.mark.parametrize(
    "rubbish", ["", "\n", "rubbish\n", "-1\n", "99999999999999999999999\n", "\x00\x01\x02", "1 2 3\n"]
)
def test_files_that_hold_no_number(tmp_path: Path, rubbish: str) -> None:
    names = (
        "memory.max",
        "memory.current",
        "memory.events",
        "cpu.max",
        "cpu.stat",
        "pids.max",
        "pids.current",
        "pids.events",
    )
    facts = seen(
        tmp_path, {"/proc/self/cgroup": "0::/\n", **{f"/sys/fs/cgroup/{name}": rubbish for name in names}}
    )
    assert not {"container/memory-limit", "container/pids-limit", "container/cpu-quota-oversubscribed"} & set(
        judged(facts)
    )
