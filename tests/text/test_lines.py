"""Clean lines: escapes and prefixes go, messages and their indentation stay."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from envdoctor.text.lines import Line, clean, clean_lines


def texts(text: str) -> list[str]:
    return [line.text for line in clean(text)]


def one(text: str) -> Line:
    (line,) = clean(text)
    return line


# What looks like a prefix and is content.
UNTOUCHED = [
    "1: lo: <LOOPBACK,UP> mtu 65536\n    link/loopback 00:00\n2: eth0: <UP> mtu 1500\n    link/ether 00:11",
    "1: lo  inet 127.0.0.1/8\n1: lo  inet6 ::1/128\n2: eth0  inet 10.0.0.4/24\n2: eth0  inet6 fe80::1/64",
    "name: job\non: push\njobs: build",
    "12: import torch\n15: x = 3\n19: print(x)",
    "RuntimeError: first\nRuntimeError: second thing\nRuntimeError: third one\nRuntimeError: last",
    "GPU | Memory\nA100 | 80 GB\nH100 | 80 GB\nL40 | 48 GB",
    "INFO | starting\nINFO | loading\nINFO | done",
    "> 3 GPUs are needed",
    "x = [0.5] * 3",
    "[pip3] torch==2.5.1\n[conda] torch 2.5.1",
    "[Rank 3] watchdog caught a timeout",
    "[GPU-0] busy",
    "(base) something in parentheses",
    "2024-11-12T10:00:01Z",
    "2024-12-08 21:13:40.118332716 +0100 /etc/cdi/nvidia.yaml",
    "2024/11/12 10:00:01.123, NVIDIA A100, 31",
    "Tue Nov 12 10:00:01 2024",
    "May be used with care: see below",
    "C: drive is full",
    "model-00001.safetensors: 10%\nmodel-00001.safetensors: 20%\nmodel-00001.safetensors: 40%\n"
    "model-00001.safetensors: 80%\nmodel-00001.safetensors: done",
    "nvidia-smi: a\nnvidia-smi: b\nnvidia-smi: c\nnvidia-smi: d\nnvidia-smi: e",
    "a.c:3:7: error\n     3 |   int x;\n       |       ^",
    "E: Unable to locate package\nW: Some index files failed",
    "+---+---+\n| 0 | 1 |\n| 2 | 3 |\n+---+---+",
    "  first\n    second",
    "~~~~~^^^^",
]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_content_stays(text: str) -> None:
    assert texts(text) == text.split("\n")
    assert not any(line.prefix for line in clean(text))


PREFIXED: list[tuple[str, str, dict[str, Any]]] = [
    ('[rank1]:   File "a.py"', '  File "a.py"', {"rank": 1}),
    ("[rank5]:[E Group.cpp:1] timeout", "[E Group.cpp:1] timeout", {"rank": 5}),
    ("[default3]:hello", "hello", {"rank": 3}),
    ("[1,7]<stderr>: late", "late", {"rank": 7}),
    ("[prterun-n1-99@1,2]<stdout>: x", "x", {"rank": 2}),
    ("[0]<stdout>:x", "x", {"rank": 0}),
    ("Tue Nov 12 10:00:00 2024[1,4]<stdout>:x", "x", {"rank": 4}),
    ("[pod/train-0/main] step 3", "step 3", {"host": "train-0", "service": "main"}),
    ("[  123.456789] NVRM: hello", "NVRM: hello", {}),
    ("[  123.456789][  T871] NVRM: hello", "NVRM: hello", {}),
    ("[  123.456789] box kernel: NVRM: hello", "NVRM: hello", {"host": "box"}),
    ("kern  :err   : [  1.234567] bad", "bad", {}),
    ("[Tue Nov 12 10:00:01 2024] NVRM: hello", "NVRM: hello", {}),
    ("Nov  2 10:00:01 box kernel: [ 12.345678] NVRM: x", "NVRM: x", {"host": "box", "service": "kernel"}),
    ("Nov 12 10:00:01 kernel: oops", "oops", {"service": "kernel"}),
    ("Nov 12 10:00:01 box serve[812]:   File", "  File", {"host": "box", "service": "serve", "pid": 812}),
    ("Nov 12 10:00:01 box systemd[1]: Reloading.", "systemd[1]: Reloading.", {"service": "systemd"}),
    ("2024-11-12T10:00:01+0100 box kernel: x", "x", {"host": "box", "service": "kernel"}),
    ("2024-11-12T10:00:01.123456+01:00 box app[7]: x", "x", {"pid": 7}),
    ("2024-11-12T10:00:01.1234567Z   indented", "  indented", {}),
    ("2024-11-12T10:00:01.123456789Z stderr F oops", "oops", {}),
    ("2024-11-12T10:00:01.123456Z 01O oops", "oops", {}),
    ("2024-11-12 10:00:01,123 ERROR oops", "ERROR oops", {}),
    ("2024-11-12 10:00:01.123 | ERROR    | app.main:run:12 - oops", "oops", {}),
    ("[2024-11-12 10:00:01,123] [INFO] oops", "[INFO] oops", {}),
    ("[2024-11-12 10:00:01 TP3] oops", "oops", {"rank": 3}),
    ("(pid=71, ip=10.0.0.7) oops", "oops", {"pid": 71, "host": "10.0.0.7"}),
    ("(RayTrainWorker pid=71)   File", "  File", {"pid": 71, "service": "RayTrainWorker"}),
    ("(VllmWorker rank=2 pid=71) oops", "oops", {"rank": 2, "pid": 71}),
    ("(raylet) oops", "oops", {"service": "raylet"}),
    (
        "(EngineCore_DP0 pid=97) ERROR 11-12 10:00:00 [core.py:700]   File",
        "  File",
        {"service": "EngineCore_DP0", "pid": 97},
    ),
    ("INFO 11-12 10:00:00 [file.py:12] the message", "the message", {}),
    ("INFO 11-12 10:00:00 file.py:12] the message", "the message", {}),
    ("E1112 10:00:00.123456  812 main.go:12] no plugin", "no plugin", {}),
    ("#12 0.331   File", "  File", {}),
    ("E   RuntimeError: x", "RuntimeError: x", {}),
    ("----> 1 import torch", "import torch", {}),
    ("build\tRun tests\t2024-11-12T10:00:01.1234567Z oops", "oops", {}),
    ("[rank0]: 2024-11-12T10:00:01Z [1,2]<stderr>: oops", "oops", {"rank": 0}),
]


@pytest.mark.parametrize(("raw", "text", "said"), PREFIXED)
def test_prefix_is_taken_off_and_recorded(raw: str, text: str, said: dict[str, Any]) -> None:
    line = one(raw)
    assert line.text == text
    assert line.prefix + line.text == raw == line.raw
    for name, value in said.items():
        assert getattr(line, name) == value


def test_an_empty_line_of_a_stamped_log_is_empty() -> None:
    log = "2024-11-12T10:00:01Z first\n2024-11-12T10:00:02Z\n2024-11-12T10:00:03Z last"
    assert texts(log) == ["first", "2024-11-12T10:00:02Z", "last"]
    log = "2024-11-12T10:00:01Z first\n2024-11-12T10:00:02Z \n2024-11-12T10:00:03Z last"
    assert [line.number for line in clean(log)] == [1, 2, 3]


def test_compose_logs() -> None:
    lines = clean("web-1   | GET /\nweb-1   |   indented\ndb_1    | ready\ndb_1    | up\nweb-1   |")
    assert [line.text for line in lines] == ["GET /", "  indented", "ready", "up", ""]
    assert [line.service for line in lines] == ["web-1", "web-1", "db_1", "db_1", "web-1"]


def test_compose_with_a_container_name() -> None:
    lines = clean("trainer  | a\ntrainer  | b\ntrainer  | [rank2]: c")
    assert [(line.text, line.service, line.rank) for line in lines] == [
        ("a", "trainer", None),
        ("b", "trainer", None),
        ("c", "trainer", 2),
    ]


def test_srun_labels_need_neighbours() -> None:
    log = "0: loading\n1: loading\n0: Traceback (most recent call last):\n1: done\n0:   File\n0:"
    lines = clean(log)
    assert [line.rank for line in lines] == [0, 1, 0, 1, 0, 0]
    assert [line.text for line in lines][2:5:2] == ["Traceback (most recent call last):", "  File"]


def test_node_names_of_pdsh() -> None:
    lines = clean("node1: up\nnode2: up\nnode1: [rank0]: error x\nnode2: y z\nnode1: bye")
    assert [line.host for line in lines] == ["node1", "node2", "node1", "node2", "node1"]
    assert lines[2].text == "error x"
    assert lines[2].rank == 0


def test_space_after_the_launcher_is_whose_everybody_says_it_is() -> None:
    assert texts('[1,0]<stderr>:Trace\n[1,0]<stderr>:  File "x"') == ["Trace", '  File "x"']
    assert texts('[1,0]<stderr>: Trace\n[1,0]<stderr>:   File "x"') == ["Trace", '  File "x"']


def test_quotes_fences_and_code_blocks() -> None:
    assert texts("He wrote:\n> one\n>   two\n>\n> three\n\nright") == [
        "He wrote:",
        "one",
        "  two",
        "",
        "three",
        "",
        "right",
    ]
    assert texts("> > deep\n> > deeper\n> shallow") == ["deep", "deeper", "shallow"]
    assert texts("```console\n$ ls\n```") == ["", "$ ls", ""]
    assert texts("    a\n\n      b") == ["a", "", "  b"]
    assert texts(">>> 1\n1\n>>> 2\n2\n>>> 3\n3") == [">>> 1", "1", ">>> 2", "2", ">>> 3", "3"]


def test_the_shells_own_continuation_is_no_quote() -> None:
    log = "user@box:~$ for i in 1 2; do\n> echo a\n> echo b\n> done"
    assert texts(log)[1:] == ["> echo a", "> echo b", "> done"]


def test_failed_build_step() -> None:
    log = (
        "------\n > [2/3] RUN pip install x:\n12.34 Collecting x\n13.01   error: y\n------\n1.5 times faster"
    )
    assert texts(log)[2:] == ["Collecting x", "  error: y", "------", "1.5 times faster"]


ESCAPES = [
    ("\x1b[1;31mred\x1b[0m text", "red text"),
    ("\x9b31mred\x9b0m", "red"),
    ("\x1b]0;user@host: ~\x07$ ls", "$ ls"),
    ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("a\x1b[3Cb", "a   b"),
    ("\x1b(Bplain\x1b=", "plain"),
    ("^[[31mred^[[0m", "red"),
    ("#033[31mred#033[0m", "red"),
    (r"\x1b[31mred\u001b[0m", "red"),
    ("[36;1mbare[0m", "bare"),
    ("took [5m] in all", "took [5m] in all"),
    (" 10%\r 50%\r100% done", "100% done"),
    ("100%\r\x1b[K", "100%"),
    ("Solving: | \b\b/ \b\bdone", "Solving: done"),
    ("N\bNA\bAM\bME\bE", "NAME"),
    ("zero\u200bwidth\u00a0space\ufeff", "zerowidth space"),
    ("evil\u202etxt", "eviltxt"),
    ("lone \ud800 half", "lone \ufffd half"),
    ("tab\tstays   ", "tab\tstays"),
    ("windows\r\r", "windows"),
    ("torn \x1b[31", "torn"),
]


@pytest.mark.parametrize(("raw", "text"), ESCAPES)
def test_escapes(raw: str, text: str) -> None:
    assert one(raw).text == text
    assert one(raw).raw == raw


def test_numbers_are_those_of_the_original() -> None:
    lines = clean("a\r\n\r\n```\nb\rc\r\n\x1b[2K\nd\n")
    assert [(line.number, line.text) for line in lines] == [
        (1, "a"),
        (2, ""),
        (3, ""),
        (4, "c"),
        (5, ""),
        (6, "d"),
    ]


def test_windows_are_invisible() -> None:
    raw = [f"[rank{i % 4}]: step {i}" for i in range(10_000)]
    lines = list(clean_lines(iter(raw)))
    assert [line.number for line in lines] == list(range(1, 10_001))
    assert lines[9_999].text == "step 9999"


ALPHABET = st.one_of(
    st.characters(codec="utf-8"),
    st.sampled_from(
        [
            "\n",
            "\r",
            "\x1b",
            "\x1b[",
            "\x1b]",
            "\b",
            "> ",
            "0: ",
            "n1: ",
            "web-1 | ",
            "[rank1]: ",
            "```",
            "\x9d",
        ]
    ),
)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(ALPHABET, max_size=60).map("".join))
def test_any_text(text: str) -> None:
    lines = clean(text)
    raw = text.split("\n")
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert [line.raw for line in lines] == raw[: len(lines)]
    assert raw[len(lines) :] in ([], [""])
    for line in lines:
        assert all(
            character.isprintable() or character == "\t" or character.isspace() or ord(character) > 0x9F
            for character in line.text
        )
        assert not any(character in line.text for character in "\x1b\r\n\b\x9b\u202e\0")
        assert line.text == line.text.rstrip()
