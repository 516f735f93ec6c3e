"""Disks without room, and memory that ran out, on machines and under WSL."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Outcome,
    Platform,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
)
from envdoctor_checks.driver.facts import CudaInit
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.host.check import check
from envdoctor_checks.host.facts import DiskSpace, Inodes, MemoryInfo, Place
from envdoctor_checks.host.reasoning import MEMORY, quoted, sized
from envdoctor_checks.host.symptoms import (
    CudaStartedWithoutMemory,
    MemoryRanOut,
    NoSpace,
    PinnedMemoryFailed,
    ShmExhausted,
)

LEFT = 100 << 20
"""Bytes; of a small file system, a tenth of it."""
FEW_INODES = 100
CLEAN = Run(
    title="see what takes the room, and remove what can be made anew",
    commands=(
        "df -h; df -i",
        "python -m pip cache purge",
        "du -xsh ~/.cache/* ~/.triton /tmp 2>/dev/null | sort -h | tail",
    ),
    reach=Reach.HOST,
    caveat="Caches are filled again: ~/.cache/huggingface holds downloaded models, /tmp/torchinductor_* compiled code.",
    verify="df -h",
)


ROOMY = 20 * LEFT
"""From here on a place is proposed to others' files."""


def _elsewhere(path: str | None, space: DiskSpace | None = None) -> tuple[Remedy, ...]:
    """Variables that move what would have been written, to where there is room if such a place is known."""
    moved: tuple[tuple[str, str], ...] = (("TMPDIR", "temporary files go elsewhere"),)
    if path is not None and ("huggingface" in path or "/hub" in path):
        moved = (("HF_HOME", "models and data sets go elsewhere"),)
    elif path is not None and ("torchinductor" in path or ".triton" in path):
        moved = (
            ("TORCHINDUCTOR_CACHE_DIR", "compiled code goes elsewhere"),
            ("TRITON_CACHE_DIR", "Triton's, too"),
        )
    places = [each for each in space.places if each.free >= ROOMY] if space else []
    roomiest = max(places, key=lambda each: each.free, default=None)
    if roomiest is None:
        return tuple(SetVariable(name, "/path/with/room", why=why) for name, why in moved)
    return tuple(_folder_at(roomiest, name, why) for name, why in moved)


def _folder_at(place: Place, variable: str, why: str) -> Run:
    folder = f"{place.path.rstrip('/')}/{variable.lower()}-$(id -u)"
    return Run(
        title=f"set {variable} to a folder where {sized(place.free)} are free: {why}",
        commands=(f'export {variable}="{folder}"', f'mkdir -p "${variable}"'),
        reach=Reach.SHELL,
        needs_restart="process",
    )


