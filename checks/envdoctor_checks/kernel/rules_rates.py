"""The rule about a GPU that is slower than others of its model."""

from __future__ import annotations

from envdoctor.api import Ask, Confidence, Finding, Findings, NoFix, Severity
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts_smoke import SmokeRates
from envdoctor_checks.kernel.tables import ExpectedRates, Metric

NAMES: dict[Metric, str] = {
    "host_to_device": "copies from pinned host memory",
    "device_memory": "copies within its own memory",
    "matmul": "matrix products",
}
UNITS: dict[Metric, str] = {
    "host_to_device": "GB/s",
    "device_memory": "GB/s",
    "matmul": "TFLOP/s",
}
WHY: dict[Metric, str] = {
    "host_to_device": "A link of fewer lanes or an older generation, a process on the processor that is not the GPU's own, or other "
    "copies at the same time.",
    "device_memory": "Clocks that are held down by heat or power, another program on the GPU, or a part of it (MIG).",
    "matmul": "Clocks that are held down by heat or power, or another program on the GPU.",
}
ASKS: dict[Metric, Ask] = {
    "host_to_device": Ask(
        "nvidia-smi -q -d PCIE; nvidia-smi topo -m", "what link it has, and which processor it is at"
    ),
    "device_memory": Ask(
        "nvidia-smi -q -d CLOCK,PERFORMANCE; nvidia-smi", "what holds the clocks down, and who else is on it"
    ),
    "matmul": Ask(
        "nvidia-smi -q -d CLOCK,PERFORMANCE; nvidia-smi", "what holds the clocks down, and who else is on it"
    ),
}


@check.rule
def slower_than_expected(rates: SmokeRates, expected: ExpectedRates) -> Findings:
    """The GPU copies more slowly than the least that others of its model are accepted with."""
    for metric, name in NAMES.items():
        reached = getattr(rates, metric)
        for row in expected.of(rates.gpu, metric):
            if row.kind != "least" or reached is None or reached >= row.value:
                continue
            yield Finding(
                title=f"{rates.gpu}: {name} reach {reached:.0f} {UNITS[metric]}, and {row.value:.0f} are the least to expect",
                subject=f"rate:{metric}",
                severity=Severity.WARNING,
                confidence=Confidence.LIKELY,
                detail=WHY[metric],
                evidence=(
                    rates.shows(name, f"{reached:.1f} {UNITS[metric]}"),
                    expected.cite(row, "least of this model", f"{row.value:g} {UNITS[metric]}"),
                ),
                remedies=(
                    NoFix(
                        reason="what slows it down is not known from the rate alone; the commands below tell"
                    ),
                ),
                asks=(ASKS[metric],),
            )
