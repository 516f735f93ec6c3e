"""Children that end well, and then every way in which they do not. All of them are real processes."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from envdoctor.probing import answers
from envdoctor.probing.child import ChildEnd, ChildRequest, ChildResult, python_request, run_child
from envdoctor.probing.child_basic import run_basic
from envdoctor.probing.child_kept import HeadAndTail

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="asks /proc what became of processes"
)

ROOT = str(Path(__file__).parents[2])
LONG = 60  # nothing here may take this long: who waits for it would show by that
RAW = "import os, sys; fd = int(os.environ['ENVDOCTOR_ANSWER_FD']); "


def run(script: str, deadline: float = LONG, **more: Any) -> ChildResult:
    request = python_request(sys.executable, textwrap.dedent(script), deadline=deadline, env=None, **more)
    return run_child(request)


def command(*argv: str, deadline: float = LONG, **more: Any) -> ChildResult:
    return run_child(ChildRequest(argv=argv, deadline=deadline, **more))


def raw(code: str, **more: Any) -> ChildResult:
    """A child that writes the bytes of its answers itself."""
    return command(sys.executable, "-c", RAW + code, answers=True, **more)


def driver(code: str, *args: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """A process of its own that uses the module, for what would leave traces in this one."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", textwrap.dedent(code), *args],
        env=os.environ | {"PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, err
    return out


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


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


# --- ends


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("/does/not/exist",), "ENOENT: No such file or directory: /does/not/exist"),
        (("no-such-program-on-path",), "ENOENT: No such file or directory: no-such-program-on-path"),
        (("/etc/passwd",), "EACCES: Permission denied: /etc/passwd"),
        (("/",), "EACCES: Permission denied: /"),
        (("/etc/passwd/x",), "ENOTDIR: Not a directory: /etc/passwd/x"),
        (("true", "x" * 200_000), "E2BIG: Argument list too long: true"),
        (("a\0b",), "embedded null byte"),
        ((), "no program was named"),
    ],
)
def test_not_started(argv: tuple[str, ...], said: str) -> None:
    result = command(*argv, answers=True, stdin=b"x")
    assert (result.end, result.error) == (ChildEnd.NOT_STARTED, said)
    assert (result.exit_code, result.signal, result.stages) == (None, None, ())


