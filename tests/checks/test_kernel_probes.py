"""Compilers, headers, toolkits, caches and releases by the files and programs of a real folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from envdoctor.facts import CouldNotLook, Source
from envdoctor.host import Host
from envdoctor.target import Target, TargetPaths
from envdoctor.tree import host_tree
from envdoctor_checks.kernel import probe_caches, probe_files, probe_releases
from envdoctor_checks.kernel.facts import (
    PARTS,
    CacheDirectories,
    CacheDirectory,
    Compilers,
    CudaHeaders,
    CudaToolkit,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces and other users take root")
GCC_BANNER = "gcc (Ubuntu 13.3.0-6ubuntu2~24.04) 13.3.0\nCopyright (C) 2023 Free Software Foundation, Inc.\n"
NVCC_BANNER = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.4, V12.4.131\nBuild cuda_12.4.r12.4/compiler.34097967_0\n"


def program(path: Path, prints: str = "") -> Path:
    """A shell script in the place of a compiler."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / f".{path.name}.txt").write_text(prints)
    path.write_text(f'#!/bin/sh\ncat "{path.parent}/.{path.name}.txt"\n')
    path.chmod(0o755)
    return path


def live(**environ: str) -> Host:
    return Host.here(environ={"PATH": "", **environ})


def target(python: str = sys.executable) -> Target:
    return Target(python=python, why="", named=True, source=Source("env", "--python"))


def paths(**changes: object) -> TargetPaths:
    told = TargetPaths(
        version="3.11.7", implementation="CPython", prefix="/v", base_prefix="/b", executable="/v/bin/python", sys_path=(),
        site_packages=(), user_site=None, include="/none", soabi="", machine="x86_64", conda=False, externally_managed=False,
        source=Source("child"),
    )  # fmt: skip
    return msgspec.structs.replace(told, **changes)


def test_no_compiler_is_a_fact_and_not_a_gap(tmp_path: Path) -> None:
    found = probe_files.compilers(live(PATH=str(tmp_path)))
    assert (found.c, found.c_via, found.cxx, found.cxx_via) == (None, "PATH", None, "PATH")


def test_compilers_in_the_order_of_triton_and_inductor(tmp_path: Path) -> None:
    clang = program(tmp_path / "one" / "clang")
    gcc = program(tmp_path / "two" / "gcc")
    where = f"{tmp_path}/one:{tmp_path}/two"
    assert probe_files.compilers(live(PATH=str(tmp_path / "one"))).c == str(clang)
    assert probe_files.compilers(live(PATH=where)).c == str(gcc)
    assert probe_files.compilers(live(PATH=where)).cxx is None  # Inductor looks for g++ alone


def test_variables_name_compilers_even_where_they_are_not_there(tmp_path: Path) -> None:
    gcc = program(tmp_path / "gcc")
    found = probe_files.compilers(live(PATH=str(tmp_path), CC="ccache gcc -m64", CXX="/opt/gone/g++"))
    assert (found.c, found.c_via) == (str(gcc), "CC")
    assert (found.cxx, found.cxx_via) == (None, "CXX")


def test_a_file_that_may_not_be_executed_is_no_compiler(tmp_path: Path) -> None:
    (tmp_path / "gcc").write_text("not a program")
    assert probe_files.compilers(live(PATH=str(tmp_path))).c is None


def test_ninja_beside_the_interpreter_is_told_apart_from_path(tmp_path: Path) -> None:
    beside = program(tmp_path / "venv" / "bin" / "ninja")
    python = str(tmp_path / "venv" / "bin" / "python")
    off_path = probe_files.ninja(live(), target(python))
    assert (off_path.path, off_path.beside_python) == (None, str(beside))
    assert probe_files.ninja(live(PATH=str(beside.parent)), target(python)).path == str(beside)
    assert probe_files.ninja(live(), target("/nowhere/bin/python")).beside_python is None


