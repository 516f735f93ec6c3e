"""Bind mounts: whose files a container writes, and which it may not write."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Outcome,
    Reach,
    Severity,
    Variables,
)
from envdoctor_checks.container.advice import as_owner, own_ids
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import (
    NOBODY,
    ContainerEngine,
    Identity,
    ListedPath,
    ListedPaths,
    Mount,
    Mounts,
    PasswdEntry,
    UidMap,
)
from envdoctor_checks.container.homes import home_of
from envdoctor_checks.container.rules_users import listed_at
from envdoctor_checks.container.symptoms import Launched, WriteRefused

CACHE_VARIABLES = (
    "HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "TRITON_CACHE_DIR", "TRITON_HOME", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR",
    "CUDA_CACHE_PATH", "TMPDIR",
)  # fmt: skip


SUB_UID = 65536
"""Where /etc/subuid ranges begin at the earliest; the usual ones begin at 100000."""


VIRTUAL = ("fakeowner", "virtiofs", "9p", "drvfs", "grpcfuse", "osxfs")
"""File systems of desktop engines that show owners of their own making."""


@check.rule
def bind_mount_other_uid(
    mounts: Mounts, identity: Identity, ids: UidMap, variables: Variables, engine: ContainerEngine
) -> Findings:
    """A bind mount belongs to another UID and cannot be written."""
    if engine.engine is None:
        return
    for name in CACHE_VARIABLES:
        place = variables.get(name)
        mount = mounts.holding(place) if place else None
        if (
            mount is None
            or not mount.bound
            or mount.read_only
            or mount.writable is not False
            or mount.owner == NOBODY
        ):
            continue
        yield Finding(
            title=f"{name} is on {mount.target}, which belongs to UID {mount.owner} and cannot be written by UID {identity.uid}",
            subject=f"path:{mount.target}",
            severity=Severity.WARNING,
            evidence=(
                variables.evidence(name),
                mounts.shows(
                    mount.target,
                    f"{mount.mode} {mount.owner}:{mount.group} (UID {ids.outside(mount.owner or 0)} outside)",
                ),
                identity.shows("uid", identity.uid),
            ),
            remedies=(as_owner(engine.engine, _owner(mount)), _chown(mount.target, identity.uid)),
            breaks=(Outcome("write", place or ""),),
        )


@bind_mount_other_uid.sign
def _refused_on_bind_mount(
    said: WriteRefused,
    launches: tuple[Launched, ...],
    listed: ListedPaths | None,
    identity: Identity | None,
    entry: PasswdEntry | None,
) -> Findings:
    """The path lies on a bind mount of the launch, or in a directory that is listed as somebody else's."""
    if said.why != "permission" or home_of(said.path, entry, None) is not None:
        return
    launched = [
        (each, host, target)
        for each in launches
        for host, target in each.binds
        if f"{said.path}/".startswith(target.rstrip("/") + "/")
    ]
    if not launched:
        return
    launch, source, target = launched[0]
    if _rootless(launch):
        return  # the user namespace is what makes it another UID's
    owner = listed_at(listed, said.path) or _named(listed, source)
    user = launch.user or (str(identity.uid) if identity else None)
    if owner is not None and user is not None and owner.owner == user.partition(":")[0]:
        return
    evidence = [said.evidence(), launch.evidence("as started")]
    if owner is not None and listed is not None:
        evidence.append(listed.shows(owner.path, f"{owner.mode} {owner.owner}:{owner.group}"))
    ids = (
        (int(owner.owner), int(owner.group))
        if owner and owner.owner.isdecimal() and owner.group.isdecimal()
        else None
    )
    yield Finding(
        title=f"{target} is {source} of the host, which belongs to another UID than the container's user"
        if user is None
        else f"{target} is {source} of the host, and UID {user} may not write there",
        subject=f"path:{target}",
        confidence=Confidence.CERTAIN if owner is not None else Confidence.LIKELY,
        detail="A bind mount keeps the owners of the host: numbers count, names do not.",
        evidence=tuple(evidence),
        remedies=(
            as_owner(launch.engine, ids),
            _chown(source, int(user) if user and user.isdecimal() else None),
        ),
        breaks=(Outcome("write", said.path),),
        shows=(Outcome("write", said.path),),
        asks=() if owner else (Ask(f"ls -lnd {source}; id -u", "whose the directory is, and who you are"),),
    )


