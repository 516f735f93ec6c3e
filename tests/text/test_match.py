"""Finding messages: the needles, the window, the cap, and the same answers from every first pass."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from envdoctor.text.lines import Line, clean
from envdoctor.text.match import MAX_LINE, Matcher
from envdoctor.text.shapes import BlockShape, Pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = Pattern("missing", r"(?P<library>lib\S+): cannot open", ("cannot open",))
WRAPPED = Pattern("wrapped", r"version\s+`(?P<name>\w+)'\s+not\s+found", ("not found", "version `"), span=3)
EITHER = Pattern("either", r"(?i)error (\d+)", ("error", "fehler"))
PATTERNS = (MISSING, WRAPPED, EITHER)

try:
    import re2 as _re2  # the optional first pass
except ImportError:
    _re2 = None
ENGINES = [
    False,
    pytest.param(True, marks=pytest.mark.skipif(_re2 is None, reason="google-re2 is not installed")),
]


def found(
    text: str, patterns: tuple[Pattern, ...] = PATTERNS, *, use_re2: bool = True
) -> list[tuple[str, int]]:
    return [(m.pattern.name, m.line.number) for m in Matcher(patterns, use_re2=use_re2).matches(clean(text))]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cannot open",
        "libx.so: could open",
        "version `X' is\nreally not\nto be\nfound",
        "error without number",
    ],
)
def test_silent(text: str) -> None:
    assert found(text) == []


def test_no_pattern_at_all() -> None:
    assert found("anything", ()) == []


@pytest.mark.parametrize("use_re2", ENGINES)
def test_found(use_re2: bool) -> None:
    text = "ok\nLIBX libfoo.so.1: cannot open\nERROR 7\nversion\n`GLIBC_9'\nnot found\nversion `X' not found"
    assert found(text, use_re2=use_re2) == [("missing", 2), ("either", 3), ("wrapped", 4), ("wrapped", 7)]


def test_match_says_what_and_where() -> None:
    (match,) = Matcher([WRAPPED]).matches(clean("x\nversion `A'\nnot found\nmore"))
    assert match.match["name"] == "A"
    assert match.line.number == 2
    assert match.text == "version `A'\nnot found\nmore"


def test_a_wrapped_message_of_one_rank_among_others() -> None:
    text = "[rank0]: version\n[rank1]: noise\n[rank0]: `A'\n[rank1]: noise\n[rank0]: not found"
    assert found(text) == [("wrapped", 1)]


def test_the_window_reaches_over_batches() -> None:
    for start in (509, 510, 511, 512, 1023):
        lines = ["x"] * 1500
        lines[start : start + 3] = ["version", "`A'", "not found"]
        assert found("\n".join(lines)) == [("wrapped", start + 1)]


def test_cap_and_counts() -> None:
    matcher = Matcher(PATTERNS, cap=3)
    scan = matcher.scan(clean("\n".join(f"error {i}" for i in range(2000))))
    assert len(scan.matches) == 3
    assert scan.counts == {"either": 2000}


def test_long_lines_keep_head_and_tail() -> None:
    filler = "x" * 100_000
    line = f"error 1 {filler} libend.so: cannot open"
    assert found(line) == [("missing", 1), ("either", 1)]
    assert found(f"{filler} error 1 {filler}") == []
    (match,) = Matcher([EITHER]).matches(clean(line))
    assert len(match.text) <= MAX_LINE


@pytest.mark.parametrize(
    "arguments",
    [
        ("p", "x", ()),
        ("p", "x", ("",)),
        ("p", "x", ("Upper",)),
        ("p", "x", ("a\nb",)),
        ("p", "x", ("a",), 0),
        ("p", "x", ("a",), 99),
    ],
)
def test_bad_patterns_are_refused(arguments: tuple[str, str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match="'p'"):
        Pattern(*arguments)


def test_bad_expressions_are_refused() -> None:
    with pytest.raises(re.error):
        Matcher([Pattern("p", "(", ("a",))]).scan(clean("a"))
    with pytest.raises(ValueError, match="'s'"):
        BlockShape("s")


WORDS = st.sampled_from(
    ["error", "Error 5", "libq.so: cannot open", "version", "`A'", "not found", "\n", " ", "é", "İ"]
)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(WORDS, max_size=40).map(" ".join))
def test_the_same_answers_as_every_expression_on_every_line(text: str) -> None:
    lines = clean(text)
    expected = []
    for index, line in enumerate(lines):
        for pattern in PATTERNS:
            window = "\n".join(one.text for one in lines[index : index + pattern.span])
            hit = re.search(pattern.regex, window)
            if hit and hit.start() <= len(line.text):
                expected.append((pattern.name, line.number))
    assert found(text, use_re2=False) == expected
    assert found(text, use_re2=True) == expected


def test_big_logs_in_bounded_memory() -> None:
    def log() -> Iterator[Line]:
        for i in range(1, 100_001):
            yield Line(i, f"step {i} of training goes on and on" if i % 1000 else f"error {i}")

    tracemalloc.start()
    scan = Matcher(PATTERNS).scan(log())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scan.counts == {"either": 100}
    assert peak < 3_000_000


def test_twice_the_lines_twice_the_time() -> None:
    def seconds(count: int) -> float:
        lines = [Line(i, f"[{i % 8}] NCCL INFO Channel {i} error") for i in range(count)]
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            Matcher(PATTERNS).scan(lines)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(20_000) < 8 * seconds(5_000)


def test_the_types_bring_none_of_the_work() -> None:
    code = "import sys, envdoctor.text.model; print(*(m for m in sys.modules if m.startswith('envdoctor.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["envdoctor.text", "envdoctor.text.shapes", "envdoctor.text.model"]
