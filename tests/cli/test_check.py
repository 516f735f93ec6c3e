"""``envdoctor check`` in a closed world: exit codes, streams, selection, formats, files."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from envdoctor.schemas import committed
from tests.cli.worlds import World


def test_a_happy_machine_gives_a_short_calm_report(world: World) -> None:
    done = world.run("check", "--quick")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Looked at  demo\n" in done.stdout
    assert "Not tried\n  · demo.dreams (--deep tries it)\n" in done.stdout
    assert done.stdout.endswith("\n✓ Nothing wrong was found; exit code 0\n")
    assert len(done.stdout.splitlines()) < 20


def test_deep_leaves_nothing_untried(world: World) -> None:
    assert "Not tried" not in world.run("check", "--deep").stdout


def test_a_fault_is_told_with_its_evidence_fix_and_consequence(world: World) -> None:
    done = world.run("check", "--quick", DEMO_MOOD="sad")
    assert done.returncode == 1
    assert "✗ ERROR  the machine is sad\n  demo/sad\n" in done.stdout
    assert "mood  sad  [env DEMO_MOOD]\n" in done.stdout
    assert "\n        echo 'hello [friend]'\n" in done.stdout
    assert "This also explains:\n    · the machine says nothing (demo/silent)\n" in done.stdout
    assert "To be sure, run\n    fortune\n" in done.stdout


@pytest.mark.parametrize(
    ("mood", "options", "code"),
    [
        ("grumpy", (), 0),
        ("grumpy", ("--fail-on", "warning"), 1),
        ("sad", ("--fail-on", "never"), 0),
        ("sad", ("--ignore", "demo/sad,demo/silent"), 0),
        ("sad", ("--ignore", "demo"), 0),
        ("sad", ("--select", "demo/sad", "--select", "demo/grumpy"), 1),
        ("sad", ("--select", "envdoctor"), 0),
        ("hidden", (), 3),
        ("hidden", ("--select", "envdoctor"), 0),
        ("hidden", ("--select", "demo/sad"), 3),
        ("hidden", ("--fail-on", "never"), 3),
        ("offline", ("--offline",), 0),
        ("offline", (), 1),
    ],
)
def test_exit_codes(world: World, mood: str, options: tuple[str, ...], code: int) -> None:
    done = world.run("check", "--quick", *options, DEMO_MOOD=mood)
    assert done.returncode == code, done.stdout + done.stderr
    assert f"exit code {code}" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--nonsense",), "--nonsense"),
        (("--select", "demo/sat"), "did you mean demo/sad"),
        (("--ignore", "demos"), "did you mean demo"),
        (("--select", "demo", "--ignore", "demo"), "leave no rule"),
        (("--quick", "--deep"), "exclude"),
        (("-q", "-v"), "exclude"),
        (("--facts", "none.json"), "none.json: No such file"),
        (("--facts", "a.json", "--quick"), "--facts"),
        (("--facts", "-", "--facts", "-"), "once"),
        (("--python", "/nowhere/python"), "no such interpreter"),
        (("--output", "nowhere/report"), "no directory"),
        (("--output", "."), "directory"),
        (("--format", "xml"), "xml"),
    ],
)
def test_wrong_usage_is_two_with_an_empty_stdout(world: World, options: tuple[str, ...], said: str) -> None:
    done = world.run("check", "--format", "json", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_json_is_the_report_document_and_nothing_else(world: World) -> None:
    done = world.run("check", "--quick", "--format", "json", DEMO_MOOD="sad")
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads(committed("report")))
    assert [found["id"] for found in document["findings"]] == ["demo/sad", "demo/silent"]
    assert document["summary"]["exit_code"] == done.returncode == 1
    assert document["crash"] is None


def test_bytes_that_are_no_utf8_survive_in_every_format(bare: World) -> None:
    bare.plugin(
        distribution="envdoctor"
    )  # so that the probe runs here, and its facts do not travel through a child
    bare.environ["DEMO_MOOD"] = b"sad\xff".decode("utf-8", "surrogateescape")
    document = json.loads(bare.run("check", "--quick", "--format", "json").stdout)
    assert {"label": "mood", "value": "sad\\udcff"} in document["machine"]
    assert "mood    sad\\udcff\n" in bare.run("check", "--quick").stdout
    assert "sad\\\\udcff" in bare.run("check", "--quick", "--format", "markdown").stdout
    assert '"sad\\\\udcff"' in bare.run("record", "--quick").stdout


def test_quiet_says_only_what_fails(world: World) -> None:
    assert world.run("check", "--quick", "-q").stdout == ""
    assert world.run("check", "--quick", "-q", DEMO_MOOD="grumpy").stdout == ""
    sad = world.run("check", "--quick", "-q", DEMO_MOOD="sad").stdout
    assert sad.startswith("✗ ERROR  the machine is sad\n")
    assert "Looked at" not in sad
    assert "Could not judge" in world.run("check", "--quick", "-q", DEMO_MOOD="hidden").stdout


def test_verbose_says_how_each_check_fared(world: World) -> None:
    told = world.run("check", "--quick", "-v").stdout
    assert "\nChecks\n" in told
    assert "  demo       ok, 3 rules judged," in told


def test_output_is_written_whole_and_named(world: World) -> None:
    done = world.run("check", "--quick", "--output", "report.txt", DEMO_MOOD="sad")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "report written to report.txt\n")
    assert "the machine is sad" in (world.folder / "report.txt").read_text()
    assert not list(world.folder.glob("*.part"))


def test_output_replaces_a_file_and_keeps_the_link_to_it(world: World) -> None:
    (world.folder / "real.json").write_text("old")
    (world.folder / "link.json").symlink_to("real.json")
    world.run("check", "--quick", "--format", "json", "--output", "link.json")
    assert (world.folder / "link.json").is_symlink()
    assert json.loads((world.folder / "real.json").read_text())["crash"] is None


def test_without_any_check_nothing_is_well(bare: World) -> None:
    done = bare.run("check", "--quick")
    assert (done.returncode, done.stdout) == (3, "")
    assert "no checks are installed" in done.stderr
    document = json.loads(bare.run("check", "--quick", "--format", "json").stdout)
    assert document["summary"]["exit_code"] == 3
    assert "no checks are installed" in document["crash"]
    for command in (("rules",), ("record",), ("rule", "x"), ("explain",)):
        assert bare.run(*command, stdin="text").returncode == 3


def test_when_every_check_is_broken_nothing_is_well(bare: World) -> None:
    bare.plugin("raise ImportError('half of me is gone')")
    done = bare.run("check", "--quick")
    assert done.returncode == 3
    assert "half of me is gone" in done.stderr


def test_a_broken_plugin_beside_a_good_one_is_a_finding(world: World) -> None:
    world.plugin("1 / 0", name="bad", distribution="bad-plugin")
    done = world.run("check", "--quick")
    assert done.returncode == 0
    assert "WARNING" in done.stdout
    assert "ZeroDivisionError" in done.stdout


CRASH = """
import envdoctor.session
def broken(*_):
    raise KeyError("bang")
envdoctor.session.Doctor.report = broken
"""


def test_a_crash_of_ours_is_three_with_a_document_and_one_line(world: World) -> None:
    Path(world.folder, "crash.py").write_text(CRASH)
    command = ["-S", "-c", "import sys, crash; from envdoctor.cli import run; run(sys.argv[1:])"]
    world.command = lambda *arguments: [*World.command(world)[:1], *command, *arguments]  # type: ignore[method-assign] # the same world, entered by a door that breaks
    done = world.run("check", "--quick", "--format", "json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads(committed("report")))
    assert "KeyError: 'bang'" in document["crash"]
    assert (document["verdict"], document["summary"]["exit_code"]) == ("could-not-judge", 3)
    assert document["target"]["python"]
    text = world.run("check", "--quick")
    assert (text.returncode, text.stdout) == (3, "")
    assert len(text.stderr.splitlines()) == 1
    assert "report it" in text.stderr
    assert "Traceback" in world.run("check", "--quick", ENVDOCTOR_DEBUG="1").stderr