def test_python_headers_where_the_interpreter_says(tmp_path: Path) -> None:
    without = probe_files.python_headers(live(), paths(include=str(tmp_path)))
    assert not without.found
    (tmp_path / "Python.h").write_text("")
    assert probe_files.python_headers(live(), paths(include=str(tmp_path))).found


def toolkit_at(root: Path, *, cuda: int = 12040, without: tuple[str, ...] = ()) -> Path:
    for part in PARTS:
        if part not in without:
            (root / part).parent.mkdir(parents=True, exist_ok=True)
            (root / part).write_text("")
    (root / "include").mkdir(parents=True, exist_ok=True)
    (root / "include" / "cuda_runtime_api.h").write_text(f"#if 1\n#define CUDART_VERSION  {cuda}\n#endif\n")
    if "bin/nvcc" not in without:
        program(root / "bin" / "nvcc", NVCC_BANNER)
    return root


def toolkit_of(host: Host) -> tuple[CudaToolkit, CudaHeaders | None]:
    return probe_files.cuda_toolkit(host)


def test_a_whole_toolkit_misses_nothing(tmp_path: Path) -> None:
    root = toolkit_at(tmp_path / "cuda-12.4")
    (root / "version.json").write_text('{"cuda" : {\n "name" : "CUDA SDK",\n "version" : "12.4.1"\n }}')
    toolkit, headers = toolkit_of(live(CUDA_HOME=str(root)))
    assert (toolkit.root, toolkit.found_via, toolkit.exists, toolkit.missing) == (
        str(root),
        "CUDA_HOME",
        True,
        (),
    )
    assert (toolkit.nvcc, toolkit.stated_cuda) == (f"{root}/bin/nvcc", "12.4.1")
    assert headers is not None
    assert headers.headers_cuda == "12.4"


def test_headers_of_cccl_count_where_cuda_13_keeps_them(tmp_path: Path) -> None:
    root = toolkit_at(tmp_path, without=("include/nv/target", "include/thrust/complex.h"))
    for part in ("nv/target", "thrust/complex.h"):
        (root / "include" / "cccl" / part).parent.mkdir(parents=True, exist_ok=True)
        (root / "include" / "cccl" / part).write_text("")
    assert toolkit_of(live(CUDA_HOME=str(root)))[0].missing == ()


def test_parts_that_are_not_there_are_named(tmp_path: Path) -> None:
    gone = ("include/cusparse.h", "nvvm/bin/cicc")
    assert set(toolkit_of(live(CUDA_HOME=str(toolkit_at(tmp_path, without=gone))))[0].missing) == set(gone)


def test_a_variable_that_leads_nowhere(tmp_path: Path) -> None:
    toolkit, headers = toolkit_of(live(CUDA_HOME=str(tmp_path / "gone"), CUDA_PATH=str(tmp_path)))
    assert (toolkit.found_via, toolkit.exists, toolkit.nvcc, toolkit.missing) == (
        "CUDA_HOME",
        False,
        None,
        (),
    )
    assert headers is None


def test_nvcc_on_path_leads_to_its_toolkit(tmp_path: Path) -> None:
    root = toolkit_at(tmp_path / "cuda")
    toolkit, _ = toolkit_of(live(PATH=f"{root}/bin"))
    assert (toolkit.root, toolkit.found_via) == (str(root), "PATH")


def test_without_any_hint_there_is_none(tmp_path: Path) -> None:
    host = host_tree(tmp_path, environ={"PATH": "/usr/bin"})
    toolkit, headers = toolkit_of(host)
    assert (toolkit.root, toolkit.found_via, headers) == (None, "none", None)


