"""What compilers, build tools, Triton and Inductor print, and what does not concern them."""

from __future__ import annotations

import pytest

from envdoctor.facts import Facts, Symptom
from envdoctor.testing import read, samples
from envdoctor_checks.kernel.facts import CudaHeaders, HostCompiler, Nvcc
from envdoctor_checks.kernel.paths import cache_root, is_cached, kind_of
from envdoctor_checks.kernel.plugin import check
from envdoctor_checks.kernel.symptoms import (
    CacheFileGone,
    CompilerAtWork,
    CompilerNotFound,
    CudaMismatch,
    GpuNameUnknown,
    HeaderNotFound,
    HostCompilerRefused,
    LinkLibraryNotFound,
    NinjaNotFound,
    NvccNotFound,
    PtxTooNew,
    SegmentNotMapped,
    TritonNameMissing,
    TritonNotFound,
    WorkerStuck,
)


def only(text: str, kind: type[Symptom]) -> Symptom:
    said = read(check, text).symptoms(kind)
    assert len(said) == 1, said
    return said[0]


def fact(facts: Facts, kind: type) -> object:
    return facts.get(kind)


def test_every_message_knows_its_sample() -> None:
    samples(check)


@pytest.mark.parametrize(
    "text",
    [
        "[INFO] compiling the model, this takes a minute",
        "gcc --version: gcc (Debian 12.2.0-14) 12.2.0",
        "FileNotFoundError: [Errno 2] No such file or directory: '/data/splits/train.csv'",
        "rm -rf build dist",
        "ls: cannot access '/opt/x/main.h': No such file or directory",
        "error: metadata-generation-failed",
        "bash: type: gcc: not found",
        "AssertionError: Tensor-likes are not close!",
    ],
)
def test_ordinary_lines_say_nothing(text: str) -> None:
    assert read(check, text).all_symptoms() == ()


@pytest.mark.parametrize(
    ("text", "language", "name"),
    [
        (
            "RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set triton.knobs.build.impl.",
            "c",
            "",
        ),
        ("unable to execute 'x86_64-linux-gnu-gcc': No such file or directory", "c", "x86_64-linux-gnu-gcc"),
        ("error: command 'gcc' failed: No such file or directory", "c", "gcc"),
        ("/bin/sh: 1: gcc: not found", "c", "gcc"),
        ("CMake Error: No CMAKE_CXX_COMPILER could be found.", "c++", ""),
        ("gcc: fatal error: cannot execute 'cc1plus': execvp: No such file or directory", "c++", ""),
        ("bash: g++: command not found", "c++", "g++"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'c++'", "c++", "c++"),
        ("error: Microsoft Visual C++ 14.0 or greater is required.", "c++", "cl"),
    ],
)
def test_compilers_that_are_not_there(text: str, language: str, name: str) -> None:
    said = only(text, CompilerNotFound)
    assert isinstance(said, CompilerNotFound)
    assert (said.language, said.name) == (language, name)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("/tmp/tmpq/main.c:4:10: fatal error: Python.h: No such file or directory", "Python.h"),
        ("x.cpp:3:10: fatal error: 'omp.h' file not found", "omp.h"),
        ('/x/a.cu(2): catastrophic error: cannot open source file "cuda_runtime.h"', "cuda_runtime.h"),
        (
            "cuda_utils.c(12): fatal error C1083: Cannot open include file: 'Python.h': No such file or directory",
            "Python.h",
        ),
        (
            "/usr/local/cuda/include/cuda_fp16.h:4:10: fatal error: nv/target: No such file or directory",
            "nv/target",
        ),
        ("<stdin>:1:10: fatal error: 'vector' file not found", "vector"),
    ],
)
def test_headers_in_the_words_of_each_compiler(text: str, header: str) -> None:
    said = only(text, HeaderNotFound)
    assert isinstance(said, HeaderNotFound)
    assert said.header == header


def test_the_driver_owns_lcuda() -> None:
    assert (
        read(check, "/usr/bin/ld: cannot find -lcuda: No such file or directory").symptoms(
            LinkLibraryNotFound
        )
        == ()
    )
    said = only("/usr/bin/ld: cannot find -lcudart: No such file or directory", LinkLibraryNotFound)
    assert isinstance(said, LinkLibraryNotFound)
    assert said.library == "cudart"


