"""For authors of checks: judge facts, read texts, and prove that rules judge and never look.

```python
from envdoctor.testing import assert_silent, fires, read, samples

def test_cold() -> None:
    assert_silent(check, too_hot, Temperature(celsius=20, source=HERE))
    assert fires(check, too_hot, Temperature(celsius=99, source=HERE)).finding.severity is Severity.ERROR
```

Wherever a check is asked for, several may be given, for rules that need another check's facts.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from envdoctor.check import Check, Rule
from envdoctor.engine import gathered
from envdoctor.facts import Fact, Facts, Symptom, Unavailable
from envdoctor.judging import bind, judge
from envdoctor.reading import Messages, read_text
from envdoctor.text.lines import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.judging import Judged, Judgement

Checks = Check | Iterable[Check]

LOOKING = re.compile(
    r"open$|ctypes\.dlopen$"
    r"|(mmap|os|pty|shutil|tempfile|glob|pathlib|fcntl|winreg|subprocess|_thread|signal|syslog|sqlite3|socket|urllib|http)\."
)
"""Audit events that tell of looking, running and connecting."""


class NotPure(AssertionError):
    """A rule opened, listed, ran or connected to something."""


class _Guard:
    """The switch of the audit hook, which cannot be taken out again, and what it has heard."""

    def __init__(self) -> None:
        self.heard: list[str] | None = None
        self.thread = 0
        self._installed = False

    def install(self) -> None:
        if not self._installed:
            sys.addaudithook(self._hook)
            self._installed = True

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.heard is None or self.thread != threading.get_ident() or not LOOKING.match(event):
            return
        if sys._getframe(1).f_code.co_filename.startswith("<frozen importlib"):  # noqa: SLF001 - no other way
            return  # importing code is not looking at the machine
        self.heard.append(f"{event}{arguments[:1]!r}")
        raise NotPure(self.heard[-1])


_guard = _Guard()


@contextmanager
def pure() -> Iterator[None]:
    """Raise `NotPure` when anything inside opens, lists, runs or connects to something, even if it is caught.

    Not heard, because Python does not tell of it: stat(2), the environment, the clock.
    """
    _guard.install()
    before = _guard.heard
    heard: list[str] = []
    _guard.heard, _guard.thread = heard, threading.get_ident()
    try:
        yield
    finally:
        _guard.heard = before
    if heard:
        raise NotPure(", ".join(heard))


def judge_facts(
    checks: Checks, *things: Fact | Symptom | Unavailable | Facts, unavailable: tuple[type[Fact], ...] = ()
) -> tuple[Judged, ...]:
    """Every finding over these facts, ranked. `unavailable`: fact types that could not be looked at.

    Raises `NotPure` when a rule looks at the machine, AssertionError when one breaks.
    """
    return _judged(checks, things, unavailable).findings


def fires(
    checks: Checks,
    rule: Rule[Any] | str,
    *things: Fact | Symptom | Unavailable | Facts,
    unavailable: tuple[type[Fact], ...] = (),
) -> Judged:
    """The finding of this rule, the first of them. Raises AssertionError when it stays silent."""
    judgement = _judged(checks, things, unavailable)
    found = [judged for judged in judgement.findings if judged.rule == _id(rule)]
    _require(found, f"{_id(rule)} stays silent; {_why_silent(judgement, _id(rule))}")
    return found[0]


def assert_silent(
    checks: Checks,
    rule: Rule[Any] | str,
    *things: Fact | Symptom | Unavailable | Facts,
    unavailable: tuple[type[Fact], ...] = (),
) -> None:
    """Raise AssertionError when the rule speaks, and when it had nothing to judge: no proof."""
    judgement = _judged(checks, things, unavailable)
    said = [judged.finding.title for judged in judgement.findings if judged.rule == _id(rule)]
    _require(not said, f"{_id(rule)} says: {said}")
    _require(_id(rule) in judgement.judged, f"{_id(rule)} did not judge; {_why_silent(judgement, _id(rule))}")


def read(checks: Checks, text: str, name: str = "-") -> Facts:
    """What the checks read out of a pasted text. Raises AssertionError when a reader breaks."""
    reading = read_text(text, name, _several(checks))
    _require(not reading.broken, f"broken readers: {reading.broken}")
    return reading.facts


def samples(check: Check) -> None:
    """Raise AssertionError for a message whose sample does not give the symptom that it promises."""
    for message in check.messages:
        alone = Check(check.name, check.title, package=check.package)
        register = alone.message(
            message.regex, needles=message.needles, sample=message.sample, span=message.span
        )
        register(message.function)
        promised = tuple(alone.symptom_types().values())
        said = Messages((alone,)).symptoms(clean(message.sample), "text", "-")
        names = " or ".join(kind.__name__ for kind in promised)
        _require(
            len(said) == 1 and isinstance(said[0], promised),
            f"the sample of {message.name} gives {said}, not one {names}",
        )


def _judged(
    checks: Checks,
    things: Iterable[Fact | Symptom | Unavailable | Facts],
    unavailable: tuple[type[Fact], ...],
) -> Judgement:
    facts = gathered(thing for thing in things if not isinstance(thing, Facts))
    for thing in things:
        if isinstance(thing, Facts):
            facts = facts.merged(thing)
    bound = bind(_several(checks), facts.merged(Facts.of(unavailable=unavailable)))
    with pure():
        judgement = judge(bound)
    _require(not judgement.crashed, f"broken rules: {judgement.crashed}")
    return judgement


def _require(condition: object, message: str) -> None:
    """An assertion that ``python -O`` keeps."""
    if not condition:
        raise AssertionError(message)


def _several(checks: Checks) -> tuple[Check, ...]:
    return (checks,) if isinstance(checks, Check) else tuple(checks)


def _id(rule: Rule[Any] | str) -> str:
    return rule if isinstance(rule, str) else rule.id


def _why_silent(judgement: Judgement, rule: str) -> str:
    if rule in judgement.skipped:
        return judgement.skipped[rule].reason
    return "it judged, and found nothing" if rule in judgement.judged else "no check that was given has it"
