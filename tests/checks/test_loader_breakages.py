"""Real breakages of a real torch of ours: each is named by its rule, and its fix, carried out, makes the import work."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from envdoctor.check import Tier
from envdoctor.report import Selection
from tests.support.cases import doctor
from tests.support.flash_attn import MODULE, flash_attn, source_distribution
from tests.support.libraries import build, versioned
from tests.support.loader_oracle import why_not
from tests.support.small_torch import CORE, INCLUDE, NCCL, NEW, NEWEST, OLD, SOABI, Parts, Shape, SmallTorch
from tests.support.wheels import packed

if TYPE_CHECKING:
    from collections.abc import Callable

    from envdoctor.prescribe import Fix
    from envdoctor.report import FindingEntry

    Make = Callable[[Shape], SmallTorch]

pip = pytest.importorskip("pip", reason="the fixes are carried out with pip")
pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to make libraries with"),
    pytest.mark.skipif(
        not os.path.exists(f"{INCLUDE.removeprefix('-I')}/Python.h"),
        reason="no Python.h to make an extension with",
    ),
]
IMPORT = "import torch"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def make(tmp_path: Path, parts: Parts) -> Make:
    return lambda shape: SmallTorch(tmp_path, shape, parts)


def findings(torch: SmallTorch, area: str | None = "libraries", **variables: str) -> list[FindingEntry]:
    """What a check of this machine reports, the roots first."""
    host = torch.environment.host(**variables)
    seen = doctor().look(host, tier=Tier.DEFAULT, python=torch.environment.python, area=area)
    assert seen.looked is not None
    assert seen.looked.crashed == {}
    return list(doctor().report(seen, Selection()).findings)


def first(found: list[FindingEntry]) -> FindingEntry:
    """The cause to treat first, of what would be looked at here: nobody promised a GPU."""
    return found[0]


def carried_out(fix: Fix, torch: SmallTorch, tmp_path: Path, **variables: str) -> dict[str, str]:
    """Run the commands of a fix in one shell, as its reader would; the variables that the shell has then."""
    box = tmp_path / "pip"
    box.mkdir(exist_ok=True)
    if not (box / "pip").exists():
        (box / "pip").symlink_to(Path(pip.__file__).parent)
    path = f"{Path(torch.environment.python).parent}:{os.environ['PATH']}"
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(torch.index), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    env = {"PATH": path, "HOME": str(tmp_path), "PYTHONPATH": str(box), **offline, **variables}
    commands = "\n".join(each for each in fix.commands)
    script = f"set -e\n{commands}\n{shlex.quote(torch.environment.python)} -c 'import os; import json; print(json.dumps(dict(os.environ)))' >&3"
    told = tmp_path / "environment"
    done = subprocess.run(
        ["bash", "-c", f"exec 3>{shlex.quote(str(told))}\n{script}"],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, (commands, done.stdout, done.stderr)
    after: dict[str, str] = json.loads(told.read_text())
    return {name: value for name, value in after.items() if name in variables or name.startswith("LD_")}


def cured(
    torch: SmallTorch, entry: FindingEntry, tmp_path: Path, code: str = IMPORT, **variables: str
) -> Fix:
    """Before the first fix the program fails; after it, it works."""
    assert torch.run(code, **variables).returncode != 0
    fix = entry.fixes[0]
    after = carried_out(fix, torch, tmp_path, **variables)
    done = torch.run(code, **after)
    assert done.returncode == 0, (fix, done.stderr)
    return fix


@pytest.mark.parametrize("shape", [OLD, NEW, NEWEST], ids=lambda shape: shape.version)
def test_a_whole_environment_is_left_alone(make: Make, shape: Shape) -> None:
    torch = make(shape)
    assert torch.run(IMPORT).returncode == 0
    assert [each.id for each in findings(torch) if each.severity != "note"] == []


@pytest.mark.parametrize("shape", [OLD, NEW, NEWEST], ids=lambda shape: shape.version)
def test_a_deleted_libcudart(make: Make, tmp_path: Path, shape: Shape) -> None:
    torch = make(shape)
    torch.library(shape.wheels[0].parts[0].soname).unlink()
    named = first(findings(torch))
    assert named.id == "libraries/cudart-missing"
    fix = cured(torch, named, tmp_path)
    assert shape.wheels[0].release in fix.commands[0]


def test_a_library_without_a_byte(make: Make, tmp_path: Path) -> None:
    torch = make(NEW)
    torch.library("libcublasLt.so.12").write_bytes(b"")
    named = first(findings(torch))
    assert (named.id, named.subject) == ("libraries/library-corrupt", "library:libcublasLt.so.12")
    cured(torch, named, tmp_path)


@pytest.mark.parametrize(
    "soname", ["libcudart.so.11.0", "libcublasLt.so.11", "libcudnn.so.8", "libnccl.so.2"]
)
def test_an_older_copy_on_ld_library_path(make: Make, parts: Parts, tmp_path: Path, soname: str) -> None:
    """torch of the time of DT_RUNPATH, which LD_LIBRARY_PATH beats."""
    torch = make(OLD)
    path = older(tmp_path / "cuda-11.2" / "lib64", OLD, soname, parts)
    named = first(findings(torch, None, LD_LIBRARY_PATH=path))
    assert named.id in ("libraries/shadowed-by-ld-library-path", "nccl/older-library")
    cured(torch, named, tmp_path, LD_LIBRARY_PATH=path)


def older(folder: Path, shape: Shape, soname: str, parts: Parts) -> str:
    """A folder with a copy of one library that lacks its newest function."""
    wheel, part = next(
        (wheel, part) for wheel in shape.wheels for part in wheel.parts if part.soname == soname
    )
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(parts.library(wheel, part, part.functions[:-1]), folder)
    return str(folder)


def test_a_stub_of_libcuda(make: Make, tmp_path: Path) -> None:
    torch = make(NEW)
    for folder, answer in (("cuda/lib64/stubs", 34), ("driver", 0)):
        build(
            tmp_path / folder / "libcuda.so.1", source=f"int cuInit(unsigned flags) {{ return {answer}; }}\n"
        )
    path = f"{tmp_path}/cuda/lib64/stubs:{tmp_path}/driver"
    named = first(findings(torch, None, LD_LIBRARY_PATH=path))
    assert named.id == "driver/libcuda-stub-loaded"
    code = "import torch; assert torch.cuda.is_available()"
    fix = cured(torch, named, tmp_path, code, LD_LIBRARY_PATH=path)
    assert "stubs" in fix.commands[0]


def test_two_wheels_with_one_libnccl(make: Make, parts: Parts, tmp_path: Path) -> None:
    torch = make(NEW)
    older_wheel = msgspec.structs.replace(NEW.wheel("nccl"), name="nvidia-nccl-cu11", release="2.14.3")
    torch.install(parts.wheel(torch.index, older_wheel, older=True))
    named = first(findings(torch, None))
    assert named.id == "python/two-wheels-one-path"
    cured(torch, named, tmp_path)


def test_cublas_out_of_step_with_the_extras(make: Make, parts: Parts, tmp_path: Path) -> None:
    torch = make(NEWEST)
    torch.remove("nvidia-cublas")
    torch.install(parts.wheel(torch.index, NEWEST.wheel("cublas"), "13.0.0.19", older=True))
    named = first(findings(torch))
    assert (named.id, named.severity) == ("libraries/wheel-pins-violated", "error")
    fix = cured(torch, named, tmp_path)
    assert "nvidia-cublas==13.3.0.5" in fix.commands[0]


def test_a_libstdcxx_that_is_too_old(make: Make, tmp_path: Path) -> None:
    torch = make(NEW)
    versioned(tmp_path / "old" / "libstdc++.so.6", "GLIBCXX_3.4", "nothing")
    path = f"{tmp_path}/old:{tmp_path}"
    named = first(findings(torch, LD_LIBRARY_PATH=path))
    assert named.id == "libraries/libstdcxx-too-old"
    cured(torch, named, tmp_path, LD_LIBRARY_PATH=path)


def test_a_foreign_libcudart_that_is_loaded_first(make: Make, parts: Parts, tmp_path: Path) -> None:
    torch = make(NEW)
    preload = f"{older(tmp_path / 'cuda-12.1' / 'lib64', NEW, 'libcudart.so.12', parts)}/libcudart.so.12"
    named = first(findings(torch, LD_PRELOAD=preload))
    assert named.id == "libraries/duplicate-soname"
    cured(torch, named, tmp_path, LD_PRELOAD=preload)


def test_an_extension_for_another_cuda(make: Make, tmp_path: Path) -> None:
    """It wants libcudart of CUDA 11 while torch brings that of 12; the fix builds it anew from its source."""
    torch = make(NEW)
    foreign = versioned(tmp_path / "libcudart.so.11.0", "libcudart.so.11.0", "cudaMalloc")
    torch.install(flash_attn(torch.index, foreign))
    source_distribution(torch.index)
    code = "import torch, flash_attn_2_cuda"
    named = first(findings(torch, "torch"))
    assert (named.id, named.subject) == ("torch/extension-built-for-other-cuda", "package:flash-attn")
    cured(torch, named, tmp_path, code)


def test_an_extension_whose_cuda_is_on_the_machine_is_left_alone(make: Make, tmp_path: Path) -> None:
    torch = make(NEW)
    foreign = versioned(tmp_path / "cuda" / "libcudart.so.11.0", "libcudart.so.11.0", "cudaMalloc")
    torch.install(flash_attn(torch.index, foreign))
    path = str(tmp_path / "cuda")
    assert torch.run("import torch, flash_attn_2_cuda", LD_LIBRARY_PATH=path).returncode == 0
    loud = [each.id for each in findings(torch, "torch", LD_LIBRARY_PATH=path) if each.severity != "note"]
    assert loud == []


def test_a_foreign_libcudart_that_is_imported_first(make: Make, parts: Parts, tmp_path: Path) -> None:
    """What a program prints that imports such a module before torch; importing torch first is the fix."""
    torch = make(NEW)
    foreign = older(tmp_path / "cuda", NEW, "libcudart.so.12", parts)
    (torch.site / "early.py").write_text(f"import ctypes\nctypes.CDLL('{foreign}/libcudart.so.12')\n")
    done = torch.run("import early\nimport torch\n")
    assert done.returncode != 0
    seen = doctor().read(f"{PROGRAM}{done.stderr}", "-")
    named = doctor().report(seen, Selection()).findings[0]
    assert named.id == "libraries/duplicate-soname"
    told = [line for fix in named.fixes for line in fix.commands]
    assert any(line.startswith("import torch") for line in told)
    assert torch.run("import torch\nimport early\n").returncode == 0


PROGRAM = "$ cat train.py\nimport early\nimport torch\n$ python train.py\n"


def test_every_folder_with_an_older_copy_is_dropped(make: Make, parts: Parts, tmp_path: Path) -> None:
    """Without the first of them the loader would take the second's: only without both it takes torch's own."""
    torch = make(OLD)
    folders = [older(tmp_path / name, OLD, "libcublasLt.so.11", parts) for name in ("here", "there")]
    path = ":".join(folders)
    named = first(findings(torch, LD_LIBRARY_PATH=path))
    cured(torch, named, tmp_path, LD_LIBRARY_PATH=path)


def test_innocent_folders_are_kept(make: Make, parts: Parts, tmp_path: Path) -> None:
    torch = make(OLD)
    (tmp_path / "mine").mkdir()
    old = older(tmp_path / "cuda-11.2" / "lib64", OLD, "libcublasLt.so.11", parts)
    path = f"{tmp_path}/mine:{old}"
    fix = cured(torch, first(findings(torch, LD_LIBRARY_PATH=path)), tmp_path, LD_LIBRARY_PATH=path)
    assert "mine" not in fix.commands[0]
    assert "unset" not in fix.commands[0]


def test_a_variable_that_changes_nothing_is_not_accused(make: Make, parts: Parts, tmp_path: Path) -> None:
    """cublas is out of step; that LD_LIBRARY_PATH names a folder of CUDA's as well has nothing to do with it."""
    torch = make(NEWEST)
    torch.remove("nvidia-cublas")
    torch.install(parts.wheel(torch.index, NEWEST.wheel("cublas"), "13.0.0.19", older=True))
    path = older(tmp_path / "cuda" / "lib64", OLD, "libcublasLt.so.11", parts)
    found = findings(torch, LD_LIBRARY_PATH=path)
    assert found[0].id == "libraries/wheel-pins-violated"
    commands = [line for each in found for fix in each.fixes for line in fix.commands]
    assert [line for line in commands if "LD_" in line] == []


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
def test_a_stale_line_of_the_cache(parts: Parts, tmp_path: Path) -> None:
    """Two folders with NCCL are in the loader's configuration; the first is deleted, and ldconfig is not run."""
    shape = msgspec.structs.replace(NEW, wheels=NEW.wheels[:3], system=NEW.wheels[3:])
    torch = SmallTorch(tmp_path, shape, parts)
    folders = [tmp_path / name / "lib" for name in ("nccl-2.26", "nccl-2.27")]
    for folder in folders:
        folder.mkdir(parents=True)
        shutil.copy(parts.library(NEW.wheels[3], NEW.wheels[3].parts[0], NCCL), folder)
    settings = {
        "T": str(tmp_path),
        "PYTHON": torch.environment.python,
        "OURS": sys.executable,
        "GONE": str(folders[0]),
        "KEPT": str(folders[1]),
    }
    prefix = ("unshare", "-m") if os.getuid() == 0 else ("unshare", "-rm")
    env = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": str(tmp_path), **settings}
    done = subprocess.run(
        [*prefix, "bash", "-c", STALE], env=env, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.stdout.split() == ["whole", "broken", "cured"], (done.stdout, done.stderr)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["findings"][0]["id"] == "libraries/stale-ld-cache"
    assert "ldconfig" in report["findings"][0]["fixes"][0]["commands"][0]


STALE = """
cp -a /etc "$T/etc" && mount --bind "$T/etc" /etc || exit 9
printf '%s\\n' "$GONE" "$KEPT" > /etc/ld.so.conf.d/000-nccl.conf
ldconfig
"$PYTHON" -c 'import torch' && echo whole
rm -r "$GONE"
"$PYTHON" -c 'import torch' 2>/dev/null || echo broken
"$OURS" -m envdoctor check --python "$PYTHON" --format json > report.json
"$OURS" -c 'import json; print(*json.load(open("report.json"))["findings"][0]["fixes"][0]["commands"], sep="\\n")' > fix.sh
bash -e fix.sh >&2
"$PYTHON" -c 'import torch' && echo cured
"""


def test_an_extension_that_a_libstdcxx_on_the_variable_breaks(make: Make, tmp_path: Path) -> None:
    """torch itself does without; the extension is not tried, so the model foresees its failure."""
    torch = make(NEW)
    (torch.site / "torch" / "lib" / "libc10.so").unlink()
    build(torch.site / "torch" / "lib" / "libc10.so")
    core = build(tmp_path / "made" / "libcore.so.1", source=CORE, flags=("-lstdc++",))
    module = MODULE.replace("int cudaMalloc(void);", "void c10_wait(void *, void *);")
    module = module.replace("cudaMalloc() ?", "&c10_wait == 0 ?")
    made = build(
        tmp_path / "made" / f"flash_attn_2_cuda.{SOABI}.so",
        source=module,
        needs=(core,),
        flags=(INCLUDE, "-Wl,-rpath,$ORIGIN"),
    )
    files = {each.name: each.read_bytes() for each in (made, core)}
    torch.install(packed(torch.index, "flash-attn", "2.8.3", files))
    versioned(tmp_path / "old" / "libstdc++.so.6", "GLIBCXX_3.4", "nothing")
    path = f"{tmp_path}/old"
    code = "import torch, flash_attn_2_cuda"
    assert [each.id for each in findings(torch, "torch") if each.severity != "note"] == []
    assert torch.run(IMPORT, LD_LIBRARY_PATH=path).returncode == 0
    named = first(findings(torch, LD_LIBRARY_PATH=path))
    assert (named.id, named.severity, named.confidence) == (
        "libraries/libstdcxx-too-old",
        "warning",
        "likely",
    )
    cured(torch, named, tmp_path, code, LD_LIBRARY_PATH=path)


def test_an_extension_whose_own_library_is_cut_off(make: Make, tmp_path: Path) -> None:
    torch = make(NEW)
    core = versioned(tmp_path / "made" / "libcore.so.1", "libcore.so.1", "cudaMalloc")
    flags = (INCLUDE, "-Wl,-rpath,$ORIGIN/flash_attn.libs")
    name = f"flash_attn_2_cuda.{SOABI}.so"
    made = build(tmp_path / "made" / name, source=MODULE, needs=(core,), flags=flags)
    files = {name: made.read_bytes(), "flash_attn.libs/libcore.so.1": core.read_bytes()}
    torch.install(packed(torch.index, "flash-attn", "2.8.3", files))
    (torch.site / "flash_attn.libs" / "libcore.so.1").write_bytes(b"")
    named = first(findings(torch))
    assert (named.id, named.severity, named.confidence) == ("libraries/library-corrupt", "warning", "likely")
    cured(torch, named, tmp_path, "import torch, flash_attn_2_cuda")
