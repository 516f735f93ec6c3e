"""Every rule fires on a breakage and stays silent on a machine where all its facts are present.

A case file ``tests/cases/<check>/<slug>.yaml`` belongs to the rule ``<check>/<slug>``:

    facts:                        # optional: put under the facts of every entry that gives facts
      envdoctor.platform: {system: linux, machine: x86_64}
    silent:                       # the quiet ones first: a false alarm is as bad as a miss
      - name: driver 535 with a cu128 wheel
        facts:                    # as in a facts document; `source` is filled in where it is missing
          driver.cuda: {driver_cuda: "12.2"}
          torch.build: {version: 2.8.0+cu128, torch_cuda: "12.8"}
      - name: a recorded machine, changed
        machine: h100-healthy     # fixtures/machines/h100-healthy.json
        facts:
          driver.cuda: {driver_cuda: "12.2"}   # only the fields that differ
          gpu.kernel-log:                      # nothing: as if it had not been recorded
    fires:
      - name: torch says it
        text: |                   # pasted text, read as `envdoctor explain` reads it
          RuntimeError: The NVIDIA driver on your system is too old (found version 11040).
        severity: error           # optional: what the finding must say
        subject: ""
        first: true               # it must be the first finding of the report
        fix: "torch"              # a regular expression for one of its fixes
        also: [torch/cuda-unavailable]   # rules that must speak too
        never: [driver/not-installed]    # rules that must not, not even in a note

`unavailable: {fact-name: reason}` and `symptoms: [{kind: ..., ...}]` may stand beside `facts`. In a firing case the
rule must give a finding; in a silent one it must give none above a note. `confidence` may be asked for as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from envdoctor.check import needs_of
from envdoctor.core_check import Crashes, NotJudged
from envdoctor.prescribe import prescribe
from envdoctor.surroundings import UNKNOWN
from tests.support.cases import (
    Case,
    all_cases,
    asks_no_message,
    doctor,
    facts_of,
    has_judged_by_facts,
    judged,
)

if TYPE_CHECKING:
    from envdoctor.check import Rule
    from envdoctor.judging import Judged, Judgement

CASES = all_cases()
NEVER_RECORDED = {Crashes, NotJudged}
"""What happens while reading and judging: no case can hold that, see tests/core/test_core_check.py."""
RULES = [
    rule
    for check in doctor().checks
    for rule in check.rules
    if not any(need.kind in NEVER_RECORDED for need in needs_of(rule.function))
]


def of_rule(judgement: Judgement, rule: str) -> list[Judged]:
    return [each for each in judgement.findings if each.rule == rule]


def said(judgement: Judgement) -> list[str]:
    return [
        f"{each.rule} ({each.finding.severity.value}): {each.finding.title}" for each in judgement.findings
    ]


def check_the_others(case: Case, judgement: Judgement) -> None:
    speaking = {each.rule for each in judgement.findings}
    assert set(case.entry.also) <= speaking, said(judgement)
    assert not speaking.intersection(case.entry.never), said(judgement)


@pytest.mark.parametrize("case", [case for case in CASES if not case.fires], ids=str)
def test_stays_silent(case: Case) -> None:
    judgement = judged(case)
    loud = [each.finding for each in of_rule(judgement, case.rule) if each.finding.severity.value != "note"]
    assert not loud
    check_the_others(case, judgement)


@pytest.mark.parametrize("case", [case for case in CASES if case.fires], ids=str)
def test_fires(case: Case) -> None:
    judgement, expected = judged(case), case.entry
    found = of_rule(judgement, case.rule)
    assert found, f"{case.rule} said nothing; what did: {said(judgement)}"
    if expected.first:
        assert judgement.findings[0].rule == case.rule, said(judgement)
    findings = [each.finding for each in found]
    if expected.subject is not None:
        findings = [each for each in findings if each.subject == expected.subject]
        assert findings, [each.finding.subject for each in found]
    if expected.severity is not None:
        assert expected.severity in {each.severity.value for each in findings}
    if expected.confidence is not None:
        assert expected.confidence in {each.confidence.value for each in findings}
    if expected.fix:
        fixes = [fix for each in findings for fix in prescribe(each.remedies, UNKNOWN)[0]]
        assert re.search(expected.fix, msgspec.json.encode(fixes).decode()), fixes
    check_the_others(case, judgement)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_has_a_firing_case(rule: Rule[Any]) -> None:
    assert any(case.rule == rule.id and case.fires for case in CASES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_is_silent_where_its_facts_are_present(rule: Rule[Any]) -> None:
    """A silent case must have let the rule judge. For one that needs a message, any other text will do."""
    quiet = [case for case in CASES if case.rule == rule.id and not case.fires]
    assert quiet, "no silent case"
    if any(asks_no_message(sign) for sign in rule.signs):
        assert any(has_judged_by_facts(rule, facts_of(case)) for case in quiet), (
            "no silent case has the facts that the rule asks for"
        )


def test_every_case_file_belongs_to_a_rule() -> None:
    ids = {rule.id for rule in RULES}
    areas = {check.name for check in doctor().checks}
    strange = {case.rule for case in CASES if case.rule.partition("/")[0] in areas} - ids
    assert not strange
