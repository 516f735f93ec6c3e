"""Children that are interrupted, that nothing ends, and that a dead file system keeps from starting."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from envdoctor.probing.child import ChildEnd, ChildRequest, ChildResult, python_request
from envdoctor.probing.child_basic import run_basic
from tests.probing.children import LONG, alive, driver, finish

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="asks /proc what became of processes"
)


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
