"""Children that end well; what is kept of their output; answers that are none. All are real processes."""

from __future__ import annotations

import ast
import os
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from envdoctor.probing import answers
from envdoctor.probing.child import ChildEnd, ChildRequest, ChildResult, python_request, run_child
from envdoctor.probing.child_kept import HeadAndTail
from tests.probing.children import LONG, command, driver, finish, run

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="asks /proc what became of processes"
)


RAW = "import os, sys; fd = int(os.environ['ENVDOCTOR_ANSWER_FD']); "


def raw(code: str, **more: Any) -> ChildResult:
    """A child that writes the bytes of its answers itself."""
    return command(sys.executable, "-c", RAW + code, answers=True, **more)


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


# --- what goes well


def test_a_command_that_ends_well() -> None:
    result = command("sh", "-c", "echo out; echo err >&2")
    assert (result.end, result.ok, result.exit_code, result.signal) == (ChildEnd.ANSWERED, True, 0, None)
    assert (result.stdout.text, result.stderr.text, result.error) == ("out\n", "err\n", "")
    assert result.last_stage() is None
    assert result.stuck is None


def test_a_script_that_answers() -> None:
    result = run("answer('first', n=1); answer('second', there=None); done()")
    assert result.end is ChildEnd.ANSWERED
    assert result.done
    assert [(each["stage"], each.get("n"), each.get("there", 0)) for each in result.stages] == [
        ("first", 1, 0),
        ("second", None, None),
    ]
    assert result.last_stage() == "second"
    assert 0 <= result.stages[0]["at"] <= result.stages[1]["at"]
    assert result.command.endswith(
        "faulthandler -c ... answer('first', n=1); answer('second', there=None); done()"
    )


def test_values_that_json_does_not_know_are_told_as_text() -> None:
    script = (
        r"answer('a', nan=float('nan'), inf=[-float('inf')], path='caf\udce9', set={1}, big=1 << 70); done()"
    )
    result = run(script)
    assert result.end is ChildEnd.ANSWERED
    told = result.stages[0]
    assert (told["nan"], told["inf"], told["set"], told["big"]) == ("NaN", ["-Infinity"], "{1}", 1 << 70)
    assert told["path"].startswith("caf\N{REPLACEMENT CHARACTER}")


def test_what_is_printed_to_or_done_with_stdout_does_not_disturb_the_answers() -> None:
    result = run("""
        from __future__ import annotations
        import os, sys
        answer('before')
        print('{"stage": "forged"}', flush=True)
        os.write(2, b'caf\\xe9')
        sys.stdout.close(); os.close(2); os.closerange(0, 2)
        answer('after'); done()
    """)
    assert [each["stage"] for each in result.stages] == ["before", "after"]
    assert result.end is ChildEnd.ANSWERED
    assert (result.stdout.text, result.stderr.text) == (
        '{"stage": "forged"}\n',
        "caf\N{REPLACEMENT CHARACTER}",
    )


def test_forks_and_programs_of_the_script_do_not_hold_the_answers() -> None:
    result = run("""
        import os, subprocess, sys, time
        answer('before')
        held = subprocess.run([sys.executable, '-c', 'import os; print(os.listdir("/proc/self/fd"))'],
                              capture_output=True, text=True, close_fds=False)
        pid = os.fork()
        if pid == 0:
            try:
                answer('forged by the fork')
            except RuntimeError as error:
                os._exit(7 if 'forked' in str(error) else 8)
            os._exit(9)
        _, status = os.waitpid(pid, 0)
        answer('after', fork=os.WEXITSTATUS(status), held=held.stdout,
               variable=os.environ.get('ENVDOCTOR_ANSWER_FD')); done()
    """)
    assert result.end is ChildEnd.ANSWERED, result
    after = result.stages[-1]
    assert [each["stage"] for each in result.stages] == ["before", "after"]
    assert (after["fork"], after["variable"]) == (7, None)
    assert ast.literal_eval(after["held"]) == ["0", "1", "2", "3"]  # 3 is the listing itself


