"""Every way in which a child ends badly, and that nothing of it is left behind."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from envdoctor.probing.child import ChildEnd
from tests.probing.children import LONG, ROOT, alive, command, driver, finish, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="asks /proc what became of processes"
)


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
