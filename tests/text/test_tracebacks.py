"""Tracebacks: whole, cut, chained, interleaved, IPython's, and texts that are none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from envdoctor.text.lines import clean
from envdoctor.text.tracebacks import Frame, Traceback, tracebacks

HEADER = "Traceback (most recent call last):"
FRAMES = """\
  File "/a/run.py", line 7, in main
    load(x)
    ^^^^^^^
  File "/a/lib.py", line 9, in load
    raise E"""
PLAIN = f"{HEADER}\n{FRAMES}\nOSError: libfoo.so.1: not there"


def only(text: str) -> Traceback:
    (found,) = tracebacks(clean(text))
    return found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "all is well",
        "/a/run.py:7: UserWarning: careful\n  warnings.warn(x)",
        "see the traceback (most recent call last) above",
        "RuntimeError: without frames",
        'error: File "x.py" not found',
        '  File "x.py", line 3 in f',
    ],
)
def test_no_traceback(text: str) -> None:
    assert tracebacks(clean(text)) == ()


def test_whole() -> None:
    found = only(f"starting\n{PLAIN}\n\nbye")
    assert found == Traceback(
        "OSError",
        "libfoo.so.1: not there",
        (Frame("/a/run.py", 7, "main"), Frame("/a/lib.py", 9, "load")),
        2,
        8,
    )


@pytest.mark.parametrize(
    ("ending", "name", "message"),
    [
        ("KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("AssertionError: ", "AssertionError", ""),
        ("torch.cuda.OutOfMemoryError: out", "torch.cuda.OutOfMemoryError", "out"),
        ("ray.exceptions.RayTaskError(ValueError): x", "ray.exceptions.RayTaskError(ValueError)", "x"),
        ("lib.Oops: x", "lib.Oops", "x"),
        ("RuntimeError: one\ntwo\n  three\n\nother", "RuntimeError", "one\ntwo\n  three"),
        ("RuntimeError: one\n$ ls\nfile", "RuntimeError", "one"),
        ("RuntimeError: one\n[main] going on", "RuntimeError", "one"),
        ("RuntimeError: one\nINFO going on", "RuntimeError", "one"),
        ("RuntimeError: one\nepoch 3:  4%|#  | 1/9", "RuntimeError", "one"),
        ("SomeError: backend raised:\nImportError: x", "SomeError", "backend raised:\nImportError: x"),
    ],
)
def test_exceptions(ending: str, name: str, message: str) -> None:
    found = only(f"{HEADER}\n{FRAMES}\n{ending}")
    assert (found.exception_type, found.message) == (name, message)


def test_cut_at_either_end() -> None:
    beginning = only(f"{HEADER}\n{FRAMES}")
    assert beginning.exception_type is None
    assert len(beginning.frames) == 2
    ending = only('    load(x)\n  File "/a/lib.py", line 9, in load\n    raise E\nOSError: x')
    assert (ending.exception_type, ending.frames) == ("OSError", (Frame("/a/lib.py", 9, "load"),))
    assert (ending.first_line, ending.last_line) == (2, 4)
    assert only(HEADER).frames == ()


def test_indentation_lost_on_the_way() -> None:
    frames = "\n".join(line.strip() for line in FRAMES.split("\n") if "^" not in line)
    text = f"{HEADER}\n{frames}\nOSError: x"
    found = only(text)
    assert (found.exception_type, len(found.frames)) == ("OSError", 2)


@pytest.mark.parametrize(
    "between",
    [
        "During handling of the above exception, another exception occurred:",
        "The above exception was the direct cause of the following exception:",
    ],
)
def test_chain(between: str) -> None:
    found = only(f"{PLAIN}\n\n{between}\n\n{HEADER}\n{FRAMES}\nRuntimeError: gave up")
    assert found.exception_type == "RuntimeError"
    assert found.cause is not None
    assert found.cause.message == "libfoo.so.1: not there"
    assert found.first_line == 11


def test_unrelated_ones_are_not_chained() -> None:
    first, second = tracebacks(clean(f"{PLAIN}\n\n{PLAIN}"))
    assert first.cause is None
    assert second.cause is None


def test_interleaved_ranks() -> None:
    mixed = "\n".join(
        f"[rank{rank}]: {line}" if rank < 9 else line for line in PLAIN.split("\n") for rank in (0, 1)
    )
    first, second = tracebacks(clean(mixed))
    assert first.frames == second.frames
    assert (first.first_line, second.first_line) == (1, 2)
    assert first.message == second.message == "libfoo.so.1: not there"


@pytest.mark.parametrize(
    "margin",
    [
        "    ",
        "(Engine pid=7) ERROR 11-12 10:00:00 [core.py:7] ",
        "10:00:01.123 [warn] [std/err] ",
    ],
)
def test_what_stands_before_every_line(margin: str) -> None:
    lines = [margin + line for line in PLAIN.split("\n")]
    found = only("start\n" + "\n".join(lines) + "\nstart")
    assert (found.exception_type, len(found.frames)) == ("OSError", 2)
    assert found.message.split("\n")[0] == "libfoo.so.1: not there"


def test_a_level_before_the_first_line_only() -> None:
    found = only("ERROR:    " + PLAIN)
    assert (found.exception_type, len(found.frames)) == ("OSError", 2)


def test_group() -> None:
    text = (
        "  + Exception Group Traceback (most recent call last):\n"
        '  |   File "/a/run.py", line 7, in main\n  |     go()\n'
        "  | ExceptionGroup: several (1 sub-exception)\n"
        "  +-+---------------- 1 ----------------\n"
        '    | Traceback (most recent call last):\n    |   File "/a/lib.py", line 9, in load\n'
        "    |     raise E\n    | OSError: x\n    +------------------------------------"
    )
    outer, inner = tracebacks(clean(text))
    assert outer.exception_type == "ExceptionGroup"
    assert (inner.exception_type, inner.message) == ("OSError", "x")
    assert inner.frames == (Frame("/a/lib.py", 9, "load"),)


IPYTHON = """\
---------------------------------------------------------------------------
ImportError                               Traceback (most recent call last)
Cell In[1], line 1
----> 1 import torch
      2 print(1)

