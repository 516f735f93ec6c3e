"""``envdoctor libraries``, run as a process: what it tells of real files, of a recording, and of what it cannot see."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from envdoctor import schemas
from envdoctor.asked import Asked
from envdoctor.facts import CouldNotLook, Source
from envdoctor.loader.recorded import TreeRecord
from envdoctor.loader.settings import LoaderSettings
from envdoctor.platform import Platform
from envdoctor.target import Target
from envdoctor_checks.libraries.facts_loader import LoaderPredictions, LoaderSetup, LoaderTree, TorchLoading
from envdoctor_checks.libraries.probe_loader import loader_setup
from envdoctor_checks.libraries.views import torch_libraries
from tests.support import environments
from tests.support.environments import envdoctor
from tests.support.libraries import build, versioned
from tests.support.loader_oracle import why_not
from tests.support.small_torch import NEW, OLD, Parts, SmallTorch
from tests.support.torch_env import Environment

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
TITLES = ("What torch's process gets, and why", "How the loader resolves ")


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> SmallTorch:
    return SmallTorch(tmp_path_factory.mktemp("new"), NEW, Parts(tmp_path_factory.mktemp("parts")))


def lines(
    folder: Path, torch: SmallTorch, *arguments: str, **variables: str
) -> list[tuple[int, str, str, str]]:
    """The rows of the tree with their depths, from the JSON report, which must be as its schema says."""
    env = environments.environ(folder, **variables)
    done = envdoctor("libraries", *arguments, "--format", "json", env=env, cwd=folder)
    return rows(json.loads(done.stdout))


def rows(document: dict[str, Any]) -> list[tuple[int, str, str, str]]:
    jsonschema.Draft202012Validator(json.loads(schemas.text("report"))).validate(document)
    (view,) = [each for each in document["views"] if each["title"].startswith(TITLES)]
    return [
        (depth, what, file, why)
        for depth, (what, file, why) in zip(view["depths"], view["rows"], strict=True)
    ]


def under(tree: Iterable[tuple[int, str, str, str]], heading: str) -> list[tuple[str, str]]:
    """What stands below one line: file or words, and why."""
    found: list[tuple[str, str]] = []
    above: int | None = None
    for depth, what, file, why in tree:
        if above is not None and depth <= above:
            break
        if above is not None:
            found.append((file or what, why))
        elif what == heading:
            above = depth
    return found


def test_all_of_torchs_libraries(torch: SmallTorch, tmp_path: Path) -> None:
    told = lines(tmp_path, torch, "--python", torch.environment.python)
    files = {what: (Path(file), why) for depth, what, file, why in told if depth == 0 and ".so" in what}
    assert {name: path for name, (path, _) in files.items()} == {
        part.soname: torch.library(part.soname) for wheel in NEW.wheels for part in wheel.parts
    }
    assert files["libcublasLt.so.12"][1].startswith("by RUNPATH of ")
    assert files["libcudart.so.12"][1].startswith("by RPATH of ")
    assert told[-1][3] == "the real process has the same 6 files" or "same" in told[-1][3]


def test_a_name(torch: SmallTorch, tmp_path: Path) -> None:
    told = lines(tmp_path, torch, "libnccl.so.2", "--python", torch.environment.python)
    alone = under(told, "asked for by a program of its own (ctypes.CDLL)")
    assert alone[0] == ("not found", "no candidate is left")
    assert (
        str(torch.library("libnccl.so.2")),
        "its directory is searched by no rule for this request",
    ) in alone
    after = under(told, "asked for after import torch")
    assert after[0][0] == str(torch.library("libnccl.so.2"))
    assert after[0][1].startswith("already in the process")
    assert "cannot open shared object file" in told[-1][3]
    assert "differs" not in told[-1][3]


def test_a_path(torch: SmallTorch, tmp_path: Path) -> None:
    """An extension that needs a library which is beside it, and one which is nowhere."""
    near = build(tmp_path / "libnear.so.1")
    lost = build(tmp_path / "liblost.so.1")
    flags = ("-Wl,--enable-new-dtags,-rpath,$ORIGIN",)
    path = build(tmp_path / "extension.so", needs=(near, lost), flags=flags)
    lost.unlink()
    told = lines(tmp_path, torch, str(path), "--python", torch.environment.python)
    alone = under(told, "asked for by a program of its own (ctypes.CDLL)")
    assert alone[0] == (str(path), "by its path")
    assert (str(near), f"by RUNPATH of {path}") in alone
    assert (str(lost), "not there") in alone
    assert any("liblost.so.1: cannot open shared object file" in why for _, why in alone)


def test_a_miss_tells_every_candidate_in_order(torch: SmallTorch, tmp_path: Path) -> None:
    """In one search: no directory, not there, for another machine, and the end at a file without a byte."""
    name = "libcudart.so.9"
    for folder in ("nothing", "foreign", "empty", "whole"):
        (tmp_path / folder).mkdir()
    whole = build(tmp_path / "whole" / name)
    foreign = bytearray(whole.read_bytes())
    foreign[18:20] = (183).to_bytes(2, "little")
    (tmp_path / "foreign" / name).write_bytes(foreign)
    (tmp_path / "empty" / name).write_bytes(b"")
    folders = [tmp_path / each for each in ("gone", "nothing", "foreign", "empty", "whole")]
    path = ":".join(map(str, folders))
    told = lines(tmp_path, torch, name, "--python", torch.environment.python, LD_LIBRARY_PATH=path)
    alone = under(told, "asked for by a program of its own (ctypes.CDLL)")
    tried = [(Path(file).parent.name, why) for file, why in alone if file.endswith(f"/{name}")]
    assert tried == [
        ("gone", "no such directory"),
        ("nothing", "not there"),
        ("foreign", "passed over: for another processor"),
        ("empty", "file too short"),
        ("whole", "the search ended before it"),
    ]


def test_an_rpath_that_a_runpath_sets_aside(tmp_path: Path) -> None:
    """cublas of the wheel has a RUNPATH: torch's RPATH, which leads to where cublasLt was moved, does not count."""
    torch = SmallTorch(tmp_path, NEW, Parts(tmp_path / "parts"))
    light = torch.library("libcublasLt.so.12")
    light.rename(torch.library("libcudart.so.12").parent / light.name)
    told = lines(tmp_path, torch, "--python", torch.environment.python)
    below = under(told, "libcublasLt.so.12")
    assert any("has a RUNPATH, which sets every RPATH aside" in why for _, why in below)
    assert (str(light), "not there") in below


