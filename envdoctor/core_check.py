"""The core's own check, area ``envdoctor/``: the platform, the target interpreter, and the plugins themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import msgspec

from envdoctor.check import Check, Headline, Tier
from envdoctor.facts import Fact, Source, Unavailable
from envdoctor.findings import Finding, Findings, Severity
from envdoctor.host import Host
from envdoctor.platform import Platform, look_at_platform
from envdoctor.remedies import NoFix, Uninstall
from envdoctor.surroundings import Surroundings, look_at_surroundings
from envdoctor.target import Target, TargetPaths, look_at_paths
from envdoctor.variables import Variables, look_at_variables

check = Check("envdoctor", "the platform, the interpreter that is asked about, and the plugins", package="envdoctor")


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
    crashed: dict[str, str] = {}
    """Probe -> exception."""
    late: dict[str, float] = {}
    """Probe -> its deadline in seconds."""


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
    host: Host, target: Target, platform: Platform, paths: TargetPaths | Unavailable | None
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
            remedies=(Uninstall(distributions=(plugin.distribution,), why="or update it"),),
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
            remedies=(NoFix(reason="a defect of the plugin; please report it with the error above"),),
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
            remedies=(NoFix(reason="whatever it reads does not answer; look for a dead mount or a hung device"),),
        )


def state_of(loaded: tuple[str, ...], broken: tuple[Broken, ...], crashed: dict[str, str], late: dict[str, float]) -> PluginsState:
    """The fact that the engine contributes after it has looked."""
    return PluginsState(loaded=loaded, broken=broken, crashed=crashed, late=late, source=Source("call", "envdoctor"))
