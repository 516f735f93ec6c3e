"""A small torch of real ELF files: it opens its libraries as the real one does, from wheels that pip can put back.

Three shapes, as the real ones came: torch 2.0, whose files carry DT_RUNPATH; torch 2.8 with DT_RPATH and wheels
for one CUDA major; torch 2.15, which asks for its wheels through the extras of another package.
"""

from __future__ import annotations

import os
import subprocess
import sysconfig
import zipfile
from pathlib import Path

import msgspec

from tests.support.libraries import build, versioned
from tests.support.torch_env import Environment
from tests.support.wheels import packed

INIT = """
import ctypes, glob, os, sys
from .version import __version__

_DEPENDENCIES = {
    "cublas": "libcublas.so.*[0-9]",
    "cuda_runtime": "libcudart.so.*[0-9]",
    "cudnn": "libcudnn.so.*[0-9]",
    "nccl": "libnccl.so.*[0-9]",
}

def _open_first(folder, pattern):
    for path in sys.path:
        found = glob.glob(os.path.join(path, "nvidia", folder, "lib", pattern))
        if found:
            ctypes.CDLL(found[0])
            return
    raise ValueError(f"{pattern} is nowhere on sys.path")

def _open_dependencies():
    library = os.path.join(os.path.dirname(__file__), "lib", "libtorch_global_deps.so")
    try:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        if not any(name.split(".")[0] in str(error) for name in _DEPENDENCIES.values()):
            raise
        for folder, pattern in _DEPENDENCIES.items():
            _open_first(folder, pattern)
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)

_open_dependencies()
from . import _C

class cuda:
    @staticmethod
    def is_available():
        return _driver() == 0

    @staticmethod
    def device_count():
        return int(_driver() == 0)

def _driver():
    try:
        return ctypes.CDLL("libcuda.so.1").cuInit(0)
    except OSError:
        return 999
"""
EXTENSION = """
#include <Python.h>
int torch_begin(void);
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", 0, -1, 0};
PyMODINIT_FUNC PyInit__C(void) { return torch_begin() ? 0 : PyModule_Create(&module); }
"""
CORE = """
void _ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE(void *, void *);
void c10_wait(void *one, void *lock) { _ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE(one, lock); }
"""
"""What makes a library ask for a version of libstdc++ that GCC 12 brought (GLIBCXX_3.4.30)."""
SOABI = sysconfig.get_config_var("SOABI")
INCLUDE = f"-I{sysconfig.get_paths()['include']}"


class Part(msgspec.Struct, frozen=True):
    """One library that a wheel brings. The last of its functions came with the release that this torch needs."""

    soname: str
    functions: tuple[str, ...]
    version: str = ""
    """What its symbols carry; none for NCCL."""


class Wheel(msgspec.Struct, frozen=True):
    """One of NVIDIA's wheels."""

    name: str
    release: str
    folder: str
    parts: tuple[Part, ...]


class Shape(msgspec.Struct, frozen=True):
    """A release of torch, what it asks for, and how its files find it."""

    version: str
    cuda: str
    tags: str
    """The linker's option: ``--enable-new-dtags`` makes DT_RUNPATH."""
    wheels: tuple[Wheel, ...]
    system: tuple[Wheel, ...] = ()
    """What it was linked to and gets from the system: no wheel brings it and no run path leads there."""
    extras_of: str = ""
    """The distribution through whose extras the wheels are asked for."""

    def wheel(self, name: str) -> Wheel:
        """By a part of its name."""
        return next(each for each in self.wheels if name in each.name)


def _own(soname: str, *functions: str) -> Part:
    return Part(soname, functions, soname)


RUNTIME, BLAS = ("cudaMalloc", "cudaGetDriverEntryPoint"), ("cublasCreate_v2", "cublasGemmEx")
LT, DNN, NCCL = ("cublasLtCreate", "cublasLtMatmulDescInit"), ("cudnnCreate", "cudnnBackendExecute"), (
    "ncclCommInitRank", "ncclCommSplit"
)  # fmt: skip
OLD = Shape("2.0.1", "11.7", "--enable-new-dtags", (
    Wheel("nvidia-cuda-runtime-cu11", "11.7.99", "cuda_runtime", (_own("libcudart.so.11.0", *RUNTIME),)),
    Wheel("nvidia-cublas-cu11", "11.10.3.66", "cublas", (_own("libcublasLt.so.11", *LT), _own("libcublas.so.11", *BLAS))),
    Wheel("nvidia-cudnn-cu11", "8.5.0.96", "cudnn", (_own("libcudnn.so.8", *DNN),)),
    Wheel("nvidia-nccl-cu11", "2.14.3", "nccl", (Part("libnccl.so.2", NCCL),)),
))  # fmt: skip
NEW = Shape("2.8.0", "12.8", "--disable-new-dtags", (
    Wheel("nvidia-cuda-runtime-cu12", "12.8.90", "cuda_runtime", (_own("libcudart.so.12", *RUNTIME),)),
    Wheel("nvidia-cublas-cu12", "12.8.4.1", "cublas", (_own("libcublasLt.so.12", *LT), _own("libcublas.so.12", *BLAS))),
    Wheel("nvidia-cudnn-cu12", "9.10.2.21", "cudnn", (_own("libcudnn.so.9", *DNN),)),
    Wheel("nvidia-nccl-cu12", "2.27.3", "nccl", (Part("libnccl.so.2", NCCL),)),
))  # fmt: skip
NEWEST = Shape("2.15.0", "13.2", "--disable-new-dtags", (
    Wheel("nvidia-cuda-runtime", "13.2.51", "cu13", (_own("libcudart.so.13", *RUNTIME),)),
    Wheel("nvidia-cublas", "13.3.0.5", "cu13", (_own("libcublasLt.so.13", *LT), _own("libcublas.so.13", *BLAS))),
), (), "cuda-toolkit")  # fmt: skip


