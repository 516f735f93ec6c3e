"""The core's own check, area ``envdoctor/``: the platform, the examined interpreter, and the plugins."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from typing import ClassVar

import msgspec

from envdoctor.check import Check, Headline, Tier
from envdoctor.facts import Evidence, Fact, Source, Unavailable
from envdoctor.findings import Finding, Findings, Severity
from envdoctor.host import Host
from envdoctor.platform import Platform, look_at_platform
from envdoctor.remedies import Change, NoFix, Reach, Run
from envdoctor.surroundings import Surroundings, look_at_surroundings
from envdoctor.target import Target, TargetPaths, look_at_paths
from envdoctor.variables import Variables, look_at_variables

check = Check("envdoctor", "the platform, the examined interpreter, and the plugins", package="envdoctor")
DEFECT = NoFix(reason="a defect of envdoctor or of a plugin; please report it with the error above")


class Broken(msgspec.Struct, frozen=True):
    """A plugin that could not be loaded."""

    name: str
    distribution: str
    error: str


class PluginsState(Fact, frozen=True):
    """How the plugins fared: which could not be loaded, which probes broke or came late."""

    fact_name: ClassVar[str] = "envdoctor.plugins-state"
    loaded: tuple[str, ...]
    broken: tuple[Broken, ...] = ()
    crashed: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    """Probe -> exception."""
    late: dict[str, float] = {}  # noqa: RUF012 - msgspec copies it
    """Probe -> the seconds it had."""
    python: str = ""
    """The interpreter that envdoctor runs on, into which its plugins are installed."""


class Crashes(Fact, frozen=True):
    """What of envdoctor and its plugins broke while it read and judged. Never recorded."""

    fact_name: ClassVar[str] = "envdoctor.crashes"
    rules: dict[str, str]
    """Rule -> exception."""
    readers: dict[str, str]
    """Reader -> exception."""
    headlines: dict[str, str]
    """Check -> exception."""


class NotJudged(Fact, frozen=True):
    """What a recording holds that no loaded check knows. Drawn from the document, never written into one."""

    fact_name: ClassVar[str] = "envdoctor.not-judged"
    names: tuple[str, ...]
    """Fact types and symptom kinds."""


@check.probe(tier=Tier.QUICK, deadline=3.0)
def platform(host: Host) -> Platform:
    """Which operating system, C library and processor."""
    return look_at_platform(host)


@check.probe(tier=Tier.QUICK, deadline=12.0)
def target_paths(host: Host, target: Target) -> TargetPaths:
    """Where the target interpreter keeps its packages: the one child of a quick run."""
    return look_at_paths(host, target)


@check.probe(tier=Tier.QUICK, deadline=3.0)
def surroundings(
    host: Host, target: Target, platform: Platform | None, paths: TargetPaths | Unavailable | None
) -> Surroundings:
    """Which managers and engine the fixes must be worded for."""
    return look_at_surroundings(host, target, platform, paths)


@check.probe(tier=Tier.QUICK, deadline=1.0)
def variables(host: Host) -> Variables:
    """The environment variables that bear on GPUs, by allow-list."""
    return look_at_variables(host)


@check.headline
def machine(platform: Platform, paths: TargetPaths | None, target: Target | None) -> Iterator[Headline]:
    """The operating system and the interpreter."""
    name = platform.pretty_name or platform.distribution or platform.system
    libc = f", {platform.libc} {platform.libc_version or ''}".rstrip() if platform.libc else ""
    wsl = ", WSL2" if platform.wsl else ""
    yield Headline("system", f"{name} ({platform.machine}{libc}{wsl})", 10)
    if paths is not None and target is not None:
        yield Headline("python", f"{paths.version} at {target.python}", 20)


@check.rule
def plugin_broken(state: PluginsState) -> Findings:
    """A plugin of envdoctor could not be loaded, so what it checks was not looked at."""
    for plugin in state.broken:
        yield Finding(
            subject=f"plugin:{plugin.name}",
            title=f"the plugin {plugin.name!r} of {plugin.distribution} could not be loaded",
            severity=Severity.WARNING,
            evidence=(state.shows(f"loading {plugin.name}", plugin.error),),
            remedies=(_mended(plugin, state.python),),
        )


def _mended(plugin: Broken, python: str) -> Run:
    """Plugins live beside envdoctor, which is seldom the environment that is examined."""
    pip, name = f"{shlex.quote(python or 'python')} -m pip", shlex.quote(plugin.distribution)
    return Run(
        title=f"update {plugin.distribution} where envdoctor is installed, or remove it there",
        commands=(f"{pip} install --upgrade {name}", f"{pip} uninstall {name}"),
        reach=Reach.ENVIRONMENT,
        caveat="The first line is enough where a newer release is mended; the second gives the check up.",
        verify="envdoctor rules",
    )


@check.rule
def probe_crashed(state: PluginsState) -> Findings:
    """A probe of envdoctor broke while looking: a defect of the probe, not of the machine."""
    for probe, error in state.crashed.items():
        yield Finding(
            subject=f"probe:{probe}",
            title=f"the probe {probe} broke, so what it looks at is not known",
            severity=Severity.NOTE,
            evidence=(state.shows(probe, error),),
            remedies=(DEFECT,),
        )


@check.rule
def probe_late(state: PluginsState) -> Findings:
    """A probe did not come back in its time: often a dead network mount or a hung driver."""
    for probe, deadline in state.late.items():
        yield Finding(
            subject=f"probe:{probe}",
            title=f"the probe {probe} did not come back within {deadline:g} s",
            severity=Severity.NOTE,
            evidence=(state.shows(probe, f"no answer within {deadline:g} s"),),
            remedies=(
                NoFix(reason="whatever it reads does not answer; look for a dead mount or a hung device"),
            ),
        )


@check.rule
def rule_crashed(crashes: Crashes) -> Findings:
    """A rule of envdoctor broke while judging: a defect of the rule, not of the machine."""
    for rule, error in crashes.rules.items():
        yield Finding(
            subject=f"rule:{rule}",
            title=f"the rule {rule} broke, so what it judges is not known",
            severity=Severity.NOTE,
            evidence=(crashes.shows(rule, error),),
            remedies=(DEFECT,),
        )


@check.rule
def reader_crashed(crashes: Crashes) -> Findings:
    """A reader of envdoctor broke over a part of the text, so that part was read for its messages only."""
    for reader, error in crashes.readers.items():
        yield Finding(
            subject=f"reader:{reader}",
            title=f"the reader {reader} broke, so what it reads in this text is not known",
            severity=Severity.NOTE,
            evidence=(crashes.shows(reader, error),),
            remedies=(DEFECT,),
        )


@check.rule
def headline_crashed(crashes: Crashes) -> Findings:
    """A headline of envdoctor broke, so the summary of the machine lacks its rows."""
    for name, error in crashes.headlines.items():
        yield Finding(
            subject=f"check:{name}",
            title=f"the headline of the check {name} broke, so the summary lacks its rows",
            severity=Severity.NOTE,
            evidence=(crashes.shows(name, error),),
            remedies=(DEFECT,),
        )


@check.rule
def fact_not_judged(strange: NotJudged) -> Findings:
    """A recording holds facts that no installed check knows, so they were not judged."""
    count = len(strange.names)
    yield Finding(
        title=f"{count} kind{'s' if count > 1 else ''} of recorded facts that no installed check knows",
        severity=Severity.NOTE,
        detail=(
            "The recording was made by a newer envdoctor, or with a plugin that is not installed here. What "
            "these facts show is missing from this report; everything else was judged as usual."
        ),
        evidence=tuple(Evidence("not judged", name, strange.source) for name in strange.names),
        remedies=(
            Change(
                title="update envdoctor here, or install the plugin that recorded them", reach=Reach.SHELL
            ),
        ),
    )


def state_of(
    loaded: tuple[str, ...], broken: tuple[Broken, ...], crashed: dict[str, str], late: dict[str, float]
) -> PluginsState:
    """The fact that the engine contributes after it has looked."""
    return PluginsState(
        loaded=loaded,
        broken=broken,
        crashed=crashed,
        late=late,
        python=sys.executable,
        source=Source("call", "envdoctor"),
    )