def test_without_ld_library_path(tmp_path: Path) -> None:
    """What leaving out the variable would change, told without trying it."""
    torch = SmallTorch(tmp_path, OLD, Parts(tmp_path / "parts"))
    versioned(tmp_path / "cuda" / "libcudnn.so.8", "libcudnn.so.8", "cudnnCreate", "cudnnBackendExecute")
    path = str(tmp_path / "cuda")
    told = lines(tmp_path, torch, "--python", torch.environment.python, LD_LIBRARY_PATH=path)
    changed = [(file, why) for _, what, file, why in told if what == f"LD_LIBRARY_PATH without {path}"]
    assert changed == [(str(torch.library("libcudnn.so.8")), "for libcudnn.so.8")]


def test_a_recording_with_and_without_the_question(torch: SmallTorch, tmp_path: Path) -> None:
    """What was not recorded is said to be so, with how to record it; a recording that was asked answers."""
    name = "libnobody.so.4"
    python = ("--python", torch.environment.python)
    env = environments.environ(tmp_path)
    for file, more in (("plain.json", ()), ("asked.json", ("--library", name))):
        done = envdoctor("record", "--no-redact", "-o", file, *python, *more, env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    plain = lines(tmp_path, torch, name, "--facts", "plain.json")
    assert [(what, why) for _, what, _, why in plain if what == "not recorded"] == [
        ("not recorded", f"record it with: envdoctor record --library {name}")
    ]
    asked = lines(tmp_path, torch, name, "--facts", "asked.json")
    live = lines(tmp_path, torch, name, *python)
    assert asked == live
    assert lines(tmp_path, torch, "--facts", "plain.json") == lines(tmp_path, torch, *python)


def test_a_recording_is_asked_about_another_library_than_was_tried(torch: SmallTorch, tmp_path: Path) -> None:
    env = environments.environ(tmp_path)
    python = ("--python", torch.environment.python)
    envdoctor(
        "record", "--no-redact", "-o", "f.json", *python, "--library", "libnobody.so.4", env=env, cwd=tmp_path
    )
    told = lines(tmp_path, torch, "libnccl.so.2", "--facts", "f.json")
    assert told[-1][3] == "it was not tried: this is the model's answer alone"


def test_facts_and_python_exclude_each_other(tmp_path: Path) -> None:
    done = envdoctor("libraries", "--facts", "f.json", "--python", "/x", env=environments.environ(tmp_path))
    assert done.returncode == 2
    assert done.stdout == ""


LAUNCHER = """
#include <unistd.h>
int main(int count, char **words) { (void)count; words[0] = PYTHON; execv(PYTHON, words); return 1; }
"""
MUSL = """
#include <stdio.h>
int main(void) { fputs("musl libc (x86_64)\\nVersion 1.2.5\\nDynamic Program Loader\\n", stderr); return 1; }
"""


def compiled(path: Path, source: str, *flags: str) -> Path:
    code = path.with_suffix(".c")
    code.write_text(source)
    subprocess.run(["gcc", *flags, str(code), "-o", str(path)], check=True, capture_output=True, timeout=60)
    return path


def test_a_static_interpreter(tmp_path: Path) -> None:
    """It has no loader to ask about; the report says that nobody could look, and not that all is well."""
    environment = Environment(tmp_path / "env")
    python = Path(environment.python)
    target = python.resolve()
    python.unlink()
    compiled(python, LAUNCHER, "-static", f'-DPYTHON="{target}"')
    env = environments.environ(tmp_path)
    done = envdoctor("libraries", "libcuda.so.1", "--python", str(python), "--format", "json", env=env)
    document = json.loads(done.stdout)
    assert "is not a dynamic executable" in done.stdout
    assert [each for each in document["views"] if each["title"].startswith(TITLES)] == []


def test_an_interpreter_of_musl(tmp_path: Path) -> None:
    loader = compiled(tmp_path / "ld-musl-x86_64.so.1", MUSL)
    python = compiled(tmp_path / "python3", LAUNCHER, f"-Wl,--dynamic-linker={loader}", '-DPYTHON="/x"')
    host, _, paths = Environment(tmp_path / "env").target()
    source = Source("call", "a test")
    platform = Platform(system="linux", machine="x86_64", source=source)
    with pytest.raises(CouldNotLook, match="musl"):
        loader_setup(host, Target(python=str(python), why="", named=True, source=source), platform, paths)


def test_nothing_is_left_behind(torch: SmallTorch, tmp_path: Path) -> None:
    lines(tmp_path, torch, "libnccl.so.2", "--python", torch.environment.python)
    shutil.rmtree(tmp_path / "home")
    assert list(tmp_path.iterdir()) == []


def test_model_and_truth_agree_also_where_both_fail(torch: SmallTorch, tmp_path: Path) -> None:
    """A file that is found and whose own need is not is one failure, not a difference."""
    folder = tmp_path / "lib"
    folder.mkdir()
    whole = build(folder / "libneeded.so.1", soname="libneeded.so.1")
    outer = build(folder / "libouter.so", needs=(whole,))
    (folder / "libneeded.so.1").unlink()
    told = lines(tmp_path, torch, str(outer), "--python", torch.environment.python)
    (sure,) = [why for _, what, _, why in told if what == "how sure"]
    assert "libneeded.so.1: cannot open shared object file" in sure
    assert "differs" not in sure


def test_recordings_of_two_machines_are_not_mixed_up() -> None:
    source = Source("call", "a test")
    settings = LoaderSettings(
        libc=(2, 36), machine="x86_64", system_dirs=("/lib",), program="/usr/bin/python3"
    )
    setup = LoaderSetup(loader="/lib/ld.so", ctypes=None, settings=settings, source=source)
    nothing = TreeRecord(files=(), folders=(), gone=(), cache=None)
    loading = TorchLoading(
        dependencies="/x.so",
        needs_in_maps="libcudart.so",
        after_success=(),
        after_failure=(),
        extension="/y.so",
        source=source,
    )
    predicted = LoaderPredictions(scenarios=(), by_name=(), source=source)
    asked = Asked(library="", source=source)
    tree = LoaderTree(record=nothing, source=source)
    view = torch_libraries(setup, tree, loading, predicted, None, None, asked)
    assert view is not None
    assert view.rows[0][:2] == ("not recorded", "/usr/bin/python3")
