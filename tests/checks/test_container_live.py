"""The probes in real namespaces, on real mounts and as real users: healthy ones first, then the faults."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envdoctor.facts import Facts, Source
from envdoctor.findings import Finding
from envdoctor.session import Doctor
from envdoctor.variables import Variables
from envdoctor_checks.container.facts import (
    NOBODY,
    HomeDirectory,
    Identity,
    IdRange,
    Mounts,
    PasswdEntry,
    UidMap,
)
from envdoctor_checks.torch.facts import TorchBuild
from tests.support.container import environment, facts_in, judged

HERE = Source("file", "/a")
TORCH = Facts.of(TorchBuild(version="2.6.0+cu124", torch_cuda="12.4", source=HERE))
STRANGER = 1042
"""A UID without an entry in any passwd file that is likely to be here."""
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOME": "/tmp"}

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or subprocess.run(["unshare", "-Um", "true"], capture_output=True).returncode != 0,
    reason="it takes root, and namespaces that may be made",
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may reach, which pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="envdoctor-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def as_user(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def mounting(script: str, *rest: str) -> list[str]:
    """A mount namespace of its own in which `script` has run."""
    return ["unshare", "-m", "sh", "-c", f'set -e; {script}; exec "$@"', "sh", *rest]


def test_root_at_home_is_silent() -> None:
    facts = facts_in([], {"HOME": "/root", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}).merged(TORCH)
    loud = [name for name, each in judged(facts).items() if each.finding.severity.value != "note"]
    assert not loud
    ids = facts.get(UidMap)
    assert isinstance(ids, UidMap)
    assert ids.outside(0) == 0


def test_a_user_with_an_entry_is_silent(place: Path) -> None:
    passwd = place / "passwd"
    passwd.write_text(f"me:x:{STRANGER}:{STRANGER}::{place}:/bin/sh\n")
    os.chown(place, STRANGER, STRANGER)
    bind = f"mount --bind {passwd} /etc/passwd"
    facts = facts_in(mounting(bind, *as_user(STRANGER)), {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).merged(
        TORCH
    )
    entry, home = facts.get(PasswdEntry), facts.get(HomeDirectory)
    assert isinstance(entry, PasswdEntry)
    assert (entry.name, entry.home) == ("me", str(place))
    assert isinstance(home, HomeDirectory)
    assert (home.found_via, home.writable) == ("passwd", True)
    assert not {"container/uid-without-passwd-entry", "container/home-not-writable"} & set(judged(facts))


def test_a_user_without_an_entry() -> None:
    facts = facts_in(as_user(STRANGER), POD).merged(TORCH)
    found = judged(facts)["container/uid-without-passwd-entry"].finding
    assert (found.subject, found.severity.value) == (f"uid:{STRANGER}", "warning")


def test_a_user_without_an_entry_but_with_a_name() -> None:
    facts = facts_in(as_user(STRANGER), {**POD, "USER": "me"}).merged(TORCH)
    assert "container/uid-without-passwd-entry" not in judged(facts)


def test_an_entry_that_only_a_name_service_may_have(place: Path) -> None:
    (place / "nsswitch.conf").write_text("passwd: files sss\n")
    bind = f"mount --bind {place}/nsswitch.conf /etc/nsswitch.conf"
    facts = facts_in(mounting(bind, *as_user(STRANGER)), POD).merged(TORCH)
    hidden = facts.unavailable()[PasswdEntry]
    assert "sss" in hidden.reason
    assert hidden.would_allow == f"getent passwd {STRANGER}"
    assert "container/uid-without-passwd-entry" not in judged(facts)


def test_roots_home_for_another_user() -> None:
    facts = facts_in(as_user(STRANGER), {**POD, "HOME": "/root", "USER": "me"}).merged(TORCH)
    found = judged(facts)["container/home-not-writable"].finding
    assert (found.subject, found.severity.value) == ("path:/root", "warning")


def test_no_home_at_all() -> None:
    facts = facts_in(as_user(STRANGER), {**POD, "HOME": "/nonexistent", "USER": "me"}).merged(TORCH)
    assert "is not there" in judged(facts)["container/home-not-writable"].finding.title


def test_read_only_and_noexec_mounts(place: Path) -> None:
    script = (
        f"mkdir {place}/a {place}/b; mount -t tmpfs -o ro,uid={STRANGER},mode=755 x {place}/a;"
        f"mount -t tmpfs -o noexec,uid={STRANGER},mode=755 x {place}/b"
    )
    facts = facts_in(mounting(script, *as_user(STRANGER)), POD)
    mounts = facts.get(Mounts)
    assert isinstance(mounts, Mounts)
    first, second = mounts.holding(f"{place}/a/x"), mounts.holding(f"{place}/b")
    assert first is not None
    assert (first.read_only, first.noexec, first.writable, first.owner) == (True, False, False, STRANGER)
    assert second is not None
    assert (second.read_only, second.noexec, second.writable, second.mode) == (False, True, True, "0755")
    assert not first.bound


def bound(place: Path, owner: int, mode: int = 0o755) -> str:
    """A directory of `owner`'s, and the command that mounts it where a container would see it."""
    source, target = place / "source", place / "target"
    source.mkdir()
    target.mkdir()
    source.chmod(mode)
    os.chown(source, owner, owner)
    return f"mount --bind {source} {target}"