def test_releases_as_the_programs_print_them(tmp_path: Path) -> None:
    root = toolkit_at(tmp_path / "cuda")
    gcc = program(tmp_path / "g++", GCC_BANNER)
    known = Compilers(c=str(gcc), c_via="PATH", cxx=str(gcc), cxx_via="PATH", source=Source("env"))
    host = Host.here()
    compiler = probe_releases.host_compiler(host, known)
    assert compiler is not None
    assert (compiler.family, compiler.release, compiler.major) == ("gcc", "13.3.0", 13)
    nvcc = probe_releases.nvcc(host, toolkit_of(live(CUDA_HOME=str(root)))[0])
    assert nvcc is not None
    assert nvcc.nvcc_cuda == "12.4.131"


@pytest.mark.parametrize(
    ("banner", "told"),
    [
        ("g++ (Debian 12.2.0-14) 12.2.0", ("gcc", "12.2.0")),
        ("gcc (GCC) 15.1.1 20250521 (Red Hat 15.1.1-2)", ("gcc", "15.1.1")),
        ("x86_64-conda-linux-gnu-c++ (conda-forge gcc 13.3.0-1) 13.3.0", ("gcc", "13.3.0")),
        ("Ubuntu clang version 14.0.0-1ubuntu1.1", ("clang", "14.0.0")),
        ("Apple clang version 15.0.0 (clang-1500.3.9.4)", ("clang", "15.0.0")),
        ("tcc version 0.9.27 (x86_64 Linux)", None),
    ],
)
def test_first_lines_of_compilers(banner: str, told: tuple[str, str] | None) -> None:
    assert probe_releases.compiler_release(banner) == told


def test_the_compilers_of_this_machine_are_understood() -> None:
    for name in ("gcc", "g++", "clang"):
        path = shutil.which(name)
        if path is not None:
            banner = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
            assert probe_releases.compiler_release(banner) is not None, banner


def test_a_compiler_that_cannot_be_run_is_no_answer(tmp_path: Path) -> None:
    broken = program(tmp_path / "g++")
    broken.write_text("#!/bin/sh\nexit 3\n")
    known = Compilers(c=None, c_via="PATH", cxx=str(broken), cxx_via="PATH", source=Source("env"))
    with pytest.raises(CouldNotLook, match="exited"):
        probe_releases.host_compiler(Host.here(), known)


def test_every_ptxas_with_its_use(tmp_path: Path) -> None:
    own = program(tmp_path / "site" / "triton" / "backends" / "nvidia" / "bin" / "ptxas", NVCC_BANNER)
    named = program(tmp_path / "other" / "ptxas", NVCC_BANNER.replace("12.4", "13.0"))
    host = Host.here(environ={**os.environ, "TRITON_PTXAS_PATH": str(named)})
    given = probe_releases.ptx_assemblers(host, paths(site_packages=(str(tmp_path / "site"),)), None)
    assert [(each.path, each.used_by) for each in given.assemblers] == [
        (str(named), "TRITON_PTXAS_PATH"),
        (str(own), "triton"),
    ]
    assert given.of("triton")[0].ptxas_cuda == "12.4.131"


def test_without_triton_there_is_no_ptxas(tmp_path: Path) -> None:
    assert probe_releases.ptx_assemblers(live(), paths(site_packages=(str(tmp_path),)), None).assemblers == ()


def caches(host: Host) -> dict[str, CacheDirectory]:
    given = probe_caches.cache_directories(host)
    assert isinstance(given, CacheDirectories)
    return {each.kind: each for each in given.directories}


def test_caches_of_a_fresh_home_can_be_made(tmp_path: Path) -> None:
    found = caches(live(HOME=str(tmp_path), USER="alice", TMPDIR=str(tmp_path)))
    assert found["inductor"].path == f"{tmp_path}/torchinductor_alice"
    assert found["triton"].path == f"{tmp_path}/.triton/cache"
    assert found["extensions"].path == f"{tmp_path}/.cache/torch_extensions"
    assert found["cuda"].path == f"{tmp_path}/.nv/ComputeCache"
    assert all(each.writable and not each.exists and each.nearest == str(tmp_path) for each in found.values())
    assert list(tmp_path.iterdir()) == []  # nothing was made


