"""From entry points to checks, and what becomes of those that are broken."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from envdoctor import plugins
from envdoctor.plugins import EntryPoint, Plugins, entry_points, load
from tests.core.plugin_kit import HEAD, distribution, zipped

GOOD = (
    HEAD
    + """
@check.probe(tier=Tier.QUICK)
def mood(host: Host) -> Mood:
    return Mood(mood="good", source=HERE)

@check.rule
def sad(mood: Mood) -> Findings:
    yield from ()
"""
)


def loaded(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> Plugins:
    for folder in reversed(folders):
        monkeypatch.syspath_prepend(str(folder))
    return load([str(folder) for folder in folders])


# Finding entry points.


@pytest.mark.parametrize("group", ["envdoctor.checks", "console_scripts", "pytest11"])
def test_reading_agrees_with_importlib_on_this_machine(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "GROUP", group)

    def plain(name: str, value: str, distribution: str, version: str) -> tuple[str, ...]:
        return name, value.partition("[")[0].strip(), re.sub(r"[-_.]+", "-", distribution).lower(), version

    ours = {plain(each.name, each.target, each.distribution, each.version) for each in entry_points()}
    theirs = {
        plain(each.name, each.value, each.dist.name, each.dist.version)
        for each in importlib.metadata.entry_points(group=group)
        if each.dist is not None
    }
    assert ours == theirs
    assert ours


def test_only_our_group_is_read(tmp_path: Path) -> None:
    lines = "[envdoctor.checks]\n# note\na = m:check\n b=n : check [extra]\n\n[other]\nc = o:check\n"
    distribution(tmp_path, "x", "", dist="My-Plugin", lines=lines)
    assert entry_points([str(tmp_path)]) == (
        EntryPoint("a", "m:check", "My-Plugin", "1.5"),
        EntryPoint("b", "n : check", "My-Plugin", "1.5"),
    )


def test_the_first_of_a_distribution_on_the_path_counts(tmp_path: Path) -> None:
    new = distribution(tmp_path / "new", "x", "", dist="some-plugin")
    old = distribution(tmp_path / "old", "y", "", dist="Some.Plugin")
    assert [each.name for each in entry_points([str(new), str(old)])] == ["x"]
    assert [each.name for each in entry_points([str(old), str(new)])] == ["y"]


def test_places_that_are_none_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no zip")
    (tmp_path / "broken-1.dist-info").mkdir()
    (tmp_path / "broken-1.dist-info/entry_points.txt").write_bytes(b"\xff\xfe[envdoctor.checks]")
    assert entry_points([str(tmp_path), str(tmp_path / "gone"), str(tmp_path / "file")]) == ()


# Loading.


def test_a_strangers_check_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(monkeypatch, distribution(tmp_path, "fine", GOOD.format(name="fine")))
    assert found.broken == ()
    assert [check.name for check in found.checks] == ["fine"]
    assert found.origins["fine"].version == "1.5"
    assert found.strangers() == {"fine"}


def test_a_check_in_a_zip_file_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = distribution(tmp_path / "folder", "packed", GOOD.format(name="packed"))
    found = loaded(monkeypatch, zipped(folder, tmp_path / "packed.zip"))
    assert found.broken == ()
    assert found.origins["packed"] == EntryPoint("packed", "packed_plugin:check", "envdoctor-packed", "1.5")


def test_our_own_come_first_and_nobody_takes_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = distribution(tmp_path / "own", "mine", GOOD.format(name="mine"), dist="envdoctor")
    thief = GOOD.format(name="mine")
    other = distribution(tmp_path / "other", "aaa", thief, dist="a-thief")
    found = loaded(monkeypatch, other, own)
    assert found.strangers() == frozenset()
    assert [(each.entry_point.distribution, each.error) for each in found.broken] == [
        ("a-thief", "PluginError: the name 'mine' is taken by envdoctor")
    ]


BROKEN = {
    "import": ("import no_such_module_anywhere", "ModuleNotFoundError"),
    "syntax": ("def broken(:\n", "SyntaxError"),
    "exits": ("import sys\nsys.exit('goodbye')", "SystemExit: goodbye"),
    "panics": (
        "class Panic(BaseException): ...\nraise Panic('in a compiled module')",
        "Panic: in a compiled module",
    ),
    "attribute": ("checks = 5", "AttributeError"),
    "object": ("check = 'a string'", "PluginError: object_plugin:check is str"),
    "hint": (HEAD + "@check.rule\ndef sad(mood: Mud) -> Findings: yield", "'Mud' is not defined"),
    "untyped": (HEAD + "@check.rule\ndef sad(mood) -> Findings: yield", "parameter 'mood' must name"),
    "looking": (HEAD + "@check.rule\ndef sad(host: Host) -> Findings: yield", "rules judge, and probes look"),
    "owes": (HEAD + "@check.probe()\ndef mood(host: Host) -> Printed: ...", "names no fact that it gives"),
    "regex": (
        HEAD + "@check.message('(', needles='x', sample='x')\ndef m(match) -> Sigh: ...",
        "PatternError|error",
    ),
    "shape": (HEAD + "@check.reader(starts='[')\ndef m(block) -> Mood: ...", "PatternError|error"),
    "twice": (
        HEAD + "def sad(m: Mood) -> Findings: yield\ncheck.rule(sad)\ncheck.rule(sad)",
        "registered twice",
    ),
    "envdoctor": (HEAD, "cannot be the name of a check"),
    "Loud": (HEAD, "cannot be the name of a check"),
    "unnamed": (
        HEAD + "class Odd(Fact, frozen=True): ...\n@check.probe()\ndef odd(host: Host) -> Odd: ...",
        "Odd must be named like area.dashed-name",
    ),
    "core": (
        HEAD
        + "class Own(Fact, frozen=True):\n    fact_name: ClassVar[str] = 'envdoctor.platform'\n"
        + "@check.probe()\ndef own(host: Host) -> Own: ...",
        "'envdoctor.platform' is one of the core's",
    ),
    "headline": (HEAD + "@check.headline\ndef row(mood: str): ...", "parameter 'mood' must name"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_told_and_the_others_load(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, error = BROKEN[name]
    bad = distribution(tmp_path / "bad", name, source.replace("{name}", name))
    good = distribution(tmp_path / "good", f"zz{name.lower()}", GOOD.format(name=f"zz{name.lower()}"))
    found = loaded(monkeypatch, bad, good)
    assert [check.name for check in found.checks] == [f"zz{name.lower()}"]
    (broken,) = found.broken
    assert broken.entry_point.distribution == f"envdoctor-{name}"
    assert re.search(error, broken.error), broken.error


def test_two_strangers_may_not_give_one_fact_two_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = distribution(tmp_path / "a", "first", GOOD.format(name="first"))
    source = GOOD.format(name="second").replace('"second.mood"', '"first.mood"')
    found = loaded(monkeypatch, first, distribution(tmp_path / "b", "second", source))
    assert [check.name for check in found.checks] == ["first"]
    assert "'first.mood' is one of 'first'" in found.broken[0].error


def test_ctrl_c_during_an_import_is_not_the_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = distribution(tmp_path, "slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        loaded(monkeypatch, folder)


def test_what_a_plugin_prints_at_import_stays_off_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = distribution(tmp_path, "noisy", "print('WELCOME')\n" + GOOD.format(name="noisy"))
    script = (
        "import sys; from envdoctor.plugins import load; print([c.name for c in load(sys.argv[1:]).checks])"
    )
    told = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append(sys.argv[1]); {script}", str(folder)],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (told.stdout, told.stderr) == ("['noisy']\n", "WELCOME\n")


def test_on_pythonpath_and_without_any_import_of_importlib_metadata(tmp_path: Path) -> None:
    folder = distribution(tmp_path, "pathed", GOOD.format(name="pathed"))
    script = (
        "import sys; from envdoctor.plugins import load; names = load().strangers(); "
        "print('pathed' in names, 'importlib.metadata' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": f"{folder}:{Path.cwd()}", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert told.stdout == "True False\n", told.stderr
