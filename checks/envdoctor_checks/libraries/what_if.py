"""What leaving something out of the environment would change, as the model of the loader has it."""

from __future__ import annotations

from collections.abc import Iterable

from envdoctor.api import Remedy, Symptom, UnsetVariable, Variables
from envdoctor_checks.libraries.advice import VARIABLE
from envdoctor_checks.libraries.clues import normal
from envdoctor_checks.libraries.facts_loader import LoaderPredictions, Scenario
from envdoctor_checks.libraries.names import stem_of


def proven(
    predicted: LoaderPredictions | None, library: str, said: Symptom | None = None, took: str | None = None
) -> tuple[str, ...] | None:
    """The elements of LD_LIBRARY_PATH without which torch's process gets another copy of a library, and a good one.

    Empty: no element makes a difference. None: nobody knows, since there is no model of this machine, the message
    (`said`) is of another program's than our own import of torch, the process does not ask for that library, or
    the model takes another file than the loader (`took`) did.
    """
    if predicted is None or (said is not None and said.source.kind != "child"):
        return None
    stem, actual = stem_of(library) or library, predicted.actual
    names = tuple(dict.fromkeys(each.name for each in actual.lookups if stem_of(each.name) == stem))
    if not names or (took is not None and not any(_same(actual.found(name), took) for name in names)):
        return None
    elements = predicted.scenarios[1].dropped if len(predicted.scenarios) > 1 else ()
    for each in sorted(predicted.scenarios[1:], key=lambda one: len(one.dropped)):
        if any(_better(actual, each, name, elements) for name in names):
            return each.dropped
    return ()


def leading_elsewhere(predicted: LoaderPredictions | None, name: str, took: str) -> tuple[str, ...] | None:
    """The elements of LD_LIBRARY_PATH without which a driver's library that is asked for by name is another file.

    Rather one that is found than none. Empty and None as `proven` has them.
    """
    if predicted is None or not any(
        each.name == name and _same(each.path, took) for each in predicted.by_name
    ):
        return None
    changed = [
        (not opened.path, len(each.dropped), each.dropped)
        for each in predicted.scenarios[1:]
        for opened in each.by_name
        if opened.name == name and not _same(opened.path, took)
    ]
    return min(changed)[2] if changed else ()


def _same(found: str | None, took: str) -> bool:
    return found is not None and normal(found) == normal(took)


def _better(actual: Scenario, other: Scenario, name: str, elements: Iterable[str]) -> bool:
    """Whether another file is found for a name, not by the rest of the variable, and torch is not worse off for it."""
    found = other.found(name)
    if found is None or found == actual.found(name) or other.failure not in (None, actual.failure):
        return False
    folder = normal(found).rpartition("/")[0]
    return all(normal(each) != folder for each in elements if each)


def worthwhile(
    remedies: Iterable[Remedy], variables: Variables | None, left_out: tuple[str, ...] | None = None
) -> tuple[Remedy, ...]:
    """Without advice to unset what is not set, or what `proven` says changes nothing."""
    return tuple(
        each
        for each in remedies
        if not (
            isinstance(each, UnsetVariable)
            and (is_unset(variables, each.name) or (each.name == VARIABLE and left_out == ()))
        )
    )


def is_unset(variables: Variables | None, name: str) -> bool:
    """Whether a variable is known not to be set: then it is nobody's fault."""
    return variables is not None and variables.complete and not variables.get(name)
