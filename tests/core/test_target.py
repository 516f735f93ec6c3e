"""Which interpreter is asked about, and what it says of itself: real environments, and programs that are no Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from envdoctor.errors import UsageError
from envdoctor.facts import CouldNotLook, Source
from envdoctor.host import Host
from envdoctor.target import Target, choose, failure, look_at_paths
from envdoctor.tree import host_tree

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


def venv(folder: Path) -> str:
    """A real environment; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    return f"{folder}/bin/python"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Environments: ``venv``, ``conda`` (by its mark) and ``project/.venv``."""
    folder = tmp_path_factory.mktemp("environments")
    for name in ("venv", "conda", "project/.venv"):
        venv(folder / name)
    (folder / "conda/conda-meta").mkdir()
    (folder / "project/src/deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    return folder


def here(cwd: Path, **environ: str) -> Host:
    host = Host.here(environ={"PATH": "", **environ})
    host.cwd = str(cwd)
    return host


def chosen(cwd: Path, **environ: str) -> tuple[str, list[str]]:
    target = choose(here(cwd, **environ), None)
    assert not target.named
    return target.python, [each.python for each in target.passed_over]


# The order.


def test_the_active_venv_comes_first_and_what_it_passes_over_is_told(made: Path) -> None:
    environ = {"VIRTUAL_ENV": f"{made}/venv", "CONDA_PREFIX": f"{made}/conda", "PATH": f"{made}/conda/bin"}
    assert chosen(made / "project", **environ) == (
        f"{made}/venv/bin/python",
        [f"{made}/conda/bin/python", f"{made}/project/.venv/bin/python"],
    )
    target = choose(here(made / "project", **environ), None)
    assert target.source == Source("env", "VIRTUAL_ENV")
    assert target.why == f"VIRTUAL_ENV is {made}/venv"
    assert target.passed_over[0].why.endswith(f"what points to {made}/venv/bin/python comes first")


def test_then_conda(made: Path) -> None:
    assert chosen(made / "project", CONDA_PREFIX=f"{made}/conda")[0] == f"{made}/conda/bin/python"


def test_condas_base_does_not_stand_in_for_a_venv_that_is_gone(made: Path) -> None:
    environ = {"VIRTUAL_ENV": f"{made}/gone", "CONDA_PREFIX": f"{made}/conda", "CONDA_DEFAULT_ENV": "base"}
    target = choose(here(made / "project", **environ), None)
    assert target.python == f"{made}/project/.venv/bin/python"
    assert [each.why for each in target.passed_over] == [
        f"VIRTUAL_ENV is {made}/gone, but it holds no interpreter",
        f"CONDA_PREFIX is {made}/conda, but it is conda's base environment, and a venv is active",
    ]


def test_condas_base_alone_counts(made: Path) -> None:
    assert (
        chosen(made, CONDA_PREFIX=f"{made}/conda", CONDA_DEFAULT_ENV="base")[0] == f"{made}/conda/bin/python"
    )


@pytest.mark.parametrize("cwd", ["project", "project/src", "project/src/deep"])
def test_then_the_nearest_venv_upwards(made: Path, cwd: str) -> None:
    target = choose(here(made / cwd, PATH=f"{made}/venv/bin"), None)
    assert target.python == f"{made}/project/.venv/bin/python"
    assert target.source == Source("file", f"{made}/project/.venv")


def test_then_the_first_on_path_that_is_not_our_own(made: Path) -> None:
    own = os.path.dirname(sys.executable)
    path = f"{made}/empty:relative::{own}:{made}/venv/bin:{made}/conda/bin"
    target = choose(here(made, PATH=path), None)
    assert target.python == f"{made}/venv/bin/python3"
    assert target.why == "the first python3 on PATH"
    assert [each.python for each in target.passed_over] == [f"{own}/python3"]
    assert "envdoctor itself" in target.passed_over[0].why


def test_a_relative_folder_of_path_is_one_of_the_current_folder(made: Path) -> None:
    assert chosen(made, PATH="gone:venv/bin")[0] == f"{made}/venv/bin/python3"


def test_our_own_last_and_said_plainly(made: Path) -> None:
    target = choose(here(made), None)
    assert (target.python, target.own, target.why) == (sys.executable, True, "no other interpreter was found")


def test_a_folder_that_nobody_may_enter_is_passed_over(made: Path, tmp_path: Path) -> None:
    (tmp_path / "host.toml").write_text(
        '[process]\nuid = 1000\ncwd = "/closed/deep"\n[paths."/closed"]\nkind = "directory"\nmode = "0700"\n'
        '[paths."/closed/deep"]\nkind = "directory"\n'
        '[paths."/usr/bin/python3"]\nmode = "0755"\n'
        '[environ]\nPATH = "/closed/bin:/usr/bin"\nVIRTUAL_ENV = "/closed/venv"\n'
    )
    target = choose(host_tree(tmp_path), None)
    assert target.python == "/usr/bin/python3"


def test_an_environment_whose_python_is_gone_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").symlink_to("/usr/bin/python2.5")
    python, passed = chosen(tmp_path, VIRTUAL_ENV=f"{tmp_path}/venv")
    assert python == sys.executable
    assert passed == [f"{tmp_path}/venv/bin/python"]


# --python.


@pytest.mark.parametrize("named", ["venv/bin/python", "venv", "./venv/", "project/../venv", "{made}/venv"])
def test_a_path_or_an_environment_is_named(made: Path, named: str) -> None:
    target = choose(here(made), named.format(made=made))
    assert target.python == f"{made}/venv/bin/python"
    assert target.named
    assert not target.own


def test_a_name_is_looked_up_on_path(made: Path) -> None:
    assert (
        choose(here(made, PATH=f"{made}/empty:{made}/venv/bin"), "python3").python
        == f"{made}/venv/bin/python3"
    )


def test_dots_behind_a_link_lead_where_the_system_says(made: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(made / "project/src")
    python = choose(here(tmp_path), "link/../.venv/bin/python").python
    assert os.path.samefile(os.path.dirname(python), made / "project/.venv/bin")


@pytest.mark.parametrize(
    ("named", "problem"),
    [
        ("", "is empty"),
        ("gone/bin/python", "no such interpreter"),
        ("no-such-name", "no such interpreter"),
        ("empty", "holds no bin/python"),
        ("project/.venv/pyvenv.cfg", "cannot be executed"),
        ("project/.venv/pyvenv.cfg/python", "no such interpreter"),
    ],
)
def test_what_cannot_be_an_interpreter_is_a_usage_error(made: Path, named: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        choose(here(made), named)


def test_a_named_interpreter_that_may_not_be_seen(tmp_path: Path) -> None:
    (tmp_path / "host.toml").write_text(
        '[process]\nuid = 1000\n[paths."/root"]\nkind = "directory"\nmode = "0700"\n'
    )
    with pytest.raises(UsageError, match="Permission denied"):
        choose(host_tree(tmp_path), "/root/venv/bin/python")


# What the interpreter says of itself.


def target_of(python: str) -> Target:
    return Target(python=python, why="test", named=True, source=Source("env", "--python"))


def test_a_venv_tells_its_paths(made: Path) -> None:
    folder = made / "venv"
    paths = look_at_paths(here(made), target_of(f"{folder}/bin/python"))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (paths.prefix, paths.is_venv, paths.conda, paths.externally_managed) == (
        str(folder),
        True,
        False,
        False,
    )
    assert paths.site_packages == (f"{folder}/lib/python{version}/site-packages",)
    assert set(paths.site_packages) < set(paths.sys_path)
    assert paths.version.startswith(f"{version}.")
    assert paths.python_tag == f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert paths.machine == os.uname().machine
    assert paths.source == Source("child", f"{folder}/bin/python")


def test_an_environment_of_conda_is_known_by_its_mark(made: Path) -> None:
    assert look_at_paths(here(made), target_of(f"{made}/conda/bin/python")).conda


def test_the_answer_is_what_the_interpreter_says_to_anyone(made: Path) -> None:
    python = os.path.realpath(sys.executable)
    script = "import json, site, sys, sysconfig; print(json.dumps([sys.path, sysconfig.get_path('stdlib')]))"
    environ = {"PATH": "/usr/bin", "PYTHONPATH": f"{made}/empty:{made}/venv"}
    told = subprocess.run(
        [python, "-c", script], capture_output=True, text=True, env=environ, cwd="/", timeout=20
    )
    sys_path, stdlib = json.loads(told.stdout)
    paths = look_at_paths(here(made, **environ), target_of(python))
    assert list(paths.sys_path) == sys_path[1:]
    assert paths.externally_managed == os.path.exists(os.path.join(stdlib, "EXTERNALLY-MANAGED"))
    assert not paths.is_venv


MANAGED = [path.parent for path in Path("/usr/lib").glob("python3.*/EXTERNALLY-MANAGED")]


@pytest.mark.skipif(not MANAGED, reason="needs a Python that the system manages")
def test_a_venv_of_a_python_that_the_system_manages_is_not_managed_itself(tmp_path: Path) -> None:
    python = f"/usr/bin/{MANAGED[0].name}"
    subprocess.run([python, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True, timeout=60)
    assert look_at_paths(here(tmp_path), target_of(python)).externally_managed
    assert not look_at_paths(here(tmp_path), target_of(f"{tmp_path}/venv/bin/python")).externally_managed


def test_an_environment_that_makes_noise_still_answers(tmp_path: Path) -> None:
    python = venv(tmp_path / "noisy")
    (site,) = (tmp_path / "noisy/lib").glob("python3*/site-packages")
    (site / "sitecustomize.py").write_text(
        "import os\nprint('WELCOME')\nos.write(1, b'{}\\n')\nraise ValueError('oh')\n"
    )
    assert look_at_paths(here(tmp_path), target_of(python)).prefix == f"{tmp_path}/noisy"


def script(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


BASH = "#!/bin/bash\n"  # sh knows descriptors of one digit only
PYTHON2 = """#!/bin/sh
if [ "$1" = -c ]; then printf 'python 2.7.18'; exit 0; fi
echo 'Unknown option: -X' >&2; echo 'usage: python [option]' >&2; exit 2
"""
PYTHON37 = """#!/bin/sh
if [ "$1" = -c ]; then printf 'python 3.7.9'; exit 0; fi
echo 'SyntaxError: invalid syntax' >&2; exit 1
"""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (PYTHON2, "is Python 2.7.18, for which no PyTorch of today is built"),
        (PYTHON37, "is Python 3.7.9, for which no PyTorch of today is built"),
        ("#!/bin/sh\nexit 0\n", r"ended without an answer$"),
        ("#!/bin/sh\necho hello; echo there\n", r"ended without an answer \(there\)$"),
        ("#!/bin/sh\necho 'SomeError: oh' >&2; echo at line 3 >&2; exit 9\n", r"status 9 \(SomeError: oh\)$"),
        ("#!/bin/sh\nkill -SEGV $$\n", "was killed by SIGSEGV"),
        (f"{BASH}echo '[1]' >&$ENVDOCTOR_ANSWER_FD\n", "gave an answer that cannot be read"),
        ("\x7fELF, or so it says", "could not be started: ENOEXEC"),
        ("#!/no/such/interpreter\n", "could not be started: ENOENT"),
        (
            f"""{BASH}printf '{{"stage": "paths"}}\\n{{"done": true}}\\n' >&$ENVDOCTOR_ANSWER_FD\n""",
            "makes no sense",
        ),
    ],
)
def test_what_is_no_python_of_use_is_told(tmp_path: Path, text: str, problem: str) -> None:
    python = script(tmp_path, text)
    with pytest.raises(CouldNotLook, match=problem) as kept:
        look_at_paths(here(tmp_path), target_of(python))
    assert kept.value.reason.startswith(python)


def test_true_is_no_python() -> None:
    with pytest.raises(CouldNotLook, match="/bin/true ended without an answer"):
        look_at_paths(Host.here(), target_of("/bin/true"))


def test_one_that_hangs_costs_its_deadline(tmp_path: Path) -> None:
    python = script(tmp_path, "#!/bin/sh\n/bin/sleep 60\n")
    began = time.monotonic()
    with pytest.raises(CouldNotLook, match="did not answer within"):
        look_at_paths(here(tmp_path), target_of(python), deadline=0.5)
    assert time.monotonic() - began < 6


def test_a_python_that_cannot_find_itself(made: Path) -> None:
    host = here(made, PYTHONHOME="/no/such/home", PATH="/usr/bin")
    with pytest.raises(CouldNotLook, match="No module named 'encodings'"):
        look_at_paths(host, target_of(f"{made}/venv/bin/python"))


def test_in_a_tree_nothing_can_be_asked(tmp_path: Path) -> None:
    with pytest.raises(CouldNotLook, match="nothing can be run"):
        look_at_paths(host_tree(tmp_path), target_of("/usr/bin/python3"))


def test_every_end_has_its_words() -> None:
    from envdoctor.probing.child import ChildEnd, ChildResult

    phrases = {failure(ChildResult(end=end, argv=("python",), error="because")) for end in ChildEnd}
    assert all(phrase and "\n" not in phrase for phrase in phrases)


def test_the_venv_that_envdoctor_was_given_for_itself_is_passed_over(tmp_path: Path) -> None:
    """As the README installs it: `.venv` in the current folder holds envdoctor and nothing to examine."""
    venv = tmp_path / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    ask = "import os; from envdoctor.host import Host; from envdoctor.target import choose; t = choose(Host.here(), None); print(t.python, t.why)"
    root = Path(__file__).resolve().parents[2]
    msgspec_home = Path(msgspec.__file__).resolve().parents[1]
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join([str(root), str(msgspec_home)])}

    def chosen() -> str:
        done = subprocess.run(
            [venv / "bin" / "python", "-c", ask],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert "nearest .venv" not in chosen()
    site = next((venv / "lib").glob("python*/site-packages"))
    (site / "torch").mkdir()
    assert chosen().startswith(str(venv))