def test_the_current_directory_is_not_on_the_path_of_a_script(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    result = run("import os, sys; answer('x', cwd=os.getcwd(), path=sys.path[0]); done()", cwd=str(tmp_path))
    assert result.end is ChildEnd.ANSWERED, result.stderr.text
    assert result.stages[0]["cwd"] == str(tmp_path)
    assert result.stages[0]["path"]


def test_arguments_and_input_and_environment_arrive() -> None:
    script = (
        "import os, sys; answer('x', argv=sys.argv, n=len(sys.stdin.read()), env=dict(os.environ)); done()"
    )
    request = python_request(
        sys.executable, script, deadline=LONG, env={"ONLY": "this"}, args=("a b", "c"), stdin=b"y" * 1_000_000
    )
    told = run_child(request).stages[0]
    assert (told["argv"], told["n"]) == (["-c", "a b", "c"], 1_000_000)
    assert told["env"].pop("ENVDOCTOR_CHILD")
    assert told["env"].pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # Python's own, where no locale is set
    assert told["env"] == {"ONLY": "this"}


def test_a_child_that_does_not_want_its_input() -> None:
    assert command("true", stdin=b"y" * 1_000_000).ok


def test_the_snippet_runs_on_python_3_8() -> None:
    source = Path(answers.__file__).read_text()
    ast.parse(source, feature_version=(3, 8))
    olds = sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python"))
    old = str(olds[0]) if olds else shutil.which("python3.8")
    if old is None:
        pytest.skip("no Python 3.8 here")
    script = "import sys; answer('v', v=sys.version_info[:2]); done()"
    result = run_child(python_request(old, script, deadline=LONG, env=None))
    assert result.end is ChildEnd.ANSWERED, result.stderr.text
    assert result.stages[0]["v"] == [3, 8]


def test_a_script_that_is_not_ascii_is_refused() -> None:
    with pytest.raises(ValueError, match="ASCII"):
        run("print('caf\u00e9')")


def test_the_private_directory_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    result = run(
        """
        import os, tempfile
        place = tempfile.mkdtemp()
        os.mkdir(os.path.join(place, 'read-only')); open(os.path.join(place, 'read-only', 'f'), 'w').close()
        os.chmod(os.path.join(place, 'read-only'), 0o500)
        home = os.environ['TMPDIR']
        answer('x', home=home, mode=os.stat(home).st_mode & 0o7777, place=place,
               triton=os.environ['TRITON_CACHE_DIR'], cuda=os.environ['CUDA_CACHE_DISABLE'])
        done()
        """,
        temporary_directory=True,
    )
    told = result.stages[0]
    assert told["mode"] == 0o700
    assert told["place"].startswith(told["home"] + "/")
    assert told["triton"].startswith(told["home"] + "/")
    assert told["cuda"] == "1"
    assert not os.path.exists(told["home"])
    assert result.left_behind == ""
    request = ChildRequest(
        argv=("sh", "-c", "echo $TMPDIR; exec sleep 60"),
        deadline=0.5,
        env={"TMPDIR": str(tmp_path), "PATH": os.environ["PATH"]},
        temporary_directory=True,
    )
    late = run_child(request)
    assert late.end is ChildEnd.TIMED_OUT
    assert late.stdout.text.startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_several_threads_at_once() -> None:
    def one(number: int) -> tuple[bool, str]:
        result = run(f"import sys; sys.stderr.write('x' * 200000); answer('n{number}'); done()")
        return result.ok, str(result.last_stage())

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))) == [(True, f"n{number}") for number in range(24)]


def test_no_descriptor_stays_open_in_us() -> None:
    command("true")
    before, threads = descriptors(), threading.active_count()
    for _ in range(200):
        command("true", answers=True, stdin=b"x")
    for argv in (("/does/not/exist",), ("sh", "-c", "kill -SEGV $$")):
        command(*argv, answers=True)
    command("sleep", "60", deadline=0.05)
    assert descriptors() == before
    assert threading.active_count() == threads


def test_the_child_gets_no_descriptor_but_its_own() -> None:
    with open(os.devnull) as ours:
        os.set_inheritable(ours.fileno(), True)
        result = command("sh", "-c", "exec ls /proc/self/fd", answers=True)
    assert len(result.stdout.text.split()) == 5  # 0, 1, 2, the answers, and the listing


def test_standard_descriptors_may_be_closed_in_us(tmp_path: Path) -> None:
    code = """
        import sys
        from envdoctor.probing.child import ChildRequest, python_request, run_child
        script = "import sys; print('out'); sys.stderr.write('err'); answer(sys.stdin.read()); done()"
        r = run_child(python_request(sys.executable, script, deadline=60, env=None, stdin=b'in'))
        open(sys.argv[1], 'w').write(repr((r.end.value, r.last_stage(), r.stdout.text, r.stderr.text)))
    """
    where = tmp_path / "told"
    finish(driver(code, str(where), prefix=("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")))
    assert where.read_text() == repr(("answered", "in", "out\n", "err"))


def test_what_only_judges_does_not_load_what_runs_children() -> None:
    code = "import sys, envdoctor.host; print([name for name in sys.modules if '.child_' in name])"
    assert finish(driver(code)) == "[]\n"


