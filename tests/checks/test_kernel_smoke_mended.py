"""A toolchain, a disk, a folder or a limit is broken for real; what envdoctor offers is done, and the next run is green.

The commands are taken from the report and typed into the shell of the first check, word for word. Packages are not
installed: there the command must name the right one, and what it brings is put back.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.checks.test_kernel_smoke import fake_torch, needs_compilers, needs_torch, torch_python
from tests.support.faults import (
    SOMEBODY,
    Report,
    Shell,
    for_somebody,
    mounted,
    needs_bash,
    needs_root,
    open_folder,
    shell,
)

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="namespaces, limits and signals as on Linux"),
    needs_bash,
]
CPU = ("--device", "cpu")


def asked(python: str, code: str) -> str:
    """What an interpreter prints."""
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def on_debian() -> bool:
    """Whether packages have the names that they have in Debian and Ubuntu."""
    try:
        told = platform.freedesktop_os_release()
    except OSError:
        return False
    return "debian" in (told["ID"], *told.get("ID_LIKE", "").split())


# What packages bring


class Toolchain(msgspec.Struct, frozen=True):
    """The reports on a machine that lacks one part after the other, and on the whole machine afterwards."""

    no_compiler: Report
    no_headers: Report
    no_omp_header: Report
    no_gomp: Report
    whole: Report


@pytest.fixture(scope="module")
def toolchain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolchain]:
    """One shell: each part is hidden, looked at and put back; then it is the machine with all of them."""
    folder = tmp_path_factory.mktemp("toolchain")
    python = torch_python()
    headers = asked(python, "import sysconfig; print(sysconfig.get_paths()['include'])")
    (folder / "empty").mkdir()
    with mounted(folder, CC="", CXX="") as made:
        made.run(f"kept=$PATH; export PATH={folder}/empty")
        no_compiler = made.check(python, "--deep")
        made.run("export PATH=$kept")
        made.run(f"mount -t tmpfs tmpfs {headers}")
        no_headers = made.check(python, "--deep")
        made.run(f"umount {headers} && [ -e {headers}/Python.h ]")
        no_omp_header = without_openmp(made, "include", "omp.h")
        no_gomp = without_openmp(made, "", "libgomp.*")
        yield Toolchain(no_compiler, no_headers, no_omp_header, no_gomp, made.check(python, *CPU))


def without_openmp(made: Shell, below: str, names: str) -> Report:
    """The report where these files are not in GCC's own folder: all others are, by links."""
    made.run(f'gcc=$(dirname "$(g++ -print-libgcc-file-name)")/{below}; behind={made.folder}/behind')
    made.run('mkdir -p $behind; mount --bind "$gcc" $behind; mount -t tmpfs tmpfs "$gcc"')
    made.run(f'ln -s $behind/* "$gcc"; rm "$gcc"/{names}')
    told = made.check(torch_python(), *CPU)
    made.run('umount "$gcc" && umount $behind')
    return told


@pytest.mark.slow
@needs_torch
@needs_compilers
@needs_root
def test_the_whole_toolchain_is_green(toolchain: Toolchain) -> None:
    toolchain.whole.is_green()


@pytest.mark.slow
@needs_torch
@needs_compilers
@needs_root
def test_no_compiler_on_path(toolchain: Toolchain) -> None:
    told = toolchain.no_compiler
    assert told.roots["kernel/cxx-compiler-missing"] == "error"
    (failed,) = told.findings("kernel/compile-failed")
    assert failed["role"] == "consequence"
    assert "kernel/cxx-compiler-missing" in failed["consequence_of"]
    if on_debian():
        assert told.fix("kernel/cxx-compiler-missing", "apt-get install")[0].endswith("install -y g++")
        assert "install -y gcc" in told.fix("kernel/c-compiler-missing", "apt-get install")[0]
    assert not {"kernel/cxx-compiler-missing", "kernel/c-compiler-missing"} & toolchain.whole.roots.keys()


@pytest.mark.slow
@needs_torch
@needs_compilers
@needs_root
def test_a_python_without_its_headers(toolchain: Toolchain) -> None:
    """What made the interpreter makes it again; the system's package has headers for the system's Python only."""
    told = toolchain.no_headers
    assert told.roots["kernel/python-headers-missing"] == "error"
    assert "kernel/compile-failed" not in told.roots
    commands = told.commands("kernel/python-headers-missing")
    ask = "import sysconfig, platform; print(platform.python_version(), sysconfig.get_paths()['include'])"
    version, include = asked(torch_python(), ask).split()
    system_s = include.startswith("/usr/include/")
    assert any("apt-get" in each or "dnf" in each for each in commands) == system_s, commands
    if "pyenv" in include:
        assert f"pyenv install --force {version}" in commands
    assert "kernel/python-headers-missing" not in toolchain.whole.roots