def test_not_started_for_a_program_of_no_known_format(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF rubbish")
    program.chmod(0o755)
    result = command(str(program))
    assert (result.end, result.error) == (ChildEnd.NOT_STARTED, f"ENOEXEC: Exec format error: {program}")


def test_not_started_in_a_directory_that_is_none(tmp_path: Path) -> None:
    result = command("true", cwd=str(tmp_path / "none"))
    assert (result.end, result.error) == (
        ChildEnd.NOT_STARTED,
        f"ENOENT: No such file or directory: {tmp_path}/none",
    )


def test_not_started_without_descriptors() -> None:
    code = """
        import os, resource
        from envdoctor.probing.child import ChildRequest, run_child
        assert run_child(ChildRequest(argv=('true',), deadline=60)).ok
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) + 2, hard))
        r = run_child(ChildRequest(argv=('true',), deadline=60))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        print(r.end.value, r.error)
    """
    assert finish(driver(code)) == "not-started EMFILE: Too many open files\n"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS", "SIGABRT", "SIGKILL", "SIGILL"])
def test_killed_by_a_signal(name: str) -> None:
    result = run(f"import os, signal; answer('about to'); os.kill(os.getpid(), signal.{name})")
    assert (result.end, result.signal, result.exit_code) == (ChildEnd.KILLED, name, None)
    assert result.last_stage() == "about to"
    assert not result.done


def test_a_crash_tells_its_python_lines() -> None:
    result = run("import ctypes\nanswer('reading address 0')\nctypes.string_at(0)\n")
    assert result.signal == "SIGSEGV"
    assert 'File "<envdoctor>", line 3' in result.stderr.text


def test_a_crash_after_the_end_is_a_crash_with_all_stages() -> None:
    result = run("import os; answer('all'); done(); os.abort()")
    assert (result.end, result.done, result.last_stage()) == (ChildEnd.KILLED, True, "all")


def test_a_crash_leaves_no_core_file(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from envdoctor.probing.child import python_request, run_child
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        script = 'import os; os.abort()'
        request = python_request(sys.executable, script, deadline=60, env=None, cwd=sys.argv[1])
        print(run_child(request).signal)
    """
    assert finish(driver(code, str(tmp_path))) == "SIGABRT\n"
    assert list(tmp_path.iterdir()) == []


def test_exited_with_a_code() -> None:
    result = run("answer('a'); raise ImportError('no such thing')")
    assert (result.end, result.exit_code, result.last_stage()) == (ChildEnd.EXITED, 1, "a")
    assert "ImportError: no such thing" in result.stderr.text


def test_a_status_that_the_kernel_threw_away() -> None:
    code = """
        import signal, sys
        from envdoctor.probing.child import ChildRequest, python_request, run_child
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        r = run_child(ChildRequest(argv=('false',), deadline=60))
        a = run_child(python_request(sys.executable, 'done()', deadline=60, env=None))
        print(r.end.value, r.exit_code, 'SIGCHLD' in r.error, a.end.value)
    """
    assert finish(driver(code)) == "exited None True answered\n"


# --- deadlines, and what is left behind


def test_a_hang_names_its_stage_and_line() -> None:
    result = run("import time\nanswer('imported')\nanswer('calling init')\ntime.sleep(60)\n", deadline=1)
    assert (result.end, result.signal, result.last_stage()) == (ChildEnd.TIMED_OUT, "SIGTERM", "calling init")
    assert 'File "<envdoctor>", line 4' in result.stderr.text
    assert 1 <= result.seconds < LONG


def test_a_child_that_ignores_sigterm_is_killed() -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); answer('deaf'); time.sleep(60)"
    result = run(script, deadline=1)
    assert (result.end, result.signal, result.stuck) == (ChildEnd.TIMED_OUT, "SIGKILL", None)


def test_a_stopped_child_ends_at_the_deadline() -> None:
    result = run("import os, signal; answer('stopping'); os.kill(os.getpid(), signal.SIGSTOP)", deadline=1)
    assert (result.end, result.signal) == (ChildEnd.TIMED_OUT, "SIGKILL")


def test_a_child_that_closes_its_pipes_ends_at_the_deadline() -> None:
    result = run("import os, time; answer('x'); os.closerange(0, 100); time.sleep(60)", deadline=1)
    assert (result.end, result.last_stage()) == (ChildEnd.TIMED_OUT, "x")


def test_a_flood_does_not_outlast_the_deadline() -> None:
    result = command("sh", "-c", "trap '' TERM; while :; do head -c 1000000 /dev/zero; done", deadline=0.5)
    assert result.end is ChildEnd.TIMED_OUT
    assert result.seconds < LONG
    assert result.stdout.dropped_bytes > 0


DETACHED = """
    import os, time
    reader, writer = os.pipe()
    if os.fork() == 0:
        {session}
        if os.fork():
            os._exit(0)
        {quiet}
        os.write(writer, str(os.getpid()).encode())
        time.sleep(60)
        os._exit(0)
    os.wait()
    answer('left behind', pid=int(os.read(reader, 20)))
    {end}
"""
QUIET = "null = os.open('/dev/null', os.O_RDWR); [os.dup2(null, fd) for fd in (0, 1, 2)]"


@pytest.mark.parametrize(
    ("session", "quiet", "end"),
    [
        ("pass", "pass", "done()"),
        ("pass", QUIET, "done()"),
        ("os.setpgid(0, 0)", QUIET, "done()"),
        ("os.setsid()", "pass", "done()"),
        ("os.setsid()", QUIET, "done()"),
        ("os.setsid()", QUIET, "time.sleep(60)"),
    ],
)
def test_descendants_end_with_the_child(session: str, quiet: str, end: str) -> None:
    script = textwrap.dedent(DETACHED).format(session=session, quiet=quiet, end=end)
    result = run(script, deadline=1 if "sleep" in end else LONG)
    assert result.end is (ChildEnd.TIMED_OUT if "sleep" in end else ChildEnd.ANSWERED), result
    assert result.seconds < LONG / 2
    assert not alive(result.stages[0]["pid"])


def test_other_processes_are_left_alone() -> None:
    ours = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        assert run("import subprocess; subprocess.Popen(['sleep', '60']); done()").ok
        assert alive(ours.pid)
    finally:
        ours.kill()
        ours.wait()


def test_a_child_that_runs_children_itself_takes_them_along(tmp_path: Path) -> None:
    inner = f"""
        import sys
        sys.path.insert(0, {ROOT!r})
        import os, threading, time
        from envdoctor.probing.child import ChildRequest, run_child
        where = sys.argv[1]
        request = ChildRequest(argv=('sh', '-c', 'echo $$ > ' + where + '; exec sleep 60'), deadline=60)
        threading.Thread(target=run_child, args=(request,), daemon=True).start()
        while not (told := open(where).read()).endswith('\\n'):
            time.sleep(0.01)
        answer('inner', pid=int(told)); done()
        os._exit(0)  # without ending its own children
    """
    (tmp_path / "pid").touch()
    result = run(inner, args=(str(tmp_path / "pid"),))
    assert result.ok, result.stderr.text
    assert not alive(result.stages[0]["pid"])


# --- interruption

BUSY = """
    import os, signal, sys, threading, time
    from envdoctor.probing.child import ChildRequest, run_child, terminate_all
    results = []
    def work(number):
        script = f'setsid sleep 60 & echo $! $$ $TMPDIR > {sys.argv[1]}/{number}.new; '
        script += f'mv {sys.argv[1]}/{number}.new {sys.argv[1]}/{number}; trap "" TERM; sleep 60; sleep 60'
        request = ChildRequest(argv=('sh', '-c', script), deadline=60, temporary_directory=True)
        results.append(run_child(request))
    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(3)]
    for thread in threads: thread.start()
    while sum(name.isdigit() for name in os.listdir(sys.argv[1])) < 3: time.sleep(0.01)
"""


def left_of(told: Path) -> list[str]:
    """Which of the processes and directories that the busy driver wrote down are still there."""
    left = []
    for file in told.iterdir():
        first, second, directory = file.read_text().split()
        left += [pid for pid in (first, second) if alive(int(pid))]
        left += [directory] if os.path.exists(directory) else []
    return left


def test_terminate_all_ends_every_child_and_refuses_new_ones(tmp_path: Path) -> None:
    code = textwrap.dedent(BUSY) + textwrap.dedent("""
        terminate_all()
        for thread in threads: thread.join(30)
        after = run_child(ChildRequest(argv=('true',), deadline=60))
        print([r.end.value for r in results], after.end.value, [r.left_behind for r in results])
    """)
    out = finish(driver(code, str(tmp_path)))
    assert out == "['interrupted', 'interrupted', 'interrupted'] interrupted ['', '', '']\n"
    assert left_of(tmp_path) == []


def test_terminate_all_may_let_new_children_start(tmp_path: Path) -> None:
    code = textwrap.dedent(BUSY) + textwrap.dedent("""
        terminate_all(refuse_new=False)
        print(run_child(ChildRequest(argv=('true',), deadline=60)).end.value)
    """)
    assert finish(driver(code, str(tmp_path))) == "answered\n"


@pytest.mark.parametrize("way", ["handler", "exit", "ctrl-c"])
def test_nothing_is_left_when_we_go(tmp_path: Path, way: str) -> None:
    handler = textwrap.dedent("""
        def leave(number, frame):
            terminate_all()
            os._exit(0)
        signal.signal(signal.SIGTERM, leave)
    """)
    endings = {
        "handler": handler + "print('ready', flush=True); time.sleep(60)",
        "exit": "print('ready', flush=True)",
        "ctrl-c": "print('ready', flush=True)\ntry: work(3)\nexcept KeyboardInterrupt: pass",
    }
    process = driver(textwrap.dedent(BUSY) + endings[way], str(tmp_path))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if way == "handler":
        process.send_signal(signal.SIGTERM)
    if way == "ctrl-c":
        while not (tmp_path / "3").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
    finish(process)
    assert left_of(tmp_path) == []


# --- what no signal ends

FROZEN = """
    import json, os, subprocess, sys, time
    from concurrent.futures import ThreadPoolExecutor
    from envdoctor.probing.child import ChildRequest, python_request, run_child
    image, place = sys.argv[1:]
    def sh(*argv):
        told = subprocess.run(argv, capture_output=True, text=True)
        if told.returncode:
            print(json.dumps({"skip": f"{' '.join(argv)}: {told.stderr.strip()}"}))
            sys.exit()
    os.truncate(image, 8 << 20)
    sh("mkfs.ext4", "-q", "-F", image)
    sh("mount", "-o", "loop", image, place)
    opening = f"open({place + '/file'!r}, 'w')"
    scripts = {
        "main": f"answer('opening'); {opening}",
        "thread": "import threading, time\\n"
                  f"threading.Thread(target=lambda: {opening}).start(); answer('opening'); time.sleep(60)",
        "grandchild": f"import os; answer('starting'); os.system('touch ' + {place + '/file'!r})",
    }
    told = {}
    def look(item):
        began = time.monotonic()
        r = run_child(python_request(sys.executable, item[1], deadline=1, env=None, temporary_directory=True))
        fields = ("pid", "thread", "name", "state", "wchan", "status", "stage")
        stuck = r.stuck and [getattr(r.stuck, field) for field in fields]
        told[item[0]] = [r.end.value, time.monotonic() - began, r.left_behind, stuck]
    try:
        sh("fsfreeze", "-f", place)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(look, scripts.items()))
    finally:
        subprocess.run(["fsfreeze", "-u", place])
    stuck = [fields[3][0] for fields in told.values() if fields[3]]
    until = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in stuck) and time.monotonic() < until:
        run_child(ChildRequest(argv=("true",), deadline=10))
    told["left"] = [pid for pid in stuck if os.path.exists(f"/proc/{pid}")]
    subprocess.run(["umount", place])
    print(json.dumps(told))
