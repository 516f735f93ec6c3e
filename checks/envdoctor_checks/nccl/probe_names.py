"""Name resolution, in a child: a name service may take its time or hang."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envdoctor.api import Host, Source, Target, TargetPaths, Tier, Unavailable
from envdoctor.probing.child import python_request
from envdoctor.target import failure
from envdoctor_checks.nccl.addresses import is_loopback
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import HostNameAddresses, MasterAddresses, NetworkInterfaces

DEADLINE = 5.0
SCRIPT = r"""
import socket, sys

def look_up(stage, name):
    answer("asking", what=name)
    try:
        told = socket.getaddrinfo(name, None, 0, socket.SOCK_STREAM)
        answer(stage, name=name, addresses=list(dict.fromkeys(each[4][0] for each in told))[:32])
    except (OSError, UnicodeError) as error:
        answer(stage, name=name, addresses=[], error=getattr(error, "strerror", None) or str(error))

look_up("own", socket.gethostname())
for name in sys.argv[1:]:
    look_up("master", name)
done()
"""


@check.probe(tier=Tier.DEFAULT, deadline=DEADLINE + 4)
def name_resolution(
    host: Host, target: Target, paths: TargetPaths, interfaces: NetworkInterfaces | Unavailable | None
) -> Iterator[HostNameAddresses | MasterAddresses | Unavailable]:
    """What getaddrinfo answers for the machine's own name, as Gloo asks it, and for MASTER_ADDR."""
    del paths  # only that the interpreter answers
    if host.environ.get("ENVDOCTOR_OFFLINE"):
        for kind in (HostNameAddresses, MasterAddresses):
            yield Unavailable(kind.fact_name, "--offline turns name resolution off", "run without --offline")
        return
    master = host.environ.get("MASTER_ADDR", "").strip()
    request = python_request(
        target.python, SCRIPT, deadline=DEADLINE, args=(master,) if master else (), env=host.environ
    )
    result = host.run_child(request)
    told = {stage["stage"]: stage for stage in result.stages}
    why = f"the child that resolves names {failure(result)}"
    if "own" in told:
        yield HostNameAddresses(**_fields(told["own"]), source=Source("call", "getaddrinfo"))
    else:
        yield Unavailable(HostNameAddresses.fact_name, why)
    if "master" in told:
        found = _fields(told["master"])
        local = is_own(found["addresses"], interfaces)
        yield MasterAddresses(**found, local=local, source=Source("call", "getaddrinfo"))
    elif master:
        yield Unavailable(MasterAddresses.fact_name, why)


def _fields(stage: dict[str, Any]) -> dict[str, Any]:
    return {"name": stage["name"], "addresses": tuple(stage["addresses"]), "error": stage.get("error")}


def is_own(addresses: tuple[str, ...], interfaces: NetworkInterfaces | Unavailable | None) -> bool:
    """Whether one of them is an address of this machine."""
    known = interfaces.interfaces if isinstance(interfaces, NetworkInterfaces) else ()
    own = {address for each in known for address in each.addresses or ()}
    return any(is_loopback(address) or address in own for address in addresses)
