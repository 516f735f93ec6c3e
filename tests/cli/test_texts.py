"""``explain``, ``record``, ``rules``, ``rule``, ``schema`` and ``completion`` in a closed world."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema
import pytest

from envdoctor.schemas import FILES, committed, generated

if TYPE_CHECKING:
    from tests.cli.worlds import World

SIGH = "a line\nthe machine sighed deeply\n"


def test_a_text_without_a_cause_is_not_called_well(world: World) -> None:
    done = world.run("explain", stdin="all is fine\n")
    assert done.returncode == 0
    assert "does not say that its machine is well" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("? Nothing that breaks")


def test_a_text_is_read_from_stdin_a_dash_or_a_file(world: World) -> None:
    (world.folder / "job.log").write_text(SIGH)
    for arguments, stdin, source in (
        ((), SIGH, "paste:2"),
        (("-",), SIGH, "paste:2"),
        (("job.log",), "", "job.log:2"),
    ):
        done = world.run("explain", *arguments, stdin=stdin)
        assert done.returncode == 1
        assert "the machine sighed deeply" in done.stdout
        assert f"[{source}]" in done.stdout


def test_a_text_from_this_machine_is_judged_with_it(world: World) -> None:
    done = world.run("explain", "--here", stdin=SIGH, DEMO_MOOD="sad")
    assert "this machine" in done.stdout
    assert "[env DEMO_MOOD]" in done.stdout
    assert "[paste:2]" in done.stdout


def test_a_text_from_a_recorded_machine_is_judged_with_it(world: World) -> None:
    world.run("record", "--quick", "-o", "sad.json", DEMO_MOOD="sad")
    done = world.run("explain", "--facts", "sad.json", stdin=SIGH)
    assert "a machine recorded at" in done.stdout
    assert "[env DEMO_MOOD]" in done.stdout
    assert "[paste:2]" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        ((), "", "no text"),
        (("none.log",), "", "none.log: No such file"),
        (("--here", "--facts", "x.json"), "", "exclude"),
        (("--facts", "-"), "", "standard input"),
        ((), '{"schema": "envdoctor.facts/1", "facts": {}}', "check --facts"),
    ],
)
def test_what_cannot_be_explained_is_wrong_usage(
    world: World, arguments: tuple[str, ...], stdin: str, said: str
) -> None:
    done = world.run("explain", *arguments, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_what_is_recorded_is_judged_as_it_was_live(world: World) -> None:
    live = json.loads(world.run("check", "--quick", "--format", "json", DEMO_MOOD="sad").stdout)
    done = world.run("record", "--quick", "-o", "facts.json", DEMO_MOOD="sad")
    assert (done.returncode, done.stdout) == (0, "")
    assert "facts written to facts.json" in done.stderr
    document = json.loads((world.folder / "facts.json").read_text())
    jsonschema.validate(document, json.loads(committed("facts")))
    assert document["recorded"]["redacted"] is True
    again = json.loads(world.run("check", "--facts", "facts.json", "--format", "json").stdout)
    piped = world.run("check", "--facts", "-", "--format", "json", stdin=json.dumps(document)).stdout
    assert again == json.loads(piped)
    assert again["target"]["source"] == "facts"
    assert again["target"]["recorded_at"] == document["recorded"]["at"]
    for key in ("id", "severity", "role", "subject", "consequence_of"):
        assert [found[key] for found in again["findings"]] == [found[key] for found in live["findings"]]


def test_a_recording_names_nobody_unless_asked(world: World) -> None:
    own = world.environ | {"USER": "adalovelace", "HOME": "/home/adalovelace"}
    world.environ = own | {"DEMO_MOOD": "adalovelace at /home/adalovelace/x"}
    assert "adalovelace" in world.run("record", "--quick", "--no-redact").stdout
    assert "adalovelace" not in world.run("record", "--quick").stdout
    assert "adalovelace" in world.run("check", "--quick").stdout
    assert "adalovelace" not in world.run("check", "--quick", "--redact").stdout
    assert "adalovelace" not in world.run("check", "--quick", "--format", "markdown").stdout


def test_rules_are_listed_by_area(world: World) -> None:
    text = world.run("rules").stdout
    assert text.startswith("demo: the mood of the machine\n  demo/sad     The machine is sad.\n")
    assert "envdoctor/plugin-broken" in text
    listed = json.loads(world.run("rules", "--format", "json", "demo").stdout)
    assert listed["schema"] == "envdoctor.rules/1"
    assert listed["rules"][0] == {"id": "demo/sad", "area": "demo", "summary": "The machine is sad."}
    assert {rule["area"] for rule in listed["rules"]} == {"demo"}


def test_a_rule_shows_its_page_and_the_messages_that_lead_to_it(world: World) -> None:
    page = world.run("rule", "demo/sad").stdout
    assert page == (
        "demo/sad\n\nThe machine is sad\n\nIt says nothing. See the manual <https://example.org/moods>.\n\n"
        "    echo 'hello'\n\nMessages that lead here\n\n    the machine sighed deeply\n"
    )
    assert world.run("rule", "sad").stdout == page


def test_a_rule_without_a_page_says_so(world: World) -> None:
    assert "The machine is grumpy." in world.run("rule", "demo/grumpy").stdout


@pytest.mark.parametrize(
    ("name", "said"), [("demo/sat", "demo/sad"), ("demo", "envdoctor rules demo"), ("zzz", "envdoctor rules")]
)
def test_an_unknown_rule_is_answered_with_the_nearest(world: World, name: str, said: str) -> None:
    done = world.run("rule", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize("document", list(FILES))
def test_the_committed_schema_is_what_the_types_say(world: World, document: str) -> None:
    assert committed(document) == generated(document), "python -m envdoctor.schemas writes them anew"
    assert world.run("schema", document).stdout == committed(document)
    jsonschema.Draft202012Validator.check_schema(json.loads(committed(document)))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_us(world: World, shell: str) -> None:
    done = world.run("completion", shell)
    assert done.returncode == 0
    assert "_ENVDOCTOR_COMPLETE" in done.stdout


def test_rule_ids_complete_after_a_comma(world: World) -> None:
    words = {"COMP_WORDS": "envdoctor check --select demo/sad,demo/gr", "COMP_CWORD": "3"}
    done = world.run(_ENVDOCTOR_COMPLETE="bash_complete", **words)
    assert done.stdout == "plain,demo/sad,demo/grumpy\n"


def test_an_unknown_command_is_answered_with_the_nearest(world: World) -> None:
    done = world.run("chekc")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean check" in done.stderr
