"""Terminals, pipes that close, signals, and a process that leaves whatever still hangs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.worlds import World

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pseudo-terminals and /proc as on Linux")


def in_terminal(
    world: World,
    *arguments: str,
    columns: int = 80,
    stdin: bool = False,
    environ: dict[str, str] | None = None,
) -> tuple[int, str, str]:
    """Run with stdout and stderr each on a terminal of its own: exit code, stdout, stderr."""
    out, out_end = pty.openpty()
    err, err_end = pty.openpty()
    for end in (out_end, err_end):
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        world.command(*arguments),
        stdin=out_end if stdin else subprocess.DEVNULL,
        stdout=out_end,
        stderr=err_end,
        cwd=world.folder,
        env=world.environ | {"TERM": "xterm"} | (environ or {}),
    )
    os.close(out_end)
    os.close(err_end)
    said = {out: b"", err: b""}
    while said.keys() - _drain(said):
        pass
    code = process.wait(30)
    return code, said[out].decode().replace("\r\n", "\n"), said[err].decode().replace("\r\n", "\n")


def _drain(said: dict[int, bytes]) -> set[int]:
    """Read what is there; the terminals whose other end is closed."""
    ended = set()
    for each in select.select(list(said), [], [], 30)[0]:
        try:
            piece = os.read(each, 65536)
        except OSError:
            piece = b""  # EIO: the last process let go of the terminal
        said[each] += piece
        if not piece:
            ended.add(each)
    return ended if len(ended) == len(said) else set()


def test_a_terminal_gets_colour_and_its_own_width(world: World) -> None:
    code, out, err = in_terminal(world, "check", "--quick", columns=50, environ={"DEMO_MOOD": "sad"})
    assert (code, err) == (1, "")
    assert "\x1b[1;31m✗ ERROR\x1b[0m" in out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert max(map(len, plain.splitlines())) <= 50


@pytest.mark.parametrize(
    ("options", "environ", "coloured"),
    [
        ((), {"NO_COLOR": "1"}, False),
        ((), {"TERM": "dumb"}, False),
        (("--color", "never"), {}, False),
        (("--color", "always"), {"NO_COLOR": "1"}, True),
    ],
)
def test_colour_obeys(
    world: World, options: tuple[str, ...], environ: dict[str, str], coloured: bool
) -> None:
    _, out, _ = in_terminal(world, "check", "--quick", *options, environ=environ)
    assert ("\x1b[" in out) is coloured


def test_a_pipe_gets_neither_unless_forced(world: World) -> None:
    assert "\x1b" not in world.run("check", "--quick", DEMO_MOOD="sad").stdout
    assert "\x1b[1;31m" in world.run("check", "--quick", DEMO_MOOD="sad", FORCE_COLOR="1").stdout


def test_the_c_locale_gets_ascii(world: World) -> None:
    done = world.run("check", "--quick", DEMO_MOOD="sad", LC_ALL="C")
    assert done.stdout.isascii()
    assert "x ERROR  the machine is sad" in done.stdout


def test_progress_names_what_is_waited_for_and_goes_away(world: World) -> None:
    code, out, err = in_terminal(world, "check", "--quick", environ={"DEMO_SLEEP": "1.2"})
    assert code == 0
    assert "waiting for demo.mood" in err
    assert err.endswith("\r\x1b[K")
    assert "\n" not in err
    assert "waiting" not in out


def test_no_progress_where_nobody_watches(world: World) -> None:
    assert world.run("check", "--quick", DEMO_SLEEP="0.8").stderr == ""
    assert in_terminal(world, "check", "--quick", "-q", environ={"DEMO_SLEEP": "0.8"})[2] == ""
    assert in_terminal(world, "check", "--quick", environ={"DEMO_SLEEP": "0.8", "TERM": "dumb"})[2] == ""


def test_explain_on_a_terminal_says_what_to_do(world: World) -> None:
    code, out, err = in_terminal(world, "explain", stdin=True)
    assert (code, out) == (2, "")
    assert "envdoctor explain train.log" in err


@pytest.mark.parametrize("arguments", [("check", "--quick"), ("rules",), ("--help",), ("schema", "report")])
def test_a_closed_pipe_ends_quietly(world: World, arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        world.command(*arguments),
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=world.folder,
        env=world.environ,
        timeout=30,
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode in (0, 1)


def test_the_verdict_survives_a_closed_pipe(world: World) -> None:
    shell = f"set -o pipefail; {' '.join(world.command('check', '--quick'))} | head -1"
    done = subprocess.run(
        ["bash", "-c", shell],
        capture_output=True,
        text=True,
        cwd=world.folder,
        env=world.environ | {"DEMO_MOOD": "sad"},
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert len(done.stdout.splitlines()) == 1


def test_a_closed_stdout_and_a_full_disk(world: World) -> None:
    line = " ".join(world.command("check", "--quick"))
    closed = subprocess.run(["bash", "-c", f"{line} >&-"], capture_output=True, text=True, env=world.environ)
    assert (closed.returncode, closed.stderr) == (0, "")
    full = subprocess.run(
        ["bash", "-c", f"{line} >/dev/full"], capture_output=True, text=True, env=world.environ
    )
    assert full.returncode == 3
    assert "could not be written" in full.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_us_and_our_children(world: World, number: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        world.command("check", "--quick", "--format", "json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=world.folder,
        env=world.environ | {"DEMO_SLEEP": "60", "DEMO_DEADLINE": "90"},
    )
    children = _wait_for(lambda: [pid for pid in _children(process.pid) if "stranger" in _command_of(pid)])
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (code, b""), err.decode()
    assert b"Traceback" not in err
    assert not [pid for pid in children if _alive(pid)]


def test_nohup_is_respected(world: World) -> None:
    """Whoever starts us with SIGHUP ignored wants the report although the terminal goes."""
    process = subprocess.Popen(
        ["nohup", *world.command("check", "--quick")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=world.folder,
        env=world.environ | {"DEMO_SLEEP": "1.5"},
    )
    _wait_for(lambda: [pid for pid in _children(process.pid) if "stranger" in _command_of(pid)])
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert b"exit code 0" in out


def _wait_for(look: Callable[[], list[int]]) -> list[int]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come about")


def _children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_probe_that_hangs_in_our_process_does_not_keep_us(bare: World) -> None:
    bare.plugin(distribution="envdoctor")
    began = time.monotonic()
    done = bare.run("check", "--quick", DEMO_SLEEP="60", DEMO_DEADLINE="0.5")
    assert time.monotonic() - began < 20
    assert done.returncode == 3
    assert "? demo.mood:" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_budget_ends_the_waiting(world: World) -> None:
    began = time.monotonic()
    done = world.run("check", "--quick", "--budget", "1.5", DEMO_SLEEP="60", DEMO_DEADLINE="90")
    assert time.monotonic() - began < 20
    assert done.returncode == 3
