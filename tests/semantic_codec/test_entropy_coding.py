import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantic_codec.entropy_coding import SymbolCoder, count_symbols
from semantic_codec.errors import ConfigError, InvalidRequest

COUNTS = np.array([[0, 5, 80, 10], [400, 30, 3, 1], [7, 7, 7, 7]])


def ideal_bytes(symbols: np.ndarray) -> float:
    shares = (COUNTS + 1) / (COUNTS + 1).sum(axis=1, keepdims=True)
    return -np.log2(np.repeat(shares, len(symbols) // 3, axis=0)[np.arange(len(symbols)), symbols]).sum() / 8


@given(st.lists(st.integers(0, 3), min_size=48, max_size=48))
def test_any_symbols_come_back_whatever_their_bytes_end_in(values):
    coder, symbols = SymbolCoder(COUNTS, 48), np.array(values, np.uint8)
    data = coder.encode(symbols)
    assert np.array_equal(coder.decode(data), symbols)
    assert len(data) <= ideal_bytes(symbols) + 2


def test_frequent_symbols_take_fewer_bytes_than_rare_ones():
    coder = SymbolCoder(COUNTS, 48)
    frequent, rare = (np.repeat(best, 16).astype(np.uint8) for best in (COUNTS.argmax(1), COUNTS.argmin(1)))
    assert len(coder.encode(frequent)) < 48 * 2 / 8 < len(coder.encode(rare))


@given(st.binary(max_size=40))
def test_foreign_bytes_are_symbols_or_refused(data):
    try:
        assert SymbolCoder(COUNTS, 48).decode(data).max() < 4
    except InvalidRequest as error:
        assert "no entropy-coded symbols" in str(error)


def test_symbols_are_counted_by_channel():
    symbols = np.array([[[0, 1, 1], [2, 2, 2]], [[3, 1, 0], [2, 0, 0]]], np.uint8)
    assert count_symbols(symbols, 2).tolist() == [[2, 3, 0, 1], [2, 0, 4, 0]]


def test_without_the_library_the_error_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ConfigError, match=r"constriction, which is not installed; .*pip install 'weaklink\[bench\]'"):
        SymbolCoder(COUNTS, 48)
