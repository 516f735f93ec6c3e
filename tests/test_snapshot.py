"""The facts document: there and back, what is kept of strangers, and what is refused with which words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from envdoctor import core_check, plugins, snapshot
from envdoctor.errors import DocumentError
from envdoctor.facts import Fact, Facts, Source, Unavailable
from envdoctor.report import Selection
from envdoctor.session import Doctor
from tests.support import garden
from tests.support.garden import Gates, GateStuck, Neighbours, Paths

CHECKS = (core_check.check, garden.check)
AT = "2026-01-02T03:04:05Z"
HERE = Source("file", "/proc/garden", 7)


def doctor(*, with_garden: bool) -> Doctor:
    point = plugins.EntryPoint("garden", "tests.support.garden:check", "garden", "1")
    checks, origins = ((garden.check,), {"garden": point}) if with_garden else ((), {})
    return Doctor(plugins.Plugins(checks, origins, ()))


def full() -> Facts:
    gates = Gates(
        gates=(garden.Gate("GPU-5e1f0c2a-7b3d-4e9a-8c61-0d9f2b4a6c8e", None),),
        state="shut",
        height=2.25,
        by_row={3: "left"},
        tags=frozenset(("a", "b")),
        source=HERE,
    )
    said = GateStuck(gate=3, quote="gate 3 is stuck", source=Source("text", "log", 12), times=4)
    hidden: dict[type[Fact], Unavailable] = {
        Paths: Unavailable("garden.paths", "permission denied", "run as root")
    }
    return Facts({Gates: gates}, hidden, (said,))


def written(facts: Facts) -> bytes:
    return snapshot.encode(snapshot.to_document(facts, AT))


def document(**changes: Any) -> bytes:
    raw = json.loads(written(full()))
    raw.update(changes)
    return json.dumps(raw).encode()


def refusal(data: bytes, name: str = "m.json") -> str:
    with pytest.raises(DocumentError) as caught:
        snapshot.decode(data, name, CHECKS)
    return str(caught.value)


# There and back.


def test_every_kind_of_field_comes_back_equal() -> None:
    first = full()
    doc, again = snapshot.decode(written(first), "m.json", CHECKS)
    assert tuple(again) == tuple(first)
    assert again.all_symptoms() == first.all_symptoms()
    assert again.all_symptoms()[0].times == 4
    assert again.unavailable() == first.unavailable()
    assert again.get(Neighbours) is None
    assert (doc.recorded.at, doc.recorded.redacted) == (AT, False)


def test_writing_what_was_read_gives_the_same_bytes() -> None:
    first = written(full())
    _, again = snapshot.decode(first, "m.json", CHECKS)
    assert written(again) == first


def test_a_byte_order_mark_and_utf_16_of_a_windows_shell_are_read() -> None:
    plain = written(full())
    for data in (b"\xef\xbb\xbf" + plain, plain.decode().encode("utf-16")):
        _, facts = snapshot.decode(data, "m.json", CHECKS)
        assert tuple(facts) == tuple(full())


def test_a_number_that_json_cannot_carry_is_unavailable_and_not_absent() -> None:
    facts = Facts.of(Gates(height=float("nan"), source=HERE), Neighbours(hostname="x", source=HERE))
    _, again = snapshot.decode(written(facts), "m.json", CHECKS)
    found = again.get(Gates)
    assert isinstance(found, Unavailable)
    assert "JSON" in found.reason
    assert isinstance(again.get(Neighbours), Neighbours)


# What no loaded check knows.

STRANGE = {
    "facts": {"orchard.trees": {"source": {"kind": "file"}, "trees": [1, {"deep": None}]}},
    "unavailable": {"orchard.bees": {"reason": "they sting", "would_allow": "wear a veil"}},
    "symptoms": [{"kind": "orchard.buzzing", "loud": True}],
}


def test_known_facts_alone_leave_nothing_to_say(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(written(full()))
    well = doctor(with_garden=True)
    report = well.report(well.recorded([str(tmp_path / "m.json")]), Selection())
    assert "envdoctor/fact-not-judged" not in {finding.id for finding in report.findings}


def test_facts_gaps_and_symptoms_of_strangers_travel_on() -> None:
    _, facts = snapshot.decode(document(**STRANGE), "m.json", CHECKS)
    assert facts.unknown.names() == ("orchard.trees", "orchard.bees", "orchard.buzzing")
    again = json.loads(written(facts))
    assert again["facts"] == STRANGE["facts"]
    assert again["unavailable"] == STRANGE["unavailable"]
    assert again["symptoms"] == STRANGE["symptoms"]


def test_two_recordings_together_keep_the_strange_facts_of_both() -> None:
    _, one = snapshot.decode(document(facts={"orchard.trees": {"n": 1}}), "1", CHECKS)
    _, two = snapshot.decode(document(facts={"pond.fish": {"n": 2}}), "2", CHECKS)
    assert one.merged(two).unknown.names() == ("orchard.trees", "pond.fish")


def test_the_report_says_what_was_not_judged(tmp_path: Path) -> None:
    names = []
    for name, content in {
        "a.json": document(facts=STRANGE["facts"]),
        "b.json": document(facts={"pond.fish": {}}),
    }.items():
        (tmp_path / name).write_bytes(content)
        names.append(str(tmp_path / name))
    well = doctor(with_garden=True)
    report = well.report(well.recorded(names), Selection())
    (finding,) = [each for each in report.findings if each.id == "envdoctor/fact-not-judged"]
    assert finding.severity == "note"
    assert [each.value for each in finding.evidence] == ["orchard.trees", "pond.fish"]
    assert finding.fixes


def test_without_its_plugin_a_whole_recording_is_kept_and_not_judged(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(written(full()))
    bare = doctor(with_garden=False)
    seen = bare.recorded([str(tmp_path / "m.json")])
    report = bare.report(seen, Selection())
    assert [finding.id for finding in report.findings] == ["envdoctor/fact-not-judged"]
    again, then = json.loads(written(seen.facts)), json.loads(written(full()))
    assert (again["facts"], again["unavailable"], again["symptoms"]) == (
        then["facts"],
        then["unavailable"],
        then["symptoms"],
    )


# What is refused, and how.


OPEN = b'{"schema": "envdoctor.facts/1", '
HALF = {"source": {"kind": "file"}}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty; record it anew"),
        (b"\xef\xbb\xbf \n", "empty; record it anew"),
        (written(full())[:200], "not a complete JSON document"),
        (written(full()) + b"}", "not a complete JSON document"),
        (b"[1, 2]", "not a facts document"),
        (b"{}", "no schema 'envdoctor.facts/1'"),
        (b'{"schema": 3}', "not a facts document"),
        (b'{"schema": "envdoctor.report/1"}', "this is a report"),
        (document(schema="envdoctor.facts/2"), "its schema is envdoctor.facts/2, this envdoctor reads"),
        (b"Traceback (most recent call last):\n  File x", "envdoctor explain"),
        (OPEN + b'"facts": {"a.b": {"x": NaN}}}', "not a complete JSON document"),
        (OPEN + b'"facts": {"a.b": {"x": 1e999}}}', "not a complete JSON document"),
        (OPEN + b'"facts": {"a.b": {"x": 1, "x": 2}}}', "the key 'x' is there twice"),
        (OPEN + b'"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (OPEN + b'"caf\xe9": 1}', "not UTF-8 text"),
        (b"\xff\xfe{\x00\xd8", "not UTF-16-LE text"),
        (document(facts=[]), "Expected `object`, got `array` - at `$.facts`"),
        (document(facts={"a.b": 5}), "Expected `object`, got `int` - at `$.facts[...]`"),
        (document(surprise=1), "unknown field `surprise`"),
        (document(recorded={"at": 1, "envdoctor": "1"}), "$.recorded.at"),
        (document(symptoms=[{"gate": 3}]), "symptoms[0] has no kind"),
        (document(symptoms=[{"kind": "garden.gate-stuck", "gate": "three"}]), "symptoms[0]: Expected `int`"),
        (document(facts={"garden.gates": {**HALF, "colour": 1}}), "garden.gates: Object contains unknown field"),
        (document(facts={"garden.gates": {**HALF, "height": "2"}}), "facts.garden.gates: Expected `float`"),
        (document(facts={"garden.gates": {}}), "facts.garden.gates: Object missing required field `source`"),
    ],
)  # fmt: skip
def test_refused_on_one_line_that_names_what_does_not_fit(data: bytes, words: str) -> None:
    message = refusal(data)
    assert message.startswith("m.json: ")
    assert words in message
    assert message.isprintable()
    assert len(message) <= 400


def test_names_in_a_document_cannot_reach_the_terminal_raw() -> None:
    message = refusal(document(facts={"garden.gates": {"\x1b]0;owned\x07\nx": 1}}), "a\nb.json")
    assert message.isprintable()


def read_or_refused(data: bytes) -> None:
    try:
        _, facts = snapshot.decode(data, "m.json", CHECKS)
    except DocumentError as error:
        message = str(error)
    else:
        written(facts)
        return
    assert message.startswith("m.json: ")
    assert message.isprintable()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_whatever_bytes_come_they_are_read_or_refused_on_one_line(data: bytes) -> None:
    read_or_refused(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
strange_names = st.text(min_size=1).filter(lambda name: not name.startswith(("garden.", "envdoctor.")))
places = st.sampled_from(["schema", "recorded", "facts", "unavailable", "symptoms", "facts/garden.gates"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(places, json_values)
def test_whatever_stands_in_a_place_it_is_read_or_refused_on_one_line(place: str, value: Any) -> None:
    raw = json.loads(written(full()))
    outer, _, inner = place.partition("/")
    if inner:
        raw[outer][inner] = value
    else:
        raw[outer] = value
    read_or_refused(json.dumps(raw).encode())


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(strange_names, st.dictionaries(st.text(), json_values, max_size=3), max_size=3))
def test_strange_facts_come_back_as_they_were(facts: dict[str, Any]) -> None:
    try:
        _, known = snapshot.decode(document(facts=facts), "m.json", CHECKS)
    except DocumentError:
        return  # a number or a character that no JSON document can hold
    assert msgspec.json.decode(written(known))["facts"] == msgspec.json.decode(json.dumps(facts))


# Files.


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(written(full()))
    assert snapshot.read_file(str(tmp_path / "m.json")) == written(full())


def bytes_read() -> int:
    """What this process has read so far, by the kernel's count."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def test_two_gigabytes_are_refused_without_being_read(tmp_path: Path) -> None:
    huge = tmp_path / "huge.json"
    with open(huge, "wb") as file:
        file.truncate(2 << 30)
    before = bytes_read()
    with pytest.raises(DocumentError, match="larger than 64 MB"):
        snapshot.read_file(str(huge))
    assert bytes_read() - before < 1 << 20