def test_a_bind_mount_of_ones_own_is_silent(place: Path) -> None:
    script = bound(place, STRANGER)
    variables = {**POD, "USER": "me", "HF_HOME": f"{place}/target/hf"}
    found = judged(facts_in(mounting(script, *as_user(STRANGER)), variables).merged(TORCH))
    assert not {rule for rule in found if rule.startswith("container/")}


def test_a_bind_mount_of_somebody_else(place: Path) -> None:
    script = bound(place, 1077)
    variables = {**POD, "USER": "me", "HF_HOME": f"{place}/target/hf"}
    facts = facts_in(mounting(script, *as_user(STRANGER)), variables)
    found = judged(facts)["container/bind-mount-other-uid"].finding
    assert found.subject == f"path:{place}/target"
    assert any(
        "runAsUser: 1077" in line for remedy in found.remedies for line in getattr(remedy, "example", ())
    )


def test_root_and_a_bind_mount_of_somebody(place: Path) -> None:
    script = bound(place, 1077)
    assert (
        judged(facts_in(mounting(script), POD))["container/root-writes-to-bind-mount"].finding.severity.value
        == "note"
    )
    (place / "source" / "checkpoints").mkdir()
    finding = judged(facts_in(mounting(script), POD))["container/root-writes-to-bind-mount"].finding
    assert finding.severity.value == "warning"
    assert any(f"{place}/target/checkpoints" in each.value for each in finding.evidence)
    ci = judged(facts_in(mounting(script), {**POD, "CI": "true"}))
    assert ci["container/root-writes-to-bind-mount"].finding.severity.value == "note"


def test_a_user_namespace_maps_root_to_a_sub_uid(place: Path) -> None:
    script = bound(place, 1000)
    facts = facts_in(mounting(script, *as_user(STRANGER)), POD, "0 100000 65536\n")
    ids, identity, mounts = facts.get(UidMap), facts.get(Identity), facts.get(Mounts)
    assert isinstance(ids, UidMap)
    assert ids.ranges == (IdRange(0, 100000, 65536),)
    assert isinstance(identity, Identity)
    assert (identity.uid, ids.outside(0), ids.outside(65536)) == (0, 100000, None)
    assert isinstance(mounts, Mounts)
    mount = mounts.holding(f"{place}/target")
    assert mount is not None
    assert (mount.owner, mount.writable) == (NOBODY, False)
    found = judged(facts)
    assert found["container/uid-shifted"].finding.severity.value == "warning"
    assert "container/root-writes-to-bind-mount" not in found


def test_rootless_root_is_the_user_himself(place: Path) -> None:
    script = bound(place, 1000)
    facts = facts_in(mounting(script, *as_user(STRANGER)), POD, "0 1000 1\n1 100000 65536\n")
    found = judged(facts)
    assert not {"container/uid-shifted", "container/root-writes-to-bind-mount"} & set(found)


ENGINES = {
    "docker": {"container": "docker", "HOME": "/tmp"},
    "podman": {"container": "podman", "HOME": "/tmp"},
    "kubernetes": POD,
}


