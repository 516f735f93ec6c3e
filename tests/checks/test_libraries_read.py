"""What the readers of the libraries check take out of pasted text: which files, how they are known, whose they are."""

from __future__ import annotations

import pytest

from envdoctor.facts import Facts
from envdoctor.tables import release_key
from envdoctor_checks.libraries.clues import Entries, in_wheel, install_of, normal
from envdoctor_checks.libraries.facts import LibrarySeen, SearchPath, SystemPackages
from envdoctor_checks.libraries.names import (
    file_version,
    is_cuda,
    is_watched,
    library_of_dll,
    provider_of,
    stem_of,
)
from envdoctor_checks.libraries.rules_pins import satisfied
from envdoctor_checks.libraries.tables import cudnn_users, runtimes
from tests.support.cases import doctor


def read(text: str) -> Facts:
    return doctor().read(text, "-").facts


def seen(text: str) -> list[tuple[str, str]]:
    return [(each.how, each.path) for each in read(text).symptoms(LibrarySeen)]


def elements(text: str) -> list[str] | None:
    found = read(text).get(SearchPath)
    return [each.entry for each in found.entries] if isinstance(found, SearchPath) else None


# What shows no file.


@pytest.mark.parametrize(
    "text",
    [
        "ImportError: /env/lib/libcublas.so.12: undefined symbol: cublasLtX, version libcublasLt.so.12",
        "OSError: libcudart.so.12: cannot open shared object file: No such file or directory",
        "CUDA SETUP: Loading binary /env/bitsandbytes/libbitsandbytes_cuda118.so...",
        "$ ls /opt/lib\nlibfoo.so.1\nlibbar.so",
        "ls: cannot access '/usr/local/cuda/lib64/libcudart.so.12': No such file or directory",
        "$ env | grep PRELOAD\nLD_PRELOAD=/apps/nccl/lib/libnccl.so.2",
    ],
)
def test_what_shows_no_file(text: str) -> None:
    assert seen(text) == []


# What does.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "$ ls /opt/cuda/lib64 | grep cudart\nlibcudart.so.12\nlibcudart.so.12.2.140",
            [
                ("listed", "/opt/cuda/lib64/libcudart.so.12"),
                ("listed", "/opt/cuda/lib64/libcudart.so.12.2.140"),
            ],
        ),
        ("$ ls -1 *.so\nlibcudart.so\n", [("listed", "libcudart.so")]),
        (
            "$ ls -l /opt/lib\n-rw-r--r-- 1 root root 28752 Oct  4  2023 libcudnn.so.8.9.7",
            [("listed", "/opt/lib/libcudnn.so.8.9.7")],
        ),
        (
            "$ ls -l /opt/lib/libnvrtc*\n-rw-r--r-- 1 a a 28752 Oct  4  2023 /opt/lib/libnvrtc.so.11.2",
            [("listed", "/opt/lib/libnvrtc.so.11.2")],
        ),
        (
            "$ ldd ops.so\n\tlibcublas.so.12 => /opt/cuda/lib64/libcublas.so.12 (0x00007f0c7e400000)",
            [("resolved", "/opt/cuda/lib64/libcublas.so.12")],
        ),
        (
            "$ ldd ops.so\n\t/apps/libnccl.so.2 (0x00007f0c6c200000)",
            [("resolved", "/apps/libnccl.so.2")],
        ),
        (
            "$ ldconfig -p | grep cudnn\n\tlibcudnn.so.9 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcudnn.so.9",
            [("cached", "/lib/x86_64-linux-gnu/libcudnn.so.9")],
        ),
        (
            "$ grep cudnn /proc/31/maps\n7f10-7f20 r-xp 00000000 08:01 77   /env/libcudnn.so.9",
            [("mapped", "/env/libcudnn.so.9")],
        ),
        (
            "$ lsof -p 31\npython 31 u mem REG 8,1 123 77 /env/libcudnn.so.9",
            [("mapped", "/env/libcudnn.so.9")],
        ),
        ("$ python which.py\n/env/libcudnn.so.9", [("mapped", "/env/libcudnn.so.9")]),
        (
            "$ python -m torch.utils.collect_env\ncuDNN version: Probably one of the following:\n/usr/lib/libcudnn.so.9.1.0",
            [("listed", "/usr/lib/libcudnn.so.9.1.0")],
        ),
    ],
)
def test_files_that_a_text_shows(text: str, expected: list[tuple[str, str]]) -> None:
    assert seen(text) == expected


def test_a_link_and_who_asked() -> None:
    (link,) = read(
        "$ ls -l /opt/lib/libcublas*\nlrwxrwxrwx 1 r r 9 May 1 2023 /opt/lib/libcublas.so.11 -> libcublas.so.11.5.1.109"
    ).symptoms(LibrarySeen)
    assert link.target == "libcublas.so.11.5.1.109"
    (resolved,) = read("$ ldd -r /a/ops.so\n\tlibcudart.so.12 => /b/libcudart.so.12 (0x0000)").symptoms(
        LibrarySeen
    )
    assert resolved.wanted_by == "/a/ops.so"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$ echo $LD_LIBRARY_PATH\n/a:/b", ["/a", "/b"]),
        ("$ echo $LD_LIBRARY_PATH | tr : '\\n'\n/a\n/b", ["/a", "/b"]),
        ('$ echo "[$LD_LIBRARY_PATH]"\n[]', []),
        ("2025-01-02 12:00:01 boot: LD_LIBRARY_PATH=/a/lib:/b/lib workers=4", ["/a/lib", "/b/lib"]),
        ("$ echo $PATH\n/usr/bin", None),
    ],
)
def test_ld_library_path_in_text(text: str, expected: list[str] | None) -> None:
    assert elements(text) == expected