def test_a_pipe_that_never_ends_is_read_no_further_than_the_limit() -> None:
    reader, writer = os.pipe()
    source = subprocess.Popen(["yes", "envdoctor"], stdout=writer)
    os.close(writer)
    try:
        with pytest.raises(DocumentError, match="larger than 64 MB"):
            snapshot.read_file(f"/dev/fd/{reader}")
    finally:
        os.close(reader)
        source.wait(10)


def test_standard_input_that_never_ends_is_read_no_further_than_the_limit() -> None:
    code = (
        "from envdoctor import snapshot, errors\n"
        "try: snapshot.read_file('-')\n"
        "except errors.DocumentError as error: print(error)\n"
    )
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as source:
        ours = [sys.executable, "-c", code]
        done = subprocess.run(ours, stdin=source.stdout, capture_output=True, text=True, timeout=60)
        assert source.stdout is not None
        source.stdout.close()
    assert done.stdout.startswith("-: larger than 64 MB"), done.stderr


def test_standard_input_that_is_closed_says_so() -> None:
    code = (
        "from envdoctor import snapshot, errors\n"
        "try: snapshot.read_file('-')\n"
        "except errors.DocumentError as error: print(error)\n"
    )
    shell = ["bash", "-c", 'exec "$0" -c "$1" <&-', sys.executable, code]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=60)
    assert "closed" in done.stdout, done.stderr


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    for name, words in {
        str(tmp_path / "absent.json"): "No such file or directory",
        str(tmp_path): "Is a directory",
        "a\0b": "no such file",
        str(tmp_path / "new\nline"): "No such file or directory",
    }.items():
        with pytest.raises(DocumentError) as caught:
            snapshot.read_file(name)
        assert words in str(caught.value)
        assert str(caught.value).isprintable()
