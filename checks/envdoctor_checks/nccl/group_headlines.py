"""A process group that ran, in the machine's summary and as a table of its ranks."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.api import Headline, View
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts_groups import GroupBandwidth, GroupRun, GroupTransports
from envdoctor_checks.nccl.read_groups import summed
from envdoctor_checks.nccl.rules_groups import in_words


@check.headline
def group_row(
    run: GroupRun, transports: GroupTransports | None, bandwidth: GroupBandwidth | None
) -> Iterator[Headline]:
    """``process group  2 ranks over NCCL, P2P/CUMEM (2), bus 210.0 GB/s: all well``."""
    number = len(run.ranks)
    parts = [f"{number} rank{'' if number == 1 else 's'} over {'NCCL' if run.backend == 'nccl' else 'Gloo'}"]
    if transports is not None and transports.links:
        parts.append(summed(transports))
    if bandwidth is not None:
        parts.append(f"bus {bandwidth.bus / 1e9:.1f} GB/s")
    unwell = sum(each.end != "finished" for each in run.ranks)
    verdict = "all well" if run.well else f"{unwell} not well" if unwell else "wrong results"
    yield Headline("process group", f"{', '.join(parts)}: {verdict}", 62)


@check.view
def group_ranks(run: GroupRun) -> View:
    """What became of every rank."""
    rows = tuple(
        (str(each.rank), each.device or "-", ", ".join(each.addresses) or "-", each.stage, in_words(each))
        for each in run.ranks
    )
    return View("Process group", ("rank", "device", "listens on", "last stage", "how it ended"), rows)


@check.view
def group_links(transports: GroupTransports) -> View:
    """How NCCL sends between the ranks."""
    rows = tuple(
        (f"{each.sender} -> {each.receiver}", each.via, str(each.channels)) for each in transports.links
    )
    return View("NCCL's transports", ("ranks", "transport", "channels"), rows)
