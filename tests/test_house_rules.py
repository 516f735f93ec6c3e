"""What holds for every check that exists: the rules of the house, as tests.

``python -m tests.test_house_rules > tests/rule_ids.txt`` writes the committed list of rule ids anew.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envdoctor import plugins, testing
from envdoctor.asked import Asked
from envdoctor.check import gives_of, needs_of
from envdoctor.core_check import Crashes, NotJudged, PluginsState
from envdoctor.facts import Fact, Facts, Symptom
from envdoctor.host import Host
from envdoctor.pages import page_of
from envdoctor.prescribe import prescribe
from envdoctor.remedies import NoFix
from envdoctor.session import Doctor
from envdoctor.surroundings import UNKNOWN, Surroundings
from envdoctor.target import Target
from tests.support.cases import MACHINES, all_cases, doctor, facts_of, judged_facts
from tests.support.impure import impure_names

if TYPE_CHECKING:
    from envdoctor.check import Check, Message, Rule
    from envdoctor.judging import Judged

REPOSITORY = Path(__file__).resolve().parents[1]
RULE_IDS = REPOSITORY / "tests" / "rule_ids.txt"
SECTIONS = ["What it means", "How we know", "How to fix", "How to verify", "When to ignore", "Sources"]
LATE_MODULES = ("importlib.metadata", "packaging.requirements", "psutil", "rich", "asyncio", "dataclasses")
"""What a quick check must not import: each costs milliseconds that it does not earn there."""

CHECKS = doctor().checks
RULES = [rule for check in CHECKS for rule in check.rules]
MESSAGES = [message for check in CHECKS for message in check.messages]


def by_id(thing: Any) -> str:
    return str(getattr(thing, "id", getattr(thing, "name", thing)))


def machines() -> dict[str, Facts]:
    """Every recorded machine."""
    return {path.stem: doctor().recorded([str(path)]).facts for path in sorted(MACHINES.glob("*.json"))}


def everything() -> Iterator[tuple[str, Facts]]:
    """Every machine, case and sample that there is."""
    yield from machines().items()
    yield from ((str(case), facts_of(case)) for case in all_cases())
    yield from ((message.name, doctor().read(message.sample, "-").facts) for message in MESSAGES)


@pytest.fixture(scope="module")
def all_findings() -> list[tuple[str, Judged]]:
    """All that any rule says of anything; to be judged at all, a rule must not look at the machine or break."""
    return [(name, each) for name, facts in everything() for each in judged_facts(facts).findings]


# The core and its checks.


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", sorted((REPOSITORY / "envdoctor").rglob("*.py")), ids=lambda path: path.name)
def test_the_core_names_no_check_and_no_vendor_library(path: Path) -> None:
    roots = {name.partition(".")[0] for name in imports_of(path)}
    assert not roots & {"envdoctor_checks", "torch", "pynvml"}
    assert "envdoctor_checks" not in path.read_text(encoding="utf-8")


IMPORT_THE_CORE = """
import importlib, pkgutil, sys
import envdoctor
for module in pkgutil.walk_packages(envdoctor.__path__, "envdoctor."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("envdoctor_checks", "torch", "pynvml")))
"""


def test_importing_the_whole_core_imports_no_check() -> None:
    told = subprocess.run([sys.executable, "-c", IMPORT_THE_CORE], capture_output=True, text=True, timeout=60)
    assert told.stdout == "[]\n", told.stderr


LOAD_ALL = """
import sys
from envdoctor.session import Doctor
Doctor()
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "pynvml", "numpy"}))
"""


def test_loading_every_check_imports_no_vendor_library() -> None:
    told = subprocess.run([sys.executable, "-c", LOAD_ALL], capture_output=True, text=True, timeout=60)
    assert told.stdout == "[]\n", told.stderr


QUICK = f"""
import os, sys
os._exit = sys.exit  # so that the last lines run, however the command leaves
sys.argv = ["envdoctor", "check", "--quick", "--format", "json"]
from envdoctor.__main__ import main
try:
    main()
finally:
    print([name for name in {LATE_MODULES!r} if name in sys.modules], file=sys.stderr)
