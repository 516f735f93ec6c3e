"""Names and homes of users whom the image does not know."""

from __future__ import annotations

from envdoctor.api import (
    Change,
    Confidence,
    Finding,
    Findings,
    Outcome,
    Reach,
    Relaunch,
    SetVariable,
    Severity,
    Variables,
)
from envdoctor.tables import compare_releases
from envdoctor_checks.container.advice import JOB, move_caches, move_home
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import (
    ContainerEngine,
    HomeDirectory,
    Identity,
    ListedPath,
    ListedPaths,
    PasswdEntry,
)
from envdoctor_checks.container.homes import home_of
from envdoctor_checks.container.symptoms import UidNotFound, WriteRefused
from envdoctor_checks.torch.facts import TorchBuild

NAME_VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")
"""What Python's getpass.getuser looks at before it asks for the UID's entry."""
NAMELESS_TORCH = "2.13"
"""The first torch that does without a name for its cache directory."""
ASKING_TORCH = "2.8"
"""The first that asks for a name even where TORCHINDUCTOR_CACHE_DIR is set: for the default folder of precompiled headers."""


@check.rule
def uid_without_passwd_entry(
    entry: PasswdEntry, variables: Variables, torch: TorchBuild | None, engine: ContainerEngine | None
) -> Findings:
    """The process's UID has no passwd entry, so getpass.getuser() fails."""
    if entry.name is not None or (variables.complete and any(variables.get(name) for name in NAME_VARIABLES)):
        return
    needs_name = torch is not None and torch.release is not None and not _is_from(torch, NAMELESS_TORCH)
    always = _is_from(torch, ASKING_TORCH)
    hurts = needs_name and variables.complete and (always or not variables.get("TORCHINDUCTOR_CACHE_DIR"))
    yield Finding(
        title=f"UID {entry.uid} has no name here" + (", and torch.compile asks for one" if hurts else ""),
        subject=f"uid:{entry.uid}",
        severity=Severity.WARNING if hurts else Severity.NOTE,
        detail=f"getpass.getuser() looks at {', '.join(NAME_VARIABLES)}, then at the passwd file, and raises when both are silent. "
        "torch.compile names its cache directory by it.",
        evidence=(entry.shows(f"/etc/passwd, UID {entry.uid}", "no entry"), variables.evidence("USER")),
        remedies=_name_it(entry.uid, cache_helps=not always),
        breaks=(Outcome("compile"),) if hurts else (),
    )


@uid_without_passwd_entry.sign
def _name_asked_for(said: UidNotFound, fatal: tuple[UidNotFound, ...], torch: TorchBuild | None) -> Findings:
    """getpwuid() raised; a prompt that says "I have no name!" alone hurts nobody."""
    if not said.fatal and any(each.fatal for each in fatal):
        return
    always = _is_from(torch, ASKING_TORCH)
    yield Finding(
        title=f"UID {said.uid} has no entry in the container's /etc/passwd"
        if said.uid is not None
        else "the process's UID has no name",
        subject=f"uid:{said.uid}" if said.uid is not None else "",
        severity=Severity.ERROR if said.fatal else Severity.NOTE,
        detail="The container was started with a UID that the image does not know. Programs that ask for the user's name fail; "
        "files can be read and written all the same.",
        evidence=(said.evidence(),),
        remedies=_name_it(said.uid, cache_helps=not always),
        breaks=(JOB,) if said.fatal else (),
        shows=(JOB,) if said.fatal else (),
    )


def _is_from(torch: TorchBuild | None, release: str) -> bool:
    """Whether torch is known to be of that release or a newer one."""
    return torch is not None and torch.release is not None and compare_releases(torch.release, release) >= 0


