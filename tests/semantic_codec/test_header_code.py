from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_codec import viterbi
from semantic_codec.header_code import BlockCoder, HeaderCode, open_code
from semantic_codec.interleave import contiguous_layout, spread_layout
from semantic_codec.keyed import keyed_code


def random_blocks(count, seed=0):
    return np.random.default_rng(seed).integers(2, size=(count, 56), dtype=np.uint8)


def with_errors(coded, ber, seed=1):
    return coded ^ (np.random.default_rng(seed).random(coded.shape) < ber)


def known_prefix(info, bits=12):
    return np.where(np.arange(56) < bits, info, -1).astype(np.int8)


def test_encoder_is_the_shift_register_of_the_documentation():
    """The register as a microcontroller would run it: filled with the last 8 bits, then one bit at a time."""
    info = random_blocks(1)[0]
    register = int("".join(map(str, info[:-9:-1])), 2) << 1
    expected, accumulator = [], 0
    for bit in info:
        register = register >> 1 | int(bit) << 8
        for generator in (0o557, 0o663, 0o711):
            accumulator += 144
            if accumulator >= 168:
                accumulator -= 168
                expected.append(bin(register & generator).count("1") % 2)
    assert open_code().encode(info[None])[0].tolist() == expected


def test_minimum_distance_is_14():
    """Every codeword but 0 leaves state 0 at some multiple of the puncturing period, so these paths are all."""
    code = open_code()
    nothing = -np.ones((255, 144))
    states = np.arange(1, 256)
    free = np.full((255, 56), -1, np.int8)
    _, costs = viterbi.decode_from_state(code._steps(nothing), free, states, code.taps, 1)
    assert costs.min() == 14


def test_every_block_within_six_errors_is_inverted_when_an_information_set_is_whole():
    code, info = open_code(), random_blocks(500)
    coded = code.encode(info)
    assert np.array_equal(code.invert(coded)[0], info)
    damaged = coded.copy()
    damaged[:, code._inverses[1][0][:6]] ^= 1
    hit = np.isin(code._inverses[1][0][:6], code._inverses[0][0]).any()
    found, errors = code.invert(damaged)
    assert not hit and np.array_equal(found, info) and (errors == 6).all()


@pytest.mark.parametrize("info_bits, coded_bits", [(56, 144), (88, 224)])
def test_any_six_errors_are_corrected(info_bits, coded_bits):
    code = HeaderCode(info_bits, coded_bits)
    rng = np.random.default_rng(2)
    info = rng.integers(2, size=(300, info_bits), dtype=np.uint8)
    coded = code.encode(info)
    for row in coded:
        row[rng.choice(coded_bits, 6, replace=False)] ^= 1
    found, costs = code.decode(2.0 * coded - 1)
    assert np.array_equal(found[:, 0], info) and (costs == 6).all()


def test_known_bits_help_and_lists_hold_the_rest():
    code, info = open_code(), random_blocks(2000)
    soft = 2.0 * with_errors(code.encode(info), 0.1) - 1
    blind, _ = code.decode(soft)
    known, costs = code.decode_known(soft, known_prefix(info), 4)
    right = (known == info[:, None]).all(2)
    assert (blind[:, 0] == info).all(1).mean() > 0.93
    assert right[:, 0].mean() > 0.96
    assert right.any(1).mean() > 0.985
    assert (np.diff(costs, axis=1) >= 0).all()
    assert (known[:, :, :12] == info[:, None, :12]).all()


def test_listed_costs_are_distances():
    code, info = open_code(), random_blocks(200)
    received = with_errors(code.encode(info), 0.15)
    found, costs = code.decode_known(2.0 * received - 1, known_prefix(info), 4)
    distance = np.stack([(code.encode(found[:, i]) != received).sum(1) for i in range(4)], axis=1)
    assert np.array_equal(distance, costs)
    assert all(len({path.tobytes() for path in paths}) == 4 for paths in found)


def test_erasures_cost_nothing():
    code, info = open_code(), random_blocks(300)
    soft = 2.0 * code.encode(info) - 1
    soft[np.random.default_rng(3).random(soft.shape) < 0.35] = 0
    found, costs = code.decode_known(soft, known_prefix(info))
    assert np.array_equal(found[:, 0], info) and not costs.any()


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.5), st.floats(0, 0.6), st.sampled_from([9, 12, 30, 56]))
def test_numpy_and_compiled_kernels_agree(seed, ber, erased, prefix):
    pytest.importorskip("numba", reason="compares with the compiled kernels")
    compiled, plain = open_code(), open_code(use_compiled=False)
    rng = np.random.default_rng(seed)
    info = random_blocks(5, seed)
    soft = 2.0 * with_errors(compiled.encode(info), ber, seed) - 1
    soft[rng.random(soft.shape) < erased] = 0
    known = known_prefix(info, prefix)
    for one, other in (
        (compiled.decode(soft, 4), plain.decode(soft, 4)),
        (compiled.decode_known(soft, known, 4), plain.decode_known(soft, known, 4)),
    ):
        assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


def test_too_few_known_bits_are_refused():
    with pytest.raises(ValueError, match="no 8 known bits in a row"):
        open_code().decode_known(np.ones((1, 144)), known_prefix(random_blocks(1), 7))


def test_works_without_numba():
    program = (
        "import sys, numpy as np\n"
        "sys.modules['numba'] = None\n"
        "from semantic_codec import viterbi\n"
        "from semantic_codec.header_code import open_code\n"
        "found, costs = open_code().decode(-np.ones((1, 144)))\n"
        "assert viterbi.compiled() is None and not found.any() and not costs.any()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_compiles_without_a_cache_where_none_can_be_written(monkeypatch):
    """As in a read-only install that has no home folder either: numba then finds no place for its cache."""
    caching = pytest.importorskip("numba.core.caching", reason="the compiled kernels need numba")
    from semantic_codec.viterbi_numba import compile_kernel

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert compile_kernel(lambda number: number + 1)(1) == 2


@pytest.mark.parametrize("code", [open_code(), keyed_code()], ids=["open", "keyed"])
@settings(max_examples=25)
@given(data=st.data())
def test_a_block_is_coded_as_a_batch_is(code: HeaderCode, data: st.DataObject):
    block = data.draw(st.binary(min_size=code.info_bits // 8, max_size=code.info_bits // 8))
    order = data.draw(st.sampled_from([spread_layout(code.coded_bits, 0), contiguous_layout(code.coded_bits, 0)]))
    coded = code.encode(np.unpackbits(np.frombuffer(block, np.uint8))[None])[0]
    assert BlockCoder(code, order).encode(block) == np.packbits(coded[order]).tobytes()
