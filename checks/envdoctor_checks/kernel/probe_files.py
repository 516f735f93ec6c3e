"""Compilers, headers and toolkits by the files alone: nothing is run."""

from __future__ import annotations

import os
import re
import shlex

from envdoctor.api import CouldNotLook, Host, Source, Target, TargetPaths, Tier
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts import PARTS, Compilers, CudaHeaders, CudaToolkit, Ninja, PythonHeaders

WRAPPERS = ("ccache", "sccache", "distcc")
"""What is put before a compiler's name in CC."""
DEFINED = r"(?m)^\s*#\s*define\s+CUDART_VERSION\s+(\d+)"
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
def cuda_toolkit(host: Host) -> tuple[CudaToolkit, CudaHeaders | None]:
    """As torch.utils.cpp_extension finds it: the variables, nvcc on PATH, /usr/local/cuda."""
    root, via = _root(host)
    source = Source("file", "/usr/local/cuda") if via == "default" else Source("env", via)
    if root is None:
        return CudaToolkit(root=None, found_via="none", source=Source("env", "CUDA_HOME")), None
    status = host.status(root)
    if status is None or status.kind != "directory":
        return CudaToolkit(root=root, found_via=via, source=source), None  # type: ignore[arg-type] # as below
    nvcc = os.path.join(root, "bin", "nvcc.exe" if host.system == "windows" else "nvcc")
    toolkit = CudaToolkit(
        root=root,
        found_via=via,  # type: ignore[arg-type] # one of those that `_root` gives
        exists=True,
        nvcc=nvcc if _runs(host, nvcc) else None,
        stated_cuda=_stated(host, root),
        missing=tuple(part for part in PARTS if not _has(host, root, part)),
        source=source,
    )
    return toolkit, _of_headers(host, root)


def _root(host: Host) -> tuple[str | None, str]:
    """The toolkit's folder and what points to it."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if value := host.environ.get(variable):
            return value, variable
    nvcc = which(host, "nvcc")
    if nvcc is not None:
        return os.path.dirname(os.path.dirname(nvcc)), "PATH"
    return ("/usr/local/cuda", "default") if host.exists("/usr/local/cuda") else (None, "none")


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


def _of_headers(host: Host, root: str) -> CudaHeaders | None:
    """The first cuda_runtime_api.h that a compiler would meet."""
    for folder in _folders(root):
        path = f"{folder}/cuda_runtime_api.h"
        told = re.search(DEFINED, host.text(path, HEADER_HEAD) or "")
        if told:
            release = release_of(int(told[1]))
            return CudaHeaders(headers_cuda=release, path=path, source=Source("file", path))
    return None


def release_of(number: int) -> str:
    """``12040`` -> ``12.4``."""
    return f"{number // 1000}.{number % 1000 // 10}"