"""


def in_a_mount_namespace(code: str, *args: str) -> Any:
    """The JSON that the driver prints; skips where no such machine can be made."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root may mount in a namespace of its own")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    told = json.loads(finish(driver(code, *args, prefix=("unshare", "-m", "--propagation", "private"))))
    if "skip" in told:
        pytest.skip(told["skip"])
    return told


def test_a_child_that_nothing_ends_is_reported_and_left(tmp_path: Path) -> None:
    if not all(map(shutil.which, ("mkfs.ext4", "fsfreeze", "mount"))):
        pytest.skip("no tools to make and freeze a file system")
    (tmp_path / "image").touch()
    (tmp_path / "place").mkdir()
    told = in_a_mount_namespace(FROZEN, str(tmp_path / "image"), str(tmp_path / "place"))
    assert told.pop("left") == []  # once the file system thaws, they go and are reaped
    for name, (end, seconds, left_behind, stuck) in told.items():
        assert end == "timed-out", name
        assert seconds < LONG / 2
        assert left_behind == ""
        assert stuck is not None, name
        pid, thread, program, state, wchan, status, stage = stuck
        assert state == "D", name
        assert wchan, name
        assert f"Pid:\t{thread}\n" in status
        assert (thread == pid) == (name != "thread")
        assert stage == ("starting" if name == "grandchild" else "opening")
        assert program == ("touch" if name == "grandchild" else os.path.basename(sys.executable)[:15])


