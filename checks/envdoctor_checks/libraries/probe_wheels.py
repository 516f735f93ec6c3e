"""What NVIDIA's wheels brought, by their own RECORDs, whether it is still there, and where it looks for its needs."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from envdoctor.api import CouldNotLook, Host, Platform, Source, TargetPaths, Tier
from envdoctor.probing.elf import Elf, read_elf
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.facts import RunPath, RunPaths, WheelFile, WheelFiles
from envdoctor_checks.libraries.names import is_cuda, is_watched
from envdoctor_checks.libraries.probe import problem_of
from envdoctor_checks.python.facts import Distribution, Distributions

RECORD_LIMIT = 8 << 20
WITHOUT_LIBRARIES = ("nvidia-cuda-cccl", "nvidia-cuda-crt", "nvidia-ml-py", "nvidia-cudnn-frontend")
"""Large lists of headers, and wheels without a library of CUDA's."""
TORCH = (
    "libtorch_global_deps.so",
    "libtorch_cuda.so",
    "libtorch_cpu.so",
    "libc10_cuda.so",
    "libtorch_python.so",
)


@check.probe(tier=Tier.QUICK)
def wheel_files(host: Host, distributions: Distributions, platform: Platform) -> WheelFiles:
    """Compare the libraries that RECORD lists with what is there, by size."""
    found = [
        file
        for one in distributions.distributions
        if one.name.startswith("nvidia-") and one.location and not one.name.startswith(WITHOUT_LIBRARIES)
        for file in _files(host, one, platform.machine)
    ]
    return WheelFiles(files=tuple(found), source=Source("file", "RECORD"))


def _files(host: Host, one: Distribution, machine: str) -> Iterator[WheelFile]:
    for line in _record(host, one).splitlines():
        if b".so" not in line:
            continue
        path, _, rest = line.rpartition(b",sha256=")
        name = path.decode("utf-8", "replace").strip('"')
        size = rest.rpartition(b",")[2]
        if is_watched(name) and size.isdigit():
            yield _compared(host, one, f"{one.location}/{name}", int(size), machine)


def _record(host: Host, one: Distribution) -> bytes:
    """The wheel's RECORD; nothing where an installer left none, as distributions of Linux do."""
    for name in (one.name.replace("-", "_"), one.name):
        try:
            return host.read(f"{one.location}/{name}-{one.version}.dist-info/RECORD", RECORD_LIMIT)
        except OSError:
            continue
    return b""


def _compared(host: Host, one: Distribution, path: str, recorded: int, machine: str) -> WheelFile:
    whole = WheelFile(path, one.name, one.version)
    try:
        status = host.status(path)
    except CouldNotLook:
        return whole  # not ours to see: nothing is known against it
    if status is None:
        return WheelFile(path, one.name, one.version, "missing", recorded=recorded)
    if status.size >= recorded:
        return whole
    problem = problem_of(host, path, machine)
    if problem is None and _cut(host, path):
        problem = "too-short"
    if problem is None:
        return whole  # stripped, or another wheel's file of the same name
    kind = "truncated" if problem == "too-short" else problem
    return WheelFile(path, one.name, one.version, kind, status.size, recorded)


def _cut(host: Host, path: str) -> bool:
    """Whether a file ends before its section headers do, which linkers write last."""
    try:
        with host.opened(path) as (read_at, size):
            head = read_at(0, 64)
            if len(head) < 64 or head[4] != 2:
                return len(head) < 64
            mark = ">" if head[5] == 2 else "<"
            (offset,) = struct.unpack_from(mark + "Q", head, 0x28)
            width, count = struct.unpack_from(mark + "HH", head, 0x3A)
            return bool(offset + width * count > size)
    except OSError:
        return False


@check.probe(tier=Tier.DEFAULT)
def run_paths(host: Host, wheels: WheelFiles, paths: TargetPaths) -> RunPaths:
    """Read the run paths of torch's own libraries and of the CUDA libraries beside it."""
    torch = (f"{site}/torch/lib/{name}" for site in paths.site_packages for name in TORCH)
    files = [each.path for each in wheels.files if each.problem is None and is_cuda(each.path)]
    found = [one for path in (*torch, *dict.fromkeys(files)) if (one := _run_path(host, path))]
    return RunPaths(libraries=tuple(found), source=Source("file", "DT_RPATH, DT_RUNPATH"))


def _run_path(host: Host, path: str) -> RunPath | None:
    try:
        with host.opened(path) as (read_at, size):
            elf = read_elf(read_at, size)
    except OSError:
        return None
    return RunPath(path, elf.rpath, elf.runpath) if isinstance(elf, Elf) else None
