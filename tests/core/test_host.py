"""The host: live, and as a tree of files; both must see the same."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envdoctor.facts import CouldNotLook
from envdoctor.host import Host, Stat, could_not_look
from envdoctor.probing.child import ChildRequest
from envdoctor.tree import host_tree

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
pytestmark = linux


def seen(host: Host, path: str) -> dict[str, Any]:
    """All that a host says of one path, errors by their number."""

    def ask(question: Callable[[], object]) -> object:
        try:
            return question()
        except OSError as error:
            return f"errno {error.errno}"
        except CouldNotLook as kept:
            return f"could not look: {kept.reason}"

    def plain(stat: Stat | None) -> object:
        return stat and [stat.kind, stat.mode, stat.uid, stat.gid, stat.size, stat.device, stat.inode]

    return {
        "stat": ask(lambda: plain(host.status(path))),
        "lstat": ask(lambda: plain(host.status(path, follow=False))),
        "names": ask(lambda: host.names(path)),
        "text": ask(lambda: host.text(path, 2000)),
        "link": ask(lambda: host.readlink(path)),
        "resolved": ask(lambda: host.resolve(path)),
        "may": [host.may(path, want) for want in (os.R_OK, os.W_OK, os.X_OK)],
    }


def test_a_tree_at_the_root_sees_what_the_live_host_sees() -> None:
    live, tree = Host.here(), host_tree("/", uid=os.getuid(), gid=os.getgid(), groups=tuple(os.getgroups()))
    assert live.live
    assert not tree.live
    paths = [
        f"{top}/{name}" for top in ("/etc", "/usr/bin", "/usr/lib", "/") for name in live.names(top) or ()
    ]
    differing = [path for path in paths[:3000] if path != "/proc" and seen(live, path) != seen(tree, path)]
    assert differing == []
    assert len(paths) > 50


@pytest.fixture
def tricky(tmp_path: Path) -> Path:
    """A root with every kind of link, and what lies around them."""
    root = tmp_path / "root"
    for folder in ("etc", "usr/lib/deep", "srv", "empty"):
        (root / folder).mkdir(parents=True)
    (root / "etc/name").write_text("inside\n")
    (root / "usr/lib/deep/file").write_text("deep\n")
    (tmp_path / "outside").write_text("outside\n")
    links = {
        "absolute": "/etc/name",
        "relative": "etc/name",
        "dotted": "./usr/../etc/./name",
        "lib": "usr/lib",
        "srv/up": "../../../../etc/name",  # in a root, above it is the root
        "escape": "../outside",
        "to-lib-up": "lib/../share",  # .. of what the link leads to, not of what is written
        "self": "self",
        "ping": "pong",
        "pong": "/ping",
        "dangling": "/nowhere",
        "chain": "/absolute",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    (root / "usr/share").write_text("shared\n")
    (root / "tool").write_text("#!/bin/sh\n")
    (root / "tool").chmod(0o755)
    os.mkfifo(root / "pipe")
    return root


TRICKY = (
    *(
        "/",
        "/etc",
        "/etc/",
        "/etc/name",
        "/etc/name/below",
        "/absolute",
        "/relative",
        "/dotted",
        "/lib",
        "/lib/deep/file",
    ),
    *(
        "/srv/up",
        "/escape",
        "/to-lib-up",
        "/self",
        "/ping",
        "/dangling",
        "/dangling/below",
        "/chain",
        "/nowhere",
    ),
    *(
        "/nowhere/below",
        "/../../etc/name",
        "/lib/../lib/deep",
        "//etc//name",
        "/empty",
        "/tool",
        "/pipe",
        "/self/below",
    ),
)

IN_CHROOT = """
import json, os, sys
from envdoctor.host import Host
from tests.core.test_host import seen
os.chroot(sys.argv[1])
os.chdir("/")
host = Host.here()
print(json.dumps([seen(host, path) for path in sys.argv[2:]]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, for chroot")
def test_a_tree_is_seen_as_from_inside_of_it(tricky: Path) -> None:
    command = [sys.executable, "-c", IN_CHROOT, str(tricky), *TRICKY]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if "Operation not permitted" in told.stderr:
        pytest.skip("nobody lets us chroot here")
    assert told.returncode == 0, told.stderr
    tree = host_tree(tricky, uid=0)
    inside = dict(zip(TRICKY, json.loads(told.stdout), strict=True))
    here = {path: json.loads(json.dumps(seen(tree, path))) for path in TRICKY}
    assert here == inside
    assert here["/escape"]["stat"] is None, "a link must not lead out of the tree"
    assert here["/srv/up"]["text"] == "inside\n"
    assert here["/to-lib-up"]["text"] == "shared\n"


def test_a_loop_of_links_is_an_error_and_no_absence(tricky: Path) -> None:
    tree = host_tree(tricky)
    for path in ("/self", "/ping", "/self/below"):
        with pytest.raises(CouldNotLook, match="symbolic links"):
            tree.exists(path)
        with pytest.raises(OSError, match="symbolic links"):
            tree.resolve(path)


def test_resolving_is_the_same_live_and_in_a_tree(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_text("")
    (tmp_path / "link").symlink_to("real")
    live, path = Host.here(), str(tmp_path.resolve())
    assert live.resolve(f"{path}/link/file") == f"{path}/real/file"
    assert live.resolve(f"{path}/link", last=False) == f"{path}/link"
    assert live.resolve(f"{path}/link/gone") == f"{path}/real/gone"


# Reading.


def test_not_there_is_none_and_not_readable_is_told(tmp_path: Path) -> None:
    host = Host.here()
    assert host.text(f"{tmp_path}/gone") is None
    assert host.names(f"{tmp_path}/gone") is None
    assert host.status(f"{tmp_path}/gone") is None
    assert not host.exists(f"{tmp_path}/gone")
    with pytest.raises(CouldNotLook, match="directory"):
        host.text(str(tmp_path))


def test_reading_stops_at_its_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789" + b"\xff")
    host = Host.here()
    assert host.text(f"{tmp_path}/file", 4) == "0123"
    assert host.text(f"{tmp_path}/file") == "0123456789\N{REPLACEMENT CHARACTER}"
    for name in "abcde":
        (tmp_path / name).touch()
    assert len(host.names(str(tmp_path), 3) or ()) == 3
    assert host.read("/dev/zero", 10) == bytes(10)


def test_a_positional_reader(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with Host.here().opened(f"{tmp_path}/file") as (read_at, size):
        assert (read_at(3, 4), read_at(8, 9), size) == (b"3456", b"89", 10)


@pytest.mark.parametrize("writer", [False, True])
def test_a_pipe_with_nothing_to_say_does_not_block(tmp_path: Path, writer: bool) -> None:
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR) if writer else None
    told: list[object] = []
    thread = threading.Thread(target=lambda: told.append(Host.here().text(pipe)), daemon=True)
    thread.start()
    thread.join(5)
    assert told == [""]
    if held is not None:
        os.write(held, b"said")
        assert Host.here().text(pipe) == "said"
        os.close(held)


def test_files_of_the_kernel_are_read() -> None:
    host = Host.here()
    assert (host.text("/proc/self/status") or "").startswith("Name:")
    assert (host.text("/proc/sys/kernel/osrelease") or "").strip() == os.uname().release


def test_the_files_of_a_process_that_has_ended_are_not_there() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        folder = f"/proc/{child.pid}"
        handle = os.open(f"{folder}/stat", os.O_RDONLY)
        child.communicate(b"\n")
    with pytest.raises(ProcessLookupError):
        os.read(handle, 10)  # so the kernel tells it
    os.close(handle)
    assert Host.here().text(f"{folder}/stat") is None
    assert could_not_look(ProcessLookupError(errno.ESRCH, "No such process")) is None


def test_space_is_that_of_the_file_system(tmp_path: Path) -> None:
    space, told = Host.here().space(str(tmp_path)), os.statvfs(tmp_path)
    assert space is not None
    assert space.total == told.f_frsize * told.f_blocks
    assert not space.read_only
    with pytest.raises(FileNotFoundError):
        Host.here().space(f"{tmp_path}/gone")


# A user without rights.

AS_NOBODY = """
import json, sys
from envdoctor.host import Host
from tests.core.test_host import seen
host = Host.here()
assert host.uid == 65534, host.uid
print(json.dumps([seen(host, path) for path in sys.argv[1:]]))
"""


@pytest.fixture
def guarded() -> Iterator[Path]:
    """A folder that everyone may enter, with files that only root may read; pytest's own is closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="envdoctor-test-"))
    folder.chmod(0o755)
    (folder / "secret").write_text("secret\n")
    (folder / "secret").chmod(0o600)
    (folder / "closed").mkdir()
    (folder / "closed/file").write_text("hidden\n")
    (folder / "closed").chmod(0o700)
    (folder / "listed").mkdir()
    (folder / "listed/file").write_text("shown\n")
    (folder / "listed").chmod(0o711)
    (folder / "public").write_text("public\n")
    (folder / "public").chmod(0o644)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_without_rights_live_and_tree_agree(guarded: Path) -> None:
    names = ("secret", "closed", "closed/file", "listed", "listed/file", "public", "gone")
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        sys.executable,
        "-B",
        "-c",
        AS_NOBODY,
    ]
    paths = [f"{guarded}/{name}" for name in names]
    told = subprocess.run([*command, *paths], capture_output=True, text=True, timeout=30)
    if told.returncode and "ermission" in told.stderr:
        pytest.skip(f"nobody may not run {sys.executable}")
    assert told.returncode == 0, told.stderr
    live = dict(zip(names, json.loads(told.stdout), strict=True))
    assert live["secret"]["text"] == f"could not look: {guarded}/secret: Permission denied"
    assert live["closed/file"]["stat"].startswith("could not look")
    assert live["gone"]["stat"] is None
    assert live["public"]["text"] == "public\n"

    (guarded / "host.toml").write_text(
        "[process]\nuid = 65534\ngid = 65534\n"
        + '[paths."/secret"]\nmode = "0600"\n'
        + '[paths."/closed"]\nmode = "0700"\n'
        + '[paths."/listed"]\nmode = "0711"\n'
    )
    tree = host_tree(guarded)
    for name in names:
        here = json.loads(json.dumps(seen(tree, f"/{name}")).replace(" /", f" {guarded}/"))
        there = live[name]
        for question in ("text", "names", "may"):
            assert here[question] == there[question], (name, question)
        if isinstance(there["stat"], list):
            assert here["stat"][:4] == there["stat"][:4], name
        else:
            assert here["stat"] == there["stat"], name


def test_children_get_the_environment_of_the_host() -> None:
    host = Host.here(environ={"PATH": os.environ["PATH"], "ONLY": "this"})
    result = host.run_child(
        ChildRequest(argv=(sys.executable, "-c", "import os; print(os.environ['ONLY'])"), deadline=20)
    )
    assert result.stdout.text == "this\n"


def test_a_socket_and_a_directory_are_told_apart(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert Host.here().stat(f"{tmp_path}/s").kind == "socket"
    assert Host.here().stat("/dev/null").device == (1, 3)
    assert Host.here().stat(str(tmp_path)).kind == "directory"
    with pytest.raises(CouldNotLook) as kept:
        Host.here().text(f"{tmp_path}/s")
    assert errno.errorcode[errno.ENXIO] == "ENXIO"
    assert "No such device or address" in kept.value.reason
