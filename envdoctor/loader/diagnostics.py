"""`LoaderSettings` from what the loader says of itself: ``ld.so --list-diagnostics`` (glibc 2.33 and later)."""

from __future__ import annotations

import re

import msgspec

from envdoctor.loader.settings import LoaderSettings, legacy_subdirectories

HARDWARE_BITS = {"x86_64": {1: "x86_64", 2: "avx512_1"}}
"""Names of the bits of ``dl_hwcap`` that count as subdirectories (sysdeps/x86/dl-hwcap.h, dl-procinfo.c)."""


class Diagnostics(msgspec.Struct, frozen=True):
    """The part of the loader's own account that decides where it searches."""

    libc: tuple[int, int]
    system_dirs: tuple[str, ...]
    hwcaps: tuple[str, ...]
    """The subdirectories of ``glibc-hwcaps`` that are active, the best first."""
    hardware_bits: int
    platform: str | None
    lib: str

    def settings(
        self,
        *,
        machine: str,
        program: str,
        cwd: str,
        library_path: str | None,
        preload: str | None,
        secure: bool = False,
    ) -> LoaderSettings:
        """The settings of a process that runs `program` (links resolved) with these variables."""
        names = HARDWARE_BITS.get(machine, {})
        bits = [name for bit, name in names.items() if self.hardware_bits >> bit & 1]
        return LoaderSettings(
            libc=self.libc,
            machine=machine,
            system_dirs=self.system_dirs,
            hwcaps=self.hwcaps,
            legacy=legacy_subdirectories(bits, self.platform),
            legacy_bits=self.hardware_bits,
            platform=self.platform,
            lib=self.lib,
            library_path=library_path,
            preload=preload,
            secure=secure,
            cwd=cwd,
            program=program,
        )


def parse(text: str) -> Diagnostics | None:
    """What ``--list-diagnostics`` printed; None for a loader that does not know the option, or one of another libc."""
    values = {
        key: value.strip('"')
        for key, value in re.findall(
            r'^([a-z_]+(?:\.[a-z_]+)*(?:\[0x[0-9a-f]+\])?)=(0x[0-9a-f]+|".*")$', text, re.MULTILINE
        )
    }
    release = re.match(r"(\d+)\.(\d+)", values.get("version.version", ""))
    if release is None:
        return None
    folders = [value.rstrip("/") for key, value in values.items() if key.startswith("path.system_dirs[")]
    subdirectories = values.get("dl_hwcaps_subdirs", "").split(":")
    active = int(values.get("dl_hwcaps_subdirs_active", "0"), 16)
    hwcap = int(values.get("dl_hwcap", "0"), 16) & int(values.get("dl_hwcap_important", "0"), 16)
    return Diagnostics(
        libc=(int(release[1]), int(release[2])),
        system_dirs=tuple(folders),
        hwcaps=tuple(name for place, name in enumerate(subdirectories) if name and active >> place & 1),
        hardware_bits=hwcap,
        platform=values.get("dl_platform") or None,
        lib=values.get("dl_dst_lib", "lib"),
    )