"""


def test_a_quick_check_imports_only_what_it_needs() -> None:
    told = subprocess.run([sys.executable, "-c", QUICK], capture_output=True, text=True, timeout=120)
    assert told.stderr.splitlines()[-1] == "[]", told.stderr
    assert told.stdout.startswith("{")


def test_our_own_plugins_load() -> None:
    """Those whose folder is there: an entry point may be listed before its check is written."""
    broken = [
        f"{each.entry_point.name}: {each.error}"
        for each in plugins.load().broken
        if each.entry_point.distribution == plugins.OURS
        and (
            REPOSITORY / "checks" / (each.entry_point.target.partition(":")[0].replace(".", "/") + ".py")
        ).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("check", CHECKS, ids=by_id)
def test_a_check_keeps_the_contract(check: Check) -> None:
    plugins.verify(check)


# Names.


def test_rule_ids_are_a_committed_list() -> None:
    """Ids are public: users put them in ignore lists."""
    assert RULE_IDS.read_text(encoding="utf-8").split() == rule_ids(), (
        "the rule ids are not those of tests/rule_ids.txt; an id that is public stays. To write the list anew: "
        "python -m tests.test_house_rules > tests/rule_ids.txt"
    )


def rule_ids() -> list[str]:
    return sorted(rule.id for rule in RULES)


def test_names_are_unique_over_all_checks() -> None:
    kinds: set[type] = set()
    for check in CHECKS:
        kinds |= {*check.fact_types().values(), *check.symptom_types().values()}
    names = [each.fact_name if issubclass(each, Fact) else each.symptom_name for each in kinds]  # type: ignore[attr-defined] # a symptom, else
    names += [f"rule {id_}" for id_ in rule_ids()] + [f"message {message.name}" for message in MESSAGES]
    assert [name for name, times in Counter(names).items() if times > 1] == []


@pytest.mark.parametrize("rule", RULES, ids=by_id)
def test_a_rule_is_named_and_summed_up(rule: Rule[Any]) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]*/[a-z0-9]+(-[a-z0-9]+)*", rule.id)
    assert rule.summary.endswith((".", "?")), "the first line of its docstring is the cause, a sentence"
    assert len(rule.summary) <= 160


# What is asked for is given by somebody.

GIVEN_BY_THE_CORE: set[type] = {Host, Target, Asked, PluginsState, Crashes, NotJudged}


def given() -> set[type]:
    makers = [probe.function for check in CHECKS for probe in check.probes]
    makers += [reader.function for check in CHECKS for reader in check.readers]
    makers += [table for check in CHECKS for table in check.tables]
    facts = {kind for maker in makers for kind in gives_of(maker)}
    return GIVEN_BY_THE_CORE | facts | {kind for check in CHECKS for kind in check.symptom_types().values()}


def askers() -> Iterator[tuple[str, Any]]:
    for check in CHECKS:
        yield from ((probe.name, probe.function) for probe in check.probes)
        yield from ((rule.id, sign) for rule in check.rules for sign in rule.signs)
        yield from ((check.name, each) for each in (*check.headlines, *check.views))


def test_nobody_waits_for_what_nobody_gives() -> None:
    there = given()
    lacking = {
        f"{who} asks for {need.kind.__name__}"
        for who, function in askers()
        for need in needs_of(function)
        if need.kind is not Symptom and need.kind not in there
    }
    assert lacking == set()


# Purity.


@pytest.mark.parametrize("rule", RULES, ids=by_id)
def test_a_rule_has_no_means_to_look(rule: Rule[Any]) -> None:
    assert [each for sign in rule.signs for each in impure_names(sign)] == []


def looks_by(way: str) -> str | None:
    """One of the ways to look, of which no audit hook hears."""
    if way == "environment":
        return os.environ.get("HOME")
    if way == "stat":
        return str(os.path.exists("/etc"))
    return str(datetime.now())


def thinks(path: str) -> str:
    return os.path.basename(path)


def test_means_to_look_are_found_in_code() -> None:
    names = {each.rpartition(" ")[2] for each in impure_names(looks_by)}
    assert names >= {"os.environ", "os.exists", "datetime.now"}
    assert impure_names(thinks) == []


@pytest.mark.parametrize("name", sorted(path.stem for path in MACHINES.glob("*.json")))
def test_every_machine_is_judged_purely(name: str) -> None:
    judged_facts(machines()[name])


def test_every_case_and_sample_is_judged_purely(all_findings: list[tuple[str, Judged]]) -> None:
    """The fixture has judged them all; the core's own cases alone make some findings."""
    assert all_findings


# Pages and messages.


def sections_of(page: str) -> list[str]:
    return re.findall(r"^## (.+?)\s*$", page, flags=re.MULTILINE)


