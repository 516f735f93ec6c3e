"""What is mounted here, whose it is, and whether we can write there."""

from __future__ import annotations

import os
from collections.abc import Iterator

from envdoctor.api import CouldNotLook, Host, Source, Tier
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import ContainerEngine, Mount, Mounts
from envdoctor_checks.container.probe_who import WHOLE
from envdoctor_checks.container.procfs import MountLine, mount_lines

MOST = 100
"""Mounts that are looked at."""
PEEK = 64
"""Names in a mounted directory that are looked at for an owner."""
PSEUDO = frozenset({
    "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
    "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs",
})  # fmt: skip
NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "afs",
    "glusterfs",
    "fuse.",
    "sshfs",
    "panfs",
    "wekafs",
)
"""File systems on which stat waits for another machine. Overlays in user space are as local as any."""


@check.probe(tier=Tier.QUICK)
def mounts(host: Host, engine: ContainerEngine | None) -> Mounts:
    """Owner and writability of each mounted directory; of network file systems only that they are there."""
    path = "/proc/self/mountinfo"
    text = host.text(path, limit=WHOLE)
    if text is None:
        raise CouldNotLook(f"{path} is not there")
    lines = {
        each.target: each for each in mount_lines(text) if _matters(each)
    }  # the last one on a target covers the others
    if not lines and text.strip() and not any(mount_lines(text)):
        raise CouldNotLook(f"{path} does not hold mounts")
    peek = host.uid == 0 and engine is not None and engine.engine is not None
    kept = tuple(_looked_at(host, list(lines.values())[:MOST], peek=peek))
    return Mounts(mounts=kept, omitted=max(0, len(lines) - MOST), source=Source("file", path))


def _matters(mount: MountLine) -> bool:
    if mount.fstype in PSEUDO or mount.target.startswith(("/proc", "/sys/")):
        return False
    return not f"{mount.target}/".startswith("/dev/") or mount.target == "/dev/shm"  # noqa: S108 - it is asked about, not used


def _looked_at(host: Host, lines: list[MountLine], *, peek: bool) -> Iterator[Mount]:
    for line in lines:
        mount = Mount(
            target=line.target,
            fstype=line.fstype,
            origin=line.origin,
            device=line.device,
            read_only="ro" in line.options or "ro" in line.super_options,
            noexec="noexec" in line.options,
        )
        if line.fstype.startswith(NETWORK) and "overlayfs" not in line.fstype:
            yield mount
            continue
        try:
            status = host.status(line.target)
        except CouldNotLook:
            yield mount
            continue
        if status is None or status.kind != "directory":
            continue  # a single file, as engines mount many: or covered by another mount
        writable = not mount.read_only and host.may(line.target, os.W_OK | os.X_OK)
        yield Mount(
            target=mount.target,
            fstype=mount.fstype,
            origin=mount.origin,
            device=mount.device,
            read_only=mount.read_only,
            noexec=mount.noexec,
            owner=status.uid,
            group=status.gid,
            mode=f"{status.mode:04o}",
            writable=writable,
            root_owned=_left_by_root(host, line.target) if peek and mount.bound and status.uid else None,
        )


def _left_by_root(host: Host, target: str) -> str | None:
    """A name in another user's directory that belongs to UID 0."""
    try:
        names = host.names(target, limit=PEEK) or ()
        for name in names:
            status = host.status(f"{target}/{name}", follow=False)
            if status is not None and status.uid == 0:
                return name
    except CouldNotLook:
        return None
    return None
