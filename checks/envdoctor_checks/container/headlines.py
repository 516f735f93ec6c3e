"""What the container check shows beside its findings: one row of the summary, and the mapping of users as a table."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.api import Headline, View
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import (
    NOBODY,
    ContainerEngine,
    CpuQuota,
    Identity,
    ImageKind,
    MemoryLimit,
    Mount,
    Mounts,
    PasswdEntry,
    UidMap,
)


@check.headline
def container_row(
    engine: ContainerEngine,
    identity: Identity | None,
    ids: UidMap | None,
    entry: PasswdEntry | None,
    image: ImageKind | None,
    memory: MemoryLimit | None,
    quota: CpuQuota | None,
) -> Iterator[Headline]:
    """``docker (rootless), UID 0 root = host UID 1000, CUDA 12.4 devel image, 8 cores, 24.0 GiB``."""
    if engine.engine is None:
        return
    parts = [engine.engine + (" (rootless)" if engine.rootless else "")]
    if identity is not None:
        name = f" {entry.name}" if entry and entry.name else " without a name" if entry else ""
        outside = f" = host UID {_outside(ids, identity.uid)}" if ids is not None else ""
        parts.append(f"UID {identity.uid}{name}{outside}")
    if image is not None and image.cuda:
        parts.append(f"CUDA {image.cuda} {image.flavour} image")
    if quota is not None and quota.cores:
        parts.append(f"{quota.cores:g} cores")
    if memory is not None and memory.limit:
        parts.append(f"{memory.limit / (1 << 30):.1f} GiB")
    yield Headline("container", ", ".join(parts), order=15)


@check.view
def user_mapping(mounts: Mounts, identity: Identity, ids: UidMap, engine: ContainerEngine) -> View:
    """Whose files a process in here writes on the host, mount by mount, and how to start it as their owner.

    Without rows outside a container.
    """
    bound = [mount for mount in mounts.mounts if mount.bound] if engine.engine else []
    rows = [(mount.target, *_row(mount, identity, ids, engine.engine or "")) for mount in bound]
    if bound and mounts.omitted:
        rows.append((f"and {mounts.omitted} more mounts", "", "", "", "", ""))
    return View(
        title=f"files of UID {identity.uid} belong to UID {_outside(ids, identity.uid)} on the host",
        columns=(
            "mount",
            "owner here",
            "owner on the host",
            "can write",
            "new files belong to",
            "start as its owner",
        ),
        rows=tuple(rows),
    )


def _row(mount: Mount, identity: Identity, ids: UidMap, engine: str) -> tuple[str, str, str, str, str]:
    if mount.owner is None:
        return "not looked at", "", "not looked at", _outside(ids, identity.uid), ""
    new = _outside(ids, identity.uid) if mount.writable else ""
    can = "yes" if mount.writable else "read-only" if mount.read_only else "no"
    return f"{mount.owner}:{mount.group}", _outside(ids, mount.owner), can, new, _launch(mount, ids, engine)


def _launch(mount: Mount, ids: UidMap, engine: str) -> str:
    """The option that makes new files the directory's owner's."""
    if mount.owner == NOBODY and ids.outside(NOBODY) != NOBODY:
        return "podman run --userns=keep-id" if engine == "podman" else "docker run --userns=host"
    if engine == "kubernetes":
        return f"securityContext: {{runAsUser: {mount.owner}, runAsGroup: {mount.group}}}"
    if engine == "podman" and not ids.identity:
        return "podman run --userns=keep-id"
    return f"--user {mount.owner}:{mount.group}"


def _outside(ids: UidMap | None, uid: int) -> str:
    outside = ids.outside(uid) if ids is not None else None
    return str(outside) if outside is not None else "none (not mapped)"