@pytest.mark.slow
@needs_torch
@needs_compilers
@needs_root
@pytest.mark.parametrize("part", ["no_omp_header", "no_gomp"])
def test_no_openmp(toolchain: Toolchain, part: str) -> None:
    told: Report = getattr(toolchain, part)
    assert told.roots["kernel/openmp-missing"] == "error"
    assert "kernel/compile-failed" not in told.roots
    commands = told.commands("kernel/openmp-missing")
    if on_debian():
        assert any(each.endswith("install -y g++") for each in commands)
    assert not [each for each in commands if "OMP_PREFIX" in each], "Inductor reads it on macOS only"
    assert "kernel/openmp-missing" not in toolchain.whole.roots


@needs_root
@pytest.mark.skipif(not on_debian(), reason="the package's name is that of Debian and Ubuntu")
def test_the_headers_of_the_systems_python_are_a_package(tmp_path: Path) -> None:
    """The interpreter that the system brings, whose package is named after its release; the torch is one of our own."""
    python = "/usr/bin/python3"
    if not os.access(python, os.X_OK):
        pytest.skip("the system brings no Python")
    ask = "import sys, sysconfig; print('%d.%d' % sys.version_info[:2], sysconfig.get_paths()['include'])"
    version, include = asked(python, ask).split()
    fake_torch(tmp_path, "return Tensor()")
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    with mounted(tmp_path, PYTHONPATH=str(site)) as made:
        if Path(include).is_dir():
            made.run(f"mount -t tmpfs tmpfs {include}")
        commands = made.check(python, "--quick").commands("kernel/python-headers-missing")
        assert any(f"apt-get install -y python{version}-dev" in each for each in commands), commands
        if Path(include, "Python.h").is_file():  # else there is nothing to be put back
            made.run(f"umount {include}")
            assert "kernel/python-headers-missing" not in made.check(python, "--quick").roots


# Folders and disks


@pytest.mark.slow
@needs_torch
@needs_compilers
@needs_root
@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param("mount -t tmpfs -o noexec tmpfs $TMPDIR", id="temporary files"),
        pytest.param(
            "mkdir $HOME/mine; mount -t tmpfs -o noexec tmpfs $HOME/mine; export TORCHINDUCTOR_CACHE_DIR=$HOME/mine",
            id="the cache itself",
        ),
    ],
)
def test_a_folder_from_which_nothing_may_be_loaded(tmp_path: Path, prepare: str) -> None:
    """It is one cause, and told once; another folder mends it, and so does another mount option."""
    with mounted(tmp_path) as made:
        made.run(prepare)
        told = made.check(torch_python(), "--deep")
        (found,) = told.findings("kernel/cache-dir-noexec")
        assert (found["role"], found["severity"]) == ("root", "error")
        assert "kernel/compile-failed" not in told.roots
        remount = told.fix("kernel/cache-dir-noexec", "remount,exec")
        moved = told.fix("kernel/cache-dir-noexec", "export TORCHINDUCTOR_CACHE_DIR=")
        made.run("before=${TORCHINDUCTOR_CACHE_DIR-}")
        made.apply(moved)
        made.check(torch_python(), *CPU).is_green()
        made.run("export TORCHINDUCTOR_CACHE_DIR=$before")
        made.apply(remount)
        roots = made.check(torch_python()).roots  # what is compiled without torch is loaded, too
        assert not {"kernel/cache-dir-noexec", "kernel/compile-failed"} & roots.keys()


@pytest.mark.slow
@needs_torch
@needs_compilers
@needs_root
def test_a_full_disk_under_temporary_files(tmp_path: Path) -> None:
    with mounted(tmp_path) as made:
        made.run("mount -t tmpfs -o size=2m tmpfs $TMPDIR")
        made.run("dd if=/dev/zero of=$TMPDIR/filler bs=4k count=480")
        told = made.check(torch_python(), *CPU)
        assert told.roots["host/disk-full"] == "error"
        assert "kernel/compile-failed" not in told.roots
        made.apply(told.fix("host/disk-full", "export TMPDIR="))
        made.check(torch_python(), *CPU).is_green()


def without_overriding(folder: Path) -> tuple[str, ...]:
    """root without the right to write everywhere; skips where it has it even so."""
    bound = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv to give rights away with")
    may = "import os, sys; print(os.access(sys.argv[1], os.W_OK))"
    told = subprocess.run([*bound, sys.executable, "-c", may, str(folder)], capture_output=True, text=True)
    if told.stdout.strip() != "False":
        pytest.skip("root may write everywhere here")
    return bound