@pytest.mark.parametrize("rule", RULES, ids=by_id)
def test_every_rule_has_its_page(rule: Rule[Any]) -> None:
    check = next(check for check in CHECKS if check.name == rule.check)
    page = page_of(check, rule.id)
    assert page is not None, f"docs/{rule.id.partition('/')[2]}.md is missing in {check.package}"
    assert page.startswith(f"# {rule.id}\n")
    assert sections_of(page) == SECTIONS
    bodies = re.split(r"^## .+$", page, flags=re.MULTILINE)[1:]
    assert all(len(body.split()) >= 4 for body in bodies), "a section is empty"
    assert page.count("```") % 2 == 0


def test_every_page_belongs_to_a_rule() -> None:
    folders = [
        REPOSITORY / "envdoctor" / "docs",
        *(REPOSITORY / "checks" / "envdoctor_checks").glob("*/docs"),
    ]
    loaded = {check.name for check in CHECKS}
    areas = {folder: "envdoctor" if folder == folders[0] else folder.parent.name for folder in folders}
    pages = {
        f"{area}/{path.stem}"
        for folder, area in areas.items()
        if area in loaded
        for path in folder.glob("*.md")
    }
    assert pages - set(rule_ids()) == set()


@pytest.mark.parametrize("check", [check for check in CHECKS if check.messages], ids=by_id)
def test_every_sample_gives_its_symptom(check: Check) -> None:
    testing.samples(check)


@pytest.mark.parametrize("message", MESSAGES, ids=by_id)
def test_a_sample_gives_its_symptom_among_all_messages(message: Message) -> None:
    owner = next(check for check in CHECKS if message in check.messages)
    kinds = tuple(owner.symptom_types().values())
    facts = doctor().read(message.sample, "-").facts
    assert any(isinstance(said, kinds) for said in facts.all_symptoms())


# Findings.

AROUND = [
    UNKNOWN,
    *(
        Surroundings(
            python_manager=manager,
            python="/opt/my env/bin/python",
            system_manager=system,
            engine=engine,
            root=root,
            python_version="3.12",
            source=UNKNOWN.source,
        )
        for manager, system, engine, root in (
            ("pip", "apt", "none", False),
            ("uv", "dnf", "docker", True),
            ("conda", "zypper", "kubernetes", False),
            ("poetry", "pacman", "apptainer", False),
            ("pip", "apk", "podman", True),
        )
    ),
]


def test_every_error_carries_a_fix_or_the_reason_why_there_is_none(
    all_findings: list[tuple[str, Judged]],
) -> None:
    without = {
        f"{judged.rule} in {name}"
        for name, judged in all_findings
        if judged.finding.severity.value == "error" and not judged.finding.remedies
    }
    assert without == set()


def test_remedies_can_be_worded_for_any_surroundings(all_findings: list[tuple[str, Judged]]) -> None:
    for remedies in {judged.finding.remedies for _, judged in all_findings}:
        for around in AROUND:
            fixes, no_fix = prescribe(remedies, around)
            assert fixes or no_fix or not remedies
            assert all(fix.title and "\n" not in fix.title for fix in fixes)
            assert no_fix is None or any(isinstance(each, NoFix) for each in remedies)


def test_findings_are_well_formed(all_findings: list[tuple[str, Judged]]) -> None:
    wrong: set[str] = set()
    for name, judged in all_findings:
        finding = judged.finding
        if not finding.title or "\n" in finding.title or finding.title.endswith("."):
            wrong.add(f"{judged.rule} in {name}: title {finding.title!r}")
        if finding.subject and not re.fullmatch(r"[a-z][a-z-]*:.+", finding.subject):
            wrong.add(f"{judged.rule} in {name}: subject {finding.subject!r}")
        if finding.severity.value != "note" and not finding.evidence:
            wrong.add(f"{judged.rule} in {name}: no evidence")
        if finding.severity.value == "error" and not (finding.breaks or finding.shows):
            wrong.add(f"{judged.rule} in {name}: an error that neither breaks nor shows an outcome")
    assert wrong == set()


def test_what_is_recorded_is_judged_the_same(all_findings: list[tuple[str, Judged]], tmp_path: Path) -> None:
    """Facts that went through the document lead to the same findings."""
    from envdoctor import snapshot

    ours = Doctor(doctor().plugins)
    before: dict[str, list[Judged]] = {}
    for name, judged in all_findings:
        before.setdefault(name, []).append(judged)
    differing = []
    for name, facts in everything():
        document = snapshot.encode(snapshot.to_document(facts, "2026-01-01T00:00:00Z"))
        _, back = snapshot.decode(document, name, ours.checks)
        if before.get(name, []) != list(judged_facts(back).findings):
            differing.append(name)
    assert differing == []
    assert before


if __name__ == "__main__":
    print("\n".join(rule_ids()))
