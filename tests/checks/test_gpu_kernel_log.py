"""The kernel log out of /dev/kmsg's records and of loggers' files: bounded, of this boot, or plainly not to be had."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envdoctor.engine import flatten, gathered
from envdoctor.facts import CouldNotLook, Printed
from envdoctor.host import Host
from envdoctor.reading import Messages
from envdoctor.session import Doctor
from envdoctor.tree import host_tree
from envdoctor_checks.gpu.facts import KernelLog
from envdoctor_checks.gpu.probe_kernel_log import TAIL, kernel_log
from envdoctor_checks.gpu.symptoms import Xid

XID = "NVRM: Xid (PCI:0000:3b:00): 79, pid=4711, name=python, GPU has fallen off the bus."
KMSG = f"""\
5,0,0,-;Linux version 6.8.0-45-generic (buildd@lcy02) #45-Ubuntu SMP
6,1,0,-;Command line: BOOT_IMAGE=/vmlinuz; quiet
 SUBSYSTEM=pci
 DEVICE=+pci:0000:3b:00.0
3,900,81223104417,-;{XID}
"""


def tree(root: Path, files: dict[str, str | bytes], more: str = "") -> Host:
    for path, content in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
    (root / "host.toml").write_text(more)
    return host_tree(root)


def read(host: Host) -> tuple[KernelLog, str]:
    given = flatten(kernel_log(host))
    log = gathered([each for each in given if not isinstance(each, Printed)]).get(KernelLog)
    assert isinstance(log, KernelLog)
    return log, next(each.text for each in given if isinstance(each, Printed))


def test_records_lose_their_heads_and_keys(tmp_path: Path) -> None:
    log, text = read(tree(tmp_path, {"/dev/kmsg": KMSG}))
    assert text.splitlines()[1:] == ["Command line: BOOT_IMAGE=/vmlinuz; quiet", XID]
    assert (log.lines, log.whole, log.source.where) == (3, True, "/dev/kmsg")


def test_what_it_says_are_symptoms_of_a_file(tmp_path: Path) -> None:
    given = flatten(kernel_log(tree(tmp_path, {"/dev/kmsg": KMSG})))
    messages = Messages(Doctor().checks)
    symptoms = [said for each in given if isinstance(each, Printed) for said in messages.printed(each)]
    xid = next(said for said in symptoms if isinstance(said, Xid))
    assert (xid.number, xid.address, xid.source.kind) == (79, "0000:3b:00.0", "file")


def test_a_loggers_file_begins_at_this_boot(tmp_path: Path) -> None:
    old = "Jan  3 10:00:01 box kernel: NVRM: Xid (PCI:0000:01:00): 62, old\n"
    new = "Jan  4 09:00:00 box kernel: Linux version 6.8.0\nJan  4 09:00:09 box kernel: nothing\n"
    log, text = read(tree(tmp_path, {"/var/log/kern.log": "a line\n" + old + new}))
    assert "Xid" not in text
    assert (log.lines, log.source.where) == (2, "/var/log/kern.log")


def test_only_the_end_of_a_huge_log_is_read(tmp_path: Path) -> None:
    host = tree(tmp_path, {"/var/log/kern.log": "Linux version 6\n"})
    with open(tmp_path / "var/log/kern.log", "r+b") as file:
        file.seek(100 << 20)  # a hole of 100 MB
        file.write(f"\n{XID}\n".encode())
    started = time.process_time()
    log, text = read(host)
    assert time.process_time() - started < 2
    assert len(text) <= TAIL
    assert text.splitlines()[-1] == XID
    assert not log.whole


def test_bytes_that_are_no_text_are_kept_from_harm(tmp_path: Path) -> None:
    _, text = read(tree(tmp_path, {"/var/log/kern.log": b"\xff\xfe\x00bin\n" + XID.encode() + b"\n\x80"}))
    assert XID in text.splitlines()


def test_an_empty_log_is_a_log(tmp_path: Path) -> None:
    log, text = read(tree(tmp_path, {"/dev/kmsg": ""}))
    assert (log.lines, text) == (0, "")


RESTRICTED = '[process]\nuid = 1000\ngid = 1000\n[paths."/dev/kmsg"]\nerrno = "EPERM"\n[paths."/var/log/kern.log"]\nmode = "0640"\n'


def test_a_restricted_log_says_what_would_allow_it(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "/dev/kmsg": "",
        "/var/log/kern.log": "x",
        "/proc/sys/kernel/dmesg_restrict": "1\n",
    }
    with pytest.raises(CouldNotLook) as kept:
        flatten(kernel_log(tree(tmp_path, files, RESTRICTED)))
    assert "/dev/kmsg: Operation not permitted" in kept.value.reason
    assert "/var/log/kern.log: Permission denied" in kept.value.reason
    assert "sudo" in kept.value.would_allow
    assert "kernel.dmesg_restrict=0" in kept.value.would_allow


def test_without_any_log_it_is_a_container(tmp_path: Path) -> None:
    with pytest.raises(CouldNotLook) as kept:
        flatten(kernel_log(tree(tmp_path, {})))
    assert "on the host" in kept.value.would_allow


READ_LIVE = """
from envdoctor.host import Host
from envdoctor.engine import flatten
from envdoctor_checks.gpu.probe_kernel_log import kernel_log
log, printed = flatten(kernel_log(Host.here()))
print(log.source.where, log.lines, "Linux version" in printed.text)
"""


def may_read_kmsg() -> bool:
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return stat.S_ISCHR(os.stat("/dev/kmsg").st_mode)


@pytest.mark.skipif(not may_read_kmsg(), reason="the kernel log of this machine may not be read")
def test_the_real_device_is_read_without_waiting() -> None:
    done = subprocess.run([sys.executable, "-c", READ_LIVE], capture_output=True, text=True, timeout=30)
    where, lines, _ = done.stdout.split()
    assert where == "/dev/kmsg", done.stderr
    assert int(lines) > 0
