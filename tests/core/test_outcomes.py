"""Cause and consequence over the vocabulary of outcomes."""

from __future__ import annotations

import graphlib
import itertools

import pytest
from hypothesis import given, strategies as st

from envdoctor.outcomes import (
    UPSTREAM,
    Link,
    Outcome,
    causes_of,
    depth,
    explains,
    explains_seen,
    gpu,
    imports,
    library,
    upstream,
)

KERNEL, DRIVER, JOB, COLLECTIVE = (
    Outcome(each) for each in ("kernel-on-gpu", "driver-loaded", "job", "collective")
)


def breaks(*outcomes: Outcome, may_explain: bool = True) -> Link:
    return Link(outcomes, (), may_explain)


def shows(*outcomes: Outcome) -> Link:
    return Link((), outcomes, may_explain=True)


def test_the_vocabulary_is_closed_and_acyclic() -> None:
    order = list(graphlib.TopologicalSorter(UPSTREAM).static_order())  # raises CycleError
    assert set(order) == set(UPSTREAM)
    assert all(kind not in upstream(kind) for kind in UPSTREAM)
    with pytest.raises(ValueError, match="no outcome"):
        Outcome("happiness")


def test_the_chain_of_the_driver() -> None:
    chain = ["driver-loaded", "libcuda-loadable", "cuda-available", "kernel-on-gpu", "collective"]
    for above, below in itertools.pairwise(chain):
        assert above in upstream(below)
        assert below not in upstream(above)


def test_upstream_explains_and_downstream_does_not() -> None:
    assert explains(DRIVER, KERNEL)
    assert explains(KERNEL, KERNEL)
    assert not explains(KERNEL, DRIVER)
    assert not explains(library("libcudart.so.12"), imports("torch"))


def test_instances_are_kept_apart_and_no_instance_is_any() -> None:
    assert explains(gpu(3), gpu(3))
    assert not explains(gpu(3), gpu(0))
    assert explains(Outcome("gpu"), gpu(0))
    assert explains(gpu(0), Outcome("gpu"))
    assert explains(gpu(3), KERNEL)
    assert imports("torch.cuda") == imports("torch")
    assert str(gpu(3)) == "gpu:3"
    assert str(JOB) == "job"


def test_what_only_shows_is_a_consequence() -> None:
    assert causes_of([breaks(DRIVER), shows(KERNEL)]) == ((), (0,))
    assert causes_of([shows(KERNEL), breaks(DRIVER), breaks(KERNEL)]) == ((1, 2), (), ())


def test_what_nothing_explains_is_a_root() -> None:
    assert causes_of([shows(KERNEL), breaks(JOB), breaks(library("a"))]) == ((), (), ())
    assert causes_of([shows(gpu(1)), breaks(gpu(0))]) == ((), ())


def test_causes_are_never_folded_into_causes() -> None:
    both = Link((KERNEL,), (KERNEL,), may_explain=True)
    assert causes_of([breaks(DRIVER), both, shows(JOB)]) == ((), (), (0, 1))


def test_what_is_merely_possible_explains_nothing() -> None:
    assert causes_of([breaks(DRIVER, may_explain=False), shows(KERNEL)]) == ((), ())
    assert not explains_seen(breaks(DRIVER, may_explain=False), {KERNEL})


def test_a_finding_about_no_outcome_stands_alone() -> None:
    assert causes_of([Link((), (), may_explain=True), breaks(DRIVER)]) == ((), ())


def test_what_accounts_for_a_failure_that_was_seen() -> None:
    assert explains_seen(shows(KERNEL), set())
    assert explains_seen(breaks(DRIVER), {KERNEL})
    assert not explains_seen(breaks(JOB), {KERNEL})


def test_depth_counts_from_the_top() -> None:
    assert depth([DRIVER]) == 0
    assert depth([JOB, DRIVER]) == 0
    assert 0 < depth([KERNEL]) < depth([COLLECTIVE]) < depth([JOB]) < depth([])


outcomes = st.builds(Outcome, st.sampled_from(sorted(UPSTREAM)), st.sampled_from(["", "0", "1"]))
links = st.builds(
    Link, st.lists(outcomes, max_size=2).map(tuple), st.lists(outcomes, max_size=2).map(tuple), st.booleans()
)


@given(st.lists(links, max_size=8))
def test_the_fold_has_one_level(links: list[Link]) -> None:
    causes = causes_of(links)
    for index, found in enumerate(causes):
        assert index not in found
        for cause in found:
            assert causes[cause] == ()
            assert links[cause].breaks
            assert links[cause].may_explain


@given(outcomes, outcomes, outcomes)
def test_explaining_kinds_is_transitive(one: Outcome, two: Outcome, three: Outcome) -> None:
    if one.kind in upstream(two.kind) and two.kind in upstream(three.kind):
        assert explains(one, three)
