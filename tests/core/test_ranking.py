"""The order of findings: the root cause to treat first comes first."""

from __future__ import annotations

from typing import Any

from envdoctor.findings import Confidence, Finding, Severity
from envdoctor.judging import ranked
from envdoctor.outcomes import Outcome, library


def ranks(*findings: Finding) -> list[tuple[str, tuple[int, ...]]]:
    return [
        (each.finding.title, each.consequence_of) for each in ranked([("car/x", each) for each in findings])
    ]


def finding(title: str, **fields: Any) -> Finding:
    return Finding(title=title, **fields)


NOTE, WARNING = Severity.NOTE, Severity.WARNING
LIKELY, POSSIBLE = Confidence.LIKELY, Confidence.POSSIBLE
JOB, KERNEL, DRIVER = Outcome("job"), Outcome("kernel-on-gpu"), Outcome("driver-loaded")


def test_order_of_roots() -> None:
    order = [
        finding("explains what was seen", severity=WARNING, breaks=(DRIVER,)),
        finding("upstream", breaks=(library("a"),)),
        finding("nothing broken"),
        finding("likely", confidence=LIKELY, breaks=(library("a"),)),
        finding("warning", severity=WARNING),
        finding("note", severity=NOTE),
    ]
    shown = finding("shown", shows=(KERNEL,))
    expected = [(each.title, ()) for each in order] + [("shown", (0,))]
    assert ranks(*reversed(order), shown) == expected
    assert ranks(shown, *order) == expected


def test_what_is_merely_possible_neither_explains_nor_comes_first_for_it() -> None:
    assert ranks(
        finding("possible", confidence=POSSIBLE, breaks=(DRIVER,)),
        finding("shown", severity=WARNING, shows=(JOB,)),
    ) == [("shown", ()), ("possible", ())]


def test_a_consequence_names_each_of_its_causes() -> None:
    causes = (
        finding("a", breaks=(DRIVER,)),
        finding("b", breaks=(KERNEL,)),
        finding("c", breaks=(library("x"),)),
    )
    assert ranks(finding("shown", shows=(JOB,)), *causes) == [
        ("a", ()),
        ("b", ()),
        ("c", ()),
        ("shown", (0, 1)),
    ]
