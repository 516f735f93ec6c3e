"""A closed world for the command line: envdoctor, what it needs, and the plugins that a test puts in."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NEEDED = ("click", "msgspec", "packaging")

DEMO = '''
"""A stranger's check: a mood, read from a file, and what to say of it."""
import os, time
from collections.abc import Iterator
from typing import ClassVar
from envdoctor.api import (
    Ask, Check, Confidence, CouldNotLook, Fact, Finding, Findings, Headline, Host, NoFix, Outcome, Run,
    Reach, Severity, Source, Symptom, Tier,
)

check = Check("demo", "the mood of the machine", package="demo_plugin")

class Mood(Fact, frozen=True):
    fact_name: ClassVar[str] = "demo.mood"
    mood: str

class Dream(Fact, frozen=True):
    fact_name: ClassVar[str] = "demo.dream"
    about: str

class Sighed(Symptom, frozen=True):
    symptom_name: ClassVar[str] = "demo.sighed"
    how: str

@check.probe(tier=Tier.QUICK, deadline=float(os.environ.get("DEMO_DEADLINE", "5")))
def mood(host: Host) -> Mood:
    time.sleep(float(host.environ.get("DEMO_SLEEP", "0")))
    told = host.environ.get("DEMO_MOOD", "happy")
    if told == "hidden":
        raise CouldNotLook("the mood is behind a curtain", "draw the curtain")
    if told == "offline":
        told = "happy" if host.environ.get("ENVDOCTOR_OFFLINE") else "sad"
    return Mood(mood=told, source=Source("env", "DEMO_MOOD"))

@check.probe(tier=Tier.DEEP)
def dreams(host: Host) -> Dream:
    return Dream(about="sheep", source=Source("call", "sleep"))

@check.message(r"sighed (?P<how>\\w+)", needles="sighed", sample="the machine sighed deeply")
def sighed(match) -> Sighed:
    return Sighed(how=match["how"])

@check.headline
def row(mood: Mood) -> Iterator[Headline]:
    yield Headline("mood", mood.mood, 30)

@check.rule
def sad(mood: Mood) -> Findings:
    """The machine is sad."""
    if mood.mood == "sad":
        yield Finding(
            title="the machine is sad", detail="Nobody talked to it.",
            evidence=(mood.shows("mood", mood.mood),),
            remedies=(Run(title="talk to it", commands=("echo 'hello [friend]'",), reach=Reach.SHELL),),
            breaks=(Outcome("compile-toolchain"),), asks=(Ask("fortune", "whether it laughs"),),
        )

@sad.sign
def sad_by_sound(said: Sighed) -> Findings:
    yield Finding(title=f"the machine sighed {said.how}", evidence=(said.evidence(),),
                  confidence=Confidence.LIKELY, remedies=(NoFix(reason="give it time"),), breaks=(Outcome("compile-toolchain"),))

@check.rule
def grumpy(mood: Mood) -> Findings:
    """The machine is grumpy."""
    if mood.mood == "grumpy":
        yield Finding(title="the machine is grumpy", severity=Severity.WARNING,
                      remedies=(NoFix(reason="wait"),))

@check.rule
def silent(mood: Mood) -> Findings:
    """The machine says nothing."""
    if mood.mood == "sad":
        yield Finding(title="the machine says nothing", shows=(Outcome("compile"),),
                      remedies=(NoFix(reason="see above"),))
'''
PAGE = """\
# The machine is sad

It says **nothing**. See [the manual](https://example.org/moods).

```sh
echo 'hello'
```
"""


class World:
    """A folder on PYTHONPATH, run without any site-packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in NEEDED:
            spec = find_spec(name)
            assert spec is not None
            assert spec.submodule_search_locations
            (folder / name).symlink_to(spec.submodule_search_locations[0])
        self.environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def plugin(self, source: str = DEMO, *, distribution: str = "demo-plugin", name: str = "demo") -> None:
        """Install a plugin of one module; as part of ``envdoctor``, its probes run in our own process."""
        package = self.folder / f"{name}_plugin"
        (package / "docs").mkdir(parents=True)
        (package / "__init__.py").write_text(source)
        (package / "docs" / "sad.md").write_text(PAGE)
        info = self.folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[envdoctor.checks]\n{name} = {name}_plugin:check\n")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")

    def command(self, *arguments: str) -> list[str]:
        """The command line of ``envdoctor`` in this world."""
        return [sys.executable, "-S", "-m", "envdoctor", *arguments]

    def run(self, *arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """Run to the end, captured."""
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
            env=self.environ | environ,
        )