def _rootless(launch: Launched) -> bool:
    """Whether an ordinary user started it with podman, and left the mapping of users to podman."""
    return launch.engine == "podman" and not launch.root and not launch.keep_id


def _named(listed: ListedPaths | None, source: str) -> ListedPath | None:
    name = source.rstrip("/").rpartition("/")[2]
    return next(
        (each for each in (listed.paths if listed else ()) if name and each.path.rpartition("/")[2] == name),
        None,
    )


def _owner(mount: Mount) -> tuple[int, int] | None:
    return (mount.owner, mount.group) if mount.owner is not None and mount.group is not None else None


def _chown(path: str, uid: int | None) -> Change:
    return Change(
        title=f"or give {path} to that user, on the host",
        reach=Reach.HOST,
        example=(f"sudo chown -R {uid if uid is not None else '<uid of the container user>'} {path}",),
        caveat="Everybody else who uses the directory loses it.",
    )


@check.rule
def root_writes_to_bind_mount(
    mounts: Mounts, identity: Identity, ids: UidMap, engine: ContainerEngine, variables: Variables
) -> Findings:
    """The container writes as root into a bind mount: the files will be root's on the host."""
    if engine.engine is None or engine.engine == "apptainer" or identity.uid != 0 or ids.outside(0) != 0:
        return
    for mount in mounts.mounts:
        foreign = mount.owner not in (None, 0, NOBODY)
        if not mount.bound or not mount.writable or not foreign or mount.fstype.endswith(VIRTUAL):
            continue
        left = mount.root_owned is not None and not variables.get("CI")
        evidence = [
            mounts.shows(mount.target, f"{mount.mode} {mount.owner}:{mount.group}"),
            ids.shows("UID 0 outside", ids.outside(0)),
        ]
        if mount.root_owned is not None:
            evidence.append(mounts.shows("owned by root", f"{mount.target}/{mount.root_owned}"))
        yield Finding(
            title=f"files that are written to {mount.target} belong to root on the host, not to UID {mount.owner}, whose directory it is",
            subject=f"path:{mount.target}",
            severity=Severity.WARNING if left else Severity.NOTE,
            evidence=tuple(evidence),
            remedies=(as_owner(engine.engine, _owner(mount)),),
        )


@root_writes_to_bind_mount.sign
def _left_by_root(said: WriteRefused, launches: tuple[Launched, ...], listed: ListedPaths) -> Findings:
    """On the host a file cannot be written, it is root's, and a container without --user was given its directory."""
    owner = listed_at(listed, said.path)
    if owner is None or owner.owner not in ("root", "0"):
        return
    for launch in launches:
        for source, target in launch.binds:
            name = source.rstrip("/").rpartition("/")[2]
            if (
                launch.user not in (None, "0", "root")
                or not name
                or f"/{name}" not in f"/{said.path}"
                or target == said.path
            ):
                continue
            if f"{said.path}/".startswith(target.rstrip("/") + "/"):
                continue  # refused inside, where we are root: another story
            yield Finding(
                title=f"{said.path} was written by root of a container, and is root's on the host",
                subject=f"path:{source}",
                confidence=Confidence.LIKELY,
                detail="A container whose process is root writes as root through a bind mount.",
                evidence=(
                    said.evidence(),
                    listed.shows(owner.path, f"{owner.mode} {owner.owner}:{owner.group}"),
                    launch.evidence("as started"),
                ),
                remedies=(
                    as_owner(launch.engine, None),
                    Change(
                        title="give the files that are there back to yourself",
                        reach=Reach.HOST,
                        example=(f'sudo chown -R "$(id -u):$(id -g)" {source}',),
                    ),
                ),
                breaks=(Outcome("write", said.path),),
                shows=(Outcome("write", said.path),),
            )
            return


