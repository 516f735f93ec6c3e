"""Which compile cache a path lies in, by its shape; and which variable moves that cache."""

from __future__ import annotations

import re

from envdoctor_checks.kernel.facts import CacheKind

SHAPES: tuple[tuple[CacheKind, str], ...] = (
    (
        "triton",
        r"[/\\]\.triton(?:[/\\]|$)|[/\\]triton[/\\](?:cache|\d+)(?:[/\\]|$)|[/\\]triton[_-]cache|(?:^|[/\\])[A-Z2-7]{52}(?:[/\\]|$)|/tmp\.pid_\d+",
    ),
    (
        "inductor",
        r"torchinductor|torch_inductor|[/\\]inductor(?:[_-]?cache)?(?:[/\\]|$)|[/\\]torch[_-]?compile[_-]?cache|[/\\]aotautograd[/\\]|[/\\]fxgraph[/\\]",
    ),
    ("extensions", r"torch_extensions"),
    ("flashinfer", r"[/\\]flashinfer(?:[/\\]|$)"),
    ("cuda", r"[/\\]\.nv(?:[/\\]|$)|[/\\]ComputeCache(?:[/\\]|$)"),
    ("triton", r"cache[\w.-]*[/\\](?:[^/\\]+[/\\])*triton(?:[/\\]|$)"),
)
"""In order: a folder of Triton's below Inductor's is moved by either variable, and is Triton's."""

VARIABLES: dict[CacheKind, str] = {
    "inductor": "TORCHINDUCTOR_CACHE_DIR",
    "triton": "TRITON_CACHE_DIR",
    "extensions": "TORCH_EXTENSIONS_DIR",
    "flashinfer": "FLASHINFER_WORKSPACE_BASE",
    "cuda": "CUDA_CACHE_PATH",
}
"""What moves each of them."""

NAMES: dict[CacheKind, str] = {
    "inductor": "Inductor's cache",
    "triton": "Triton's cache",
    "extensions": "the folder in which torch builds extensions",
    "flashinfer": "FlashInfer's cache",
    "cuda": "CUDA's own cache of compiled PTX",
}
INSTALLED = re.compile(r"(?:site|dist)-packages[/\\]")


def kind_of(path: str) -> CacheKind | None:
    """The cache that a path is, or lies in; None where its shape does not tell."""
    if INSTALLED.search(path):
        return None
    return next((kind for kind, shape in SHAPES if re.search(shape, path)), None)


def is_cached(path: str) -> bool:
    """Whether a path lies in a compile cache."""
    return kind_of(path.strip("'\"")) is not None


def cache_root(path: str, kind: CacheKind) -> str:
    """The cache's own folder: what to remove, move or hand over as a whole."""
    parts = re.split(r"(?<=[^/\\])[/\\]", path)
    roots = {
        "inductor": r"torchinductor|torch_inductor|^inductor|compile[_-]?cache",
        "triton": r"^\.triton$|triton",
        "extensions": r"^torch_extensions$",
        "flashinfer": r"^flashinfer$",
        "cuda": r"^\.nv$",
    }
    for index, part in enumerate(parts):
        if re.search(roots[kind], part):
            separator = "\\" if "\\" in path else "/"
            return separator.join(parts[: index + 1])
    return path
