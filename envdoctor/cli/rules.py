"""``envdoctor rules`` and ``envdoctor rule ID``: the catalogue, and one rule's page, offline."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli.leaving import write_out
from envdoctor.cli.options import complete_rules
from envdoctor.errors import UsageError
from envdoctor.render.lines import Page
from envdoctor.render.style import decide
from envdoctor.render.words import cells
from envdoctor.session import Doctor, unknown_rule

if TYPE_CHECKING:
    from envdoctor.check import Check, Rule

SCHEMA = "envdoctor.rules/1"


@click.command(short_help="every cause that can be named")
@click.argument("areas", nargs=-1, metavar="[AREA]...", shell_complete=complete_rules)
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
def rules(areas: tuple[str, ...], format_: str, color: Any) -> int:
    """List every cause that envdoctor can name, by area."""
    doctor = _doctor()
    checks = _chosen(doctor, areas)
    if format_ == "json":
        from envdoctor.render.json import encoded

        listed = [
            {"id": rule.id, "area": check.name, "summary": rule.summary}
            for check in checks
            for rule in check.rules
        ]
        write_out(encoded({"schema": SCHEMA, "rules": listed}))
        return 0
    page = Page(decide(sys.stdout, color, os.environ))
    for check in checks:
        if check.rules:
            _area(page, check)
    write_out(page.text())
    return 0


def _area(page: Page, check: Check) -> None:
    page.gap()
    page.heading(f"{check.name}: {check.title}")
    width = min(max(cells(rule.id) for rule in check.rules), page.prose // 2)
    for rule in check.rules:
        page.row(rule.id, rule.summary, width, 2)


def _chosen(doctor: Doctor, areas: tuple[str, ...]) -> tuple[Check, ...]:
    """The checks of these areas, or all. Raises `UsageError` for an area that no check has."""
    names = [check.name for check in doctor.checks]
    for area in areas:
        if area not in names:
            raise UsageError(unknown_rule(area, names).replace("is no rule and no area", "is no area"))
    core, *checks = doctor.checks
    return tuple(check for check in (*checks, core) if not areas or check.name in areas)


@click.command(short_help="one rule's page")
@click.argument("identity", metavar="ID", shell_complete=complete_rules)
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
def rule(identity: str, color: Any) -> int:
    """Show a rule's page: what it means, how it is known, how to fix and to verify it, when to ignore it."""
    from envdoctor.pages import leads_to, page_of
    from envdoctor.render.page import add_markdown

    doctor = _doctor()
    check, found = _found(doctor, identity)
    page = Page(decide(sys.stdout, color, os.environ))
    page.paragraph(found.id, role="dim")
    page.gap()
    text = page_of(check, found.id)
    if text is None:
        page.paragraph(found.summary)
        page.gap()
        page.paragraph("Its plugin brings no page for it.")
    else:
        add_markdown(page, text)
    _messages(page, [each.sample for each in leads_to(found, doctor.checks)])
    write_out(page.text())
    return 0


def _messages(page: Page, samples: list[str]) -> None:
    """What programs print when this is the cause."""
    if samples:
        page.gap()
        page.heading("Messages that lead here")
    for sample in dict.fromkeys(samples):
        page.gap()
        page.command(sample, 4)


def _found(doctor: Doctor, identity: str) -> tuple[Check, Rule[Any]]:
    """The rule of that id; the part after the slash will do where only one rule has it."""
    every = [(check, rule) for check in doctor.checks for rule in check.rules]
    for check, rule in every:
        if rule.id == identity:
            return check, rule
    alike = [(check, rule) for check, rule in every if rule.id.partition("/")[2] == identity]
    if len(alike) == 1:
        return alike[0]
    if any(check.name == identity for check in doctor.checks):
        raise UsageError(f"{identity!r} is an area; its rules: envdoctor rules {identity}")
    if alike:
        raise UsageError(
            f"{identity!r} names {' and '.join(rule.id for _, rule in alike)}; give one of them whole"
        )
    raise UsageError(
        unknown_rule(identity, [rule.id for _, rule in every]).replace("no rule and no area", "no rule")
    )


def _doctor() -> Doctor:
    from envdoctor.cli.delivery import installed_doctor

    return installed_doctor()
