"""The tables of the libraries, kernel, container and nccl checks."""

from __future__ import annotations

import itertools
import re

import pytest

from envdoctor.tables import compare_releases, release_key
from envdoctor_checks.container import tables as container
from envdoctor_checks.kernel import tables as kernel
from envdoctor_checks.libraries import tables as libraries
from envdoctor_checks.nccl import tables as nccl

# --- libraries


@pytest.mark.parametrize(
    ("soname", "distributions"),
    [
        ("libcudart.so.12", {"nvidia-cuda-runtime-cu12"}),
        ("libcudart.so.11.0", {"nvidia-cuda-runtime-cu11"}),
        ("libcudart.so.12.8.90", {"nvidia-cuda-runtime-cu12"}),
        ("libcudart.so.13", {"nvidia-cuda-runtime"}),
        ("libcufft.so.11", {"nvidia-cufft-cu12"}),
        ("libcublasLt.so.12", {"nvidia-cublas-cu12"}),
        ("libcusolver.so.11", {"nvidia-cusolver-cu11", "nvidia-cusolver-cu12"}),
        ("libnvrtc-builtins.so.12.8", {"nvidia-cuda-nvrtc-cu12"}),
        ("libcudnn_graph.so.9", {f"nvidia-cudnn-cu{major}" for major in (11, 12, 13)}),
        ("libcudnn_ops_infer.so.8", {"nvidia-cudnn-cu11", "nvidia-cudnn-cu12"}),
        ("libcublas.so.10", set()),
        ("libstdc++.so.6", set()),
        ("libcudart.so", set()),
        ("libcuda.so.1", set()),
    ],
)
def test_owners_of_a_library(soname: str, distributions: set[str]) -> None:
    assert {row.distribution for row in libraries.wheel_libraries().owners(soname)} == distributions


def test_a_distribution_keeps_to_its_cuda_major_and_its_folder() -> None:
    table = libraries.wheel_libraries()
    for row in table.libraries:
        assert row.soname.startswith(f"{row.library}.so."), row
        suffix = re.search(r"-cu(\d+)$", row.distribution)
        assert (int(suffix[1]) if suffix else 13) == row.cuda_major, row
        assert row.folder.startswith("nvidia/")
        assert row.folder.endswith("/lib")
        assert ("/cu13/" in row.folder) == (suffix is None), row
    by_distribution = {row.distribution: row.folder for row in table.libraries}
    assert all(by_distribution[row.distribution] == row.folder for row in table.libraries)


# --- kernel, container, nccl


def test_toolchains_rise() -> None:
    rows = kernel.toolchains().toolchains
    assert [row.cuda for row in rows] == sorted((row.cuda for row in rows), key=release_key)
    for older, newer in itertools.pairwise(rows):
        assert older.gcc_max <= newer.gcc_max
        assert compare_releases(older.ptx or "0", newer.ptx or "99") <= 0


def test_toolchain_lookups() -> None:
    table = kernel.toolchains()
    assert table.accepts_gcc("12.8.93", 14) is True
    assert table.accepts_gcc("12.8", 15) is False
    assert table.accepts_gcc("9.0", 7) is None
    assert table.knows("12.8", "12.0") is True
    assert table.knows("12.6", "12.0") is False
    assert table.knows("11.0", "8.0") is None
    assert table.first_for_ptx("8.7") == "12.8"
    assert table.first_for_ptx("99.0") is None


def test_triton() -> None:
    table = kernel.triton()
    blackwell, ampere = table.assembler("3.6.0", "12.1"), table.assembler("3.6.0", "8.0")
    assert blackwell is not None
    assert ampere is not None
    assert (blackwell.file, ampere.file) == ("ptxas-blackwell", "ptxas")
    assert table.assembler("2.1.0", "8.0") is None
    assert table.supports("7.0")
    assert not table.supports("6.1")


def test_container_toolkit() -> None:
    table = container.container_toolkit()
    assert table.open_holes("1.20.0") == ()
    assert [row.cve for row in table.open_holes("1.17.6", cdi=True)] == ["CVE-2025-23267", "CVE-2026-24260"]
    assert "CVE-2025-23266" in {row.cve for row in table.open_holes("1.17.6")}
    assert table.has("1.14.4", "wsl-driver-555")
    assert not table.has("1.14.3", "wsl-driver-555")
    with pytest.raises(KeyError):
        table.has("1.14.3", "no-such-feature")


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("NCCL_DEBUG", "info", True),
        ("NCCL_DEBUG", "verbose", False),
        ("NCCL_P2P_DISABLE", "1", True),
        ("NCCL_P2P_DISABLE", "true", False),
        ("NCCL_P2P_LEVEL", "NVL", True),
        ("NCCL_P2P_LEVEL", "NVLINK", False),
        ("NCCL_ALGO", "^NVLS,tree", True),
        ("NCCL_ALGO", "ringg", False),
        ("NCCL_ALGO", "allreduce:ring,tree;broadcast:ring", True),
        ("NCCL_IB_TIMEOUT", "22", True),
        ("NCCL_IB_TIMEOUT", "99", False),
        ("NCCL_BUFFSIZE", "0x400000", True),
        ("NCCL_SOCKET_IFNAME", "^docker0,lo", True),
        ("NCCL_DEBUG_SUBSYS", "INIT,NET", True),
        ("NCCL_DEBUG", "", True),
        ("NCCL_NTHREADS", "100", False),
        ("NCCL_NTHREADS", "256", True),
    ],
)
def test_values_of_variables(name: str, value: str, accepted: bool) -> None:
    row = nccl.nccl_variables().variable(name)
    assert row is not None
    assert row.accepts(value) is accepted


def test_variables_that_others_read_are_not_misspelt() -> None:
    table = nccl.nccl_variables()
    for name in ("NCCL_VERSION", "NCCL_ASYNC_ERROR_HANDLING", "NCCL_FASTRAK_IFNAME", "NCCL_DEBUG"):
        assert table.knows(name), name
    assert not table.knows("NCCL_SOCKET_IFNAM")
    assert table.nearest("NCCL_SOCKET_IFNAM") == "NCCL_SOCKET_IFNAME"
    assert table.nearest("NCCL_COMPLETELY_ELSE") is None


def test_defaults_of_variables_are_accepted_and_documented_ones_have_a_meaning() -> None:
    table = nccl.nccl_variables()
    for row in table.variables:
        assert row.name.startswith("NCCL_")
        assert row.default is None or row.accepts(row.default), row
        assert (row.meaning is not None) == row.documented, row
        assert row.replaced_by is None or table.variable(row.replaced_by), row
        assert row.kind in ("enum", "list") or not row.allowed, row


def test_requirements_of_nccl() -> None:
    table = nccl.nccl_requirements()
    assert table.applies("stack-limit", "2.27.5")
    assert not table.applies("stack-limit", "2.28.9")
    assert not table.applies("uvm", "2.22.3")
    assert table.applies("memlock", "2.10.3")
