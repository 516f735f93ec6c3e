"""Every file that a quick check reads, missing, unreadable, vanished, empty, cut off, binary, huge or changing.

Two machines are built as trees, a server and a pod; what the quick probes read of them is not listed here but heard.
Each file is then broken in each way, and the probes that read it look again: they give facts, or say that they could
not look, and the report stands. What the facts then are is told by the tests of each check.
"""

from __future__ import annotations

import os
import random
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from _pytest.mark import ParameterSet

from envdoctor.check import Probe, Tier
from envdoctor.engine import flatten, gathered
from envdoctor.facts import CouldNotLook, Fact, Facts, Printed, Unavailable
from envdoctor.host import Host, could_not_look
from envdoctor.injecting import arguments_for
from envdoctor.judging import bind, judge
from envdoctor.report import Selection
from envdoctor.session import Seen
from envdoctor_checks.container.facts import Mounts, UidMap
from tests.support.cases import doctor
from tests.support.machine_tree import Parts, Tree
from tests.support.machines import build, build_parts

MACHINES = ("h100x8", "mig-pod")
MOST = 64 << 20
"""Bytes of one file that any probe may read: what dpkg's database may have."""
SIZE = 100 << 20
NOISE = random.Random(7).randbytes(20_000)
"""No text, with zeros in it."""


class Heard(Host):
    """A host that notes what is read of it, and how much."""

    @classmethod
    def of(cls, tree: Tree) -> Heard:
        """The tree as it is now."""
        plain = tree.host()
        host = cls(
            root=plain.root,
            environ=plain.environ,
            uid=plain.uid,
            gid=plain.gid,
            groups=plain.groups,
            machine=plain.machine,
            run=plain._run,
            clock=plain.clock,
            overlay=plain._overlay,
            cwd=plain.cwd,
        )
        host.files = defaultdict(int)
        host.folders = set()
        return host

    files: dict[str, int]
    """Path inside the tree -> bytes that were read."""
    folders: set[str]

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        told = super().read(path, limit)
        self.files[self.resolve(path)] += len(told)
        return told

    @contextmanager
    def opened(self, path: str) -> Iterator[tuple[Callable[[int, int], bytes], int]]:
        with super().opened(path) as (read, size):

            def counted(offset: int, length: int) -> bytes:
                told = read(offset, length)
                self.files[self.resolve(path)] += len(told)
                return told

            self.files[self.resolve(path)] += 0
            yield counted, size

    def listdir(self, path: str, limit: int = 100_000) -> tuple[str, ...]:
        told = super().listdir(path, limit)
        self.folders.add(self.resolve(path))
        return told


class Machine(msgspec.Struct, frozen=True):
    """A tree, what is known of it when nothing is broken, and which probes read what."""

    tree: Tree
    facts: Facts
    readers: dict[str, list[Probe]]
    """By file."""
    folders: dict[str, list[Probe]]


def quick_probes() -> list[Probe]:
    return [probe for check in doctor().checks for probe in check.probes if probe.tier is Tier.QUICK]


