from __future__ import annotations

import itertools

import pytest

from device_client.messages import Answer, Delivery, Request
from device_client.tally import Tally, interval_percent
from semantic_codec.errors import DeadlineExceeded

REQUEST = Request("tiny", 9, 1, 2, bytes(8), bytes(32), 1, 0)
LOST = DeadlineExceeded("lost", allowed="-", fix="-")


def answered(class_index: int, latency_s: float = 0.01, ber_used: float | None = None) -> Delivery:
    return Delivery(REQUEST, Answer(class_index, "", 0.5, 2, 0, ber_used, latency_s=latency_s), None, 1, 26)


def test_a_lost_frame_is_wrong_and_repeats_count_as_bytes():
    tally = Tally(itertools.count().__next__)
    tally.add(3, answered(3, latency_s=0.002))
    tally.add(3, answered(4, latency_s=0.004))
    tally.add(3, Delivery(REQUEST, None, LOST, 3, 78))
    tally.add(None, answered(1, latency_s=0.006))
    row = tally.row()
    assert row["images"] == 4 and row["lost"] == 1 and row["repeats"] == 2
    assert row["payload_bytes"] == 8 and row["on_air_bytes"] == (26 * 3 + 78) / 4
    assert row["accuracy_percent"] == pytest.approx(100 / 3)
    assert row["accuracy_answered_percent"] == 50
    assert row["latency_p50_ms"] == pytest.approx(4)
    assert row["requests_per_s"] == 3 / 4  # the clock ticks once per delivery
    assert tally.errors == {"DeadlineExceeded": 1}


def test_nothing_to_divide_by_reads_none():
    row = Tally(lambda: 0.0).row()
    assert {row[key] for key in ("accuracy_percent", "latency_p50_ms", "requests_per_s", "on_air_bytes")} == {None}


def test_the_interval_is_wilsons():
    # Reference values: 95 % Wilson interval of 8 in 10 is 0.4902 to 0.9433, of 0 in 10 is 0 to 0.2775.
    assert interval_percent(8, 10) == pytest.approx((94.33 - 49.02) / 2, abs=0.01)
    assert interval_percent(0, 10) == pytest.approx(27.75 / 2, abs=0.01)
    assert interval_percent(0, 0) is None
