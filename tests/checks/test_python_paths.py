"""Real environments that see packages from outside, do not start, or are gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from envdoctor.check import Tier
from envdoctor.facts import CouldNotLook, Fact, Facts, Unavailable
from envdoctor.host import Host
from envdoctor.report import Selection
from envdoctor.session import Doctor
from envdoctor.target import Target, TargetPaths, choose, look_at_paths
from envdoctor.testing import assert_silent, fires, read
from envdoctor.tree import host_tree
from envdoctor.variables import look_at_variables
from envdoctor_checks.python.facts import ExternallyManaged
from envdoctor_checks.python.plugin import check
from envdoctor_checks.python.probe import distributions
from envdoctor_checks.python.probe_pip import active_environment, pip_command

VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
SYSTEM = Path("/usr/bin/python3")


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """A virtual environment that sees what the system and the user have."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True, system_site_packages=True)
    return tmp_path / "env"


def installed(folder: Path, name: str, version: str) -> None:
    (folder / f"{name}-{version}.dist-info").mkdir(parents=True)


def own(env: Path) -> Path:
    return env / "lib" / VERSION / "site-packages"


def host_with(**environ: str) -> Host:
    """This machine, in a shell that has set nothing of Python's but what is given."""
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "CONDA", "VIRTUAL"))
    }
    return Host.here(environ={**plain, **environ})


def seen(env: Path, **environ: str) -> Facts:
    """What the quick probes of this check say of it."""
    host = host_with(**environ)
    target = choose(host, str(env / "bin" / "python"))
    variables = look_at_variables(host)
    try:
        paths = look_at_paths(host, target)
    except CouldNotLook as kept:
        hidden: dict[type[Fact], Unavailable] = {
            TargetPaths: Unavailable(TargetPaths.fact_name, kept.reason, kept.would_allow)
        }
        return Facts.of(target, variables).merged(Facts(unavailable=hidden))
    return Facts.of(target, variables, paths, *distributions(host, paths), pip_command(host, target, paths))


# The user's own folder.


def user_site(base: Path) -> Path:
    return base / "lib" / VERSION / "site-packages"


def test_an_empty_user_site_is_silent(env: Path, tmp_path: Path) -> None:
    user_site(tmp_path / "user").mkdir(parents=True)
    installed(own(env), "numpy", "1.26.4")
    assert_silent(check, "python/user-site-leaks", seen(env, PYTHONUSERBASE=str(tmp_path / "user")))


def test_a_plain_environment_does_not_see_it(tmp_path: Path) -> None:
    venv.create(tmp_path / "plain", with_pip=False, symlinks=True)
    installed(user_site(tmp_path / "user"), "numpy", "2.1.0")
    installed(own(tmp_path / "plain"), "numpy", "1.26.4")
    facts = seen(tmp_path / "plain", PYTHONUSERBASE=str(tmp_path / "user"))
    assert_silent(check, "python/user-site-leaks", facts)


def test_a_package_that_only_the_user_has(env: Path, tmp_path: Path) -> None:
    installed(user_site(tmp_path / "user"), "triton", "3.4.0")
    found = fires(check, "python/user-site-leaks", seen(env, PYTHONUSERBASE=str(tmp_path / "user"))).finding
    assert found.severity.value == "note"


@pytest.fixture
def conda(tmp_path: Path) -> Path:
    """A Python with a prefix of its own, as conda makes them: its folder of packages is not a virtual environment's."""
    prefix, base = tmp_path / "conda", Path(sys.base_prefix)
    (prefix / "bin").mkdir(parents=True)
    (prefix / "conda-meta").mkdir()
    own(prefix).mkdir(parents=True)
    shutil.copy(base / "bin" / VERSION, prefix / "bin" / "python")
    for each in (base / "lib" / VERSION).iterdir():
        if each.name != "site-packages":
            (prefix / "lib" / VERSION / each.name).symlink_to(each)
    told = subprocess.run(
        [str(prefix / "bin" / "python"), "-c", "import sys; print(sys.prefix)"],
        capture_output=True,
        text=True,
    )
    if told.stdout.strip() != str(prefix):
        pytest.skip("this Python cannot be put elsewhere")
    return prefix


def test_the_users_numpy_hides_that_of_a_conda_environment(conda: Path, tmp_path: Path) -> None:
    installed(user_site(tmp_path / "user"), "numpy", "2.1.0")
    installed(own(conda), "numpy", "1.26.4")
    base = str(tmp_path / "user")
    found = fires(check, "python/user-site-leaks", seen(conda, PYTHONUSERBASE=base)).finding
    assert (found.severity.value, found.subject) == ("warning", f"path:{user_site(tmp_path / 'user')}")
    assert "1.26.4" in found.evidence[0].value
    assert_silent(check, "python/user-site-leaks", seen(conda, PYTHONUSERBASE=base, PYTHONNOUSERSITE="1"))


# PYTHONPATH.


def test_other_packages_on_pythonpath_are_silent(env: Path, tmp_path: Path) -> None:
    installed(tmp_path / "ros", "rclpy", "3.3.1")
    installed(own(env), "torch", "2.8.0")
    assert_silent(check, "python/pythonpath-leaks", seen(env, PYTHONPATH=str(tmp_path / "ros")))