def test_variables_move_the_caches(tmp_path: Path) -> None:
    names = {
        "TORCHINDUCTOR_CACHE_DIR": "i",
        "TRITON_CACHE_DIR": "t",
        "TORCH_EXTENSIONS_DIR": "e",
        "CUDA_CACHE_PATH": "c",
    }
    found = caches(
        live(HOME="/nowhere", USER="a", **{name: f"{tmp_path}/{end}" for name, end in names.items()})
    )
    assert {each.found_via for each in found.values()} == set(names)
    assert {each.path for each in found.values()} == {f"{tmp_path}/{end}" for end in names.values()}


def test_a_cache_that_is_off_is_not_judged(tmp_path: Path) -> None:
    assert "cuda" not in caches(live(HOME=str(tmp_path), CUDA_CACHE_DISABLE="1"))


@pytest.mark.parametrize(
    ("path", "writable", "owner"),
    [("/home/mine", True, 1000), ("/home/other", False, 1001), ("/srv/closed/below", False, 0)],
)
def test_owners_and_modes_of_another_machine(tmp_path: Path, path: str, writable: bool, owner: int) -> None:
    (tmp_path / "host.toml").write_text(
        """
        [process]
        uid = 1000
        gid = 1000
        [paths."/home/mine"]
        kind = "directory"
        uid = 1000
        gid = 1000
        [paths."/home/other"]
        kind = "directory"
        uid = 1001
        gid = 1001
        [paths."/srv/closed"]
        kind = "directory"
        mode = "0700"
        """
    )
    row = caches(host_tree(tmp_path, environ={"TRITON_CACHE_DIR": path}))["triton"]
    assert (row.writable, row.owner) == (writable, owner)


def test_noexec_read_only_and_full_file_systems(tmp_path: Path) -> None:
    (tmp_path / "host.toml").write_text(
        """
        [paths."/tmp"]
        kind = "directory"
        mode = "1777"
        [space."/tmp"]
        total = 1000
        free = 0
        noexec = true
        [paths."/root/.triton/cache"]
        kind = "directory"
        [space."/root"]
        total = 1000
        free = 500
        read_only = true
        """
    )
    found = caches(host_tree(tmp_path, environ={"HOME": "/root", "USER": "root"}))
    assert (found["inductor"].noexec, found["inductor"].free, found["inductor"].writable) == (True, 0, True)
    assert (found["triton"].read_only, found["triton"].writable, found["triton"].exists) == (
        True,
        False,
        True,
    )


@needs_root
def test_a_tmpfs_mounted_noexec_is_seen(tmp_path: Path) -> None:
    code = (
        "from envdoctor.host import Host; from envdoctor_checks.kernel.probe_caches import cache_directories as look\n"
        "print([each.noexec for each in look(Host.here()).directories if each.kind == 'triton'])"
    )
    script = f'mount --make-rprivate / && mount -t tmpfs -o noexec tmpfs {tmp_path} && exec {sys.executable} -c "{code}"'
    environ = {**os.environ, "TRITON_CACHE_DIR": f"{tmp_path}/cache"}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=60, env=environ
    )
    assert done.stdout.strip() == "[True]", done.stderr


@needs_root
def test_another_users_folder_is_seen_by_one_without_rights(tmp_path: Path) -> None:
    """In a process of an ordinary user: this one is root's, who may write everywhere."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o755)
    os.chown(folder, 4242, 4242)
    row = caches(Host.here(environ={"TRITON_CACHE_DIR": str(folder), "HOME": "/root"}))["triton"]
    assert (row.owner, row.exists) == (4242, True)
    asked = subprocess.run(
        ["setpriv", "--reuid=4243", "--regid=4243", "--clear-groups", "test", "-w", str(folder)], check=False
    )
    assert asked.returncode == 1  # what the kernel says to such a user is what `may` asks of it
