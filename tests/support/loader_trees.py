"""Random trees of libraries and random scripts, see `loader_worlds`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from tests.support.elf_writer import FLAWS, Dynamic
from tests.support.loader_worlds import (
    DEFAULTS,
    LINKED_PROGRAM,
    MULTIARCH,
    NAMES,
    OTHERS,
    PROGRAM,
    RTLD_GLOBAL,
    RTLD_LAZY,
    RTLD_NOW,
    VERSIONS,
    CacheForm,
    Folder,
    Library,
    Link,
    Script,
    Step,
    World,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

CACHE_FORMS: tuple[CacheForm, ...] = ("new", "compat", "old")
"""The last two only where no library lies in a processor's subdirectory: for those ldconfig 2.36 writes wild offsets."""


class Grower:
    """Draws worlds from one source of chance."""

    def __init__(self, chance: Random, supported: Sequence[str], ids: bool = True) -> None:
        self.chance = chance
        self.subfolders = supported
        """Subdirectories that the real loader looks into."""
        self.ids = ids
        """Whether other users and set-user-ID programs can be tried."""
        self.tidy = False
        """In a tidy world most names are found somewhere; in the others most searches end early."""

    def may(self, likelihood: float) -> bool:
        return self.chance.random() < likelihood

    def world(self) -> World:
        may = self.may
        self.tidy = may(0.7)
        libraries = self.libraries()
        paths = [library.path for library in libraries]
        flat = all(os.path.dirname(path) in (*DEFAULTS, *OTHERS) for path in paths)
        uid = self.ids and may(0.2)
        setuid = uid and may(0.5)
        links, folders = self.links(paths), []
        if uid and may(0.5):
            folders.append(
                Folder(path=self.chance.choice(OTHERS[:4]), mode=self.chance.choice([0o700, 0o711, 0]))
            )
        elif may(0.15):
            folders.append(Folder(path=f"{self.folder()}/{self.chance.choice(NAMES)}"))
        needed = [*self.needed(paths, self.chance.randint(0, 3))]
        needed.insert(self.chance.randint(0, len(needed)), "libc.so.6")
        world = World(
            merged=may(0.4),
            libraries=tuple(libraries),
            links=tuple(links),
            folders=tuple(folders),
            program=self.dynamic(None, tuple(needed)),
            setuid=setuid,
            preload_file=self.preload_file(paths) if may(0.08) else None,
            conf=self.conf(),
            cache=self.chance.choices(CACHE_FORMS, [60, 30, 10])[0] if flat else "new",
            makes_links=may(0.3),
        )
        scripts = [self.script(paths, 1000 if uid else 0) for _ in range(self.chance.randint(2, 4))]
        return msgspec.structs.replace(world, scripts=tuple(scripts))

    def folder(self) -> str:
        return self.chance.choice(OTHERS if self.may(0.6) else DEFAULTS)

    def libraries(self) -> list[Library]:
        found: dict[str, Library] = {}
        kept = self.chance.sample(NAMES, self.chance.randint(4, len(NAMES)))
        for name in kept:
            for turn in range(self.chance.choices([1, 2, 3, 4], [4, 4, 2, 1])[0]):
                folder = (
                    self.chance.choice(DEFAULTS)
                    if turn == 0 and self.may(0.9 if self.tidy else 0.2)
                    else self.folder()
                )
                if self.may(0.15):
                    folder += "/" + self.chance.choice(
                        [*self.subfolders, "glibc-hwcaps/x86-64-v4", "haswell", "tls/haswell"]
                    )
                path = f"{folder}/{name}"
                found[path] = self.library(path, name, [*found])
        return list(found.values())

    def library(self, path: str, name: str, others: list[str]) -> Library:
        soname: str | None = name
        if self.may(0.15):
            soname = self.chance.choice([None, self.chance.choice(NAMES), "libodd.so", f"./{name}"])
        count = self.chance.choices([0, 1, 2, 3], [4, 4, 2, 1])[0]
        needed = self.needed(others, count)
        if self.may(0.1):
            needed.insert(self.chance.randint(0, len(needed)), "libc.so.6")
        spoils = 0.3 if self.tidy else 1
        return Library(
            path=path,
            dynamic=self.versioned(self.dynamic(soname, tuple(needed))),
            flaw=self.chance.choice(FLAWS)
            if self.may(0.06 * spoils)
            else "machine"
            if self.may(0.04)
            else None,
            mode=self.chance.choice([0, 0o700, 0o4755]) if self.may(0.08) else 0o755,
            late=self.may(0.08 * spoils),
            gone=self.may(0.08 * spoils),
        )

    def needed(self, paths: list[str], count: int) -> list[str]:
        return [self.name(paths) for _ in range(count)]

    def name(self, paths: list[str]) -> str:
        """What may stand in DT_NEEDED or be given to dlopen."""
        plain = self.chance.choice(NAMES)
        if paths and self.may(0.97 if self.tidy else 0.85):
            plain = os.path.basename(self.chance.choice(paths))
        if self.may(0.93 if self.tidy else 0.8):
            return plain
        shapes = [
            self.chance.choice(paths) if paths else plain,
            f"{self.folder()}/{plain}",
            f"{self.folder()}//{plain}",
            f"$ORIGIN/{plain}",
            f"${{ORIGIN}}/../lib/{plain}",
            f"/usr/$LIB/{plain}",
            f"/$LIB/{plain}",
            f"/opt/a/$PLATFORM/{plain}",
            f"./{plain}",
            f"lib/{plain}",
            f"$ORIGIN{plain}",
            f"$LIB{plain}",
            "libodd.so",
            "libnothere.so.9",
            "libc.so.6",
            f"{MULTIARCH}/libc.so.6",
            "ld-linux-x86-64.so.2",
            "/lib64/ld-linux-x86-64.so.2",
            "",
            self.chance.choice(
                ["/opt/file", f"/opt/file/{plain}", "/app/lib", "/app/lib/", PROGRAM, ".", "/"]
            ),
            f"/opt/l/../b/{plain}",
        ]
        return self.chance.choice(shapes)

    def dynamic(self, soname: str | None, needed: tuple[str, ...]) -> Dynamic:
        kind = self.chance.choices(["", "rpath", "runpath", "both"], [50, 22, 22, 6])[0]
        return Dynamic(
            soname=soname,
            needed=needed,
            rpath=self.path(":") if kind in ("rpath", "both") else None,
            runpath=self.path(":") if kind in ("runpath", "both") else None,
            nodeflib=self.may(0.03),
        )

    def versioned(self, dynamic: Dynamic) -> Dynamic:
        """Sometimes with versions that it defines or wants."""
        plain = [name for name in dynamic.needed if name and "/" not in name and "$" not in name]
        wanted = [(name, self.chance.choice(VERSIONS)) for name in dict.fromkeys(plain) if self.may(0.06)]
        wanted = [(name, f"GLIBC_2.{word[-1]}4" if name == "libc.so.6" else word) for name, word in wanted]
        count = self.chance.choices([0, 1, 3], [85, 5, 10])[0]
        return msgspec.structs.replace(dynamic, defines=VERSIONS[:count], requires=tuple(wanted))

    def path(self, separators: str) -> str:
        """A list of directories in one of the loader's three spellings of it."""
        text = "" if self.may(0.03) else self.element()
        for _ in range(self.chance.choices([0, 1, 2, 3], [4, 3, 2, 1])[0]):
            text += self.chance.choice(separators) + self.element()
        return text

    def element(self) -> str:
        if self.may(0.6):
            return self.folder()
        shapes = [
            "$ORIGIN", "${ORIGIN}", "$ORIGIN/../lib", "${ORIGIN}/c", "/usr/$LIB", "/$LIB", "$LIB", "/opt/a/$PLATFORM",
            "$ORIGINAL/lib", "${ORIGIN/x", "$PLATFORM", "", "", ".", "lib", "./lib/", "..", "/opt/a/lib/", "/opt/b//",
            "/opt/a/../b", "/nowhere", "/opt/file", "/opt/l", "/opt/l/", "/usr/lib/", "/lib/x86_64-linux-gnu/", "/",
            "/opt/a/lib/glibc-hwcaps/x86-64-v2", "$ORIGIN/../../lib", "$ORIGIN/../../usr/$LIB", "/lib/../opt/b",
            "/opt/l/../lib", "/opt/b/.", "/opt//b", "${LIB}x", "$ORIGIN/$LIB/$PLATFORM", "/opt/a/lib:/opt/a/lib",
        ]  # fmt: skip
        return self.chance.choice(shapes)

    def links(self, paths: list[str]) -> list[Link]:
        found = [Link(path="/opt/l", target=self.chance.choice(["a/lib", "b", "../usr/lib"]))]
        for _ in range(self.chance.randint(0, 4)):
            path = f"{self.folder()}/{self.chance.choice(NAMES)}"
            target = self.chance.choice(paths)
            up = "../" * (path.count("/") - 1)
            hard = self.may(0.4)
            found.append(Link(path=path, target=target if hard else up + target[1:], hard=hard))
        if self.may(0.1):
            found.append(Link(path=f"{self.folder()}/{self.chance.choice(NAMES)}", target="missing.so"))
        if self.may(0.1):
            folder = self.chance.choice(OTHERS)
            found.append(Link(path=f"{folder}/libc.so.6", target=f"{MULTIARCH}/libc.so.6", hard=True))
        if self.may(0.05):
            loop = self.chance.choice(NAMES)
            found.append(Link(path=f"{self.folder()}/{loop}", target=loop))
        return found

    def conf(self) -> tuple[str, ...] | None:
        if self.may(0.12):
            return None
        lines = [each for each in (*OTHERS, *DEFAULTS[:2], "/opt/l") if self.may(0.55)]
        self.chance.shuffle(lines)
        return tuple(lines)

    def preload(self, paths: list[str]) -> str:
        names = [self.name(paths) for _ in range(self.chance.randint(1, 2))]
        return self.chance.choice([" ", ":", " : "]).join(names)

    def preload_file(self, paths: list[str]) -> str:
        text = self.preload(paths)
        return self.chance.choice([text, f"# {text}\n{text}\n", f"\t{text} # {text}", f"\n{text}:\n", ""])

    def script(self, paths: list[str], uid: int) -> Script:
        steps = []
        for _ in range(self.chance.randint(2, 6)):
            name = "" if self.may(0.005) else self.name(paths)
            flags = self.chance.choice([RTLD_LAZY, RTLD_NOW, RTLD_LAZY | RTLD_GLOBAL])
            caller = 0 if self.may(0.3) else self.chance.randint(1, 12)
            steps.append(Step(name=name, caller=caller, flags=flags))
        return Script(
            program=LINKED_PROGRAM if self.may(0.1) else PROGRAM,
            library_path=self.path(":;" if self.may(0.5) else ":") if self.may(0.5) else None,
            preload=self.preload(paths) if self.may(0.1) else None,
            cwd="/" if self.may(0.4) else self.chance.choice([*OTHERS[:2], "/app", "/usr"]),
            uid=uid,
            steps=tuple(steps),
        )
