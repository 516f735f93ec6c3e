"""Which libraries are watched, and what a file's name and path say about it."""

from __future__ import annotations

import re

from envdoctor.text.late import Late

STEMS = frozenset({
    "libcudart", "libcublas", "libcublasLt", "libcudnn", "libcufft", "libcufftw", "libcurand", "libcusparse",
    "libcusparseLt", "libcusolver", "libcusolverMg", "libnvrtc", "libnvrtc-builtins", "libnvJitLink", "libnccl",
    "libnvshmem_host", "libcupti", "libcufile", "libnvToolsExt", "libcuda", "libnvidia-ml", "libstdc++", "libgomp",
    "libmkl_core", "libiomp5",
})  # fmt: skip
"""The CUDA family as torch uses it, the driver's two, and the runtimes of compilers that are most often too old."""

STARTS = ("libcu", "libnv", "libnccl", "libstdc++", "libgomp", "libmkl_core", "libiomp5")
"""How their names begin: what lies in a system's folder is looked at by this first, which costs a twentieth."""

DRIVER = frozenset({"libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler", "libnvcuvid", "libnvidia-encode"})
"""Libraries of the driver, which is another check's."""

LIBRARY = r"lib[\w+-]+\.so(?:\.\d+)*"
STEM = re.compile(r"(lib[\w+-]+?)(?:-[0-9a-f]{8})?\.so(?:\.\d+)*$")
"""A library's stem; auditwheel's hash (``libcudart-9335f6a2.so.12``) is not part of it."""
DLL = Late(r"^(cu[a-zA-Z_]+?|nvrtc|nvJitLink)(?:64|32)?_?(?:64_)?(\d*)(?:_\d+)?\.dll$")

BY_SYMBOL = (
    ("cublasLt", "libcublasLt"), ("cublas", "libcublas"), ("cudnn", "libcudnn"), ("cusparseLt", "libcusparseLt"),
    ("cusparse", "libcusparse"), ("cufft", "libcufft"), ("curand", "libcurand"), ("cusolver", "libcusolver"),
    ("nccl", "libnccl"), ("nvrtc", "libnvrtc"), ("__nvJitLink", "libnvJitLink"), ("nvJitLink", "libnvJitLink"),
    ("nvshmem", "libnvshmem_host"), ("cupti", "libcupti"), ("cuFile", "libcufile"), ("_ZN5cudnn", "libcudnn"),
    ("nvtx", "libnvToolsExt"), ("cuda", "libcudart"), ("__cuda", "libcudart"),
)  # fmt: skip
"""Which library defines the symbols that begin so; the first one counts."""


def stem_of(name: str) -> str | None:
    """``/x/libcudnn_ops.so.9.1.0`` -> ``libcudnn_ops``; None for what is no library's name."""
    found = STEM.search(name.rsplit("/", 1)[-1])
    return found.group(1) if found else None


def is_watched(name: str) -> bool:
    """Whether a file is one of the watched libraries (cuDNN's parts included)."""
    name = name.rsplit("/", 1)[-1]
    if not name.startswith(STARTS):
        return False
    stem = stem_of(name)
    return stem is not None and (stem in STEMS or stem.startswith("libcudnn_"))


def is_cuda(name: str) -> bool:
    """Whether it is of the CUDA family: not the driver's, nor a compiler's runtime."""
    stem = stem_of(name) or name
    return (
        is_watched(f"{stem}.so")
        and stem not in DRIVER
        and stem[:6] not in ("libstd", "libgom", "libmkl", "libiom")
    )


def family_of(stem: str) -> str:
    """Libraries that must come from one install: ``libcudnn_ops`` -> ``libcudnn``, ``libcublasLt`` -> ``libcublas``."""
    if stem.startswith("libcudnn"):
        return "libcudnn"
    return {
        "libcublasLt": "libcublas",
        "libnvblas": "libcublas",
        "libnvrtc-builtins": "libnvrtc",
        "libcufftw": "libcufft",
        "libcusolverMg": "libcusolver",
    }.get(stem, stem)


def soname_major(name: str) -> str | None:
    """``libcudart.so.12`` -> ``12``; None without a version."""
    found = re.search(r"\.so\.(\d+)", name)
    return found.group(1) if found else None


def file_version(name: str) -> str | None:
    """``libcudnn.so.9.10.2`` -> ``9.10.2``; None where the name has the major at most."""
    found = re.search(r"\.so\.(\d+\.\d[\d.]*)$", name)
    return found.group(1) if found else None


def library_of_dll(name: str) -> str | None:
    """``cudnn_ops64_9.dll`` -> ``libcudnn_ops.so.9``: what a Windows library is called on Linux."""
    found = DLL.match(name)
    if found is None:
        return None
    version = found[2]
    if len(version) == 3:  # cudart64_110.dll and nvrtc64_120_0.dll: 11.0 and 12.0
        version = version[:2]
    return f"lib{found[1].rstrip('_')}.so" + (f".{version}" if version else "")


def provider_of(symbol: str, version: str | None) -> str | None:
    """The library that should have had a symbol: the SONAME that its version names, or a stem. None: not of CUDA's."""
    if version is not None and is_cuda(version):
        return version
    return next((stem for start, stem in BY_SYMBOL if symbol.startswith(start)), None)