# --- output


@pytest.mark.parametrize("chunks", [[b""], [b"abc"], [b"a" * 10], [b"ab", b"cd", b"efghij"]])
def test_short_output_is_kept_whole(chunks: list[bytes]) -> None:
    kept = HeadAndTail(10)
    for chunk in chunks:
        kept.add(chunk)
    assert kept.captured().text == b"".join(chunks).decode()
    assert kept.captured().dropped_bytes == 0


@pytest.mark.parametrize("size", [1, 7, 4096, 3_000_000])
def test_of_long_output_head_and_tail_are_kept(size: int) -> None:
    stream = b"<head" + b"." * 2_999_990 + b"tail>"
    kept = HeadAndTail(10)
    for start in range(0, len(stream), size) if size > 1 else (0,):
        kept.add(stream[start : start + size] if size > 1 else stream)
    assert kept.captured().text == "<head\n... 2999990 bytes left out ...\ntail>"
    assert kept.captured().dropped_bytes == 2_999_990


def test_a_flood_is_drained_in_little_memory() -> None:
    code = """
        import resource
        from envdoctor.probing.child import ChildRequest, run_child
        flood = 'echo first; head -c 1000000000 /dev/zero; head -c 100000000 /dev/zero >&2; echo last'
        run_child(ChildRequest(argv=('true',), deadline=60))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        r = run_child(ChildRequest(argv=('sh', '-c', flood), deadline=60))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(repr((r.end.value, r.stdout.dropped_bytes > 999e6, r.stderr.dropped_bytes > 99e6,
                    r.stdout.text[:6], r.stdout.text[-5:], grown < 20_000 or grown)))
    """
    assert ast.literal_eval(finish(driver(code))) == ("answered", True, True, "first\n", "last\n", True)


def test_a_flood_of_answers_is_an_end_of_its_own() -> None:
    result = run("for n in range(20000): answer('n', n=n)\ndone()", max_answer=10_000)
    assert result.end is ChildEnd.ANSWER_TOO_LONG
    assert "10000 bytes" in result.error
    assert 10 < len(result.stages) < 20_000
    assert result.stages[10]["n"] == 10


# --- answers that are none


@pytest.mark.parametrize(
    ("written", "end", "said"),
    [
        (b"", ChildEnd.NO_ANSWER, ""),
        (b'{"stage": "a"}\n', ChildEnd.NO_ANSWER, ""),
        (b'{"stage": "a"}\n{"done": true}', ChildEnd.ANSWERED, ""),  # no newline at the end
        (b'\n{"stage": "a"}\n\n{"done": true}\n', ChildEnd.ANSWERED, ""),
        (b'{"done": true}\n{"stage": "a"}\n', ChildEnd.NO_ANSWER, ""),  # the last must be the end
        (b'{"done": 1}\n', ChildEnd.WRONG_SHAPE, "done"),
        (b'{"stage": "a"}\n{"stage": "b", "x": [1,', ChildEnd.NOT_JSON, '{"stage": "b", "x": [1,'),
        (b"Traceback\n{}\n", ChildEnd.NOT_JSON, "Traceback"),
        (b"caf\xe9 \xff\n", ChildEnd.NOT_JSON, "caf\N{REPLACEMENT CHARACTER}"),
        (b"[1, 2]\n", ChildEnd.WRONG_SHAPE, "[1, 2]"),
        (b'{"stage": 3}\n{"done": true}\n', ChildEnd.WRONG_SHAPE, '{"stage": 3}'),
        (b'"' + b"long" * 1000 + b'"\n', ChildEnd.WRONG_SHAPE, "longlong"),
        (b'{"stage": "\\ud800"}\n', ChildEnd.NOT_JSON, "ud800"),
        (b"[" * 200_000, ChildEnd.NOT_JSON, "[[["),
    ],
)
def test_answers_that_are_not_what_was_agreed(
    tmp_path: Path, written: bytes, end: ChildEnd, said: str
) -> None:
    (tmp_path / "written").write_bytes(written)
    result = raw(f"os.write(fd, open({str(tmp_path / 'written')!r}, 'rb').read())" if written else "pass")
    assert result.end is end
    assert said in result.error
    assert bool(said) == bool(result.error)
    assert len(result.error) < 500


def test_stages_before_and_after_a_bad_line_are_kept() -> None:
    result = raw(r"""os.write(fd, b'{"stage": "a"}\nrubbish\n{"stage": "b"}\n{"done": true}\n')""")
    assert (result.end, result.done) == (ChildEnd.NOT_JSON, True)
    assert [each["stage"] for each in result.stages] == ["a", "b"]