def test_ninja_fatal_and_not() -> None:
    text = "UserWarning: Attempted to use ninja as the BuildExtension backend but we could not find ninja.. Falling back"
    soft = only(text, NinjaNotFound)
    hard = only("/bin/sh: ninja: command not found", NinjaNotFound)
    assert isinstance(soft, NinjaNotFound)
    assert isinstance(hard, NinjaNotFound)
    assert (soft.fatal, hard.fatal) == (False, True)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (
            "OSError: CUDA_HOME environment variable is not set. Please set it to your CUDA install root.",
            None,
        ),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: ':/usr/local/cuda-11.8/bin/nvcc'",
            ":/usr/local/cuda-11.8/bin/nvcc",
        ),
        ("/bin/sh: 1: /opt/cuda/bin/nvcc: not found", "/opt/cuda/bin/nvcc"),
        (
            "RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist",
            "/usr/local/cuda",
        ),
        (
            "FileNotFoundError: nvcc not found at '/v/bin/nvcc'. Ensure CUDA path '/v' is correct.",
            "/v/bin/nvcc",
        ),
    ],
)
def test_nvcc_that_is_not_there(text: str, path: str | None) -> None:
    said = only(text, NvccNotFound)
    assert isinstance(said, NvccNotFound)
    assert said.path == path


@pytest.mark.parametrize(
    ("text", "nvcc", "torch"),
    [
        (
            "RuntimeError:\nThe detected CUDA version (12.4) mismatches the version that was used to compile\nPyTorch (11.8). Please",
            "12.4",
            "11.8",
        ),
        (
            "RuntimeError: ('The detected CUDA version (%s) mismatches the version that was used to compilePyTorch (%s). Please', '12.4', '13.0')",
            "12.4",
            "13.0",
        ),
        (
            "CUDAMismatchException: >- DeepSpeed Op Builder: Installed CUDA version 11.5 does not match the version torch was compiled with 12.1, unable",
            "11.5",
            "12.1",
        ),
    ],
)
def test_a_toolkit_of_another_release(text: str, nvcc: str, torch: str) -> None:
    said = only(text, CudaMismatch)
    assert isinstance(said, CudaMismatch)
    assert (said.nvcc_cuda, said.torch_cuda) == (nvcc, torch)


def test_a_minor_difference_is_no_fault() -> None:
    text = "UserWarning: The detected CUDA version (12.4) has a minor version mismatch with the version that was used to compile PyTorch (12.1). Most likely this shouldn't be a problem."
    assert read(check, text).symptoms(CudaMismatch) == ()


@pytest.mark.parametrize(
    ("text", "family", "newest"),
    [
        (
            "error: #error -- unsupported GNU version! gcc versions later than 12 are not supported!",
            "gcc",
            "12",
        ),
        (
            "error: #error -- unsupported clang version! clang version must be less than 16 and greater than 3.2 .",
            "clang",
            "15",
        ),
        (
            "error: #error: unsupported Microsoft Visual Studio version! Only the versions between 2017 and 2022 are supported!",
            "msvc",
            None,
        ),
        (
            'mathcalls.h(79): error: exception specification is incompatible with that of previous function "cospi"',
            "glibc",
            None,
        ),
    ],
)
def test_host_compilers_that_nvcc_refuses(text: str, family: str, newest: str | None) -> None:
    said = only(text, HostCompilerRefused)
    assert isinstance(said, HostCompilerRefused)
    assert (said.family, said.newest) == (family, newest)


def test_architectures_and_ptx() -> None:
    unknown = only("ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'", GpuNameUnknown)
    assert isinstance(unknown, GpuNameUnknown)
    assert (unknown.arch, unknown.program) == ("sm_121a", "ptxas")
    ptx = only(
        "ptxas /tmp/x.ptx, line 5; fatal   : Unsupported .version 8.6; current version is '8.5'", PtxTooNew
    )
    assert isinstance(ptx, PtxTooNew)
    assert (ptx.reader, ptx.ptx, ptx.known) == ("ptxas", "8.6", "8.5")


def test_triton_missing_and_of_another_release() -> None:
    assert only("ModuleNotFoundError: No module named 'triton'", TritonNotFound)
    text = "ModuleNotFoundError: No module named 'triton.ops'"
    part = only(text, TritonNameMissing)
    assert isinstance(part, TritonNameMissing)
    assert part.module == "triton.ops"
    assert read(check, text).symptoms(TritonNotFound) == ()


