"""The codes behind the error-free codec: what they promise on paper, and on words through real channels."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.rivals.channels import Condition
from benchmarks.rivals.codes import CLASSES, Ldpc5g, Repetition, TailBiting, frame_error, invert
from benchmarks.rivals.fec import DECIDED, MEANS, SYSTEMATIC, receive, residual_ber
from semantic_codec.errors import ConfigError

pytest.importorskip("sionna", reason="the extra bench is not installed")

CODES = [(Ldpc5g, 64, 256), (Ldpc5g, 96, 128), (TailBiting, 64, 256), (TailBiting, 96, 192)]


@pytest.fixture(scope="module", params=CODES, ids=lambda made: f"{made[0].name}-{made[1]}-{made[2]}")
def code(request):
    kind, info_bits, coded_bits = request.param
    return kind(info_bits, coded_bits)


@pytest.fixture
def info(code):
    return np.random.default_rng(1).integers(0, 2, (100, code.info_bits), dtype=np.uint8)


def nothing(code, count=100):
    return np.zeros((count, code.coded_bits), bool)


def test_a_clean_word_comes_back_and_is_trusted(code, info):
    decoded = code.decode(code.encode(info), nothing(code), 0.0)
    assert (decoded.info == info).all() and (decoded.trust > 0).all() and decoded.trust.max() < CLASSES


def test_the_code_is_linear_and_systematic(code, info):
    coded = code.encode(info)
    assert coded.shape == (100, code.coded_bits)
    assert (code.encode(info[:1] ^ info[1:2]) == coded[:1] ^ coded[1:2]).all()
    sent = code.places >= 0
    assert (coded[:, code.places[sent]] == info[:, sent]).all()


def test_what_is_not_sent_is_the_least_important(code):
    sent = code.places >= 0
    assert sent[0] and (np.diff(sent.astype(int)) <= 0).all()


def test_flips_and_erasures_are_corrected(code, info):
    flips, erased = nothing(code), nothing(code)
    flips[:, 5] = flips[:, 70] = True
    erased[:, 20] = True
    assert (code.decode(code.encode(info) ^ flips, erased, 0.02).info == info).all()


def test_what_was_erased_does_not_matter(code, info):
    erased = np.random.default_rng(2).random((100, code.coded_bits)) < 0.1
    one, other = (code.decode(code.encode(info) ^ (flip & erased), erased, 0.01).info for flip in (False, True))
    assert (one == other).all()


def test_two_codewords_differ_as_the_standard_code_does():
    """Free distance of rate 1/2, generators 133 and 171: 10 (Lin and Costello, table 12.1)."""
    code = TailBiting(64, 128)
    words = code.encode(np.eye(64, dtype=np.uint8))
    # The lightest path of a feedforward code is near an input of few ones: sums of up to three shifts of the inverse.
    lightest = min(
        int(code._code.encode(np.isin(np.arange(64), [0, *more])[None].astype(np.uint8))[:, code._taken].sum())
        for more in ([], *([a] for a in range(1, 12)), *([a, b] for a in range(1, 12) for b in range(a + 1, 12)))
    )
    assert lightest == 10 and words.sum(axis=1).min() >= 10


def test_an_inverse_is_one_and_a_singular_matrix_has_none():
    matrix = np.triu(np.random.default_rng(0).integers(0, 2, (20, 20), dtype=np.uint8), 1) + np.eye(20, dtype=np.uint8)
    assert (matrix.astype(int) @ invert(matrix) % 2 == np.eye(20)).all()
    with pytest.raises(ConfigError, match="2 information bits"):
        invert(np.ones((2, 2), np.uint8))


@pytest.mark.parametrize(("bits", "ber", "factor"), [(48, 1e-2, 1.17), (48, 5e-2, 1.58), (48, 0.1, 2.18), (32, 5e-2, 1.62)])
def test_the_normal_approximation_gives_the_known_lengths(bits, ber, factor):
    """Bytes of payload and how much longer they must be for one lost word in a hundred, computed independently."""
    k = 8 * bits
    lengths = np.arange(k, 4 * k)
    least = lengths[np.argmax(frame_error(k, lengths, ber) <= 1e-2)]
    assert least / k == pytest.approx(factor, abs=0.01)


def test_no_code_beats_the_normal_approximation(code):
    ber = 0.05
    flips, erased = Condition("bsc", ber).draw(400, code.coded_bits, code.coded_bits, 3, 0)
    info = np.random.default_rng(4).integers(0, 2, (400, code.info_bits), dtype=np.uint8)
    lost = (code.decode(code.encode(info) ^ flips, erased, ber).info != info).any(axis=1).mean()
    assert lost >= frame_error(code.info_bits, code.coded_bits, ber) - 0.08


def sent_through(code, condition, seed, residual=None):
    """500 random words as they were sent, and what the receiver has of them."""
    info = np.random.default_rng(5).integers(0, 2, (500, code.info_bits), dtype=np.uint8)
    flips, erased = condition.draw(500, code.coded_bits, code.coded_bits, seed, 0)
    return info, receive(code, info, flips, erased, condition.ber, residual_ber(code, condition, 0) if residual is None else residual)


def test_the_network_is_told_how_wrong_the_bits_are(code):
    info, received = sent_through(code, Condition("bsc", 0.1), 1)
    for name in (DECIDED, SYSTEMATIC):
        reading = received.readings[name]
        there = reading.soft != 0
        wrong = ((reading.soft > 0) != info)[there].mean()
        told = np.broadcast_to(reading.ber[:, None], info.shape)[there].mean()
        assert told == pytest.approx(wrong, abs=0.02)
        assert np.allclose(np.abs(reading.soft), np.where(there, 1 - 2 * reading.ber[:, None], 0), atol=1e-6)


def test_belief_propagation_tells_more_than_the_systematic_bits():
    code = Ldpc5g(64, 128)
    info, received = sent_through(code, Condition("bsc", 0.12), 2)
    lost = received.trust == 0
    means = received.readings[MEANS]
    assert np.abs(means.soft).max() <= 1 and 0.05 < lost.mean() < 0.95
    assert np.isin(means.soft[~lost], (-1, 1)).all() and (means.ber[~lost] == 0).all()
    wrong = ((means.soft[lost] > 0) != info[lost]).mean()
    guessed = ((received.readings[SYSTEMATIC].soft[lost] > 0) != info[lost]).mean()
    assert wrong < guessed


def test_a_repeated_bit_is_as_likely_as_all_its_arrivals_say():
    code, ber = Repetition(4, 8), 0.1
    info = np.array([[1, 1, 0, 0]], np.uint8)
    assert code.encode(info).tolist() == [[1, 1, 0, 0, 1, 1, 0, 0]]
    flips, erased = np.zeros((1, 8), bool), np.zeros((1, 8), bool)
    flips[0, [1, 6, 7]] = erased[0, [3, 5, 7]] = True
    decoded = code.decode(code.encode(info) ^ flips, erased, ber)
    agreed = 2 * (1 - ber) ** 2 / ((1 - ber) ** 2 + ber**2) - 1
    assert decoded.means[0] == pytest.approx([agreed, -0.8, 0, 0], abs=1e-6)


def test_repetition_is_read_where_no_code_carries_a_word():
    """Two arrivals at a BER of 0.2: 1 where both say so, nothing where they differ."""
    code, condition = Repetition(256, 512), Condition("bsc", 0.2)
    assert residual_ber(code, condition, 0) is not None and residual_ber(TailBiting(256, 512), condition, 0) is None
    info, received = sent_through(code, condition, 4)
    means = received.readings[MEANS].soft
    assert np.isclose(means, 0).mean() == pytest.approx(2 * 0.2 * 0.8, abs=0.01)
    assert ((means > 0.5) != info)[np.abs(means) > 0.5].mean() == pytest.approx(0.04 / 0.68, abs=0.01)


def test_words_are_read_as_their_trust_has_it():
    code = TailBiting(64, 128)
    _, received = sent_through(code, Condition("bsc", 0.1), 3)
    low = received.trust < 5
    read = received.read([SYSTEMATIC] * 5 + [DECIDED] * (CLASSES - 5))
    assert 0 < low.mean() < 1
    for rows, name in ((low, SYSTEMATIC), (~low, DECIDED)):
        assert (read.soft[rows] == received.readings[name].soft[rows]).all()
        assert (read.ber[rows] == received.readings[name].ber[rows]).all()


def test_where_decoding_is_hopeless_there_are_systematic_bits_alone():
    code, condition = TailBiting(96, 112), Condition("bsc", 0.2)
    info = np.zeros((3, 96), np.uint8)
    assert residual_ber(code, condition, 0) is None
    received = receive(code, info, *condition.draw(3, 112, 112, 0, 0), 0.2, None)
    assert list(received.readings) == [SYSTEMATIC] and not received.decoded.any()
    assert (received.read([SYSTEMATIC] * CLASSES).soft == received.readings[SYSTEMATIC].soft).all()
