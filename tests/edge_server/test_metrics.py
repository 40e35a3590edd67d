from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from edge_server.metrics import BER_BUCKETS, Metrics, ber_bucket


@pytest.mark.parametrize(
    ("ber", "label"),
    [(0, "0"), (1e-9, "0"), (1e-8, "1e-3"), (1e-3, "1e-3"), (0.05, "5e-2"), (0.06, "1e-1"), (0.5, "5e-1")],
)
def test_a_bucket_is_named_by_its_upper_bound(ber: float, label: str):
    assert ber_bucket(ber) == label


@given(st.floats(0, 0.5))
def test_every_ber_has_the_smallest_bucket_that_holds_it(ber: float):
    assert ber_bucket(ber) == next(label for bound, label in BER_BUCKETS if ber <= bound)


def test_accuracy_has_both_sides_even_where_all_is_wrong():
    metrics = Metrics(CollectorRegistry())
    metrics.judged("toy", "shape", 0.02, correct=False)
    labels = {"codec": "toy", "task": "shape", "ber_bucket": "5e-2"}
    assert metrics.registry.get_sample_value("weaklink_predictions_total", labels) == 1
    assert metrics.registry.get_sample_value("weaklink_correct_predictions_total", labels) == 0


def test_gauges_are_read_at_the_scrape():
    metrics = Metrics(CollectorRegistry())
    waiting = [1, 2, 3]
    metrics.watch(lambda: len(waiting), lambda: 5, lambda: 4, lambda: 3)
    assert metrics.registry.get_sample_value("weaklink_queue_depth") == 3
    waiting.clear()
    assert metrics.registry.get_sample_value("weaklink_queue_depth") == 0
    names = ("weaklink_devices", "weaklink_active_devices", "weaklink_keys")
    assert [metrics.registry.get_sample_value(name) for name in names] == [5, 4, 3]


def test_two_servers_in_one_process_do_not_collide():
    first, second = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    first.count(first.frames, "ok")
    assert second.registry.get_sample_value("weaklink_frames_total", {"outcome": "ok"}) is None
