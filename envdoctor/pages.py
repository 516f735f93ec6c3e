"""The pages of the rules: ``docs/<slug>.md`` inside the package that a check names; and what leads to a rule."""

from __future__ import annotations

from collections.abc import Iterable

from envdoctor.check import Check, Message, Rule, needs_of, symptoms_of
from envdoctor.facts import Symptom


def page_of(check: Check, rule_id: str) -> str | None:
    """The Markdown of a rule's page, None when its plugin brings none. Works for packages in zip files too."""
    from importlib.resources import files

    slug = rule_id.partition("/")[2]
    try:
        return (files(check.package) / "docs" / f"{slug}.md").read_text(encoding="utf-8")
    except (OSError, ModuleNotFoundError, TypeError):
        return None  # no such file, no such package, or one that is no package: a plugin without pages
