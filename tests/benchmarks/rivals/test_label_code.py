import numpy as np
import pytest

from benchmarks.rivals.label_code import codebook, read_right


@pytest.mark.parametrize(("classes", "bits", "distance"), [(2, 5, 5), (16, 8, 4), (16, 15, 8), (16, 64, 33), (128, 8, 1)])
def test_words_lie_as_far_apart_as_the_code_promises(classes, bits, distance):
    words = codebook(classes, bits)
    assert words.shape == (classes, bits)
    apart = (words[:, None] != words).sum(-1) + bits * np.eye(classes, dtype=int)
    assert apart.min() == distance


@pytest.mark.parametrize(
    ("classes", "bits", "ber", "right"),
    [
        (2, 1, 0.1, 0.9),
        (2, 2, 0.1, 0.9),  # one of two wrong is a tie
        (2, 3, 0.1, 0.972),
        (16, 4, 0.1, 0.9**4),
        (100, 48, 0.0, 1.0),
        (10, 64, 0.5, 0.1),  # by chance
    ],
)
def test_how_often_a_label_is_read_right_by_hand(classes, bits, ber, right):
    assert read_right(classes, bits, ber) == pytest.approx(right, abs=0.004)
