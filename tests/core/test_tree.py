"""A tree of files with a `host.toml`: what files alone cannot hold."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from envdoctor.errors import DocumentError
from envdoctor.facts import CouldNotLook
from envdoctor.host import Host, Space
from envdoctor.probing.child import ChildRequest
from envdoctor.tree import host_tree

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="paths are those of Linux")

TOLD = """
[process]
uid = 1000
gid = 1000
groups = [44]
machine = "aarch64"
cwd = "/home/user"

[environ]
PATH = "/usr/bin"

[paths."/dev/nvidia0"]
kind = "char"
device = [195, 0]
mode = "0660"
gid = 44

[paths."/dev/nvidia1"]
kind = "char"
device = [195, 1]
mode = "0600"

[paths."/dev/nvidia-caps"]
kind = "directory"

[paths."/proc/driver"]
errno = "EIO"

[paths."/etc/hidden"]
errno = "ENOENT"

[paths."/usr/lib/libcuda.so.1"]
link = "libcuda.so.580"

[paths."/usr/lib64"]
link = "/usr/lib"

[paths."/etc/tool"]
uid = 1000

[files]
"/sys/bus/pci/devices/0000:01:00.0/vendor" = "0x10de\\n"

[space."/"]
total = 1000
free = 10

[space."/dev/shm"]
total = 64
free = 64
read_only = true
"""


@pytest.fixture
def told(tmp_path: Path) -> Host:
    for folder in ("etc", "usr/lib", "dev/shm", "proc/driver"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "usr/lib/libcuda.so.580").write_text("elf")
    (tmp_path / "etc/hidden").write_text("x")
    (tmp_path / "etc/shown").write_text("x")
    (tmp_path / "etc/tool").write_text("x")
    (tmp_path / "etc/tool").chmod(0o775)
    (tmp_path / "proc/driver/version").write_text("x")
    (tmp_path / "host.toml").write_text(TOLD)
    return host_tree(tmp_path)


def test_who_looks(told: Host) -> None:
    assert (told.uid, told.gid, told.groups, told.machine, told.cwd) == (
        1000,
        1000,
        (44,),
        "aarch64",
        "/home/user",
    )
    assert told.environ == {"PATH": "/usr/bin"}
    assert told.clock() == told.clock()


def test_devices(told: Host) -> None:
    node = told.stat("/dev/nvidia0")
    assert (node.kind, node.device, node.mode, node.uid, node.gid) == ("char", (195, 0), 0o660, 0, 44)
    assert told.may("/dev/nvidia0", os.R_OK | os.W_OK), "by the group video"
    assert not told.may("/dev/nvidia1", os.R_OK)
    assert told.names("/dev") == ("nvidia-caps", "nvidia0", "nvidia1", "shm")
    assert told.names("/dev/nvidia-caps") == ()
    with pytest.raises(CouldNotLook, match="Permission denied"):
        told.text("/dev/nvidia1")


def test_errors(told: Host) -> None:
    for path in ("/proc/driver", "/proc/driver/version"):
        with pytest.raises(CouldNotLook, match="Input/output error"):
            told.text(path)
    assert told.status("/etc/hidden") is None
    assert told.names("/etc") == ("shown", "tool")


def test_links(told: Host) -> None:
    assert told.readlink("/usr/lib/libcuda.so.1") == "libcuda.so.580"
    assert told.stat("/usr/lib64/libcuda.so.1").kind == "file"
    assert told.stat("/usr/lib64/libcuda.so.1", follow=False).kind == "link"
    assert told.resolve("/usr/lib64/libcuda.so.1") == "/usr/lib/libcuda.so.580"
    assert told.text("/usr/lib64/libcuda.so.1") == "elf"
    assert told.names("/usr/lib64") == ("libcuda.so.1", "libcuda.so.580")
    assert told.names("/") == ("dev", "etc", "proc", "sys", "usr")


def test_files_that_are_written_in_the_overlay(told: Host) -> None:
    folder = "/sys/bus/pci/devices"
    assert told.names(folder) == ("0000:01:00.0",)
    assert told.text(f"{folder}/0000:01:00.0/vendor") == "0x10de\n"
    assert told.stat(f"{folder}/0000:01:00.0/vendor").size == 7
    assert told.stat("/sys/bus").kind == "directory"
    with told.opened(f"{folder}/0000:01:00.0/vendor") as (read_at, size):
        assert (read_at(2, 4), size) == (b"10de", 7)
    assert told.text(f"{folder}/0000:01:00.0/device") is None


def test_owners_and_modes_do_not_depend_on_the_checkout(told: Host) -> None:
    shown, tool = told.stat("/etc/shown"), told.stat("/etc/tool")
    assert (shown.uid, shown.gid, shown.mode) == (0, 0, 0o644)
    assert (tool.uid, tool.mode) == (1000, 0o755)
    assert told.stat("/etc").mode == 0o755
    assert told.stat("/usr/lib64", follow=False).mode == 0o777


def test_space(told: Host) -> None:
    assert told.space("/etc") == Space(1000, 10, 1_000_000, 900_000, read_only=False, noexec=False)
    shm = told.space("/dev/shm/x")
    assert shm is not None
    assert shm.read_only
    assert told.may("/etc/tool", os.W_OK)
    assert not told.may("/dev/shm", os.W_OK)


def test_nothing_is_run_in_a_tree(told: Host) -> None:
    with pytest.raises(CouldNotLook, match="nothing can be run"):
        told.run_child(ChildRequest(argv=("true",), deadline=1))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[process", "host.toml"),
        ("[unknown]\na = 1", "unknown"),
        ('[paths."/x"]\nerrno = "EWHAT"', "EWHAT"),
        ('[paths."/x"]\nmode = "rwx"', "rwx"),
        ('[paths."/x"]\nkind = "hole"', "hole"),
        ('[process]\nuid = "root"', "uid"),
    ],
)
def test_a_host_file_that_does_not_fit_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "host.toml").write_text(text)
    with pytest.raises(DocumentError, match=problem):
        host_tree(tmp_path)


def test_a_tree_can_be_looked_at_by_somebody_else(told: Host, tmp_path: Path) -> None:
    root = host_tree(tmp_path, uid=0, environ={"PATH": "/bin"})
    assert root.may("/dev/nvidia1", os.R_OK)
    assert root.environ == {"PATH": "/bin"}
