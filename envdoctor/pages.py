"""A rule's page, ``docs/<slug>.md`` inside the package that its check names, and the messages that lead to it."""

from __future__ import annotations

import typing
from typing import Any

from envdoctor.check import Check, Message, Rule, needs_of
from envdoctor.facts import Symptom

if typing.TYPE_CHECKING:
    from collections.abc import Iterable


def page_of(check: Check, rule_id: str) -> str | None:
    """The Markdown of a rule's page, None when its plugin brings none. A zipped package has pages too."""
    from importlib.resources import files

    slug = rule_id.partition("/")[2]
    try:
        return (files(check.package) / "docs" / f"{slug}.md").read_text(encoding="utf-8")
    except (OSError, ImportError, TypeError):
        return None  # no such file, no such package, or a module that is no package: a plugin without pages


def leads_to(rule: Rule[Any], checks: Iterable[Check]) -> tuple[Message, ...]:
    """The messages, of whichever check, that make a symptom which a sign of the rule asks for."""
    wanted = tuple(
        need.kind for sign in rule.signs for need in needs_of(sign) if issubclass(need.kind, Symptom)
    )
    return tuple(
        message
        for check in checks
        for message in check.messages
        if any(issubclass(kind, wanted) for kind in _symptoms_of(message))
    )


def _symptoms_of(message: Message) -> tuple[type[Symptom], ...]:
    """The kinds in the return annotation of a message's function."""
    hint = typing.get_type_hints(message.function).get("return")
    parts = typing.get_args(hint) or (hint,)
    return tuple(part for part in parts if isinstance(part, type) and issubclass(part, Symptom))
