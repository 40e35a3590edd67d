from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semantic_codec.header_code import HeaderCode, open_code
from semantic_codec.information_sets import NearDecoder
from semantic_codec.interleave import spread_layout
from semantic_codec.keyed import keyed_code

MOST = 6
CODES = {"open": open_code, "keyed": keyed_code}
DECODERS = {
    (mode, use_compiled): NearDecoder(code(use_compiled), MOST) for mode, code in CODES.items() for use_compiled in (True, False)
}


def coded(code: HeaderCode, blocks: np.ndarray) -> np.ndarray:
    return np.packbits(code.encode(np.unpackbits(blocks, axis=1)), axis=1)


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=[f"{mode}-{'compiled' if use_compiled else 'numpy'}" for mode, use_compiled in DECODERS])
@given(data=st.data())
def test_what_is_found_is_what_was_sent_and_how_far_it_is(decoder: NearDecoder, data: st.DataObject):
    code = decoder.code
    block = np.frombuffer(data.draw(st.binary(min_size=code.info_bits // 8, max_size=code.info_bits // 8)), np.uint8)[None]
    flips = data.draw(st.sets(st.integers(0, code.coded_bits - 1), max_size=MOST))
    error = np.zeros((1, code.coded_bits), np.uint8)
    error[0, list(flips)] = 1
    found, distances = decoder.decode(coded(code, block) ^ np.packbits(error, axis=1))
    if len(flips) < 2:
        assert distances[0] == len(flips), "two of the sets share no place"
    if distances[0] <= MOST:
        assert (found == block).all() and distances[0] == len(flips)


@pytest.mark.parametrize("mode", CODES)
def test_many_sets_find_nearly_all_that_two_miss(mode: str):
    code, rng = CODES[mode](), np.random.default_rng(5)
    blocks = rng.integers(0, 256, (2000, code.info_bits // 8), dtype=np.uint8)
    received = coded(code, blocks) ^ np.packbits(rng.random((2000, code.coded_bits)) < 0.01, axis=1)
    missed = {use: np.count_nonzero(DECODERS[mode, use].decode(received)[1] > MOST) for use in (True, False)}
    print(f"\n{mode}: of 2,000 headers at BER 0.01 {missed[True]} are left to the search, with two sets {missed[False]}")
    assert 10 * missed[True] < missed[False]


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=[f"{mode}-{'compiled' if use_compiled else 'numpy'}" for mode, use_compiled in DECODERS])
@given(payload=st.integers(0, 70), seed=st.integers(0, 99))
def test_unmixing_undoes_the_layout(decoder: NearDecoder, payload: int, seed: int):
    header_bits, rng = decoder.code.coded_bits, np.random.default_rng(seed)
    order = spread_layout(header_bits, 8 * payload)
    plain = rng.integers(0, 256, (3, header_bits // 8 + payload), dtype=np.uint8)
    mixed = np.packbits(np.unpackbits(plain, axis=1)[:, order], axis=1)
    headers, payloads = decoder.unmix(mixed, np.argsort(order))
    assert (np.concatenate([headers, payloads], axis=1) == plain).all()
