"""Rules about the folders in which compilers keep what they made."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    AskAdministrator,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Platform,
    Reach,
    Remedy,
    Run,
    Severity,
    Variables,
)
from envdoctor_checks.container.facts import PasswdEntry
from envdoctor_checks.container.homes import home_of
from envdoctor_checks.container.symptoms import WriteRefused
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import CacheDirectories, CacheDirectory, CacheKind
from envdoctor_checks.kernel.facts_smoke import SMOKE_TEST
from envdoctor_checks.kernel.paths import NAMES, VARIABLES, cache_root, kind_of
from envdoctor_checks.kernel.reasoning import (
    BUILD,
    COMPILE,
    KERNEL,
    TOOLCHAIN,
    Use,
    own_folder,
    remove,
    use_of,
)
from envdoctor_checks.kernel.symptoms import (
    CacheAtWork,
    CacheCleared,
    CacheEntryBroken,
    CacheFileGone,
    CompilerAtWork,
    CublasNotInitialized,
    NvFolderListed,
    SegmentNotMapped,
)
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild

SHARED = ("/tmp/", "/var/tmp/", "/dev/shm/")  # noqa: S108 - nothing is written there
"""Where everybody may make a folder, so that one who may not write there meets another user's."""


def elsewhere(kind: CacheKind, why: str) -> Run:
    """A folder of one's own in the place of the cache."""
    at = "/var/tmp/cuda-cache" if kind == "cuda" else f"$HOME/.cache/{kind}"  # noqa: S108 - of the user's own
    folder = f"{at}-$(id -u)"
    return own_folder(VARIABLES[kind], folder, why)


def moved(path: str, kind: CacheKind, why: str) -> tuple[Run, ...]:
    """What moves the cache that a path lies in: Triton's may be a part of Inductor's, which is then moved as well."""
    kinds: tuple[CacheKind, ...] = (
        ("inductor", kind) if kind == "triton" and "torchinductor" in path else (kind,)
    )
    return tuple(elsewhere(each, why) for each in kinds)


def hand_over(path: str) -> Run:
    """Take the folder back, where it is one's own by right."""
    return Run(
        title="or make the folder yours again",
        commands=(f'chown -R "$(id -u):$(id -g)" {path}',),
        reach=Reach.HOST,
        needs_root=True,
    )


def _use(
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
) -> Use | None:
    """A folder that is not used yet is at most a warning: it may never be."""
    use = use_of(work, packages, gpus, build)
    if use is None or use.severity is not Severity.ERROR:
        return use
    return Use(Severity.WARNING, use.evidence)


def _seen(fact: CacheDirectories, row: CacheDirectory) -> Evidence:
    where = row.path if row.exists else f"{row.nearest} (above {row.path})"
    return fact.shows(where, f"owner {row.owner}, mode {row.mode or 'unknown'}, this user {fact.uid}")


@check.rule
def cache_dir_not_writable(
    caches: CacheDirectories,
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
) -> Findings:
    """A compile cache cannot be written by this user."""
    use = _use(work, packages, gpus, build)
    for row in caches.directories:
        foreign = row.exists and row.owner not in (None, caches.uid) and not row.read_only
        if row.writable or row.kind == "cuda" or foreign or use is None:
            continue
        yield Finding(
            title=f"{NAMES[row.kind]} cannot be written{': its file system is read-only' if row.read_only else ''}",
            subject=f"path:{row.path}",
            severity=use.severity,
            evidence=(_seen(caches, row), *use.evidence),
            remedies=(elsewhere(row.kind, "one that this user may write"),),
            breaks=(COMPILE,),
        )


@cache_dir_not_writable.sign
def _write_refused(said: WriteRefused, entry: PasswdEntry | None, variables: Variables | None) -> Findings:
    kind = kind_of(said.path)
    if kind is None or kind == "cuda" or _is_foreign(said):
        return
    if home_of(said.path, entry, variables) is not None:
        return  # container/home-not-writable: all of the home is at fault, not the cache
    root = cache_root(said.path, kind)
    outcome = BUILD if kind in ("extensions", "flashinfer") else COMPILE
    own: tuple[Remedy, ...] = () if said.why == "read-only" else (hand_over(root),)
    yield Finding(
        title=f"{NAMES[kind]} cannot be written{': its file system is read-only' if said.why == 'read-only' else ''}",
        subject=f"path:{root}",
        evidence=(said.evidence(),),
        remedies=(*moved(said.path, kind, "one that this user may write"), *own),
        breaks=(outcome,),
        shows=(outcome,),
    )


def _is_foreign(said: WriteRefused) -> bool:
    return said.why == "permission" and said.path.startswith(SHARED)


@check.rule
def cache_dir_owned_by_other_user(
    caches: CacheDirectories,
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
) -> Findings:
    """A compile cache belongs to another user, who made it first."""
    use = _use(work, packages, gpus, build)
    for row in caches.directories:
        foreign = row.exists and row.owner not in (None, caches.uid) and not row.read_only
        if row.writable or row.kind == "cuda" or not foreign or use is None:
            continue
        yield Finding(
            title=f"{NAMES[row.kind]} belongs to another user (UID {row.owner})",
            subject=f"path:{row.path}",
            severity=use.severity,
            evidence=(_seen(caches, row), *use.evidence),
            remedies=(elsewhere(row.kind, "each user needs one"), hand_over(row.path)),
            breaks=(COMPILE,),
        )


