"""The helpers for authors of checks: they must fail where a check is wrong."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envdoctor.check import Check
from envdoctor.facts import Unavailable
from envdoctor.findings import Finding, Findings
from envdoctor.remedies import NoFix
from envdoctor.testing import NotPure, assert_silent, fires, judge_facts, pure, read, samples
from tests.core.kit import Bang, Engine, Squeak, Wheels, car

# pure.


def test_thinking_is_pure() -> None:
    with pure():
        assert sum(range(10)) == 45
        assert re.sub("a", "b", "aaa") == "bbb"
        import colorsys  # noqa: F401 - importing code is not looking at the machine


@pytest.mark.parametrize(
    "deed",
    [
        lambda: open("/etc/hostname").close(),
        lambda: os.listdir("/"),
        lambda: os.scandir("/").close(),
        lambda: Path("/etc").glob("*").__next__(),
        lambda: subprocess.run(["true"]),
        lambda: os.system("true"),
        lambda: socket.socket().connect(("127.0.0.1", 9)),
        lambda: socket.getaddrinfo("localhost", 80),
        lambda: os.putenv("A", "B"),
        lambda: __import__("ctypes").CDLL(None),
    ],
)
def test_deeds_are_not(deed: Callable[[], object]) -> None:
    with pytest.raises(NotPure), pure():
        deed()


def test_a_deed_that_is_hidden_is_heard_all_the_same() -> None:
    def sly() -> None:
        with contextlib.suppress(Exception):
            os.listdir("/")

    with pytest.raises(NotPure, match="listdir"), pure():
        sly()


def test_outside_and_in_other_threads_deeds_are_free() -> None:
    with pure():
        pass
    assert os.listdir("/")
    done: list[object] = []
    go = threading.Event()
    thread = threading.Thread(target=lambda: done.append(go.wait(5) and os.listdir("/")))
    thread.start()
    with pure():
        go.set()
        while not done:
            pass
    thread.join()
    assert done[0]


# Judging.


def stands(engine: Engine) -> Findings:
    """The engine stands."""
    if engine.running is False:
        yield Finding(title="it stands", remedies=(NoFix(reason="it is old"),))


def peeps(engine: Engine) -> Findings:
    """A rule that looks."""
    with open("/etc/hostname") as file:
        yield Finding(title=file.read())


def breaks(wheels: Wheels) -> Findings:
    """A rule with a defect."""
    if wheels:
        raise ValueError("no such gear")
    yield Finding(title="never")


def excuses(engine: Engine | Unavailable) -> Findings:
    """A rule that tells apart."""
    if isinstance(engine, Unavailable):
        yield Finding(title=engine.reason)


def checked(*rules: Any) -> tuple[Check, list[Any]]:
    check = car()
    return check, [check.rule(rule) for rule in rules]


def test_silence_needs_something_to_judge() -> None:
    check, (rule,) = checked(stands)
    assert_silent(check, rule, Engine())
    assert_silent(check, "car/stands", Engine())
    with pytest.raises(AssertionError, match=r"did not judge; not recorded: car\.engine"):
        assert_silent(check, rule, Wheels())
    with pytest.raises(AssertionError, match="did not judge; could not look: not readable"):
        assert_silent(check, rule, Wheels(), unavailable=(Engine,))
    with pytest.raises(AssertionError, match="no check that was given has it"):
        assert_silent(check, "car/no-such-rule", Engine())
    with pytest.raises(AssertionError, match="it stands"):
        assert_silent(check, rule, Engine(running=False))


def test_firing() -> None:
    check, (rule, _) = checked(stands, excuses)
    assert fires(check, rule, Engine(running=False)).finding.title == "it stands"
    assert fires([check], "car/excuses", Unavailable("car.engine", "locked")).finding.title == "locked"
    assert fires(check, "car/excuses", unavailable=(Engine,)).finding.title == "not readable"
    with pytest.raises(AssertionError, match="stays silent; it judged, and found nothing"):
        fires(check, rule, Engine())
    with pytest.raises(AssertionError, match="stays silent; not recorded"):
        fires(check, rule)


def test_a_rule_that_looks_or_breaks_fails_the_test() -> None:
    check, _ = checked(stands, peeps)
    with pytest.raises(NotPure, match="/etc/hostname"):
        judge_facts(check, Engine())
    check, _ = checked(stands, breaks)
    with pytest.raises(AssertionError, match="no such gear"):
        judge_facts(check, Engine(), Wheels())
    assert judge_facts(check, Engine()) == ()


# Reading.


def reading() -> Check:
    check = car()

    @check.message(r"bang of (?P<loud>\d+)", needles="bang of", sample="a bang of 7")
    def bang(match: re.Match[str]) -> Bang:
        return Bang(loud=int(match["loud"]))

    return check


def test_pasted_text_is_read() -> None:
    facts = read(reading(), "a bang of 3\nand\na bang of 3\n")
    assert [(said.loud, said.times, said.source.line) for said in facts.symptoms(Bang)] == [(3, 2, 1)]


def test_samples_that_give_their_symptom() -> None:
    samples(reading())


@pytest.mark.parametrize(
    ("regex", "needle", "sample"),
    [
        (r"bang", "bang", "silence"),
        (r"bang", "boom", "a bang"),
        (r"^bang", "bang", "a bang"),
        (r"(?P<none>bang)?", "bang", "a bang"),
    ],
)
def test_samples_that_do_not(regex: str, needle: str, sample: str) -> None:
    check = car()

    @check.message(regex, needles=needle, sample=sample)
    def bang(match: re.Match[str]) -> Bang | None:
        return None if "none" in match.re.groupindex else Bang()

    with pytest.raises(AssertionError, match="not one Bang"):
        samples(check)


def test_a_reader_that_breaks_fails_the_test() -> None:
    check = car()

    @check.reader(starts="^engine:")
    def engine(block: Any) -> Engine:
        raise ValueError("no such gear")

    assert list(read(check, "nothing of it\n").symptoms(Squeak)) == []
    with pytest.raises(AssertionError, match="no such gear"):
        read(check, "engine: on\n")


def test_importing_the_helpers_installs_no_hook() -> None:
    script = "import envdoctor.testing as t; print(t._guard._installed)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)
    assert told.stdout == "False\n", told.stderr
