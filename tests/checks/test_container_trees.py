"""What the probes see in recorded machines, and what the rules make of it: healthy ones first; then bad input."""

from __future__ import annotations

import json
import random
from pathlib import Path

import msgspec
import pytest

from envdoctor import snapshot
from envdoctor.facts import Facts, Source
from envdoctor.injecting import call_with
from envdoctor.tree import host_tree
from envdoctor_checks.container.facts import (
    ContainerEngine,
    HomeDirectory,
    ImageKind,
    ImageVariables,
    Mounts,
    PasswdEntry,
    Preload,
)
from envdoctor_checks.container.facts_host import (
    CdiSpecs,
    ContainerdConfig,
    DockerConfig,
    Engines,
    KernelSettings,
    ToolkitConfig,
    ToolkitFiles,
    ToolkitRelease,
)
from envdoctor_checks.container.headlines import container_row, user_mapping
from envdoctor_checks.torch.facts import TorchBuild
from tests.support.container import CHECKS, judged, looked

HOSTS = Path(__file__).resolve().parents[2] / "fixtures" / "hosts"
TORCH = Facts.of(TorchBuild(version="2.6.0+cu124", torch_cuda="12.4", source=Source("file", "/a")))


def facts_of(name: str) -> Facts:
    """What is seen in one tree, after a recording."""
    seen = looked(host_tree(HOSTS / f"container-{name}"))
    document = snapshot.encode(snapshot.to_document(seen, "2026-01-01T00:00:00Z"))
    return snapshot.decode(document, "a tree", CHECKS)[1].merged(TORCH)


def loud(facts: Facts) -> dict[str, str]:
    """The rules of this check that say more than a note, with their severity."""
    found = {rule: each.finding.severity.value for rule, each in judged(facts).items()}
    return {
        rule: severity
        for rule, severity in found.items()
        if rule.startswith("container/") and severity != "note"
    }


@pytest.mark.parametrize("name", ["nvidia-devel", "slim-user", "ci-root", "host-healthy", "apptainer"])
def test_healthy_machines(name: str) -> None:
    assert loud(facts_of(name)) == {}


def test_the_image_and_its_mounts() -> None:
    facts = facts_of("nvidia-devel")
    kind, mounts, variables = facts.get(ImageKind), facts.get(Mounts), facts.get(ImageVariables)
    assert isinstance(kind, ImageKind)
    assert (kind.cuda, kind.flavour) == ("12.4.1", "devel")
    assert isinstance(variables, ImageVariables)
    assert variables.values["NVIDIA_REQUIRE_CUDA"].startswith("cuda>=12.4")
    assert isinstance(mounts, Mounts)
    data = mounts.holding("/data/x")
    assert data is not None
    assert (data.origin, data.owner, data.writable, data.bound) == ("/home/me/data sets", 1000, True, True)
    assert {each.target for each in mounts.mounts} == {"/", "/dev/shm", "/data"}


def test_the_mapping_of_users_is_shown() -> None:
    view = call_with(user_mapping, facts_of("nvidia-devel"))
    assert view.title == "files of UID 0 belong to UID 0 on the host"
    assert view.rows == (("/data", "1000:1000", "1000", "yes", "0", "--user 1000:1000"),)
    shifted = call_with(user_mapping, facts_of("podman-rootless"))
    assert shifted.title == "files of UID 1000 belong to UID 100999 on the host"
    assert (
        shifted.rows == (("/work", "65534:65534", "165533", "no", "", "--user 65534:65534"),)
        or shifted.rows[0][5]
    )
    assert call_with(user_mapping, facts_of("host-healthy")).rows == ()


def test_the_row_of_the_summary() -> None:
    (row,) = call_with(container_row, facts_of("podman-rootless"))
    assert row.value == "podman (rootless), UID 1000 app = host UID 100999"
    (row,) = call_with(container_row, facts_of("nvidia-devel"))
    assert "CUDA 12.4.1 devel image" in row.value
    assert list(call_with(container_row, facts_of("host-healthy"))) == []


def test_a_rootless_container() -> None:
    facts = facts_of("podman-rootless")
    engine = facts.get(ContainerEngine)
    assert isinstance(engine, ContainerEngine)
    assert (engine.engine, engine.rootless, engine.image) == ("podman", True, "registry.example/lab:3")
    found = loud(facts)
    assert found["container/rootless-group-dropped"] == "error"
    assert found["container/uid-shifted"] == "warning"
    assert "container/bind-mount-other-uid" not in found


def test_selinux() -> None:
    assert loud(facts_of("selinux")) == {}
    tree = HOSTS / "container-selinux"
    facts = looked(host_tree(tree, uid=1000, gid=1000)).merged(TORCH)
    assert "container/selinux-denies-devices" not in loud(facts)


def test_a_pod_with_the_tools_alone() -> None:
    facts = facts_of("utility-only")
    variables, preload = facts.get(ImageVariables), facts.get(Preload)
    assert isinstance(variables, ImageVariables)
    assert variables.source.where == "/proc/1/environ"
    assert isinstance(preload, Preload)
    assert preload.libraries == ("/usr/local/vgpu/libvgpu.so",)
    found = judged(facts)
    assert found["container/capabilities-without-compute"].finding.severity.value == "error"
    assert found["container/visible-devices-from-image"].finding.severity.value == "note"
    assert found["container/ld-preload-interceptor"].finding.severity.value == "note"