SILENT = """
    import ctypes, json, os, subprocess, sys, threading, time
    from envdoctor.probing.child import ChildRequest, run_child
    place = sys.argv[1]
    fuse = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"silent", place.encode(), b"fuse", 0, options):
        print(json.dumps({"skip": "fuse: " + os.strerror(ctypes.get_errno())}))
        sys.exit()
    beats = []
    def beat():
        while True:
            beats.append(time.monotonic())
            time.sleep(0.01)
    told = {}
    run_child(ChildRequest(argv=("true",), deadline=10))
    threading.Thread(target=beat, daemon=True).start()
    before = len(os.listdir("/proc/self/fd"))
    requests = {
        "program": ChildRequest(argv=(place + "/program",), deadline=0.3, answers=True),
        "directory": ChildRequest(argv=("true",), deadline=0.3, cwd=place + "/below"),
        "temporary": ChildRequest(argv=("true",), deadline=0.3, env={"TMPDIR": place + "/below"},
                                  temporary_directory=True),
    }
    for name, request in requests.items():
        del beats[:]
        r = run_child(request)
        told[name] = [r.end.value, r.error, r.seconds, len(beats), r.stuck is None]
    os.close(fuse)  # ends the connection: what still waits for it gets an error
    until = time.monotonic() + 10
    while threading.active_count() > 2 and time.monotonic() < until:
        time.sleep(0.01)
    told["open"] = len(os.listdir("/proc/self/fd")) - before
    print(json.dumps(told))
"""


def test_a_file_system_that_does_not_answer_freezes_nothing(tmp_path: Path) -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse here")
    told = in_a_mount_namespace(SILENT, str(tmp_path))
    assert told.pop("open") == -1  # ours to the file system, closed above
    for name, (end, error, seconds, beats, gone) in told.items():
        assert end == "timed-out", name
        assert "start did not return" in error
        assert seconds < LONG / 2
        assert beats > 5, f"{name}: our other threads stood still"
        assert gone, name


# --- the basic form, which Windows uses


def test_basic_children() -> None:
    def basic(script: str, deadline: float = LONG) -> ChildResult:
        return run_basic(python_request(sys.executable, script, deadline=deadline, env=None, stdin=b"in"))

    good = basic("import sys; print('out'); answer('x', got=sys.stdin.read()); done()")
    assert (good.end, good.stdout.text) == (ChildEnd.ANSWERED, "out\n")
    assert good.stages[0]["got"] == "in"
    late = basic("import time; answer('calling'); time.sleep(60)", deadline=1)
    assert (late.end, late.last_stage()) == (ChildEnd.TIMED_OUT, "calling")
    assert basic("answer('x')").end is ChildEnd.NO_ANSWER
    assert basic("raise SystemExit(3)").exit_code == 3
    assert run_basic(ChildRequest(argv=("/does/not/exist",), deadline=LONG)).end is ChildEnd.NOT_STARTED
    assert run_basic(ChildRequest(argv=(), deadline=LONG)).end is ChildEnd.NOT_STARTED