@cache_dir_owned_by_other_user.sign
def _foreign(said: WriteRefused) -> Findings:
    kind = kind_of(said.path)
    if kind is None or kind == "cuda" or not _is_foreign(said):
        return
    root = cache_root(said.path, kind)
    outcome = BUILD if kind in ("extensions", "flashinfer") else COMPILE
    yield Finding(
        title=f"{NAMES[kind]}, {root}, was made by another user",
        subject=f"path:{root}",
        detail="Its name does not tell users apart, or root ran the program first.",
        evidence=(said.evidence(),),
        remedies=(*moved(said.path, kind, "each user needs one"), hand_over(root)),
        confidence=Confidence.LIKELY,
        breaks=(outcome,),
        shows=(outcome,),
        asks=(Ask(command=f"ls -ld {root}", decides="whose folder it is"),),
    )


@check.rule
def cache_dir_noexec(
    caches: CacheDirectories,
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
) -> Findings:
    """A compile cache lies on a file system that is mounted noexec, so nothing in it can be loaded."""
    use = _use(work, packages, gpus, build)
    for row in caches.directories:
        if not row.noexec or row.kind == "cuda" or use is None:
            continue
        yield Finding(
            title=f"{NAMES[row.kind]} lies on a file system that is mounted noexec",
            subject=f"path:{row.path}",
            severity=use.severity,
            evidence=(caches.shows(row.path, "noexec"), *use.evidence),
            remedies=no_noexec(row.path, row.kind, row.nearest or row.path),
            breaks=(COMPILE,),
        )


def no_noexec(path: str, kind: CacheKind, root: str) -> tuple[Remedy, ...]:
    """Another folder, or another mount option."""
    allow = AskAdministrator(
        what="or mount that file system with exec",
        commands=(f'mount -o remount,exec "$(findmnt -no TARGET -T {root})"',),
    )
    return (*moved(path, kind, "on a file system from which programs may run"), allow)


@cache_dir_noexec.sign
def _not_mapped(said: SegmentNotMapped, caches: CacheDirectories | None) -> Findings:
    row = _stood_for(said, caches) if caches and said.source.where == SMOKE_TEST.where else None
    kind = row.kind if row else kind_of(said.path)
    if kind is None and not said.path.startswith(SHARED):
        return
    root = place = cache_root(said.path, kind) if kind is not None else said.path.rpartition("/")[0]
    if row:
        root, place = row.path, row.nearest or row.path
    temporary = own_folder("TMPDIR", "$HOME/.cache/tmp", "on a file system from which programs may run")
    outcome = BUILD if kind in ("extensions", "flashinfer") else COMPILE
    yield Finding(
        title=f"{root} lies on a file system that is mounted noexec: what was compiled there cannot be loaded",
        subject=f"path:{root}",
        evidence=(said.evidence(),),
        remedies=no_noexec(root, kind, place) if kind is not None else (temporary,),
        confidence=Confidence.CERTAIN if kind is not None else Confidence.LIKELY,
        breaks=(outcome,),
        shows=(outcome,),
        asks=(Ask(command=f"findmnt -T {place}", decides="whether its options say noexec"),),
    )


def _stood_for(said: SegmentNotMapped, caches: CacheDirectories) -> CacheDirectory | None:
    """The cache for which the smoke test wrote: within it, or where it could not, among its temporary files."""
    rows = [row for row in caches.directories if row.noexec]
    within = (row for row in rows if said.path.startswith(f"{row.path}/"))
    return next(within, None) or next((row for row in rows if row.kind == kind_of(said.path)), None)


@check.rule
def cache_stale(
    said: CacheEntryBroken,
    used: tuple[CacheAtWork, ...],
    work: tuple[CompilerAtWork, ...],
    platform: Platform | None,
) -> Findings:
    """An entry of a compile cache was made for another Python, driver or release, or was cut short."""
    launcher = said.what in ("cuda_utils", "__triton_launcher")
    if not launcher and not used:
        return
    kinds: list[CacheKind] = ["triton"] if launcher else sorted({each.cache for each in used})
    on_windows = launcher or (platform is not None and platform.system == "windows")
    removals = [_remove(kind, windows=on_windows) for kind in kinds]
    yield Finding(
        title=f"an entry of {NAMES[kinds[0]]} cannot be loaded ({said.what})",
        detail="It was compiled for another Python or other libraries than those of today; the cache does not notice."
        if launcher
        else "It was cut short when it was written: by a full disk, a killed program, or two programs at once.",
        evidence=(said.evidence(),),
        remedies=tuple(removals),
        confidence=Confidence.LIKELY,
        breaks=(COMPILE,),
        shows=(COMPILE,),
    )


