"""A recorded tree: what nobody looked at is not known, which is not the same as absent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from envdoctor.loader.recorded import RecordedTree, TreeRecord, record_of
from envdoctor.loader.tree import LiveTree, NotRecorded
from envdoctor.tree import host_tree
from tests.support.elf_writer import Dynamic, write_library

if TYPE_CHECKING:
    from pathlib import Path


def live(root: Path) -> LiveTree:
    (root / "opt/lib").mkdir(parents=True)
    (root / "opt/lib/liba.so").write_bytes(write_library(Dynamic(soname="liba.so", needed=("libb.so",))))
    (root / "opt/lib/libz.so").write_bytes(write_library(Dynamic(), "machine"))
    (root / "opt/lib/again.so").hardlink_to(root / "opt/lib/liba.so")
    return LiveTree(host_tree(root, machine="x86_64"))


LOOKED = (
    "/opt/lib/liba.so",
    "/opt/lib/again.so",
    "/opt/lib/libz.so",
    "/opt/lib/gone.so",
    "/opt/lib",
    "/no/lib",
)


def test_every_lookup_is_answered_as_it_was(tmp_path: Path) -> None:
    tree = live(tmp_path)
    before = {path: tree.look(path) for path in (*LOOKED, "/no/lib/liba.so")}
    written = msgspec.json.encode(record_of(tree))
    after = RecordedTree(msgspec.json.decode(written, type=TreeRecord))
    for path, node in before.items():
        known = after.look(path)
        assert (known.kind, known.errno, known.problem, known.elf) == (
            node.kind,
            node.errno,
            node.problem,
            node.elf,
        ), path
    same = after.look("/opt/lib/liba.so").file_id == after.look("/opt/lib/again.so").file_id
    assert same, "two names of one file"
    assert after.look("/opt/lib/liba.so").file_id != after.look("/opt/lib/libz.so").file_id


def test_below_a_directory_that_is_gone_there_is_nothing(tmp_path: Path) -> None:
    tree = live(tmp_path)
    for path in ("/no/lib", "/no/lib/liba.so"):
        tree.look(path)
    assert RecordedTree(record_of(tree)).look("/no/lib/deep/other.so").errno == "ENOENT"


def test_what_nobody_looked_at_is_not_absent(tmp_path: Path) -> None:
    tree = live(tmp_path)
    for path in LOOKED:
        tree.look(path)
    known = RecordedTree(record_of(tree))
    for path in ("/opt/lib/other.so", "/usr/lib/liba.so", "/opt/lib2"):
        with pytest.raises(NotRecorded, match="lib"):
            known.look(path)


def test_the_cache_is_recorded_by_name(tmp_path: Path) -> None:
    known = RecordedTree(record_of(live(tmp_path)))
    with pytest.raises(NotRecorded):
        known.cached("libnever.so.1")
    without = live(tmp_path / "other")
    assert without.cached("liba.so") is None  # there is no cache at all
    assert RecordedTree(record_of(without)).cached("libnever.so.1") is None


def test_two_looks_at_one_machine_give_one_record(tmp_path: Path) -> None:
    first = live(tmp_path)
    second = LiveTree(host_tree(tmp_path, machine="x86_64"))
    for path in LOOKED:
        first.look(path)
    for path in reversed(LOOKED):
        second.look(path)
    assert record_of(first) == record_of(second)