MARKS = {"podman": "mount -t tmpfs run /run; touch /run/.containerenv; "}
"""Where the tests themselves run in a container, its marks must not be the most telling ones."""


def proposed(finding: Finding) -> str:
    """The lines to type or to write."""
    return "\n".join(line for remedy in finding.remedies for line in getattr(remedy, "example", ()))


@pytest.mark.parametrize(
    ("engine", "lines"),
    [
        ("docker", ["docker run --user 1077:1077 ...", 'user: "1077:1077"']),
        ("podman", ["podman run --userns=keep-id ..."]),
        ("kubernetes", ["securityContext: {runAsUser: 1077, runAsGroup: 1077, fsGroup: 1077}"]),
    ],
)
def test_the_options_that_make_the_files_ones_own(place: Path, engine: str, lines: list[str]) -> None:
    """As another user, who may not write; and as root, whose files would be root's."""
    script = MARKS.get(engine, "") + bound(place, 1077)
    variables = {**ENGINES[engine], "USER": "me", "HF_HOME": f"{place}/target/hf"}
    other = judged(facts_in(mounting(script, *as_user(STRANGER)), variables))
    root = judged(facts_in(mounting(script), variables))
    for finding in (
        other["container/bind-mount-other-uid"].finding,
        root["container/root-writes-to-bind-mount"].finding,
    ):
        assert [line for line in lines if line not in proposed(finding)] == []
    outside = root["container/root-writes-to-bind-mount"].finding.evidence
    assert ("UID 0 outside", "0") in [(each.fact, each.value) for each in outside]


@pytest.mark.parametrize(
    ("engine", "lines"),
    [
        ("docker", ["docker run --userns=host", "sudo chown -R 100000 "]),
        ("podman", ["podman run --userns=keep-id", "podman unshare chown -R 0:0 "]),
        ("kubernetes", ["hostUsers: true", "sudo chown -R 100000 "]),
    ],
)
def test_the_options_that_undo_a_shifted_uid(place: Path, engine: str, lines: list[str]) -> None:
    script = MARKS.get(engine, "") + bound(place, 1000)
    facts = facts_in(mounting(script, *as_user(STRANGER)), ENGINES[engine], "0 100000 65536\n")
    finding = judged(facts)["container/uid-shifted"].finding
    assert [line for line in lines if line not in proposed(finding)] == []
    assert ("UID 0 outside", "100000") in [(each.fact, each.value) for each in finding.evidence]
    assert f"may not write {place}/target" in finding.title


def test_a_map_of_as_many_lines_as_the_kernel_takes() -> None:
    lines = [f"{number} {1000 + 2 * number} 1" for number in range(340)]
    ids = facts_in(as_user(STRANGER), POD, "\n".join(lines) + "\n").get(UidMap)
    assert isinstance(ids, UidMap)
    assert len(ids.ranges) == 340
    assert (ids.outside(339), ids.inside(1678)) == (1678, 339)


def test_thousands_of_mounts(place: Path) -> None:
    (place / "many").mkdir()
    script = (
        f"mount -t tmpfs x {place}/many; cd {place}/many; "
        "i=0; while [ $i -lt 300 ]; do mkdir $i; mount --bind $i $i; i=$((i+1)); done; cd /"
    )
    mounts = facts_in(mounting(script), POD).get(Mounts)
    assert isinstance(mounts, Mounts)
    assert len(mounts.mounts) <= 100
    assert mounts.omitted >= 200


def test_the_prompt_says_the_same_as_the_machine(place: Path) -> None:
    """The live fault, its recording (which `facts_in` goes through) and the text of the program it breaks."""
    command = [*as_user(STRANGER), sys.executable, "-c", "import getpass; getpass.getuser()"]
    said = subprocess.run(command, capture_output=True, text=True, env=environment({})).stderr
    text = Doctor().read(f"$ python whoami.py\n{said}", "-").facts
    assert "container/uid-without-passwd-entry" in judged(text)
    live = facts_in(as_user(STRANGER), POD).merged(TORCH)
    assert isinstance(live.get(Variables), Variables)
    assert "container/uid-without-passwd-entry" in judged(live)
