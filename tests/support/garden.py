"""A stranger's check about garden gates: fact types, symptoms and rules that tests of the documents can
rely on.

It has a field of every kind that a fact may hold, and rules over addresses, identifiers and names, so that
a test can tell whether a document that went through something is still judged as before.
"""

from __future__ import annotations

import ipaddress
import re
from typing import ClassVar, Literal

import msgspec

from envdoctor.api import Check, Fact, Finding, Findings, Severity, Source, Symptom, gpu

check = Check("garden", "the garden gates", package="tests.support")


class Gate(msgspec.Struct, frozen=True):
    """One gate."""

    uuid: str
    serial: str | None = None


class Gates(Fact, frozen=True):
    """The gates of a garden."""

    fact_name: ClassVar[str] = "garden.gates"
    gates: tuple[Gate, ...] = ()
    visible: str | None = None
    state: Literal["open", "shut"] = "open"
    height: float = 1.5
    by_row: dict[int, str] = msgspec.field(default_factory=dict)
    tags: frozenset[str] = frozenset()


class Paths(Fact, frozen=True):
    """Where the garden's paths lead."""

    fact_name: ClassVar[str] = "garden.paths"
    cuda_home: str | None = None
    home: str = ""
    search: tuple[str, ...] = ()
    user: str | None = None


class Neighbours(Fact, frozen=True):
    """Who lives around."""

    fact_name: ClassVar[str] = "garden.neighbours"
    hostname: str
    addresses: dict[str, str] = msgspec.field(default_factory=dict)
    """Interface -> address with its prefix length."""
    master_addr: str | None = None
    log: tuple[str, ...] = ()


class GateStuck(Symptom, frozen=True):
    """A gate that does not open."""

    symptom_name: ClassVar[str] = "garden.gate-stuck"
    gate: int


@check.probe()
def look_around() -> tuple[Gates, Paths, Neighbours]:
    """Never run by tests of documents; it says which facts the check has."""
    raise NotImplementedError


@check.message(r"gate (\d+) is stuck", needles="stuck", sample="gate 3 is stuck")
def stuck(match: re.Match[str]) -> GateStuck:
    """A gate that does not open."""
    return GateStuck(gate=int(match[1]))


@check.rule
def hidden_gate(gates: Gates) -> Findings:
    """The visible gate is none of those that are there (a start of its identifier is enough)."""
    if gates.visible is not None and sum(each.uuid.startswith(gates.visible) for each in gates.gates) != 1:
        yield Finding(title="the visible gate is not there", subject="gate", breaks=(gpu(0),))


@check.rule
def stuck_gate(said: GateStuck) -> Findings:
    """A gate is stuck."""
    yield Finding(
        title=f"gate {said.gate} is stuck", subject=f"gate:{said.gate}", evidence=(said.evidence(),)
    )


@check.rule
def other_subnet(around: Neighbours) -> Findings:
    """The master is in none of our subnets."""
    networks = [ipaddress.ip_interface(each).network for each in around.addresses.values()]
    if around.master_addr and not any(ipaddress.ip_address(around.master_addr) in each for each in networks):
        yield Finding(title="the master is in another subnet", severity=Severity.WARNING, subject="master")


@check.rule
def loopback_name(around: Neighbours) -> Findings:
    """An interface of ours is the loopback or link-local."""
    for name, address in around.addresses.items():
        interface = ipaddress.ip_interface(address)
        if interface.is_loopback or interface.is_link_local:
            yield Finding(title=f"{name} leads nowhere", severity=Severity.NOTE, subject=f"interface:{name}")


@check.rule
def toolkit_at_home(paths: Paths) -> Findings:
    """The toolkit lies in somebody's home."""
    if paths.cuda_home and paths.home and paths.cuda_home.startswith(paths.home + "/"):
        yield Finding(
            title="the toolkit is in a home directory", severity=Severity.WARNING, subject="cuda-home"
        )


FROM_NOWHERE = Source("text")
