import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from semantic_codec.bitstream import pack_symbols, payload_bytes, posterior_mean, unpack_bits, unpack_symbols
from semantic_codec.errors import InvalidRequest


@given(st.integers(1, 8).flatmap(lambda bits: st.tuples(
    st.just(bits), arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.integers(0, 2**bits - 1)))
))  # fmt: skip
def test_packing_is_undone_by_unpacking(case):
    bits, symbols = case
    payload = pack_symbols(symbols, bits)
    assert payload.shape == (len(symbols), payload_bytes(symbols.shape[1], bits))
    assert (unpack_symbols(payload, symbols.shape[1], bits) == symbols).all()


def test_first_bit_is_the_top_bit_of_the_first_byte():
    assert pack_symbols(np.array([[1, 0, 0, 0, 0, 0, 0, 0, 1]], np.uint8), 1).tolist() == [[0x80, 0x80]]
    assert pack_symbols(np.array([[5, 1]], np.uint8), 3).tolist() == [[0b101_001_00]]


def test_a_prefix_of_the_symbols_is_a_prefix_of_the_bytes():
    symbols = np.random.default_rng(0).integers(0, 2, (3, 64)).astype(np.uint8)
    assert (pack_symbols(symbols, 1)[:, :2] == pack_symbols(symbols[:, :16], 1)).all()


def test_symbols_that_do_not_fit_and_short_payloads_are_refused():
    with pytest.raises(InvalidRequest, match="symbol 4 does not fit into 2 bits"):
        pack_symbols(np.array([[4]], np.uint8), 2)
    with pytest.raises(InvalidRequest, match="2 bytes holds fewer than 17 bits"):
        unpack_bits(np.zeros((1, 2), np.uint8), 17)


def test_posterior_mean_equals_bayes_rule_by_simulation():
    rng = np.random.default_rng(0)
    for ber in (0.0, 0.03, 0.2, 0.5):
        sent = rng.integers(0, 2, 200_000)
        received = sent ^ (rng.random(len(sent)) < ber)
        mean_given_one = (2 * sent - 1)[received == 1].mean()
        value = posterior_mean(np.array([[1, 0]], np.uint8), np.array([ber]))
        assert value[0, 0] == pytest.approx(mean_given_one, abs=0.01)
        assert value[0, 1] == -value[0, 0]


def test_erased_bits_say_nothing():
    soft = posterior_mean(np.ones((1, 4), np.uint8), np.array([0.1]), np.array([[False, True, True, False]]))
    assert soft.tolist() == [[pytest.approx(0.8), 0, 0, pytest.approx(0.8)]]