def ask(probe: Probe, host: Host, facts: Facts) -> Facts | CouldNotLook:
    """What the engine would make of one probe. Raises what would be a crash."""
    try:
        given = flatten(probe.function(*arguments_for(probe.needs(), facts, host)))
        return gathered(each for each in given if not isinstance(each, Printed))
    except Exception as error:
        kept = could_not_look(error)
        if kept is None:
            raise
        return kept


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return build_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def machines(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> list[Machine]:
    """The second one with only those files that the first one does not have."""
    folder = tmp_path_factory.mktemp("machines")
    told: set[str] = set()
    return [heard(build(name, folder, parts), told) for name in MACHINES]


def heard(tree: Tree, told: set[str]) -> Machine:
    """What the quick probes read; `told` are the shapes of what has been heard before, and grows."""
    facts = doctor().look(tree.host(), tier=Tier.QUICK).facts
    readers: dict[str, list[Probe]] = defaultdict(list)
    folders: dict[str, list[Probe]] = defaultdict(list)
    new: set[str] = set()
    for probe in quick_probes():
        host = Heard.of(tree)
        ask(probe, host, facts)
        for paths, found in ((host.files, readers), (host.folders, folders)):
            for path in one_of_each(paths):
                if shape(path) not in told:
                    found[path].append(probe)
                    new.add(shape(path))
    told |= new
    return Machine(tree, facts, readers, folders)


def one_of_each(paths: Iterable[str]) -> Iterable[str]:
    """The eighth GPU's files are read as the first one's are, and every wheel's as any wheel's."""
    return {shape(path): path for path in sorted(paths, reverse=True)}.values()


def shape(path: str) -> str:
    """A path without what differs between things of one kind: numbers, and names of wheels and environments."""
    return re.sub(r"\d[\da-f]*", "0", re.sub(r"^.*/site-packages/[^/]+/", "*/", path))


def test_the_files_are_those_of_real_machines(machines: list[Machine]) -> None:
    """The net has not slipped: what everybody knows to be read is among them."""
    read = {path for machine in machines for path in machine.readers}
    assert {"/proc/self/mountinfo", "/proc/self/uid_map", "/proc/self/limits", "/proc/meminfo"} <= read
    assert any(path.startswith("/sys/") for path in read)
    assert len(read) > 50


# The ways to break a file. Each is undone by `unbroken`.


def missing(tree: Tree, path: str) -> None:
    tree.entry(path, errno="ENOENT")


def unreadable(tree: Tree, path: str) -> None:
    tree.entry(path, errno="EACCES")


def broken_disk(tree: Tree, path: str) -> None:
    tree.entry(path, errno="EIO")


def vanished(tree: Tree, path: str) -> None:
    """Still there when it is asked about, gone when it is opened, as the files of a process that ends."""
    (tree.root / path.lstrip("/")).unlink(missing_ok=True)
    tree.entry(path, kind="file")


def empty(tree: Tree, path: str) -> None:
    tree.file(path, b"")


def cut_off(tree: Tree, path: str) -> None:
    whole = (tree.root / path.lstrip("/")).read_bytes()
    tree.file(path, whole[: len(whole) // 2])


def binary(tree: Tree, path: str) -> None:
    tree.file(path, NOISE)


def huge(tree: Tree, path: str) -> None:
    """Its own lines many times over, then zeros: 100 MB that take no room."""
    whole = (tree.root / path.lstrip("/")).read_bytes()
    tree.file(path, whole * (1 + 20_000 // max(1, len(whole))))
    os.truncate(tree.root / path.lstrip("/"), SIZE)


def one_long_line(tree: Tree, path: str) -> None:
    tree.file(path, b"9" * 300_000)


def each_way(
    *often: Callable[[Tree, str], None], slow: tuple[Callable[[Tree, str], None], ...]
) -> list[ParameterSet]:
    """Ways to break a path, as parameters: each takes some seconds."""
    marked = [pytest.param(way, marks=pytest.mark.slow, id=way.__name__) for way in slow]
    return [*(pytest.param(way, id=way.__name__) for way in often), *marked]


FILES = each_way(
    missing, unreadable, vanished, empty, binary, slow=(broken_disk, cut_off, huge, one_long_line)
)
FOLDERS = each_way(missing, unreadable, slow=(broken_disk,))


@contextmanager
def unbroken(tree: Tree, path: str) -> Iterator[None]:
    """What was there before is there again afterwards."""
    place = tree.root / path.lstrip("/")
    content = place.read_bytes() if place.is_file() else None
    entry = tree._paths.get(path)
    try:
        yield
    finally:
        tree._paths.pop(path, None)
        if entry is not None:
            tree._paths[path] = entry
        if content is not None:
            place.write_bytes(content)
        else:
            if place.is_file():
                place.unlink()


def faults(machine: Machine, path: str, probes: list[Probe]) -> Iterator[str]:
    """What breaks where one path is as it is now: probes, bounds, rules."""
    known = {type(fact): fact for fact in machine.facts}
    before = dict(known)
    hidden: dict[type[Fact], Unavailable] = {}
    for probe in probes:
        host = Heard.of(machine.tree)
        try:
            told = ask(probe, host, machine.facts)
        except Exception as error:
            yield f"{path}: {probe.name} broke: {type(error).__name__}: {error}"[:300]
            continue
        yield from (
            f"{each}: {probe.name} read {size} bytes" for each, size in host.files.items() if size > MOST
        )
        for kind in probe.gives():
            known.pop(kind, None)
            if isinstance(told, CouldNotLook):
                hidden[kind] = Unavailable(kind.fact_name, told.reason, told.would_allow)
        if isinstance(told, Facts):
            known |= {type(fact): fact for fact in told}
            hidden |= told.unavailable()
    if known != before:
        judgement = judge(bind(doctor().checks, Facts(known, hidden)))
        yield from (f"{path}: {rule} broke: {why}"[:300] for rule, why in judgement.crashed.items())


@pytest.mark.parametrize("breaks", FILES)
def test_one_broken_file(machines: list[Machine], breaks: Callable[[Tree, str], None]) -> None:
    found = [each for machine in machines for each in broken(machine, machine.readers, breaks)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("breaks", FOLDERS)
def test_one_broken_folder(machines: list[Machine], breaks: Callable[[Tree, str], None]) -> None:
    found = [each for machine in machines for each in broken(machine, machine.folders, breaks)]
    assert not found, "\n".join(found)


def broken(
    machine: Machine, paths: dict[str, list[Probe]], breaks: Callable[[Tree, str], None]
) -> Iterator[str]:
    for path, probes in sorted(paths.items()):
        with unbroken(machine.tree, path):
            breaks(machine.tree, path)
            yield from faults(machine, path, probes)


# Everything at once.


@pytest.fixture
def tree(parts: Parts, tmp_path: Path) -> Tree:
    return build("h100x8", tmp_path, parts)


def looked(tree: Tree) -> tuple[Seen, list[str]]:
    """One quick check, and the rules that say more than a note."""
    seen = doctor().look(tree.host(), tier=Tier.QUICK)
    assert seen.looked is not None
    assert (seen.looked.crashed, seen.looked.late) == ({}, {})
    report = doctor().report(seen, Selection())
    assert len(report.checks) == len(doctor().checks)
    return seen, [each.id for each in report.findings if each.severity != "note"]


@pytest.mark.parametrize("top", ["/proc", "/sys", "/etc", "/usr", "/var", "/dev", "/run"])
@pytest.mark.parametrize("breaks", [unreadable, broken_disk], ids=lambda breaks: breaks.__name__)
def test_what_could_not_be_looked_at_is_no_fault(
    tree: Tree, top: str, breaks: Callable[[Tree, str], None]
) -> None:
    breaks(tree, top)
    seen, loud = looked(tree)
    assert loud == []
    assert seen.facts.unavailable() or top in ("/run", "/var", "/dev")


def test_thousands_of_mounts_and_a_map_of_340_lines(tree: Tree) -> None:
    mounts = (tree.root / "proc/self/mountinfo").read_text()
    more = "".join(
        f"{900 + each} 1 8:1 / /mnt/{each} rw,relatime - ext4 /dev/sda1 rw\n" for each in range(4000)
    )
    tree.file("/proc/self/mountinfo", mounts + more)
    tree.file("/proc/self/uid_map", "".join(f"{each} {each} 1\n" for each in range(340)))
    seen, loud = looked(tree)
    mapped, mounted = seen.facts.get(UidMap), seen.facts.get(Mounts)
    assert isinstance(mapped, UidMap)
    assert len(mapped.ranges) == 340
    assert isinstance(mounted, Mounts)
    assert loud == []


def test_files_that_change_while_they_are_read(tree: Tree) -> None:
    """A writer that cuts files off and puts them back, as fast as it can, while the machine is looked at."""
    files = [
        tree.root / path
        for path in ("proc/self/mountinfo", "proc/meminfo", "proc/modules", "etc/ld.so.cache")
    ]
    tree.host()
    whole = {path: path.read_bytes() for path in files}
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            for path, content in whole.items():
                path.write_bytes(content[: len(content) // 3])
                path.write_bytes(content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            looked(tree)
    finally:
        over.set()
        writer.join()


def test_a_control_group_that_vanishes(machines: list[Machine]) -> None:
    """Each of its files in turn is gone when it is opened; the limits of the rest are still told, or not known."""
    pod = machines[1]
    groups = [path for path in pod.readers if path.startswith("/sys/fs/cgroup")]
    assert groups
    for path in groups:
        with unbroken(pod.tree, path):
            vanished(pod.tree, path)
            looked(pod.tree)