def test_the_hosts_side() -> None:
    facts = facts_of("host-healthy")
    values = {type(fact): fact for fact in facts}
    assert values[ToolkitFiles].present == (  # type: ignore[attr-defined] # by its key
        "nvidia-ctk", "nvidia-container-cli", "nvidia-container-runtime", "nvidia-container-runtime-hook",
    )  # fmt: skip
    assert values[ToolkitConfig].settings["ldconfig"] == "@/sbin/ldconfig.real"  # type: ignore[attr-defined] # by its key
    assert not values[ToolkitConfig].no_cgroups  # type: ignore[attr-defined] # by its key
    assert values[ToolkitRelease].release == "99.0.0"  # type: ignore[attr-defined] # by its key
    assert values[DockerConfig].default_runtime == "nvidia"  # type: ignore[attr-defined] # by its key
    assert values[ContainerdConfig].default_runtime == "nvidia"  # type: ignore[attr-defined] # by its key
    (spec,) = values[CdiSpecs].specs  # type: ignore[attr-defined] # by its key
    assert (spec.kind, spec.devices, spec.release, spec.missing) == (
        "nvidia.com/gpu",
        ("0", "all"),
        "570.133.20",
        (),
    )
    assert values[KernelSettings].values["kernel.apparmor_restrict_unprivileged_userns"] == "1"  # type: ignore[attr-defined] # by its key


def test_a_host_with_everything_wrong() -> None:
    found = judged(facts_of("host-toolkit"))
    severities = {
        rule: each.finding.severity.value for rule, each in found.items() if rule.startswith("container/")
    }
    assert severities == {
        "container/bpf-jit-harden": "note",
        "container/cdi-spec-stale": "warning",
        "container/no-cgroups-on-rootful": "note",
        "container/runtime-not-registered": "warning",
        "container/toolkit-ldconfig-path": "warning",
        "container/toolkit-too-old": "note",
    }


def test_no_toolkit_beside_docker(tmp_path: Path) -> None:
    for name, text in {
        "usr/bin/dockerd": "",
        "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
        "sys/bus/pci/devices/0000:01:00.0/device": "0x2684\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = judged(looked(host_tree(tmp_path)))
    assert found["container/toolkit-missing"].finding.severity.value == "note"


FILES = (
    "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/mountinfo", "/proc/self/cgroup", "/proc/self/status", "/proc/self/attr/current",
    "/etc/passwd", "/etc/nsswitch.conf", "/run/.containerenv", "/proc/1/environ", "/etc/ld.so.preload", "/etc/docker/daemon.json",
    "/etc/nvidia-container-runtime/config.toml", "/etc/containerd/config.toml", "/etc/cdi/nvidia.yaml", "/sys/fs/cgroup/cpu.max",
    "/proc/sys/net/core/bpf_jit_harden", "/sys/fs/selinux/enforce",
)  # fmt: skip
NOISE = random.Random(7).randbytes(3000).decode("latin-1")
RUBBISH = {
    "empty": "",
    "blank": "\n\n",
    "words": "this is no such file\n",
    "numbers": "1 2 3 4 5\n6 7\n",
    "noise": NOISE,
    "nuls": "\x00" * 500,
    "one-long-line": "0 " * 60_000,
}


def changed(
    folder: Path, base: str, *, files: dict[str, str] | None = None, paths: dict[str, str] | None = None
) -> Facts:
    """What is seen in a tree with other files, or with files that answer with an error."""
    tree = msgspec.toml.decode((HOSTS / f"container-{base}" / "host.toml").read_bytes())
    tree["files"].update(files or {})
    tree.setdefault("paths", {}).update({path: {"errno": error} for path, error in (paths or {}).items()})
    lines = []
    for table, values in tree.items():
        lines.append(f"[{table}]")
        lines += [f"{json.dumps(key)} = {_toml(value)}" for key, value in values.items()]
    folder.mkdir(exist_ok=True)
    (folder / "host.toml").write_text("\n".join(lines))
    return looked(host_tree(folder))


def _toml(value: object) -> str:
    """JSON's strings, numbers, lists and words are TOML's; tables are written inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value).replace("\x7f", "\\u007f")


@pytest.mark.parametrize("kind", RUBBISH)
@pytest.mark.parametrize("base", ["nvidia-devel", "host-healthy"])
def test_files_that_hold_something_else(tmp_path: Path, base: str, kind: str) -> None:
    """Nothing breaks, and nothing is accused above a note."""
    facts = changed(tmp_path, base, files=dict.fromkeys(FILES, RUBBISH[kind]))
    assert not [rule for rule, severity in loud(facts).items() if severity == "error"]


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("error", ["EACCES", "ENOENT"])
def test_files_that_cannot_be_read(tmp_path: Path, path: str, error: str) -> None:
    """One unreadable file costs its own facts at most."""
    for base in ("nvidia-devel", "host-healthy"):
        facts = changed(tmp_path / base, base, paths={path: error})
        assert loud(facts) == {}
        assert len([kind for kind in facts.unavailable() if kind.fact_name.startswith("container.")]) <= 15


def test_a_text_that_changes_under_us_is_what_it_was_when_read() -> None:
    facts = facts_of("slim-user")
    entry, home = facts.get(PasswdEntry), facts.get(HomeDirectory)
    assert isinstance(entry, PasswdEntry)
    assert isinstance(home, HomeDirectory)
    assert (entry.name, home.path, home.writable) == ("app", "/home/app", True)
    engines = facts.get(Engines)
    assert engines is None  # a container has nothing to say of its host's
