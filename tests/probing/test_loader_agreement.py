"""The model of the dynamic loader against this machine's own, over trees of libraries that exist only for it."""

from __future__ import annotations

import os
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.support.elf_writer import FLAWS, Dynamic
from tests.support.loader_agreement import Tally, compare, disagreements, settings, shrink
from tests.support.loader_oracle import Answer, Oracle, subfolders, why_not
from tests.support.loader_worlds import DEFAULTS, Folder, Library, Link, Script, Step, World

if TYPE_CHECKING:
    from pathlib import Path

REASON = why_not()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)
LIBC = "libc.so.6"


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return Oracle(tmp_path_factory.mktemp("oracle"))


def library(path: str, *needed: str, soname: str | None = "", **tags: str | bool) -> Library:
    """`soname` is the file's name unless told."""
    name = path.rpartition("/")[2] if soname == "" else soname
    return Library(path=path, dynamic=Dynamic(soname=name, needed=needed, **tags))  # type: ignore[arg-type] # by name


def agreed(oracle: Oracle, folder: Path, world: World) -> list[Answer]:
    """The loader's answers to the world's first script, once the model gave the same."""
    differs = compare(oracle, world, folder / "root", Tally())
    assert differs is None, differs
    (folder / "again").mkdir()
    oracle.plant(world, folder / "again")
    return oracle.run(folder / "again", world.scripts[0])


def opening(*names: str, **changes: str | int) -> tuple[Script, ...]:
    return (Script(steps=tuple(Step(name=name) for name in names), **changes),)  # type: ignore[arg-type] # by name


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_trees(oracle: Oracle, seed: int, tmp_path: Path) -> None:
    tally = Tally()
    for found in disagreements(oracle, Random(seed), tmp_path, 200, tally):
        pytest.fail(str(shrink(oracle, found, tmp_path)))
    assert tally.kinds["started"]
    assert tally.kinds["opened from a library"]


def test_the_subdirectories_are_those_that_the_loader_looks_into() -> None:
    ours = settings(World(), Script()).subdirectories
    assert ours == (*dict.fromkeys(subfolders()), "")


# Silent cases first: what the loader passes over.


@pytest.mark.parametrize("flaw", ["machine", "class"])
def test_another_machines_library_is_passed_over(oracle: Oracle, flaw: str, tmp_path: Path) -> None:
    wrong = Library(path="/opt/b/liba.so.1", flaw=flaw)  # type: ignore[arg-type] # one of the two above
    world = World(
        libraries=(wrong, library("/usr/lib/liba.so.1")), scripts=opening("liba.so.1", library_path="/opt/b")
    )
    assert agreed(oracle, tmp_path, world)[1].handle == "/usr/lib/liba.so.1"


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize("name", ["liba.so.1", "/usr/lib/liba.so.1"])
def test_each_flaw_has_its_own_words(oracle: Oracle, flaw: str, name: str, tmp_path: Path) -> None:
    wrong = Library(path="/usr/lib/liba.so.1", flaw=flaw)  # type: ignore[arg-type] # one of FLAWS
    answer = agreed(oracle, tmp_path, World(libraries=(wrong,), scripts=opening(name)))[1]
    assert answer.error
    assert not answer.handle


def test_a_directory_in_place_of_a_library_ends_the_search(oracle: Oracle, tmp_path: Path) -> None:
    world = World(
        folders=(Folder(path="/opt/b/liba.so.1"),),
        libraries=(library("/usr/lib/liba.so.1"),),
        scripts=opening("liba.so.1", library_path="/opt/b"),
    )
    assert (
        agreed(oracle, tmp_path, world)[1].error == "/opt/b/liba.so.1: cannot read file data: Is a directory"
    )


def test_runpath_is_not_inherited_and_rpath_is(oracle: Oracle, tmp_path: Path) -> None:
    parts = (library("/opt/b/liba.so.1", "libb.so.1"), library("/opt/b/libb.so.1"))
    for tag, ends in (
        ("rpath", ""),
        ("runpath", "libb.so.1: cannot open shared object file: No such file or directory"),
    ):
        program = Dynamic(needed=("liba.so.1", LIBC), **{tag: "/opt/b"})  # type: ignore[arg-type] # by name
        folder = tmp_path / tag
        folder.mkdir()
        assert agreed(oracle, folder, World(libraries=parts, program=program))[0].error == ends