def _name_it(uid: int | None, *, cache_helps: bool) -> tuple[SetVariable | Relaunch | Change, ...]:
    cache = SetVariable(
        name="TORCHINDUCTOR_CACHE_DIR",
        value="/tmp/inductor",  # noqa: S108 - a proposal for the container's own /tmp
        why="torch.compile then needs no name",
        caveat="Not with torch 2.8 to 2.12, which ask for the name even so.",
    )
    return (
        SetVariable(name="USER", value="me", why="getpass.getuser() is content with any of USER and LOGNAME"),
        *((cache,) if cache_helps else ()),
        Relaunch(
            adds="-e USER=me -e LOGNAME=me -v /etc/passwd:/etc/passwd:ro",
            why="the host's names then hold inside",
            caveat="Podman adds an entry by itself with --userns=keep-id.",
        ),
        Change(
            title="or make the user in the image",
            reach=Reach.CONTAINER,
            example=(f"RUN useradd --uid {1000 if uid is None else uid} --create-home me   # Dockerfile",),
            needs_restart="container",
        ),
    )


@check.rule
def home_not_writable(
    home: HomeDirectory,
    identity: Identity,
    torch: TorchBuild,
    variables: Variables,
    engine: ContainerEngine | None,
) -> Findings:
    """HOME is /, absent or read-only for this UID."""
    if home.writable or home.path is None or not torch.version:
        return
    moved = all(
        variables.get(name) for name in ("XDG_CACHE_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
    )
    inside = engine is not None and engine.engine is not None
    state = "is not there" if not home.exists else "cannot be written"
    yield Finding(
        title=f"the home directory {home.path} {state} by UID {identity.uid}: caches have no place",
        subject=f"path:{home.path}",
        severity=Severity.NOTE if moved else Severity.WARNING,
        detail="Triton, Hugging Face, torch.hub and matplotlib put their caches below the home directory unless told otherwise.",
        evidence=(home.shows("home", f"{home.path} ({home.found_via})"), identity.shows("uid", identity.uid)),
        remedies=(move_caches(), *((move_home(),) if inside else ())),
        breaks=() if moved else (Outcome("write", home.path),),
    )


@home_not_writable.sign
def _refused_below_home(
    said: WriteRefused,
    entry: PasswdEntry | None,
    variables: Variables | None,
    identity: Identity | None,
    listed: ListedPaths | None,
) -> Findings:
    """The path that could not be made lies below what the program takes for home."""
    home = home_of(said.path, entry, variables)
    if home is None:
        return
    evidence = [said.evidence()]
    if entry is not None and entry.home and said.path.startswith(entry.home):
        evidence.append(entry.shows(f"home of UID {entry.uid}", entry.home))
    owner = listed_at(listed, home)
    if owner is not None and listed is not None:
        evidence.append(listed.shows(home, f"{owner.mode} {owner.owner}:{owner.group}"))
    root = home == "/"
    chown = Change(
        title=f"or give {home} to the user, in the image",
        reach=Reach.CONTAINER,
        example=(f"RUN chown -R {entry.name if entry and entry.name else '<user>'}: {home}   # Dockerfile",),
        needs_restart="container",
    )
    yield Finding(
        title="HOME is / for this user, and nothing can be written there"
        if root
        else f"the home directory {home} cannot be written by this user",
        subject=f"path:{home}",
        confidence=Confidence.CERTAIN,
        detail=f"{said.path} lies below what the program takes for the user's home. A UID without an account gets /, and images often "
        "give their user a home that is root's or does not exist.",
        evidence=tuple(evidence),
        remedies=(move_caches(), move_home(), *(() if root or home == "/nonexistent" else (chown,))),
        breaks=(Outcome("write", said.path),),
        shows=(Outcome("write", said.path),),
    )


def listed_at(listed: ListedPaths | None, path: str) -> ListedPath | None:
    """What the text lists for a path, or for the nearest directory above it."""
    for each in sorted(listed.paths if listed else (), key=lambda each: -len(each.path)):
        if each.path == path or (each.mode.startswith("d") and path.startswith(each.path.rstrip("/") + "/")):
            return each
    return None