def test_packages_of_the_system() -> None:
    found = read(
        "$ dpkg -l | grep cudnn\nii  libcudnn9-cuda-12  9.8.0.87-1  amd64  cuDNN\nii  libcudnn9-dev-cuda-12  9.8.0.87-1  amd64  cuDNN"
    ).get(SystemPackages)
    assert isinstance(found, SystemPackages)
    assert [each.name for each in found.packages] == ["libcudnn9-cuda-12", "libcudnn9-dev-cuda-12"]


# Names and paths.


def test_names() -> None:
    assert stem_of("/x/libcudart-9335f6a2.so.12") == "libcudart"
    assert stem_of("libnvrtc-builtins-e1f09c38.so.11.7") == "libnvrtc-builtins"
    assert stem_of("notes.txt") is None
    assert file_version("/x/libcudnn.so.9.10.2") == "9.10.2"
    assert file_version("libcudnn.so.9") is None
    assert [is_watched(each) for each in ("libcudnn_ops.so.9", "libcupti.so.12", "libcurl.so.4")] == [
        True,
        True,
        False,
    ]
    assert [is_cuda(each) for each in ("libcufft.so.11", "libcuda.so.1", "libstdc++.so.6")] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("dll", "library"),
    [
        ("cudnn_ops64_9.dll", "libcudnn_ops.so.9"),
        ("cublas64_12.dll", "libcublas.so.12"),
        ("cudart64_110.dll", "libcudart.so.11"),
        ("cudnn_ops_infer64_8.dll", "libcudnn_ops_infer.so.8"),
        ("zlibwapi.dll", None),
    ],
)
def test_dlls(dll: str, library: str | None) -> None:
    assert library_of_dll(dll) == library


@pytest.mark.parametrize(
    ("symbol", "version", "provider"),
    [
        ("anything", "libcublasLt.so.12", "libcublasLt.so.12"),
        ("cublasLtCreate", None, "libcublasLt"),
        ("__nvJitLinkAddData_12_1", None, "libnvJitLink"),
        ("cudaMalloc", None, "libcudart"),
        ("cuMemCreate", None, None),
        ("_ZN2at6TensorD1Ev", None, None),
        ("PyInit_x", "GLIBC_2.34", None),
    ],
)
def test_whose_symbol_it_is(symbol: str, version: str | None, provider: str | None) -> None:
    assert provider_of(symbol, version) == provider


def test_paths() -> None:
    assert normal("/a/torch/lib/../../nvidia//cublas/lib/x.so") == "/a/nvidia/cublas/lib/x.so"
    assert normal("/usr/local/cuda-12.2/targets/x86_64-linux/lib/x.so") == "/usr/local/cuda-12.2/lib64/x.so"
    assert (
        install_of("/e/lib/python3.12/site-packages/nvidia/cudnn/lib/x.so")
        == "/e/lib/python3.12/site-packages"
    )
    assert install_of("/usr/local/cuda-12.2/lib64/x.so") == "/usr/local/cuda-12.2"
    assert not in_wheel("/opt/conda/envs/a/lib/libcublas.so.11")


def test_which_element_supplies_a_file() -> None:
    entries = Entries(("/usr/local/cuda/lib64", "/opt/x", "/usr/local/nvidia/lib64"), True)
    assert (
        entries.supplying("/usr/local/cuda-12.2/targets/x86_64-linux/lib/libcudnn.so.8")
        == "/usr/local/cuda/lib64"
    )
    assert entries.supplying("/opt/x/deeper/libcudnn.so.8") is None
    assert entries.of_cuda() == ("/usr/local/cuda/lib64",)


@pytest.mark.parametrize(
    ("version", "specifier", "expected"),
    [
        ("12.8.90", "==12.8.90", True),
        ("12.8.57", "==12.8.90", False),
        ("13.0.96", "==13.0.96.*", True),
        ("13.0.9", "==13.0.96.*", False),
        ("13.1.1.3", "<=13.1.1.3,>=13.1.0.3", True),
        ("13.2", "<=13.1.1.3,>=13.1.0.3", False),
        ("2.0", "@ file:///x.whl", True),
        ("9.10.2.21", "", True),
    ],
)
def test_versions_against_specifiers(version: str, specifier: str, expected: bool) -> None:
    assert satisfied(version, specifier) is expected


# Tables.


def test_the_gcc_behind_a_version_and_systems_with_a_glibc() -> None:
    table = runtimes()
    assert table.gcc_for("GLIBCXX_3.4.30") == "12"
    assert table.gcc_for("GLIBCXX_9.9.9") is None
    assert table.systems_for("2.36")[0].system == "Debian 12"
    glibcs = [row.glibc for row in table.systems]
    assert glibcs == sorted(glibcs, key=release_key)


@pytest.mark.parametrize(
    ("distribution", "version", "major"),
    [
        ("faster-whisper", "4.4.0", 8),
        ("ctranslate2", "4.5.0", 9),
        ("onnxruntime-gpu", "1.20.1", 9),
        ("torch", "2.3.1", 8),
    ],
)
def test_who_looks_for_which_cudnn(distribution: str, version: str, major: int) -> None:
    row = cudnn_users().of(distribution)
    assert row is not None
    assert row.major(version) == major


def test_who_does_not_look_for_cudnn() -> None:
    assert cudnn_users().of("numpy") is None
