"""Every rule fires on a breakage and stays silent on a machine where all its facts are present.

A case file ``tests/cases/<check>/<slug>.yaml`` belongs to the rule ``<check>/<slug>``:

    silent:                       # the quiet ones first: a false alarm is as bad as a miss
      - name: driver 535 with a cu128 wheel
        facts:                    # as in a facts document; `source` is filled in where it is missing
          driver.cuda: {driver_cuda: "12.2"}
          torch.build: {version: 2.8.0+cu128, torch_cuda: "12.8"}
    fires:
      - name: torch says it
        text: |                   # pasted text, read as `envdoctor explain` reads it
          RuntimeError: The NVIDIA driver on your system is too old (found version 11040).
        severity: error           # optional: what the finding must say
        subject: ""
        first: true               # it must be the first finding of the report
        fix: "torch"              # a regular expression for one of its fixes

`unavailable: {fact-name: reason}` and `symptoms: [{kind: ..., ...}]` may stand beside `facts`. In a firing case the
rule must give a finding; in a silent one it must give none above a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from envdoctor.check import Rule, needs_of
from envdoctor.facts import Symptom
from envdoctor.judging import Judged, Judgement, bind
from envdoctor.prescribe import prescribe
from envdoctor.surroundings import UNKNOWN
from tests.support.cases import Case, all_cases, doctor, facts_of, judged

CASES = all_cases()


def of_rule(judgement: Judgement, rule: str) -> list[Judged]:
    return [each for each in judgement.findings if each.rule == rule]


@pytest.mark.parametrize("case", [case for case in CASES if not case.fires], ids=str)
def test_stays_silent(case: Case) -> None:
    judgement = judged(case.entry)
    assert not judgement.crashed
    loud = [each.finding for each in of_rule(judgement, case.rule) if each.finding.severity.value != "note"]
    assert not loud


@pytest.mark.parametrize("case", [case for case in CASES if case.fires], ids=str)
def test_fires(case: Case) -> None:
    judgement = judged(case.entry)
    assert not judgement.crashed
    found = of_rule(judgement, case.rule)
    assert found, f"{case.rule} said nothing; what did: {[each.rule for each in judgement.findings]}"
    expected = case.entry
    if expected.first:
        assert judgement.findings[0].rule == case.rule, [each.rule for each in judgement.findings]
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


RULES = [rule for check in doctor().checks if check.name != "envdoctor" for rule in check.rules]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_has_a_firing_case(rule: Rule[Any]) -> None:
    assert any(case.rule == rule.id and case.fires for case in CASES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_is_silent_where_its_facts_are_present(rule: Rule[Any]) -> None:
    """At least one silent case must have let the rule judge: for rules about messages only, any text will do."""
    quiet = [case for case in CASES if case.rule == rule.id and not case.fires]
    assert quiet, "no silent case"
    if all(_needs_a_message(sign) for sign in rule.signs):
        return
    bound = [
        each for case in quiet for each in bind(doctor().checks, facts_of(case.entry)) if each.rule is rule
    ]
    assert any(each.skipped is None for each in bound), "no silent case has the facts that the rule asks for"


def _needs_a_message(sign: Callable[..., Any]) -> bool:
    return any(issubclass(need.kind, Symptom) for need in needs_of(sign))
