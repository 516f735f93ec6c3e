"""A machine under construction: files in a folder, what only an overlay can hold, and what its programs answer."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from envdoctor.filesystem import Kind
from envdoctor.host import Host
from envdoctor.tree import HostFile, PathEntry, Process, SpaceEntry, TreeOverlay
from tests.support.elf_writer import Dynamic, write_library
from tests.support.fake_driver import FakeDriver
from tests.support.machine_children import Answers

GIB = 1 << 30
MACHINES = {"x86_64": 62, "aarch64": 183}
"""e_machine of an ELF header."""
LOADERS = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}
"""The loader that an executable names."""
CACHE_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}
WHEEL_RPATH = ":".join(
    f"$ORIGIN/../../nvidia/{name}/lib"
    for name in (
        "cublas", "cuda_cupti", "cuda_nvrtc", "cuda_runtime", "cudnn", "cufft", "curand", "cusolver", "cusparse",
        "cusparselt", "cufile", "nccl", "nvshmem", "nvjitlink", "nvtx", "cu13",
    )
)  # fmt: skip


class Parts(msgspec.Struct, frozen=True):
    """What every machine is put together from, built once."""

    folder: Path
    driver: FakeDriver

    def library(self, machine: str, dynamic: Dynamic) -> bytes:
        """A real shared object."""
        return _for(machine, write_library(dynamic))

    def program(self, machine: str) -> bytes:
        """A real executable that needs the C library."""
        path = self.folder / f"program-{machine}"
        if not path.exists():
            needs = ["-Wl,--no-as-needed", "-l:libc.so.6", f"-Wl,-dynamic-linker,{LOADERS[machine]}"]
            command = [
                "gcc",
                "-nostdlib",
                "-pie",
                "-s",
                "-o",
                str(path),
                "-x",
                "c",
                "-",
                "-x",
                "none",
                *needs,
            ]
            subprocess.run(command, input=b"void _start(void) { for (;;); }", check=True)
        return _for(machine, path.read_bytes())


def _for(machine: str, code: bytes) -> bytes:
    return code[:18] + struct.pack("<H", MACHINES[machine]) + code[20:]


class Tree:
    """A machine that probes can look at: `host` gives it to them."""

    def __init__(self, root: Path, parts: Parts, *, machine: str = "x86_64") -> None:
        self.root, self.parts, self.machine = root, parts, machine
        self.environ: dict[str, str] = {}
        self.answers = Answers(parts.driver)
        self.process = Process(machine=machine)
        self._paths: dict[str, PathEntry] = {}
        self._space: dict[str, SpaceEntry] = {}
        self._cached: list[tuple[str, str]] = []
        root.mkdir(parents=True)

    @property
    def triple(self) -> str:
        """Debian's folder of libraries for this processor."""
        return f"{self.machine}-linux-gnu"

    def runs_as(self, uid: int, gid: int, groups: tuple[int, ...] = (), cwd: str = "/") -> None:
        """Who looks, and from where."""
        self.process = msgspec.structs.replace(self.process, uid=uid, gid=gid, groups=groups, cwd=cwd)

    def file(self, path: str, content: str | bytes = b"", **state: Any) -> None:
        """A file with its content; of root and 0644 unless `state` (fields of `PathEntry`) says otherwise."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        if state:
            self._paths[path] = PathEntry(**state)

    def more(self, path: str, text: str) -> None:
        """Text at the end of a file, which need not be there yet."""
        place = self.root / path.lstrip("/")
        self.file(path, (place.read_text() if place.exists() else "") + text)

    def program(self, path: str, says: str | None = None) -> None:
        """An executable, and what it prints when it is asked for its version."""
        self.file(path, b"\x7fELF a program", mode="0755")
        if says is not None:
            self.answers.versions[path] = says

    def folder(self, path: str, uid: int = 0, gid: int = 0, mode: str = "0755") -> None:
        """A directory and whose it is."""
        self.entry(path, kind="directory", uid=uid, gid=gid, mode=mode)

    def entry(self, path: str, **state: Any) -> None:
        """What the overlay says of a path, by fields of `PathEntry`."""
        self._paths[path] = PathEntry(**state)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self.entry(path, kind="link", link=target)

    def node(self, path: str, major: int, minor: int, mode: str = "0666", **state: Any) -> None:
        """A character device."""
        kind: Kind = "char"
        self._paths[path] = PathEntry(kind=kind, device=(major, minor), mode=mode, **state)

    def remove(self, path: str) -> None:
        """Take away what was put there."""
        self._paths.pop(path, None)
        place = self.root / path.lstrip("/")
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)

    def disk(self, path: str, total: int, free: int, **state: Any) -> None:
        """A mounted file system and its space."""
        self._space[path] = SpaceEntry(total=total, free=free, **state)

    def interpreter(self, path: str) -> None:
        """A Python: an executable whose loader is the C library's."""
        self.file(path, self.parts.program(self.machine), mode="0755")

    def library(
        self, path: str, *, of_torch: bool = False, needed: tuple[str, ...] = (), more: bytes = b""
    ) -> int:
        """A shared object of this machine's processor; torch's own carry DT_RPATH to the wheels. Returns its size."""
        rpath = f"{WHEEL_RPATH}:$ORIGIN" if of_torch else None
        dynamic = Dynamic(soname=path.rpartition("/")[2], needed=needed, rpath=rpath)
        content = self.parts.library(self.machine, dynamic) + more
        self.file(path, content)
        return len(content)

    def cached(self, *paths: str) -> None:
        """Libraries that ldconfig has found."""
        self._cached += [(path.rpartition("/")[2], path) for path in paths]

    def host(self) -> Host:
        """The finished machine."""
        if self._cached:
            self.file("/etc/ld.so.cache", loader_cache(self._cached, CACHE_FLAGS[self.machine]))
        who = self.process
        host = Host(
            root=str(self.root),
            environ=self.environ,
            uid=who.uid,
            gid=who.gid,
            groups=who.groups,
            machine=self.machine,
            run=self.answers.run,
            clock=lambda: who.time,
            overlay=TreeOverlay(str(self.root), HostFile(process=who, paths=self._paths, space=self._space)),
            cwd=who.cwd,
        )
        self.answers.host = host
        return host


def loader_cache(entries: list[tuple[str, str]], flags: int) -> bytes:
    """``/etc/ld.so.cache`` as ldconfig writes it since glibc 2.32: names descending, little-endian."""
    ordered = sorted(entries, reverse=True)
    strings, offsets = b"", []
    start = 48 + 24 * len(ordered)
    for name, path in ordered:
        offsets.append((start + len(strings), start + len(strings) + len(name) + 1))
        strings += name.encode() + b"\0" + path.encode() + b"\0"
    header = b"glibc-ld.so.cache1.1" + struct.pack("<II", len(ordered), len(strings)) + bytes([2]) + bytes(19)
    rows = b"".join(struct.pack("<iIIIQ", flags, key, value, 0, 0) for key, value in offsets)
    return header + rows + strings
