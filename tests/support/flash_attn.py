"""A small flash-attn: a wheel whose extension was linked to one libcudart, and the source that it can be built from."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from tests.support import wheels
from tests.support.libraries import build
from tests.support.small_torch import INCLUDE, SOABI
from tests.support.wheels import packed

MODULE = """
#include <Python.h>
int cudaMalloc(void);
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "flash_attn_2_cuda", 0, -1, 0};
PyMODINIT_FUNC PyInit_flash_attn_2_cuda(void) { return cudaMalloc() ? 0 : PyModule_Create(&module); }
"""
BACKEND = """
import glob, subprocess, sysconfig, sys
sys.path[:0] = [{tests!r}]
from wheels import packed
from pathlib import Path
INCLUDE = "-I" + sysconfig.get_paths()["include"]

def build_wheel(folder, config_settings=None, metadata_directory=None):
    libraries = glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/cuda_runtime/lib/libcudart.so.*")
    subprocess.run(["gcc", "-shared", "-fPIC", INCLUDE, "module.c", "-o", "built.so", *libraries], check=True)
    files = {{"flash_attn_2_cuda.{soabi}.so": Path("built.so").read_bytes()}}
    return packed(Path(folder), "flash-attn", "2.8.3", files).name
"""


def flash_attn(index: Path, runtime: Path) -> Path:
    """A wheel with an extension that was linked to one libcudart."""
    flags = (INCLUDE,)
    made = build(
        runtime.parent / "made" / f"flash_attn_2_cuda.{SOABI}.so",
        source=MODULE,
        needs=(runtime,),
        flags=flags,
    )
    return packed(index, "flash-attn", "2.8.3", {made.name: made.read_bytes()})


def source_distribution(index: Path) -> None:
    """The same extension's source, which links to the libcudart of the environment that it is built in."""
    here = str(Path(wheels.__file__).parent)
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    files = {
        "pyproject.toml": project + '[project]\nname = "flash-attn"\nversion = "2.8.3"\n',
        "backend.py": BACKEND.format(tests=here, soabi=SOABI),
        "module.c": MODULE,
        "PKG-INFO": "Metadata-Version: 2.1\nName: flash-attn\nVersion: 2.8.3\n",
    }
    with tarfile.open(index / "flash_attn-2.8.3.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"flash_attn-2.8.3/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
