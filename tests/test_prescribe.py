"""From remedies to what is typed: every remedy in every surrounding, as valid shell, and some of it really run."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from envdoctor.facts import Source
from envdoctor.prescribe import SYSTEM_PACKAGES, Fix, prescribe, word
from envdoctor.prescribe_system import INSTALL_COMMANDS
from envdoctor.remedies import (
    AskAdministrator,
    Change,
    DropPathEntry,
    Install,
    InstallSystem,
    NoFix,
    Reach,
    Relaunch,
    Remedy,
    Run,
    SetVariable,
    Uninstall,
    UnsetVariable,
    UpgradeDriver,
)
from envdoctor.surroundings import UNKNOWN, Surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NASTY = 'a\'b "c" $HOME `id` [x] {y} ; & | \\'
ODD_REQUIREMENT = "vllm[flash-attn,audio]>=0.6,<1; python_version<'3.13'"

REMEDIES: tuple[Remedy, ...] = (
    Install(requirements=("torch==2.6.0", ODD_REQUIREMENT), build="cu126"),
    Install(requirements=(ODD_REQUIREMENT,)),
    Install(requirements=("torch==2.6.0",), build="cu126", reinstall=True),
    Install(requirements=("x",), index="https://mirror.example.com/simple?a=1&b=2"),
    Uninstall(distributions=("torch", "nvidia-nccl-cu12")),
    *(InstallSystem(package=package) for package in (*SYSTEM_PACKAGES, "some-package")),
    UpgradeDriver(),
    UpgradeDriver(floor="595.10", open_modules=True),
    UnsetVariable(name="LD_LIBRARY_PATH"),
    SetVariable(name="NCCL_SOCKET_IFNAME", value=NASTY),
    DropPathEntry(name="LD_LIBRARY_PATH", entry=NASTY),
    Relaunch(adds="--gpus all --ipc=host --ulimit memlock=-1 --user $(id -u):$(id -g)"),
    Relaunch(adds="--gpus '\"device=0,2\"' --shm-size=8g -e 'A=b c' -v /a:/b:ro --privileged --cap-add SYS_PTRACE"),
    Relaunch(adds="--runtime=nvidia --network=host --pid host --device /dev/nvidia0 -m 8g --cpus 4 --init --odd"),
    Relaunch(removes="--network=none"),
    Run(title="t", commands=("modprobe nvidia", "echo 1 > /proc/x", "# note", "a | tee /b"), reach=Reach.HOST, needs_root=True),
    Run(title="t", commands=("ls",), reach=Reach.SHELL),
    Change(title="c", reach=Reach.SHELL, example=("torch.set_default_device('cuda')",)),
    AskAdministrator(what="reboot", commands=("reboot",), needs_restart="machine"),
    AskAdministrator(what="look"),
)  # fmt: skip


def around(**known: Any) -> Surroundings:
    return Surroundings(source=Source("text"), **known)


def surroundings() -> Iterator[Surroundings]:
    """Every manager, every engine, root or not, and what is not known of each."""
    yield UNKNOWN
    pythons = (None, "/opt/my env/bin/python")
    for manager, python in itertools.product((None, "pip", "uv", "conda", "poetry"), pythons):
        yield around(python_manager=manager, python=python)
        yield around(python_manager=manager, python=python, externally_managed=True, engine="docker")
        yield around(python_manager=manager, python=python, externally_managed=True)
    for system, engine, root in itertools.product(
        (None, *INSTALL_COMMANDS),
        (None, "none", "docker", "podman", "kubernetes", "apptainer"),
        (None, True, False),
    ):
        yield around(
            system_manager=system, engine=engine, root=root, python_version="3.11", distribution=None
        )
    yield around(system_manager="apt", distribution="debian", engine="none")
    yield around(system_manager="apt", distribution="ubuntu", engine="none", wsl=True)


def is_shell(commands: tuple[str, ...]) -> str:
    """What bash has to say about the syntax of these lines; empty when they are fine."""
    done = subprocess.run(["bash", "-n"], input="\n".join(commands) + "\n", capture_output=True, text=True)
    return done.stderr


def shell(*lines: str, **environ: str) -> str:
    """What these lines print in a clean bash."""
    done = subprocess.run(
        ["bash", "--norc", "-eu", "-c", "\n".join(lines)],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def commands(remedy: Remedy, **known: Any) -> tuple[str, ...]:
    return word(remedy, around(**known)).commands


# All of them.


def test_every_remedy_in_every_surrounding_is_valid_shell_and_one_line_each() -> None:
    seen: dict[str, Fix] = {}
    for remedy, where in itertools.product(REMEDIES, surroundings()):
        fix = word(remedy, where)
        assert fix.title.strip()
        assert fix.title == fix.title.strip()
        Reach(fix.reach)
        assert fix.needs_restart in ("", "process", "session", "container", "machine")
        for command in fix.commands:
            assert command == command.strip()
            assert "\n" not in command
            assert "None" not in command
            if not isinstance(remedy, Change):
                seen.setdefault(command, fix)
    assert len(seen) > 150
    assert is_shell(tuple(seen)) == ""


def test_a_remedy_of_a_stranger_is_named_and_breaks_nothing() -> None:
    class Pray(Remedy, frozen=True):
        """Nobody taught us to word this."""

    (fix,), no_fix = prescribe((Pray(),), UNKNOWN)
    assert "Pray" in fix.title
    assert fix.commands == ()
    assert no_fix is None


# The order and the reason why there is none.


def test_no_remedy_no_fix() -> None:
    assert prescribe((), UNKNOWN) == ((), None)


def test_the_reason_for_having_none_is_dropped_where_there_is_one() -> None:
    none = NoFix(reason="it is broken")
    assert prescribe((none, NoFix(reason="other")), UNKNOWN) == ((), "it is broken")
    fixes, reason = prescribe((none, UnsetVariable(name="X")), UNKNOWN)
    assert len(fixes) == 1
    assert reason is None


def test_the_smallest_reach_comes_first_and_twins_are_told_once() -> None:
    remedies = (
        UpgradeDriver(),
        Relaunch(adds="--gpus all"),
        Install(requirements=("torch",)),
        UnsetVariable(name="X"),
        UnsetVariable(name="X"),
    )
    fixes, _ = prescribe(remedies, UNKNOWN)
    assert [fix.reach for fix in fixes] == ["shell", "environment", "container", "host"]


def test_what_the_rule_says_of_caveat_and_verification_is_kept() -> None:
    remedy = Install(requirements=("torch",), caveat="It is large.", verify="python -c 'import torch'")
    (fix,), _ = prescribe((remedy,), around(python_manager="conda"))
    assert fix.caveat.endswith("It is large.")
    assert "conda" in fix.caveat
    assert fix.verify == "python -c 'import torch'"


# Python distributions.


def test_pip_belongs_to_the_interpreter_that_was_examined() -> None:
    assert commands(
        Install(requirements=("torch==2.6.0",), build="cu126"), python_manager="pip", python="/v/bin/python"
    ) == ("/v/bin/python -m pip install torch==2.6.0 --index-url https://download.pytorch.org/whl/cu126",)


def test_an_environment_made_by_uv_has_no_pip() -> None:
    (line,) = commands(Install(requirements=("torch",)), python_manager="uv", python="/v/bin/python")
    assert line == "uv pip install --python /v/bin/python torch"
    (line,) = commands(Uninstall(distributions=("torch",)), python_manager="uv", python="/v/bin/python")
    assert line == "uv pip uninstall --python /v/bin/python torch"


def test_reinstalling_leaves_other_distributions_and_a_damaged_cache_alone() -> None:
    remedy = Install(requirements=("torch==2.6.0",), reinstall=True)
    (pip,) = commands(remedy, python_manager="pip")
    assert pip == "python -m pip install --force-reinstall --no-deps torch==2.6.0"
    (uv,) = commands(remedy, python_manager="uv")
    assert {"--reinstall", "--no-deps", "--no-cache"} <= set(uv.split())


def test_poetry_gets_a_source_and_keeps_its_project_file() -> None:
    assert commands(Install(requirements=("torch==2.6.0",), build="cu126"), python_manager="poetry") == (
        "poetry source add --priority=explicit pytorch-cu126 https://download.pytorch.org/whl/cu126",
        "poetry add --source pytorch-cu126 torch==2.6.0",
    )
    assert commands(Install(requirements=("numpy<2",)), python_manager="poetry") == ("poetry add 'numpy<2'",)


def test_the_distributions_own_python_is_left_alone() -> None:
    known = {"python_manager": "pip", "python": "/usr/bin/python3", "externally_managed": True}
    lines = commands(Install(requirements=("torch",)), **known)
    assert lines == (
        "/usr/bin/python3 -m venv ~/.venvs/torch",
        "~/.venvs/torch/bin/python -m pip install torch",
    )
    assert "PEP 668" in word(Install(requirements=("torch",)), around(**known)).caveat
    (line,) = commands(Install(requirements=("torch",)), **known, engine="docker")
    assert "--break-system-packages" in line
    (line,) = commands(Uninstall(distributions=("torch",)), **known)
    assert "--break-system-packages" in line


def test_where_the_manager_is_not_known_pip_and_uv_get_a_line_each() -> None:
    assert [line.partition(" install")[0] for line in commands(Install(requirements=("torch",)))] == [
        "python -m pip",
        "uv pip",
    ]


def test_brackets_quotes_and_markers_reach_pip_as_they_are(tmp_path: Path) -> None:
    recorder = tmp_path / "python"
    recorder.write_text('#!/bin/sh\nfor each in "$@"; do printf "%s\\n" "$each"; done\n')
    recorder.chmod(0o755)
    (line,) = commands(
        Install(requirements=(ODD_REQUIREMENT, "a[b]")), python_manager="pip", python=str(recorder)
    )
    assert shell(line).splitlines() == ["-m", "pip", "install", ODD_REQUIREMENT, "a[b]"]


# The shell, really.


@pytest.mark.parametrize(
    ("before", "entry", "after"),
    [
        ("/a:/b:/c", "/b", "/a:/c"),
        ("/b", "/b", ""),
        ("/a:/b/lib:/b", "/b", "/a:/b/lib"),
        ("/b:/a:/b", "/b", "/a"),
        ("/a::/b", "", "/a:/b"),
        ("/a:-n:/b", "-n", "/a:/b"),
        ("/a b:/c*d:/e", "/c*d", "/a b:/e"),
        ("/a:/x.y:/xzy", "/x.y", "/a:/xzy"),
        (f"/a:{NASTY}:/b", NASTY, "/a:/b"),
    ],
)
def test_dropping_an_entry_drops_that_entry_and_nothing_else(before: str, entry: str, after: str) -> None:
    (line,) = commands(DropPathEntry(name="LD_LIBRARY_PATH", entry=entry))
    printed = shell(
        line,
        sys.executable + " -c 'import os; print(os.environ[\"LD_LIBRARY_PATH\"])'",
        LD_LIBRARY_PATH=before,
    )
    assert printed == after + "\n"
    in_dash = subprocess.run(
        ["sh", "-c", f'{line}\nprintf "%s\\n" "$LD_LIBRARY_PATH"'],
        env={"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": before},
        capture_output=True,
        text=True,
        check=True,
    )
    assert in_dash.stdout == after + "\n"


def test_unsetting_and_setting_do_what_they_say() -> None:
    ask = sys.executable + " -c 'import os; print(os.environ.get(\"X\"))'"
    (unset,) = commands(UnsetVariable(name="X"))
    assert shell(unset, ask, X="1") == "None\n"
    (assign,) = commands(SetVariable(name="X", value=NASTY))
    assert shell(assign, ask) == NASTY + "\n"


def test_where_a_variable_is_set_is_found_by_the_caveat(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("export OMP=1\nexport X=2\n")
    caveat = word(UnsetVariable(name="X"), UNKNOWN).caveat
    grep = caveat[caveat.index("grep") :]
    done = subprocess.run(["bash", "-c", grep], env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}, capture_output=True, text=True)  # fmt: skip
    assert "2:export X=2" in done.stdout


def test_a_command_for_root_still_works_when_sudo_starts_only_one_program(tmp_path: Path) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\nAS_ROOT=yes exec "$@"\n')
    sudo.chmod(0o755)
    target = tmp_path / "target"
    remedy = Run(
        title="t",
        commands=(f"printenv AS_ROOT > {target}", f"printenv AS_ROOT | tee -a {target}", f"printenv AS_ROOT && printenv AS_ROOT >> {target}", "printenv AS_ROOT"),
        reach=Reach.HOST,
        needs_root=True,
    )  # fmt: skip
    assert all(line.startswith("sudo ") for line in commands(remedy, root=False))
    printed = shell(*commands(remedy, root=False), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert target.read_text() == "yes\nyes\nyes\n"
    assert printed == "yes\nyes\nyes\n"


def test_root_needs_no_sudo_and_may_have_none() -> None:
    remedy = Run(
        title="t", commands=("sudo modprobe nvidia", "cd /x", "# then"), reach=Reach.HOST, needs_root=True
    )
    assert commands(remedy, root=True) == ("modprobe nvidia", "cd /x", "# then")
    assert commands(remedy, root=False) == ("sudo modprobe nvidia", "cd /x", "# then")
    assert commands(InstallSystem(package="ninja"), root=True, engine="none", system_manager="dnf") == (
        "dnf install -y ninja-build",
    )


# The operating system.


@pytest.mark.parametrize("package", SYSTEM_PACKAGES)
@pytest.mark.parametrize("manager", INSTALL_COMMANDS)
def test_a_package_is_named_or_said_to_be_unknown(package: str, manager: str) -> None:
    fix = word(
        InstallSystem(package=package), around(system_manager=manager, engine="none", python_version="3.11")
    )
    assert len(fix.commands) <= 1
    assert bool(fix.commands) != (manager in fix.caveat)
    for command in fix.commands:
        assert "{" not in command
        words = shlex.split(command)
        assert manager.removesuffix("-get") in " ".join(words)


def test_python_headers_are_those_of_the_interpreter() -> None:
    known = {"engine": "none", "root": True, "python_version": "3.11"}
    assert (
        "python3.11-dev"
        in commands(InstallSystem(package="python-headers"), system_manager="apt", **known)[0]
    )
    assert (
        "python311-devel"
        in commands(InstallSystem(package="python-headers"), system_manager="zypper", **known)[0]
    )
    known["python_version"] = None
    assert (
        "python3-dev" in commands(InstallSystem(package="python-headers"), system_manager="apt", **known)[0]
    )


def test_in_a_container_a_package_goes_into_the_image() -> None:
    remedy = InstallSystem(package="cxx-compiler")
    as_root = word(remedy, around(system_manager="apt", engine="docker", root=True))
    assert as_root.reach == "container"
    assert as_root.commands == ("apt-get update && apt-get install -y g++",)
    assert "Dockerfile" in as_root.caveat
    as_user = word(remedy, around(system_manager="apt", engine="kubernetes", root=False))
    assert as_user.commands[1:] == ("USER root", "RUN apt-get update && apt-get install -y g++")
    assert "sudo" not in " ".join(as_user.commands)
    assert "%post" in commands(remedy, system_manager="dnf", engine="apptainer", root=False)[0]


def test_on_a_host_each_part_of_a_list_gets_its_sudo() -> None:
    assert commands(
        InstallSystem(package="cxx-compiler"), system_manager="apt", engine="none", root=False
    ) == ("sudo apt-get update && sudo apt-get install -y g++",)


def test_where_the_system_is_not_known_three_managers_get_a_line_each() -> None:
    lines = commands(InstallSystem(package="cxx-compiler"))
    assert [line.split()[1] for line in lines] == ["apt-get", "dnf", "zypper"]


# The driver.


@pytest.mark.parametrize(
    ("known", "floor", "expected"),
    [
        ({"system_manager": "apt", "distribution": "ubuntu"}, "525.60.13", "nvidia-driver-580"),
        ({"system_manager": "apt", "distribution": "ubuntu"}, "595.10", "nvidia-driver-595"),
        ({"system_manager": "apt", "distribution": "debian"}, "", "nvidia-driver"),
        ({"system_manager": "dnf"}, "", "cuda-drivers"),
    ],
)
def test_the_driver_is_named_as_the_distribution_names_it(
    known: dict[str, Any], floor: str, expected: str
) -> None:
    fix = word(UpgradeDriver(floor=floor), around(engine="none", root=True, **known))
    assert fix.commands[0].split()[-1] == expected
    assert fix.needs_restart == "machine"
    assert (floor in fix.title) or not floor


def test_inside_a_container_no_driver_is_installed() -> None:
    for engine in ("docker", "podman", "kubernetes", "apptainer"):
        fix = word(UpgradeDriver(floor="580"), around(engine=engine, system_manager="apt", root=True))
        assert fix.commands == ()
        assert "belongs to the host" in fix.caveat


def test_inside_wsl_no_linux_driver_is_installed() -> None:
    fix = word(UpgradeDriver(floor="580"), around(engine="none", system_manager="apt", root=True, wsl=True))
    assert "apt" not in " ".join(fix.commands)
    assert "Windows" in fix.title
    assert "never" in fix.caveat


# Containers.


def test_podman_takes_gpus_by_their_device_names() -> None:
    assert commands(Relaunch(adds="--gpus all --ipc=host"), engine="podman") == (
        "podman run --device nvidia.com/gpu=all --ipc=host ...",
    )
    (line,) = commands(Relaunch(adds="--gpus '\"device=0,2\"'"), engine="podman")
    assert "--device nvidia.com/gpu=0 --device nvidia.com/gpu=2" in line
    (line,) = commands(Relaunch(adds="--user $(id -u):$(id -g) -e 'A=b c' --gpus 2"), engine="podman")
    assert line.startswith("podman run --user $(id -u):$(id -g) -e 'A=b c' --device")
    assert "--device nvidia.com/gpu=0 --device nvidia.com/gpu=1" in line


@pytest.mark.parametrize(
    ("adds", "lines"),
    [
        ("--gpus all", ["resources: {limits: {nvidia.com/gpu: 1}}"]),
        ("--gpus 4", ["resources: {limits: {nvidia.com/gpu: 4}}"]),
        ("--shm-size=8g", ["volumes: [{name: shm, emptyDir: {medium: Memory, sizeLimit: 8Gi}}]", "volumeMounts: [{name: shm, mountPath: /dev/shm}]"]),
        ("--ipc=host", ["volumes: [{name: shm, emptyDir: {medium: Memory}}]", "volumeMounts: [{name: shm, mountPath: /dev/shm}]"]),
        ("--user 1001:1002", ["securityContext: {runAsUser: 1001, runAsGroup: 1002, fsGroup: 1002}"]),
        ("--user $(id -u):$(id -g)", ["securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000}"]),
        ("--runtime=nvidia", ["runtimeClassName: nvidia"]),
        ("-e A=1", ['env: [{name: A, value: "1"}]']),
        ("--cap-add=SYS_PTRACE", ["securityContext: {capabilities: {add: [SYS_PTRACE]}}"]),
        ("--ulimit memlock=-1", []),
        ("--odd thing", []),
    ],
)  # fmt: skip
def test_a_pod_gets_lines_for_its_manifest(adds: str, lines: list[str]) -> None:
    import yaml

    found = commands(Relaunch(adds=adds), engine="kubernetes")
    assert [line for line in found if not line.startswith("#")] == lines
    assert found[0].startswith("#")
    for line in lines:
        assert isinstance(yaml.safe_load(line), dict)


def test_compose_files_and_apptainer_are_told_in_their_words() -> None:
    lines = commands(Relaunch(adds="--gpus all --shm-size=8g --ulimit memlock=-1:-1"), engine="docker")
    assert lines[0] == "docker run --gpus all --shm-size=8g --ulimit memlock=-1:-1 ..."
    assert [line.rpartition("service: ")[2] for line in lines[1:]] == [
        "gpus: all",
        "shm_size: 8g",
        "ulimits: {memlock: -1}",
    ]
    lines = commands(
        Relaunch(adds="--gpus all --shm-size=8g -v /a:/b --ulimit memlock=-1"), engine="apptainer"
    )
    assert lines[-1] == "apptainer exec --nv --bind /a:/b ..."
    assert any("shared memory" in line for line in lines)
    assert any(line.startswith("ulimit -l unlimited") for line in lines)


def test_where_the_engine_is_not_known_each_gets_its_line() -> None:
    lines = commands(Relaunch(adds="--gpus all"))
    assert lines[0].startswith("docker run --gpus all")
    assert lines[1].startswith("podman run --device nvidia.com/gpu=all")
    assert "resources: {limits: {nvidia.com/gpu: 1}}" in lines
    lines = commands(Relaunch(adds="--shm-size=8g"))
    assert sum(line.startswith(("docker", "podman")) for line in lines) == 1


def test_taking_an_option_away_is_said_in_the_title() -> None:
    fix = word(Relaunch(adds="--ipc=host", removes="--ipc=private", why="small"), around(engine="docker"))
    assert fix.title == "start the container anew with --ipc=host and without --ipc=private: small"
    assert word(Relaunch(removes="-x"), UNKNOWN).commands == ()


# Others.


def test_whoever_is_root_on_the_host_need_not_ask() -> None:
    remedy = AskAdministrator(what="load the module", commands=("modprobe nvidia",))
    assert word(remedy, around(root=True, engine="none")).title == "load the module"
    assert commands(remedy, root=True, engine="none") == ("modprobe nvidia",)
    inside = word(remedy, around(root=True, engine="docker"))
    assert inside.title.startswith("ask whoever runs the host")
    assert inside.commands == ("sudo modprobe nvidia",)