@check.rule
def uid_shifted(mounts: Mounts, identity: Identity, ids: UidMap, engine: ContainerEngine) -> Findings:
    """The user namespace maps this UID to a sub-UID on the host, so files change owner."""
    outside = ids.outside(identity.uid)
    if engine.engine is None or ids.identity or outside is None or outside < SUB_UID:
        return
    bound = [
        mount
        for mount in mounts.mounts
        if mount.bound and not mount.read_only and not mount.fstype.endswith(VIRTUAL)
    ]
    if not bound:
        return
    closed = [mount for mount in bound if mount.owner == NOBODY and mount.writable is False]
    mount = (closed or bound)[0]
    shown: list[Evidence] = [
        ids.shows(f"UID {identity.uid} outside", outside),
        mounts.shows(mount.target, f"{mount.mode} {mount.owner}:{mount.group}"),
    ]
    yield Finding(
        title=f"UID {identity.uid} in here is UID {outside} on the host"
        + (
            f", which may not write {mount.target}"
            if closed
            else f": that is whose files in {mount.target} will be"
        ),
        subject=f"path:{mount.target}",
        severity=Severity.WARNING if closed else Severity.NOTE,
        detail="The user namespace maps the ids of the container to a range that is nobody's on the host (/etc/subuid).",
        evidence=tuple(shown),
        remedies=own_ids(engine.engine, identity.uid, outside),
        breaks=(Outcome("write", mount.target),) if closed else (),
    )


@uid_shifted.sign
def _refused_for_a_sub_uid(
    said: WriteRefused,
    launches: tuple[Launched, ...],
    listed: ListedPaths | None,
    ids: UidMap | None,
    identity: Identity | None,
) -> Findings:
    """A refused write with a map that shifts, or with owners that are sub-UIDs or nobody."""
    uid = identity.uid if identity else 0
    outside = ids.outside(uid) if ids else None
    by_map = ids is not None and not ids.identity and outside is not None and outside >= SUB_UID
    owner = listed_at(listed, said.path)
    number = int(owner.owner) if owner is not None and owner.owner.isdecimal() else None
    by_owner = number is not None and number >= SUB_UID
    mapped = [each for each in launches if _rootless(each) and _holds(each, said.path)]
    if said.why != "permission" or not (by_map or (by_owner and launches) or mapped):
        return
    evidence = [said.evidence()]
    if ids is not None and by_map:
        evidence.append(ids.shows(f"UID {uid} outside", outside))
    if owner is not None and listed is not None:
        evidence.append(listed.shows(owner.path, f"{owner.mode} {owner.owner}:{owner.group}"))
    evidence += [each.evidence("as started") for each in mapped[:1]]
    yield Finding(
        title=f"UID {uid} in the container is UID {outside} on the host"
        if by_map
        else f"{said.path} belongs to the sub-UID {number}, as a rootless container writes"
        if by_owner
        else f"{said.path} is on a bind mount of a rootless container, whose users are other UIDs on the host",
        subject=f"path:{said.path}",
        confidence=Confidence.LIKELY,
        detail="The user namespace maps the ids of the container to a range of its own (/etc/subuid). What is written inside belongs "
        "to that range outside, and what belongs to you outside is nobody's inside.",
        evidence=tuple(evidence),
        remedies=own_ids(
            "podman" if any(each.engine == "podman" for each in launches) else None, uid, outside
        ),
        breaks=(Outcome("write", said.path),),
        shows=(Outcome("write", said.path),),
    )


def _holds(launch: Launched, path: str) -> bool:
    """Whether a path lies on one of the launch's bind mounts."""
    return any(f"{path}/".startswith(target.rstrip("/") + "/") for _, target in launch.binds)