File /opt/lib/torch/__init__.py:237
    235     x = 1
--> 237     from torch._C import *

ImportError: libfoo.so.1: not there
"""
OLD_IPYTHON = """\
OSError                                   Traceback (most recent call last)
<ipython-input-3-0123abcd> in <module>
----> 1 load()

~/lib/loader.py in load(name)
     11     path = name
---> 12     open(path)

OSError: x
"""


def test_ipython() -> None:
    found = only(IPYTHON)
    assert (found.exception_type, found.message) == ("ImportError", "libfoo.so.1: not there")
    assert found.frames == (Frame("In[1]", 1, None), Frame("/opt/lib/torch/__init__.py", 237, None))
    assert (found.first_line, found.last_line) == (2, 11)


def test_older_ipython() -> None:
    assert only(OLD_IPYTHON).frames == (
        Frame("<ipython-input-3-0123abcd>", 1, "<module>"),
        Frame("~/lib/loader.py", 12, "load(name)"),
    )


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(
        st.sampled_from(
            [
                *PLAIN.split("\n"),
                *IPYTHON.split("\n"),
                "",
                "During handling of the above exception, another exception occurred:",
                "[rank1]: " + HEADER,
                "  | " + HEADER,
                'File "x", line 99999999999999999999, in f',
            ]
        )
        | st.text(max_size=12),
        max_size=25,
    ).map("\n".join)
)
def test_any_text(text: str) -> None:
    lines = clean(text)
    for found in tracebacks(lines):
        assert 1 <= found.first_line <= found.last_line <= len(lines)
