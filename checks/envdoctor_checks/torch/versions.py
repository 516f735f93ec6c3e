"""Arithmetic on versions of torch and its wheels: no facts, no tables."""

from __future__ import annotations

import re

from envdoctor.tables import compare_releases, major_minor, release_key

CUDA_LABEL = r"cu(\d{2,3})\b"


def cuda_of_label(label: str) -> str | None:
    """The CUDA release in a local label or an index: ``cu128`` -> ``12.8``; None for ``cpu`` or ``rocm6.2``."""
    match = re.match(CUDA_LABEL, label)
    return f"{match[1][:-1]}.{match[1][-1]}" if match else None


def label_of_cuda(cuda: str) -> str:
    """``12.8`` -> ``cu128``."""
    major, minor = major_minor(cuda)
    return f"cu{major}{minor}"


def is_official(version: str) -> bool:
    """Whether it is a release as PyTorch publishes it, rather than a nightly, a vendor's or a source build."""
    return (
        re.fullmatch(
            r"\d+\.\d+(?:\.\d+)?(?:\.post\d+)?(?:\+(?:cu\d+|cpu|rocm[\d.]+|xpu)(?:\.\w+)*)?", version
        )
        is not None
    )


def satisfies(version: str, specifier: str) -> bool | None:
    """Whether a version fits a specifier; None where its spelling (a nightly, a vendor's build) leaves that open.

    A local label counts only where the specifier has one, as the standard has it.
    """
    if not specifier:
        return True
    plain, _, label = version.partition("+")
    if not re.fullmatch(r"\d+(?:\.\d+)*(?:\.post\d+)?", plain):
        return None
    return all(_fits(plain, label, clause) for clause in specifier.split(",") if clause)


def _fits(plain: str, label: str, clause: str) -> bool:
    match = re.match(r"(===|[=!<>~]=|[<>])(.+)$", clause)
    if match is None:
        return True
    operator, wanted = match.groups()
    if wanted.endswith(".*"):
        prefix = wanted[:-2].split(".")
        same = plain.split(".")[: len(prefix)] == prefix
        return same if operator == "==" else not same
    number, _, wanted_label = wanted.partition("+")
    order = compare_releases(plain, number)
    if operator == "~=":
        floor = release_key(number)
        prefix_key = tuple(int(part) for part in number.split(".")[:-1])
        return order >= 0 and release_key(plain)[: len(prefix_key)] == prefix_key[: len(floor)]
    equal = order == 0 and (not wanted_label or wanted_label == label)
    return {
        "==": equal,
        "===": equal,
        "!=": not equal,
        "<": order < 0,
        "<=": order <= 0,
        ">": order > 0,
        ">=": order >= 0,
    }[operator]
