"""Whether a binary has code for a GPU: NVIDIA's rules of binary compatibility."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from envdoctor.tables import compare_releases, major_minor

if TYPE_CHECKING:
    from collections.abc import Iterable

_TEGRA = frozenset({(5, 3), (6, 2), (7, 2), (8, 7), (10, 1), (11, 0)})


def kernel_for(
    archs: Iterable[str], compute_capability: str, torch_cuda: str | None = None
) -> Literal["machine-code", "ptx"] | None:
    """How a GPU would run a binary made for `archs` (``sm_86``, ``compute_90``); None: not at all.

    Machine code runs on its own major and the same or a later minor: ``sm_86`` on 8.9, ``sm_120`` on 12.1.
    Code for the integrated GPUs of Jetson runs there only, and other code not on them; from CUDA 13.2 on code
    for 7.0, 8.0 and 8.6 does. ``sm_90a`` runs on 9.0 only, ``sm_100f`` on its family. PTX compiles for its
    own capability and later ones.
    """
    gpu = major_minor(compute_capability)
    found: Literal["ptx"] | None = None
    for arch in archs:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch)
        if match is None:
            continue
        code = (int(match[2]), int(match[3]))
        if match[1] == "compute":
            if code <= gpu and not match[4]:
                found = "ptx"
        elif _runs(code, match[4], gpu, torch_cuda):
            return "machine-code"
    return found


def _runs(code: tuple[int, int], suffix: str, gpu: tuple[int, int], torch_cuda: str | None) -> bool:
    if suffix == "a":
        return code == gpu
    same_chip_kind = (code in _TEGRA) == (gpu in _TEGRA)
    if not same_chip_kind:
        unified = torch_cuda is not None and compare_releases(torch_cuda, "13.2") >= 0
        if not (unified and code in ((7, 0), (8, 0), (8, 6))):
            return False
    if {code, gpu} == {(10, 1), (11, 0)}:  # 10.1 was renamed to 11.0 in CUDA 13.0
        return True
    return code[0] == gpu[0] and code[1] <= gpu[1] and (code not in _TEGRA or code == gpu)