def foreign(folder: Path) -> Path:
    """A cache that another user made."""
    cache = folder / "torchinductor_root"
    cache.mkdir(mode=0o755)
    os.chown(cache, SOMEBODY, SOMEBODY)
    return cache


OWNED = "kernel/cache-dir-owned-by-other-user"


@needs_root
@pytest.mark.parametrize("having", ["chown", "export TORCHINDUCTOR_CACHE_DIR="])
def test_a_cache_of_another_user_is_named_without_being_tried(tmp_path: Path, having: str) -> None:
    cache = foreign(tmp_path)
    python = fake_torch(tmp_path, "return Tensor()")
    with shell(tmp_path, *without_overriding(cache), TORCHINDUCTOR_CACHE_DIR=str(cache)) as made:
        told = made.check(python, "--quick")
        assert [each["subject"] for each in told.findings(OWNED)] == [f"path:{cache}"]
        made.apply(told.fix(OWNED, having))
        assert OWNED not in made.check(python, "--quick").roots


@pytest.mark.slow
@needs_torch
@needs_compilers
@needs_root
def test_what_is_compiled_goes_into_the_cache_that_was_handed_over(tmp_path: Path) -> None:
    cache = foreign(tmp_path)
    with shell(tmp_path, *without_overriding(cache), TORCHINDUCTOR_CACHE_DIR=str(cache)) as made:
        made.apply(made.check(torch_python(), "--quick").fix(OWNED, "chown"))
        before = cache.stat().st_mtime_ns
        made.check(torch_python(), *CPU).is_green()
        assert cache.stat().st_mtime_ns > before, "a private folder was made there, and removed"
        assert list(cache.iterdir()) == []


# Users


NAMELESS = "container/uid-without-passwd-entry"


@pytest.mark.slow
@needs_torch
@needs_compilers
@needs_root
def test_a_user_without_a_name_or_a_home() -> None:
    """Torch 2.13 asks for no name, and an older one warns; what is offered for name and home leaves nothing to be said."""
    where = "import os, torch; print(os.path.dirname(os.path.dirname(torch.__file__)), torch.__version__)"
    site, release = asked(torch_python(), where).split()
    with open_folder() as folder:
        python, prefix = for_somebody(folder, site)
        with shell(folder, *prefix) as made:
            told = made.check(python, own=python)
            asks = tuple(map(int, release.split(".")[:2])) < (2, 13)
            assert told.roots[NAMELESS] == ("warning" if asks else "note")
            made.apply(told.fix(NAMELESS, "export USER="))
            made.apply(told.fix("container/home-not-writable", "export XDG_CACHE_HOME="))
            after = made.check(python, *CPU, own=python)
            after.is_green()
            assert NAMELESS not in after.roots


@needs_root
def test_a_torch_that_asks_for_a_name() -> None:
    """One of our own, of a release that asks; Python's own getpass raises."""
    with open_folder() as folder:
        fake_torch(folder, "__import__('getpass').getuser(); return Tensor()")
        site = next((folder / "venv").glob("lib/python*/site-packages"))
        python, prefix = for_somebody(folder, str(site))
        with shell(folder, *prefix) as made:
            told = made.check(python, own=python)
            assert told.roots[NAMELESS] == "error"
            assert "kernel/eager-failed" not in told.roots
            made.apply(told.fix(NAMELESS, "export USER="))
            after = made.check(python, own=python)
            assert after.smoke.startswith("eager ok")
            assert not {NAMELESS, "kernel/eager-failed"} & after.roots.keys()


# Limits


@pytest.mark.slow
@needs_torch
@needs_compilers
def test_a_limit_of_the_address_space(tmp_path: Path) -> None:
    with shell(tmp_path) as made:
        made.run("ulimit -S -v 600000")
        told = made.check(torch_python(), *CPU)
        if not {"kernel/address-space-limit", "torch/import-fails"} & told.roots.keys():
            pytest.skip("this torch needs less address space than that")
        assert told.roots["kernel/address-space-limit"] == "error"
        assert "torch/import-fails" not in told.roots
        made.apply(told.fix("kernel/address-space-limit", "ulimit -v"))
        made.check(torch_python(), *CPU).is_green()


def test_a_limit_of_open_files(tmp_path: Path) -> None:
    """A torch of our own that opens as many files as a program with many workers."""
    python = fake_torch(tmp_path, "sys.kept = [open('/dev/null') for _ in range(300)]; return Tensor()")
    with shell(tmp_path) as made:
        made.run("ulimit -S -n 128")
        told = made.check(python)
        assert told.roots["host/fd-limit"] == "error"
        assert "kernel/eager-failed" not in told.roots
        made.apply(told.fix("host/fd-limit", "ulimit -n"))
        after = made.check(python)
        assert after.smoke.startswith("eager ok")
        assert "host/fd-limit" not in after.roots