class SmallTorch:
    """An environment with a torch of one shape, and a folder of wheels from which pip can install."""

    def __init__(self, folder: Path, shape: Shape, parts: Parts) -> None:
        self.environment = Environment(folder / "env")
        self.shape = shape
        self.index = folder / "index"
        self.index.mkdir()
        self.site = self.environment.site
        self._install_torch(parts.torch(shape))
        for wheel in shape.wheels:
            self.install(parts.wheel(self.index, wheel))

    def _install_torch(self, files: Path) -> None:
        asked = [f"{each.name}=={each.release}" for each in self.shape.wheels]
        through = self.shape.extras_of
        package = self.environment.torch(self.shape.version, self.shape.cuda, INIT)
        if through:
            names = [each.name.removeprefix("nvidia-") for each in self.shape.wheels]
            extras = [f'{each} ; extra == "{name}"' for each, name in zip(asked, names, strict=True)]
            self.environment.metadata(through, self.shape.cuda, *extras)
            asked = [f"{through}[{','.join(names)}]=={self.shape.cuda}"]
        self.environment.metadata("torch", self.shape.version, *asked)
        (package / "lib").mkdir()
        for each in files.glob("*.so"):
            folder = package if each.name.startswith("_C.") else package / "lib"
            (folder / each.name).write_bytes(each.read_bytes())

    def install(self, wheel: Path) -> None:
        """Unpack a wheel, which is what installing it is."""
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.site)

    def library(self, soname: str) -> Path:
        """Where a wheel put a library."""
        return next(self.site.glob(f"nvidia/*/lib/{soname}"))

    def remove(self, name: str) -> None:
        """Take a wheel away, with what it brought."""
        (info,) = self.site.glob(f"{name.replace('-', '_')}-*.dist-info")
        for line in (info / "RECORD").read_text().splitlines():
            (self.site / line.partition(",")[0]).unlink(missing_ok=True)
        info.rmdir()

    def run(self, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Python of the environment, with these variables only."""
        env = {"PATH": os.environ["PATH"], **variables}
        return subprocess.run(
            [self.environment.python, "-c", code], env=env, capture_output=True, text=True, timeout=60
        )


class Parts:
    """The compiled files, each made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def library(self, wheel: Wheel, part: Part, functions: tuple[str, ...]) -> Path:
        """One library with these functions; cublas needs cublasLt, beside which it lies."""
        folder = self._folder / f"{wheel.name}-{len(functions)}"
        path = folder / part.soname
        if path.exists():
            return path
        if part.soname.startswith("libcublas.so"):
            return self._cublas(wheel, part, functions, folder)
        if part.version:
            return versioned(path, part.version, *functions)
        return build(path, source="\n".join(f"int {name}(void) {{ return 0; }}" for name in functions))

    def _cublas(self, wheel: Wheel, part: Part, functions: tuple[str, ...], folder: Path) -> Path:
        below = next(each for each in wheel.parts if "Lt" in each.soname)
        own = below.functions[: len(functions)]
        light = self.library(wheel, below, own)
        calls = f"int {own[-1]}(void);\n"
        code = [f"int {name}(void) {{ return {own[-1]}(); }}" for name in functions]
        script = f"{part.version} {{ global: {' '.join(f'{name};' for name in functions)} local: *; }};\n"
        return build(
            folder / part.soname,
            source=calls + "\n".join(code),
            versions=script,
            needs=(light,),
            flags=("-Wl,--enable-new-dtags,-rpath,$ORIGIN",),
        )

    def wheel(self, into: Path, wheel: Wheel, release: str = "", *, older: bool = False) -> Path:
        """A wheel that pip can install; an `older` one lacks the last function of its libraries."""
        release = release or wheel.release
        files = {}
        for part in wheel.parts:
            kept = part.functions[:-1] if older else part.functions
            content = self.library(wheel, part, kept).read_bytes()
            files[f"nvidia/{wheel.folder}/lib/{part.soname}"] = content
        return packed(into, wheel.name, release, files)

    def torch(self, shape: Shape) -> Path:
        """The compiled files of torch, in one folder."""
        folder = self._folder / f"torch-{shape.version}-{len(shape.wheels)}"
        if folder.exists():
            return folder
        needs = [
            (part, self.library(wheel, part, part.functions))
            for wheel in (*shape.wheels, *shape.system)
            for part in wheel.parts
        ]
        places = dict.fromkeys(f"$ORIGIN/../../nvidia/{each.folder}/lib" for each in shape.wheels)
        runtime = next(path for part, path in needs if "cudart" in part.soname)
        path = f"-Wl,{shape.tags},-rpath,{':'.join([*places, '$ORIGIN'])}"
        build(folder / "libtorch_global_deps.so", needs=(runtime,), flags=(path,))
        asked = [part.functions[-1] for part, _ in needs if "Lt" not in part.soname]
        code = "".join(f"int {name}(void);\n" for name in asked)
        code += f"int torch_begin(void) {{ return {' | '.join(f'{name}()' for name in asked)}; }}\n"
        direct = tuple(path for part, path in needs if "Lt" not in part.soname)
        cuda = build(folder / "libtorch_cuda.so", source=code, needs=direct, flags=(path,))
        core = build(folder / "libc10.so", source=CORE, flags=("-lstdc++",))
        inner = path.replace("$ORIGIN/../../nvidia", "$ORIGIN/../nvidia").replace(":$ORIGIN", ":$ORIGIN/lib")
        build(folder / f"_C.{SOABI}.so", source=EXTENSION, needs=(cuda, core), flags=(INCLUDE, inner))
        return folder
