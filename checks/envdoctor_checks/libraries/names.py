"""Which libraries are watched, and how a file's name says which one it is."""

from __future__ import annotations

import re

STEMS = (
    "libcudart", "libcublas", "libcublasLt", "libcudnn", "libcufft", "libcurand", "libcusparse", "libcusparseLt",
    "libcusolver", "libnvrtc", "libnvrtc-builtins", "libnvJitLink", "libnccl", "libnvshmem_host", "libcupti",
    "libcufile", "libcuda", "libnvidia-ml", "libstdc++", "libgomp", "libmkl_core", "libiomp5",
)  # fmt: skip
"""The CUDA family as torch uses it, the driver's two, and the compiler runtimes that are most often too old."""

STEM = re.compile(r"(lib[\w+-]+?)(?:-[0-9a-f]{8})?\.so(?:\.[\d.]+)?$")
"""A library's stem; auditwheel's hash (``libcudart-9335f6a2.so.12``) is not part of it."""


def stem_of(name: str) -> str | None:
    """``/x/libcudnn_ops.so.9.1.0`` -> ``libcudnn_ops``; None for what is no library's name."""
    found = STEM.search(name.rsplit("/", 1)[-1])
    return found.group(1) if found else None


def is_watched(name: str) -> bool:
    """Whether a file is one of the watched libraries (cuDNN's parts included)."""
    stem = stem_of(name)
    return stem is not None and (stem in STEMS or stem.startswith("libcudnn_"))


def family_of(stem: str) -> str:
    """Libraries that must come from one install: ``libcudnn_ops`` -> ``libcudnn``, ``libcublasLt`` -> ``libcublas``."""
    if stem.startswith("libcudnn"):
        return "libcudnn"
    return {"libcublasLt": "libcublas", "libnvrtc-builtins": "libnvrtc"}.get(stem, stem)


def soname_major(name: str) -> str | None:
    """``libcudart.so.12`` -> ``12``; None without a version."""
    found = re.search(r"\.so\.(\d+)", name)
    return found.group(1) if found else None
