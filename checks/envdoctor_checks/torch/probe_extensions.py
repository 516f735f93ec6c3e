"""What the compiled extensions in the target environment ask of torch and of CUDA, from their ELF tables."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import structs

from envdoctor.api import CouldNotLook, Host, Source, TargetPaths, Tier
from envdoctor.probing.elf import Elf, defines_symbol, read_elf
from envdoctor.probing.elfimage import (
    DT_GNU_HASH,
    DT_SYMTAB,
    BadElfError,
    Image,
    ReadAt,
    Source as Bytes,
)
from envdoctor_checks.python.facts import Distribution, Distributions
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import CompiledExtension, CompiledExtensions, TorchBuild
from envdoctor_checks.torch.tables import Extension, extensions

CUDA_LIBRARY = r"lib(?:cudart|cublas|cublasLt|cudnn\w*|nvrtc|cufft|curand|cusparse|cusolver|nccl|nvJitLink|nvToolsExt)\.so(?:\.\d+)+"
TORCH_SYMBOL = r"_ZNK?(?:2at|3c10|5torch|6caffe2)|_ZT[IVS]N(?:2at|3c10|5torch)|_Z\d+THP|THP"
TORCH_LIBRARY = r"lib(?:c10|torch)\w*\.so"
FIRST = ("libc10.so", "libtorch_cpu.so", "libtorch_python.so")
"""Where most symbols are found."""
SYMBOL_LIMIT = 8 << 20
"""Bytes that reading one file's undefined symbols may cost."""
MAX_FILES = 60
SHOWN = 8
"""Missing symbols that are kept: one is enough to prove it."""


@check.probe(tier=Tier.DEFAULT, deadline=10.0)
def compiled_extensions(
    host: Host, paths: TargetPaths, packages: Distributions, build: TorchBuild
) -> CompiledExtensions:
    """The files of every installed package that the table of extensions knows."""
    torch = _Torch(host, build.path)
    found: list[CompiledExtension] = []
    for row in extensions().extensions:
        for owner in packages.named(row.distribution)[:1]:
            files = tuple(_files(host, owner.location, row))
            looked_at = (_examined(host, path, owner, row, torch) for path in files[: MAX_FILES - len(found)])
            found += [_without_siblings(host, one, files) for one in looked_at if one is not None]
    source = packages.source if paths.site_packages else Source("file", paths.prefix)
    return CompiledExtensions(extensions=tuple(found), source=source)


class _Torch:
    """Which symbols the installed torch defines, each looked up once."""

    def __init__(self, host: Host, path: str | None) -> None:
        self._host = host
        folder = f"{path}/lib" if path else None
        names = [
            name for name in (_names(host, folder) if folder else ()) if re.fullmatch(TORCH_LIBRARY, name)
        ]
        names.sort(key=lambda name: name not in FIRST)
        self._libraries = [f"{folder}/{name}" for name in names]
        self._known: dict[str, bool] = {}
        self.there = bool(self._libraries)

    def lacks(self, symbol: str) -> bool:
        """Whether none of torch's libraries defines it. A library that cannot be read might, so it counts as having it."""
        if symbol not in self._known:
            self._known[symbol] = any(may_define(self._host, path, symbol) for path in self._libraries)
        return not self._known[symbol]


def may_define(host: Host, path: str, symbol: str) -> bool:
    """Whether a library defines a symbol, or cannot be asked."""
    try:
        with host.opened(path) as (read_at, size):
            return defines_symbol(read_at, size, symbol) is not False
    except OSError:
        return True


def _names(host: Host, folder: str) -> tuple[str, ...]:
    try:
        return host.names(folder) or ()
    except CouldNotLook:
        return ()


def _files(host: Host, location: str, row: Extension) -> Iterator[str]:
    """The files that the row's patterns name below site-packages, each once."""
    found: dict[str, None] = {}
    for pattern in row.compiled:
        found.update(dict.fromkeys(_matching(host, location, pattern.split("/"))))
    return iter(found)


def _matching(host: Host, folder: str, parts: list[str], depth: int = 0) -> Iterator[str]:
    head, *rest = parts
    if head == "**":
        yield from _matching(host, folder, rest, depth)
        if depth < 4:
            for name in _names(host, folder):
                if "." not in name and name != "__pycache__":
                    yield from _matching(host, f"{folder}/{name}", parts, depth + 1)
        return
    from fnmatch import fnmatchcase  # here: only where such a package is installed

    for name in _names(host, folder) if "*" in head else (head,):
        if fnmatchcase(name, head):
            if rest:
                yield from _matching(host, f"{folder}/{name}", rest, depth)
            elif host.status(f"{folder}/{name}") is not None:
                yield f"{folder}/{name}"


def _examined(
    host: Host, path: str, owner: Distribution, row: Extension, torch: _Torch
) -> CompiledExtension | None:
    try:
        with host.opened(path) as (read_at, size):
            elf = read_elf(read_at, size)
            wanted = undefined_symbols(read_at, size) if row.built_for in ("torch", "torch-stable") else ()
    except OSError:
        return None
    if not isinstance(elf, Elf):
        return None  # a broken file is the matter of the libraries check
    missing = None
    if wanted is not None and torch.there:
        missing = tuple(name for name in wanted if re.match(TORCH_SYMBOL, name) and torch.lacks(name))[:SHOWN]
    return CompiledExtension(
        distribution=owner.name,
        version=owner.version,
        file=path,
        needed=tuple(each for each in elf.needed if re.fullmatch(CUDA_LIBRARY, each)),
        missing=missing,
    )


def _without_siblings(host: Host, one: CompiledExtension, files: tuple[str, ...]) -> CompiledExtension:
    """Take out what another file of the same package defines."""
    if not one.missing:
        return one
    others = [path for path in files if path != one.file]
    missing = tuple(name for name in one.missing if not any(may_define(host, path, name) for path in others))
    return structs.replace(one, missing=missing)


def undefined_symbols(read_at: ReadAt, size: int) -> tuple[str, ...] | None:
    """The names that a shared object leaves to others; None where it cannot be read, or says not how many it has."""
    try:
        return _Undefined(Bytes(read_at, size, SYMBOL_LIMIT)).names()
    except BadElfError:
        return None


class _Undefined(Image):
    """The symbols before the first one in the GNU hash are those that the file does not define."""

    def names(self) -> tuple[str, ...] | None:
        """Those with global binding: a weak one may stay undefined."""
        if DT_GNU_HASH not in self.tags or DT_SYMTAB not in self.tags:
            return None
        first = self.word(self.table(DT_GNU_HASH) + 4)
        if first <= 1:
            return None
        entry, table = self.layout.symbol, self.table(DT_SYMTAB)
        block = self.source.take(table + entry.size, (first - 1) * entry.size)
        offsets = [
            name
            for name, info, section in entry.iter_unpack(block)
            if not section and info >> 4 == 1 and name
        ]
        texts = self.strings(offsets)
        return tuple(texts[offset] for offset in offsets)