def test_a_cached_file_that_is_gone_leaves_only_the_default_directories(
    oracle: Oracle, tmp_path: Path
) -> None:
    gone = Library(path="/opt/a/lib/liba.so.1", dynamic=Dynamic(soname="liba.so.1"), gone=True)
    world = World(
        libraries=(gone, library("/opt/b/liba.so.1")),
        conf=("/opt/a/lib", "/opt/b"),
        scripts=opening("liba.so.1"),
    )
    assert agreed(oracle, tmp_path, world)[1].error.startswith("liba.so.1: cannot open")


def test_a_hard_link_is_the_library_that_is_already_loaded(oracle: Oracle, tmp_path: Path) -> None:
    world = World(
        libraries=(library("/opt/b/liba.so.1"),),
        links=(Link(path="/srv/d/libz.so.1", target="/opt/b/liba.so.1", hard=True),),
        scripts=opening("/opt/b/liba.so.1", "/srv/d/libz.so.1", "libz.so.1"),
    )
    assert [each.handle for each in agreed(oracle, tmp_path, world)[1:]] == ["/opt/b/liba.so.1"] * 2 + [""]


def test_every_default_directory_is_looked_into(oracle: Oracle, tmp_path: Path) -> None:
    for index, folder in enumerate(DEFAULTS):
        place = tmp_path / str(index)
        place.mkdir()
        world = World(libraries=(library(f"{folder}/liba.so.1"),), conf=None, scripts=opening("liba.so.1"))
        assert agreed(oracle, place, world)[1].handle == f"{folder}/liba.so.1"


def test_what_the_loader_says_before_there_is_a_c_library(oracle: Oracle, tmp_path: Path) -> None:
    """It knows five errors by their words; of the others it gives the number."""
    loop = Link(path="/lib/liba.so.1", target="liba.so.1")
    world = World(links=(loop,), program=Dynamic(needed=("liba.so.1", LIBC)))
    assert agreed(oracle, tmp_path, world)[0].error.endswith("cannot open shared object file: Error 40")


def test_a_search_that_asks_for_no_file_names_no_error(oracle: Oracle, tmp_path: Path) -> None:
    lone = Library(
        path="/lib/liba.so.1", dynamic=Dynamic(soname="liba.so.1", needed=("libb.so.1",), nodeflib=True)
    )
    world = World(libraries=(lone,), conf=None, scripts=opening("liba.so.1", "liba.so.1"))
    told = agreed(oracle, tmp_path, world)
    assert [each.error for each in told[1:]] == ["libb.so.1: cannot open shared object file"] * 2


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a set-user-ID program")
@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ("$ORIGIN/libb.so.1", "DST not allowed in SUID/SGID programs"),
        ("$LIBrary.so.1", "cannot open shared object file: No such file or directory"),
    ],
)
def test_a_set_uid_program_takes_no_token_in_needed(
    oracle: Oracle, needs: str, words: str, tmp_path: Path
) -> None:
    world = World(
        libraries=(library("/lib/liba.so.1", needs), library("/lib/libb.so.1")),
        setuid=True,
        scripts=opening("liba.so.1", uid=1000),
    )
    assert agreed(oracle, tmp_path, world)[1].error == f"{needs}: {words}"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a set-user-ID program")
def test_the_origin_of_a_set_uid_program_counts_only_in_default_directories(
    oracle: Oracle, tmp_path: Path
) -> None:
    names = ("$ORIGIN/liba.so.1", "$ORIGIN/../../lib/libb.so.1")
    world = World(
        libraries=(library("/app/bin/liba.so.1"), library("/lib/libb.so.1")),
        setuid=True,
        scripts=opening(*names, uid=1000),
    )
    assert [each.handle for each in agreed(oracle, tmp_path, world)[1:]] == [
        "",
        "/app/bin/../../lib/libb.so.1",
    ]


def test_a_version_that_the_found_file_lacks(oracle: Oracle, tmp_path: Path) -> None:
    wants = Dynamic(soname="libb.so.1", needed=("liba.so.1",), requires=(("liba.so.1", "V_2"),))
    world = World(
        libraries=(
            Library(path="/lib/liba.so.1", dynamic=Dynamic(soname="liba.so.1", defines=("V_1",))),
            Library(path="/lib/libb.so.1", dynamic=wants),
        ),
        scripts=opening("libb.so.1"),
    )
    words = "/lib/liba.so.1: version `V_2' not found (required by /lib/libb.so.1)"
    assert agreed(oracle, tmp_path, world)[1].error == words
