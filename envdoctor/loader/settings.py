"""What the loader of one process goes by, beside the files: directories, variables, and what the processor can do."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

NEWEST_WITH_LEGACY = (2, 36)
"""The last release of glibc that searches ``tls/``, ``haswell/`` and their like (NEWS of 2.37)."""
OLDEST_WITH_HWCAPS = (2, 33)
"""The first that searches ``glibc-hwcaps/`` (NEWS of 2.33)."""


class LoaderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One process's loader. Names and orders are those of ``ld.so --list-diagnostics``."""

    libc: tuple[int, int]
    """glibc's release, ``(2, 36)``."""
    machine: str
    """As `Elf.machine` names it: ``x86_64``."""
    elf_class: int = 64
    system_dirs: tuple[str, ...]
    """The default directories in order, without a final slash."""
    hwcaps: tuple[str, ...] = ()
    """Subdirectories of ``glibc-hwcaps`` that this processor can use, the best first."""
    legacy: tuple[str, ...] = ()
    """Subdirectories of the old kind in the order tried; none from glibc 2.37 on."""
    legacy_bits: int = 0
    """Hardware bits of old cache lines that suit this processor (``dl_hwcap & dl_hwcap_important``)."""
    platform: str | None = None
    """What ``$PLATFORM`` stands for."""
    lib: str = "lib"
    """What ``$LIB`` stands for: ``lib/x86_64-linux-gnu``."""
    library_path: str | None = None
    """LD_LIBRARY_PATH as the process got it."""
    preload: str | None = None
    """LD_PRELOAD."""
    secure: bool = False
    """AT_SECURE: LD_LIBRARY_PATH and most of LD_PRELOAD are ignored."""
    cwd: str = "/"
    program: str
    """The executable, links resolved, as /proc/self/exe has it."""

    @property
    def subdirectories(self) -> tuple[str, ...]:
        """What is tried in every directory before the directory itself, which is the last, empty one."""
        named = (
            tuple(f"glibc-hwcaps/{each}" for each in self.hwcaps) if self.libc >= OLDEST_WITH_HWCAPS else ()
        )
        old = self.legacy if self.libc <= NEWEST_WITH_LEGACY else ()
        return (*named, *old, "")


def legacy_subdirectories(bits: Iterable[str], platform: str | None) -> tuple[str, ...]:
    """Every combination of ``tls``, the platform and the names of hardware bits, as glibc up to 2.36 orders them.

    `bits` ascend (``x86_64``, ``avx512_1``). Source: ``_dl_important_hwcaps`` in elf/dl-hwcaps.c.
    """
    parts = [*bits, *([platform] if platform else []), "tls"]
    names = (
        "/".join(part for place, part in reversed(list(enumerate(parts))) if chosen >> place & 1)
        for chosen in range((1 << len(parts)) - 1, 0, -1)
    )
    return tuple(dict.fromkeys(names))