def _remove(kind: CacheKind, *, windows: bool) -> Run:
    if windows:
        places = {"triton": r"%USERPROFILE%\.triton\cache", "inductor": r"%TEMP%\torchinductor_%USERNAME%"}
        return remove(places.get(kind, r"%LOCALAPPDATA%\torch_extensions"), NAMES[kind], windows=True)
    places = {
        "triton": '"${TRITON_CACHE_DIR:-$HOME/.triton/cache}"',
        "inductor": '"${TORCHINDUCTOR_CACHE_DIR:-/tmp/torchinductor_$USER}"',
        "extensions": '"${TORCH_EXTENSIONS_DIR:-$HOME/.cache/torch_extensions}"',
        "flashinfer": '"$HOME/.cache/flashinfer"',
        "cuda": '"${CUDA_CACHE_PATH:-$HOME/.nv/ComputeCache}"',
    }
    return remove(places[kind], NAMES[kind])


@check.rule
def cache_wiped_in_use(
    gone: tuple[CacheFileGone, ...],
    cleared: tuple[CacheCleared, ...],
    work: tuple[CompilerAtWork, ...],
    used: tuple[CacheAtWork, ...],
) -> Findings:
    """A compile cache was emptied, or its disk taken away, while a program was using it."""
    if not gone:
        return
    path = next((each.path for each in gone if each.path), "")
    if not path and not cleared and not any(each.what == "inductor" for each in work):
        return
    kind = (kind_of(path) if path else None) or (kind_of(cleared[0].path) if cleared else None) or "inductor"
    other = [each for each in (kind_of(each.path) for each in cleared) if each and each != kind]
    private = [elsewhere(each, "a cache for this job alone") for each in dict.fromkeys([kind, *other])]
    if kind == "inductor" and not other:
        private.append(elsewhere("triton", "and Triton's with it"))
    keep = Change(
        title="do not remove a shared cache while programs run: let clean-up wait until they have ended, or delete by age",
        reach=Reach.HOST,
        example=("find <cache> -type f -atime +7 -delete",),
    )
    handle = any("Stale file handle" in each.quote for each in gone)
    confidence = (
        Confidence.CERTAIN if cleared or handle else Confidence.LIKELY if path else Confidence.POSSIBLE
    )
    yield Finding(
        title=f"files of {NAMES[kind]} disappeared while a program was using them",
        evidence=(gone[0].evidence(), *(each.evidence() for each in cleared[:1])),
        remedies=(*private, keep),
        confidence=confidence,
        breaks=(TOOLCHAIN, COMPILE),
        shows=(COMPILE,),
    )


@check.rule
def compute_cache_not_writable(
    caches: CacheDirectories,
    work: tuple[CompilerAtWork, ...],
    packages: Distributions | None,
    gpus: GpuDevices | None,
    build: TorchBuild | None,
) -> Findings:
    """CUDA's own cache of compiled PTX, ~/.nv, cannot be used by this user."""
    use = use_of(work, packages, gpus, build)
    for row in caches.directories:
        if row.kind != "cuda" or row.writable or use is None:
            continue
        foreign = row.exists and row.owner not in (None, caches.uid)
        yield Finding(
            title=f"CUDA's own cache {row.path} {'belongs to another user' if foreign else 'cannot be written'}",
            subject=f"path:{row.path}",
            severity=Severity.WARNING if foreign and gpus is not None and gpus.devices else Severity.NOTE,
            detail="Where PTX must be compiled, it is compiled anew in every process; some libraries do not start at all.",
            evidence=(_seen(caches, row),),
            remedies=compute_cache(cache_root(row.path, "cuda"), foreign=foreign),
            breaks=(KERNEL,),
        )


def compute_cache(path: str, *, foreign: bool) -> tuple[Remedy, ...]:
    """Another place for it, or the old one handed over."""
    moved = elsewhere("cuda", "one that this user may write")
    if not foreign:
        return (moved,)
    gone = remove(
        path,
        "the folder, which root or another user made (sudo, or a container that ran as root)",
        needs_root=True,
    )
    return (hand_over(path), gone, moved)


@compute_cache_not_writable.sign
def _nv_listed(said: NvFolderListed, cublas: tuple[CublasNotInitialized, ...]) -> Findings:
    if not cublas or said.owner != "root" or (len(said.mode) > 8 and said.mode[8] == "w"):
        return
    yield Finding(
        title="~/.nv, CUDA's own cache of compiled kernels, belongs to root, and cuBLAS cannot start",
        detail="The program was once run with sudo and kept the user's home; since then this user cannot use the cache.",
        evidence=(said.evidence(), cublas[0].evidence()),
        remedies=compute_cache("~/.nv", foreign=True),
        confidence=Confidence.LIKELY,
        breaks=(KERNEL,),
        shows=(KERNEL,),
    )


@compute_cache_not_writable.sign
def _nv_refused(said: WriteRefused) -> Findings:
    if kind_of(said.path) != "cuda":
        return
    root = cache_root(said.path, "cuda")
    yield Finding(
        title=f"CUDA's own cache {root} cannot be written",
        subject=f"path:{root}",
        evidence=(said.evidence(),),
        remedies=compute_cache(root, foreign=said.why == "permission"),
        breaks=(KERNEL,),
        shows=(KERNEL,),
    )
