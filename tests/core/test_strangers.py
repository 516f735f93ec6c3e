"""A stranger's probes run in a child: whatever they do to their process, the look goes on."""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envdoctor.check import Tier
from envdoctor.engine import Look, Looked
from envdoctor.facts import Facts, Printed, Symptom, Unavailable
from envdoctor.host import Host
from envdoctor.plugins import load
from envdoctor.probing.stranger import run_stranger
from envdoctor.tree import host_tree
from tests.core.plugin_kit import HEAD, distribution

if TYPE_CHECKING:
    from envdoctor.check import Check

SOURCE = (
    HEAD
    + """
class Home(Fact, frozen=True, kw_only=True):
    fact_name: ClassVar[str] = "{name}.home"
    path: str | None
    pythonpath: str | None
    child: str

class Dream(Fact, frozen=True):
    fact_name: ClassVar[str] = "{name}.dream"

@check.probe(tier=Tier.QUICK, deadline=float(os.environ.get("STRANGER_DEADLINE", 20)))
def mood(host: Host) -> Mood:
    do = host.environ.get("STRANGER_DOES", "")
    if do == "crash":
        import ctypes
        ctypes.string_at(0)
    if do == "hang":
        time.sleep(60)
    if do == "leave":
        os._exit(0)
    if do == "leave-badly":
        os._exit(3)
    if do == "raise":
        raise ValueError("no such mood")
    if do == "exit":
        sys.exit("enough")
    if do == "kept":
        raise CouldNotLook("the curtain is drawn", "draw it")
    if do == "denied":
        raise PermissionError(13, "Permission denied", "/secret")
    if do == "text":
        return "a mood"
    if do == "noise":
        print("NOISE")
        os.write(1, b"MORE NOISE\\n{{}}\\n")
        os.write(2, b"ERRORS\\n")
    if do == "close":
        os.closerange(0, 3)
    return Mood(mood=None, source=HERE)

@check.probe(tier=Tier.QUICK, deadline=20)
def home(host: Host, mood: Mood | Unavailable) -> tuple[Home | Dream | Unavailable | Sigh | Printed, ...]:
    from envdoctor.probing.child import ChildRequest
    said = host.run_child(ChildRequest(argv=("sh", "-c", "echo $PYTHONPATH.$TMPDIR"), deadline=5)).stdout.text
    return (
        Home(path=host.environ.get("HOME"), pythonpath=host.environ.get("PYTHONPATH"), child=said, source=HERE),
        Sigh(how="deep", quote="a deep sigh"), Sigh(how="deep"), Printed("text", HERE),
        Unavailable("{name}.dream", "awake"),
    )
"""
)


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """A check in a distribution of its own."""
    return installed(tmp_path, monkeypatch)


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    name = f"odd{zlib.crc32(str(folder).encode())}"  # a module is imported once, so each test has its own
    distribution(folder, name, SOURCE.format(name=name))
    monkeypatch.syspath_prepend(str(folder))
    found = load([str(folder)])
    assert found.broken == ()
    return found.checks[0]


def looked(check: Check, host: Host | None = None, **environ: str) -> Looked:
    host = host or Host.here(environ={**os.environ, **environ})
    heard: list[Printed] = []

    def match(printed: Printed) -> tuple[Symptom, ...]:
        heard.append(printed)
        return ()

    look = Look([check], host, tier=Tier.QUICK, run_stranger={check.name: run_stranger}, match=match)
    for _ in look:
        pass
    assert [each.text for each in heard] == (["text"] if host.live else [])
    return look.result


def mood_of(check: Check, facts: Facts) -> object:
    return facts.get(check.fact_types()[f"{check.name}.mood"])


@pytest.mark.parametrize("does", ["", "noise", "close"])
def test_facts_come_back_whatever_is_printed(
    stranger: Check, does: str, capfd: pytest.CaptureFixture[str]
) -> None:
    result = looked(stranger, STRANGER_DOES=does)
    assert result.crashed == {}
    mood = mood_of(stranger, result.facts)
    assert getattr(mood, "mood", "?") is None
    assert capfd.readouterr() == ("", "")


def test_symptoms_unavailable_and_printed_come_back(stranger: Check) -> None:
    facts = looked(stranger).facts
    assert [why.reason for why in facts.unavailable().values()] == ["awake"]
    (sigh,) = facts.all_symptoms()
    assert (getattr(sigh, "how", ""), sigh.quote, sigh.times) == ("deep", "a deep sigh", 2)


def test_the_probe_sees_the_users_environment_and_not_ours(stranger: Check) -> None:
    facts = looked(stranger, HOME="/home/somebody", PYTHONPATH="/users/own", TMPDIR="/users/tmp").facts
    home = next(fact for fact in facts if type(fact).fact_name.endswith(".home"))
    told = {name: getattr(home, name) for name in ("path", "pythonpath", "child")}
    assert told == {"path": "/home/somebody", "pythonpath": "/users/own", "child": "/users/own./users/tmp\n"}


@pytest.mark.parametrize(
    ("does", "error"),
    [
        ("crash", "its process was killed by SIGSEGV"),
        ("leave", "its process ended without an answer"),
        ("leave-badly", "its process exited with status 3"),
        ("raise", "ValueError: no such mood"),
        ("exit", "SystemExit: enough"),
        ("text", "TypeError: a probe gave str, which is no fact"),
    ],
)
def test_what_breaks_the_child_is_told(stranger: Check, does: str, error: str) -> None:
    result = looked(stranger, STRANGER_DOES=does)
    assert set(result.crashed) == {f"{stranger.name}.mood"}
    assert result.crashed[f"{stranger.name}.mood"].startswith(error)
    why = mood_of(stranger, result.facts)
    assert isinstance(why, Unavailable)
    assert error in why.reason


@pytest.mark.parametrize(
    ("does", "reason", "allow"),
    [
        ("kept", "the curtain is drawn", "draw it"),
        ("denied", "/secret: Permission denied", "run as root, or as a user who may read it"),
    ],
)
def test_being_kept_from_looking_is_no_crash(stranger: Check, does: str, reason: str, allow: str) -> None:
    result = looked(stranger, STRANGER_DOES=does)
    assert result.crashed == {}
    assert mood_of(stranger, result.facts) == Unavailable(f"{stranger.name}.mood", reason, allow)


def test_a_hung_child_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRANGER_DEADLINE", "0.2")
    check = installed(tmp_path, monkeypatch)
    began = time.monotonic()
    result = looked(check, STRANGER_DOES="hang")
    assert result.late == {f"{check.name}.mood": 0.2}
    assert result.crashed == {}
    assert time.monotonic() - began < 8


def test_nothing_of_a_stranger_runs_for_a_tree_of_files(stranger: Check, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    result = looked(stranger, host_tree(tmp_path / "tree"))
    why = mood_of(stranger, result.facts)
    assert isinstance(why, Unavailable)
    assert "nothing can be run" in why.reason