def test_pythonpath_puts_another_torch_first(env: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    installed(overlay, "torch", "2.1.0")
    installed(own(env), "torch", "2.8.0")
    facts = seen(env, PYTHONPATH=f"{overlay}:{tmp_path}")
    found = fires(check, "python/pythonpath-leaks", facts).finding
    assert (found.severity.value, found.subject) == ("warning", f"path:{overlay}")


def test_pythonpath_of_another_python(env: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "lib" / "python3.2" / "site-packages"
    installed(overlay, "numpy", "1.21.5")
    found = fires(check, "python/pythonpath-leaks", seen(env, PYTHONPATH=str(overlay))).finding
    assert "installed for Python 3.2" in found.title


# Interpreters.


def test_a_healthy_interpreter_is_silent(env: Path) -> None:
    assert_silent(check, "python/standard-library-not-found", seen(env))
    active_one = active_environment(host_with(VIRTUAL_ENV=str(env)))
    assert active_one is not None
    assert_silent(check, "python/interpreter-missing", active_one)
    assert active_environment(host_with()) is None


def test_pythonhome_of_another_python(env: Path, tmp_path: Path) -> None:
    found = fires(check, "python/standard-library-not-found", seen(env, PYTHONHOME=str(tmp_path))).finding
    assert (found.severity.value, found.subject) == ("error", "variable:PYTHONHOME")


def test_what_such_an_interpreter_prints(env: Path, tmp_path: Path) -> None:
    told = subprocess.run(
        [str(env / "bin" / "python"), "-c", "pass"],
        capture_output=True,
        text=True,
        env=host_with(PYTHONHOME=str(tmp_path)).environ,
    )
    fires(check, "python/standard-library-not-found", read(check, told.stderr))


def test_an_active_environment_whose_python_was_removed(env: Path) -> None:
    for link in (env / "bin").glob("python*"):
        link.unlink()
        link.symlink_to("/opt/removed/bin/python3")
    active_one = active_environment(host_with(VIRTUAL_ENV=str(env)))
    assert active_one is not None
    found = fires(check, "python/interpreter-missing", active_one).finding
    assert (found.subject, found.severity.value) == ("path:/opt/removed/bin/python3", "warning")


def test_an_active_environment_that_is_closed_to_us(tmp_path: Path) -> None:
    (tmp_path / "host.toml").write_text('[paths."/srv/v/bin"]\nerrno = "EACCES"\n')
    with pytest.raises(CouldNotLook):
        active_environment(host_tree(tmp_path, environ={"VIRTUAL_ENV": "/srv/v"}))


def test_a_script_whose_interpreter_is_gone(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "torchrun"
    script.parent.mkdir()
    script.write_text("#!/opt/removed/bin/python3\n")
    script.chmod(0o755)
    told = subprocess.run(["bash", "-c", str(script)], capture_output=True, text=True)
    found = fires(check, "python/interpreter-missing", read(check, told.stderr)).finding
    assert found.subject in (
        "path:/opt/removed/bin/python3",
        f"path:{script}",
    )  # bash names the one or the other


# pip.


def pip_of(folder: Path, python: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pip").write_text(f"#!{python}\n")
    (folder / "pip").chmod(0o755)


def active(env: Path, path: Path) -> tuple[Any, Target]:
    host = host_with(VIRTUAL_ENV=str(env), PATH=f"{path}:{os.environ['PATH']}")
    target = choose(host, None)
    assert target.python.startswith(str(env))
    return pip_command(host, target, look_at_paths(host, target)), target


def test_the_pip_of_the_active_environment_is_silent(env: Path) -> None:
    pip_of(env / "bin", env / "bin" / "python")
    assert_silent(check, "python/pip-installs-elsewhere", *active(env, env / "bin"))


def test_an_environment_without_a_pip_of_its_own(env: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "other", with_pip=False, symlinks=True)
    pip_of(tmp_path / "first", tmp_path / "other" / "bin" / "python3")
    found = fires(check, "python/pip-installs-elsewhere", *active(env, tmp_path / "first")).finding
    assert found.severity.value == "note"
    assert str(tmp_path / "other") in found.title


MANAGED = SYSTEM.exists() and look_at_paths(host_with(), choose(host_with(), str(SYSTEM))).externally_managed
HAS_PIP = (
    MANAGED and subprocess.run([str(SYSTEM), "-m", "pip", "--version"], capture_output=True).returncode == 0
)


@pytest.mark.skipif(not HAS_PIP, reason="no Python of the system that pip must not touch")
def test_a_python_that_pip_refuses() -> None:
    command = [str(SYSTEM), "-m", "pip", "install", "--no-index", "nothing-of-that-name"]
    told = subprocess.run(command, capture_output=True, text=True, env=host_with().environ)
    facts = read(check, told.stderr)
    assert facts.symptoms(ExternallyManaged)
    assert fires(check, "python/externally-managed", facts).finding.severity.value == "error"


# A whole quick check.


def test_the_report_on_an_interpreter_that_does_not_start(env: Path, tmp_path: Path) -> None:
    host = host_with(PYTHONHOME=str(tmp_path))
    doctor = Doctor()
    seen_here = doctor.look(host, tier=Tier.QUICK, python=str(env / "bin" / "python"))
    report = doctor.report(seen_here, Selection())
    assert report.findings[0].id == "python/standard-library-not-found"