@check.rule
def disk_full(space: DiskSpace) -> Findings:
    """No space, or no inodes, are left where caches, temporary files or checkpoints go."""
    if space.source.kind == "text":
        return
    full = [place for place in space.places if place.free < min(LEFT, place.total // 10)]
    for group in _same_disk(full):
        yield _full(
            group[0],
            space,
            ", ".join(place.purpose for place in group),
            space.shows(f"room at {group[0].path}", f"{sized(group[0].free)} of {sized(group[0].total)}"),
        )


def _same_disk(places: list[Place]) -> list[list[Place]]:
    """Places of one file system show the same figures."""
    groups: dict[tuple[int, int], list[Place]] = {}
    for place in places:
        groups.setdefault((place.total, place.free), []).append(place)
    return list(groups.values())


def _full(
    place: Place, space: DiskSpace | None, purposes: str, evidence: Evidence, *, what: str = "room"
) -> Finding:
    return Finding(
        subject=f"path:{place.path}",
        title=f"there is no {what} left at {place.path} ({purposes})",
        severity=Severity.WARNING,
        detail="Downloads, compiled kernels, temporary files and checkpoints that are written there fail, at times with messages that "
        "do not say why.",
        evidence=(evidence,),
        remedies=(CLEAN, *_elsewhere(place.path, space)),
        breaks=(Outcome("write", place.path),),
    )


@disk_full.sign
def _no_inodes(inodes: Inodes) -> Findings:
    """Many small files may use up the inodes long before the room."""
    if inodes.source.kind == "text":
        return
    for group in _same_disk([place for place in inodes.places if place.free < FEW_INODES]):
        evidence = inodes.shows(f"inodes at {group[0].path}", f"{group[0].free} of {group[0].total}")
        purposes = ", ".join(place.purpose for place in group)
        yield _full(group[0], None, purposes, evidence, what="inode")


@disk_full.sign
def _said_full(
    said: tuple[NoSpace, ...], shm: tuple[ShmExhausted, ...], space: DiskSpace | None, inodes: Inodes | None
) -> Findings:
    """A file could not be written."""
    telling = [each for each in said if each.certain]
    first = next(iter([each for each in telling if each.path] or telling or said), None)
    if first is None or (shm and not any(each.path for each in said)):
        return  # /dev/shm, a file system of its own, says the same words
    place = _holding(space, first.path)
    used_up = _holding(inodes, first.path)
    by_inodes = used_up is not None and used_up.free < FEW_INODES and place is not None and place.free > LEFT
    roomy = not first.quota and not by_inodes and place is not None and place.free > LEFT * 20
    what = "quota" if first.quota else "inode" if by_inodes else "room"
    where = f" for {first.path}" if first.path else ""
    yield Finding(
        subject=f"path:{place.path if place else first.path}" if place or first.path else "",
        title=f"there is no {what} left{where}"
        if first.certain
        else "a checkpoint could not be written whole, as if the disk were full",
        confidence=Confidence.POSSIBLE if roomy else Confidence.CERTAIN if telling else Confidence.LIKELY,
        detail="The disk that this path is on has none left, or the user's quota there has none (quota -s); small files use up inodes "
        "(df -i) before the room.",
        evidence=(*quoted(*(telling or said)[:2]), *_shown(space, place)),
        remedies=(CLEAN, *_elsewhere(first.path, space if space and space.source.kind != "text" else None)),
        breaks=(Outcome("write", first.path or ""),),
        shows=(Outcome("write", first.path or ""),),
        asks=() if place else (Ask("df -h; df -i; quota -s", "which disk is full, and of what"),),
    )


def _holding(listing: DiskSpace | Inodes | None, path: str | None) -> Place | None:
    """The listed mount point that a path is on."""
    if listing is None or path is None:
        return None
    fitting = [place for place in listing.places if f"{path}/".startswith(place.path.rstrip("/") + "/")]
    return max(fitting, key=lambda place: len(place.path), default=None)


def _shown(space: DiskSpace | None, place: Place | None) -> tuple[Evidence, ...]:
    return (
        (space.shows(f"room at {place.path}", f"{sized(place.free)} of {sized(place.total)}"),)
        if space and place
        else ()
    )


WSLCONFIG = Change(
    title=r"give WSL more of the machine's memory: in Windows, in %UserProfile%\.wslconfig, then wsl --shutdown",
    reach=Reach.HOST,
    example=("[wsl2]", "memory=24GB", "swap=32GB"),
    needs_restart="machine",
)


@check.rule
def wsl_memory_limit(
    said: tuple[MemoryRanOut, ...], platform: Platform, memory: MemoryInfo | None
) -> Findings:
    """WSL2's virtual machine has too little memory: by default half of what Windows has."""
    if not platform.wsl or not said:
        return
    sure = any(each.told_by != "shell" for each in said)
    yield Finding(
        title="WSL's virtual machine ran out of memory"
        + (f": it has {sized(memory.total)}" if memory else ""),
        confidence=Confidence.CERTAIN if sure and memory else Confidence.LIKELY,
        detail="WSL2 is a virtual machine that is given half of the machine's memory (older releases: at most 8 GB), whatever Windows "
        "has left. Loading a model needs room for its weights once or twice before they are on the GPU.",
        evidence=(
            *quoted(*said[:2]),
            *((memory.shows("memory of the virtual machine", sized(memory.total)),) if memory else ()),
        ),
        remedies=(WSLCONFIG,),
        breaks=(MEMORY,),
        shows=(MEMORY,),
        asks=() if memory else (Ask("free -h", "how much memory the virtual machine has"),),
    )


@check.rule
def memory_exhausted(
    said: tuple[MemoryRanOut, ...], memory: MemoryInfo | None, platform: Platform | None
) -> Findings:
    """The machine's own memory ran out, and a program was killed or refused."""
    telling = [each for each in said if each.told_by != "shell"]
    if not telling or (platform is not None and platform.wsl):
        return
    killed = any(each.told_by == "kernel" for each in telling)
    live = telling[0].source.kind == "file"
    yield Finding(
        title="the kernel killed a program because the machine's memory ran out"
        if killed
        else "the machine's memory did not suffice",
        severity=Severity.NOTE if live else Severity.ERROR,
        confidence=Confidence.CERTAIN if killed else Confidence.LIKELY,
        detail="It is the host's memory, not the GPU's. Every DataLoader worker is a process with what it has read; a checkpoint is "
        "held whole while it is loaded, once per process.",
        evidence=(
            *quoted(*telling[:2]),
            *(
                (memory.shows("memory", f"{sized(memory.total)}, {sized(memory.available)} available"),)
                if memory
                else ()
            ),
        ),
        remedies=(
            Change(
                title="take less: fewer workers and less prefetching, and load checkpoints mapped instead of whole",
                reach=Reach.SHELL,
                example=(
                    "DataLoader(..., num_workers=2, prefetch_factor=2)",
                    "torch.load(path, map_location='cpu', mmap=True)",
                ),
            ),
            Run(
                title="or add swap for the peaks",
                commands=(
                    "fallocate -l 32G /swapfile",
                    "chmod 600 /swapfile",
                    "mkswap /swapfile",
                    "swapon /swapfile",
                ),
                reach=Reach.HOST,
                needs_root=True,
                caveat="Slow; it helps over a peak, not over a steady need.",
                verify="free -h",
            ),
        ),
        breaks=(MEMORY,) if not live else (),
        shows=(MEMORY,) if not live else (),
    )


@check.rule
def wsl_pinned_limit(said: tuple[PinnedMemoryFailed, ...], platform: Platform) -> Findings:
    """WSL limits page-locked (pinned) memory, and CUDA reports it as out of memory."""
    if platform.wsl and said:
        yield Finding(
            title="CUDA could not pin host memory: WSL allows little of it",
            detail="Under WSL2 the Windows driver decides how much host memory may be page-locked, far less than on Linux, and CUDA says "
            "out of memory although the GPU has room.",
            evidence=quoted(*said[:2]),
            remedies=(
                Change(
                    title="do not pin memory",
                    reach=Reach.SHELL,
                    example=("DataLoader(..., pin_memory=False)",),
                    caveat="Copies to the GPU take somewhat longer.",
                ),
                WSLCONFIG,
            ),
            breaks=(MEMORY,),
            shows=(MEMORY,),
        )


SOME = 3
"""GPUs from which WSL has been seen to fail so."""


@check.rule
def wsl_too_many_gpus(init: CudaInit, platform: Platform, devices: GpuDevices | None) -> Findings:
    """CUDA under WSL2 cannot be initialised with this many GPUs."""
    count = len(devices.devices) if devices else 0
    if platform.wsl and init.code == 2 and count != 1:
        yield _too_many(count, (init.shows("cuInit", f"{init.code} {init.name}"),), devices)


@wsl_too_many_gpus.sign
def _said(said: CudaStartedWithoutMemory, platform: Platform, devices: GpuDevices | None) -> Findings:
    """CUDA's first call answers out of memory."""
    count = len(devices.devices) if devices else 0
    if platform.wsl and count != 1:
        yield _too_many(count, quoted(said), devices)


def _too_many(count: int, evidence: tuple[Evidence, ...], devices: GpuDevices | None) -> Finding:
    return Finding(
        title=f"CUDA cannot be initialised under WSL with {count} GPUs"
        if count
        else "CUDA cannot be initialised under WSL: out of memory",
        confidence=Confidence.CERTAIN
        if count > SOME
        else Confidence.LIKELY
        if count == SOME
        else Confidence.POSSIBLE,
        detail="Every GPU takes address space and memory of the virtual machine when CUDA starts. With three or four large GPUs and more "
        "the first call fails with out of memory, before a program has allocated anything.",
        evidence=(*evidence, *((devices.shows("GPUs", count),) if devices else ())),
        remedies=(
            SetVariable("CUDA_VISIBLE_DEVICES", "0,1", why="CUDA starts with fewer GPUs"),
            WSLCONFIG,
            Change(title="or run it on Linux itself, which has no such limit", reach=Reach.HOST),
        ),
        breaks=(Outcome("cuda-available"),),
        shows=(Outcome("cuda-available"),),
        asks=() if count else (Ask("nvidia-smi -L", "how many GPUs there are"),),
    )
