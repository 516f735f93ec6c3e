"""Where the driver's libraries are found: in trees with real libraries and a cache that the real ldconfig wrote."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from envdoctor.facts import Source
from envdoctor.platform import Platform
from envdoctor.tree import host_tree
from envdoctor_checks.driver.facts import KernelModule, UserLibraries
from envdoctor_checks.driver.probe_libraries import kind_of, user_libraries
from envdoctor_checks.driver.reasoning import elsewhere, loaders_choice
from tests.support.fake_driver import FakeDriver

LDCONFIG = shutil.which("ldconfig", path="/sbin:/usr/sbin:/bin:/usr/bin")
DEBIAN = Platform(
    system="linux", machine="x86_64", distribution="debian", source=Source("file", "/etc/os-release")
)
FEDORA = Platform(
    system="linux", machine="x86_64", distribution="fedora", source=Source("file", "/etc/os-release")
)
RELEASE = "570.133.20"


def cache(root: Path, *folders: str) -> None:
    """Write the tree's ld.so.cache with the machine's own ldconfig."""
    if LDCONFIG is None:
        pytest.skip("no ldconfig on this machine")
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc" / "ld.so.conf").write_text("".join(f"{folder}\n" for folder in folders))
    subprocess.run([LDCONFIG, "-r", str(root), "-X"], check=True, capture_output=True)


def found(
    root: Path, platform: Platform = DEBIAN, module: str | None = None, **environ: str
) -> UserLibraries:
    loaded = KernelModule(release=module, source=Source("file", "/sys")) if module else None
    return user_libraries(host_tree(root, environ=environ), platform, loaded)


def test_a_package_in_the_cache(fake_driver: FakeDriver, tmp_path: Path) -> None:
    fake_driver.install(tmp_path, RELEASE, "usr/lib/x86_64-linux-gnu")
    cache(tmp_path, "/usr/lib/x86_64-linux-gnu")
    libraries = found(tmp_path)
    chosen = loaders_choice(libraries)
    assert chosen is not None
    assert (chosen.release, chosen.kind, chosen.found_via) == (RELEASE, "driver", "cache")
    assert chosen.file == f"/usr/lib/x86_64-linux-gnu/libcuda.so.{RELEASE}"
    assert libraries.absent == ()
    assert elsewhere(libraries) == ()


def test_a_folder_that_only_the_cache_knows(fake_driver: FakeDriver, tmp_path: Path) -> None:
    fake_driver.install(tmp_path, RELEASE, "opt/vendor/lib")
    assert found(tmp_path).absent == ("libcuda.so.1", "libnvidia-ml.so.1", "libcuda.so")
    cache(tmp_path, "/opt/vendor/lib")
    chosen = loaders_choice(found(tmp_path))
    assert chosen is not None
    assert chosen.path == "/opt/vendor/lib/libcuda.so.1"


def test_a_folder_where_the_loader_does_not_look(fake_driver: FakeDriver, tmp_path: Path) -> None:
    fake_driver.install(tmp_path, RELEASE, "usr/local/nvidia/lib64")
    libraries = found(tmp_path)
    assert loaders_choice(libraries) is None
    assert [each.path for each in elsewhere(libraries)] == ["/usr/local/nvidia/lib64/libcuda.so.1"]
    told = found(tmp_path, LD_LIBRARY_PATH="/nowhere:/usr/local/nvidia/lib64:")
    chosen = loaders_choice(told)
    assert chosen is not None
    assert chosen.found_via == "ld-library-path"
    assert elsewhere(told) == ()


def test_64_bit_folders_are_the_default_elsewhere_than_on_debian(
    fake_driver: FakeDriver, tmp_path: Path
) -> None:
    fake_driver.install(tmp_path, RELEASE, "usr/lib64")
    assert loaders_choice(found(tmp_path, FEDORA)) is not None
    assert loaders_choice(found(tmp_path, DEBIAN)) is None


def test_compat_and_stubs_are_not_the_drivers_own(fake_driver: FakeDriver, tmp_path: Path) -> None:
    fake_driver.install(tmp_path, "575.57.08", "usr/local/cuda-12.9/compat")
    stubs = tmp_path / "usr/local/cuda-12.9/lib64/stubs"
    stubs.mkdir(parents=True)
    shutil.copy2(fake_driver.lib_dir / "libcuda.so", stubs / "libcuda.so")
    libraries = found(tmp_path)
    assert {(each.soname, each.kind) for each in libraries.libraries} >= {
        ("libcuda.so.1", "compat"),
        ("libcuda.so", "stub"),
    }
    assert elsewhere(libraries) == ()
    assert "libcuda.so.1" in libraries.absent


def test_a_dangling_link_is_no_library(fake_driver: FakeDriver, tmp_path: Path) -> None:
    folder = fake_driver.install(tmp_path, RELEASE)
    (folder / f"libcuda.so.{RELEASE}").unlink()
    libraries = found(tmp_path)
    assert [each.file for each in libraries.of("libcuda.so.1")] == [None]
    assert loaders_choice(libraries) is None


def test_the_modules_own_release_beside_an_old_link(fake_driver: FakeDriver, tmp_path: Path) -> None:
    folder = fake_driver.install(tmp_path, "535.104.05")
    shutil.copy2(fake_driver.lib_dir / "libcuda.so.1", folder / f"libcuda.so.{RELEASE}")
    beside = found(tmp_path, module=RELEASE).of(f"libcuda.so.{RELEASE}")
    assert [each.path for each in beside] == [f"/usr/lib/x86_64-linux-gnu/libcuda.so.{RELEASE}"]
    assert found(tmp_path, module="535.104.05").of(f"libcuda.so.{RELEASE}") == ()


def test_a_broken_cache_is_none(fake_driver: FakeDriver, tmp_path: Path) -> None:
    fake_driver.install(tmp_path, RELEASE)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ld.so.cache").write_bytes(b"no cache")
    assert loaders_choice(found(tmp_path)) is not None


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.1", "driver"),
        ("/usr/local/cuda-12.4/compat/libcuda.so.1", "compat"),
        ("/usr/local/cuda/compat/lib.real/libcuda.so.1", "compat"),
        ("/opt/conda/cuda-compat/libcuda.so.1", "compat"),
        ("/usr/local/cuda/lib64/stubs/libcuda.so", "stub"),
        ("/usr/lib/wsl/lib/libcuda.so.1", "wsl"),
        ("/home/me/compatibility/libcuda.so.1", "driver"),
    ],
)
def test_kinds_by_place(path: str, kind: str) -> None:
    assert kind_of(path, path) == kind