def test_dumps_of_stacks() -> None:
    text = "    wait (torch/_inductor/async_compile.py:265)\n    run (threading.py:975)\n    _worker_compile_triton (torch/_inductor/runtime/compile_tasks.py:65)\n"
    said = read(check, text).symptoms(WorkerStuck)
    assert {each.where for each in said} == {"client", "worker"}


def test_files_of_caches_and_others() -> None:
    gone = "FileNotFoundError: [Errno 2] No such file or directory: '/root/.triton/cache/AB/kernel.json'"
    assert only(gone, CacheFileGone)
    mapped = only(
        "ImportError: /tmp/torchinductor_a/x/y.so: failed to map segment from shared object", SegmentNotMapped
    )
    assert isinstance(mapped, SegmentNotMapped)
    assert mapped.path == "/tmp/torchinductor_a/x/y.so"


@pytest.mark.parametrize(
    ("path", "kind", "root"),
    [
        ("/tmp/torchinductor_ada/ab/x.py", "inductor", "/tmp/torchinductor_ada"),
        ("/tmp/torchinductor_ada/triton/0/AB/k.so", "triton", "/tmp/torchinductor_ada/triton"),
        ("/home/ada/.triton/cache/AB", "triton", "/home/ada/.triton"),
        (
            "/home/ada/.cache/torch_extensions/py311_cu128/x",
            "extensions",
            "/home/ada/.cache/torch_extensions",
        ),
        ("/home/ada/.nv/ComputeCache/1", "cuda", "/home/ada/.nv"),
        (r"C:\Users\ada\.triton\cache\AB\cuda_utils.pyd", "triton", r"C:\Users\ada\.triton"),
    ],
)
def test_whose_cache_a_path_is(path: str, kind: str, root: str) -> None:
    found = kind_of(path)
    assert found == kind
    assert cache_root(path, found) == root


@pytest.mark.parametrize(
    "path",
    [
        "/data/train.csv",
        "/v/lib/python3.11/site-packages/triton/runtime/cache.py",
        "/opt/tritonserver/lib/x.so",
        "/srv/triton-models/a",
    ],
)
def test_what_is_no_cache(path: str) -> None:
    assert not is_cached(path)


def test_releases_in_sessions() -> None:
    text = "$ /usr/local/cuda-12.8/bin/nvcc --version | tail -2\nCuda compilation tools, release 12.8, V12.8.93\nBuild cuda_12.8.r12.8/compiler.35583870_0\n"
    nvcc = fact(read(check, text), Nvcc)
    assert isinstance(nvcc, Nvcc)
    assert (nvcc.nvcc_cuda, nvcc.path) == ("12.8.93", "/usr/local/cuda-12.8/bin/nvcc")
    compiler = fact(
        read(check, "$ gcc --version | head -1\ngcc (GCC) 13.2.1 20240316 (Red Hat 13.2.1-7)\n"), HostCompiler
    )
    assert isinstance(compiler, HostCompiler)
    assert compiler.release == "13.2.1"
    headers = fact(read(check, "#define CUDART_VERSION  13000\n"), CudaHeaders)
    assert isinstance(headers, CudaHeaders)
    assert headers.headers_cuda == "13.0"


def test_the_release_of_ptxas_is_not_nvccs() -> None:
    text = "$ ptxas --version\nptxas: NVIDIA (R) Ptx optimizing assembler\nCuda compilation tools, release 12.4, V12.4.99\n"
    assert fact(read(check, text), Nvcc) is None


def test_collect_env_tells_compiler_and_nvcc() -> None:
    facts = read(
        check, "GCC version: (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0\nCUDA runtime version: 12.1.105\n"
    )
    compiler, nvcc = fact(facts, HostCompiler), fact(facts, Nvcc)
    assert isinstance(compiler, HostCompiler)
    assert isinstance(nvcc, Nvcc)
    assert (compiler.release, nvcc.nvcc_cuda) == ("11.4.0", "12.1.105")


def test_frames_show_what_is_at_work() -> None:
    text = '  File "/v/site-packages/triton/runtime/jit.py", line 5, in run\n  File "/v/site-packages/torch/_inductor/x.py", line 9, in y\n'
    assert {each.what for each in read(check, text).symptoms(CompilerAtWork)} == {"triton", "inductor"}
