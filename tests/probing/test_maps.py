"""The maps reader on processes of our own, and on lines that the kernel may write."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envdoctor.probing.maps import MappedFile, parse

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc/PID/maps is Linux's")


def own_maps() -> tuple[MappedFile, ...]:
    return parse(Path("/proc/self/maps").read_text(errors="backslashreplace"))


def test_nothing_is_mapped_by_no_text_or_by_other_text() -> None:
    assert parse("") == ()
    assert parse("total 5\nlrwx------ 1 root root 64 /dev/null\n/usr/lib/libx.so\n") == ()


def test_memory_without_a_file_is_left_out() -> None:
    text = (
        "55d0c0a00000-55d0c0a21000 rw-p 00000000 00:00 0                          [heap]\n"
        "7f0000000000-7f0000021000 rw-p 00000000 00:00 0 \n"
        "7ffd00000000-7ffd00021000 r-xp 00000000 00:00 0                          [vdso]\n"
        "7f0000100000-7f0000101000 rw-s 00000000 00:0d 1055                       anon_inode:[io_uring]\n"
    )
    assert parse(text) == ()


def test_our_own_libraries_are_there_once_in_order_and_executable() -> None:
    found = own_maps()
    paths = [file.path for file in found]
    assert len(set(paths)) == len(paths)
    libc = [file for file in found if os.path.basename(file.path).startswith(("libc.so", "libc-", "ld-musl"))]
    assert len(libc) == 1
    assert libc[0].executable
    assert libc[0].inode == os.stat(libc[0].path).st_ino


def test_a_file_with_blanks_that_was_removed_and_replaced_is_two_files(tmp_path: Path) -> None:
    path = tmp_path / "a  name (with) blanks.so"
    path.write_bytes(b"x" * 5000)
    with path.open("rb") as old, mmap.mmap(old.fileno(), 0, prot=mmap.PROT_READ):
        first = os.fstat(old.fileno()).st_ino
        path.unlink()
        (tmp_path / "other").write_bytes(b"y" * 5000)
        os.rename(tmp_path / "other", path)
        with path.open("rb") as new, mmap.mmap(new.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_EXEC):
            second = os.fstat(new.fileno()).st_ino
            found = {
                (file.deleted, file.executable, file.inode) for file in own_maps() if file.path == str(path)
            }
    assert found == {(True, False, first), (False, True, second)}


def test_a_libraries_segments_are_one_file_and_any_executable_one_counts() -> None:
    line = "7f00000{}0000-7f00000{}1000 {}p 00000000 fe:01 4242 /opt/venv/libx.so\n"
    text = "".join(line.format(number, number, mode) for number, mode in enumerate(["r--", "r-x", "rw-"]))
    assert parse(text) == (MappedFile("/opt/venv/libx.so", False, "fe:01", 4242, True),)


def test_a_file_outside_the_readers_root_keeps_its_path() -> None:
    text = "7f0000000000-7f0000001000 r-xp 00000000 00:2a 77 (unreachable)/lib/libx.so (deleted)\n"
    assert parse(text) == (MappedFile("/lib/libx.so", True, "00:2a", 77, True),)


def test_another_process_is_read_like_our_own() -> None:
    code = "import sys; sys.stdout.write(open('/proc/self/maps').read())"
    text = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    programs = [file for file in parse(text) if os.path.realpath(sys.executable) == file.path]
    assert len(programs) == 1
    assert not programs[0].deleted
