from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

from edge_server.histograms import LoopHistogram

BOUNDS = (0.001, 0.5, 1, 20)
NAME, TEXT = "weaklink_trial", "A trial"


def without_created(registry: CollectorRegistry) -> list[bytes]:
    return [line for line in generate_latest(registry).splitlines() if b"_created" not in line]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.one_of(st.sampled_from(BOUNDS), st.floats(0, 30)))))
def test_the_text_is_that_of_prometheus_own(observed: list[tuple[str, float]]):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = LoopHistogram(NAME, TEXT, ("codec",), BOUNDS, ours)
    reference = Histogram(NAME, TEXT, ("codec",), buckets=BOUNDS, registry=theirs)
    for label, value in observed:
        histogram.labels(label).observe(value)
        reference.labels(label).observe(value)
    assert without_created(ours) == without_created(theirs)


def test_what_is_observed_several_times_counts_as_often():
    at_once, one_by_one = (LoopHistogram(NAME, TEXT, (), BOUNDS, CollectorRegistry()).labels() for _ in range(2))
    at_once.observe(0.25, times=3)
    one_by_one.observe_all([0.25] * 3)
    assert at_once.counts == one_by_one.counts and at_once.sum == one_by_one.sum == 0.75


def test_without_labels_it_is_there_from_the_start():
    registry = CollectorRegistry()
    histogram = LoopHistogram(NAME, TEXT, (), BOUNDS, registry)
    assert registry.get_sample_value(f"{NAME}_count") == 0
    histogram.observe(0.7)
    assert registry.get_sample_value(f"{NAME}_bucket", {"le": "1.0"}) == 1
    assert registry.get_sample_value(f"{NAME}_bucket", {"le": "0.5"}) == 0


def test_a_name_is_taken_once():
    registry = CollectorRegistry()
    LoopHistogram(NAME, TEXT, (), BOUNDS, registry)
    with pytest.raises(ValueError, match="Duplicated"):
        LoopHistogram(NAME, TEXT, (), BOUNDS, registry)
