"""How fast it starts, and what it must not import on the way."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from envdoctor import __version__

if TYPE_CHECKING:
    from tests.cli.worlds import World

FORBIDDEN = (
    "importlib.metadata",
    "packaging.requirements",
    "psutil",
    "rich",
    "textual",
    "asyncio",
    "dataclasses",
)
WHAT_IS_LOADED = """
import os, sys
from envdoctor.cli import leaving, run
leave = os._exit
def tell(code):
    print(*sorted(sys.modules), file=sys.stderr, flush=True)
    leave(code)
os._exit = tell
run(sys.argv[1:])
"""


def seconds(command: list[str], world: World) -> float:
    """The best of several, for the machine may be busy."""
    best = 99.0
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=world.environ, cwd=world.folder)
        best = min(best, time.perf_counter() - began)
    return best


def test_the_version_comes_at_once(world: World) -> None:
    assert world.run("--version").stdout == f"envdoctor {__version__}\n"
    nothing = seconds([sys.executable, "-S", "-c", "pass"], world)
    assert seconds(world.command("--version"), world) < 4 * nothing


def test_the_version_needs_no_dependency(world: World) -> None:
    for name in ("click", "msgspec"):
        (world.folder / name).unlink()
    assert world.run("--version").returncode == 0
    broken = world.run("check")
    assert (broken.returncode, broken.stdout) == (3, "")
    assert "its own installation is broken (No module named" in broken.stderr
    assert "Traceback" not in broken.stderr


LATER = """
from envdoctor.api import Check

check = Check("half", "half a check", package="half_plugin")
check.later(judging=("rules",))
"""


def test_a_module_of_a_check_that_is_gone_is_a_broken_installation_too(bare: World) -> None:
    bare.plugin(LATER, distribution="envdoctor", name="half")
    broken = bare.run("check", "--quick")
    assert (broken.returncode, broken.stdout) == (3, "")
    assert "its own installation is broken (No module named" in broken.stderr
    assert "--force-reinstall" in broken.stderr


def test_a_strangers_module_that_is_gone_is_a_broken_plugin(world: World) -> None:
    world.plugin(LATER, distribution="another-plugin", name="half")
    told = world.run("check", "--quick")
    assert "the plugin 'half' of another-plugin could not be loaded" in " ".join(told.stdout.split())


def test_a_quick_check_imports_nothing_heavy(world: World) -> None:
    command = [sys.executable, "-S", "-c", WHAT_IS_LOADED, "check", "--quick"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=world.environ, cwd=world.folder, timeout=60
    )
    assert done.returncode == 0
    loaded = set(done.stderr.split())
    assert "envdoctor.render.text" in loaded
    assert not [name for name in FORBIDDEN if name in loaded]


def test_help_shows_commands_examples_and_exit_codes(world: World) -> None:
    told = world.run("--help").stdout
    for each in (
        "check",
        "explain",
        "record",
        "rules",
        "rule",
        "envdoctor check --quick",
        "could not judge",
        "130",
    ):
        assert each in told
    assert world.run("-h").stdout == told
    for command in ("check", "explain", "record", "rules", "rule", "schema", "completion"):
        assert world.run(command, "--help").returncode == 0
