"""Which distributions own the same files, from the table of wheels and a short list of others."""

from __future__ import annotations

from typing import ClassVar

from envdoctor.api import Fact, Source
from envdoctor_checks.libraries.tables import wheel_libraries
from envdoctor_checks.python.check import check

MODULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("cupy", ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x", "cupy-cuda110", "cupy-cuda111", "cupy-cuda112")),
    ("onnxruntime", ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")),
    ("triton", ("triton", "pytorch-triton", "triton-nightly", "triton-windows")),
    ("cv2", ("opencv-python", "opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless")),
    ("faiss", ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12")),
)  # fmt: skip
"""Modules that several distributions bring under one name."""


class SharedFiles(Fact, frozen=True, kw_only=True):
    """Groups of distributions that must not be installed together, by what they share."""

    fact_name: ClassVar[str] = "python.shared-files"
    source: Source = Source("table", "libraries/wheels")
    groups: tuple[tuple[str, tuple[str, ...]], ...]


@check.table
def shared_files() -> SharedFiles:
    """NVIDIA's wheels that put a file of one name into one folder, and the modules above."""
    owners: dict[str, dict[str, None]] = {}
    for row in wheel_libraries().libraries:
        owners.setdefault(f"{row.folder}/{row.soname}", {})[row.distribution] = None
    wheels = tuple((path, tuple(names)) for path, names in owners.items() if len(names) > 1)
    return SharedFiles(groups=(*wheels, *MODULES))
