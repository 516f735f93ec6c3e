"""Trees of libraries, each a root directory of its own, and scripts of what is loaded in them.

A `World` is plain data: it can be written to disk, printed, and shrunk by leaving out parts.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Literal

import msgspec

from tests.support.elf_writer import Dynamic, Flaw, retag, write_library

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CacheForm = Literal["new", "compat", "old"]
"""ldconfig -c."""
MULTIARCH = "/lib/x86_64-linux-gnu"
DEFAULTS = (MULTIARCH, f"/usr{MULTIARCH}", "/lib", "/usr/lib")
OTHERS = ("/opt/a/lib", "/opt/b", "/opt/b/c", "/srv/d", "/app/lib", "/app/bin")
VERSIONS = ("V_1", "V_2", "V_3")
NAMES = tuple(f"lib{letter}.so.1" for letter in "abcdefghij")
PROGRAM = "/app/bin/program"
LINKED_PROGRAM = "/app/program"
"""A link to it: what $ORIGIN stands for must not follow the name."""
RTLD_LAZY, RTLD_NOW, RTLD_GLOBAL = 1, 2, 0x100


class Frozen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Left at its default, a field is not printed: a shrunk world is short to read."""


class Library(Frozen, frozen=True):
    """A file that `elf_writer` writes."""

    path: str
    dynamic: Dynamic = Dynamic()
    flaw: Flaw | None = None
    mode: int = 0o755
    late: bool = False
    """Written after ldconfig ran."""
    gone: bool = False
    """Removed after ldconfig ran."""


class Link(Frozen, frozen=True):
    """A symbolic link, or with `hard` another name of a file."""

    path: str
    target: str
    hard: bool = False


class Folder(Frozen, frozen=True):
    """An empty directory, or one whose mode matters."""

    path: str
    mode: int = 0o755


class Step(Frozen, frozen=True):
    """One dlopen. `caller` counts the generated libraries in the link map, modulo their number; 0: the program."""

    name: str
    caller: int = 0
    flags: int = RTLD_LAZY


class Script(Frozen, frozen=True):
    """One run of the program."""

    program: str = PROGRAM
    library_path: str | None = None
    preload: str | None = None
    cwd: str = "/"
    uid: int = 0
    steps: tuple[Step, ...] = ()


class World(Frozen, frozen=True):
    """A tree, its program and what is run in it."""

    merged: bool = False
    """/lib and /lib64 are links into /usr."""
    libraries: tuple[Library, ...] = ()
    links: tuple[Link, ...] = ()
    folders: tuple[Folder, ...] = ()
    program: Dynamic = Dynamic(needed=("libc.so.6",))
    setuid: bool = False
    preload_file: str | None = None
    conf: tuple[str, ...] | None = ()
    """Lines of /etc/ld.so.conf; None: no cache is made."""
    cache: CacheForm = "new"
    makes_links: bool = False
    """Whether ldconfig makes its SONAME links."""
    scripts: tuple[Script, ...] = (Script(),)


def inside(root: Path, path: str) -> str:
    """The place on this machine of a path of the tree. Links on the way must be relative."""
    return os.path.join(root, path.lstrip("/"))


def plant(world: World, root: Path, parts: Path, prefix: Sequence[str] = ()) -> None:
    """Write the tree at `root`. `parts` holds this machine's loader and C library, and the oracle program."""
    for folder in ("usr/lib", "usr/lib64", "proc", "etc", *(each[1:] for each in OTHERS)):
        os.makedirs(root / folder)
    for name in ("lib", "lib64"):
        if world.merged:
            os.symlink(f"usr/{name}", root / name)
        else:
            os.mkdir(root / name)
    for default in DEFAULTS:
        os.makedirs(inside(root, default), exist_ok=True)
    for name in ("libc.so.6", "ld-linux-x86-64.so.2"):
        os.link(parts / name, inside(root, f"{MULTIARCH}/{name}"))
    os.symlink(f"..{MULTIARCH}/ld-linux-x86-64.so.2", inside(root, "/lib64/ld-linux-x86-64.so.2"))
    (root / "opt/file").write_text("not a directory")
    for library in world.libraries:
        if not library.late:
            _write(root, library)
    for link in world.links:
        _link(root, link)
    _program(world, root, parts)
    if world.preload_file is not None:
        (root / "etc/ld.so.preload").write_text(world.preload_file)
    _cache(world, root, prefix)
    for library in world.libraries:
        if library.late:
            _write(root, library)
        elif library.gone and os.path.isfile(inside(root, library.path)):
            os.unlink(inside(root, library.path))
    for folder_ in world.folders:
        path = inside(root, folder_.path)
        if not os.path.lexists(path):
            os.makedirs(path)
        if os.path.isdir(path):
            os.chmod(path, folder_.mode)


def _write(root: Path, library: Library) -> None:
    path = inside(root, library.path)
    if os.path.lexists(path):
        return
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        return  # the world also has a file of this name
    with open(path, "wb") as file:
        file.write(write_library(library.dynamic, library.flaw))
    os.chmod(path, library.mode)


def _link(root: Path, link: Link) -> None:
    path = inside(root, link.path)
    if os.path.lexists(path):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not link.hard:
        os.symlink(link.target, path)
    elif os.path.isfile(inside(root, link.target)):
        os.link(inside(root, link.target), path)


def _program(world: World, root: Path, parts: Path) -> None:
    path = inside(root, PROGRAM)
    with open(path, "wb") as file:
        file.write(retag((parts / "oracle").read_bytes(), world.program))
    os.chmod(path, 0o4755 if world.setuid else 0o755)
    os.symlink("bin/program", inside(root, LINKED_PROGRAM))


def _cache(world: World, root: Path, prefix: Sequence[str]) -> None:
    if world.conf is None:
        return
    (root / "etc/ld.so.conf").write_text("\n".join([*world.conf, ""]))
    command = [*prefix, "ldconfig", "-r", str(root), "-c", world.cache]
    command += [] if world.makes_links else ["-X"]
    made = subprocess.run(command, capture_output=True, timeout=60)
    if made.returncode > 0:  # below 0: an assertion, that -c compat fails for some trees; they have no cache
        raise RuntimeError(f"{command}: {made.stderr!r}")
