"""Looking is bounded: deadlines, the budget, Ctrl-C, and threads that cannot be had."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from envdoctor.check import Tier
from envdoctor.facts import Unavailable
from tests.core.kit import Engine, Wheels, car, looked, with_probes


def takes_wheels(engine: Engine) -> Wheels:
    return Wheels()


def slow_engine() -> Engine:
    time.sleep(0.1)
    return Engine(running=False)


def test_a_probe_that_hangs_costs_its_deadline_and_no_more(tmp_path: Path) -> None:
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)

    def hangs() -> Engine:
        with open(pipe, "rb") as file:  # blocks until somebody writes
            file.read()
        return Engine()

    def wheels() -> Wheels:
        return Wheels()

    check = with_probes(hangs, wheels, deadline=0.3)
    began = time.monotonic()
    result = looked(check)
    assert time.monotonic() - began < 2
    assert result.late == {"car.hangs": 0.3}
    assert result.facts.get(Engine) == Unavailable("car.engine", "no answer within 0.3 s")
    assert result.facts.get(Wheels) == Wheels()
    with open(pipe, "wb"):
        pass  # let the thread go


def test_a_late_answer_is_not_taken() -> None:
    go = threading.Event()

    def late() -> Engine:
        go.wait(5)
        return Engine()

    def slow() -> Wheels:
        go.set()
        time.sleep(0.3)  # the late answer comes while this one is waited for
        return Wheels()

    check = car()
    check.probe(tier=Tier.QUICK, deadline=0.1)(late)

    def after(engine: Engine | None) -> Wheels:
        return slow()

    check.probe(tier=Tier.QUICK, deadline=5.0)(after)
    result = looked(check)
    assert isinstance(result.facts.get(Engine), Unavailable)
    assert result.facts.get(Wheels) == Wheels()
    assert list(result.seconds) == ["car.late", "car.after"]


def test_the_budget_ends_the_look() -> None:
    go = threading.Event()

    def hangs() -> Engine:
        go.wait(5)
        return Engine()

    began = time.monotonic()
    result = looked(with_probes(hangs, takes_wheels), budget=0.3)
    assert time.monotonic() - began < 2
    assert result.late == {"car.hangs": 0.3}
    assert [(each.probe, "--budget" in each.reason) for each in result.not_tried] == [
        ("car.takes-wheels", True)
    ]
    go.set()


def test_without_a_budget_there_is_no_end_but_the_deadlines() -> None:
    assert looked(with_probes(slow_engine), budget=math.inf).facts.get(Engine) == Engine(running=False)


INTERRUPTED = """
import threading, time
from envdoctor.engine import Look
from envdoctor.check import Tier
from envdoctor.host import Host
from tests.core.kit import Engine, with_probes

def hangs() -> Engine:
    time.sleep(60)
    return Engine()

try:
    for event in Look([with_probes(hangs, deadline=60)], Host.here(), tier=Tier.QUICK):
        print("started", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_the_look_at_once_and_the_process_leaves() -> None:
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10)[0] == "interrupted\n"
        assert process.returncode == 0
        assert time.monotonic() - began < 5


def test_a_thread_that_cannot_be_started_is_told() -> None:
    script = """
import resource
from tests.core.kit import Engine, looked, with_probes

def engine() -> Engine:
    return Engine()

resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))
import threading
threading.stack_size(1 << 30)  # no room for such a stack
print(looked(with_probes(engine)).facts.get(Engine))
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)
    assert "Unavailable" in told.stdout, told.stderr
    assert "start new thread" in told.stdout
