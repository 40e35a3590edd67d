"""Interleaving under bursts, on the digits bundle."""

import pytest

from benchmarks.codecs import burst_rows
from benchmarks.codecs.tables import markdown
from benchmarks.rivals.channels import Condition
from benchmarks.rivals.contest import Contest
from benchmarks.rivals.store import Store
from semantic_codec.bundle import Recording, find_bundle, load_recording


def test_the_same_bursts_on_both_orders_of_a_frame(monkeypatch):
    monkeypatch.setattr(burst_rows, "BURSTS", (Condition("bursts", 0.1, burst_bits=32),))
    bundle = find_bundle("digits")
    whole, store = load_recording(bundle), Store(None, 0)
    contest = Contest(bundle, Recording(whole.bitstreams[:60], whole.labels[:60]), 2, 0, 1)
    burst_rows.measure_bursts(store, contest, {"bundle": "digits", "dataset": "digits"})
    assert [(row["payload_bytes"], row["interleaved"]) for row in store.rows] == [(8, True), (8, False), (2, True), (2, False)]
    for spread, together in zip(store.rows[::2], store.rows[1::2]):
        assert together["interleaved_above_percent"] == pytest.approx(spread["accuracy_percent"] - together["accuracy_percent"])
        low, high = together["interleaved_above_interval_percent"]
        assert low <= together["interleaved_above_percent"] <= high
    text = markdown(store.rows)
    assert "| `digits`, 8 B, bursts of 32 bits, BER 0.1 | " in text and "interleaving earns" in text
