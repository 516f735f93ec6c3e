"""Compilers, headers and toolkits by the files alone: nothing is run."""

from __future__ import annotations

import os
import re
import shlex

from envdoctor.api import CouldNotLook, Host, Source, Target, TargetPaths, Tier
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import PARTS, Compilers, CudaToolkit, Ninja, PythonHeaders

WRAPPERS = ("ccache", "sccache", "distcc")
"""What is put before a compiler's name in CC."""
HEADER_HEAD = 1 << 16
"""Bytes of cuda_runtime_api.h: its release is defined in the first six thousand."""


def which(host: Host, name: str) -> str | None:
    """The program that a shell would start: a path as it is, a name by PATH."""
    if os.path.dirname(name):
        return name if _runs(host, name) else None
    folders = filter(None, host.environ.get("PATH", "").split(os.pathsep))
    return next((path for folder in folders if _runs(host, path := os.path.join(folder, name))), None)


def _runs(host: Host, path: str) -> bool:
    try:
        status = host.status(path)
    except CouldNotLook:
        return False
    return status is not None and status.kind == "file" and host.may(path, os.X_OK)


def named(value: str) -> str:
    """The compiler in ``CC="ccache gcc -m64"``."""
    try:
        words = shlex.split(value)
    except ValueError:
        words = value.split()
    return next((word for word in words if os.path.basename(word) not in WRAPPERS), value)


@check.probe(tier=Tier.QUICK)
def compilers(host: Host) -> Compilers:
    """In the order in which Triton (CC, gcc, clang) and Inductor (CXX, g++) look."""
    cc, cxx = host.environ.get("CC"), host.environ.get("CXX")
    default = "clang++" if host.system == "darwin" else "g++"
    return Compilers(
        c=which(host, named(cc)) if cc else which(host, "gcc") or which(host, "clang"),
        c_via="CC" if cc else "PATH",
        cxx=which(host, named(cxx)) if cxx else which(host, default),
        cxx_via="CXX" if cxx else "PATH",
        source=Source("env", "PATH"),
    )


@check.probe(tier=Tier.QUICK)
def ninja(host: Host, target: Target) -> Ninja:
    """On PATH, and in the target's own folder of programs."""
    beside = os.path.join(os.path.dirname(target.python), "ninja")
    return Ninja(
        path=which(host, "ninja"),
        beside_python=beside if _runs(host, beside) else None,
        source=Source("env", "PATH"),
    )


@check.probe(tier=Tier.QUICK)
def python_headers(host: Host, paths: TargetPaths) -> PythonHeaders:
    """Where sysconfig of the target says that they are."""
    header = os.path.join(paths.include, "Python.h")
    return PythonHeaders(folder=paths.include, found=host.exists(header), source=Source("file", header))


@check.probe(tier=Tier.QUICK)
def cuda_toolkit(host: Host) -> CudaToolkit:
    """As torch.utils.cpp_extension finds it: the variables, nvcc on PATH, /usr/local/cuda."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if value := host.environ.get(variable):
            return _toolkit(host, value, variable, Source("env", variable))
    nvcc = which(host, "nvcc")
    if nvcc is not None:
        return _toolkit(host, os.path.dirname(os.path.dirname(nvcc)), "PATH", Source("env", "PATH"))
    if host.exists("/usr/local/cuda"):
        return _toolkit(host, "/usr/local/cuda", "default", Source("file", "/usr/local/cuda"))
    return CudaToolkit(root=None, found_via="none", source=Source("env", "CUDA_HOME"))


def _toolkit(host: Host, root: str, via: str, source: Source) -> CudaToolkit:
    nvcc = os.path.join(root, "bin", "nvcc.exe" if host.system == "windows" else "nvcc")
    status = host.status(root)
    exists = status is not None and status.kind == "directory"
    return CudaToolkit(
        root=root,
        found_via=via,  # type: ignore[arg-type] # one of the four, by the caller
        exists=exists,
        nvcc=nvcc if _runs(host, nvcc) else None,
        stated_cuda=_stated(host, root) if exists else None,
        headers_cuda=_of_headers(host, root) if exists else None,
        missing=tuple(part for part in PARTS if not _has(host, root, part)) if exists else (),
        source=source,
    )


def _folders(root: str) -> tuple[str, ...]:
    """Where a toolkit, a conda environment and a wheel keep headers."""
    return (
        f"{root}/include",
        f"{root}/include/cccl",
        f"{root}/targets/x86_64-linux/include",
        f"{root}/targets/sbsa-linux/include",
    )


def _has(host: Host, root: str, part: str) -> bool:
    folder, _, name = part.partition("/")
    if folder != "include":
        return host.exists(f"{root}/{part}")
    return any(host.exists(f"{each}/{name}") for each in _folders(root))


def _stated(host: Host, root: str) -> str | None:
    """``"cuda" : {"name": "CUDA SDK", "version": "12.4.1"}``, or ``CUDA Version 10.1.243``."""
    text = host.text(f"{root}/version.json") or ""
    told = re.search(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([\d.]+)"', text)
    told = told or re.search(r"CUDA Version ([\d.]+)", host.text(f"{root}/version.txt") or "")
    return told[1] if told else None


def _of_headers(host: Host, root: str) -> str | None:
    """CUDART_VERSION: 12040 is 12.4."""
    for folder in _folders(root):
        text = host.text(f"{folder}/cuda_runtime_api.h", HEADER_HEAD)
        told = re.search(r"(?m)^\s*#\s*define\s+CUDART_VERSION\s+(\d+)", text or "")
        if told:
            return release_of(int(told[1]))
    return None


def release_of(number: int) -> str:
    """``12040`` -> ``12.4``."""
    return f"{number // 1000}.{number % 1000 // 10}"
