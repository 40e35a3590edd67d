from __future__ import annotations

from math import gcd

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantic_codec.interleave import contiguous_layout, spread_layout, stride


@given(st.integers(1, 2000))
def test_stride_visits_every_bit(length):
    assert gcd(stride(length), length) == 1


@given(st.integers(1, 300))
def test_layout_is_a_permutation(payload_bytes):
    order = spread_layout(144, 8 * payload_bytes)
    assert np.array_equal(np.sort(order), np.arange(144 + 8 * payload_bytes))


@pytest.mark.parametrize("payload_bytes", [2, 8, 16, 32, 100])
def test_header_bits_are_spread_evenly(payload_bytes):
    order = spread_layout(144, 8 * payload_bytes)
    seen = np.cumsum(order < 144)
    even = (np.arange(len(order)) + 1) * 144 / len(order)
    assert np.abs(seen - even).max() < 1


@pytest.mark.parametrize("payload_bytes", [8, 16, 32])
def test_a_burst_hits_neither_neighbours_in_the_trellis_nor_in_the_payload(payload_bytes):
    order = spread_layout(144, 8 * payload_bytes)
    for first in range(len(order) - 16):
        burst = order[first : first + 16]
        header, payload = np.sort(burst[burst < 144]), np.sort(burst[burst >= 144])
        # Evenly would be 144/n apart; the three-gap theorem keeps a golden step within a factor of 2.7 of that.
        assert np.diff(header).min() * len(header) * 2.7 >= 144
        assert np.diff(payload).min() >= 2


def test_contiguous_layout_keeps_the_order():
    assert contiguous_layout(144, 16).tolist() == list(range(160))
