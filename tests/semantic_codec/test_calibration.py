import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from semantic_codec.calibration import calibrated

LOGITS = arrays(np.float32, (3, 7), elements=st.floats(-30, 30, width=32))


@given(LOGITS, st.just(0.0) | st.floats(1e-6, 0.07), st.floats(0.2, 5))
def test_probabilities_sum_to_one_and_keep_the_best_class(logits, floor, temperature):
    found = calibrated(logits, floor, temperature)
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found >= 0).all()
    best = np.take_along_axis(found, logits.argmax(axis=1)[:, None], axis=1)[:, 0]
    assert np.array_equal(best, found.max(axis=1))


def test_without_a_floor_it_is_the_softmax_at_a_temperature():
    logits = np.array([[1.0, 2.0, 4.0]], np.float32)
    expected = np.exp(logits / 2) / np.exp(logits / 2).sum()
    assert np.allclose(calibrated(logits, 0.0, 2.0), expected, atol=1e-6)


def test_a_floor_takes_back_what_label_smoothing_added():
    certain = np.log(np.array([[0.91] + [0.01] * 9], np.float32))
    assert calibrated(certain, 0.01, 1.0)[0, 0] > 0.98
    assert calibrated(certain, 0.0, 1.0)[0, 0] < 0.92


def test_order_survives_below_the_floor():
    logits = np.log(np.array([[0.9, 0.05, 0.02, 0.008, 0.004, 0.002]], np.float32))
    assert (np.diff(calibrated(logits, 0.01, 1.0)[0]) < 0).all()
